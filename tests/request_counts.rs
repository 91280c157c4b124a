//! What is asked of a registry, counted: nothing twice, nothing that is not needed.

mod common;

use common::{
    and, image_path, refresh, repository, repository_path, samovar, wait_for_repository, wait_until_complete,
    watch,
};
use samovar_registry::{Clock as _, SystemClock};
use samovar_testing::fake::{
    Action, Bearer, Dialect, FakeRegistry, Fault, Login, Recorded, RequestKind, dialects,
};
use samovar_testing::{Answer, Content as _, Image, Index, Samovar};
use serde_json::json;

/// Requests by kind.
#[derive(Debug, PartialEq, Eq, Default)]
struct Counts {
    lists: usize,
    heads: usize,
    gets: usize,
    blobs: usize,
    /// Pings, tokens and what is not part of the protocol.
    others: usize,
}

fn counts(registry: &FakeRegistry) -> Counts {
    let count = |kind| registry.count(kind);
    Counts {
        lists: count(RequestKind::Tags),
        heads: count(RequestKind::ManifestHead),
        gets: count(RequestKind::ManifestGet),
        blobs: count(RequestKind::Blob),
        others: count(RequestKind::Ping) + count(RequestKind::Token) + count(RequestKind::Other),
    }
}

/// What was asked for more than once.
fn repeated(registry: &FakeRegistry) -> Vec<String> {
    let mut asked: Vec<String> = registry
        .requests()
        .iter()
        .map(|request| format!("{} {}?{}", request.method, request.path, request.query))
        .collect();
    asked.sort_unstable();
    asked.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone()).collect()
}

#[tokio::test]
async fn a_cold_start_asks_for_each_thing_once() {
    let registry = FakeRegistry::start().await;
    registry.page_size(4);
    for number in 0..8 {
        registry.push("app", &format!("v{number}"), &Image::new(number.to_string()));
    }
    let images = ["linux/amd64", "linux/arm64/v8", "linux/s390x"].map(|name| Image::new("x").platform(name));
    registry.push("app", "index", &Index::of(&images).attestation_child());
    let name = format!("{}/app", registry.host());
    let server = samovar().serve(watch([&name])).await;
    let repository = wait_until_complete(&server, &name).await;
    assert_eq!(
        repository["images"]["index"]["platforms"],
        json!(["linux/amd64", "linux/arm64/v8", "linux/s390x"])
    );
    // 9 tags are 3 pages; a GET for each tag and for 2 wanted children; 8 configurations and 2 of the children.
    let expected = Counts { lists: 3, heads: 0, gets: 9 + 2, blobs: 8 + 2, others: 0 };
    assert_eq!(counts(&registry), expected, "{:?}", registry.requests());
    assert_eq!(repeated(&registry), Vec::<String>::new());
}

#[tokio::test]
async fn what_tags_share_is_fetched_once() {
    let registry = FakeRegistry::start().await;
    let amd64 = Image::new("shared");
    let arm64 = Image::new("shared").platform("linux/arm64");
    // Three indexes over the same two children, the children themselves under tags, and a manifest with an annotation
    // that has the configuration of another.
    for number in 0..3 {
        let index = Index::of([&amd64, &arm64]).annotation("number", number.to_string());
        registry.push("app", &format!("index-{number}"), &index);
    }
    registry.push("app", "annotated", &amd64.clone().annotation("a", "b"));
    let name = format!("{}/app", registry.host());
    let server = samovar().serve(watch([&name])).await;
    let repository = wait_until_complete(&server, &name).await;
    let ids =
        ["index-0", "index-1", "index-2", "annotated"].map(|tag| &repository["images"][tag]["image_id"]);
    assert!(ids.iter().all(|id| **id == amd64.config().digest), "{repository}");
    let expected = Counts { lists: 1, heads: 0, gets: 4 + 2, blobs: 2, others: 0 };
    assert_eq!(counts(&registry), expected, "{:?}", registry.requests());
}

