//! The HTTP API of the contract: shapes key by key, names in every spelling, conditions, waiting, and refusals.

mod common;

use std::time::Duration;

use common::{and, image_path, keys, repository_path, samovar, wait_until_complete, watch};
use samovar::cache::demand::Demand;
use samovar::cache::stored;
use samovar::store::{Embedded, Key, Reader as _};
use samovar_testing::fake::{Action, FakeRegistry, Fault, RequestKind};
use samovar_testing::{Answer, Content as _, Image, Index, SamovarServer};
use serde_json::{Value, json};

/// A repository `team/app` with one tag of every state but pending.
async fn registry_with_every_state() -> (FakeRegistry, String) {
    let registry = FakeRegistry::start().await;
    let image = Image::new("ok").created("2024-01-02T03:04:05Z").label("a", "b");
    registry.push("team/app", "ok", &image);
    registry.push("team/app", "bare", &Image::new("neither time nor labels"));
    registry.push(
        "team/app",
        "chart",
        &Image::new("chart").config_media_type("application/vnd.cncf.helm.config.v1+json"),
    );
    registry.push("team/app", "windows", &Index::of([&Image::new("w").platform("windows/amd64")]));
    let lost = registry.push("team/app", "unknown", &Image::new("lost"));
    registry.remove_manifest("team/app", &lost);
    registry.push("team/app", "failed", &Image::new("failed"));
    registry.fault(Fault::on(RequestKind::ManifestGet).reference("failed"), Action::status(500));
    let name = format!("{}/team/app", registry.host());
    (registry, name)
}

async fn serve_every_state() -> (FakeRegistry, SamovarServer, String) {
    let (registry, name) = registry_with_every_state().await;
    let server = samovar().serve(and(watch([&name]), ["--alias", &format!("up={}", registry.host())])).await;
    let settled = |answer: &Answer| answer.status == 200 && is_settled(&answer.json());
    server.wait_until(&repository_path(&name), settled, common::PATIENCE).await;
    (registry, server, name)
}

/// Whether everything that a repository with every state can say is said.
fn is_settled(repository: &Value) -> bool {
    let values = |key: &str| repository[key].as_object().into_iter().flat_map(|tags| tags.values().cloned());
    values("images").filter(|image| image["last_fetched"].is_string()).count() == 2
        && values("unavailable")
            .filter(|tag| tag["next_attempt"].is_string() && tag["state"] != "pending")
            .count()
            == 4
}

#[track_caller]
fn assert_problem(answer: &Answer, status: u16, problem_type: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let problem = answer.json();
    assert_eq!(problem["type"], problem_type, "{answer:?}");
    assert_eq!(problem["status"], status);
    assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{answer:?}");
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{answer:?}");
    let seconds: Option<u64> = answer.header("retry-after").and_then(|value| value.parse().ok());
    assert_eq!(seconds.is_some_and(|seconds| seconds > 0), status == 503, "{answer:?}");
}

/// Whether a value is a time by RFC 3339 in UTC.
fn is_time(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() >= 20 && text.as_bytes()[10] == b'T' && text.ends_with('Z'))
}

fn assert_no_null(value: &Value, path: &str) {
    match value {
        Value::Null => panic!("{path} is null: what is not known is absent"),
        Value::Array(list) => list.iter().for_each(|item| assert_no_null(item, path)),
        Value::Object(map) => {
            map.iter().for_each(|(key, item)| assert_no_null(item, &format!("{path}.{key}")));
        }
        _ => {}
    }
}

