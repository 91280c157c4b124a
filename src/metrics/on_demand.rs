//! Metrics of what is watched because somebody asked about it.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use super::{counter, counters, gauge};
use crate::sources::Leaving;

#[derive(Debug)]
pub(super) struct OnDemandMetrics {
    repositories: IntGauge,
    added: IntCounter,
    removed: IntCounterVec,
    turned_away: IntCounter,
}

impl OnDemandMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let metrics = Self {
            repositories: gauge(
                registry,
                "samovar_on_demand_repositories",
                "Repositories that are watched because somebody asked about them.",
            ),
            added: counter(
                registry,
                "samovar_on_demand_added_total",
                "Repositories that came to be watched because somebody asked about them.",
            ),
            removed: counters(
                registry,
                "samovar_on_demand_removed_total",
                "Repositories that are no longer watched on demand, by reason.",
                &["reason"],
            ),
            turned_away: counter(
                registry,
                "samovar_on_demand_turned_away_total",
                "Questions about repositories that could not be watched because all that are watched on demand are in use.",
            ),
        };
        for leaving in Leaving::ALL {
            metrics.removed.with_label_values(&[leaving.as_str()]);
        }
        metrics
    }

    pub(super) fn set_repositories(&self, count: usize) {
        self.repositories.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(super) fn added(&self) {
        self.added.inc();
    }

    pub(super) fn removed(&self, leaving: Leaving) {
        self.removed.with_label_values(&[leaving.as_str()]).inc();
    }

    pub(super) fn turned_away(&self) {
        self.turned_away.inc();
    }
}