#[tokio::test]
async fn what_repositories_share_is_fetched_once() {
    let registry = FakeRegistry::start().await;
    let amd64 = Image::new("base");
    let arm64 = Image::new("base").platform("linux/arm64");
    for (path, number) in [("one", 1), ("two", 2)] {
        let index = Index::of([&amd64, &arm64]).annotation("number", number.to_string());
        registry.push(path, "latest", &index);
    }
    let names = ["one", "two"].map(|path| format!("{}/{path}", registry.host()));
    let server = samovar().serve(watch(&names)).await;
    for name in &names {
        wait_until_complete(&server, name).await;
    }
    let expected = Counts { lists: 2, heads: 0, gets: 2 + 2, blobs: 2, others: 0 };
    assert_eq!(counts(&registry), expected, "{:?}", registry.requests());
}

#[tokio::test]
async fn many_tags_on_one_digest_cost_a_request_each_and_one_configuration() {
    let registry = FakeRegistry::start().await;
    let image = Image::new("same");
    for number in 0..30 {
        registry.push("app", &format!("v{number}"), &image);
    }
    let name = format!("{}/app", registry.host());
    let server = samovar().serve(watch([&name])).await;
    wait_until_complete(&server, &name).await;
    let expected = Counts { lists: 1, heads: 0, gets: 30, blobs: 1, others: 0 };
    assert_eq!(counts(&registry), expected);
}

#[tokio::test]
async fn while_nothing_changes_only_lists_are_asked_for() {
    let registry = FakeRegistry::start().await;
    for number in 0..5 {
        registry.push("app", &format!("v{number}"), &Image::new(number.to_string()));
    }
    let name = format!("{}/app", registry.host());
    let server = samovar().serve(and(watch([&name]), ["--poll-interval", "1s"])).await;
    let before = wait_until_complete(&server, &name).await;
    registry.clear_requests();
    registry.wait_for(RequestKind::Tags, 2).await;
    let Counts { lists, heads, gets, blobs, others } = counts(&registry);
    assert!(lists >= 2);
    assert_eq!((heads, gets, blobs, others), (0, 0, 0, 0), "{:?}", registry.requests());
    let after = repository(&server, &name).await;
    assert_eq!(after["generation"], before["generation"], "nothing changed that means anything");
}

