//! `samovar status`: how a running server and the registries behind it are doing.

use std::collections::BTreeMap;

use indicatif::HumanBytes;

use super::answers::{
    Holds, HostStatus, LaneStatus, QueueStatus, QuotaStatus, ReceiverStatus, SetAsideStatus, StatusAnswer,
};
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
    let (warmer, store) = (&status.warmer, &status.store);
    let mut rows = vec![
        ("version", status.version.clone()),
        ("started", output::optional_time(status.started_at)),
        ("ready", ready(status)),
        ("store", with_holdings(format!("{} ({})", store.url, store.kind), &store.holds)),
    ];
    if let Some(tier) = &store.local_tier {
        rows.push(("local tier", with_holdings(tier.path.clone(), &tier.holds)));
    }
    if let Some(SetAsideStatus { files, bytes }) = &store.set_aside {
        rows.push(("set aside", format!("{files} unusable store files, {}", HumanBytes(*bytes))));
    }
    rows.extend([
        ("repositories", format!("{}, {} complete", warmer.repositories, warmer.complete)),
        ("refreshes", format!("{} running, {} queued", warmer.running, warmer.queued)),
    ]);
    rows.extend(queue(&status.queue).map(|queue| ("queue", queue)));
    if warmer.unsaved > 0 {
        rows.push(("unsaved", format!("{} repositories wait for the store", warmer.unsaved)));
    }
    if warmer.unwatched > 0 {
        rows.push(("unwatched", format!("{} repositories, to be removed", warmer.unwatched)));
    }
    if status.lanes.iter().any(|lane| lane.standing != "ours") {
        rows.push(("lanes", lanes(&status.lanes)));
    }
    if !status.unverified_hosts.is_empty() {
        rows.push(("TLS NOT VERIFIED", status.unverified_hosts.join(", ")));
    }
    let mut parts = vec![output::pairs(rows)];
    if !status.sources.is_empty() {
        let rows = status.sources.iter().map(|source| [source.name.clone(), source.repositories.to_string()]);
        parts.push(output::columns(["SOURCE", "REPOSITORIES"], rows));
        let problems = status
            .sources
            .iter()
            .flat_map(|source| source.problems.iter().map(|problem| [source.name.clone(), problem.clone()]));
        let problems: Vec<_> = problems.collect();
        if !problems.is_empty() {
            parts.push(output::columns(["SOURCE", "PROBLEM"], problems));
        }
    }
    if !status.hooks.is_empty() {
        let headings = ["RECEIVER", "TYPE", "LAST RECEIVED", "LAST REFUSED", "PROBLEM"];
        parts.push(output::columns(headings, status.hooks.iter().map(receiver_row)));
    }
    if !status.hosts.is_empty() {
        let headings = ["HOST", "RATE", "BURST", "IN FLIGHT", "WAITING", "BLOCKED", "QUOTA"];
        parts.push(output::columns(headings, status.hosts.iter().map(host_row)));
    }
    let quotas: Vec<[String; 6]> = status.hosts.iter().flat_map(quota_rows).collect();
    if !quotas.is_empty() {
        let headings = ["QUOTA OF", "AT", "LEFT", "OF", "RESETS IN", "COUNTED BY"];
        parts.push(output::columns(headings, quotas));
    }
    parts.join("\n\n")
}

/// How many hosts are asked by whom: `2 elsewhere, 1 ours`.
fn lanes(lanes: &[LaneStatus]) -> String {
    let mut counts = BTreeMap::new();
    for lane in lanes {
        *counts.entry(lane.standing.as_str()).or_insert(0) += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(standing, count)| format!("{count} {standing}")).collect();
    counts.join(", ")
}

