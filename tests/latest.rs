//! Tag policies over HTTP and on the command line: what is chosen, why, and what is refused.

mod common;

use std::collections::BTreeMap;

use common::{
    PATIENCE, and, keys, refresh, repository_path, samovar, wait_for_repository, wait_until_complete, watch,
};
use samovar_testing::fake::{Action, FakeRegistry, Fault, RequestKind, dialects};
use samovar_testing::{Answer, Content as _, Image, Index, Samovar, SamovarServer};
use serde_json::{Value, json};

/// What `team/app` has: the tag, when its image was built, and whether it can be fetched.
const TAGS: [(&str, &str, bool); 6] = [
    ("1.0.0", "2024-01-01T00:00:00Z", true),
    ("1.1.0", "2024-06-01T00:00:00Z", true),
    ("1.1.1", "2024-03-01T00:00:00Z", true),
    ("2.0.0", "2024-05-01T00:00:00Z", false),
    ("2.1.0-rc.1", "2024-05-02T00:00:00Z", true),
    ("main-1a2b-100", "2024-07-01T00:00:00Z", true),
];

fn image(tag: &str, created: &str) -> Image {
    Image::new(tag).created(created).label("version", tag)
}

/// A server that keeps `team/app` and a chart, `3.0.0`, warm. `2.0.0` cannot be fetched.
async fn serve_app() -> (FakeRegistry, Samovar, SamovarServer, String) {
    let registry = FakeRegistry::start().await;
    for (tag, created, can_be_fetched) in TAGS {
        registry.push("team/app", tag, &image(tag, created));
        if !can_be_fetched {
            registry.fault(Fault::on(RequestKind::ManifestGet).reference(tag), Action::status(500));
        }
    }
    let chart = "application/vnd.cncf.helm.config.v1+json";
    registry.push("team/app", "3.0.0", &Image::new("chart").config_media_type(chart));
    let name = format!("{}/team/app", registry.host());
    let samovar = samovar();
    let server = samovar.serve(watch([&name])).await;
    let is_settled = |repository: &Value| {
        repository["images"].as_object().is_some_and(|images| images.len() == 5)
            && repository["unavailable"]["2.0.0"]["state"] == "failed"
            && repository["unavailable"]["3.0.0"]["state"] == "excluded"
    };
    wait_for_repository(&server, &name, is_settled).await;
    (registry, samovar, server, name)
}

fn latest_path(name: &str, parameters: &[(&str, &str)]) -> String {
    let query = encoded_query(parameters);
    format!("/api/v1/latest/{name}?{query}")
}

/// The parameters, percent-encoded.
fn encoded_query(parameters: &[(&str, &str)]) -> String {
    let encoded = |text: &str| -> String {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let encode = |byte: u8| {
            if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
        };
        text.bytes().map(encode).collect()
    };
    let pairs: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    pairs.join("&")
}

async fn latest(server: &SamovarServer, name: &str, parameters: &[(&str, &str)]) -> Value {
    let answer = server.get(&latest_path(name, parameters)).await;
    assert_eq!(answer.status, 200, "{parameters:?}: {answer:?}");
    answer.json()
}

fn tags(answer: &Value) -> Vec<&str> {
    let tags = answer["tags"].as_array().expect("a list").iter();
    tags.map(|tag| tag["tag"].as_str().expect("a tag")).collect()
}

