//! `/metrics`, `/healthz`, `/readyz` and `GET /api/v1/status`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use jiff::Timestamp;
use samovar_registry::Name;
use samovar_registry::upstream::{BlockReason, IdentityQuota, Quota};
use serde::Serialize;
use utoipa::ToSchema;

use super::Doors;
use super::access::Caller;
use super::hooks::ReceiverStatus;
use super::problem::{Problem, ProblemType};
use super::query::{NoParameters, StrictQuery};
use super::store_status::{self, StoreStatus};
use crate::notify::Standing;
use crate::warmer::{Class, QueueStanding};

/// What is said of a path that leads nowhere, or not for whoever asks.
pub(super) const NOTHING_HERE: &str = "there is nothing at this path";

/// The page that Prometheus scrapes.
pub(super) async fn metrics(State(doors): State<Arc<Doors>>, caller: Caller) -> Result<Response, Problem> {
    if !caller.may_operate() {
        return Err(Problem::new(ProblemType::NotFound, NOTHING_HERE));
    }
    store_status::statistics(&doors).await;
    doors.metrics.overview(doors.warmer.overview().into_values());
    doors.metrics.set_unparsable_labels(doors.timestamp_labels.unparsable());
    doors.metrics.set_waiting_requests(doors.warmer.waiting_requests());
    doors.metrics.set_queues(&doors.warmer.queues());
    doors.metrics.set_budgets(&doors.upstreams.budgets());
    doors.metrics.set_unsaved_repositories(doors.warmer.unsaved_repositories());
    doors.metrics.set_unwatched_repositories(doors.warmer.unwatched_repositories());
    doors.metrics.set_hot_set(&doors.hot.statistics());
    doors.metrics.set_waiting_clients(doors.feed.followers(), doors.followers.len());
    doors.metrics.set_webhooks_waiting(doors.hooks.waiting());
    doors.metrics.set_encoded_answers(doors.encoded.bytes(), doors.encoded.made());
    doors.metrics.set_lanes(doors.warmer.lanes().into_values());
    let content_type = (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    Ok(([content_type], doors.metrics.render()).into_response())
}

/// The process answers.
pub(super) async fn healthy() -> &'static str {
    "ok\n"
}

