//! Metrics of what is told by webhooks. Receivers are as many as are configured.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec, IntGauge, Registry};

use super::{counters, gauge, histograms};
use crate::server::DeliveryOutcome;

/// From one HEAD of a registry nearby to one that is limited, in seconds.
const VISIBLE_BUCKETS: [f64; 10] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];

#[derive(Debug)]
pub(super) struct WebhookMetrics {
    deliveries: IntCounterVec,
    visible: HistogramVec,
    waiting: IntGauge,
}

impl WebhookMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            deliveries: counters(
                registry,
                "samovar_webhooks_total",
                "Deliveries to receivers of webhooks, by receiver and by what became of them.",
                &["receiver", "outcome"],
            ),
            visible: histograms(
                registry,
                "samovar_webhook_visible_seconds",
                "Time from a delivery until what it told of could be seen, for each repository or tag of which it brought something new.",
                &["receiver"],
                &VISIBLE_BUCKETS,
            ),
            waiting: gauge(
                registry,
                "samovar_webhook_hints_waiting",
                "Repositories and tags that webhooks told of and that wait because too many requests of their hosts do.",
            ),
        }
    }

    /// A receiver to which nothing has come yet.
    pub(super) fn receiver(&self, receiver: &str) {
        for outcome in DeliveryOutcome::ALL {
            self.deliveries.with_label_values(&[receiver, outcome.as_str()]);
        }
        self.visible.with_label_values(&[receiver]);
    }

    pub(super) fn delivered(&self, receiver: &str, outcome: DeliveryOutcome) {
        self.deliveries.with_label_values(&[receiver, outcome.as_str()]).inc();
    }

    pub(super) fn visible(&self, receiver: &str, took: Duration) {
        self.visible.with_label_values(&[receiver]).observe(took.as_secs_f64());
    }

    pub(super) fn set_waiting(&self, count: usize) {
        self.waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
