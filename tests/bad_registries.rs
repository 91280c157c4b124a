//! Registries that lie, hang, flood or lose things: what is good goes on, what is bad is said, and nothing is lost.

mod common;

use std::time::Duration;

use common::{
    and, image_path, keys, length, refresh, repository, repository_path, samovar, wait_for_repository,
    wait_until_complete, watch,
};
use samovar_testing::fake::{Action, FakeRegistry, Fault, RequestKind, SilentHost};
use samovar_testing::{
    Answer, Content as _, DockerRegistry, Document, Image, Samovar, SamovarServer, media_type,
};
use serde_json::{Value, json};

/// Timeouts that a test can wait for.
fn impatient(samovar: &Samovar) -> [String; 2] {
    let text = "[upstream]\nconnect_timeout = '500ms'\nheader_timeout = '500ms'\nbody_timeout = '500ms'\n\
                total_timeout = '3s'\n";
    ["--config".to_owned(), samovar.write_file("impatient.toml", text).display().to_string()]
}

/// A repository `app` of tags `v0`, `v1` and so on.
async fn registry_with_tags(tags: usize) -> (FakeRegistry, String) {
    let registry = FakeRegistry::start().await;
    for number in 0..tags {
        registry.push("app", &format!("v{number}"), &Image::new(number.to_string()));
    }
    let name = format!("{}/app", registry.host());
    (registry, name)
}

/// Waits until every tag has been asked about, and it is said when those without an image are asked about again.
async fn wait_until_settled(server: &SamovarServer, name: &str, tags: usize) -> Value {
    wait_for_repository(server, name, |found| {
        let mut unavailable = found["unavailable"].as_object().into_iter().flat_map(|tags| tags.values());
        length(&found["tags"]) == tags
            && unavailable.all(|tag| tag["state"] != "pending" && tag["next_attempt"].is_string())
    })
    .await
}

/// Digest by tag.
fn digests(repository: &Value) -> Vec<(&str, &str)> {
    let images = repository["images"].as_object().expect("an object");
    images.iter().map(|(tag, image)| (tag.as_str(), image["digest"].as_str().expect("a digest"))).collect()
}

fn assert_problem(answer: &Answer, status: u16, problem_type: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.json()["type"], problem_type, "{answer:?}");
    assert_eq!(answer.header("retry-after").is_some(), status == 503, "{answer:?}");
}

