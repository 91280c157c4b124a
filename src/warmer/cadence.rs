//! How long to wait before asking again: pure functions from what was learnt to a duration.

use std::time::Duration;

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// A tag is first confirmed after this long.
pub(super) const INITIAL: Duration = HOUR;
/// A tag that moves all the time is asked about no more often.
pub(super) const SHORTEST: Duration = Duration::from_mins(5);
/// A tag that never moves is asked about no less often.
pub(super) const LONGEST: Duration = Duration::from_hours(168);
/// Tags that are excluded or unknown are asked about this often.
pub(super) const NEGATIVE: Duration = DAY;

const FIRST_RETRY: Duration = Duration::from_secs(30);
const LONGEST_RETRY: Duration = DAY;
/// A repository that cannot be listed is tried at least this often: one request, and stale for all its tags.
const LONGEST_LISTING_RETRY: Duration = HOUR;
/// What a registry no longer has, all at once or one tag, is asked for again after this long before it is believed.
pub(super) const CONFIRM_LOSS: Duration = MINUTE;

/// The interval of a tag whose digest the registry has just told: doubled where it was the same as before, halved
/// where the tag had moved. `None`: the tag was not known before.
pub(super) fn next_interval(previous: Option<Duration>, moved: bool) -> Duration {
    let Some(previous) = previous else { return INITIAL };
    let next = if moved { previous / 2 } else { previous.saturating_mul(2) };
    next.clamp(SHORTEST, LONGEST)
}

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

/// Times are kept and shown to the millisecond.
fn in_milliseconds(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_unchanged_tag_is_asked_about_after_1_2_4_hours_up_to_a_week() {
        let intervals = std::iter::successors(Some(next_interval(None, false)), |previous| {
            Some(next_interval(Some(*previous), false))
        });
        let hours: Vec<u64> = intervals.take(10).map(|interval| interval.as_secs() / 3600).collect();
        assert_eq!(hours, [1, 2, 4, 8, 16, 32, 64, 128, 168, 168]);
    }

    #[test]
    fn a_tag_that_always_moves_is_asked_about_every_five_minutes_in_the_end() {
        let mut interval = LONGEST;
        for _ in 0..20 {
            interval = next_interval(Some(interval), true);
        }
        assert_eq!(interval, SHORTEST);
    }

    #[test]
    fn failures_back_off_from_30_seconds_to_a_day() {
        let seconds: Vec<u64> = (1..15).map(|failures| after_failure(failures, 0.0).as_secs()).collect();
        assert_eq!(seconds[..4], [30, 60, 120, 240]);
        assert_eq!(seconds[13], 24 * 60 * 60);
        assert_eq!(after_failed_listing(30, 1.0), HOUR);
    }

    proptest! {
        #[test]
        fn intervals_stay_within_their_bounds(seconds in 0_u64..u64::MAX, moved: bool) {
            let next = next_interval(Some(Duration::from_secs(seconds)), moved);
            prop_assert!((SHORTEST..=LONGEST).contains(&next));
        }

        #[test]
        fn a_longer_interval_never_becomes_the_shorter_one(a in 0_u64..1 << 40, b in 0_u64..1 << 40, moved: bool) {
            let next = |seconds| next_interval(Some(Duration::from_secs(seconds)), moved);
            prop_assert!(next(a.min(b)) <= next(a.max(b)));
        }

        #[test]
        fn back_off_grows_and_is_bounded(failures in 1_u32.., jitter in 0.0..=1.0_f64) {
            let wait = after_failure(failures, jitter);
            prop_assert!(wait >= FIRST_RETRY && wait <= LONGEST_RETRY);
            prop_assert!(after_failure(failures.saturating_add(1), jitter) >= wait);
        }
    }
}