#[tokio::test]
async fn a_repository_has_the_shape_of_the_contract() {
    let (_registry, server, name) = serve_every_state().await;
    let answer = server.get(&repository_path(&name)).await;
    let body = answer.json();
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        keys(&body),
        ["complete", "generation", "images", "last_update", "name", "tags", "unavailable"]
    );
    assert_eq!(body["name"], name);
    assert_eq!(body["tags"], json!(["bare", "chart", "failed", "ok", "unknown", "windows"]));
    assert_eq!(body["complete"], false, "a tag has failed");
    assert!(is_time(&body["last_update"]));
    assert_eq!(answer.header("etag"), Some(format!("W/\"{}\"", body["generation"]).as_str()));
    assert!(answer.header("age").is_some_and(|age| age.parse::<u64>().is_ok()), "{answer:?}");
    assert_no_null(&body, "repository");

    assert_eq!(keys(&body["images"]), ["bare", "ok"]);
    let unavailable = &body["unavailable"];
    assert_eq!(keys(unavailable), ["chart", "failed", "unknown", "windows"]);
    for (tag, state) in
        [("chart", "excluded"), ("failed", "failed"), ("unknown", "unknown"), ("windows", "excluded")]
    {
        let tag_body = &unavailable[tag];
        assert_eq!(tag_body["state"], state, "{tag}");
        assert!(tag_body["reason"].is_string() && is_time(&tag_body["since"]), "{tag}: {tag_body}");
        assert!(is_time(&tag_body["next_attempt"]) && tag_body["attempts"].is_u64(), "{tag}: {tag_body}");
    }
    assert!(unavailable["windows"]["reason"].as_str().is_some_and(|reason| reason.contains("windows/amd64")));
}