#[tokio::test]
async fn one_lost_manifest_among_fifty_leaves_forty_nine() {
    let registry = DockerRegistry::start().await;
    let tags: Vec<_> = (0..50).map(|tag| (format!("v{tag}"), Image::new(tag.to_string()))).collect();
    registry.push_all("app", &tags).await;
    registry.lose_manifest("app", &tags[17].1.digest());
    let name = format!("{}/app", registry.host());
    let server = samovar().serve(watch([&name])).await;
    let repository = wait_until_settled(&server, &name, 50).await;
    assert_eq!(length(&repository["images"]), 49);
    assert_eq!(keys(&repository["unavailable"]), ["v17"]);
    let lost = &repository["unavailable"]["v17"];
    assert_eq!(lost["state"], "unknown");
    assert!(lost["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{lost}");
    assert!(lost["since"].is_string() && lost["next_attempt"].is_string(), "{lost}");
    assert_eq!(repository["complete"], true, "the registry has answered for every tag");
    assert!(repository.get("last_error").is_none(), "the list is good: {repository}");
    assert_problem(&server.get(&image_path(&format!("{name}:v17"))).await, 404, "unknown");
}

// D3 of the ancestor's ledger: one failing tag froze its whole repository, without a word.
#[tokio::test]
async fn one_failing_tag_among_fifty_leaves_forty_nine_and_recovers() {
    let (registry, name) = registry_with_tags(50).await;
    registry.fault(Fault::on(RequestKind::ManifestGet).reference("v17"), Action::status(500));
    let server = samovar().serve(watch([&name])).await;
    let found = wait_until_settled(&server, &name, 50).await;
    assert_eq!(length(&found["images"]), 49);
    let failed = &found["unavailable"]["v17"];
    assert_eq!((&failed["state"], &failed["attempts"]), (&json!("failed"), &json!(1)), "{failed}");
    assert!(failed["reason"].as_str().is_some_and(|reason| reason.contains("500")), "{failed}");
    assert!(failed["since"].is_string() && failed["next_attempt"].is_string(), "{failed}");
    assert_eq!(found["complete"], false);
    assert_problem(&server.get(&image_path(&format!("{name}:v17"))).await, 503, "failed");
    let asked =
        registry.requests().iter().filter(|request| request.reference.as_deref() == Some("v17")).count();
    assert!((1..=2).contains(&asked), "at most one immediate retry: {asked}");

    registry.clear_faults();
    assert_eq!(refresh(&server, &format!("{name}:v17")).await.status, 200);
    let found = repository(&server, &name).await;
    assert_eq!((length(&found["images"]), &found["complete"]), (50, &json!(true)));
    assert_eq!(found["unavailable"], json!({}));
}

// D2 of the ancestor's ledger: no timeout held, and one registry that hung stopped the only loop.
#[tokio::test]
async fn a_host_that_never_answers_delays_nobody_else() {
    let silent = SilentHost::start().await;
    let (_registry, good) = registry_with_tags(50).await;
    let mute: Vec<String> = (0..20).map(|number| format!("{}/app-{number}", silent.host())).collect();
    let server = samovar().serve(watch(mute.iter().chain([&good]))).await;
    let is_complete = |answer: &Answer| answer.status == 200 && answer.json()["complete"] == true;
    // A fraction of the time after which the silent host is given up for the first time.
    server.wait_until(&repository_path(&good), is_complete, Duration::from_secs(10)).await;
    silent.wait_for_connections(1).await;
    assert_problem(&server.get(&repository_path(&mute[0])).await, 503, "never-listed");
    assert_eq!(server.get("/readyz").await.status, 200);
    let listed = server.get("/api/v1/repositories").await.json();
    assert_eq!(length(&listed["repositories"]), 21);
}

// D13 of the ancestor's ledger: a host that could not be connected to left no trace.
#[tokio::test]
async fn a_host_that_never_answers_is_shown_with_its_error() {
    let silent = SilentHost::start().await;
    let samovar = samovar();
    let name = format!("{}/app", silent.host());
    let server = samovar.serve(and(watch([&name]), impatient(&samovar))).await;
    let has_error = |answer: &Answer| answer.json()["last_error"].is_object();
    let answer = server.wait_until(&repository_path(&name), has_error, common::PATIENCE).await;
    assert_problem(&answer, 503, "never-listed");
    assert!(answer.json()["last_error"]["at"].is_string());
    let row = &server.get("/api/v1/repositories").await.json()["repositories"][0];
    assert_eq!((&row["name"], &row["tag_count"], &row["complete"]), (&json!(name), &json!(0), &json!(false)));
    assert!(row["last_error"]["message"].is_string(), "{row}");
}

// D7 of the ancestor's ledger: a configuration that could not be read was kept as an image without any properties.
#[tokio::test]
async fn every_bad_manifest_and_configuration_is_a_failed_tag_with_its_reason() {
    let (registry, name) = registry_with_tags(5).await;
    let bad_json = Document::new(media_type::OCI_MANIFEST, "{\"schemaVersion\": 2,");
    registry.push("app", "bad-json", &bad_json);
    registry.push("app", "bad-config", &Image::new("").config_bytes("{\"os\": "));
    let large = vec![b' '; 5 * 1024 * 1024];
    registry.push("app", "large", &Document::new(media_type::OCI_MANIFEST, large));
    let on_manifest = |tag: &str| Fault::on(RequestKind::ManifestGet).reference(tag);
    let mut bad = vec!["bad-json", "bad-config", "large"];
    for (tag, action) in [
        ("wrong-bytes", Action::WrongBytes),
        ("wrong-digest", Action::WrongDigestHeader),
        ("cut", Action::CutBody { after: 100 }),
        ("endless", Action::EndlessBody),
        ("hangs", Action::HangBeforeHeader),
        ("hangs-in-body", Action::HangInBody { after: 100 }),
        ("closed", Action::CloseConnection),
    ] {
        registry.push("app", tag, &Image::new(tag));
        registry.fault(on_manifest(tag), action);
        bad.push(tag);
    }
    for (tag, action) in [
        ("wrong-config", Action::WrongBytes),
        ("cut-config", Action::CutBody { after: 10 }),
        ("endless-config", Action::EndlessBody),
        ("hanging-config", Action::HangInBody { after: 10 }),
        ("refused-config", Action::status(403)),
    ] {
        let image = Image::new(tag);
        registry.push("app", tag, &image);
        registry.fault(Fault::on(RequestKind::Blob).reference(image.config().digest), action);
        bad.push(tag);
    }
    let lost = Image::new("lost");
    registry.push("app", "lost-config", &lost);
    registry.remove_blob("app", &lost.config().digest);
    bad.push("lost-config");
    bad.sort_unstable();

    let samovar = samovar();
    let server = samovar.serve(and(watch([&name]), impatient(&samovar))).await;
    let found = wait_until_settled(&server, &name, 5 + bad.len()).await;
    assert_eq!(keys(&found["images"]), ["v0", "v1", "v2", "v3", "v4"]);
    assert_eq!(keys(&found["unavailable"]), bad);
    for tag in bad {
        let unavailable = &found["unavailable"][tag];
        assert_eq!(unavailable["state"], "failed", "{tag}: {unavailable}");
        assert!(
            unavailable["reason"].as_str().is_some_and(|reason| reason.len() > 10),
            "{tag}: {unavailable}"
        );
    }
    assert!(peak_memory(&server) < 256, "{} MiB", peak_memory(&server));
}

/// The most memory that the process ever had, in MiB.
fn peak_memory(server: &SamovarServer) -> usize {
    let path = format!("/proc/{}/status", server.pid());
    let status = std::fs::read_to_string(path).expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says it");
    let kibibytes: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes / 1024
}

#[tokio::test]
async fn no_bad_list_replaces_a_good_one() {
    let (registry, name) = registry_with_tags(5).await;
    let samovar = samovar();
    let server = samovar.serve(and(watch([&name]), impatient(&samovar))).await;
    let good = wait_until_complete(&server, &name).await;
    let on_list = || Fault::on(RequestKind::Tags);
    let second_page = on_list().query_containing("last=");
    for (what, fault, action) in [
        ("malformed", on_list(), Action::body("application/json", "{\"tags\": [\"v0\"")),
        ("not a list", on_list(), Action::body("application/json", "{}")),
        ("a page for people", on_list(), Action::body("text/html", "<html>welcome</html>")),
        ("cut", on_list(), Action::CutBody { after: 12 }),
        ("endless", on_list(), Action::EndlessBody),
        ("endless pages", on_list(), Action::EndlessPages),
        ("the same page again and again", on_list(), Action::RepeatedPage),
        ("hanging", on_list(), Action::HangBeforeHeader),
        ("hanging half way", on_list(), Action::HangInBody { after: 12 }),
        ("an error", on_list(), Action::status(503)),
        ("an error half way", second_page.clone(), Action::status(500)),
        ("not found half way", second_page.clone(), Action::status(404)),
        ("malformed half way", second_page, Action::body("application/json", "[]")),
        ("refused", on_list(), Action::status(403)),
        ("unknown user", on_list(), Action::status(401)),
    ] {
        registry.page_size(2);
        registry.fault(fault, action);
        let answer = refresh(&server, &name).await;
        assert_problem(&answer, 502, "refresh-failed");
        let kept = repository(&server, &name).await;
        assert_eq!(digests(&kept), digests(&good), "{what}");
        assert_eq!(kept["tags"], good["tags"], "{what}");
        let error = &kept["last_error"];
        assert!(error["message"].as_str().is_some_and(|text| text.len() > 10), "{what}: {error}");
        assert!(error["at"].is_string(), "{what}: {error}");
        registry.clear_faults();
    }
    assert!(peak_memory(&server) < 256, "{} MiB", peak_memory(&server));
    let answer = refresh(&server, &name).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.json().get("last_error").is_none(), "recovered: {answer:?}");
    assert_eq!(answer.json()["complete"], true);
}

