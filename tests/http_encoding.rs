//! Parts of a repository, content codings, and the validators of each.

mod common;

use std::io::Read as _;

use common::{and, image_path, keys, repository_path, samovar, wait_until_complete, watch};
use samovar_testing::fake::FakeRegistry;
use samovar_testing::{Image, SamovarServer};
use serde_json::{Value, json};

/// More than fits into one packet.
const TAGS: usize = 60;

async fn serve_one() -> (FakeRegistry, SamovarServer, String) {
    let registry = FakeRegistry::start().await;
    for number in 0..TAGS {
        registry.push("team/app", &format!("v{number}"), &Image::new("one").label("number", "1"));
    }
    let name = format!("{}/team/app", registry.host());
    let alias = format!("up={}", registry.host());
    let server = samovar().serve(and(watch([&name]), ["--alias", &alias])).await;
    wait_until_complete(&server, &name).await;
    (registry, server, name)
}

/// An answer whose body may be compressed.
struct Coded {
    status: u16,
    headers: http::HeaderMap,
    body: Vec<u8>,
}

impl Coded {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        let mut text = Vec::new();
        match self.header("content-encoding") {
            None => text.clone_from(&self.body),
            Some("gzip") => _ = flate2::read::GzDecoder::new(&*self.body).read_to_end(&mut text).unwrap(),
            Some("zstd") => text = zstd::decode_all(&*self.body).unwrap(),
            Some(other) => panic!("{other} was not asked for"),
        }
        serde_json::from_slice(&text).unwrap()
    }
}