/// How many repositories wait for what, and for how long, if any do.
fn queue(queue: &QueueStatus) -> Option<String> {
    let QueueStatus { asked, new, due, background, longest_wait_seconds } = queue;
    let classes = [(asked, "asked for"), (new, "new"), (due, "due"), (background, "to be listed")];
    let waiting: Vec<String> = classes
        .into_iter()
        .filter(|(count, _)| **count > 0)
        .map(|(count, class)| format!("{count} {class}"))
        .collect();
    let longest =
        longest_wait_seconds.map(|seconds| format!(", for up to {seconds:.0} s")).unwrap_or_default();
    (!waiting.is_empty()).then(|| format!("{}{longest}", waiting.join(", ")))
}

/// `yes`, or `no` with the reason.
fn ready(status: &StatusAnswer) -> String {
    match (&status.store.error, status.ready) {
        (_, true) => "yes".to_owned(),
        (Some(error), false) => format!("no: {error}"),
        (None, false) => "no".to_owned(),
    }
}

/// The name of a store, and behind it what is known of what it holds.
fn with_holdings(name: String, holds: &Holds) -> String {
    let used = holds.used_bytes.map(|used| match holds.limit_bytes {
        Some(limit) => format!("{} of {}", HumanBytes(used), HumanBytes(limit)),
        None => HumanBytes(used).to_string(),
    });
    let entries = holds.entries.map(|entries| format!("{entries} entries"));
    let evicted = holds.evicted.filter(|evicted| *evicted > 0).map(|evicted| format!("{evicted} evicted"));
    let full = holds.full.then(|| "full".to_owned());
    let known: Vec<String> = [entries, used, evicted, full].into_iter().flatten().collect();
    if known.is_empty() { name } else { format!("{name}: {}", known.join(", ")) }
}

fn receiver_row(receiver: &ReceiverStatus) -> [String; 5] {
    let refused = receiver.last_refused.as_ref();
    let open = receiver.unauthenticated.then(|| "anybody may tell it anything".to_owned());
    [
        receiver.name.clone(),
        receiver.kind.clone(),
        output::optional_time(receiver.last_received),
        refused.map_or_else(|| "-".to_owned(), |refused| format!("{} ({})", refused.at, refused.outcome)),
        receiver.problem.clone().or(open).unwrap_or_else(|| "-".to_owned()),
    ]
}

fn host_row(host: &HostStatus) -> [String; 7] {
    let blocked = host.blocked_for_seconds.map_or_else(
        || "-".to_owned(),
        |seconds| {
            let reason = host.blocked_by.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            format!("{}s{reason}", seconds.ceil())
        },
    );
    let rate = match host.configured_rate {
        Some(configured) if configured > host.rate => format!("{}/s of {configured}/s", host.rate),
        _ => format!("{}/s", host.rate),
    };
    [
        host.host.clone(),
        rate,
        host.burst.to_string(),
        host.in_flight.to_string(),
        host.waiting.to_string(),
        blocked,
        host.quota.as_ref().map_or_else(|| "-".to_owned(), quota),
    ]
}

