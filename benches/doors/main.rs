//! What readers get: requests a second and the 99th percentile of their latency, beside nginx with the same bytes as files, nginx's
//! cache in front of a registry, and a registry that pulls through.
//!
//! `cargo bench --bench doors` prints the table of the README, in about three minutes; with `-- TEXT` only the rows whose name
//! contains that text. Debian's `wrk` asks, one server after the other, from the same machine: it takes its part of the
//! processors from all of them alike.

#![allow(clippy::print_stdout)]

#[path = "../common/mod.rs"]
mod common;
mod servers;

use std::path::Path;
use std::time::Duration;

use common::{labelled_image, print_table};
use samovar_testing::{DockerRegistry, Samovar, SamovarServer};
use serde_json::Value;
use tokio::process::Command;

/// What each server is asked for, for each row.
const SECONDS: u32 = 5;
const CONNECTIONS: u32 = 32;
const LIMIT: Duration = Duration::from_mins(5);
/// docker-registry answers what a client says that it takes.
const ACCEPT: &str = "Accept: application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json";

/// One line of the table. Paths below `/v2/` are asked of all servers.
struct Row {
    name: &'static str,
    /// At samovar.
    path: &'static str,
    /// The same bytes at nginx, below `/static/`.
    file: &'static str,
    /// At the others, where they have such a thing.
    of_registry: Option<&'static str>,
    /// Of what the client has already.
    unchanged: bool,
}

const ROWS: [Row; 7] = [
    Row::new("repository of 100 tags, JSON", "/api/v1/repositories/up/small", "small.json", None),
    Row::new("repository of 5,000 tags, JSON", "/api/v1/repositories/up/large", "large.json", None),
    Row::new("tags/list, 100 tags", "/v2/up/small/tags/list", "small-tags.json", Some("/v2/small/tags/list")),
    Row::new(
        "tags/list, 5,000 tags",
        "/v2/up/large/tags/list",
        "large-tags.json",
        Some("/v2/large/tags/list"),
    ),
    Row::new(
        "manifest by tag",
        "/v2/up/small/manifests/1.0.1",
        "manifest.json",
        Some("/v2/small/manifests/1.0.1"),
    ),
    Row::new("repository of 5,000 tags, 304", "/api/v1/repositories/up/large", "large.json", None)
        .unchanged(),
    Row::new("manifest by tag, 304", "/v2/up/small/manifests/1.0.1", "manifest.json", None).unchanged(),
];

impl Row {
    const fn new(
        name: &'static str,
        path: &'static str,
        file: &'static str,
        of_registry: Option<&'static str>,
    ) -> Self {
        Self { name, path, file, of_registry, unchanged: false }
    }

    const fn unchanged(self) -> Self {
        Self { unchanged: true, ..self }
    }
}

/// What `wrk` says.
#[derive(Debug, Clone, Copy)]
struct Measured {
    per_second: f64,
    p99_ms: f64,
}

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let rows: Vec<&Row> = ROWS.iter().filter(|row| row.name.contains(&filter)).collect();
    tokio::runtime::Runtime::new().expect("a runtime").block_on(measure(&rows));
}

async fn measure(rows: &[&Row]) {
    let registry = DockerRegistry::start().await;
    for (repository, tags) in [("small", 100), ("large", 5000)] {
        let images: Vec<_> = (0..tags)
            .map(|number| (format!("1.{}.{}", number / 50, number % 50), labelled_image(number)))
            .collect();
        registry.push_all(repository, &images).await;
    }
    let samovar = Samovar::new(env!("CARGO_BIN_EXE_samovar"));
    let server = serve(&samovar, registry.host()).await;
    let files = tempfile::tempdir().expect("a temporary directory can be made");
    for row in &ROWS {
        // A manifest's raw bytes are text, too.
        std::fs::write(files.path().join(row.file), server.get_text(row.path).await)
            .expect("it can be written");
    }
    readable_by_all(files.path());
    let nginx = servers::nginx(files.path(), registry.host()).await;
    let pull_through = servers::pull_through(registry.host()).await;

    let mut table = Vec::new();
    for row in rows {
        let of_samovar = ask(server.host(), row.path, row.unchanged).await;
        let of_files = ask(&nginx.host, &format!("/static/{}", row.file), row.unchanged).await;
        let (mut of_cache, mut of_registry) = (None, None);
        if let Some(path) = row.of_registry {
            of_cache = Some(ask(&nginx.host, path, false).await);
            of_registry = Some(ask(&pull_through.host, path, false).await);
        }
        table.push(cells(row, of_samovar, of_files, of_cache, of_registry));
    }
    println!(
        "{CONNECTIONS} connections, {SECONDS} s for each cell; requests/s and p99; how many times what the others do\n"
    );
    print_table(
        &[
            "",
            "samovar",
            "nginx, files",
            "×",
            "nginx, `proxy_cache`",
            "×",
            "docker-registry, pull-through",
            "×",
        ],
        &table,
    );
}

