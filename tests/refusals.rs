//! Registries that refuse us or send us elsewhere: what they ask for is respected, and secrets stay home.

mod common;

use std::time::Duration;

use common::{
    and, refresh, repository, repository_path, samovar, wait_for_repository, wait_until_complete, watch,
};
use samovar_testing::fake::{Action, Bearer, FakeRegistry, Fault, Recorded, RequestKind};
use samovar_testing::{Answer, Content as _, Image, Samovar};
use serde_json::{Value, json};

/// A repository `app` of tags `v0`, `v1` and so on.
async fn registry_with_tags(tags: usize) -> (FakeRegistry, String) {
    let registry = FakeRegistry::start().await;
    for number in 0..tags {
        registry.push("app", &format!("v{number}"), &Image::new(number.to_string()));
    }
    let name = format!("{}/app", registry.host());
    (registry, name)
}

/// One request at a time: nothing is under way when an answer arrives.
fn one_at_a_time(samovar: &Samovar) -> [String; 2] {
    let file = samovar.write_file("one.toml", "[upstream]\nconcurrency = 1\n");
    ["--config".to_owned(), file.display().to_string()]
}

/// The requests after the one that was answered with 429, and how long after it.
fn after_refusal(registry: &FakeRegistry) -> Vec<(Duration, Recorded)> {
    let requests = registry.requests();
    let refused = requests.iter().position(|request| request.status == Some(429)).expect("one was refused");
    let at = requests[refused].at;
    requests.into_iter().skip(refused + 1).map(|request| (request.at - at, request)).collect()
}

#[tokio::test]
async fn retry_after_is_obeyed_to_the_second_and_nothing_bursts_after_it() {
    let (registry, name) = registry_with_tags(12).await;
    registry.fault(Fault::on(RequestKind::ManifestGet).after(3).times(1), Action::too_many_requests(2));
    let samovar = samovar();
    let limits = ["--rps", "100", "--burst", "10", "--insecure-host", &registry.host(), "--watch", &name];
    let server = samovar.serve(limits.map(str::to_owned).into_iter().chain(one_at_a_time(&samovar))).await;
    let found = wait_until_complete(&server, &name).await;
    assert_eq!(common::length(&found["images"]), 12, "whoever waits gets all");
    let after = after_refusal(&registry);
    assert!(after[0].0 >= Duration::from_secs(2), "{:?}", after[0]);
    assert!(after[0].0 < Duration::from_secs(10), "it does go on: {:?}", after[0]);
    // The other 21 requests take 200 ms at 100 a second, and half of that where ten of them burst.
    let (late, last) = after.last().expect("there are several");
    let took = last.at - after[0].1.at;
    assert!(took >= Duration::from_millis(140), "{} requests in {took:?}", after.len());
    // What was refused waits once, not twice.
    assert!(*late < Duration::from_millis(3500), "{late:?}");
}

#[tokio::test]
async fn a_limited_list_is_not_asked_for_again_before_its_time() {
    let (registry, name) = registry_with_tags(3).await;
    registry.fault(Fault::on(RequestKind::Tags).times(1), Action::too_many_requests(2));
    let samovar = samovar();
    let server = samovar.serve(and(watch([&name]), one_at_a_time(&samovar))).await;
    let has_error = |answer: &Answer| answer.json()["last_error"].is_object();
    let answer = server.wait_until(&repository_path(&name), has_error, common::PATIENCE).await;
    assert_eq!((answer.status, &answer.json()["type"]), (503, &json!("never-listed")), "{answer:?}");
    let seconds: u64 =
        answer.header("retry-after").and_then(|value| value.parse().ok()).expect("it says when");
    assert!((1..=60).contains(&seconds), "{answer:?}");
    // What readers ask for meanwhile does not go before its time either.
    server.post_json("/api/v1/refresh", &json!({"image": name})).await;
    wait_until_complete(&server, &name).await;
    let after = after_refusal(&registry);
    assert!(after[0].0 >= Duration::from_secs(2), "{:?}", after[0]);
}

