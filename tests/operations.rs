//! What operators look at: metrics, health, readiness, status, logs.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{and, refresh, samovar, wait_until_complete, watch};
use samovar_testing::fake::{Action, FakeRegistry, Fault, RequestKind, SilentHost};
use samovar_testing::{Answer, DockerRegistry, Image, SamovarServer};
use serde_json::{Value, json};

/// A page of metrics in the text format of Prometheus: the type of each family, and the value of each sample.
struct Page {
    types: BTreeMap<String, String>,
    samples: BTreeMap<String, String>,
}

impl Page {
    /// Reads every line; panics at one that is not of the format.
    fn parse(text: &str) -> Self {
        let (mut types, mut samples, mut helps) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        assert!(text.ends_with('\n'), "the last line must end too");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
                assert!(!help.trim().is_empty() && helps.insert(name.to_owned()), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
                assert!(value.parse::<f64>().is_ok(), "no number: {line}");
                let name = series.split('{').next().expect("a first part");
                assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{line}");
                assert!(!series.contains('{') || series.ends_with("\"}"), "{line}");
                let family =
                    ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
                let known =
                    types.contains_key(name) || family.is_some_and(|family| types.contains_key(family));
                assert!(known, "a sample before its type: {line}");
                assert!(samples.insert(series.to_owned(), value.to_owned()).is_none(), "twice: {line}");
            }
        }
        assert_eq!(helps, types.keys().cloned().collect(), "each family has help and type");
        Self { types, samples }
    }

    /// The sum of all samples of this name, whole numbers, whose labels hold all these parts.
    fn sum(&self, name: &str, labels: &[&str]) -> usize {
        let of_name = self.samples.iter().filter(|(series, _)| series.split('{').next() == Some(name));
        let fitting = of_name.filter(|(series, _)| labels.iter().all(|label| series.contains(label)));
        fitting
            .map(|(series, value)| value.parse::<usize>().unwrap_or_else(|_| panic!("{series} {value}")))
            .sum()
    }
}

#[tokio::test]
async fn metrics_are_there_from_the_start_and_count_what_happened() {
    let registry = FakeRegistry::start().await;
    registry.push("some-app", "some-tag", &Image::new("1"));
    registry.push("some-app", "v2", &Image::new("2"));
    let lost = registry.push("some-app", "lost", &Image::new("lost"));
    registry.remove_manifest("some-app", &lost);
    let (host, name) = (registry.host(), format!("{}/some-app", registry.host()));
    // Held up at the door, so that the first page is of before.
    registry.fault(
        Fault::on(RequestKind::Tags).times(1),
        Action::TooManyRequests { retry_after: Some("1".to_owned()), body: String::new() },
    );
    let server = samovar().serve(watch([&name])).await;
    let answer = server.get("/metrics").await;
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4")));
    let first = Page::parse(&answer.text);
    wait_for_status(&server).await;
    server.get("/api/v1/images/UPPER").await;
    let later = Page::parse(&server.get_text("/metrics").await);

    let families: Vec<_> = later.types.keys().filter(|family| !first.types.contains_key(*family)).collect();
    assert!(families.is_empty(), "not there from the start: {families:?}");
    for (family, kind) in &later.types {
        assert_eq!(kind == "counter", family.ends_with("_total"), "{family} is a {kind}");
    }
    let sent = |operation: &str| later.sum("samovar_upstream_requests_total", &[&host, operation]);
    assert_eq!(sent("operation=\""), registry.requests().len());
    assert_eq!(later.sum("samovar_tags", &["state=\"ok\""]), 2);
    assert_eq!(later.sum("samovar_tags", &["state=\"unknown\""]), 1);
    assert_eq!(later.sum("samovar_tags", &["state=\"pending\""]), 0);
    assert_eq!(later.sum("samovar_repositories", &["state=\"complete\""]), 1);
    assert!(later.sum("samovar_http_requests_total", &["code=\"400\""]) >= 1);
    assert!(later.sum("samovar_upstream_received_bytes_total", &[&host]) > 1000);
    let everything: String = later.samples.keys().cloned().collect();
    for name in ["some-app", "some-tag", "UPPER"] {
        assert!(!everything.contains(name), "no names in labels: {name}");
    }
}

/// The status once one repository is complete, which it may say a moment after readers see it.
async fn wait_for_status(server: &SamovarServer) -> Value {
    let complete = |answer: &Answer| answer.json()["warmer"]["complete"] == 1;
    server.wait_until("/api/v1/status", complete, common::PATIENCE).await.json()
}

