//! How often a repository is listed.
//!
//! A list that brought something halves the interval; one that brought nothing adds a quarter of the time that it covers.
//! In balance, one listing in four brings something: where changes come at random, the interval is about a quarter of the
//! mean time between two of them, so that a change is seen after about an eighth of it.
//!
//! Growth is measured in time rather than in listings: whoever refreshes a repository every second, or takes in the same
//! listing twice, teaches nothing that is not so.

use std::time::Duration;

use jiff::Timestamp;

use super::{elapsed, in_milliseconds, jittered};
use crate::cache::stored::Side;
use crate::sources::PollInterval;

/// Webhooks are taken to tell of changes for so long after the last one that came.
const FED_FOR: Duration = Duration::from_hours(7 * 24);

/// What a listing brought that was not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::warmer) enum Brought {
    Nothing,
    /// A tag that is wanted has come or gone, or the list says that one has moved.
    Change,
    /// The same, and a webhook had said so.
    Announced,
}

/// The interval at which a repository is listed, as far as it has been learnt, within what is configured now.
pub(in crate::warmer) fn interval(side: &Side, configured: &PollInterval) -> Duration {
    let learnt = side.poll_interval_ms.map_or(configured.usual, Duration::from_millis);
    let is_fed = side.last_update.is_some_and(|last_update| is_fed(side, last_update));
    within(learnt, configured, is_fed)
}

/// When a list that was read at `last_update`, with this side record, is to be read again at the latest.
pub(in crate::warmer) fn latest(side: &Side, last_update: Timestamp, configured: &PollInterval) -> Timestamp {
    last_update + jittered(interval(side, configured), 1.0)
}

/// The interval after a list was read to its end at `now`; `before` is what was known before it.
pub(in crate::warmer) fn learn(
    before: &Side,
    brought: Brought,
    configured: &PollInterval,
    now: Timestamp,
) -> Duration {
    let previous = interval(before, configured);
    // What nobody had listed before has no rhythm yet.
    let Some(last_update) = before.last_update else { return previous };
    let covered = elapsed(last_update, now);
    let next = match brought {
        Brought::Change if covered.is_zero() => previous,
        Brought::Change => previous / 2,
        Brought::Nothing => previous.saturating_add(covered.min(previous) / 4),
        Brought::Announced => previous,
    };
    in_milliseconds(within(next, configured, is_fed(before, now)))
}

/// Whether webhooks told of the repository's changes around then.
fn is_fed(side: &Side, at: Timestamp) -> bool {
    side.fed_at.is_some_and(|fed_at| elapsed(fed_at, at) < FED_FOR)
}

