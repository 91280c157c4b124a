//! Repositories that nobody watches, asked for by readers of the real binary.

mod common;

use common::{PATIENCE, image_path, keys, repository_path, samovar, wait_until_complete};
use samovar_testing::{Answer, DockerRegistry, Image, LoggedRequest, Samovar, SamovarServer};
use serde_json::json;

/// A registry with `team/app` (three tags) and `team/other`.
async fn registry() -> DockerRegistry {
    let registry = DockerRegistry::start().await;
    for tag in ["1.0", "1.1", "1.2"] {
        registry.push("team/app", tag, &Image::new(tag)).await;
    }
    registry.push("team/other", "1", &Image::new("other")).await;
    registry.push("secret/app", "1", &Image::new("secret")).await;
    registry
}

/// A server to which readers of `team/*` on these hosts may bring what is to be watched.
async fn serve(samovar: &Samovar, hosts: &[&str], more: &str) -> SamovarServer {
    let allow: Vec<String> = hosts.iter().map(|host| format!("\"{host}/team/*\"")).collect();
    let insecure: Vec<String> = hosts.iter().map(|host| format!("\"{host}\"")).collect();
    let text = format!(
        "insecure_host = [{}]\nrps = 10000\nburst = 1000\n[on_demand]\nallow = [{}]\n{more}\n",
        insecure.join(", "),
        allow.join(", "),
    );
    let file = samovar.write_file("samovar.toml", &text);
    samovar.serve(["--config".as_ref(), file.as_os_str()]).await
}

#[track_caller]
fn assert_accepted(answer: &Answer, image: &str) {
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(answer.json(), json!({"image": image, "status": "accepted"}));
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds > 0);
}

#[tokio::test]
async fn the_first_question_begins_to_watch_and_the_next_ones_are_answered() {
    let registry = registry().await;
    let server = serve(&samovar(), &[registry.host()], "").await;
    let app = format!("{}/team/app", registry.host());
    assert_accepted(&server.get(&repository_path(&app)).await, &app);
    let repository = wait_until_complete(&server, &app).await;
    assert_eq!(keys(&repository["images"]), ["1.0", "1.1", "1.2"]);
    let listed = server.get("/api/v1/repositories").await.json();
    assert_eq!(listed["repositories"][0]["name"], app);
    let status = server.get("/api/v1/status").await.json();
    assert_eq!(
        status["sources"],
        json!([{"name": "configuration", "repositories": 0}, {"name": "on demand", "repositories": 1}])
    );
    let metrics = server.get_text("/metrics").await;
    for line in ["samovar_on_demand_repositories 1", "samovar_on_demand_added_total 1"] {
        assert!(metrics.lines().any(|found| found == line), "{line}");
    }
    // New tags are found as anywhere else.
    registry.push("team/app", "2.0", &Image::new("2.0")).await;
    let refreshed = common::refresh(&server, &app).await;
    assert_eq!(refreshed.json()["tags"], json!(["1.0", "1.1", "1.2", "2.0"]));
}

