//! `POST /api/v1/refresh`, and what the API refuses: what it cannot read, and what another site may have sent.

mod common;

use common::{image_path, refresh, repository, repository_path, samovar, wait_until_complete, watch};
use samovar_testing::fake::{Action, FakeRegistry, Fault, RequestKind, SilentHost};
use samovar_testing::{Answer, Content as _, Image, SamovarServer};
use serde_json::json;

async fn serve_one() -> (FakeRegistry, SamovarServer, String) {
    let registry = FakeRegistry::start().await;
    registry.push("app", "v1", &Image::new("1"));
    let name = format!("{}/app", registry.host());
    let server = samovar().serve(watch([&name])).await;
    wait_until_complete(&server, &name).await;
    (registry, server, name)
}

#[track_caller]
fn assert_problem(answer: &Answer, status: u16, problem_type: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    assert_eq!(answer.json()["type"], problem_type, "{answer:?}");
    assert_eq!(answer.json()["status"], status, "{answer:?}");
}

#[tokio::test]
async fn unknown_and_invalid_parameters_are_refused() {
    let (_registry, server, name) = serve_one().await;
    let (one, image) = (repository_path(&name), image_path(&format!("{name}:v1")));
    for path in [
        "/api/v1/repositories?colour=red".to_owned(),
        "/api/v1/repositories?limit=0".to_owned(),
        "/api/v1/repositories?limit=-1".to_owned(),
        "/api/v1/repositories?limit=many".to_owned(),
        "/api/v1/repositories?limit=1000000000".to_owned(),
        "/api/v1/repositories?limit=".to_owned(),
        "/api/v1/repositories?limit=1&limit=2".to_owned(),
        "/api/v1/repositories?wait=1s".to_owned(),
        format!("{one}?wait=soon"),
        format!("{one}?wait=-1s"),
        format!("{one}?wait=1000h"),
        format!("{one}?wait="),
        format!("{one}?limit=1"),
        format!("{image}?wait=1s"),
        "/api/v1/status?verbose=yes".to_owned(),
    ] {
        let answer = server.get(&path).await;
        assert_problem(&answer, 400, "bad-request");
        assert!(
            answer.json()["detail"].as_str().is_some_and(|detail| detail.len() > 10),
            "{path}: {answer:?}"
        );
    }
    for query in ["?wait=soon", "?colour=red", "?wait=-1s"] {
        let answer = server.post_json(&format!("/api/v1/refresh{query}"), &json!({"image": name})).await;
        assert_problem(&answer, 400, "bad-request");
    }
}

#[tokio::test]
async fn malformed_names_are_refused_with_the_name_and_the_rule() {
    let (registry, server, name) = serve_one().await;
    let host = registry.host();
    let long = format!("{host}/{}", "a".repeat(300));
    for bad in [
        format!("{host}/Upper/case"),
        format!("{host}/a//b"),
        format!("{host}/a/"),
        format!("{host}/-a"),
        format!("{host}/a__-b"),
        format!("{host}/a%20b"),
        format!("{host}/a%00b"),
        format!("{host}/%C3%A9"),
        long,
    ] {
        let answer = server.get(&repository_path(&bad)).await;
        assert_problem(&answer, 400, "bad-request");
        assert!(
            answer.json()["detail"].as_str().is_some_and(|detail| detail.len() > 10),
            "{bad}: {answer:?}"
        );
    }
    assert_problem(&server.get(&repository_path(&format!("{name}:v1"))).await, 400, "bad-request");
    for bad in [
        name.clone(),
        format!("{name}:"),
        format!("{name}:{}", "t".repeat(129)),
        format!("{name}:-t"),
        format!("{name}@"),
        format!("{name}@sha256:abc"),
        format!("{name}@md5:{}", "0".repeat(32)),
        format!("{name}:v1@sha256:{}", "G".repeat(64)),
    ] {
        assert_problem(&server.get(&image_path(&bad)).await, 400, "bad-request");
        if bad != name {
            assert_problem(&refresh(&server, &bad).await, 400, "bad-request");
        }
    }
    assert_eq!(server.get(&repository_path("%ff")).await.status, 400);
    let shown = server.get(&repository_path(&format!("{host}/Upper"))).await.json();
    assert!(shown["detail"].as_str().is_some_and(|detail| detail.contains("Upper")), "{shown}");
}

#[tokio::test]
async fn a_refresh_is_accepted_or_waited_for() {
    let (registry, server, name) = serve_one().await;
    let v2 = registry.push("app", "v2", &Image::new("2"));
    let accepted = server.post_json("/api/v1/refresh", &json!({"image": format!("{name}:v2")})).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let is_there = |answer: &Answer| answer.status == 200;
    let image = server.wait_until(&image_path(&format!("{name}:v2")), is_there, common::PATIENCE).await;
    assert_eq!(image.json()["digest"], v2);

    let one = refresh(&server, &format!("{name}:v2")).await;
    let same = server.get(&image_path(&format!("{name}:v2"))).await;
    assert_eq!((one.status, one.json()), (200, same.json()), "the fresh image");
    let all = refresh(&server, &name).await;
    assert_eq!((all.status, all.json()), (200, repository(&server, &name).await), "the fresh repository");

    registry.fault(Fault::on(RequestKind::Tags), Action::HangBeforeHeader);
    let late = server.post_json("/api/v1/refresh?wait=300ms", &json!({"image": name})).await;
    assert_eq!(late.status, 202, "{late:?}");
    assert_eq!(repository(&server, &name).await["images"]["v2"]["digest"], v2, "readers do not wait for it");
}

