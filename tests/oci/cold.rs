//! What is not warm: fetched once for all who ask, within a bound of time.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use futures_util::future::join_all;
use samovar_testing::fake::{Action, FakeRegistry, Fault, RequestKind};
use samovar_testing::{Answer, Content as _, Image, Index, Memcached, SamovarServer};
use tokio::time::Instant;

use super::common::{samovar, wait_until_complete};
use super::{MINUTE, as_blob, assert_document, assert_error, image, index, manifest, serve, watching};

/// A server that watches `team/app` of a registry in this process, and keeps clients waiting for so long.
async fn serve_fake(registry: &FakeRegistry, wait: &str, more: &str) -> SamovarServer {
    let host = registry.host();
    let configuration = watching(&[&host], &[format!("{host}/team/app")]);
    serve(&samovar(), &format!("{configuration}{more}\n[oci]\nwait = '{wait}'\n")).await
}

fn path(registry: &FakeRegistry, below: &str) -> String {
    format!("/v2/{}/team/app/{below}", registry.host())
}

async fn ask_all(server: &SamovarServer, path: &str) -> Vec<Answer> {
    join_all((0..50).map(|_| server.get(path))).await
}

fn gets(registry: &FakeRegistry, reference: &str) -> usize {
    let requests = registry.requests();
    requests.iter().filter(|request| request.reference.as_deref() == Some(reference)).count()
}

#[tokio::test]
async fn fifty_who_ask_for_one_cold_document_cost_one_request() {
    let registry = FakeRegistry::start().await;
    let wanted = Image::new("wanted").platform("linux/amd64");
    let unwanted = Image::new("unwanted").platform("windows/amd64");
    let index = Index::of([&wanted, &unwanted]);
    registry.push("team/app", "1.0", &index);
    let server = serve_fake(&registry, "30s", "").await;
    wait_until_complete(&server, &format!("{}/team/app", registry.host())).await;
    registry.clear_requests();
    registry.fault(Fault::on(RequestKind::ManifestGet), Action::Delay(Duration::from_millis(500)));
    registry.fault(Fault::on(RequestKind::Blob), Action::Delay(Duration::from_millis(500)));
    // The child for a platform that is not wanted was never fetched.
    let document = manifest(&unwanted);
    for answer in ask_all(&server, &path(&registry, &format!("manifests/{}", document.digest))).await {
        assert_document(&answer, &document);
    }
    assert_eq!(gets(&registry, &document.digest), 1, "{:?}", registry.requests());
    let config = as_blob(unwanted.config());
    for answer in ask_all(&server, &path(&registry, &format!("blobs/{}", config.digest))).await {
        assert_document(&answer, &config);
    }
    assert_eq!(gets(&registry, &config.digest), 1, "{:?}", registry.requests());
    assert_eq!(registry.requests().len(), 2);
}

#[tokio::test]
async fn who_asks_before_the_first_list_waits_for_it() {
    let registry = FakeRegistry::start().await;
    registry.push("team/app", "1.0", &image());
    registry.fault(Fault::on(RequestKind::Tags), Action::Delay(Duration::from_secs(1)));
    let server = serve_fake(&registry, "30s", "").await;
    let tags = path(&registry, "tags/list");
    let tag = path(&registry, "manifests/1.0");
    let (tags, tag) = tokio::join!(ask_all(&server, &tags), ask_all(&server, &tag));
    for answer in tags {
        assert_eq!(answer.json()["tags"], serde_json::json!(["1.0"]), "{answer:?}");
    }
    for answer in tag {
        assert_document(&answer, &manifest(&image()));
    }
    assert_eq!(registry.count(RequestKind::Tags), 1);
    // One of the schedule, and one for all who ask.
    assert!(gets(&registry, "1.0") <= 2, "{:?}", registry.requests());
}