#[tokio::test]
async fn who_waits_has_it_fetched_first_however_it_is_asked_for() {
    let registry = registry().await;
    let host = registry.host();
    let (app, image) = (format!("{host}/team/app"), format!("{host}/team/app:1.1"));
    let wait = |path: String| format!("{path}?wait=30s");

    let server = serve(&samovar(), &[host], "").await;
    let answer = server.get(&wait(repository_path(&app))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(keys(&answer.json()["images"]), ["1.0", "1.1", "1.2"], "complete");

    let server = serve(&samovar(), &[host], "").await;
    assert_accepted(&server.get(&image_path(&image)).await, &image);
    let answer = server.get(&wait(image_path(&image))).await;
    assert_eq!((answer.status, &answer.json()["id"]), (200, &json!(image)), "{answer:?}");

    let server = serve(&samovar(), &[host], "").await;
    let answer = server.get(&wait(image_path(&image))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = server.get(&wait(image_path(&format!("{app}:9")))).await;
    assert_eq!((answer.status, &answer.json()["type"]), (404, &json!("no-such-image")), "{answer:?}");

    let server = serve(&samovar(), &[host], "").await;
    let body = json!({ "image": app });
    assert_accepted(&server.post_json("/api/v1/refresh", &body).await, &app);
    wait_until_complete(&server, &app).await;
    let server = serve(&samovar(), &[host], "").await;
    let answer = server.post_json("/api/v1/refresh?wait=30s", &body).await;
    assert_eq!((answer.status, &answer.json()["complete"]), (200, &json!(true)), "{answer:?}");
    let server = serve(&samovar(), &[host], "").await;
    let answer = server.post_json("/api/v1/refresh?wait=30s", &json!({ "image": image })).await;
    assert_eq!((answer.status, &answer.json()["id"]), (200, &json!(image)), "{answer:?}");
}

#[tokio::test]
async fn what_is_not_covered_is_not_watched_and_nobody_is_asked() {
    let registry = registry().await;
    let server = serve(&samovar(), &[registry.host()], "").await;
    registry.clear_requests().await;
    for name in
        [format!("{}/secret/app", registry.host()), "127.0.0.1:9/team/app".to_owned(), "alpine".to_owned()]
    {
        for path in [
            repository_path(&name),
            format!("{}?wait=1s", repository_path(&name)),
            image_path(&format!("{name}:1")),
        ] {
            let answer = server.get(&path).await;
            assert_eq!((answer.status, &answer.json()["type"]), (404, &json!("not-watched")), "{answer:?}");
        }
        let answer = server.post_json("/api/v1/refresh?wait=1s", &json!({ "image": name })).await;
        assert_eq!((answer.status, &answer.json()["type"]), (404, &json!("not-watched")), "{answer:?}");
    }
    assert!(registry.requests().await.is_empty());
}

// D13: a host that cannot be reached leaves a trace, and so does a repository that is not there.
#[tokio::test]
async fn what_cannot_be_fetched_says_why() {
    let registry = registry().await;
    let closed = format!("127.0.0.1:{}", samovar_testing::free_port());
    let server = serve(&samovar(), &[registry.host(), &closed], "").await;
    for name in [format!("{}/team/missing", registry.host()), format!("{closed}/team/app")] {
        let began = tokio::time::Instant::now();
        let answer = server.get(&format!("{}?wait=40s", repository_path(&name))).await;
        assert_eq!((answer.status, &answer.json()["type"]), (503, &json!("never-listed")), "{answer:?}");
        assert!(answer.json()["last_error"]["message"].is_string(), "{answer:?}");
        assert!(answer.header("retry-after").is_some());
        assert!(began.elapsed() < PATIENCE / 2, "one failure is an answer");
        // And so it says to whoever asks next.
        let answer = server.get(&image_path(&format!("{name}:1"))).await;
        assert_eq!((answer.status, &answer.json()["type"]), (503, &json!("never-listed")), "{answer:?}");
    }
}

#[tokio::test]
async fn where_there_is_no_room_the_next_one_is_turned_away() {
    let registry = registry().await;
    let server = serve(&samovar(), &[registry.host()], "max = 1").await;
    let name = |path: &str| format!("{}/{path}", registry.host());
    assert_accepted(&server.get(&repository_path(&name("team/app"))).await, &name("team/app"));
    wait_until_complete(&server, &name("team/app")).await;
    let answer = server.get(&repository_path(&name("team/other"))).await;
    assert_eq!((answer.status, &answer.json()["type"]), (503, &json!("busy")), "{answer:?}");
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test]
async fn a_restart_and_a_kill_go_on_with_what_was_asked_for() {
    let registry = registry().await;
    let samovar = samovar();
    let name = |path: &str| format!("{}/{path}", registry.host());
    let mut server = serve(&samovar, &[registry.host()], "").await;
    assert_accepted(&server.get(&repository_path(&name("team/app"))).await, &name("team/app"));
    wait_until_complete(&server, &name("team/app")).await;
    server.kill();
    registry.clear_requests().await;
    let mut server = serve(&samovar, &[registry.host()], "").await;
    wait_until_complete(&server, &name("team/app")).await;
    assert!(server.terminate().await.success());
    let server = serve(&samovar, &[registry.host()], "").await;
    // Watched from the start, without a question.
    let names = |answer: &Answer| answer.json()["repositories"][0]["name"] == name("team/app");
    server.wait_until("/api/v1/repositories", names, PATIENCE).await;
    assert!(!registry.requests().await.iter().any(LoggedRequest::is_manifest_get));
}

#[tokio::test]
async fn commands_say_that_it_is_not_fetched_yet() {
    let registry = registry().await;
    let samovar = samovar();
    let app = format!("{}/team/app", registry.host());
    let server = serve(&samovar, &[registry.host()], "").await;
    let url = server.url("");
    let output = samovar.run(["tags", &app, "--server", &url]).await;
    assert_eq!(output.code, Some(3), "{output:?}");
    assert!(output.stderr.contains("is not fetched yet, the server has begun"), "{output:?}");
    let output = samovar.run(["refresh", &app, "--server", &url]).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    let output = samovar.run(["tags", &app, "--server", &url]).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stdout.contains("1.1"), "{output:?}");
    let output = samovar.run(["status", "--server", &url]).await;
    assert!(output.stdout.contains("on demand"), "{output:?}");
}
