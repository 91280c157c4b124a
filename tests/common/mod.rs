//! What the end-to-end tests share: the binary, the arguments that most of them start it with, and waiting.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::time::Duration;

use samovar_testing::{Answer, Samovar, SamovarServer};
use serde_json::Value;

/// How long anything may take that a test waits for. Of no influence on tests that pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);

/// The binary under test, with an empty home.
pub(crate) fn samovar() -> Samovar {
    Samovar::new(env!("CARGO_BIN_EXE_samovar"))
}

/// Arguments for `serve`: watch these images (`host/repository[:tag]`), whose hosts speak plain http, without a brake.
pub(crate) fn watch<I: AsRef<str>>(images: impl IntoIterator<Item = I>) -> Vec<String> {
    watch_with(["--rps", "10000", "--burst", "1000"], images)
}

/// The same, with so many requests a second and none at once.
pub(crate) fn watch_at<I: AsRef<str>>(rate: u32, images: impl IntoIterator<Item = I>) -> Vec<String> {
    watch_with(["--rps", &rate.to_string(), "--burst", "1"], images)
}

fn watch_with<I: AsRef<str>>(limits: [&str; 4], images: impl IntoIterator<Item = I>) -> Vec<String> {
    let mut arguments = limits.map(str::to_owned).to_vec();
    for image in images {
        let image = image.as_ref();
        arguments.extend(["--watch".to_owned(), image.to_owned()]);
        arguments.extend(["--insecure-host".to_owned(), host_of(image).to_owned()]);
    }
    arguments
}

/// These arguments and these.
pub(crate) fn and<I: AsRef<str>>(
    mut arguments: Vec<String>,
    more: impl IntoIterator<Item = I>,
) -> Vec<String> {
    arguments.extend(more.into_iter().map(|argument| argument.as_ref().to_owned()));
    arguments
}

fn host_of(image: &str) -> &str {
    image.split_once('/').expect("an image is written with its host").0
}

/// The path of a repository in the API.
pub(crate) fn repository_path(name: &str) -> String {
    format!("/api/v1/repositories/{name}")
}

/// The path of an image in the API.
pub(crate) fn image_path(reference: &str) -> String {
    format!("/api/v1/images/{reference}")
}

/// Waits until a repository is answered as wanted, and returns the answer.
pub(crate) async fn wait_for_repository(
    server: &SamovarServer,
    name: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let as_wanted = |answer: &Answer| answer.status == 200 && wanted(&answer.json());
    server.wait_until(&repository_path(name), as_wanted, PATIENCE).await.json()
}

/// Waits until a repository is complete.
pub(crate) async fn wait_until_complete(server: &SamovarServer, name: &str) -> Value {
    wait_for_repository(server, name, |repository| repository["complete"] == true).await
}

/// The repository as it is now; panics where there is no answer.
pub(crate) async fn repository(server: &SamovarServer, name: &str) -> Value {
    let text = server.get_text(&repository_path(name)).await;
    serde_json::from_str(&text).expect("a repository is answered as JSON")
}

/// `POST /api/v1/refresh` of an image, waiting for the end of it.
pub(crate) async fn refresh(server: &SamovarServer, image: &str) -> Answer {
    server.post_json("/api/v1/refresh?wait=30s", &serde_json::json!({ "image": image })).await
}

/// How many entries an object or a list has; 0 for what is neither.
pub(crate) fn length(value: &Value) -> usize {
    value.as_object().map(serde_json::Map::len).or(value.as_array().map(Vec::len)).unwrap_or_default()
}

/// The keys of an object, in order.
pub(crate) fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// Waits until the server has logged a line with this text.
pub(crate) async fn wait_for_log(server: &SamovarServer, text: &str) {
    let found = async {
        while !server.log().contains(text) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, found).await;
    assert!(in_time.is_ok(), "`{text}` is not logged:\n{}", server.log());
}