async fn get(server: &SamovarServer, path: &str, headers: &[(&str, &str)]) -> Coded {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.get(server.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Coded { status, headers, body: response.bytes().await.unwrap().to_vec() }
}

#[tokio::test]
async fn what_is_not_wanted_is_left_out() {
    let (_registry, server, name) = serve_one().await;
    let path = repository_path(&name);
    let whole = server.get(&path).await.json();
    for (fields, expected) in [
        ("tags", &["name", "tags"][..]),
        ("name", &["name"]),
        ("images,unavailable", &["images", "name", "unavailable"]),
        ("complete,generation,last_update,last_error", &["complete", "generation", "last_update", "name"]),
        (
            "name,tags,images,unavailable,complete,generation,last_update,last_error",
            &["complete", "generation", "images", "last_update", "name", "tags", "unavailable"],
        ),
    ] {
        let answer = server.get(&format!("{path}?fields={fields}")).await;
        let body = answer.json();
        assert_eq!(keys(&body), expected, "{fields}");
        for key in expected {
            assert_eq!(body[key], whole[key], "{fields}");
        }
        assert_eq!(answer.header("etag"), Some(format!("W/\"{}\"", whole["generation"]).as_str()));
        assert!(answer.header("age").is_some());
    }
    for bad in ["", "Tags", "tags,", "tags,size", "tags%20", "tags&fields=images"] {
        let answer = server.get(&format!("{path}?fields={bad}")).await;
        assert_eq!(answer.status, 400, "{bad}: {answer:?}");
        assert!(answer.json()["detail"].as_str().unwrap().contains("fields"), "{bad}: {answer:?}");
    }
    let asked = json!({"queries": [{"name": name, "fields": "tags"}, {"name": name, "fields": "none"},
        {"name": name, "fields": 1}, {"name": name, "fields": "tags", "semver": "*"}]});
    let answers = server.post_json("/api/v1/query", &asked).await.json()["answers"].clone();
    assert_eq!(answers[0]["answer"], json!({"name": name, "tags": whole["tags"]}));
    for refused in 1..4 {
        assert_eq!(answers[refused]["status"], 400, "{answers}");
        assert!(answers[refused]["problem"]["detail"].as_str().unwrap().contains("fields"), "{answers}");
    }
}

#[tokio::test]
async fn answers_come_in_the_coding_that_the_client_wants_and_each_has_its_entity_tag() {
    let (_registry, server, name) = serve_one().await;
    let generation = server.get(&repository_path(&name)).await.json()["generation"].clone();
    for path in [
        repository_path(&name),
        format!("{}?fields=tags,images", repository_path(&name)),
        format!("/api/v1/history/{name}"),
        format!("/api/v1/latest/{name}?alphabetical=asc&limit=50"),
        "/v2/up/team/app/tags/list".to_owned(),
        "/v2/up/team/app/tags/list?n=59".to_owned(),
    ] {
        let plain = get(&server, &path, &[]).await;
        assert_eq!(plain.header("vary"), Some("accept-encoding"), "{path}");
        assert_eq!(plain.header("content-encoding"), None, "{path}");
        assert_eq!(plain.header("cache-control"), Some("no-cache"), "{path}");
        if plain.body.len() < 1024 {
            continue;
        }
        for (accepted, coding, suffix) in [
            ("gzip", Some("gzip"), "-gzip"),
            ("gzip, deflate, br, zstd", Some("zstd"), "-zstd"),
            ("zstd;q=0.5, gzip", Some("gzip"), "-gzip"),
            ("br;q=1, *;q=0", None, ""),
            ("gzip;q=0, identity", None, ""),
        ] {
            let answer = get(&server, &path, &[("accept-encoding", accepted)]).await;
            let entity_tag = format!("W/\"{generation}{suffix}\"");
            assert_eq!(
                (answer.status, answer.header("content-encoding")),
                (200, coding),
                "{path} {accepted}"
            );
            assert_eq!(answer.header("etag"), Some(&*entity_tag), "{path} {accepted}");
            assert_eq!(answer.header("vary"), Some("accept-encoding"), "{path} {accepted}");
            assert_eq!(answer.json(), plain.json(), "{path} {accepted}");
            assert!(coding.is_none() || answer.body.len() < plain.body.len() / 2, "{path} {accepted}");

            let known = [("accept-encoding", accepted), ("if-none-match", &entity_tag)];
            let unchanged = get(&server, &path, &known).await;
            assert_eq!((unchanged.status, &*unchanged.body), (304, &b""[..]), "{path} {accepted}");
            assert_eq!(unchanged.header("etag"), Some(&*entity_tag), "{path} {accepted}");
            assert_eq!(unchanged.header("vary"), Some("accept-encoding"), "{path} {accepted}");
        }
    }
    let path = format!("{}?fields=complete", repository_path(&name));
    let short = get(&server, &path, &[("accept-encoding", "gzip")]).await;
    assert_eq!(short.header("content-encoding"), None, "it would not become shorter");
}

#[tokio::test]
async fn an_image_that_the_client_has_is_not_sent_again() {
    let (_registry, server, name) = serve_one().await;
    let path = image_path(&format!("{name}:v1"));
    let image = get(&server, &path, &[]).await;
    let entity_tag = image.header("etag").expect("an entity tag").to_owned();
    assert!(image.header("age").is_some_and(|age| age.parse::<u64>().is_ok()));
    assert_eq!(
        (image.header("cache-control"), image.header("vary")),
        (Some("no-cache"), Some("accept-encoding"))
    );
    let unchanged = get(&server, &path, &[("if-none-match", &entity_tag)]).await;
    assert_eq!((unchanged.status, unchanged.header("etag")), (304, Some(&*entity_tag)));
    assert_eq!(get(&server, &path, &[("if-none-match", "W/\"1\"")]).await.status, 200);
}

#[tokio::test]
async fn an_answer_is_encoded_once_and_never_older_than_what_is_known() {
    let (registry, server, name) = serve_one().await;
    let path = repository_path(&name);
    let made = async || {
        let page = server.get_text("/metrics").await;
        let line = page.lines().find_map(|line| line.strip_prefix("samovar_encoded_answers_made_total "));
        line.unwrap().parse::<u64>().unwrap()
    };
    // The first may still be about what is confirmed just now.
    server.get(&path).await;
    let before = made().await;
    for _ in 0..20 {
        server.get(&path).await;
    }
    assert!(made().await <= before + 1, "twenty answers are one");

    let v99 = registry.push("team/app", "v99", &Image::new("ninety-nine"));
    assert_eq!(common::refresh(&server, &name).await.status, 200);
    let after = server.get(&path).await.json();
    assert_eq!(after["images"]["v99"]["digest"], v99);
    let head = server.get(&format!("{path}?fields=last_update")).await.json();
    assert_eq!(head["last_update"], after["last_update"], "what changes without meaning is as new");
    let again = common::refresh(&server, &name).await.json();
    assert_eq!(again["generation"], after["generation"]);
    assert_ne!(again["last_update"], after["last_update"]);
    assert_eq!(server.get(&path).await.json()["last_update"], again["last_update"]);
}