#[track_caller]
fn assert_problem(answer: &Answer, status: u16, problem_type: &str, said: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let problem = answer.json();
    assert_eq!((&problem["type"], &problem["status"]), (&json!(problem_type), &json!(status)), "{answer:?}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(said)), "{said}: {answer:?}");
    assert_eq!(answer.header("retry-after").is_some(), status == 503, "{answer:?}");
}

#[tokio::test]
async fn each_order_chooses_its_best_and_says_why() {
    let (_registry, _samovar, server, name) = serve_app().await;
    let answer = latest(&server, &name, &[("semver", "^1.0")]).await;
    assert_eq!(keys(&answer), ["complete", "left_out", "matched", "name", "tags"]);
    assert_eq!(
        (&answer["name"], &answer["matched"], &answer["complete"]),
        (&json!(name), &json!(3), &json!(true))
    );
    assert_eq!(answer["left_out"], json!({}));
    let best = &answer["tags"][0];
    let image = server.get(&common::image_path(&format!("{name}:1.1.1"))).await.json();
    let mut expected = image.as_object().expect("an object").clone();
    expected.insert("tag".to_owned(), json!("1.1.1"));
    assert_eq!(best, &Value::Object(expected), "the image, and the tag");

    for (parameters, expected) in [
        (&[("semver", "^1.0"), ("limit", "2")][..], &["1.1.1", "1.1.0"][..]),
        (&[("semver", ">=2-0"), ("filter", "rc")], &["2.1.0-rc.1"]),
        (&[("semver", "*"), ("exclude", r"^2\."), ("exclude", r"\.1$")], &["1.1.0"]),
        (&[("alphabetical", "asc")], &["main-1a2b-100"]),
        (&[("alphabetical", "desc"), ("limit", "2")], &["1.0.0", "1.1.0"]),
        (
            &[("numerical", "asc"), ("filter", r"^(\d)\.(\d)\.\d$"), ("filter", "^1"), ("extract", "$2.$1")],
            &["1.1.1"],
        ),
        (
            &[("numerical", "asc"), ("filter", "^main-(?P<sha>.+)-(?P<n>[0-9]+)$"), ("extract", "${n}")],
            &["main-1a2b-100"],
        ),
        (&[("newest", "created"), ("exclude", "^main"), ("limit", "3")], &["1.1.0", "2.1.0-rc.1", "1.1.1"]),
        (&[("newest", "created"), ("label", "version=1.0.0")], &["1.0.0"]),
        (&[("semver", "*"), ("platform", "linux/s390x")], &[]),
        (&[("semver", ">=1.0 <1.1 || 1.1.0 - 1.1.0")], &["1.1.0"]),
    ] {
        let answer = latest(&server, &name, parameters).await;
        assert_eq!(tags(&answer), expected, "{parameters:?}: {answer}");
    }
    // As people write them.
    for query in
        ["semver=^1", "semver=~1.1||^9", "semver=1.x", "semver=*&filter=^1\\.1\\.1$&exclude=(a|b)[c]{2}"]
    {
        let answer = server.get(&format!("/api/v1/latest/{name}?{query}")).await;
        assert_eq!((answer.status, tags(&answer.json())), (200, vec!["1.1.1"]), "{query}: {answer:?}");
    }
}

#[tokio::test]
async fn what_is_missing_is_never_a_silent_step_back() {
    let (registry, _samovar, server, name) = serve_app().await;
    // By its name 2.0.0 is the best, whatever is behind it. What is no image cannot be.
    let answer = latest(&server, &name, &[("semver", "*"), ("limit", "2")]).await;
    assert_eq!((tags(&answer), &answer["complete"]), (vec!["2.0.0", "1.1.1"], &json!(false)));
    assert_eq!(keys(&answer["tags"][0]), ["id", "tag", "unavailable"]);
    assert_eq!(answer["tags"][0]["id"], format!("{name}:2.0.0"));
    assert_eq!(answer["tags"][0]["unavailable"]["state"], "failed");
    assert_eq!(keys(&answer["left_out"]), ["3.0.0"]);
    assert!(
        answer["left_out"]["3.0.0"].as_str().is_some_and(|why| why.starts_with("excluded: ")),
        "{answer}"
    );

    let newest = [("newest", "created"), ("filter", r"^\d"), ("require_complete", "true")];
    let answer = latest(&server, &name, &newest[..2]).await;
    assert_eq!((tags(&answer), &answer["complete"]), (vec!["1.1.0"], &json!(false)));
    assert_eq!(keys(&answer["left_out"]), ["2.0.0", "3.0.0"]);
    for refused in [&newest[..], &[("semver", "*"), ("require_complete", "true")]] {
        let answer = server.get(&latest_path(&name, refused)).await;
        assert_problem(&answer, 503, "incomplete", "2.0.0");
        let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "when the tag is tried again: {answer:?}");
    }
    // What is missing makes no difference to these.
    for complete in [
        &[("semver", "<2"), ("require_complete", "true")][..],
        &[("alphabetical", "asc"), ("require_complete", "true")],
        &[("newest", "created"), ("filter", "^1"), ("require_complete", "true")],
        &[("semver", "<2"), ("platform", "linux/amd64"), ("require_complete", "true")],
    ] {
        assert_eq!(latest(&server, &name, complete).await["complete"], true, "{complete:?}");
    }

    registry.clear_faults();
    assert_eq!(refresh(&server, &format!("{name}:2.0.0")).await.status, 200);
    assert_eq!(tags(&latest(&server, &name, &newest).await), ["1.1.0"]);
    let answer = latest(&server, &name, &[("semver", "*"), ("require_complete", "true")]).await;
    assert_eq!(answer["tags"][0]["digest"], image("2.0.0", TAGS[3].1).digest());
}