fn within(interval: Duration, configured: &PollInterval, is_fed: bool) -> Duration {
    let longest = if is_fed { configured.webhook_fed } else { configured.longest };
    interval.max(configured.shortest).min(longest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ADAPTIVE: PollInterval = PollInterval {
        usual: Duration::from_mins(5),
        shortest: Duration::from_mins(1),
        longest: Duration::from_hours(1),
        webhook_fed: Duration::from_hours(6),
    };

    fn second(seconds: u64) -> Timestamp {
        Timestamp::from_second(i64::try_from(seconds).unwrap()).unwrap()
    }

    fn listed_at(seconds: u64, interval: Option<Duration>) -> Side {
        let poll_interval_ms = interval.map(|interval| u64::try_from(interval.as_millis()).unwrap());
        Side { last_update: Some(second(seconds)), poll_interval_ms, ..Side::default() }
    }

    /// The intervals of listings that each come when their time has come.
    fn intervals(begun: Side, configured: &PollInterval, brought: &[Brought]) -> Vec<Duration> {
        let mut side = begun;
        let next = |brought: &Brought| {
            let now = side.last_update.unwrap() + interval(&side, configured);
            let learnt = learn(&side, *brought, configured, now);
            side.last_update = Some(now);
            side.poll_interval_ms = Some(u64::try_from(learnt.as_millis()).unwrap());
            learnt
        };
        brought.iter().map(next).collect()
    }

    #[test]
    fn a_quiet_repository_is_listed_hourly_in_the_end_and_a_busy_one_every_minute() {
        let quiet = intervals(listed_at(0, None), &ADAPTIVE, &[Brought::Nothing; 20]);
        let seconds: Vec<u64> = quiet.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds[..4], [375, 468, 585, 732]);
        assert_eq!(seconds[11..], [3600; 9]);
        let busy = intervals(listed_at(0, None), &ADAPTIVE, &[Brought::Change; 5]);
        let seconds: Vec<u64> = busy.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [150, 75, 60, 60, 60]);
    }

    #[test]
    fn it_comes_to_a_fraction_of_the_time_between_two_changes() {
        // A change every two hours, to the second: what is learnt swings around a fraction of that.
        let configured = PollInterval { longest: Duration::from_hours(24), ..ADAPTIVE };
        let mut side = listed_at(0, None);
        let (mut sum, mut listings) = (0, 0);
        for _ in 0..2_000 {
            let began = side.last_update.unwrap();
            let now = began + interval(&side, &configured);
            let changed = began.as_second() / 7200 != now.as_second() / 7200;
            let brought = if changed { Brought::Change } else { Brought::Nothing };
            let learnt = learn(&side, brought, &configured, now);
            (sum, listings) = (sum + learnt.as_secs(), listings + 1);
            side.last_update = Some(now);
            side.poll_interval_ms = Some(u64::try_from(learnt.as_millis()).unwrap());
        }
        let mean = sum / listings;
        assert!((7200 / 8..7200 / 2).contains(&mean), "{mean} s");
    }

    #[test]
    fn where_webhooks_tell_it_stretches_and_a_change_that_they_kept_quiet_about_ends_that() {
        let fed = Side { fed_at: Some(second(0)), ..listed_at(0, Some(Duration::from_hours(1))) };
        let stretched = intervals(fed.clone(), &ADAPTIVE, &[Brought::Nothing; 12]);
        assert_eq!(stretched.last(), Some(&Duration::from_hours(6)));
        assert_eq!(intervals(fed.clone(), &ADAPTIVE, &[Brought::Announced]), [Duration::from_hours(1)]);
        // The last one came more than a week ago.
        let later =
            Side { last_update: Some(second(8 * 24 * 3600)), poll_interval_ms: Some(6 * 3_600_000), ..fed };
        assert_eq!(interval(&later, &ADAPTIVE), Duration::from_hours(1));
        // Without a word of webhooks it never stretched; and who says 30 s means 30 s.
        let exact = PollInterval::fixed(Duration::from_secs(30));
        let brought = [Brought::Nothing, Brought::Change, Brought::Announced];
        let fed = Side { fed_at: Some(second(0)), ..listed_at(0, None) };
        assert_eq!(intervals(fed, &exact, &brought), [Duration::from_secs(30); 3]);
    }

    #[test]
    fn what_is_configured_now_holds_at_once() {
        let learnt = listed_at(0, Some(Duration::from_hours(1)));
        let shorter = PollInterval { longest: Duration::from_mins(10), ..ADAPTIVE };
        assert_eq!(interval(&learnt, &shorter), Duration::from_mins(10));
        assert_eq!(latest(&learnt, second(0), &shorter), second(660));
        assert_eq!(interval(&learnt, &PollInterval::fixed(Duration::from_secs(30))), Duration::from_secs(30));
    }

    fn any_interval() -> impl Strategy<Value = PollInterval> {
        proptest::array::uniform4(1_u64..100_000).prop_map(|mut seconds| {
            seconds.sort_unstable();
            let [shortest, usual, longest, webhook_fed] = seconds.map(Duration::from_secs);
            PollInterval { usual, shortest, longest, webhook_fed }
        })
    }

    fn any_brought() -> impl Strategy<Value = Brought> {
        prop_oneof![Just(Brought::Nothing), Just(Brought::Change), Just(Brought::Announced)]
    }

    fn any_side() -> impl Strategy<Value = Side> {
        let times = || proptest::option::of((0_u64..1_000_000).prop_map(second));
        (times(), times(), proptest::option::of(0_u64..1 << 40)).prop_map(
            |(last_update, fed_at, poll_interval_ms)| Side {
                last_update,
                poll_interval_ms,
                fed_at,
                ..Side::default()
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_learnt_stays_within_its_bounds(
            side in any_side(), configured in any_interval(), brought in any_brought(), now in 0_u64..2_000_000,
        ) {
            for interval in [learn(&side, brought, &configured, second(now)), interval(&side, &configured)] {
                prop_assert!(interval >= configured.shortest && interval <= configured.webhook_fed);
                prop_assert!(side.fed_at.is_some() || interval <= configured.longest);
            }
        }

        #[test]
        fn a_longer_interval_or_a_longer_quiet_never_makes_a_shorter_one(
            configured in any_interval(), brought in any_brought(),
            a in 0_u64..1 << 40, b in 0_u64..1 << 40, soon in 1_u64..500_000, late in 1_u64..500_000,
        ) {
            let side = |ms| Side { poll_interval_ms: Some(ms), ..listed_at(0, None) };
            let (soon, late) = (soon.min(late), soon.max(late));
            let learnt = |ms, now| learn(&side(ms), brought, &configured, second(now));
            prop_assert!(learnt(a.min(b), soon) <= learnt(a.max(b), soon));
            prop_assert!(learnt(a, soon) <= learnt(a, late));
            if brought == Brought::Nothing {
                prop_assert!(learnt(a, soon) >= interval(&side(a), &configured));
            } else {
                prop_assert!(learnt(a, soon) <= interval(&side(a), &configured));
            }
        }

        /// The same listing once more, as after a crash between two writes, teaches nothing more.
        #[test]
        fn a_listing_that_is_taken_in_twice_counts_once(
            side in any_side(), configured in any_interval(), brought in any_brought(), now in 1_000_000_u64..2_000_000,
        ) {
            let now = second(now);
            let learnt = learn(&side, brought, &configured, now);
            let poll_interval_ms = Some(u64::try_from(learnt.as_millis()).unwrap());
            let after = Side { last_update: Some(now), poll_interval_ms, ..side };
            prop_assert_eq!(learn(&after, brought, &configured, now), learnt);
        }
    }
}