#[tokio::test]
async fn a_limit_without_a_time_stops_us_for_a_while_of_our_own() {
    let (registry, name) = registry_with_tags(12).await;
    let limited = Action::TooManyRequests { retry_after: None, body: "toomanyrequests\n".to_owned() };
    registry.fault(Fault::on(RequestKind::Blob).after(3), limited);
    let samovar = samovar();
    let server = samovar.serve(and(watch([&name]), one_at_a_time(&samovar))).await;
    let blocked = |answer: &Answer| {
        let seconds = answer.json()["hosts"][0]["blocked_for_seconds"].as_f64();
        seconds.is_some_and(|seconds| seconds > 20.0)
    };
    server.wait_until("/api/v1/status", blocked, common::PATIENCE).await;
    let asked = registry.requests().len();
    // The wait of the refresh is the time in which nothing may be asked.
    let answer = server.post_json("/api/v1/refresh?wait=1s", &json!({"image": name})).await;
    assert!(matches!(answer.status, 202 | 502), "{answer:?}");
    assert_eq!(registry.requests().len(), asked, "{:?}", registry.requests().split_off(asked));
    assert_eq!(registry.requests().iter().filter(|request| request.status == Some(429)).count(), 1);
    // Nor is what was learnt before kept from readers until then.
    let three = |answer: &Answer| common::length(&answer.json()["images"]) == 3;
    let found = server.wait_until(&repository_path(&name), three, Duration::from_secs(10)).await.json();
    assert_eq!(found["complete"], false);
}

#[tokio::test]
async fn one_limited_host_delays_no_other() {
    let (limited, slow) = registry_with_tags(3).await;
    limited.fault(Fault::on(RequestKind::Tags), Action::too_many_requests(3600));
    let (_good, fast) = registry_with_tags(30).await;
    let server = samovar().serve(watch([&slow, &fast])).await;
    limited.wait_for(RequestKind::Tags, 1).await;
    wait_until_complete(&server, &fast).await;
    assert_eq!(limited.count(RequestKind::Tags), 1);
    assert_eq!(server.get(&repository_path(&slow)).await.status, 503);
}

#[tokio::test]
async fn a_limited_token_service_is_left_alone() {
    let (registry, name) = registry_with_tags(1).await;
    registry.require_bearer(Bearer::new());
    registry.fault(Fault::on(RequestKind::Token), Action::too_many_requests(3600));
    let server = samovar().serve(watch([&name])).await;
    let has_error = |answer: &Answer| answer.json()["last_error"].is_object();
    server.wait_until(&repository_path(&name), has_error, common::PATIENCE).await;
    let answer = server.post_json("/api/v1/refresh?wait=1s", &json!({"image": name})).await;
    assert!(matches!(answer.status, 202 | 502), "{answer:?}");
    assert_eq!(registry.count(RequestKind::Token), 1, "no token is asked for before its time");
}

#[tokio::test]
async fn refusals_are_shown_and_end() {
    let (registry, name) = registry_with_tags(2).await;
    let server = samovar().serve(watch([&name])).await;
    wait_until_complete(&server, &name).await;
    for status in [401, 403, 404] {
        registry.fault(Fault::on(RequestKind::Tags), Action::status(status));
        let asked = registry.requests().len();
        let answer = refresh(&server, &name).await;
        assert_eq!(answer.status, 502, "{answer:?}");
        let sent = registry.requests().len() - asked;
        assert!((1..=2).contains(&sent), "a refusal is an answer: {status} was asked {sent} times");
        let kept = repository(&server, &name).await;
        for (tag, seed) in [("v0", "0"), ("v1", "1")] {
            assert_eq!(
                kept["images"][tag]["digest"],
                Image::new(seed).digest(),
                "{status}: what was known stays"
            );
        }
        assert!(kept["last_error"]["message"].is_string(), "{status}: {kept}");
        registry.clear_faults();
        assert_eq!(refresh(&server, &name).await.status, 200);
    }
}

#[tokio::test]
async fn what_we_may_no_longer_see_is_no_longer_shown() {
    let (registry, name) = registry_with_tags(2).await;
    let samovar = samovar();
    let file =
        samovar.write_file("strict.toml", "[upstream]\nmax_stale_denied = '0s'\n").display().to_string();
    let server = samovar.serve(and(watch([&name]), ["--config", &file])).await;
    wait_until_complete(&server, &name).await;
    registry.fault(Fault::on(RequestKind::Tags), Action::status(403));
    assert_eq!(refresh(&server, &name).await.status, 502);
    let hidden = |answer: &Answer| answer.status == 503 && answer.json()["type"] == "never-listed";
    let answer = server.wait_until(&repository_path(&name), hidden, common::PATIENCE).await;
    assert!(answer.json()["last_error"]["message"].is_string(), "{answer:?}");
    assert_eq!(server.get(&common::image_path(&format!("{name}:v0"))).await.status, 503);
    registry.clear_faults();
    assert_eq!(refresh(&server, &name).await.status, 200);
    assert_eq!(common::length(&repository(&server, &name).await["images"]), 2);
}

