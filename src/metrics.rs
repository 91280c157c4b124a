//! Every metric, declared in one place. `docs/operations.md` lists them with their meaning; a test compares the two.
//!
//! Labels are bounded: hosts (as many as are watched), outcomes and states (enums). Never repositories or tags.

mod access;
mod budgets;
mod encoded_answers;
mod hot_set;
mod oci;
mod on_demand;
mod queue;
mod store;
mod webhooks;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use samovar_registry::upstream::{
    BudgetSnapshot, ErrorClass, Operation, Outcome, RequestObserver, RequestRecord,
};

use crate::cache::HotSetStatistics;
use crate::cache::load::{Missing, MissingObserver};
use crate::cache::records::TagStateName;
use crate::cache::stored::TagCounts;
use crate::server::DeliveryOutcome;
use crate::sources::Leaving;
use crate::warmer::{ChangeKind, LaneStanding, QueueStanding, RepositoryOverview};

use self::access::AccessMetrics;
use self::budgets::BudgetMetrics;
use self::encoded_answers::EncodedAnswersMetrics;
use self::hot_set::HotSetMetrics;
use self::oci::OciMetrics;
use self::on_demand::OnDemandMetrics;
use self::queue::QueueMetrics;
use self::store::StoreFamilies;
use self::webhooks::WebhookMetrics;

pub(crate) use self::access::{LimitedBy, Refusal};
pub(crate) use self::oci::Waited;
pub use self::store::StoreMetrics;
pub(crate) use self::store::{StoreOperation, StoreOutcome};

/// From a cache hit in a registry's CDN to a slow one's listing, in seconds.
const UPSTREAM_BUCKETS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
/// From no wait to a quota's window, in seconds.
const WAIT_BUCKETS: [f64; 8] = [0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0];
/// From a small repository to the largest, in seconds.
const DOOR_BUCKETS: [f64; 9] = [0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0];

/// How passes end, as a label.
const PASS_OUTCOMES: [&str; 5] = ["ok", "upstream_error", "store_error", "stopped", "elsewhere"];

/// All metrics of one samovar.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    upstream_requests: IntCounterVec,
    upstream_duration: HistogramVec,
    upstream_wait: HistogramVec,
    upstream_bytes: IntCounterVec,
    budgets: BudgetMetrics,
    passes: IntCounterVec,
    changes: IntCounterVec,
    documents_saved: IntCounter,
    repositories: IntGaugeVec,
    tags: IntGaugeVec,
    unparsable_labels: IntGauge,
    waiting_requests: IntGauge,
    queues: QueueMetrics,
    unsaved_repositories: IntGauge,
    unwatched_repositories: IntGauge,
    forgotten_repositories: IntCounter,
    on_demand: OnDemandMetrics,
    webhooks: WebhookMetrics,
    oci: OciMetrics,
    access: AccessMetrics,
    lanes: IntGaugeVec,
    missing: IntCounterVec,
    hot_set: HotSetMetrics,
    notifications: IntCounterVec,
    waiting_notifications: IntGaugeVec,
    waiting_clients: IntGaugeVec,
    encoded_answers: EncodedAnswersMetrics,
    http_requests: IntCounterVec,
    http_duration: HistogramVec,
    stores: StoreFamilies,
    requests_sent: AtomicU64,
    bytes_received: AtomicU64,
}

