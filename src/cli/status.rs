//! `samovar status`: how a running server and the registries behind it are doing.

use super::answers::{HostStatus, QuotaStatus, StatusAnswer};
use super::client::ServerClient;
use super::failure::Failure;
use super::output::{self, OutputFormat};

/// Asks for the status and prints it.
pub(super) async fn run(server: &ServerClient, format: OutputFormat) -> Result<(), Failure> {
    let answer = server.get("status", None).await?;
    if format == OutputFormat::Json {
        return output::data(&answer.body);
    }
    output::data(&page(&answer.decode()?))
}

fn page(status: &StatusAnswer) -> String {
    let warmer = &status.warmer;
    let mut parts = vec![output::pairs([
        ("version", status.version.clone()),
        ("started", output::optional_time(status.started_at)),
        ("ready", if status.ready { "yes" } else { "no" }.to_owned()),
        ("store", format!("{} ({})", status.store.url, status.store.kind)),
        ("repositories", format!("{}, {} complete", warmer.repositories, warmer.complete)),
        ("refreshes", format!("{} running, {} queued", warmer.running, warmer.queued)),
    ])];
    if !status.sources.is_empty() {
        let rows = status.sources.iter().map(|source| [source.name.clone(), source.repositories.to_string()]);
        parts.push(output::columns(["SOURCE", "REPOSITORIES"], rows));
    }
    if !status.hosts.is_empty() {
        let headings = ["HOST", "RATE", "BURST", "IN FLIGHT", "WAITING", "BLOCKED", "QUOTA"];
        parts.push(output::columns(headings, status.hosts.iter().map(host_row)));
    }
    parts.join("\n\n")
}

fn host_row(host: &HostStatus) -> [String; 7] {
    let blocked =
        host.blocked_for_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{}s", seconds.ceil()));
    [
        host.host.clone(),
        format!("{}/s", host.rate),
        host.burst.to_string(),
        host.in_flight.to_string(),
        host.waiting.to_string(),
        blocked,
        host.quota.as_ref().map_or_else(|| "-".to_owned(), quota),
    ]
}

/// `87 of 100 left in 21600s`, as far as it is known.
fn quota(quota: &QuotaStatus) -> String {
    let known = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
    let window = quota.window_seconds.map(|seconds| format!(" in {seconds}s")).unwrap_or_default();
    format!("{} of {} left{window}", known(quota.remaining), known(quota.limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_server_sources_and_hosts() {
        let status: StatusAnswer = serde_json::from_str(
            r#"{
                "version": "0.1.0", "started_at": "2026-11-20T06:00:00Z", "ready": true,
                "store": {"kind": "embedded", "url": "embedded:/var/lib/samovar/store"},
                "warmer": {"repositories": 20, "complete": 19, "queued": 3, "running": 2},
                "sources": [{"name": "configuration", "repositories": 20}],
                "hosts": [
                    {"host": "docker.io", "rate": 0.5, "burst": 10, "in_flight": 1, "waiting": 4,
                     "blocked_for_seconds": 29.2,
                     "quota": {"limit": 100, "remaining": 87, "window_seconds": 21600}},
                    {"host": "127.0.0.1:5000", "rate": 50.0, "burst": 10, "in_flight": 0, "waiting": 0}
                ]
            }"#,
        )
        .unwrap();
        let expected = "\
version       0.1.0
started       2026-11-20T06:00:00Z
ready         yes
store         embedded:/var/lib/samovar/store (embedded)
repositories  20, 19 complete
refreshes     2 running, 3 queued

SOURCE         REPOSITORIES
configuration  20

HOST            RATE   BURST  IN FLIGHT  WAITING  BLOCKED  QUOTA
docker.io       0.5/s  10     1          4        30s      87 of 100 left in 21600s
127.0.0.1:5000  50/s   10     0          0        -        -";
        assert_eq!(page(&status), expected);
    }

    #[test]
    fn a_server_without_hosts_and_sources_has_one_part() {
        let status: StatusAnswer = serde_json::from_str(
            r#"{"version": "0.1.0", "ready": false, "store": {"kind": "memory", "url": "memory:"},
                "warmer": {"repositories": 0, "complete": 0, "queued": 0, "running": 0}}"#,
        )
        .unwrap();
        let page = page(&status);
        assert!(page.contains("ready         no") && !page.contains("HOST"), "{page}");
    }
}