#[tokio::test]
async fn platforms_are_those_that_an_index_offers() {
    let registry = FakeRegistry::start().await;
    let of = |seed: &str, platform: &str| Image::new(seed).platform(platform);
    registry.push("app", "1.0.0", &Index::of([&of("a", "linux/amd64"), &of("b", "linux/arm64")]));
    registry.push("app", "1.1.0", &Index::of([&of("c", "linux/amd64")]));
    let name = format!("{}/app", registry.host());
    let server = samovar().serve(watch([&name])).await;
    wait_until_complete(&server, &name).await;
    let answer = latest(&server, &name, &[("semver", "*"), ("platform", "linux/arm64")]).await;
    assert_eq!((tags(&answer), &answer["matched"]), (vec!["1.0.0"], &json!(1)));
    assert_eq!(answer["left_out"], json!({"1.1.0": "platform: does not offer linux/arm64"}));
}

#[tokio::test]
async fn an_age_is_waited_for_and_one_that_nobody_knows_is_not_made_up() {
    let (registry, _samovar, server, name) = serve_app().await;
    registry.push("team/app", "1.2.0", &image("1.2.0", "2020-01-01T00:00:00Z"));
    assert_eq!(refresh(&server, &name).await.status, 200);
    let of = |min_age: &'static str| [("semver", "^1"), ("min_age", min_age)];
    let young = latest(&server, &name, &of("7d")).await;
    assert_eq!((tags(&young), &young["complete"]), (vec![], &json!(false)));
    let why = |tag: &str| young["left_out"][tag].as_str().unwrap_or_default().to_owned();
    assert!(why("1.2.0").starts_with("too-young: until 20"), "{young}");
    assert!(why("1.1.1").starts_with("unknown-age"), "{young}");
    assert_eq!(tags(&latest(&server, &name, &of("0s")).await), ["1.2.0"]);
    let created = [of("7d").as_slice(), &[("min_age_by", "created")]].concat();
    assert_eq!(tags(&latest(&server, &name, &created).await), ["1.2.0"], "its publisher says so");
    assert_eq!(tags(&latest(&server, &name, &[("newest", "first_seen")]).await), ["1.2.0"]);

    let answer = server.get(&latest_path(&name, &of("7d"))).await;
    assert_eq!(answer.header("etag"), None, "it changes without the repository");
}

#[tokio::test]
async fn a_tag_that_moves_is_as_young_as_what_it_points_at() {
    let (registry, _samovar, server, name) = serve_app().await;
    let moved_to = async |seed: &str| {
        registry.push("team/app", "1.2.0", &Image::new(seed));
        assert_eq!(refresh(&server, &name).await.status, 200);
        let young = latest(&server, &name, &[("semver", "1.2.x"), ("min_age", "7d")]).await;
        let why = young["left_out"]["1.2.0"].as_str().expect("it is too young").to_owned();
        let (_, until) = why.split_once("too-young: until ").unwrap_or_else(|| panic!("{why}"));
        until.to_owned()
    };
    let first = moved_to("first").await;
    let second = moved_to("second").await;
    assert!(second > first, "{second} after {first}");
    let image = &latest(&server, &name, &[("semver", "1.2.x")]).await["tags"][0];
    assert!(image["first_seen"].as_str().is_some_and(|seen| seen < second.as_str()), "{image}");
}

#[tokio::test]
async fn a_build_time_is_that_of_labels_where_they_are_believed() {
    let registry = FakeRegistry::start().await;
    let label = "org.opencontainers.image.created";
    let image = |tag: &str, built: &str| Image::new(tag).created("1970-01-01T00:00:00Z").label(label, built);
    registry.push("app", "a", &image("a", "2024-02-01T00:00:00Z"));
    registry.push("app", "b", &image("b", "2024-01-01T00:00:00Z"));
    let name = format!("{}/app", registry.host());
    for (labels, expected) in [(&["--timestamp-labels", "*/app"][..], ["a", "b"]), (&[], ["b", "a"])] {
        let server = samovar().serve(and(watch([&name]), labels)).await;
        wait_until_complete(&server, &name).await;
        let newest = latest(&server, &name, &[("newest", "created"), ("limit", "2")]).await;
        assert_eq!(tags(&newest), expected);
    }
}

