//! Patterns in the watch list and what becomes of what nobody watches, against Debian's `docker-registry`.

mod common;

use common::{PATIENCE, and, repository_path, samovar, wait_for_log, wait_until_complete, watch};
use samovar_testing::{Answer, DockerRegistry, Image};

fn sources(status: &Answer) -> Vec<String> {
    let status = status.json();
    let sources = status["sources"].as_array().expect("a list of sources");
    sources.iter().map(|source| source["name"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test]
async fn what_is_pushed_is_found_and_what_is_no_longer_configured_is_removed() {
    let mut registry = DockerRegistry::start().await;
    let host = registry.host().to_owned();
    let name = |path: &str| format!("{host}/{path}");
    for path in ["team/one", "other/app"] {
        registry.push(path, "v1", &Image::new(path)).await;
    }
    let samovar = samovar();
    let settings = ["--catalog-interval", "1s", "--forget-after", "0s"];
    let mut server = samovar.serve(and(watch([name("team/*")]), settings)).await;
    wait_until_complete(&server, &name("team/one")).await;
    registry.push("team/sub/two", "v1", &Image::new("two")).await;
    let two = wait_until_complete(&server, &name("team/sub/two")).await;
    assert_eq!(two["tags"], serde_json::json!(["v1"]));
    assert_eq!(server.get(&repository_path(&name("other/app"))).await.status, 404, "it does not match");
    let status = server.get("/api/v1/status").await;
    assert_eq!(sources(&status), ["configuration".to_owned(), format!("catalog of {host}")]);
    assert_eq!(status.json()["warmer"]["repositories"], 2);
    let asked = server.get_text("/metrics").await;
    let counted =
        format!("samovar_upstream_requests_total{{host=\"{host}\",operation=\"catalog\",outcome=\"ok\"}}");
    assert!(asked.contains(&counted), "{asked}");
    server.terminate().await;

    let mut server = samovar.serve(and(watch([name("other/app")]), settings)).await;
    wait_until_complete(&server, &name("other/app")).await;
    let forgotten = |page: &Answer| page.text.contains("samovar_repositories_forgotten_total 2\n");
    server.wait_until("/metrics", forgotten, PATIENCE).await;
    server.terminate().await;

    // What the registry listed last is known while it is down; of what was removed nothing else is.
    registry.stop().await;
    let server = samovar.serve(and(watch([name("team/*"), name("other/app")]), settings)).await;
    let never_listed = |answer: &Answer| answer.status == 503 && answer.text.contains("never-listed");
    server.wait_until(&repository_path(&name("team/one")), never_listed, PATIENCE).await;
    wait_until_complete(&server, &name("other/app")).await;
    wait_for_log(&server, "repositories may be missing from the watch list").await;
}
