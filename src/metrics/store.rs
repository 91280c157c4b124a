//! What is measured of stores. The label `store` is a kind of engine, or `local_tier`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::{counters, gauges, histograms};
use crate::store::Statistics;

/// From a look-up in memory to an operation that is about to be given up, in seconds.
const BUCKETS: [f64; 13] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

/// What is asked of a store, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreOperation {
    Get,
    GetMany,
    Set,
    SetMany,
    CompareAndSet,
    Delete,
    Lease,
    Renew,
}

impl StoreOperation {
    const ALL: [Self; 8] = [
        Self::Get,
        Self::GetMany,
        Self::Set,
        Self::SetMany,
        Self::CompareAndSet,
        Self::Delete,
        Self::Lease,
        Self::Renew,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::GetMany => "get_many",
            Self::Set => "set",
            Self::SetMany => "set_many",
            Self::CompareAndSet => "compare_and_set",
            Self::Delete => "delete",
            Self::Lease => "lease",
            Self::Renew => "renew",
        }
    }

    /// Whether it moves values, and so has bytes to count.
    fn moves_values(self) -> bool {
        !matches!(self, Self::Delete | Self::Lease | Self::Renew)
    }

    /// How it can end, besides with an error.
    fn outcomes(self) -> &'static [StoreOutcome] {
        match self {
            Self::Get | Self::GetMany => &[StoreOutcome::Hit, StoreOutcome::Miss],
            Self::CompareAndSet | Self::Lease => &[StoreOutcome::Ok, StoreOutcome::Conflict],
            Self::Set | Self::SetMany | Self::Delete | Self::Renew => &[StoreOutcome::Ok],
        }
    }
}

/// How it ended, as a label: for reads, key by key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreOutcome {
    Hit,
    Miss,
    Ok,
    /// Another writer was first, or another holder has the lease.
    Conflict,
    Error,
}

impl StoreOutcome {
    const COUNT: usize = 5;

    fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Ok => "ok",
            Self::Conflict => "conflict",
            Self::Error => "error",
        }
    }
}

/// The families, over all stores of the process.
#[derive(Debug)]
pub(super) struct StoreFamilies {
    durations: HistogramVec,
    operations: IntCounterVec,
    bytes: IntCounterVec,
    up: IntGaugeVec,
    entries: IntGaugeVec,
    value_bytes: IntGaugeVec,
    used_bytes: IntGaugeVec,
    limit_bytes: IntGaugeVec,
    evicted: IntCounterVec,
}

impl StoreFamilies {
    pub(super) fn register(registry: &Registry) -> Self {
        let gauge = |name: &str, help: &str| gauges(registry, name, help, &["store"]);
        Self {
            durations: histograms(
                registry,
                "samovar_store_operation_duration_seconds",
                "Time that the store took for an operation, failed ones included.",
                &["store", "operation"],
                &BUCKETS,
            ),
            operations: counters(
                registry,
                "samovar_store_operations_total",
                "What was asked of the store, by outcome; reads are counted key by key.",
                &["store", "operation", "outcome"],
            ),
            bytes: counters(
                registry,
                "samovar_store_bytes_total",
                "Bytes of values read from the store and written to it.",
                &["store", "operation"],
            ),
            up: gauge(
                "samovar_store_up",
                "1 while the store answers, 0 from a failure on until it answers again.",
            ),
            entries: gauge("samovar_store_entries", "Entries in the store, as far as it can tell."),
            value_bytes: gauge(
                "samovar_store_value_bytes",
                "Bytes of keys and values, as far as the store can tell.",
            ),
            used_bytes: gauge(
                "samovar_store_used_bytes",
                "Bytes that the store takes up on disk or in its servers' memory, as far as it can tell.",
            ),
            limit_bytes: gauge(
                "samovar_store_limit_bytes",
                "Bytes that the store may take up, as far as it can tell.",
            ),
            evicted: counters(
                registry,
                "samovar_store_evicted_total",
                "Entries that had to go for want of room, as far as the store can tell.",
                &["store"],
            ),
        }
    }

    /// The metrics of the store that is called `store`, those that every store has at 0.
    pub(super) fn of(&self, store: &'static str) -> StoreMetrics {
        let up = self.up.with_label_values(&[store]);
        // It has not failed yet.
        up.set(1);
        StoreMetrics {
            operations: StoreOperation::ALL.map(|operation| self.operation(store, operation)),
            up,
            entries: self.entries.clone(),
            value_bytes: self.value_bytes.clone(),
            used_bytes: self.used_bytes.clone(),
            limit_bytes: self.limit_bytes.clone(),
            evicted: self.evicted.clone(),
            evicted_before: AtomicU64::new(0),
            store,
        }
    }