#[tokio::test]
async fn pushed_times_are_those_that_the_registry_tells() {
    let registry = FakeRegistry::start().await;
    registry.speak(&dialects::gar::dialect());
    for (millisecond, tag) in [(1_700_000_000_000, "b"), (1_700_000_500_000, "c"), (1_700_001_000_000, "a")] {
        registry.push_from(millisecond);
        registry.push("team/app", tag, &Image::new(tag));
    }
    let name = format!("{}/team/app", registry.host());
    let samovar = samovar();
    let host = registry.host();
    let text = format!(
        "watch = ['{name}']\ninsecure_host = ['{host}']\nrps = 10000\nburst = 1000\n[hosts.'{host}']\nlisting = 'google'\n"
    );
    let file = samovar.write_file("samovar.toml", &text);
    let server = samovar.serve(["--config".as_ref(), file.as_os_str()]).await;
    let newest = latest_path(&name, &[("newest", "pushed"), ("limit", "3"), ("require_complete", "true")]);
    let answer = server.wait_until(&newest, |answer| answer.status == 200, PATIENCE).await.json();
    assert_eq!(tags(&answer), ["a", "c", "b"]);
    let aged = latest(&server, &name, &[("alphabetical", "asc"), ("min_age", "30d")]).await;
    assert_eq!(tags(&aged), ["c"], "of the first listing, but pushed long ago");
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let (registry, _samovar, server, name) = serve_app().await;
    let path = latest_path(&name, &[("semver", "^1")]);
    let etag = server.get(&path).await.header("etag").expect("an entity tag").to_owned();
    let unchanged = server.get_with(&path, &[("if-none-match", &etag)]).await;
    assert_eq!((unchanged.status, unchanged.text.as_str()), (304, ""));
    registry.push("team/app", "1.9.0", &image("1.9.0", "2024-08-01T00:00:00Z"));
    assert_eq!(refresh(&server, &name).await.status, 200);
    let changed = server.get_with(&path, &[("if-none-match", &etag)]).await;
    assert_eq!((changed.status, tags(&changed.json())), (200, vec!["1.9.0"]));
    assert_ne!(changed.header("etag"), Some(etag.as_str()));
}

#[tokio::test]
async fn what_makes_no_sense_is_a_problem_with_its_name() {
    let (registry, _samovar, server, name) = serve_app().await;
    for (query, said) in [
        ("", "exactly one of semver"),
        ("semver=%5E1&newest=created", "newest: cannot be given together"),
        ("semver=%5E1&semver=%5E2", "semver: is given more than once"),
        ("semver=foo", "is no range of versions"),
        ("semver=%5E1&filter=%28", "filter: \"(\" is no regular expression: unclosed group"),
        ("semver=%5E1&filter=%28a%7B1%2C999%7D%29%7B999%7D", "is no regular expression"),
        ("semver=%5E1&colour=red", "\"colour\": no such parameter"),
        ("semver=%5E1&wait=1s", "\"wait\": no such parameter"),
        ("semver=%5E1&min_age=soon", "min_age: "),
        ("semver=%5E1&limit=0", "limit: must be from 1 to 1000"),
        ("semver=%5E1&platform=linux", "platform: "),
        ("semver=%FF", "is no range of versions"),
    ] {
        let answer = server.get(&format!("/api/v1/latest/{name}?{query}")).await;
        assert_problem(&answer, 400, "bad-request", said);
    }
    assert_problem(&server.get("/api/v1/latest/UPPER/case?semver=1").await, 400, "bad-request", "");
    let other = format!("{}/other", registry.host());
    assert_problem(&server.get(&latest_path(&other, &[("semver", "*")])).await, 404, "not-watched", "");
    assert_eq!(server.post_json(&latest_path(&name, &[("semver", "*")]), &json!({})).await.status, 405);
}

#[tokio::test]
async fn a_repository_that_was_never_listed_or_begins_now_is_told_apart() {
    let registry = FakeRegistry::start().await;
    registry.push("team/app", "1.0.0", &Image::new("1"));
    registry.push("silent", "1.0.0", &Image::new("1"));
    registry.fault(Fault::on(RequestKind::Tags).repository("silent"), Action::HangBeforeHeader);
    let silent = format!("{}/silent", registry.host());
    let samovar = samovar();
    let allow = format!("[on_demand]\nallow = [\"{}/team/*\"]\n", registry.host());
    let file = samovar.write_file("samovar.toml", &allow);
    let config = ["--config".to_owned(), file.display().to_string()];
    let server = samovar.serve(and(watch([&silent]), config)).await;
    let silent_path = latest_path(&silent, &[("semver", "*")]);
    assert_problem(&server.get(&silent_path).await, 503, "never-listed", "not been listed");
    let app = format!("{}/team/app", registry.host());
    let path = latest_path(&app, &[("semver", "*")]);
    let first = server.get(&path).await;
    assert_eq!((first.status, &first.json()["status"]), (202, &json!("accepted")));
    assert!(first.header("retry-after").is_some());
    let found = server.wait_until(&path, |answer| answer.status == 200, PATIENCE).await;
    assert_eq!(tags(&found.json()), ["1.0.0"]);
}