impl Metrics {
    /// All metrics, with known label values at 0, and the process's own.
    pub fn new() -> Self {
        let registry = Registry::new();
        let metrics = Self {
            upstream_requests: counters(
                &registry,
                "samovar_upstream_requests_total",
                "Requests sent to registries, token servers and CDNs, by registry host, operation and outcome.",
                &["host", "operation", "outcome"],
            ),
            upstream_duration: histograms(
                &registry,
                "samovar_upstream_request_duration_seconds",
                "Time from sending a request upstream to the end of its answer, waiting for the budget left out.",
                &["operation"],
                &UPSTREAM_BUCKETS,
            ),
            upstream_wait: histograms(
                &registry,
                "samovar_budget_wait_seconds",
                "Time that requests waited for their host's budget.",
                &["operation"],
                &WAIT_BUCKETS,
            ),
            upstream_bytes: counters(
                &registry,
                "samovar_upstream_received_bytes_total",
                "Bytes of bodies received from upstream, by registry host.",
                &["host"],
            ),
            budgets: BudgetMetrics::new(&registry),
            passes: counters(
                &registry,
                "samovar_refresh_passes_total",
                "Refreshes of one repository that ended, by how.",
                &["outcome"],
            ),
            changes: counters(&registry, "samovar_changes_total", "Changes seen, by type.", &["type"]),
            documents_saved: counter(
                &registry,
                "samovar_documents_saved_total",
                "Manifests and configurations that were not asked for because the store had them by digest.",
            ),
            repositories: gauges(
                &registry,
                "samovar_repositories",
                "Watched repositories: complete, incomplete, or never listed.",
                &["state"],
            ),
            tags: gauges(&registry, "samovar_tags", "Tags of watched repositories, by state.", &["state"]),
            unparsable_labels: gauge(
                &registry,
                "samovar_timestamp_labels_unparsable",
                "How often a timestamp label was met that is not a time by RFC 3339.",
            ),
            waiting_requests: gauge(
                &registry,
                "samovar_refresh_requests_waiting",
                "Requests to refresh that wait to be started.",
            ),
            queues: QueueMetrics::new(&registry),
            unsaved_repositories: gauge(
                &registry,
                "samovar_unsaved_repositories",
                "Repositories of which something was learnt that the store does not take.",
            ),
            unwatched_repositories: gauge(
                &registry,
                "samovar_repositories_unwatched",
                "Repositories in the store that nobody watches, as far as this replica knows.",
            ),
            forgotten_repositories: counter(
                &registry,
                "samovar_repositories_forgotten_total",
                "Repositories that were removed from the store because nobody had watched them for long.",
            ),
            missing: counters(
                &registry,
                "samovar_store_missing_total",
                "What should have been in the store and was not, or did not decode, when somebody read it.",
                &["what"],
            ),
            hot_set: HotSetMetrics::new(&registry),
            encoded_answers: EncodedAnswersMetrics::new(&registry),
            on_demand: OnDemandMetrics::new(&registry),
            webhooks: WebhookMetrics::new(&registry),
            oci: OciMetrics::new(&registry),
            access: AccessMetrics::new(&registry),
            lanes: gauges(
                &registry,
                "samovar_lanes",
                "Registry hosts, by who asks them: this replica (ours), another one (elsewhere), or all (unleased).",
                &["standing"],
            ),
            notifications: counters(
                &registry,
                "samovar_notifications_total",
                "Requests that tell receivers of changes, by receiver and outcome.",
                &["receiver", "outcome"],
            ),
            waiting_notifications: gauges(
                &registry,
                "samovar_notifications_waiting",
                "Changes that a receiver has yet to be told of, at hosts that this replica asks.",
                &["receiver"],
            ),
            waiting_clients: gauges(
                &registry,
                "samovar_waiting_clients",
                "Clients that wait for a change, by how: an event stream or a long poll.",
                &["how"],
            ),
            http_requests: counters(
                &registry,
                "samovar_http_requests_total",
                "Requests answered, by route and status.",
                &["route", "code"],
            ),
            http_duration: histograms(
                &registry,
                "samovar_http_request_duration_seconds",
                "Time to answer a request (to its header), long polls and waits included.",
                &["route"],
                &DOOR_BUCKETS,
            ),
            stores: StoreFamilies::register(&registry),
            requests_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            registry,
        };
        metrics.start_at_zero();
        metrics
    }

    /// Known label values are there from the start, so that rates and alerts see the first increase.
    fn start_at_zero(&self) {
        let build =
            gauges(&self.registry, "samovar_build_info", "1, with the version as a label.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        for outcome in PASS_OUTCOMES {
            self.passes.with_label_values(&[outcome]);
        }
        for kind in ChangeKind::ALL {
            self.changes.with_label_values(&[kind.as_str()]);
        }
        for operation in Operation::ALL {
            self.upstream_duration.with_label_values(&[operation.as_str()]);
            self.upstream_wait.with_label_values(&[operation.as_str()]);
        }
        for route in crate::server::ROUTES.iter().chain(&crate::server::oci::ROUTES) {
            self.http_requests.with_label_values(&[route, "200"]);
            self.http_duration.with_label_values(&[route]);
        }
        self.overview(std::iter::empty());
        self.set_lanes(std::iter::empty());
        for what in Missing::ALL {
            self.missing.with_label_values(&[what.as_str()]);
        }
        #[cfg(target_os = "linux")]
        register(&self.registry, prometheus::process_collector::ProcessCollector::for_self());
    }

