//! Whether a server is spoken to, and how long it is left alone after it failed.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;

/// How long a server that failed is left alone before it is first tried again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause; each is twice the one before.
const LONGEST_SET_ASIDE: Duration = Duration::from_secs(30);
/// Pauses are shortened by up to this share, so that many clients do not come back at once.
const JITTER: f64 = 0.25;
/// A server that fails sooner than this after it came back goes on with the pauses where it left off.
const STEADY_AFTER: Duration = Duration::from_mins(1);

/// Whether a server is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nobody has spoken to it yet.
    Untried,
    /// It answers.
    Serving,
    /// It failed, with this, and is being tried again in the background.
    SetAside(Error),
}

/// The pauses between attempts to reach a server.
#[derive(Debug, Default)]
pub(crate) struct BackOff {
    pauses: u32,
    back_since: Option<Instant>,
}

impl BackOff {
    /// The server has just failed.
    pub(crate) fn failed(&mut self, now: Instant) {
        if self.back_since.take().is_none_or(|since| now.duration_since(since) >= STEADY_AFTER) {
            self.pauses = 0;
        }
    }

    /// The server is back.
    pub(crate) fn back(&mut self, now: Instant) {
        self.back_since = Some(now);
    }

    /// How long to wait before the next attempt.
    pub(crate) fn next(&mut self, random: f64) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.pauses)).min(LONGEST_SET_ASIDE);
        self.pauses = self.pauses.saturating_add(1);
        pause.mul_f64(1.0 - JITTER * random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses<const N: usize>(back_off: &mut BackOff) -> [u64; N] {
        std::array::from_fn(|_| back_off.next(0.0).as_secs())
    }

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        let mut back_off = BackOff::default();
        back_off.failed(Instant::now());
        assert_eq!(pauses(&mut back_off), [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(back_off.next(1.0), LONGEST_SET_ASIDE.mul_f64(0.75));
    }

    #[test]
    fn only_a_steady_server_starts_anew() {
        let start = Instant::now();
        let mut back_off = BackOff::default();
        back_off.failed(start);
        assert_eq!(pauses(&mut back_off), [1, 2]);
        back_off.back(start);
        back_off.failed(start + STEADY_AFTER / 2);
        assert_eq!(pauses(&mut back_off), [4]);
        back_off.back(start);
        back_off.failed(start + STEADY_AFTER);
        assert_eq!(pauses(&mut back_off), [1]);
    }
}