#[tokio::test]
async fn a_registry_that_goes_away_and_comes_back() {
    let mut registry = DockerRegistry::start().await;
    let digest = registry.push("app", "v1", &Image::new("1")).await;
    let name = format!("{}/app", registry.host());
    let samovar = samovar();
    let mut server = samovar.serve(watch([&name])).await;
    wait_until_complete(&server, &name).await;
    registry.stop().await;
    assert_problem(&refresh(&server, &name).await, 502, "refresh-failed");
    assert!(repository(&server, &name).await["last_error"]["message"].is_string());
    // Also with the registry away, a restart answers at once.
    server.terminate().await;
    let server = samovar.serve(watch([&name])).await;
    let kept = repository(&server, &name).await;
    assert_eq!(kept["images"]["v1"]["digest"], digest);
    assert!(kept["last_error"]["at"].is_string(), "{kept}");
    registry.restart().await;
    let answer = refresh(&server, &name).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.json().get("last_error").is_none());
}

#[tokio::test]
async fn a_list_that_lost_most_of_its_tags_must_say_so_again_later() {
    let (registry, name) = registry_with_tags(50).await;
    let server = samovar().serve(and(watch([&name]), ["--poll-interval", "4s"])).await;
    let good = wait_until_complete(&server, &name).await;
    for tag in 3..50 {
        registry.remove_tag("app", &format!("v{tag}"));
    }
    // A second list at once says no more than the first.
    for _ in 0..2 {
        refresh(&server, &name).await;
        let held = repository(&server, &name).await;
        assert_eq!(held["tags"], good["tags"]);
        assert_eq!(digests(&held), digests(&good));
        assert_eq!(held["complete"], false, "it is held back");
        assert!(held["last_error"]["message"].is_string(), "{held}");
    }
    let few = json!(["v0", "v1", "v2"]);
    let believed = wait_for_repository(&server, &name, |found| found["tags"] == few).await;
    assert_eq!(length(&believed["images"]), 3);
    assert_eq!(believed["complete"], true);
}