#[tokio::test]
async fn a_refresh_of_one_tag_does_not_wait_for_its_repository() {
    let registry = FakeRegistry::start().await;
    registry.push("app", "v1", &Image::new("1"));
    registry.push("app", "v2", &Image::new("2"));
    let name = format!("{}/app", registry.host());
    let server = samovar().serve(watch([&name])).await;
    wait_until_complete(&server, &name).await;
    registry.fault(Fault::on(RequestKind::ManifestHead).reference("v1"), Action::HangBeforeHeader);
    registry.clear_requests();
    server.post_json("/api/v1/refresh", &json!({"image": name})).await;
    registry.wait_for(RequestKind::ManifestHead, 2).await;
    let moved = registry.push("app", "v2", &Image::new("2 again"));
    let answer = refresh(&server, &format!("{name}:v2")).await;
    assert_eq!((answer.status, &answer.json()["digest"]), (200, &json!(moved)), "{answer:?}");
}

#[tokio::test]
async fn a_refresh_of_what_is_not_there_says_so_and_stores_nothing() {
    let (registry, server, name) = serve_one().await;
    let missing = refresh(&server, &format!("{name}:no-such-tag")).await;
    assert_eq!(missing.status, 404, "{missing:?}");
    assert_eq!(repository(&server, &name).await["tags"], json!(["v1"]));
    let unwatched = refresh(&server, &format!("{}/other:v1", registry.host())).await;
    assert_problem(&unwatched, 404, "not-watched");
    let by_digest = refresh(&server, &format!("{name}@{}", Image::new("1").digest())).await;
    assert_problem(&by_digest, 400, "bad-request");
    registry.push("app", "broken", &Image::new("broken"));
    registry.fault(Fault::on(RequestKind::ManifestGet).reference("broken"), Action::status(500));
    let failed = refresh(&server, &format!("{name}:broken")).await;
    assert!(matches!(failed.status, 502 | 503), "{failed:?}");
}

#[tokio::test]
async fn a_refresh_takes_json_of_one_shape() {
    let (_registry, server, name) = serve_one().await;
    let json = [("content-type", "application/json")];
    let good = format!("{{\"image\": \"{name}\"}}");
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let answer = server.post_with("/api/v1/refresh", &[("content-type", content_type)], &good).await;
        assert_problem(&answer, 415, "unsupported-media-type");
    }
    assert_problem(&server.post_with("/api/v1/refresh", &[], &good).await, 415, "unsupported-media-type");
    for body in [
        "",
        "{",
        "null",
        "[]",
        "{}",
        "{\"image\": 7}",
        "{\"image\": null}",
        "{\"image\": \"\"}",
        "{\"image\": \"a\", \"force\": true}",
        "{\"image\": \"UPPER\"}",
    ] {
        assert_problem(&server.post_with("/api/v1/refresh", &json, body).await, 400, "bad-request");
    }
    assert_eq!(server.post_with("/api/v1/refresh?wait=30s", &json, &good).await.status, 200);
    assert_problem(&server.get("/api/v1/refresh").await, 405, "method-not-allowed");
    // Last, as the server need not read it to its end and may close the connection.
    let large = format!("{{\"image\": \"{}\"}}", "a".repeat(64 * 1024));
    assert_problem(&server.post_with("/api/v1/refresh", &json, large).await, 413, "body-too-large");
}

#[tokio::test]
async fn what_another_site_may_have_sent_is_refused() {
    let (_registry, server, name) = serve_one().await;
    let path = repository_path(&name);
    let own = server.host().to_owned();
    let localhost = own.replace("127.0.0.1", "localhost");
    for host in
        ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1"]
    {
        let answer = server.get_with(&path, &[("host", host)]).await;
        assert_problem(&answer, 403, "forbidden-origin");
        assert!(!answer.text.contains("\"tags\""), "{answer:?}");
    }
    for host in [own.as_str(), &localhost] {
        assert_eq!(server.get_with(&path, &[("host", host)]).await.status, 200, "{host}");
    }
    let json = ("content-type", "application/json");
    let body = format!("{{\"image\": \"{name}\"}}");
    for origin in ["https://evil.example", "null", "http://127.0.0.1:1", "file://"] {
        let answer = server.post_with("/api/v1/refresh", &[json, ("origin", origin)], &body).await;
        assert_problem(&answer, 403, "forbidden-origin");
    }
    let same = format!("http://{own}");
    let answer = server.post_with("/api/v1/refresh?wait=30s", &[json, ("origin", &same)], &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = server.post_with("/api/v1/refresh", &[json, ("host", "evil.example")], &body).await;
    assert_problem(&answer, 403, "forbidden-origin");
}

#[tokio::test]
async fn requests_to_refresh_are_bounded() {
    let silent = SilentHost::start().await;
    let name = format!("{}/app", silent.host());
    let server = samovar().serve(watch([&name])).await;
    let mut statuses = Vec::new();
    for number in 0..1200 {
        let answer =
            server.post_json("/api/v1/refresh", &json!({"image": format!("{name}:v{number}")})).await;
        if answer.status != 202 {
            assert_problem(&answer, 503, "busy");
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses[0], 202);
    assert_eq!(statuses.last(), Some(&503), "some bound is reached");
    assert_eq!(server.get("/readyz").await.status, 200);
    let status = server.get("/api/v1/status").await.json();
    assert!(status["warmer"]["queued"].as_u64().is_some_and(|queued| queued >= 100), "{status}");
}
