//! Webhooks from the outside: Debian's docker-registry tells samovar of what is pushed to it, and whoever else comes has to
//! prove who it is.

mod common;

use std::time::Duration;

use aws_lc_rs::hmac;
use common::{and, samovar, wait_for_log, wait_for_repository, wait_until_complete, watch};
use samovar_testing::fake::FakeRegistry;
use samovar_testing::{Answer, DockerRegistry, Image, Planted, Samovar, SamovarServer};
use serde_json::{Value, json};

const SECRET: &str = "pl4nted-hook-secret";

/// One that tells everything that it does.
fn talkative() -> Samovar {
    samovar().variable("SAMOVAR_LOG", "trace")
}

/// Lists once an hour: what is seen before that, somebody has told.
async fn serve(samovar: &Samovar, name: &str, hooks: &str) -> SamovarServer {
    let secret = samovar.write_file("hook-secret", &format!("{SECRET}\n"));
    let hooks = hooks.replace("SECRET", secret.to_str().expect("the path is text"));
    let file = samovar.write_file("samovar.toml", &hooks);
    let arguments = and(watch([name]), ["--poll-interval", "1h", "--config"]);
    samovar.serve(and(arguments, [file.to_str().expect("the path is text")])).await
}

fn signature(body: &str) -> String {
    let code = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), body.as_bytes());
    let digits: Vec<String> = code.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={}", digits.concat())
}

fn digest_of(repository: &Value, tag: &str) -> Value {
    repository["images"][tag]["digest"].clone()
}

async fn metric(server: &SamovarServer, line: &str) -> String {
    let page = server.get_text("/metrics").await;
    page.lines().find_map(|found| found.strip_prefix(line)).unwrap_or_default().trim().to_owned()
}

#[tokio::test]
async fn what_is_pushed_to_docker_registry_is_seen_at_once_and_so_is_what_is_deleted() {
    let mut registry = DockerRegistry::start().await;
    let name = format!("{}/team/app", registry.host());
    let first = registry.push("team/app", "v1", &Image::new("first")).await;
    let samovar = talkative();
    let hooks = "[hooks.registry]\ntype = 'distribution'\nsecret_file = 'SECRET'";
    let server = serve(&samovar, &name, hooks).await;
    let repository = wait_until_complete(&server, &name).await;
    assert_eq!(digest_of(&repository, "v1"), first);
    registry.notify(server.url("/hooks/registry"), format!("Bearer {SECRET}")).await;

    // One that is new, which no list has told of; the registry tells of it before it has written the tag.
    let added = registry.push("team/app", "v2", &Image::new("second")).await;
    wait_for_repository(&server, &name, |repository| digest_of(repository, "v2") == added).await;
    // One that has moved: the list would not tell.
    let moved = registry.push("team/app", "v1", &Image::new("third")).await;
    wait_for_repository(&server, &name, |repository| digest_of(repository, "v1") == moved).await;
    registry.delete_manifest("team/app", &added).await;
    let is_gone = |repository: &Value| repository["tags"] == json!(["v1"]);
    wait_for_repository(&server, &name, is_gone).await;

    let history: Value =
        serde_json::from_str(&server.get_text(&format!("/api/v1/history/{name}")).await).unwrap();
    let told: Vec<_> =
        history["events"].as_array().unwrap().iter().map(|event| (&event["type"], &event["cause"])).collect();
    let webhook = &json!("webhook");
    let expected = ["tag.added", "tag.moved", "tag.removed"].map(Value::from);
    assert_eq!(told, expected.each_ref().map(|kind| (kind, webhook)));

    // Layers, configurations and pulls are told of as well.
    assert_ne!(
        metric(&server, "samovar_webhooks_total{outcome=\"ignored\",receiver=\"registry\"}").await,
        "0"
    );
    assert_eq!(
        metric(&server, "samovar_webhooks_total{outcome=\"unauthorized\",receiver=\"registry\"}").await,
        "0"
    );
    let visible = metric(&server, "samovar_webhook_visible_seconds_count{receiver=\"registry\"}").await;
    assert!(visible.parse::<u32>().is_ok_and(|count| count >= 3), "{visible}");
    let status: Value = serde_json::from_str(&server.get_text("/api/v1/status").await).unwrap();
    assert_eq!(status["hooks"][0]["name"], "registry");
    assert!(status["hooks"][0]["last_received"].is_string(), "{status}");
    Planted::new([SECRET]).assert_absent("the log", server.log());
    Planted::new([SECRET]).assert_absent("the status", status.to_string());
}

