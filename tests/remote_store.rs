//! `samovar` with a store that other machines keep: what it does while the store cannot be asked.

mod common;

use common::{and, repository_path, samovar, wait_until_complete, watch};
use samovar_testing::fake::{FakeRegistry, RequestKind};
use samovar_testing::{Answer, Image, Memcached, RedisServer};
use serde_json::Value;

const PASSWORD: &str = "let-it-steep";

async fn registry_with_three() -> (FakeRegistry, String) {
    let registry = FakeRegistry::start().await;
    for tag in ["v1", "v2", "v3"] {
        registry.push("app", tag, &Image::new(tag));
    }
    let name = format!("{}/app", registry.host());
    (registry, name)
}

/// A Redis with a password, and the URL of a store in it.
async fn redis() -> (RedisServer, String) {
    let redis = RedisServer::builder().password(PASSWORD).start().await;
    let url = format!("redis://:{PASSWORD}@{}", redis.host());
    (redis, url)
}

fn is_ready(answer: &Answer) -> bool {
    answer.status == 200
}

#[tokio::test]
async fn a_store_that_is_down_at_start_does_not_stop_the_server() {
    let (_registry, name) = registry_with_three().await;
    let (mut redis, url) = redis().await;
    redis.kill();
    let samovar = samovar();
    let mut server = samovar.serve(and(watch([&name]), ["--store", &url])).await;
    assert_eq!(server.get("/healthz").await.status, 200);
    let ready = server.get("/readyz").await;
    assert_eq!(ready.status, 503, "{ready:?}");
    assert!(ready.text.contains("the store is unavailable: "), "{ready:?}");
    let status = server.get("/api/v1/status").await.json();
    assert_eq!((&status["ready"], &status["store"]["kind"]), (&false.into(), &"redis".into()), "{status}");
    assert!(status["store"]["error"].as_str().is_some_and(|error| error.contains("unavailable")), "{status}");
    let page = samovar.run(["status", "--server", &server.url("")]).await;
    assert!(page.stdout.contains("no: the store is unavailable: "), "{page:?}");
    assert!(server.get_text("/metrics").await.contains("\nsamovar_store_up{store=\"redis\"} 0\n"));
    let status = server.terminate().await;
    assert_eq!(status.code(), Some(0), "{}", server.log());

    let said = server.log().lines().filter(|line| line.contains("the store fails")).count();
    assert_eq!(said, 1, "{}", server.log());
    for text in [server.log(), page.stdout, page.stderr, ready.text] {
        assert!(!text.contains(PASSWORD), "{text}");
    }
}

#[tokio::test]
async fn a_store_that_comes_back_is_used_without_a_restart() {
    let (_registry, name) = registry_with_three().await;
    let (mut redis, url) = redis().await;
    redis.kill();
    let server = samovar().serve(and(watch([&name]), ["--store", &url])).await;
    assert_eq!(server.get("/readyz").await.status, 503);
    redis.restart().await;
    server.wait_until("/readyz", is_ready, common::PATIENCE).await;
    wait_until_complete(&server, &name).await;
    common::wait_for_log(&server, "the store answers again").await;
    let answers = |answer: &Answer| answer.text.contains("\nsamovar_store_up{store=\"redis\"} 1\n");
    server.wait_until("/metrics", answers, common::PATIENCE).await;
    let status = server.get("/api/v1/status").await.json();
    assert_eq!(status["ready"], true, "{status}");
    assert!(status["store"]["used_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{status}");
}

#[tokio::test]
async fn a_wrong_password_is_said_once_and_never_shown() {
    let (_registry, name) = registry_with_three().await;
    let (redis, _) = redis().await;
    let url = format!("redis://:not-it-at-all@{}", redis.host());
    let server = samovar().serve(and(watch([&name]), ["--store", &url])).await;
    for _ in 0..5 {
        let ready = server.get("/readyz").await;
        assert_eq!(ready.status, 503, "{ready:?}");
        assert!(ready.text.contains("the store refuses us: "), "{ready:?}");
    }
    let log = server.log();
    assert_eq!(log.lines().filter(|line| line.contains("the store fails")).count(), 1, "{log}");
    assert!(!log.contains("not-it-at-all"), "{log}");
    assert!(!server.get_text("/api/v1/status").await.contains("not-it-at-all"));
}

#[tokio::test]
async fn warming_fails_with_the_reason() {
    let (registry, name) = registry_with_three().await;
    let (mut redis, url) = redis().await;
    redis.kill();
    let arguments = ["warm", &name, "--insecure-host", &registry.host(), "--store", &url];
    let output = samovar().run(arguments).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("the store is unavailable: "), "{output:?}");
    assert!(output.stderr.contains(&format!("redis://:…@{}", redis.host())), "{output:?}");
    assert!(!output.stderr.contains(PASSWORD) && output.stdout.is_empty(), "{output:?}");
    assert_eq!(registry.requests().len(), 0, "nothing is asked for that could not be kept");
}