#[tokio::test]
async fn an_image_has_the_shape_of_the_contract() {
    let (_registry, server, name) = serve_every_state().await;
    let image = Image::new("ok").created("2024-01-02T03:04:05Z").label("a", "b");
    let answer = server.get(&image_path(&format!("{name}:ok"))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut body = answer.json();
    assert!(is_time(&body["last_fetched"]));
    body.as_object_mut().expect("an object").remove("last_fetched");
    let expected = json!({
        "id": format!("{name}:ok"),
        "digest": image.digest(),
        "image_id": image.config().digest,
        "media_type": "application/vnd.oci.image.manifest.v1+json",
        "size": image.size(),
        "created_at": "2024-01-02T03:04:05Z",
        "labels": {"a": "b"},
        "platforms": ["linux/amd64"],
    });
    assert_eq!(body, expected);

    let by_digest = server.get(&image_path(&format!("{name}@{}", image.digest()))).await;
    assert_eq!(
        (by_digest.status, &by_digest.json()["digest"]),
        (200, &json!(image.digest())),
        "{by_digest:?}"
    );
    let by_both = server.get(&image_path(&format!("{name}:ok@{}", image.digest()))).await;
    assert_eq!((by_both.status, &by_both.json()["digest"]), (200, &json!(image.digest())), "{by_both:?}");
    let bare = server.get(&image_path(&format!("{name}:bare"))).await.json();
    assert!(bare.get("created_at").is_none(), "{bare}");
    assert_eq!(bare["labels"], json!({}));

    let other = format!("sha256:{}", "0".repeat(64));
    assert_eq!(server.get(&image_path(&format!("{name}@{other}"))).await.status, 404);
    assert_eq!(server.get(&image_path(&format!("{name}:ok@{other}"))).await.status, 404);
}

#[tokio::test]
async fn what_is_not_there_says_why() {
    let (registry, server, name) = serve_every_state().await;
    assert_problem(&server.get(&image_path(&format!("{name}:unknown"))).await, 404, "unknown");
    assert_problem(&server.get(&image_path(&format!("{name}:chart"))).await, 404, "excluded");
    assert_problem(&server.get(&image_path(&format!("{name}:windows"))).await, 404, "excluded");
    assert_problem(&server.get(&image_path(&format!("{name}:failed"))).await, 503, "failed");
    assert_eq!(server.get(&image_path(&format!("{name}:no-such-tag"))).await.status, 404);
    let other = format!("{}/not/watched", registry.host());
    assert_problem(&server.get(&repository_path(&other)).await, 404, "not-watched");
    assert_problem(&server.get(&image_path(&format!("{other}:v1"))).await, 404, "not-watched");
    assert_eq!(server.get("/api/v1/nothing").await.status, 404);
    assert_eq!(server.get("/nothing").await.status, 404);
    assert_eq!(server.post_json(&repository_path(&name), &json!({})).await.status, 405);
}

#[tokio::test]
async fn pending_tags_and_repositories_say_when_to_come_back() {
    let registry = FakeRegistry::start().await;
    registry.push("listed", "v1", &Image::new("1"));
    registry.push("unlisted", "v1", &Image::new("1"));
    registry.fault(Fault::on(RequestKind::ManifestGet), Action::HangBeforeHeader);
    registry.fault(Fault::on(RequestKind::Tags).repository("unlisted"), Action::HangBeforeHeader);
    let names = ["listed", "unlisted"].map(|path| format!("{}/{path}", registry.host()));
    let server = samovar().serve(watch(&names)).await;
    let listed = |answer: &Answer| answer.status == 200;
    let body = server.wait_until(&repository_path(&names[0]), listed, common::PATIENCE).await.json();
    assert_eq!(body["tags"], json!(["v1"]), "what is known is published at once");
    assert_eq!((&body["unavailable"]["v1"]["state"], &body["complete"]), (&json!("pending"), &json!(false)));
    assert_problem(&server.get(&image_path(&format!("{}:v1", names[0]))).await, 503, "pending");
    assert_problem(&server.get(&repository_path(&names[1])).await, 503, "never-listed");
    assert_problem(&server.get(&image_path(&format!("{}:v1", names[1]))).await, 503, "never-listed");
}

#[tokio::test]
async fn names_are_understood_raw_encoded_and_by_alias() {
    let (_registry, server, name) = serve_every_state().await;
    let digest = Image::new("ok").created("2024-01-02T03:04:05Z").label("a", "b").digest();
    let encoded = |text: &str| text.replace('/', "%2F").replace(':', "%3A").replace('@', "%40");
    let lower = |text: &str| text.replace('/', "%2f").replace(':', "%3a").replace('@', "%40");
    for spelling in
        [name.clone(), encoded(&name), lower(&name), "up/team/app".into(), "up%2Fteam%2Fapp".into()]
    {
        let answer = server.get(&repository_path(&spelling)).await;
        assert_eq!((answer.status, &answer.json()["name"]), (200, &json!(name)), "{spelling}: {answer:?}");
    }
    for reference in [format!("{name}:ok"), format!("{name}@{digest}"), format!("{name}:ok@{digest}")] {
        let through_alias = format!("up/team/app{}", &reference[name.len()..]);
        for spelling in [reference.clone(), encoded(&reference), lower(&reference), through_alias] {
            let answer = server.get(&image_path(&spelling)).await;
            assert_eq!(
                (answer.status, &answer.json()["digest"]),
                (200, &json!(digest)),
                "{spelling}: {answer:?}"
            );
            assert_eq!(answer.json()["id"], reference, "answers are canonical");
        }
    }
}

#[tokio::test]
async fn docker_hubs_spellings_are_one_repository() {
    // Nothing listens there, and nothing needs to: the name alone is looked at.
    let server = samovar().variable("HTTPS_PROXY", "http://127.0.0.1:9").serve(["--watch", "alpine"]).await;
    for spelling in [
        "alpine",
        "library/alpine",
        "docker.io/alpine",
        "docker.io/library/alpine",
        "index.docker.io/library/alpine",
        "registry-1.docker.io/library/alpine",
        "registry.hub.docker.com/library/alpine",
    ] {
        assert_problem(&server.get(&repository_path(spelling)).await, 503, "never-listed");
    }
    let row = &server.get("/api/v1/repositories").await.json()["repositories"][0];
    assert_eq!(row["name"], "docker.io/library/alpine");
}

#[tokio::test]
async fn repositories_are_listed_by_prefix_and_in_pages() {
    let registry = FakeRegistry::start().await;
    let mut names: Vec<String> = ["a/one", "a/three", "a/two", "b/one", "b/two"]
        .map(|path| format!("{}/{path}", registry.host()))
        .to_vec();
    names.sort();
    for path in ["a/one", "a/three", "a/two", "b/one", "b/two"] {
        registry.push(path, "v1", &Image::new(path));
    }
    registry.push("a/one", "v2", &Image::new("2"));
    let server = samovar().serve(watch(&names)).await;
    for name in &names {
        wait_until_complete(&server, name).await;
    }
    let list = async |query: &str| server.get(&format!("/api/v1/repositories{query}")).await.json();
    let all = list("").await;
    assert_eq!(keys(&all), ["repositories"], "there is no next page");
    let row = &all["repositories"][0];
    let expected = ["complete", "image_count", "last_update", "name", "next_refresh", "tag_count"];
    assert_eq!(keys(row), expected, "absent rather than null");
    assert_eq!(
        (&row["name"], &row["tag_count"], &row["image_count"]),
        (&json!(names[0]), &json!(2), &json!(2))
    );
    assert!(
        row["complete"] == true && is_time(&row["last_update"]) && is_time(&row["next_refresh"]),
        "{row}"
    );

    let names_of = |page: &Value| -> Vec<String> {
        let rows = page["repositories"].as_array().expect("a list").iter();
        rows.map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names_of(&all), names);
    let mut found = Vec::new();
    let mut page = list("?limit=2").await;
    loop {
        found.extend(names_of(&page));
        let Some(next) = page["next"].as_str() else { break };
        assert_eq!(names_of(&page).len(), 2);
        page = list(&format!("?limit=2&after={next}")).await;
    }
    assert_eq!(found, names);
    let some = list(&format!("?prefix={}/a/t", registry.host())).await;
    assert_eq!(names_of(&some), names[1..3]);
    assert_eq!(names_of(&list("?prefix=nothing").await), Vec::<String>::new());
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let (_registry, server, name) = serve_every_state().await;
    let path = repository_path(&name);
    let etag = server.get(&path).await.header("etag").expect("an entity tag").to_owned();
    for sent in [etag.as_str(), &format!("\"1\", {etag}"), "*"] {
        let answer = server.get_with(&path, &[("if-none-match", sent)]).await;
        assert_eq!((answer.status, answer.text.as_str()), (304, ""), "{sent}");
        assert_eq!(answer.header("etag"), Some(etag.as_str()));
    }
    assert_eq!(server.get_with(&path, &[("if-none-match", "W/\"1\"")]).await.status, 200);
}

#[tokio::test]
async fn a_long_poll_answers_on_change_and_ends_with_304() {
    let (registry, server, name) = serve_every_state().await;
    let path = repository_path(&name);
    let etag = server.get(&path).await.header("etag").expect("an entity tag").to_owned();
    let unchanged = server.get_with(&format!("{path}?wait=300ms"), &[("if-none-match", &etag)]).await;
    assert_eq!(unchanged.status, 304);

    // So late that the poll is waiting by then.
    let late = Action::Delay(Duration::from_millis(500));
    registry.fault(Fault::on(RequestKind::ManifestGet).reference("v2"), late);
    let v2 = registry.push("team/app", "v2", &Image::new("2"));
    let long = format!("{path}?wait=60s");
    let headers = [("if-none-match", etag.as_str())];
    let poll = server.get_with(&long, &headers);
    let tag = format!("{name}:v2");
    let change = common::refresh(&server, &tag);
    let in_time = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(poll, change) });
    let (polled, refreshed) = in_time.await.expect("the poll answers when the generation changes");
    assert_eq!((polled.status, refreshed.status), (200, 200), "{polled:?}");
    assert_eq!(polled.json()["images"]["v2"]["digest"], v2);
    assert_ne!(polled.header("etag"), Some(etag.as_str()));
}