#[tokio::test]
async fn many_questions_are_answered_in_their_order_each_by_itself() {
    let (registry, _samovar, server, name) = serve_app().await;
    let other = format!("{}/other", registry.host());
    let mut queries = vec![
        json!({"name": name, "semver": "^1", "limit": 2}),
        json!({"name": other, "semver": "*"}),
        json!({"name": name}),
        json!({"name": name, "newest": "created", "filter": ["^[0-9]", "0$"], "require_complete": true}),
        json!({"name": name, "filter": "("}),
        json!({"semver": "*"}),
        json!({"name": 7}),
        json!({"name": "UPPER"}),
        json!({"name": name, "semver": null}),
        json!({"name": name, "semver": {"range": "*"}}),
    ];
    // More than any other request may send.
    queries.resize(1000, json!({"name": name, "alphabetical": "desc", "exclude": ["-rc", "^main"]}));
    let answer = server.post_json("/api/v1/query", &json!({ "queries": queries })).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{answer:?}");
    let body = answer.json();
    assert_eq!(keys(&body), ["answers"]);
    let answers = body["answers"].as_array().expect("a list");
    assert_eq!(answers.len(), 1000);
    let statuses: Vec<_> = answers[..11].iter().map(|answer| answer["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 404, 200, 503, 400, 400, 400, 400, 400, 400, 200]);

    let alone = server.get(&latest_path(&name, &[("semver", "^1"), ("limit", "2")])).await;
    assert_eq!(answers[0]["answer"], alone.json());
    assert_eq!((&answers[0]["name"], answers[0]["etag"].as_str()), (&json!(name), alone.header("etag")));
    assert_eq!(answers[1]["problem"]["type"], "not-watched");
    assert_eq!(answers[2]["answer"]["tags"], server.get(&repository_path(&name)).await.json()["tags"]);
    assert_eq!(answers[3]["problem"]["type"], "incomplete");
    assert!(answers[3]["retry_after"].as_u64().is_some_and(|seconds| seconds > 0), "{}", answers[3]);
    for (answer, said) in answers[4..10].iter().zip([
        "policy: exactly one",
        "name: is missing",
        "name: must be a string",
        "UPPER",
        "a parameter must be",
        "a parameter must be",
    ]) {
        let detail = answer["problem"]["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(said), "{said}: {answer}");
    }
    assert!(answers[10..].iter().all(|answer| tags(&answer["answer"]) == ["1.0.0"]));
}

#[tokio::test]
async fn a_batch_is_bounded_and_read_strictly() {
    let (_registry, _samovar, server, name) = serve_app().await;
    let path = "/api/v1/query";
    let too_many = json!({ "queries": vec![json!({ "name": name }); 1001] });
    assert_problem(&server.post_json(path, &too_many).await, 400, "bad-request", "at most 1000");
    for body in [
        json!({}),
        json!([]),
        json!({"queries": {}}),
        json!({"queries": [1]}),
        json!({"queries": [], "more": 1}),
    ] {
        assert_problem(&server.post_json(path, &body).await, 400, "bad-request", "");
    }
    assert_eq!(server.post_json(path, &json!({"queries": []})).await.json(), json!({"answers": []}));
    assert_problem(
        &server.post_json(&format!("{path}?a=b"), &json!({"queries": []})).await,
        400,
        "bad-request",
        "a",
    );
    let plain = server.post_with(path, &[("content-type", "text/plain")], "{\"queries\": []}").await;
    assert_problem(&plain, 415, "unsupported-media-type", "");
    let huge = json!({ "queries": [{"name": "a".repeat(1024 * 1024)}] });
    assert_problem(&server.post_json(path, &huge).await, 413, "body-too-large", "");
    assert_eq!(server.get(path).await.status, 405);
}

#[tokio::test]
async fn answers_for_which_there_is_no_room_are_left_out_one_by_one() {
    let registry = FakeRegistry::start().await;
    for number in 0..10 {
        let image = Image::new(number.to_string()).label("large", "x".repeat(60_000));
        registry.push("large", &format!("1.{number}.0"), &image);
    }
    let name = format!("{}/large", registry.host());
    let server = samovar().serve(watch([&name])).await;
    wait_until_complete(&server, &name).await;
    let mut queries = vec![json!({ "name": name }); 120];
    queries.push(json!({"name": name, "semver": "^9"}));
    let answer = server.post_json("/api/v1/query", &json!({ "queries": queries })).await;
    assert_eq!(answer.status, 200);
    let count = |text: &str| answer.text.matches(text).count();
    let (answered, refused) = (count("\"status\":200,"), count("\"type\":\"answer-too-large\""));
    assert_eq!(answered + refused, 121);
    assert!((105..=112).contains(&answered), "about 64 MiB: {answered}");
    assert!(
        answer.text.ends_with("\"matched\":0,\"complete\":true,\"tags\":[],\"left_out\":{}}}]}"),
        "small ones still fit"
    );
}

#[tokio::test]
async fn the_command_prints_the_best_or_ends_with_3() {
    let (_registry, samovar, server, name) = serve_app().await;
    let url = server.url("");
    let ask = async |arguments: &[&str]| {
        let mut all = vec!["latest", name.as_str(), "--server", url.as_str()];
        all.extend(arguments);
        samovar.run(all).await
    };
    let best = ask(&["--semver", "^1", "--limit", "2", "--exclude", "rc"]).await;
    assert_eq!(best.code, Some(0), "{best:?}");
    let rows: Vec<Vec<&str>> = best.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((rows[0][0], rows[1][0], rows[2][0]), ("TAG", "1.1.1", "1.1.0"), "{best:?}");
    assert!(rows[1].contains(&"2024-03-01T00:00:00Z") && rows[1].contains(&"linux/amd64"), "{best:?}");

    let json = ask(&["--newest", "created", "--filter", "^main-(.*)", "--output", "json"]).await;
    assert_eq!(json.json()["tags"][0]["tag"], "main-1a2b-100");
    let by_number = ask(&["--numerical", "asc", "--filter", "-([0-9]+)$", "--extract", "$1"]).await;
    assert!(by_number.stdout.contains("main-1a2b-100"), "{by_number:?}");

    let incomplete = ask(&["--newest", "created", "--filter", "^[0-9]"]).await;
    assert!(incomplete.stdout.contains("1.1.0") && incomplete.stderr.contains("warning: "), "{incomplete:?}");
    assert!(incomplete.stderr.contains("2.0.0 (failed"), "{incomplete:?}");
    for (arguments, said) in [
        (&["--newest", "created", "--filter", "^[0-9]", "--require-complete"][..], "2.0.0"),
        (&["--semver", "^9"], "no tag of"),
        (
            &["--semver", "*", "--platform", "linux/s390x", "--label", "!a", "--strict", "--no-partial"],
            "left out: ",
        ),
    ] {
        let output = ask(arguments).await;
        assert_eq!((output.code, output.stdout.as_str()), (Some(3), ""), "{output:?}");
        assert!(output.stderr.contains(said) && output.stderr.contains("hint: "), "{output:?}");
    }
    for arguments in [
        &[][..],
        &["--semver", "^1", "--newest", "created"],
        &["--semver", "foo"],
        &["--newest", "created", "--strict"],
        &["--semver", "^1", "--extract", "$1"],
        &["--semver", "^1", "--min-age", "soon"],
        &["--semver", "^1", "--min-age-by", "pushed"],
    ] {
        let output = ask(arguments).await;
        assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{arguments:?}: {output:?}");
    }
}

#[tokio::test]
async fn answers_are_counted_by_route() {
    let (_registry, _samovar, server, name) = serve_app().await;
    latest(&server, &name, &[("semver", "*")]).await;
    server.post_json("/api/v1/query", &json!({"queries": []})).await;
    let metrics = server.get_text("/metrics").await;
    let counted: BTreeMap<&str, &str> = metrics.lines().filter_map(|line| line.rsplit_once(' ')).collect();
    for route in ["/api/v1/latest/{*name}", "/api/v1/query"] {
        let series = format!("samovar_http_requests_total{{code=\"200\",route=\"{route}\"}}");
        assert_eq!(counted.get(series.as_str()), Some(&"1"), "{route}");
    }
}