async fn serve(samovar: &Samovar, registry: &str) -> SamovarServer {
    let (small, large) = (format!("{registry}/small"), format!("{registry}/large"));
    let alias = format!("up={registry}");
    let arguments = [
        "--insecure-host",
        registry,
        "--rps",
        "10000",
        "--burst",
        "1000",
        "--store",
        "memory:",
        "--alias",
        &alias,
    ];
    let server = samovar.serve(arguments.into_iter().chain(["--watch", &small, "--watch", &large])).await;
    for name in [small, large] {
        let is_complete = |answer: &samovar_testing::Answer| {
            answer.status == 200
                && serde_json::from_str::<Value>(&answer.text).is_ok_and(|body| body["complete"] == true)
        };
        server.wait_until(&format!("/api/v1/repositories/{name}?fields=complete"), is_complete, LIMIT).await;
    }
    server
}

/// Debian's nginx lets its workers be another user, when it is started by root.
fn readable_by_all(directory: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
}

/// Has `wrk` ask for a path again and again.
async fn ask(host: &str, path: &str, unchanged: bool) -> Measured {
    let url = format!("http://{host}{path}");
    let mut headers = vec![ACCEPT.to_owned()];
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let (name, value) = ACCEPT.split_once(": ").expect("a header");
    let mut first = client.get(&url).header(name, value);
    let answer = first.try_clone().expect("it has no body").send().await.expect("an answer");
    assert_eq!(answer.status(), 200, "{url}");
    if unchanged {
        let entity_tag = answer.headers()["etag"].to_str().expect("text").to_owned();
        first = first.header("if-none-match", &entity_tag);
        assert_eq!(first.send().await.expect("an answer").status(), 304, "{url}");
        headers.push(format!("If-None-Match: {entity_tag}"));
    }
    let mut command = Command::new("wrk");
    command.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{SECONDS}s"), "--latency"]);
    for header in &headers {
        command.args(["-H", header]);
    }
    let output = command.arg(&url).kill_on_drop(true).output().await;
    let output = output.expect("wrk is missing: apt-get install wrk");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !text.contains("Non-2xx"), "{url}: {text}");
    let find = |label: &str| text.lines().find_map(|line| line.trim().strip_prefix(label)).map(str::trim);
    let per_second = find("Requests/sec:").and_then(|number| number.parse().ok());
    let p99_ms = find("99%").and_then(milliseconds);
    let (Some(per_second), Some(p99_ms)) = (per_second, p99_ms) else { panic!("{url}: {text}") };
    Measured { per_second, p99_ms }
}

/// As `wrk` writes times: `812.00us`, `1.52ms`, `1.01s`.
fn milliseconds(text: &str) -> Option<f64> {
    let (number, factor) = if let Some(number) = text.strip_suffix("us") {
        (number, 0.001)
    } else if let Some(number) = text.strip_suffix("ms") {
        (number, 1.0)
    } else {
        (text.strip_suffix('s')?, 1000.0)
    };
    Some(number.parse::<f64>().ok()? * factor)
}

fn cells(
    row: &Row,
    of_samovar: Measured,
    of_files: Measured,
    of_cache: Option<Measured>,
    of_registry: Option<Measured>,
) -> Vec<String> {
    let cell = |measured: Measured| format!("{:.0}, {:.2} ms", measured.per_second, measured.p99_ms);
    let mut cells = vec![row.name.to_owned(), cell(of_samovar)];
    for other in [Some(of_files), of_cache, of_registry] {
        cells.push(other.map_or_else(|| "–".to_owned(), cell));
        let times = other.map(|other| format!("{:.2}", of_samovar.per_second / other.per_second));
        cells.push(times.unwrap_or_else(|| "–".to_owned()));
    }
    cells
}
