//! The metrics of the hot set.

use std::sync::{Mutex, PoisonError};

use prometheus::{IntCounter, IntGauge, Registry};

use super::{counter, gauge, raise};
use crate::cache::HotSetStatistics;

/// Set from the hot set's own statistics whenever they are asked for.
#[derive(Debug)]
pub(super) struct HotSetMetrics {
    repositories: IntGauge,
    bytes: IntGauge,
    limit_bytes: IntGauge,
    hits: IntCounter,
    misses: IntCounter,
    stale_answers: IntCounter,
    evictions: IntCounter,
    /// Two scrapes at the same time must not both raise the counters.
    raising: Mutex<()>,
}

impl HotSetMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let gauge = |name, help| gauge(registry, name, help);
        let counter = |name, help| counter(registry, name, help);
        Self {
            repositories: gauge(
                "samovar_hot_set_repositories",
                "Repositories that are kept decoded in memory.",
            ),
            bytes: gauge("samovar_hot_set_bytes", "Memory that they take up, about."),
            limit_bytes: gauge("samovar_hot_set_limit_bytes", "Memory that they may take up."),
            hits: counter("samovar_hot_set_hits_total", "Reads answered from memory."),
            misses: counter("samovar_hot_set_misses_total", "Reads that had to ask the store."),
            stale_answers: counter(
                "samovar_hot_set_stale_answers_total",
                "Reads answered from memory, perhaps out of date, because the store could not be read.",
            ),
            evictions: counter(
                "samovar_hot_set_evictions_total",
                "Repositories that left memory for want of room, or were too large to be kept.",
            ),
            raising: Mutex::default(),
        }
    }

    pub(super) fn set(&self, statistics: &HotSetStatistics) {
        let set = |gauge: &IntGauge, value: usize| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.repositories, statistics.repositories);
        set(&self.bytes, statistics.bytes);
        set(&self.limit_bytes, statistics.limit_bytes);
        let _alone = self.raising.lock().unwrap_or_else(PoisonError::into_inner);
        raise(&self.hits, statistics.hits);
        raise(&self.misses, statistics.misses);
        raise(&self.stale_answers, statistics.stale_answers);
        raise(&self.evictions, statistics.evictions);
    }
}
