//! Whether a host's own list is worth asking for, or has failed lately.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Setback;

/// After its first failure a registry's own list is left alone for so long; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_mins(10);
/// It is tried again after so long at most.
const LONGEST_PAUSE: Duration = Duration::from_hours(24);

/// How the own list of one host stands.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Standing(Mutex<Failures>);

#[derive(Debug, Default)]
struct Failures {
    in_a_row: u32,
    again_at: Option<Instant>,
}

impl Standing {
    /// Whether to ask for it now.
    pub(in crate::upstream::listing) fn may_be_tried(&self) -> bool {
        self.lock().again_at.is_none_or(|again_at| again_at <= Instant::now())
    }

    /// It could be read.
    pub(in crate::upstream::listing) fn worked(&self, host: &str) {
        let mut failures = self.lock();
        if failures.in_a_row > 0 {
            tracing::info!(registry.host = host, "its own list of tags can be read again");
        }
        *failures = Failures::default();
    }

    /// It could not be read, for a reason that is the host's.
    pub(in crate::upstream::listing) fn failed(&self, host: &str, setback: &Setback) {
        let mut failures = self.lock();
        let pause = FIRST_PAUSE.saturating_mul(1 << failures.in_a_row.min(16)).min(LONGEST_PAUSE);
        let pause_s = pause.as_secs();
        let error = &setback.error;
        if failures.in_a_row == 0 {
            tracing::warn!(registry.host = host, %error, pause_s, "its own list of tags cannot be read; the usual one is");
        } else {
            tracing::debug!(registry.host = host, %error, pause_s, "its own list of tags still cannot be read");
        }
        failures.in_a_row = failures.in_a_row.saturating_add(1);
        failures.again_at = Some(Instant::now() + pause);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Failures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{ErrorKind, Operation, UpstreamError};

    #[tokio::test(start_paused = true)]
    async fn failures_put_it_off_for_longer_and_longer_and_a_success_is_forgiveness() {
        let standing = Standing::default();
        let error = UpstreamError {
            repository: "r.example/app".parse().unwrap(),
            operation: Operation::Tags,
            kind: ErrorKind::Unavailable { status: 500, message: None },
        };
        let setback = Setback { error, is_of_repository: false };
        for minutes in [10, 20, 40, 80, 160, 320, 640, 1_280, 1_440, 1_440] {
            assert!(standing.may_be_tried());
            standing.failed("r.example", &setback);
            tokio::time::advance(Duration::from_secs(60 * minutes - 1)).await;
            assert!(!standing.may_be_tried(), "{minutes}");
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        standing.worked("r.example");
        standing.failed("r.example", &setback);
        tokio::time::advance(FIRST_PAUSE).await;
        assert!(standing.may_be_tried());
    }
}