#[tokio::test]
async fn what_does_not_come_in_time_is_late_and_there_later() {
    let registry = FakeRegistry::start().await;
    let index = index();
    let arm = index.children()[1].clone();
    registry.push("team/app", "1.0", &index);
    let server = serve_fake(&registry, "300ms", "platform = ['linux/amd64']").await;
    wait_until_complete(&server, &format!("{}/team/app", registry.host())).await;
    registry.fault(Fault::on(RequestKind::ManifestGet).times(1), Action::Delay(Duration::from_secs(2)));
    let path = path(&registry, &format!("manifests/{}", arm.digest));
    let began = Instant::now();
    assert_error(&server.get(&path).await, 503, "UNAVAILABLE");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let answer = server.wait_until(&path, |answer| answer.status == 200, MINUTE).await;
    assert_document(&answer, &arm);
    assert_eq!(gets(&registry, &arm.digest), 1, "the request went on");
    let metrics = server.get_text("/metrics").await;
    assert!(metrics.contains("samovar_oci_waits_total{outcome=\"ok\"} 1"), "{metrics}");
    assert!(!metrics.contains("samovar_oci_waits_total{outcome=\"late\"} 0"), "{metrics}");
}

#[tokio::test]
async fn a_tag_that_is_newer_than_the_list_is_found_and_one_that_is_not_there_is_asked_for_rarely() {
    let registry = FakeRegistry::start().await;
    registry.push("team/app", "1.0", &image());
    let server = serve_fake(&registry, "30s", "poll_interval = '1h'").await;
    let name = format!("{}/team/app", registry.host());
    wait_until_complete(&server, &name).await;
    let new = Image::new("new");
    registry.push("team/app", "1.1", &new);
    registry.clear_requests();
    assert_document(&server.get(&path(&registry, "manifests/1.1")).await, &manifest(&new));
    assert_eq!(gets(&registry, "1.1"), 1);
    let tags = server.get(&path(&registry, "tags/list")).await.json();
    assert_eq!(tags["tags"], serde_json::json!(["1.0", "1.1"]), "it is known from then on");
    for answer in ask_all(&server, &path(&registry, "manifests/2.0")).await {
        assert_error(&answer, 404, "MANIFEST_UNKNOWN");
    }
    assert!(gets(&registry, "2.0") <= 3, "{:?}", registry.requests());
}

#[tokio::test]
async fn what_fails_is_unavailable_and_what_is_known_is_served_with_a_warning() {
    let registry = FakeRegistry::start().await;
    registry.push("team/app", "1.0", &image());
    registry.push("team/app", "bad", &Image::new("bad"));
    registry.fault(Fault::on(RequestKind::ManifestGet).reference("bad"), Action::status(500));
    let server = serve_fake(&registry, "5s", "poll_interval = '1s'").await;
    let tag = path(&registry, "manifests/1.0");
    server
        .wait_until(&tag, |answer| answer.status == 200 && answer.header("warning").is_none(), MINUTE)
        .await;
    let began = Instant::now();
    let failed =
        server.wait_until(&path(&registry, "manifests/bad"), |answer| answer.status == 503, MINUTE).await;
    assert_error(&failed, 503, "UNAVAILABLE");
    assert!(began.elapsed() < MINUTE);
    registry.fault(Fault::on(RequestKind::Tags), Action::status(500));
    registry.fault(Fault::on(RequestKind::ManifestHead), Action::status(429));
    let is_stale = |answer: &Answer| answer.header("warning").is_some();
    let list = server.wait_until(&path(&registry, "tags/list"), is_stale, MINUTE).await;
    assert_eq!((list.status, &list.json()["tags"]), (200, &serde_json::json!(["1.0", "bad"])));
    let stale = server.get(&tag).await;
    assert_document(&stale, &manifest(&image()));
    for answer in [list, stale] {
        let warning = answer.header("warning").unwrap_or_default().to_owned();
        assert!(warning.starts_with("299 - \"stale, of ") && warning.ends_with('"'), "{warning}");
        assert!(answer.header("age").is_some());
    }
}