#[tokio::test]
async fn health_and_readiness_do_not_depend_on_registries() {
    let silent = SilentHost::start().await;
    let server = samovar().serve(watch([format!("{}/app", silent.host())])).await;
    silent.wait_for_connections(1).await;
    assert_eq!(server.get("/healthz").await.status, 200);
    assert_eq!(server.get("/readyz").await.status, 200);
    let nothing = samovar().serve(["--store", "memory:"]).await;
    assert_eq!(nothing.get("/healthz").await.status, 200);
    assert_eq!(nothing.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn status_tells_of_hosts_queue_sources_store_and_version() {
    let registry = FakeRegistry::start().await;
    registry.push("app", "v1", &Image::new("1"));
    registry.add_header("ratelimit-limit", "100;w=21600");
    registry.add_header("ratelimit-remaining", "76;w=21600");
    let name = format!("{}/app", registry.host());
    let server = samovar().serve(watch([&name])).await;
    let status = wait_for_status(&server).await;
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert!(status["started_at"].is_string() && status["ready"] == true, "{status}");
    assert_eq!(status["store"]["kind"], "embedded");
    assert!(status["store"]["url"].as_str().is_some_and(|url| url.starts_with("embedded:")), "{status}");
    let warmer = &status["warmer"];
    assert_eq!((&warmer["repositories"], &warmer["complete"]), (&json!(1), &json!(1)));
    assert!(warmer["queued"].is_u64() && warmer["running"].is_u64(), "{status}");
    let queue = &status["queue"];
    assert!(["asked", "new", "due", "background"].iter().all(|class| queue[class].is_u64()), "{status}");
    assert_eq!((&queue["scheduled"], &status["lanes"][0]["waiting"]), (&json!(1), &json!(0)), "{status}");
    assert_eq!(status["sources"][0]["repositories"], 1);
    let host = &status["hosts"][0];
    assert_eq!(host["host"], registry.host());
    assert_eq!((&host["rate"], &host["burst"]), (&json!(10000.0), &json!(1000)));
    assert_eq!(host["quota"], json!({"limit": 100, "remaining": 76, "window_seconds": 21600}));
    assert!(host.get("blocked_for_seconds").is_none(), "absent rather than null: {host}");
}

#[tokio::test]
async fn what_a_registry_said_of_its_limits_survives_a_restart() {
    let registry = FakeRegistry::start().await;
    registry.push("app", "v1", &Image::new("1"));
    registry.fault(Fault::on(RequestKind::Tags), Action::too_many_requests(3_600));
    let name = format!("{}/app", registry.host());
    let samovar = samovar();
    let mut server = samovar.serve(watch([&name])).await;
    let is_blocked = |answer: &Answer| answer.json()["hosts"][0]["blocked_for_seconds"].is_f64();
    server.wait_until("/api/v1/status", is_blocked, common::PATIENCE).await;
    assert!(server.terminate().await.success());
    registry.clear_faults();
    registry.clear_requests();

    let server = samovar.serve(watch([&name])).await;
    let status = server.wait_until("/api/v1/status", is_blocked, common::PATIENCE).await.json();
    let host = &status["hosts"][0];
    assert!(host["blocked_for_seconds"].as_f64().is_some_and(|left| left > 3_000.0), "{host}");
    assert_eq!(host["blocked_by"], "rate_limit");
    assert_eq!((&host["rate"], &host["configured_rate"]), (&json!(5000.0), &json!(10000.0)));
    assert_eq!(registry.requests().len(), 0, "it is left alone");
    let page = Page::parse(&server.get_text("/metrics").await);
    let rate = format!("samovar_budget_rate{{host=\"{}\"}}", registry.host());
    assert_eq!(page.samples.get(&rate).map(String::as_str), Some("5000"));
}

// D18 of the ancestor's ledger: one image was answered without the labels' time, its repository with it.
#[tokio::test]
async fn timestamp_labels_tell_when_images_of_matching_names_were_built() {
    let registry = FakeRegistry::start().await;
    let image = || Image::new("x").created("1970-01-01T00:00:00Z");
    let created = "org.opencontainers.image.created";
    for path in ["labelled/app", "plain/app"] {
        registry.push(
            path,
            "both",
            &image()
                .label(created, "2024-05-06T07:08:09Z")
                .label("org.label-schema.build-date", "2001-01-01T00:00:00Z"),
        );
        registry.push(
            path,
            "old",
            &image().label("org.label-schema.build-date", "2023-04-05T06:07:08+02:00"),
        );
        registry.push(path, "none", &image());
        registry.push(path, "nonsense", &image().label(created, "yesterday"));
    }
    let [labelled, plain] = ["labelled/app", "plain/app"].map(|path| format!("{}/{path}", registry.host()));
    let glob = format!("{}/labelled/*", registry.host());
    let server = samovar().serve(and(watch([&labelled, &plain]), ["--timestamp-labels", &glob])).await;
    for (name, [both, old]) in [
        (&labelled, ["2024-05-06T07:08:09Z", "2023-04-05T04:07:08Z"]),
        (&plain, ["1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"]),
    ] {
        let repository = wait_until_complete(&server, name).await;
        let epoch = "1970-01-01T00:00:00Z";
        for (tag, expected) in [("both", both), ("old", old), ("none", epoch), ("nonsense", epoch)] {
            assert_eq!(repository["images"][tag]["created_at"], expected, "{name}:{tag}");
            let image = server.get(&common::image_path(&format!("{name}:{tag}"))).await.json();
            assert_eq!(image["created_at"], expected, "alone as with all: {name}:{tag}");
        }
    }
    let page = Page::parse(&server.get_text("/metrics").await);
    assert!(page.sum("samovar_timestamp_labels_unparsable", &[]) >= 1, "counted, not fatal");
}

#[tokio::test]
async fn logs_are_json_on_stderr_and_hold_no_secret() {
    let registry = DockerRegistry::builder().htpasswd().start().await;
    registry.push("app", "v1", &Image::new("1")).await;
    let name = format!("{}/app", registry.host());
    let samovar = samovar().variable("SAMOVAR_LOG", "trace");
    let auths = json!({"auths": {registry.host(): {
        "username": DockerRegistry::USER, "password": DockerRegistry::PASSWORD,
    }}});
    samovar.write_docker_config(&auths.to_string());
    let server = samovar.serve(watch([&name])).await;
    wait_until_complete(&server, &name).await;
    assert_eq!(refresh(&server, &name).await.status, 200);
    let log = server.log();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    // `samovar:let-it-steep` as Basic authentication sends it.
    for secret in [DockerRegistry::PASSWORD, "c2Ftb3ZhcjpsZXQtaXQtc3RlZXA="] {
        assert!(
            !log.contains(secret),
            "{}",
            log.lines().find(|line| line.contains(secret)).unwrap_or_default()
        );
    }
}