/// Configuration is loaded and the store answers. Never depends on a registry.
pub(super) async fn ready(State(doors): State<Arc<Doors>>) -> (StatusCode, String) {
    match store_status::answers(&doors).await {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Status {
    version: &'static str,
    started_at: Timestamp,
    ready: bool,
    store: StoreStatus,
    warmer: WarmerStatus,
    queue: QueueStatus,
    access: AccessStatus,
    sources: Vec<SourceStatus>,
    lanes: Vec<LaneStatus>,
    /// Who may tell that something was pushed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    hooks: Vec<ReceiverStatus>,
    hosts: Vec<HostStatus>,
    /// Who is told of changes by requests of ours.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    receivers: Vec<Standing>,
    /// Hosts whose TLS is not verified.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    unverified_hosts: Vec<String>,
}

/// Who may ask, and whether what says so can be used.
#[derive(Debug, Serialize, ToSchema)]
struct AccessStatus {
    /// Whether callers are asked who they are.
    required: bool,
    tls: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    problems: Vec<String>,
}

impl AccessStatus {
    fn new(doors: &Doors, sees_all: bool) -> Self {
        let problems = doors.access.problem().into_iter();
        let problems = problems.chain(doors.tls.iter().filter_map(|tls| tls.problem()));
        Self {
            required: doors.access.is_asked(),
            tls: doors.tls.is_some(),
            tokens: doors.access.token_count().filter(|_| sees_all),
            problems: problems.filter(|_| sees_all).collect(),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct WarmerStatus {
    repositories: usize,
    complete: usize,
    never_listed: usize,
    /// Requests to refresh that wait to be started.
    queued: usize,
    /// Repositories being refreshed.
    running: usize,
    /// Repositories of which something was learnt that the store does not take.
    unsaved: usize,
    /// Repositories in the store that nobody watches, as far as this replica knows.
    unwatched: usize,
}

/// Repositories that are due and wait for their turn, by the most urgent thing that each needs.
#[derive(Debug, Serialize, ToSchema)]
struct QueueStatus {
    asked: usize,
    new: usize,
    due: usize,
    background: usize,
    /// Repositories that need nothing yet.
    scheduled: usize,
    /// For how long, where anything is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    longest_wait_seconds: Option<f64>,
}

/// Which replica keeps a host's repositories warm, and who waits for it.
#[derive(Debug, Serialize, ToSchema)]
struct LaneStatus {
    host: String,
    standing: &'static str,
    /// Repositories that are due and wait for their turn.
    waiting: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    longest_wait_seconds: Option<f64>,
}

#[derive(Debug, Serialize, ToSchema)]
struct SourceStatus {
    name: String,
    repositories: usize,
    /// What is wrong, such as credentials that cannot be used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    problems: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct HostStatus {
    host: String,
    /// Requests a second now, and when the host does not limit us.
    rate: f64,
    configured_rate: f64,
    burst: u32,
    concurrency: usize,
    in_flight: usize,
    waiting: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked_for_seconds: Option<f64>,
    /// Why: `rate_limit` or `failures`.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_blocked_for_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cdn_blocked_for_seconds: Option<f64>,
    /// Failures in a row, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    breaker: Option<BreakerStatus>,
    /// The quota that was announced last, to whomever.
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<QuotaStatus>,
    /// What is left to each identity, by our own count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    quotas: Vec<IdentityQuotaStatus>,
}

#[derive(Debug, Serialize, ToSchema)]
struct BreakerStatus {
    /// Whether the host is left alone, or probed.
    open: bool,
    failures: u32,
}

#[derive(Debug, Serialize, ToSchema)]
struct QuotaStatus {
    limit: u64,
    remaining: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_seconds: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
struct IdentityQuotaStatus {
    identity: String,
    #[serde(flatten)]
    quota: QuotaStatus,
    /// By whom the registry counts: an address or an account.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_in_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked_for_seconds: Option<f64>,
    /// Whether what is left is kept for what somebody asks for: the schedule waits.
    reserved: bool,
}

/// How samovar is doing, as far as it names nothing that the caller may not see.
#[utoipa::path(
    get,
    path = "/api/v1/status",
    operation_id = "get_status",
    responses((status = 200, description = "How samovar is doing", body = Status))
)]
pub(super) async fn status(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
    StrictQuery(NoParameters {}): StrictQuery<NoParameters>,
) -> Response {
    let mut store = store_status::status(&doors).await;
    let mut overview = doors.warmer.overview();
    let watch_list = doors.warmer.watch_list();
    let mut watched = watch_list.0.len();
    let queues = doors.warmer.queues();
    let (mut lanes, mut hosts) = (lanes(&doors, &queues), hosts(&doors));
    let sees_all = caller.may_operate();
    if !sees_all {
        let seen: Vec<&Name> = watch_list.0.keys().filter(|name| caller.may_read(name)).collect();
        let seen_hosts: BTreeSet<&str> = seen.iter().map(|name| name.host()).collect();
        watched = seen.len();
        overview.retain(|name, _| caller.may_read(name));
        lanes.retain(|lane| seen_hosts.contains(lane.host.as_str()));
        hosts.retain(|host| seen_hosts.contains(host.host.as_str()));
        // Who logs in there, and as whom, is of no concern to those who read.
        for host in &mut hosts {
            host.quotas.clear();
        }
        store = store.without_places();
    }
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        started_at: doors.started_at,
        ready: store.error.is_none(),
        store,
        warmer: WarmerStatus {
            repositories: watched,
            complete: overview.values().filter(|repository| repository.complete).count(),
            never_listed: overview.values().filter(|repository| !repository.listed).count(),
            queued: doors.warmer.waiting_requests(),
            running: doors.warmer.running_passes(),
            unsaved: doors.warmer.unsaved_repositories(),
            unwatched: doors.warmer.unwatched_repositories(),
        },
        queue: queue(queues.values()),
        access: AccessStatus::new(&doors, sees_all),
        sources: doors
            .sources
            .iter()
            // Their names and problems name repositories.
            .filter(|_| sees_all)
            .map(|(name, problems)| SourceStatus {
                name: name.clone(),
                repositories: doors.warmer.watched_by(name),
                problems: problems.list(),
            })
            .collect(),
        lanes,
        hooks: if sees_all { doors.hooks.status() } else { Vec::new() },
        hosts,
        // What they are told of names repositories.
        receivers: if sees_all { doors.receivers.list() } else { Vec::new() },
        unverified_hosts: if sees_all { doors.unverified_hosts.clone() } else { Vec::new() },
    };
    Json(status).into_response()
}

fn queue<'a>(queues: impl Iterator<Item = &'a QueueStanding> + Clone) -> QueueStatus {
    let waiting = |class| queues.clone().map(|queue| queue.of(class)).sum();
    let longest_wait = queues.clone().filter(|queue| queue.waiting() > 0).map(|queue| queue.longest_wait);
    QueueStatus {
        asked: waiting(Class::Asked),
        new: waiting(Class::New),
        due: waiting(Class::Due),
        background: waiting(Class::Background),
        scheduled: queues.clone().map(|queue| queue.scheduled).sum(),
        longest_wait_seconds: seconds(longest_wait.max()),
    }
}

fn lanes(doors: &Doors, queues: &BTreeMap<String, QueueStanding>) -> Vec<LaneStatus> {
    let lanes = doors.warmer.lanes().into_iter().map(|(host, standing)| {
        let queue = queues.get(&host).copied().unwrap_or_default();
        LaneStatus {
            host,
            standing: standing.as_str(),
            waiting: queue.waiting(),
            longest_wait_seconds: seconds((queue.waiting() > 0).then_some(queue.longest_wait)),
        }
    });
    lanes.collect()
}

fn hosts(doors: &Doors) -> Vec<HostStatus> {
    let budgets = doors.upstreams.budgets().into_iter();
    budgets
        .map(|(host, budget)| HostStatus {
            host,
            rate: budget.rate,
            configured_rate: budget.configured_rate,
            burst: budget.burst,
            concurrency: budget.concurrency,
            in_flight: budget.in_flight,
            waiting: budget.waiting,
            blocked_for_seconds: seconds(budget.blocked_for),
            blocked_by: budget.blocked_by.map(BlockReason::as_str),
            token_blocked_for_seconds: seconds(budget.token_blocked_for),
            cdn_blocked_for_seconds: seconds(budget.cdn_blocked_for),
            breaker: (budget.breaker.failures > 0)
                .then_some(BreakerStatus { open: budget.breaker.is_open, failures: budget.breaker.failures }),
            quota: budget.quota.as_ref().map(quota),
            quotas: budget.quotas.iter().map(identity_quota).collect(),
        })
        .collect()
}

fn identity_quota(known: &IdentityQuota) -> IdentityQuotaStatus {
    IdentityQuotaStatus {
        identity: known.identity.to_string(),
        quota: quota(&known.quota),
        source: known.quota.source.as_deref().map(str::to_owned),
        resets_in_seconds: known.resets_in.map(|left| left.as_secs()),
        blocked_for_seconds: seconds(known.blocked_for),
        reserved: known.is_reserved,
    }
}

fn quota(quota: &Quota) -> QuotaStatus {
    QuotaStatus {
        limit: quota.limit,
        remaining: quota.remaining,
        window_seconds: quota.window.map(|window| window.as_secs()),
    }
}

fn seconds(left: Option<Duration>) -> Option<f64> {
    left.map(|left| left.as_secs_f64())
}