    /// Makes the label values of a host known, at 0.
    pub fn host(&self, host: &str) {
        for operation in Operation::ALL {
            let outcomes = [Outcome::Ok, Outcome::Cancelled];
            for outcome in outcomes.into_iter().chain(ErrorClass::ALL.map(Outcome::Failed)) {
                self.upstream_requests.with_label_values(&[host, operation.as_str(), outcome.as_str()]);
            }
        }
        self.upstream_bytes.with_label_values(&[host]);
        self.budgets.host(host);
        self.queues.host(host);
    }

    /// The metrics of a store, under the name that it has in labels: its kind, or `local_tier`.
    pub fn store(&self, store: &'static str) -> StoreMetrics {
        self.stores.of(store)
    }

    pub(crate) fn pass_ended(&self, problem: Option<&crate::warmer::Problem>) {
        use crate::warmer::Problem;
        let outcome = match problem {
            None => PASS_OUTCOMES[0],
            Some(Problem::Upstream(_) | Problem::Limited { .. } | Problem::Tag(_)) => PASS_OUTCOMES[1],
            Some(Problem::Store(_)) => PASS_OUTCOMES[2],
            Some(Problem::Stopped) => PASS_OUTCOMES[3],
            Some(Problem::Elsewhere) => PASS_OUTCOMES[4],
        };
        self.passes.with_label_values(&[outcome]).inc();
    }

    pub(crate) fn change(&self, kind: ChangeKind) {
        self.changes.with_label_values(&[kind.as_str()]).inc();
    }

    pub(crate) fn documents_saved(&self) {
        self.documents_saved.inc();
    }

    /// A request was answered.
    pub(crate) fn answered(&self, route: &str, status: u16, duration: Duration) {
        self.http_requests.with_label_values(&[route, &status.to_string()]).inc();
        self.http_duration.with_label_values(&[route]).observe(duration.as_secs_f64());
    }