#[tokio::test]
async fn a_digest_of_another_repository_is_not_served() {
    let registry = FakeRegistry::start().await;
    let (host, secret) = (registry.host(), Image::new("secret"));
    registry.push("team/app", "1.0", &image());
    registry.push("team/secret", "1.0", &secret);
    let configuration = watching(&[&host], &[format!("{host}/team/app"), format!("{host}/team/secret")]);
    let server = serve(&samovar(), &configuration).await;
    wait_until_complete(&server, &format!("{host}/team/app")).await;
    wait_until_complete(&server, &format!("{host}/team/secret")).await;
    let document = manifest(&secret);
    let below = |repository: &str, what: &str| format!("/v2/{host}/{repository}/{what}");
    let of_manifest = format!("manifests/{}", document.digest);
    let of_config = format!("blobs/{}", secret.config().digest);
    assert_document(&server.get(&below("team/secret", &of_manifest)).await, &document);
    assert_document(&server.get(&below("team/secret", &of_config)).await, &as_blob(secret.config()));
    // The registry is asked whether this repository has it, and has not.
    registry.clear_requests();
    assert_error(&server.get(&below("team/app", &of_manifest)).await, 404, "MANIFEST_UNKNOWN");
    assert_eq!(registry.count(RequestKind::ManifestHead), 1, "{:?}", registry.requests());
    assert_error(&server.get(&below("team/app", &of_config)).await, 404, "BLOB_UNKNOWN");
    // Once it has, without a tag, it is; and it is not fetched again.
    registry.push_digest_only("team/app", &secret);
    let is_served = |answer: &Answer| answer.status == 200;
    let answer = server.wait_until(&below("team/app", &of_manifest), is_served, MINUTE).await;
    assert_document(&answer, &document);
    assert_eq!(registry.count(RequestKind::ManifestGet), 0, "{:?}", registry.requests());
    assert_document(&server.get(&below("team/app", &of_config)).await, &as_blob(secret.config()));
}

#[tokio::test]
async fn repositories_come_to_be_watched_because_somebody_pulls_from_them() {
    let registry = FakeRegistry::start().await;
    registry.push("team/app", "1.0", &image());
    registry.push("secret/app", "1.0", &image());
    let host = registry.host();
    let configuration = watching(&[&host], &[]);
    let configuration =
        format!("{configuration}[on_demand]\nallow = ['{host}/team/*']\n[oci]\nwait = '30s'\n");
    let server = serve(&samovar(), &configuration).await;
    let of = |repository: &str, below: &str| format!("/v2/{host}/{repository}/{below}");
    assert_document(&server.get(&of("team/app", "manifests/1.0")).await, &manifest(&image()));
    assert_eq!(server.get(&of("team/app", "tags/list")).await.json()["tags"], serde_json::json!(["1.0"]));
    assert_error(&server.get(&of("secret/app", "manifests/1.0")).await, 404, "NAME_UNKNOWN");
    // What the registry does not know either.
    assert_error(&server.get(&of("team/none", "manifests/1.0")).await, 404, "NAME_UNKNOWN");
    assert_error(&server.get(&of("team/none", "tags/list")).await, 404, "NAME_UNKNOWN");
    assert!(registry.requests().iter().all(|request| request.repository.as_deref() != Some("secret/app")));
}

/// What the store has lost is had again from the registry, by its digest.
#[tokio::test]
async fn a_document_is_fetched_after_a_restart_only_if_the_store_has_lost_it() {
    let registry = FakeRegistry::start().await;
    registry.push("team/app", "1.0", &index());
    let host = registry.host();
    let configuration = watching(&[&host], &[format!("{host}/team/app")]);
    let samovar = samovar();
    let mut server = serve(&samovar, &configuration).await;
    wait_until_complete(&server, &format!("{host}/team/app")).await;
    server.terminate().await;
    registry.clear_requests();
    let server = serve(&samovar, &configuration).await;
    // A child and its configuration, without anybody having asked for what names them.
    let child = index().children()[1].clone();
    let config =
        index().blobs().into_iter().filter(|blob| blob.media_type.contains("config")).nth(1).unwrap();
    assert_document(&server.get(&path(&registry, &format!("manifests/{}", child.digest))).await, &child);
    assert_document(
        &server.get(&path(&registry, &format!("blobs/{}", config.digest))).await,
        &as_blob(config),
    );
    assert_eq!(registry.count(RequestKind::ManifestGet) + registry.count(RequestKind::Blob), 0);
}