/// From a hook to what can be seen: one HEAD, and what the new digest costs.
// D9: a tag that was confirmed a moment ago is asked about all the same, and however its repository is spelt.
#[tokio::test]
async fn a_hint_costs_one_head_and_what_is_new() {
    let registry = FakeRegistry::start().await;
    let name = format!("{}/team/app", registry.host());
    for tag in ["v1", "v2", "latest"] {
        registry.push("team/app", tag, &Image::new(tag));
    }
    let samovar = samovar();
    let hooks =
        format!("alias = ['corp={}']\n[hooks.ci]\ntype = 'hmac'\nsecret_file = 'SECRET'", registry.host());
    let server = serve(&samovar, &name, &hooks).await;
    wait_until_complete(&server, &name).await;
    let moved = registry.push("team/app", "latest", &Image::new("moved"));
    registry.clear_requests();
    let body = json!({"image": "corp/team/app:latest"}).to_string();
    let deliver = async || server.post_with("/hooks/ci", &[("x-signature", &signature(&body))], &*body).await;
    assert_eq!(deliver().await.status, 202);
    wait_for_repository(&server, &name, |repository| digest_of(repository, "latest") == moved).await;
    let asked = |requests: Vec<samovar_testing::fake::Recorded>| -> Vec<String> {
        requests.iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    };
    let requests = asked(registry.requests());
    assert_eq!(requests.len(), 3, "a HEAD, the manifest and its configuration: {requests:?}");
    assert_eq!(requests[0], "HEAD /v2/team/app/manifests/latest");

    let seen = "samovar_webhook_visible_seconds_count{receiver=\"ci\"} 1\n";
    server.wait_until("/metrics", |answer| answer.text.contains(seen), common::PATIENCE).await;

    // Again: nothing is new, which is believed at the third look.
    registry.clear_requests();
    assert_eq!(deliver().await.status, 202);
    let looking = async {
        while registry.requests().len() < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(common::PATIENCE, looking).await.expect("it is looked at again");
    assert_eq!(asked(registry.requests()), ["HEAD /v2/team/app/manifests/latest"; 3]);
    assert!(server.get_text("/metrics").await.contains(seen));
}

#[tokio::test]
async fn who_proves_nothing_is_refused_and_what_makes_no_sense_is_named() {
    let registry = FakeRegistry::start().await;
    registry.push("team/app", "v1", &Image::new("v1"));
    let name = format!("{}/team/app", registry.host());
    let samovar = talkative();
    let hooks = "
        [hooks.ci]
        type = 'hmac'
        secret_file = 'SECRET'
        [hooks.hub]
        type = 'docker-hub'
        secret_file = 'SECRET'
        [hooks.open]
        type = 'flux'
        unauthenticated = true
        [hooks.pubsub]
        type = 'google'
        audience = 'a'
        service_account = 'b'
        keys_url = 'http://127.0.0.1:1/'
        [hooks.azure]
        type = 'acr'
        secret_file = 'SECRET'
    ";
    let server = serve(&samovar, &name, hooks).await;
    wait_until_complete(&server, &name).await;
    wait_for_log(&server, "ANYBODY MAY TELL").await;
    registry.clear_requests();

    let image = json!({"image": format!("{name}:v1")}).to_string();
    let sign = |body: &str| signature(body);
    let post = async |path: &str, headers: &[(&str, &str)], body: &str| {
        let answer = server.post_with(path, headers, body).await;
        let problem = answer.header("content-type") == Some("application/problem+json");
        assert_eq!(problem, answer.status >= 400, "{path}: {answer:?}");
        answer.status
    };
    let secret_path = format!("/hooks/hub/{SECRET}");
    let push = json!({"push_data": {"tag": "1"}, "repository": {"repo_name": "team/app"}}).to_string();
    for (path, headers, body, status) in [
        ("/hooks/ci", vec![("x-signature", sign(&image))], &*image, 202),
        ("/hooks/ci", vec![], &*image, 401),
        ("/hooks/ci", vec![("x-signature", sign("other"))], &image, 401),
        ("/hooks/ci", vec![("authorization", SECRET.to_owned())], &image, 401),
        ("/hooks/ci", vec![("x-signature", sign("{"))], "{", 400),
        ("/hooks/ci", vec![("x-signature", sign("{}"))], "{}", 400),
        ("/hooks/ci?unknown=1", vec![("x-signature", sign(&image))], &image, 400),
        ("/hooks/none", vec![], &image, 404),
        ("/hooks/", vec![], &image, 404),
        ("/hooks/%ff", vec![], &image, 400),
        (&*secret_path, vec![], &push, 202),
        (&format!("/hooks/hub?secret={SECRET}"), vec![], &push, 202),
        ("/hooks/hub", vec![], &push, 401),
        ("/hooks/hub/wrong", vec![], &push, 401),
        ("/hooks/pubsub", vec![], &push, 401),
        ("/hooks/pubsub", vec![("authorization", format!("Bearer {SECRET}"))], &push, 401),
        ("/api/flux/v11/notify", vec![], r#"{"Kind":"git","Source":{}}"#, 202),
        (
            "/api/flux/v11/notify",
            vec![],
            r#"{"Kind":"image","Source":{"Name":{"Domain":"","Image":"alpine"}}}"#,
            202,
        ),
        ("/api/flux/v11/notify", vec![], "[]", 400),
    ] {
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(post(path, &headers, body).await, status, "{path} {headers:?} {body}");
    }
    let validation = json!([{"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {"validationCode": "c"}}]);
    let answer = server.post_with(&format!("/hooks/azure/{SECRET}"), &[], validation.to_string()).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"validationResponse": "c"})));
    assert_eq!(server.get("/hooks/ci").await.status, 405);

    // Larger than any: also where it is the body that is signed.
    let large = format!("{{\"image\": \"{}\"}}", "x".repeat(1024 * 1024));
    assert_eq!(server.post_with("/hooks/ci", &[("x-signature", &sign(&large))], &*large).await.status, 413);
    let fits = format!("{{\"image\": \"{name}:v1\"}}{}", " ".repeat(1024 * 1024 - 100));
    assert_eq!(server.post_with("/hooks/ci", &[("x-signature", &sign(&fits))], &*fits).await.status, 202);

    // Nobody but who is watched was asked about anything.
    let requests = registry.requests();
    assert!(requests.iter().all(|request| request.path.starts_with("/v2/team/app/")), "{requests:?}");
    Planted::new([SECRET]).assert_absent("the log", server.log());
}

#[tokio::test]
async fn secrets_follow_one_another_without_a_restart() {
    let registry = FakeRegistry::start().await;
    registry.push("team/app", "v1", &Image::new("v1"));
    let name = format!("{}/team/app", registry.host());
    let samovar = samovar();
    let server = serve(&samovar, &name, "[hooks.hub]\ntype = 'docker-hub'\nsecret_file = 'SECRET'").await;
    let status =
        async |secret: &str| server.post_with(&format!("/hooks/hub/{secret}"), &[], "{}").await.status;
    assert_eq!((status(SECRET).await, status("the-next-one").await), (202, 401));
    samovar.write_file("hook-secret", &format!("{SECRET}\nthe-next-one\n"));
    let until = async |secret: &str, wanted: u16| {
        let reading = async {
            while status(secret).await != wanted {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(common::PATIENCE, reading).await.expect("files are read again every 10 s");
    };
    until("the-next-one", 202).await;
    assert_eq!(status(SECRET).await, 202, "both, while one follows the other");
    samovar.write_file("hook-secret", "the-next-one\n");
    until(SECRET, 401).await;
    // What cannot be read changes nothing, and is said.
    samovar.write_file("hook-secret", "");
    let said = |answer: &Answer| answer.json()["hooks"][0]["problem"].is_string();
    server.wait_until("/api/v1/status", said, common::PATIENCE).await;
    assert_eq!(status("the-next-one").await, 202);

    let refused = samovar.write_file("empty", "\n");
    let file = samovar
        .write_file("bad.toml", &format!("[hooks.x]\ntype = 'quay'\nsecret_file = '{}'", refused.display()));
    let output = samovar
        .run(["serve", "--config", file.to_str().unwrap(), "--store", "memory:", "--listen", "127.0.0.1:0"])
        .await;
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.stderr.contains("the secrets of hooks.x: "), "{output:?}");
}