#[tokio::test]
async fn a_link_to_another_host_is_never_followed_there() {
    let (registry, name) = registry_with_tags(4).await;
    let other = FakeRegistry::start().await;
    other.push("app", "foreign", &Image::new("foreign"));
    registry.page_size(2);
    let link = format!("{}/v2/app/tags/list?n=2&last=v1", other.url());
    registry.fault(Fault::on(RequestKind::Tags).times(1), Action::LinkTo(link));
    let arguments = and(watch([&name]), ["--insecure-host", &other.host()]);
    let server = samovar().serve(arguments).await;
    let found = wait_until_complete(&server, &name).await;
    assert_eq!(found["tags"], json!(["v0", "v1", "v2", "v3"]));
    assert_eq!(other.requests().len(), 0, "{:?}", other.requests());
}

#[tokio::test]
async fn a_redirect_of_a_blob_is_followed_without_secrets() {
    let (registry, cdn) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let image = Image::new("1").created("2024-01-02T03:04:05Z");
    registry.push("app", "v1", &image);
    cdn.push("app", "v1", &image);
    registry.require_basic("alice", "secret of alice");
    let url = format!("{}/v2/app/blobs/{}", cdn.url(), image.config().digest);
    registry.fault(Fault::on(RequestKind::Blob), Action::RedirectTo(url));
    let samovar = samovar();
    let auths = json!({"auths": {registry.host(): {"username": "alice", "password": "secret of alice"}}});
    samovar.write_docker_config(&auths.to_string());
    let name = format!("{}/app", registry.host());
    let server = samovar.serve(and(watch([&name]), ["--insecure-host", &cdn.host()])).await;
    let found = wait_until_complete(&server, &name).await;
    assert_eq!(found["images"]["v1"]["created_at"], "2024-01-02T03:04:05Z");
    let asked = cdn.requests();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].authorization, None);
    assert!(asked[0].headers.get("cookie").is_none() && asked[0].headers.get("referer").is_none());
}

#[tokio::test]
async fn what_a_redirect_leads_to_must_be_what_was_asked_for() {
    let (registry, cdn) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let (image, other) = (Image::new("1"), Image::new("other"));
    registry.push("app", "v1", &image);
    cdn.push("app", "v1", &other);
    let url = format!("{}/v2/app/blobs/{}", cdn.url(), other.config().digest);
    registry.fault(Fault::on(RequestKind::Blob), Action::RedirectTo(url));
    let name = format!("{}/app", registry.host());
    let server = samovar().serve(and(watch([&name]), ["--insecure-host", &cdn.host()])).await;
    let failed = |found: &Value| found["unavailable"]["v1"]["state"] == "failed";
    let found = wait_for_repository(&server, &name, failed).await;
    assert_eq!(found["images"], json!({}));
    assert!(cdn.count(RequestKind::Blob) >= 1);
}

#[tokio::test]
async fn redirects_to_nowhere_good_are_refused() {
    let (registry, name) = registry_with_tags(1).await;
    let named = FakeRegistry::start().await;
    for (tag, url) in [
        // The services that hand out a machine's own credentials.
        ("metadata", "http://169.254.169.254/latest/meta-data/".to_owned()),
        ("metadata-v6", "http://[fd00:ec2::254]/latest/meta-data/".to_owned()),
        // Plain http, and nobody allowed it.
        ("plain", format!("{}/v2/app/blobs/x", named.url())),
        ("file", "file:///etc/passwd".to_owned()),
        ("itself", format!("{}/v2/app/manifests/itself", registry.url())),
    ] {
        registry.push("app", tag, &Image::new(tag));
        registry.fault(Fault::on(RequestKind::ManifestGet).reference(tag), Action::RedirectTo(url));
    }
    let server = samovar().serve(watch([&name])).await;
    let settled = |found: &Value| {
        common::length(&found["unavailable"]) == 5
            && found["unavailable"]
                .as_object()
                .is_some_and(|tags| tags.values().all(|tag| tag["state"] == "failed"))
    };
    let found = wait_for_repository(&server, &name, settled).await;
    assert_eq!(common::keys(&found["images"]), ["v0"]);
    assert_eq!(found["images"]["v0"]["digest"], Image::new("0").digest());
    assert_eq!(named.requests().len(), 0, "{:?}", named.requests());
    let loops =
        registry.requests().iter().filter(|request| request.reference.as_deref() == Some("itself")).count();
    assert!(loops <= 20, "{loops} redirects were followed");
}

#[tokio::test]
async fn plain_http_needs_permission() {
    let (registry, name) = registry_with_tags(1).await;
    let server = samovar().serve(["--watch", &name]).await;
    let has_error = |answer: &Answer| answer.json()["last_error"].is_object();
    let answer = server.wait_until(&repository_path(&name), has_error, common::PATIENCE).await;
    assert_eq!(answer.status, 503);
    assert_eq!(registry.requests().len(), 0, "{:?}", registry.requests());
}
