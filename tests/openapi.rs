//! The API is as its description says: schemathesis makes requests from `/api/v1/openapi.json`, good ones and bad ones, and compares the
//! answers with it.

mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::{and, samovar, watch};
use samovar_testing::Image;
use samovar_testing::fake::FakeRegistry;
use serde_json::json;
use tokio::process::Command;

/// `make schemathesis` puts it there.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/schemathesis/bin/schemathesis");
const LIMIT: Duration = Duration::from_mins(5);

#[tokio::test]
async fn the_api_is_as_it_is_described() {
    assert!(Path::new(PROGRAM).exists(), "{PROGRAM} is missing: run `make schemathesis`");
    let registry = FakeRegistry::start().await;
    registry.push("team/app", "v1", &Image::new("one").label("a", "b"));
    registry.push("team/app", "v2", &Image::new("two"));
    let lost = registry.push("team/app", "lost", &Image::new("lost"));
    registry.remove_manifest("team/app", &lost);
    let name = format!("{}/team/app", registry.host());
    let alias = format!("up={}", registry.host());
    let server = samovar().serve(and(watch([&name]), ["--alias", &alias])).await;
    common::wait_for_repository(&server, &name, |repository| common::length(&repository["images"]) == 2)
        .await;

    // What it names in the place of the examples is known here.
    let mut document = server.get("/api/v1/openapi.json").await.json();
    for (path, example) in [
        ("/api/v1/repositories/{name}", "up/team/app"),
        ("/api/v1/latest/{name}", "up/team/app"),
        ("/api/v1/history/{name}", "up/team/app"),
        ("/api/v1/images/{reference}", "up/team/app:v1"),
    ] {
        let parameters = document["paths"][path]["get"]["parameters"].as_array_mut().expect("parameters");
        parameters.iter_mut().find(|parameter| parameter["in"] == "path").expect("a name")["example"] =
            json!(example);
    }
    // It has no end.
    document["paths"].as_object_mut().expect("paths").remove("/api/v1/events");
    let directory = tempfile::tempdir().expect("a directory");
    let description = directory.path().join("openapi.json");
    std::fs::write(&description, document.to_string()).expect("it can be written");

    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis.toml");
    let mut command = Command::new(PROGRAM);
    command.args(["--config-file", config, "run"]).arg(&description).args(["--url", &server.url("")]);
    command.current_dir(directory.path()).stdin(Stdio::null()).kill_on_drop(true);
    let output =
        tokio::time::timeout(LIMIT, command.output()).await.expect("it ends in time").expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("passed"), "it has tried something: {text}");
}
