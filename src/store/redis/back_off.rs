//! When the next attempt to connect may be made.

use std::time::Duration;

use tokio::time::Instant;

/// The pause after the first failure; it doubles with each one after it.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two attempts to connect.
const LONGEST_RECONNECT_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause after a connection that was lost young: the server is there, or was a moment ago.
const LONGEST_PAUSE_AFTER_LOSS: Duration = Duration::from_millis(500);
/// A connection that lasted this long was a good one: when it ends, the next attempt is made at once.
const STEADY: Duration = Duration::from_secs(1);

/// Counts failures in a row, and says until when to hold still.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    failures: u32,
    not_before: Option<Instant>,
}

impl BackOff {
    /// Until when no attempt may be made, if one may not be made now.
    pub(super) fn pause_until(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|not_before| *not_before > now)
    }

    /// An attempt to connect failed.
    pub(super) fn failed(&mut self, now: Instant) {
        self.pause(now, LONGEST_RECONNECT_PAUSE);
    }

    /// A connection was lost that had been there since `since`.
    pub(super) fn lost(&mut self, since: Instant, now: Instant) {
        if now.duration_since(since) < STEADY {
            self.pause(now, LONGEST_PAUSE_AFTER_LOSS);
        } else {
            *self = Self::default();
        }
    }

    fn pause(&mut self, now: Instant, longest: Duration) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        // Half of it at random, so that replicas do not come back all at once.
        self.not_before = Some(now + pause.mul_f64(0.5 + fastrand::f64() / 2.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_stay_bounded() {
        let mut back_off = BackOff::default();
        assert_eq!(back_off.pause_until(Instant::now()), None, "the first attempt waits for nothing");
        for failure in 0..40 {
            let now = Instant::now();
            back_off.failed(now);
            let pause = back_off.pause_until(now).expect("a pause") - now;
            assert!(pause <= LONGEST_RECONNECT_PAUSE, "failure {failure}: {pause:?}");
            assert!(failure > 0 || pause <= FIRST_PAUSE, "{pause:?}");
            assert!(failure < 20 || pause >= LONGEST_RECONNECT_PAUSE / 2, "failure {failure}: {pause:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_steady_connection_may_be_replaced_at_once() {
        let mut back_off = BackOff::default();
        let since = Instant::now();
        for _ in 0..20 {
            let now = since + STEADY / 2;
            back_off.lost(since, now);
            let pause = back_off.pause_until(now).expect("a pause") - now;
            assert!(pause <= LONGEST_PAUSE_AFTER_LOSS, "{pause:?}");
        }
        back_off.lost(since, since + STEADY);
        assert_eq!(back_off.pause_until(since + STEADY), None);
    }
}
