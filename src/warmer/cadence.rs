//! How long to wait before asking again: pure functions from what was learnt to a duration.
//!
//! - [`poll`]: how often a repository is listed, by how often its list changes and whether webhooks tell;
//! - [`tags`]: how often a tag is confirmed, by how it has behaved, what it looks like and whether anybody reads it;
//! - here: failures and denials, which follow no rhythm of the registry's.
//!
//! Invariants: every wait is bounded on both sides; a longer wait before never makes a shorter one after; what is learnt
//! is learnt from time that has passed, so that the same answer taken in twice counts once.

pub(super) mod poll;
pub(super) mod tags;

use std::time::Duration;

use jiff::Timestamp;

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Tags that are excluded or unknown are asked about this often.
pub(super) const NEGATIVE: Duration = DAY;

const FIRST_RETRY: Duration = Duration::from_secs(30);
const LONGEST_RETRY: Duration = DAY;
/// A repository that cannot be listed is tried at least this often: one request, and stale for all its tags.
const LONGEST_LISTING_RETRY: Duration = HOUR;
/// What a registry no longer has, all at once or one tag, is asked for again after this long before it is believed.
pub(super) const CONFIRM_LOSS: Duration = MINUTE;

/// The wait after the `failures`th failure in a row, at least one. `jitter` is a random number from 0 to 1.
pub(super) fn after_failure(failures: u32, jitter: f64) -> Duration {
    backoff(failures, jitter, LONGEST_RETRY)
}

/// The same for a repository's list.
pub(super) fn after_failed_listing(failures: u32, jitter: f64) -> Duration {
    backoff(failures, jitter, LONGEST_LISTING_RETRY)
}

fn backoff(failures: u32, jitter: f64, longest: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    let wait = FIRST_RETRY.saturating_mul(1 << doublings);
    in_milliseconds(wait.mul_f64(1.0 + jitter / 4.0).min(longest))
}

/// A poll interval up to a tenth shorter or longer, so that repositories listed together drift apart.
pub(super) fn jittered(interval: Duration, jitter: f64) -> Duration {
    in_milliseconds(interval.mul_f64(0.9 + jitter / 5.0))
}

/// The time from then until now; none where the clock went back.
pub(super) fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

/// Times are kept and shown to the millisecond.
pub(super) fn in_milliseconds(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn failures_back_off_from_30_seconds_to_a_day() {
        let seconds: Vec<u64> = (1..15).map(|failures| after_failure(failures, 0.0).as_secs()).collect();
        assert_eq!(seconds[..4], [30, 60, 120, 240]);
        assert_eq!(seconds[13], 24 * 60 * 60);
        assert_eq!(after_failed_listing(30, 1.0), HOUR);
    }

    proptest! {
        #[test]
        fn back_off_grows_and_is_bounded(failures in 1_u32.., jitter in 0.0..=1.0_f64, later in 0.0..=1.0_f64) {
            let wait = after_failure(failures, jitter);
            prop_assert!(wait >= FIRST_RETRY && wait <= LONGEST_RETRY);
            // Jitter, which is at most a quarter, never makes up for a doubling.
            prop_assert!(after_failure(failures.saturating_add(1), later) >= wait);
            prop_assert!(after_failed_listing(failures, jitter) <= LONGEST_LISTING_RETRY);
        }

        #[test]
        fn jitter_is_a_tenth_at_most(seconds in 1_u64..1_000_000, jitter in 0.0..=1.0_f64) {
            let (interval, wait) = (Duration::from_secs(seconds), jittered(Duration::from_secs(seconds), jitter));
            let slack = Duration::from_millis(1);
            prop_assert!(wait + slack >= interval * 9 / 10 && wait <= interval * 11 / 10 + slack);
        }
    }
}
