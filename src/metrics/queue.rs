//! Who waits for their turn.

use std::collections::BTreeMap;

use prometheus::{GaugeVec, IntGaugeVec, Opts, Registry};

use crate::warmer::{Class, QueueStanding};

#[derive(Debug)]
pub(super) struct QueueMetrics {
    repositories: IntGaugeVec,
    longest_wait: GaugeVec,
}

impl QueueMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let longest_wait = Opts::new(
            "samovar_queue_longest_wait_seconds",
            "For how long whatever is due has been waiting for its turn at most, by registry host.",
        );
        let longest_wait = GaugeVec::new(longest_wait, &["host"]).expect(super::VALID);
        super::register(registry, longest_wait.clone());
        let repositories = super::gauges(
            registry,
            "samovar_queue_repositories",
            "Repositories that are due and wait for their turn, by the most urgent thing that each needs.",
            &["class"],
        );
        for class in Class::ALL {
            repositories.with_label_values(&[class.as_str()]);
        }
        Self { repositories, longest_wait }
    }

    /// A host for which nobody has waited yet.
    pub(super) fn host(&self, host: &str) {
        self.longest_wait.with_label_values(&[host]);
    }

    /// How the queues stand, by host.
    pub(super) fn set(&self, queues: &BTreeMap<String, QueueStanding>) {
        for class in Class::ALL {
            let waiting: usize = queues.values().map(|queue| queue.of(class)).sum();
            let repositories = self.repositories.with_label_values(&[class.as_str()]);
            repositories.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        }
        for (host, queue) in queues {
            self.longest_wait.with_label_values(&[host]).set(queue.longest_wait.as_secs_f64());
        }
    }
}
