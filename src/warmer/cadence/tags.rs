//! How often a tag is confirmed.
//!
//! | what the registry says | what becomes of the interval |
//! |---|---|
//! | first seen | the one to begin with |
//! | unchanged, and its name looks as if it never moved | four times as long |
//! | unchanged otherwise, or it has moved before | twice as long |
//! | moved | half as long |
//!
//! as far as the time since it was confirmed last bears it: a tag that somebody refreshes every minute has not been
//! unchanged for longer because of that. Intervals are whole seconds and kept exactly: nothing that is computed from them
//! comes back to them.
//!
//! What is planned is the earlier of that and what its readers may expect: see [`TagCadence::longest`].

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::{Tag, TagClass};

use super::{DAY, elapsed};
use crate::cache::demand::Demand;
use crate::cache::records::TagSide;
use crate::cache::stored::Paced;
use crate::sources::TagInterval;

/// Who has asked within this time is taken to ask again.
const DEMAND_LASTS: Duration = Duration::from_hours(7 * 24);
/// No longer than this may pass between two looks at a floating tag that somebody reads.
const LONGEST_READ: Duration = DAY;

/// Whether somebody who last asked then is taken to ask again.
fn is_in_demand(last_asked: Option<Timestamp>, now: Timestamp) -> bool {
    last_asked.is_some_and(|asked| elapsed(asked, now) < DEMAND_LASTS)
}

/// Whether a tag of such a name is one that is moved on from time to time: all but full versions and digests.
fn floats_by_name(tag: &Tag) -> bool {
    !matches!(tag.class(), TagClass::Version | TagClass::Digest)
}

/// What decides how often the tags of one repository are confirmed.
#[derive(Debug, Clone, Default)]
pub(in crate::warmer) struct Pace {
    pub(in crate::warmer) configured: TagInterval,
    pub(in crate::warmer) demand: Arc<Demand>,
}

impl Pace {
    /// The same for one of them.
    pub(in crate::warmer) fn of(&self, tag: &Tag, side: &TagSide, now: Timestamp) -> TagCadence {
        let last_read = self.demand.read_at.max(self.demand.last_read(tag));
        TagCadence {
            configured: self.configured,
            floats: side.moved || floats_by_name(tag),
            in_demand: is_in_demand(last_read, now),
        }
    }

    /// Whether somebody has read one of them lately.
    pub(in crate::warmer) fn is_in_demand(&self, tag: &Tag, now: Timestamp) -> bool {
        is_in_demand(self.demand.last_read(tag), now)
    }

    /// What is the case now.
    pub(in crate::warmer) fn paced(&self, now: Timestamp) -> Paced {
        let in_demand = is_in_demand(self.demand.last_read_of_tags(), now);
        Paced { longest_seconds: self.configured.longest.as_secs(), in_demand }
    }

    /// The least that [`TagCadence::longest`] may be for any of them.
    pub(in crate::warmer) fn least(&self, now: Timestamp) -> Duration {
        let in_demand = is_in_demand(self.demand.last_read_of_tags(), now);
        TagCadence { configured: self.configured, floats: true, in_demand }.longest()
    }
}

/// What decides how often one tag is confirmed.
#[derive(Debug, Clone, Copy)]
pub(in crate::warmer) struct TagCadence {
    pub(in crate::warmer) configured: TagInterval,
    /// It looks as if it moved, or has been seen to.
    pub(in crate::warmer) floats: bool,
    /// Somebody has read it lately.
    pub(in crate::warmer) in_demand: bool,
}

impl TagCadence {
    /// The interval of a tag that the registry has just told of: `previous` is the one before and how long ago it was
    /// confirmed, absent for a tag that was not known.
    pub(in crate::warmer) fn learn(&self, previous: Option<(Duration, Duration)>, moved: bool) -> Duration {
        let TagInterval { first, shortest, longest } = self.configured;
        let next = match previous {
            None => first,
            Some((interval, _)) if moved => interval / 2,
            Some((interval, elapsed)) => {
                let times_as_long = if self.floats { 1 } else { 3 };
                interval.saturating_add(elapsed.min(interval).saturating_mul(times_as_long))
            }
        };
        Duration::from_secs(next.max(shortest).min(longest).as_secs().max(1))
    }

    /// What may pass between two looks at the tag at most, whatever has been learnt: where somebody has read it within
    /// the last week, a day for a floating one; else what is configured.
    pub(in crate::warmer) fn longest(&self) -> Duration {
        let TagInterval { shortest, longest, .. } = self.configured;
        if self.floats && self.in_demand { LONGEST_READ.max(shortest).min(longest) } else { longest }
    }