fn quota_rows(host: &HostStatus) -> impl Iterator<Item = [String; 6]> {
    host.quotas.iter().map(|known| {
        let number = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
        let resets = known.resets_in_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds}s"));
        let source = known.source.clone().unwrap_or_else(|| "-".to_owned());
        [
            known.identity.clone(),
            host.host.clone(),
            number(known.quota.remaining),
            number(known.quota.limit),
            resets,
            source,
        ]
    })
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
                "store": {
                    "kind": "memcached", "url": "memcached://cache:11211",
                    "entries": 120, "used_bytes": 1572864, "limit_bytes": 67108864, "evicted": 7, "full": true,
                    "local_tier": {"path": "/var/lib/samovar/tier", "entries": 90, "used_bytes": 4096},
                    "set_aside": {"files": 2, "bytes": 1048576}
                },
                "warmer": {"repositories": 20, "complete": 19, "queued": 3, "running": 2, "unsaved": 1, "unwatched": 4},
                "queue": {"asked": 1, "new": 0, "due": 2, "background": 5, "scheduled": 12, "longest_wait_seconds": 7.6},
                "lanes": [
                    {"host": "127.0.0.1:5000", "standing": "elsewhere"},
                    {"host": "docker.io", "standing": "ours"}, {"host": "ghcr.io", "standing": "elsewhere"}
                ],
                "sources": [{"name": "configuration", "repositories": 20, "problems": ["pull.json: it is empty"]}],
                "hooks": [
                    {"name": "ci", "type": "hmac", "last_received": "2026-11-20T07:00:00Z",
                     "last_refused": {"at": "2026-11-20T08:00:00Z", "outcome": "unauthorized"}, "problem": "key: it is empty"},
                    {"name": "fluxd", "type": "flux", "unauthenticated": true}
                ],
                "hosts": [
                    {"host": "docker.io", "rate": 0.5, "burst": 10, "in_flight": 1, "waiting": 4,
                     "configured_rate": 10.0, "blocked_for_seconds": 29.2, "blocked_by": "rate_limit",
                     "quota": {"limit": 100, "remaining": 87, "window_seconds": 21600},
                     "quotas": [
                        {"identity": "anonymous", "limit": 100, "remaining": 85, "window_seconds": 21600,
                         "source": "192.0.2.7", "resets_in_seconds": 4711},
                        {"identity": "alice", "limit": 200, "remaining": 200, "window_seconds": 21600}
                     ]},
                    {"host": "127.0.0.1:5000", "rate": 50.0, "burst": 10, "in_flight": 0, "waiting": 0}
                ]
            }"#,
        )
        .unwrap();
        let expected = "\
version       0.1.0
started       2026-11-20T06:00:00Z
ready         yes
store         memcached://cache:11211 (memcached): 120 entries, 1.50 MiB of 64.00 MiB, 7 evicted, full
local tier    /var/lib/samovar/tier: 90 entries, 4.00 KiB
set aside     2 unusable store files, 1.00 MiB
repositories  20, 19 complete
refreshes     2 running, 3 queued
queue         1 asked for, 2 due, 5 to be listed, for up to 8 s
unsaved       1 repositories wait for the store
unwatched     4 repositories, to be removed
lanes         2 elsewhere, 1 ours

SOURCE         REPOSITORIES
configuration  20

SOURCE         PROBLEM
configuration  pull.json: it is empty

RECEIVER  TYPE  LAST RECEIVED         LAST REFUSED                         PROBLEM
ci        hmac  2026-11-20T07:00:00Z  2026-11-20T08:00:00Z (unauthorized)  key: it is empty
fluxd     flux  -                     -                                    anybody may tell it anything

HOST            RATE           BURST  IN FLIGHT  WAITING  BLOCKED           QUOTA
docker.io       0.5/s of 10/s  10     1          4        30s (rate_limit)  87 of 100 left in 21600s
127.0.0.1:5000  50/s           10     0          0        -                 -

QUOTA OF   AT         LEFT  OF   RESETS IN  COUNTED BY
anonymous  docker.io  85    100  4711s      192.0.2.7
alice      docker.io  200   200  -          -";
        assert_eq!(page(&status), expected);
    }

    #[test]
    fn a_server_without_hosts_and_sources_has_one_part() {
        let status: StatusAnswer = serde_json::from_str(
            r#"{"version": "0.1.0", "ready": false,
                "store": {"kind": "redis", "url": "redis://h:6379", "error": "the store is unavailable: \u001b refused"},
                "warmer": {"repositories": 0, "complete": 0, "queued": 0, "running": 0}}"#,
        )
        .unwrap();
        let page = page(&status);
        assert!(
            page.contains("ready         no: the store is unavailable: ") && !page.contains("HOST"),
            "{page}"
        );
        assert!(page.contains("store         redis://h:6379 (redis)\nrepositories"), "{page}");
        assert!(!page.contains('\u{1b}'), "what servers say cannot move the cursor: {page}");
    }
}