#[tokio::test]
async fn a_name_that_leads_nowhere_refuses_the_start() {
    for url in ["redis://no-such-host.invalid", "memcached://no-such-host.invalid:11211"] {
        let output = samovar().run(["serve", "--store", url, "--listen", "127.0.0.1:0"]).await;
        assert_eq!(output.code, Some(1), "{output:?}");
        for part in ["no-such-host.invalid", "hint: ", "redis-cluster://HOST[:PORT],…"] {
            assert!(output.stderr.contains(part), "{part}: {output:?}");
        }
    }
}

/// The worst complaint about caches of this kind: restart their memcached, and everything is fetched again.
#[tokio::test]
async fn with_a_local_tier_a_memcached_that_forgets_costs_no_manifest() {
    let mut memcached = Memcached::start().await;
    let url = format!("memcached://{}", memcached.host());
    costs_no_manifest(&url, async || {
        memcached.kill();
        memcached.restart().await;
    })
    .await;
}

#[tokio::test]
async fn with_a_local_tier_a_redis_that_forgets_costs_no_manifest() {
    let (mut redis, url) = redis().await;
    costs_no_manifest(&url, async || {
        redis.kill();
        redis.restart().await;
    })
    .await;
}

async fn costs_no_manifest(url: &str, forget: impl AsyncFnOnce()) {
    let (registry, name) = registry_with_three().await;
    let samovar = samovar();
    let tier = samovar.home().join("tier").display().to_string();
    let arguments = and(watch([&name]), ["--store", url, "--store-local-tier", &tier]);
    let mut server = samovar.serve(arguments.clone()).await;
    let before = wait_until_complete(&server, &name).await;
    let status = server.get("/api/v1/status").await.json();
    assert_eq!(status["store"]["local_tier"]["path"], tier, "{status}");
    assert!(status["store"]["local_tier"]["entries"].as_u64().is_some_and(|entries| entries > 6), "{status}");

    forget().await;
    registry.clear_requests();
    // Readers see all of it before anything is asked, then after it was looked at again, and after a restart.
    server.wait_until("/readyz", is_ready, common::PATIENCE).await;
    let path = repository_path(&name);
    let digests = |repository: &Value| {
        let images = repository["images"].as_object().cloned().unwrap_or_default();
        images.into_iter().map(|(tag, image)| (tag, image["digest"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(digests(&server.get(&path).await.json()), digests(&before));
    assert_eq!(common::refresh(&server, &name).await.status, 200, "{}", server.log());
    assert!(server.terminate().await.success());
    let server = samovar.serve(arguments).await;
    let after = wait_until_complete(&server, &name).await;
    assert_eq!(digests(&after), digests(&before));
    assert_eq!(registry.count(RequestKind::ManifestGet) + registry.count(RequestKind::Blob), 0);

    // Put back for those without a local tier: another replica reads it whole.
    let other = common::samovar();
    let other = other.serve(and(watch([&name]), ["--store", url])).await;
    let whole = |answer: &Answer| answer.status == 200;
    let seen = other.wait_until(&path, whole, common::PATIENCE).await.json();
    assert_eq!(digests(&seen), digests(&before));
    assert_eq!(registry.count(RequestKind::ManifestGet), 0);
}