    /// When a tag that was confirmed then, at this interval, is to be asked about.
    pub(in crate::warmer) fn planned(&self, confirmed: Timestamp, interval: Duration) -> Timestamp {
        confirmed + interval.min(self.longest())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FLOATING: TagCadence = TagCadence {
        configured: TagInterval {
            first: Duration::from_hours(1),
            shortest: Duration::from_mins(5),
            longest: Duration::from_hours(168),
        },
        floats: true,
        in_demand: false,
    };
    const FIXED: TagCadence = TagCadence { floats: false, ..FLOATING };

    /// The intervals, in hours, of a tag that is asked about whenever its time has come and never moves.
    fn unchanged(cadence: TagCadence) -> Vec<u64> {
        let next = |previous: &Duration| Some(cadence.learn(Some((*previous, *previous)), false));
        let intervals = std::iter::successors(Some(cadence.learn(None, false)), next);
        intervals.take(10).map(|interval| interval.as_secs() / 3600).collect()
    }

    /// They stay whole hours: the ancestor's drifted to 59m59s, 1h59m58s and so on.
    #[test]
    fn an_unchanged_tag_is_asked_about_after_1_2_4_hours_up_to_a_week() {
        assert_eq!(unchanged(FLOATING), [1, 2, 4, 8, 16, 32, 64, 128, 168, 168]);
        assert_eq!(unchanged(FIXED), [1, 4, 16, 64, 168, 168, 168, 168, 168, 168]);
    }

    #[test]
    fn a_tag_that_always_moves_is_asked_about_every_five_minutes_in_the_end() {
        let mut interval = FIXED.configured.longest;
        for _ in 0..20 {
            interval = FIXED.learn(Some((interval, interval)), true);
        }
        assert_eq!(interval, Duration::from_mins(5));
    }

    #[test]
    fn only_time_that_has_passed_makes_an_interval_longer() {
        let (hour, minute) = (Duration::from_hours(1), Duration::from_mins(1));
        assert_eq!(FLOATING.learn(Some((hour, minute)), false), hour + minute);
        assert_eq!(FIXED.learn(Some((hour, minute)), false), hour + 3 * minute);
        assert_eq!(FLOATING.learn(Some((hour, Duration::from_hours(72))), false), 2 * hour);
    }

    #[test]
    fn what_is_read_and_floats_is_looked_at_once_a_day() {
        let days = |cadence: TagCadence| cadence.longest().as_secs() / 86_400;
        assert_eq!([days(FLOATING), days(FIXED)], [7, 7]);
        let read = |cadence: TagCadence| TagCadence { in_demand: true, ..cadence };
        assert_eq!([days(read(FLOATING)), days(read(FIXED))], [1, 7]);
        let configured = TagInterval { longest: Duration::from_hours(1), ..FLOATING.configured };
        assert_eq!(TagCadence { configured, ..read(FLOATING) }.longest(), Duration::from_hours(1));
        let now = Timestamp::UNIX_EPOCH + Duration::from_hours(1000);
        assert!(is_in_demand(Some(now - Duration::from_hours(167)), now));
        assert!(!is_in_demand(Some(now - Duration::from_hours(168)), now));
        assert!(!is_in_demand(None, now));
    }

    #[test]
    fn names_tell_what_floats() {
        let floats = |text: &str| floats_by_name(&text.parse().unwrap());
        for text in ["latest", "1", "1.2", "main", "2024-05-06", "pr-17"] {
            assert!(floats(text), "{text}");
        }
        for text in ["1.2.3", "v1.2.3-rc.1", "sha-1a2b3c4"] {
            assert!(!floats(text), "{text}");
        }
    }

    fn any_cadence() -> impl Strategy<Value = TagCadence> {
        let seconds = proptest::array::uniform3(60_u64..700_000);
        (seconds, any::<bool>(), any::<bool>()).prop_map(|(mut seconds, floats, in_demand)| {
            seconds.sort_unstable();
            let [shortest, first, longest] = seconds.map(Duration::from_secs);
            TagCadence { configured: TagInterval { first, shortest, longest }, floats, in_demand }
        })
    }

    proptest! {
        #[test]
        fn intervals_stay_within_their_bounds(
            cadence in any_cadence(), interval in 0_u64..u64::MAX, elapsed in 0_u64..u64::MAX, moved: bool,
        ) {
            let (interval, elapsed) = (Duration::from_secs(interval), Duration::from_secs(elapsed));
            for previous in [None, Some((interval, elapsed))] {
                let next = cadence.learn(previous, moved);
                prop_assert!(next >= cadence.configured.shortest && next <= cadence.configured.longest);
            }
            prop_assert!(cadence.longest() >= cadence.configured.shortest);
            prop_assert!(cadence.longest() <= cadence.configured.longest);
        }

        #[test]
        fn a_longer_interval_never_becomes_the_shorter_one(
            cadence in any_cadence(), a in 0_u64..1 << 40, b in 0_u64..1 << 40,
            soon in 0_u64..1 << 40, late in 0_u64..1 << 40, moved: bool,
        ) {
            let learn = |interval, elapsed| {
                cadence.learn(Some((Duration::from_secs(interval), Duration::from_secs(elapsed))), moved)
            };
            prop_assert!(learn(a.min(b), soon) <= learn(a.max(b), soon));
            prop_assert!(learn(a, soon.min(late)) <= learn(a, soon.max(late)));
        }

        /// The same answer once more changes nothing; neither does when somebody reads, but for the plan.
        #[test]
        fn an_answer_that_is_taken_in_twice_counts_once(cadence in any_cadence(), interval in 0_u64..1 << 40) {
            let first = cadence.learn(Some((Duration::from_secs(interval), Duration::from_secs(interval))), false);
            prop_assert_eq!(cadence.learn(Some((first, Duration::ZERO)), false), first);
            let unread = TagCadence { in_demand: false, ..cadence };
            prop_assert_eq!(unread.learn(Some((first, first)), false), cadence.learn(Some((first, first)), false));
            let now = Timestamp::UNIX_EPOCH;
            prop_assert!(cadence.planned(now, first) <= unread.planned(now, first));
        }
    }
}