#[tokio::test]
async fn a_list_whose_registry_says_that_it_is_unchanged_costs_one_request_and_is_as_good_as_read() {
    let registry = FakeRegistry::start().await;
    registry.push("app", "v1", &Image::new("1"));
    registry.add_header("etag", r#""one tag""#);
    let unchanged = Action::Status { code: 304, headers: Vec::new(), body: String::new() };
    registry.fault(Fault::on(RequestKind::Tags).after(1), unchanged);
    let name = format!("{}/app", registry.host());
    let server = samovar().serve(watch([&name])).await;
    let before = wait_until_complete(&server, &name).await;
    registry.clear_requests();
    let answer = refresh(&server, &name).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let after = answer.json();
    assert_eq!(after["generation"], before["generation"]);
    assert_ne!(after["last_update"], before["last_update"], "the registry's word counts");
    assert_eq!(counts(&registry), Counts { lists: 1, heads: 1, ..Counts::default() });
    assert_eq!(registry.requests()[0].headers["if-none-match"], r#""one tag""#);
    let metrics = server.get_text("/metrics").await;
    let line = metrics.lines().find(|line| {
        line.starts_with("samovar_upstream_requests_total")
            && line.contains(r#"operation="tags""#)
            && line.contains(r#"outcome="ok""#)
    });
    assert!(line.is_some_and(|line| line.ends_with(" 2")), "{line:?}");
}

#[tokio::test]
async fn a_forced_refresh_with_nothing_changed_asks_for_a_list_and_heads() {
    let registry = FakeRegistry::start().await;
    for number in 0..6 {
        registry.push("app", &format!("v{number}"), &Image::new(number.to_string()));
    }
    registry.push("app", "index", &Index::of([&Image::new("i")]));
    let name = format!("{}/app", registry.host());
    let server = samovar().serve(watch([&name])).await;
    let before = wait_until_complete(&server, &name).await;
    registry.clear_requests();
    let answer = refresh(&server, &name).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["generation"], before["generation"]);
    assert_eq!(counts(&registry), Counts { lists: 1, heads: 7, ..Counts::default() });
}

#[tokio::test]
async fn a_tag_that_a_list_says_has_moved_costs_a_head_and_what_is_new_behind_it_and_the_others_nothing() {
    let registry = FakeRegistry::start().await;
    registry.speak(&Dialect { login: Login::Nobody, ..dialects::quay::dialect() });
    for number in 0..5 {
        registry.push("app", &format!("v{number}"), &Image::new(number.to_string()));
    }
    let (host, name) = (registry.host(), format!("{}/app", registry.host()));
    let samovar = samovar();
    let file = samovar.write_file("own.toml", &format!("[hosts.\"{host}\"]\nlisting = \"quay\"\n"));
    let file = file.display().to_string();
    // What is pushed before we have asked is nothing that we do not know.
    let in_an_hour = SystemClock.now().as_millisecond() + 3_600_000;
    let server = samovar.serve(and(watch([&name]), ["--poll-interval", "1s", "--config", &file])).await;
    let before = wait_until_complete(&server, &name).await;
    // The first reading of the registry's own list tells of everything, and nothing of it is news.
    registry.wait_for(RequestKind::Other, 2).await;
    let Counts { lists, heads, gets, blobs, .. } = counts(&registry);
    assert_eq!((lists, heads, gets, blobs), (1, 0, 5, 5), "{:?}", registry.requests());

    registry.clear_requests();
    registry.push_from(in_an_hour);
    registry.push("app", "v3", &Image::new("moved"));
    let digest = |repository: &serde_json::Value| repository["images"]["v3"]["digest"].clone();
    wait_for_repository(&server, &name, |repository| digest(repository) != digest(&before)).await;
    let Counts { lists, heads, gets, blobs, others } = counts(&registry);
    assert_eq!((lists, heads, gets, blobs), (0, 1, 1, 1), "{:?}", registry.requests());
    assert!(others >= 1);
}

#[tokio::test]
async fn a_moved_tag_costs_a_head_and_what_is_new_behind_it() {
    let registry = FakeRegistry::start().await;
    let arm64 = Image::new("stays").platform("linux/arm64");
    registry.push("app", "v1", &Index::of([&Image::new("1"), &arm64]));
    registry.push("app", "v2", &Image::new("2"));
    let name = format!("{}/app", registry.host());
    let server = samovar().serve(watch([&name])).await;
    wait_until_complete(&server, &name).await;

    // One child is new, the other is the one that was there.
    let moved = registry.push("app", "v1", &Index::of([&Image::new("1 again"), &arm64]));
    registry.clear_requests();
    let answer = refresh(&server, &format!("{name}:v1")).await;
    assert_eq!(answer.json()["digest"], moved);
    let expected = Counts { lists: 0, heads: 1, gets: 2, blobs: 1, others: 0 };
    assert_eq!(counts(&registry), expected, "{:?}", registry.requests());
    let got: Vec<_> = of_kind(&registry, RequestKind::ManifestGet);
    assert_eq!(got[0].reference.as_deref(), Some(moved.as_str()), "by digest");

    // To a digest that is known here already.
    registry.push("app", "v1", &Image::new("2"));
    registry.clear_requests();
    let answer = refresh(&server, &format!("{name}:v1")).await;
    assert_eq!(answer.json()["digest"], Image::new("2").digest());
    assert_eq!(counts(&registry), Counts { heads: 1, ..Counts::default() });
}

#[tokio::test]
async fn a_new_tag_costs_one_get_and_its_configuration() {
    let registry = FakeRegistry::start().await;
    registry.push("app", "v1", &Image::new("1"));
    let name = format!("{}/app", registry.host());
    let server = samovar().serve(and(watch([&name]), ["--poll-interval", "1s"])).await;
    wait_until_complete(&server, &name).await;
    registry.clear_requests();
    let v2 = registry.push("app", "v2", &Image::new("2"));
    wait_for_repository(&server, &name, |found| found["images"]["v2"]["digest"] == v2).await;
    let Counts { lists: _, heads, gets, blobs, others } = counts(&registry);
    assert_eq!((heads, gets, blobs, others), (0, 1, 1, 0), "{:?}", registry.requests());
}

#[tokio::test]
async fn a_restart_asks_for_no_manifest() {
    let registry = FakeRegistry::start().await;
    for number in 0..10 {
        registry.push("app", &format!("v{number}"), &Image::new(number.to_string()));
    }
    let name = format!("{}/app", registry.host());
    let samovar = samovar();
    let mut server = samovar.serve(watch([&name])).await;
    wait_until_complete(&server, &name).await;
    server.terminate().await;
    registry.clear_requests();
    let server = samovar.serve(watch([&name])).await;
    assert_eq!(repository(&server, &name).await["complete"], true, "with the first request");
    assert_eq!(refresh(&server, &format!("{name}:v3")).await.status, 200);
    assert_eq!(counts(&registry), Counts { heads: 1, ..Counts::default() }, "the one that was asked for");
    assert_eq!(refresh(&server, &name).await.status, 200);
    assert_eq!(counts(&registry), Counts { lists: 1, heads: 1 + 10, ..Counts::default() });
}

#[tokio::test]
async fn a_watched_tag_is_the_only_one_that_is_asked_about() {
    let registry = FakeRegistry::start().await;
    for number in 0..10 {
        registry.push("app", &format!("v{number}"), &Image::new(number.to_string()));
    }
    let name = format!("{}/app", registry.host());
    let server = samovar().serve(watch([format!("{name}:v3")])).await;
    let repository = wait_until_complete(&server, &name).await;
    assert_eq!(common::keys(&repository["images"]), ["v3"]);
    let gets = of_kind(&registry, RequestKind::ManifestGet);
    assert_eq!(gets.len(), 1, "{gets:?}");
    let other = server.get(&image_path(&format!("{name}:v4"))).await;
    assert_eq!((other.status, &other.json()["type"]), (404, &json!("excluded")), "{other:?}");
}

fn of_kind(registry: &FakeRegistry, kind: RequestKind) -> Vec<Recorded> {
    registry.requests().into_iter().filter(|request| request.kind == kind).collect()
}

#[tokio::test]
async fn one_token_opens_many_requests() {
    let registry = FakeRegistry::start().await;
    registry.require_bearer(Bearer::new());
    for number in 0..20 {
        registry.push("app", &format!("v{number}"), &Image::new(number.to_string()));
    }
    let name = format!("{}/app", registry.host());
    let server = samovar().serve(watch([&name])).await;
    wait_until_complete(&server, &name).await;
    let tokens = registry.tokens();
    assert_eq!(tokens.len(), 1, "{tokens:?}");
    assert_eq!(tokens[0].scopes, ["repository:app:pull"]);
    assert_eq!(tokens[0].uses, 1 + 20 + 20);
    // The first list was refused and taught where tokens are; nothing else was refused, and nothing pinged.
    let refused = registry.requests().iter().filter(|request| request.status == Some(401)).count();
    assert_eq!(refused, 1);
    let expected = Counts { lists: 2, heads: 0, gets: 20, blobs: 20, others: 1 };
    assert_eq!(counts(&registry), expected);
}

#[tokio::test]
async fn a_token_that_has_run_out_is_replaced() {
    let registry = FakeRegistry::start().await;
    registry.require_bearer(Bearer::new().token_field("access_token"));
    registry.push("app", "v1", &Image::new("1"));
    let name = format!("{}/app", registry.host());
    let server = samovar().serve(watch([&name])).await;
    wait_until_complete(&server, &name).await;
    registry.expire_tokens();
    let v2 = registry.push("app", "v2", &Image::new("2"));
    let answer = refresh(&server, &format!("{name}:v2")).await;
    assert_eq!((answer.status, &answer.json()["digest"]), (200, &json!(v2)), "{answer:?}");
    assert_eq!(registry.tokens().len(), 2);
}

/// `config.json` with these users, all with a password of their own.
fn with_credentials(samovar: &Samovar, hosts: &[(&str, &str)]) {
    let auths: serde_json::Map<_, _> = hosts
        .iter()
        .map(|(host, user)| {
            let entry = json!({"username": user, "password": format!("password of {user}")});
            ((*host).to_owned(), entry)
        })
        .collect();
    samovar.write_docker_config(&json!({ "auths": auths }).to_string());
}

#[tokio::test]
async fn credentials_reach_only_their_registry() {
    let (ours, other) = (FakeRegistry::start().await, FakeRegistry::start().await);
    for registry in [&ours, &other] {
        registry.require_basic("alice", "password of alice");
        registry.push("app", "v1", &Image::new("1"));
    }
    let samovar = samovar();
    with_credentials(&samovar, &[(&ours.host(), "alice"), ("registry.example", "bob")]);
    let names = [&ours, &other].map(|registry| format!("{}/app", registry.host()));
    let server = samovar.serve(watch(&names)).await;
    wait_until_complete(&server, &names[0]).await;
    let refused = |answer: &Answer| answer.json()["last_error"].is_object();
    server.wait_until(&repository_path(&names[1]), refused, common::PATIENCE).await;
    let basic = "Basic YWxpY2U6cGFzc3dvcmQgb2YgYWxpY2U=";
    assert!(ours.requests().iter().any(|request| request.authorization.as_deref() == Some(basic)));
    assert!(!other.requests().is_empty());
    assert!(other.requests().iter().all(|request| request.authorization.is_none()), "{:?}", other.requests());
    let (log, page) = (server.log(), server.get_text("/api/v1/status").await);
    for shown in [&log, &page, &server.get_text("/metrics").await] {
        assert!(!shown.contains("password of alice") && !shown.contains(&basic[6..]), "{shown}");
    }
}

#[tokio::test]
async fn a_password_buys_a_token_at_the_registry_itself_only() {
    let (ours, elsewhere) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let bearer = || Bearer::new().credentials("alice", "password of alice");
    ours.require_bearer(bearer());
    ours.push("app", "v1", &Image::new("1"));
    let samovar = samovar();
    with_credentials(&samovar, &[(&ours.host(), "alice")]);
    let name = format!("{}/app", ours.host());
    let mut server = samovar.serve(watch([&name])).await;
    wait_until_complete(&server, &name).await;
    assert_eq!(ours.tokens()[0].user.as_deref(), Some("alice"));
    let token = ours.tokens()[0].token.clone();
    let sent = of_kind(&ours, RequestKind::ManifestGet);
    assert!(sent.iter().all(|request| request.authorization == Some(format!("Bearer {token}"))), "{sent:?}");
    server.terminate().await;

    // The same registry sends us to another host for tokens.
    ours.require_bearer(bearer().realm_of(&elsewhere));
    let arguments = and(watch([&name]), ["--insecure-host", &elsewhere.host()]);
    let server = samovar.serve(arguments).await;
    let answer = refresh(&server, &name).await;
    assert_eq!(answer.status, 502, "{answer:?}");
    let told: Vec<_> = elsewhere.requests().into_iter().filter_map(|request| request.authorization).collect();
    assert!(told.is_empty(), "{told:?}");
    let repository = repository(&server, &name).await;
    assert_eq!(common::length(&repository["images"]), 1, "what was known stays");
    let message = repository["last_error"]["message"].as_str().expect("an error is shown");
    assert!(message.contains(&elsewhere.host()) && !message.contains("password"), "{message}");
}
