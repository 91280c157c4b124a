//! The metrics of answers that are kept encoded.

use std::sync::{Mutex, PoisonError};

use prometheus::{IntCounter, IntGauge, Registry};

use super::{counter, gauge, raise};

/// Set from what is kept whenever they are asked for.
#[derive(Debug)]
pub(super) struct EncodedAnswersMetrics {
    bytes: IntGauge,
    made: IntCounter,
    /// Two scrapes at the same time must not both raise the counter.
    raising: Mutex<()>,
}

impl EncodedAnswersMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            bytes: gauge(
                registry,
                "samovar_encoded_answers_bytes",
                "Memory that encoded answers about repositories take up, about.",
            ),
            made: counter(
                registry,
                "samovar_encoded_answers_made_total",
                "Answers about repositories that had to be encoded; the others are shared bytes.",
            ),
            raising: Mutex::default(),
        }
    }

    pub(super) fn set(&self, bytes: usize, made: u64) {
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        let _alone = self.raising.lock().unwrap_or_else(PoisonError::into_inner);
        raise(&self.made, made);
    }
}