/// The store has lost a document, the registry as well, and the tag points elsewhere by now: it is asked about the tag.
#[tokio::test]
async fn what_is_gone_here_and_there_is_found_where_the_tag_points_now() {
    let registry = FakeRegistry::start().await;
    let (old, new) = (Image::new("old"), Image::new("new"));
    let gone = registry.push("team/app", "1.0", &old);
    let memcached = Memcached::start().await;
    let host = registry.host();
    let configuration = watching(&[&host], &[format!("{host}/team/app")]);
    let configuration = format!("{configuration}store = 'memcached://{}?prefix=t|'\n", memcached.host());
    let server = serve(&samovar(), &configuration).await;
    wait_until_complete(&server, &format!("{host}/team/app")).await;
    evict(&memcached, &format!("t|s1|doc|{gone}"));
    registry.push("team/app", "1.0", &new);
    registry.remove_manifest("team/app", &gone);
    assert_document(&server.get(&path(&registry, "manifests/1.0")).await, &manifest(&new));
}

/// Takes one entry out of a memcached.
fn evict(memcached: &Memcached, key: &str) {
    let mut connection = std::net::TcpStream::connect(memcached.host()).unwrap();
    connection.write_all(format!("delete {key}\r\n").as_bytes()).unwrap();
    let mut answer = [0; 9];
    connection.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"DELETED\r\n");
}

/// A registry that refuses us for too long silences what was known.
#[tokio::test]
async fn what_a_registry_refuses_us_is_no_longer_served() {
    let registry = FakeRegistry::start().await;
    registry.push("team/app", "1.0", &image());
    let more = "poll_interval = '1s'\n[upstream]\nmax_stale_denied = '0s'";
    let server = serve_fake(&registry, "1s", more).await;
    let [tags, tag, digest] =
        ["tags/list", "manifests/1.0", &format!("manifests/{}", manifest(&image()).digest)]
            .map(|it| path(&registry, it));
    let config = path(&registry, &format!("blobs/{}", image().config().digest));
    let referrers = path(&registry, &format!("referrers/{}", manifest(&image()).digest));
    for path in [&tags, &tag, &digest, &config, &referrers] {
        server.wait_until(path, |answer| answer.status == 200, MINUTE).await;
    }
    registry.require_basic("nobody", "else");
    for path in [&tags, &tag, &digest, &config, &referrers] {
        let answer = server.wait_until(path, |answer| answer.status != 200, MINUTE).await;
        assert_error(&answer, 503, "UNAVAILABLE");
    }
}

/// Of two replicas, one speaks to the registry; clients of the other notice nothing.
#[tokio::test]
async fn a_replica_that_does_not_speak_to_the_registry_has_what_is_cold_fetched_by_the_one_that_does() {
    let registry = FakeRegistry::start().await;
    let (host, index) = (registry.host(), index());
    registry.push("team/app", "1.0", &index);
    let memcached = Memcached::start().await;
    let configuration = watching(&[&host], &[format!("{host}/team/app")]);
    let configuration = format!(
        "{configuration}store = 'memcached://{}'\nplatform = ['linux/amd64']\npoll_interval = '1h'\n[oci]\nwait = '30s'\n",
        memcached.host()
    );
    let (one, another) = (serve(&samovar(), &configuration).await, serve(&samovar(), &configuration).await);
    for server in [&one, &another] {
        wait_until_complete(server, &format!("{host}/team/app")).await;
    }
    let arm = index.children()[1].clone();
    let below = path(&registry, &format!("manifests/{}", arm.digest));
    let (of_one, of_another) = tokio::join!(one.get(&below), another.get(&below));
    assert_document(&of_one, &arm);
    assert_document(&of_another, &arm);
    let [first, second] = ["1.1", "1.2"].map(Image::new);
    registry.push("team/app", "1.1", &first);
    registry.push("team/app", "1.2", &second);
    assert_document(&one.get(&path(&registry, "manifests/1.1")).await, &manifest(&first));
    assert_document(&another.get(&path(&registry, "manifests/1.2")).await, &manifest(&second));
    assert_error(&another.get(&path(&registry, "manifests/1.3")).await, 404, "MANIFEST_UNKNOWN");
}