#[tokio::test]
async fn an_empty_list_that_was_a_mistake_changes_nothing() {
    let (registry, name) = registry_with_tags(10).await;
    let server = samovar().serve(watch([&name])).await;
    let good = wait_until_complete(&server, &name).await;
    let empty = Action::body("application/json", "{\"name\": \"app\", \"tags\": null}");
    registry.fault(Fault::on(RequestKind::Tags).times(1), empty);
    refresh(&server, &name).await;
    assert_eq!(digests(&repository(&server, &name).await), digests(&good));
    let again = refresh(&server, &name).await.json();
    assert_eq!(again["tags"], good["tags"]);
    assert_eq!(again["complete"], true);
}

#[tokio::test]
async fn what_is_no_tag_is_dropped_from_the_list() {
    let (registry, name) = registry_with_tags(3).await;
    for entry in [
        json!("v1"),
        json!("not a tag"),
        json!(""),
        json!("-x"),
        json!(null),
        json!(7),
        json!("a".repeat(129)),
    ] {
        registry.list_extra("app", entry);
    }
    let server = samovar().serve(watch([&name])).await;
    let found = wait_until_complete(&server, &name).await;
    assert_eq!(found["tags"], json!(["v0", "v1", "v2"]));
    assert_eq!(length(&found["images"]), 3);
    assert_eq!(registry.count(RequestKind::ManifestGet), 3, "{:?}", registry.requests());
}