    /// Sets the gauges that are counted when they are asked for.
    pub(crate) fn overview(&self, repositories: impl Iterator<Item = RepositoryOverview>) {
        let (mut complete, mut incomplete, mut never_listed) = (0, 0, 0);
        let mut tags = TagStateName::ALL.map(|state| (state, 0_usize));
        for repository in repositories {
            match repository {
                RepositoryOverview { listed: false, .. } => never_listed += 1,
                RepositoryOverview { complete: true, .. } => complete += 1,
                RepositoryOverview { .. } => incomplete += 1,
            }
            for (sum, (_, count)) in tags.iter_mut().zip(TagCounts::by_state(&repository.counts)) {
                sum.1 += count;
            }
        }
        let set = |state: &str, count: i64| self.repositories.with_label_values(&[state]).set(count);
        set("complete", complete);
        set("incomplete", incomplete);
        set("never_listed", never_listed);
        for (state, count) in tags {
            self.tags.with_label_values(&[state.as_str()]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn set_unparsable_labels(&self, count: u64) {
        self.unparsable_labels.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn set_waiting_requests(&self, count: usize) {
        self.waiting_requests.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Who waits for their turn, by host.
    pub(crate) fn set_queues(&self, queues: &BTreeMap<String, QueueStanding>) {
        self.queues.set(queues);
    }

    /// Makes the label values of a receiver of notifications known, at 0.
    pub(crate) fn notified_receiver(&self, receiver: &str) {
        for outcome in crate::notify::outcomes() {
            self.notifications.with_label_values(&[receiver, outcome]);
        }
        self.set_notifications_waiting(receiver, 0);
    }

    /// It was tried to tell a receiver of a change.
    pub(crate) fn notified(&self, receiver: &str, outcome: &str) {
        self.notifications.with_label_values(&[receiver, outcome]).inc();
    }

    pub(crate) fn set_notifications_waiting(&self, receiver: &str, count: usize) {
        self.waiting_notifications
            .with_label_values(&[receiver])
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Who waits for a change.
    pub(crate) fn set_waiting_clients(&self, streams: usize, polls: usize) {
        for (how, count) in [("stream", streams), ("poll", polls)] {
            self.waiting_clients.with_label_values(&[how]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn set_hot_set(&self, statistics: &HotSetStatistics) {
        self.hot_set.set(statistics);
    }

    /// What encoded answers take up, and how many were made.
    pub(crate) fn set_encoded_answers(&self, bytes: usize, made: u64) {
        self.encoded_answers.set(bytes, made);
    }

    pub(crate) fn set_on_demand_repositories(&self, count: usize) {
        self.on_demand.set_repositories(count);
    }

    /// A repository is watched because somebody asked about it.
    pub(crate) fn on_demand_added(&self) {
        self.on_demand.added();
    }

    /// A repository is no longer watched on demand.
    pub(crate) fn on_demand_removed(&self, leaving: Leaving) {
        self.on_demand.removed(leaving);
    }

    /// There was no room to watch a repository that somebody asked about.
    pub(crate) fn on_demand_turned_away(&self) {
        self.on_demand.turned_away();
    }

    /// A client of the OCI door has waited for something.
    pub(crate) fn refused(&self, refusal: Refusal) {
        self.access.refused(refusal);
    }

    pub(crate) fn limited(&self, by: LimitedBy) {
        self.access.limited(by);
    }

    pub(crate) fn oci_waited(&self, outcome: Waited) {
        self.oci.waited(outcome);
    }

    /// Makes the label values of a receiver of webhooks known, at 0.
    pub fn receiver(&self, receiver: &str) {
        self.webhooks.receiver(receiver);
    }

    /// Something came of a delivery to a receiver of webhooks.
    pub(crate) fn webhook(&self, receiver: &str, outcome: DeliveryOutcome) {
        self.webhooks.delivered(receiver, outcome);
    }

    /// What a receiver was told of can be seen.
    pub(crate) fn webhook_visible(&self, receiver: &str, took: Duration) {
        self.webhooks.visible(receiver, took);
    }

    pub(crate) fn set_webhooks_waiting(&self, count: usize) {
        self.webhooks.set_waiting(count);
    }

    /// How the budget of each host stands.
    pub(crate) fn set_budgets(&self, budgets: &[(String, BudgetSnapshot)]) {
        self.budgets.set(budgets);
    }

    pub(crate) fn set_unsaved_repositories(&self, count: usize) {
        self.unsaved_repositories.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn set_unwatched_repositories(&self, count: usize) {
        self.unwatched_repositories.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn forgotten_repository(&self) {
        self.forgotten_repositories.inc();
    }

    pub(crate) fn set_lanes(&self, lanes: impl Iterator<Item = LaneStanding>) {
        let mut counts = LaneStanding::ALL.map(|standing| (standing, 0));
        for lane in lanes {
            counts.iter_mut().filter(|(standing, _)| *standing == lane).for_each(|(_, count)| *count += 1);
        }
        for (standing, count) in counts {
            self.lanes.with_label_values(&[standing.as_str()]).set(count);
        }
    }

    /// Requests sent upstream and bytes received so far, over all hosts.
    pub fn upstream_totals(&self) -> (u64, u64) {
        (self.requests_sent.load(Ordering::Relaxed), self.bytes_received.load(Ordering::Relaxed))
    }

    /// The page that Prometheus scrapes, in its text format.
    pub fn render(&self) -> String {
        let mut page = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut page).expect("writes to memory");
        String::from_utf8(page).expect("the text format is UTF-8")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestObserver for Metrics {
    fn request(&self, record: &RequestRecord<'_>) {
        let outcome = record.outcome.as_str();
        let operation = record.operation.as_str();
        self.upstream_requests.with_label_values(&[record.host, operation, outcome]).inc();
        self.upstream_duration.with_label_values(&[operation]).observe(record.duration.as_secs_f64());
        self.upstream_wait.with_label_values(&[operation]).observe(record.waited.as_secs_f64());
        self.upstream_bytes.with_label_values(&[record.host]).inc_by(record.bytes);
        self.requests_sent.fetch_add(1, Ordering::Relaxed);
        self.bytes_received.fetch_add(record.bytes, Ordering::Relaxed);
    }
}

impl MissingObserver for Metrics {
    fn missing(&self, what: Missing) {
        self.missing.with_label_values(&[what.as_str()]).inc();
    }
}

const VALID: &str = "names and labels are valid and declared once, here";

fn register(registry: &Registry, collector: impl prometheus::core::Collector + 'static) {
    registry.register(Box::new(collector)).expect(VALID);
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    let metric = IntCounter::new(name, help).expect(VALID);
    register(registry, metric.clone());
    metric
}

/// Brings a counter up to a total that is counted elsewhere.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    let metric = IntGauge::new(name, help).expect(VALID);
    register(registry, metric.clone());
    metric
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let metric = IntCounterVec::new(Opts::new(name, help), labels).expect(VALID);
    register(registry, metric.clone());
    metric
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    let metric = IntGaugeVec::new(Opts::new(name, help), labels).expect(VALID);
    register(registry, metric.clone());
    metric
}

fn histograms(registry: &Registry, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    let metric = HistogramVec::new(options, labels).expect(VALID);
    register(registry, metric.clone());
    metric
}