    fn operation(&self, store: &str, operation: StoreOperation) -> OperationMetrics {
        let name = operation.as_str();
        let mut outcomes = [const { None }; StoreOutcome::COUNT];
        for outcome in operation.outcomes().iter().copied().chain([StoreOutcome::Error]) {
            let counter = self.operations.with_label_values(&[store, name, outcome.as_str()]);
            outcomes[outcome as usize] = Some(counter);
        }
        OperationMetrics {
            duration: self.durations.with_label_values(&[store, name]),
            outcomes,
            bytes: operation.moves_values().then(|| self.bytes.with_label_values(&[store, name])),
        }
    }
}

/// The metrics of one store. Labels are looked up once: a read takes less time than looking them up.
#[derive(Debug)]
pub struct StoreMetrics {
    store: &'static str,
    operations: [OperationMetrics; StoreOperation::ALL.len()],
    up: IntGauge,
    entries: IntGaugeVec,
    value_bytes: IntGaugeVec,
    used_bytes: IntGaugeVec,
    limit_bytes: IntGaugeVec,
    evicted: IntCounterVec,
    /// What the store last said it had evicted.
    evicted_before: AtomicU64,
}

#[derive(Debug)]
struct OperationMetrics {
    duration: Histogram,
    /// By [`StoreOutcome`]; those that the operation cannot have are `None`.
    outcomes: [Option<IntCounter>; StoreOutcome::COUNT],
    bytes: Option<IntCounter>,
}

impl StoreMetrics {
    /// What the store is called in labels and logs.
    pub(crate) fn store(&self) -> &'static str {
        self.store
    }

    /// An operation ended after `took`.
    pub(crate) fn took(&self, operation: StoreOperation, took: Duration) {
        self.operations[operation as usize].duration.observe(took.as_secs_f64());
    }

    /// It ended like this, for so many keys or for itself.
    pub(crate) fn count(&self, operation: StoreOperation, outcome: StoreOutcome, times: usize) {
        if let Some(counter) = &self.operations[operation as usize].outcomes[outcome as usize] {
            counter.inc_by(times as u64);
        }
    }

    /// It moved so many bytes of values.
    pub(crate) fn moved(&self, operation: StoreOperation, bytes: usize) {
        if let Some(counter) = &self.operations[operation as usize].bytes {
            counter.inc_by(bytes as u64);
        }
    }

    /// Whether the store answers.
    pub(crate) fn set_up(&self, up: bool) {
        self.up.set(i64::from(up));
    }

    /// Takes over what the store says of itself; what it does not say is left out.
    pub(crate) fn stand(&self, statistics: &Statistics) {
        let gauges = [
            (&self.entries, statistics.entries),
            (&self.value_bytes, statistics.value_bytes),
            (&self.used_bytes, statistics.used_bytes),
            (&self.limit_bytes, statistics.limit_bytes),
        ];
        for (gauge, value) in gauges {
            if let Some(value) = value {
                gauge.with_label_values(&[self.store]).set(i64::try_from(value).unwrap_or(i64::MAX));
            }
        }
        if let Some(evicted) = statistics.evicted {
            let before = self.evicted_before.swap(evicted, Ordering::Relaxed);
            // Less than before: a server was restarted and counts from 0 again.
            let since = evicted.checked_sub(before).unwrap_or(evicted);
            self.evicted.with_label_values(&[self.store]).inc_by(since);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::Metrics;
    use crate::store::Statistics;

    fn sample(metrics: &Metrics, series: &str) -> Option<String> {
        let page = metrics.render();
        page.lines().find_map(|line| Some(line.strip_prefix(series)?.trim().to_owned()))
    }

    #[test]
    fn what_can_happen_to_a_store_is_there_at_0_and_nothing_else() {
        let metrics = Metrics::new();
        let _store = metrics.store("memory");
        let operations = "samovar_store_operations_total{operation=";
        let page = metrics.render();
        assert_eq!(
            page.lines().filter(|line| line.starts_with(operations)).count(),
            3 + 3 + 2 + 2 + 3 + 2 + 3 + 2
        );
        let bytes = page.lines().filter(|line| line.starts_with("samovar_store_bytes_total{"));
        assert_eq!(bytes.count(), 5);
        assert_eq!(sample(&metrics, r#"samovar_store_up{store="memory"}"#).as_deref(), Some("1"));
        assert_eq!(sample(&metrics, "samovar_store_entries{"), None, "not asked yet");
    }

    #[test]
    fn evictions_are_counted_on_when_a_server_begins_anew() {
        let metrics = Metrics::new();
        let store = metrics.store("memcached");
        let series = r#"samovar_store_evicted_total{store="memcached"}"#;
        for (said, counted) in [(5, "5"), (5, "5"), (7, "7"), (2, "9"), (3, "10")] {
            store.stand(&Statistics { evicted: Some(said), ..Statistics::default() });
            assert_eq!(sample(&metrics, series).as_deref(), Some(counted));
        }
        assert_eq!(sample(&metrics, "samovar_store_used_bytes{"), None, "what is not said is not shown");
    }
}
