//! After a long stop much is overdue at once: it is spread over as long as it takes to poll everything once, so that a start
//! is no burst.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::Name;

/// Between two repositories that are overdue, at most.
const LONGEST_GAP: Duration = Duration::from_secs(1);

/// A repository that is overdue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Overdue {
    pub(super) name: Name,
    pub(super) since: Timestamp,
    /// How often it is listed.
    pub(super) interval: Duration,
    /// When a reader asked for it last.
    pub(super) read_at: Option<Timestamp>,
}

/// How long each is to wait: those that readers asked for last go first, then those that are overdue for longest, each a gap
/// after the one before. All together take no longer than an interval of theirs, and no longer than a second for each.
pub(super) fn spread(mut overdue: Vec<Overdue>) -> BTreeMap<Name, Duration> {
    overdue.sort_by(|one, other| {
        let key = |overdue: &Overdue| (Reverse(overdue.read_at), overdue.since);
        key(one).cmp(&key(other)).then_with(|| one.name.cmp(&other.name))
    });
    let count = u32::try_from(overdue.len()).unwrap_or(u32::MAX);
    let mut wait = Duration::ZERO;
    let places = overdue.into_iter().map(|Overdue { name, interval, .. }| {
        let place = (name, wait);
        wait += (interval / count).min(LONGEST_GAP);
        place
    });
    places.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn overdue(number: usize, since: i64, interval: Duration) -> Overdue {
        let since = Timestamp::from_second(since).unwrap();
        let name = format!("registry.example/app{number:05}").parse().unwrap();
        Overdue { name, since, interval, read_at: None }
    }

    #[test]
    fn few_follow_one_another_by_seconds_and_many_take_one_interval() {
        let interval = Duration::from_mins(5);
        let few = spread(
            (0..3).zip([0, -7, -14]).map(|(number, since)| overdue(number, since, interval)).collect(),
        );
        let seconds: Vec<u64> = few.values().map(Duration::as_secs).collect();
        assert_eq!(seconds, [2, 1, 0], "the longest overdue first");
        let many = spread((0..5000).map(|number| overdue(number, 0, interval)).collect());
        let waits: Vec<Duration> = many.values().copied().collect();
        assert_eq!((waits[0], waits[1]), (Duration::ZERO, Duration::from_millis(60)));
        assert_eq!(waits[4999], Duration::from_millis(60) * 4999);
    }

    #[test]
    fn what_readers_asked_for_goes_first() {
        let interval = Duration::from_mins(5);
        let mut all: Vec<Overdue> = (0..3).map(|number| overdue(number, 0, interval)).collect();
        all[2].read_at = Some(Timestamp::from_second(10).unwrap());
        all[1].read_at = Some(Timestamp::from_second(20).unwrap());
        let seconds: Vec<u64> = spread(all).values().map(Duration::as_secs).collect();
        assert_eq!(seconds, [2, 0, 1]);
    }

    proptest! {
        #[test]
        fn everybody_waits_less_than_the_longest_interval_and_somebody_not_at_all(
            all in proptest::collection::vec((any::<i32>(), 1_u64..100_000), 1..200),
        ) {
            let longest = Duration::from_secs(all.iter().map(|(_, interval)| *interval).max().unwrap());
            let all: Vec<Overdue> = all
                .into_iter()
                .enumerate()
                .map(|(number, (since, interval))| overdue(number, since.into(), Duration::from_secs(interval)))
                .collect();
            let count = all.len();
            let places = spread(all);
            prop_assert_eq!(places.len(), count);
            prop_assert!(places.values().all(|wait| *wait < longest));
            prop_assert!(places.values().any(Duration::is_zero));
        }
    }
}