/// What a digest names is the same for ever, and what has happened is past: whoever asks does not ask where a tag points, which
/// would have it confirmed daily.
#[tokio::test]
async fn whoever_asks_by_digest_or_for_the_history_asks_for_no_tag() {
    let registry = FakeRegistry::start().await;
    let image = Image::new("one");
    registry.push("team/app", "latest", &image);
    let name = format!("{}/team/app", registry.host());
    let program = samovar();
    let directory = program.home().join("asked");
    let url = format!("embedded:{}", directory.display());
    let mut server = program.serve(and(watch([&name]), ["--store", &url])).await;
    let complete = |answer: &Answer| answer.json()["repositories"][0]["complete"] == true;
    server.wait_until("/api/v1/repositories", complete, common::PATIENCE).await;
    for path in [image_path(&format!("{name}@{}", image.digest())), format!("/api/v1/history/{name}")] {
        assert_eq!(server.get(&path).await.status, 200, "{path}");
    }
    assert!(server.terminate().await.success());
    let store = Embedded::open(&directory, jiff::Timestamp::UNIX_EPOCH).unwrap();
    let entry = store.get(&Key::Demand(name.parse().unwrap())).await.unwrap();
    let demand: Demand = stored::decode(entry.as_ref()).unwrap();
    assert!(demand.last_asked().is_some(), "it is in use");
    assert_eq!(demand.last_read_of_tags(), None);
}
