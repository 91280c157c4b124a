//! When one repository and its tags were last read, as it lies in the store under `Key::Demand`.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::Tag;
use serde::{Deserialize, Serialize};

/// Tags of one repository whose readings are noted: those that were read last.
const MOST_READ_TAGS: usize = 128;
/// A reading so soon after the last one is not noted.
const NOTE_EVERY: Duration = Duration::from_mins(1);

/// What somebody reads of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading<'a> {
    /// All of it: where each of its tags points matters.
    Whole,
    /// One tag.
    Tag(&'a Tag),
    /// What no tag has to be confirmed for: which tags it lists, what happened to it, or an image by its digest, which is
    /// the same for ever.
    List,
}

/// When a repository and its tags were last read, to the second and exact to a minute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// When the repository was last read as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Timestamp>,
    /// When something was last read of it that no tag has to be confirmed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_read_at: Option<Timestamp>,
    /// When single tags were last read; of very many, those that were read last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<Tag, Timestamp>,
}

impl Demand {
    /// When somebody last read this very tag.
    pub fn last_read(&self, tag: &Tag) -> Option<Timestamp> {
        self.tags.get(tag).copied()
    }

    /// When somebody last read where tags point: a single one, or all of them.
    pub fn last_read_of_tags(&self) -> Option<Timestamp> {
        self.tags.values().copied().chain(self.read_at).max()
    }

    /// When somebody last asked for anything of the repository.
    pub fn last_asked(&self) -> Option<Timestamp> {
        self.last_read_of_tags().max(self.list_read_at)
    }

    /// Whether a reading now is worth a note.
    pub(crate) fn is_news(&self, reading: Reading<'_>, now: Timestamp) -> bool {
        let tag = match reading {
            Reading::Whole => return is_long_ago(self.read_at, now),
            Reading::List => return is_long_ago(self.list_read_at, now),
            Reading::Tag(tag) => tag,
        };
        match self.tags.get(tag) {
            Some(before) => is_long_ago(Some(*before), now),
            // Where more are read than are noted, they must not take each other's places all the time.
            None if self.tags.len() >= MOST_READ_TAGS => is_long_ago(self.tags.values().min().copied(), now),
            None => true,
        }
    }

    /// Notes a reading.
    pub(crate) fn note(&mut self, reading: Reading<'_>, now: Timestamp) {
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        match reading {
            Reading::Whole => self.read_at = Some(now),
            Reading::List => self.list_read_at = Some(now),
            Reading::Tag(tag) => drop(self.tags.insert(tag.clone(), now)),
        }
        self.trim();
    }

    /// What both know. In which order readings of several replicas are merged makes no difference.
    pub(crate) fn merged(&self, other: &Self) -> Self {
        let mut merged = self.clone();
        merged.read_at = merged.read_at.max(other.read_at);
        merged.list_read_at = merged.list_read_at.max(other.list_read_at);
        for (tag, at) in &other.tags {
            let known = merged.tags.entry(tag.clone()).or_insert(*at);
            *known = *at.max(known);
        }
        merged.trim();
        merged
    }

    /// Without times that lie ahead: of a clock that was wrong.
    pub(crate) fn no_later_than(mut self, now: Timestamp) -> Self {
        self.read_at = self.read_at.map(|at| at.min(now));
        self.list_read_at = self.list_read_at.map(|at| at.min(now));
        self.tags.values_mut().for_each(|at| *at = now.min(*at));
        self
    }

    fn trim(&mut self) {
        while self.tags.len() > MOST_READ_TAGS {
            let longest_ago = self.tags.iter().min_by_key(|(tag, at)| (**at, *tag));
            let Some(tag) = longest_ago.map(|(tag, _)| tag.clone()) else { return };
            self.tags.remove(&tag);
        }
    }
}

/// Also where the time lies ahead of a clock that has been set right.
fn is_long_ago(before: Option<Timestamp>, now: Timestamp) -> bool {
    before.is_none_or(|before| now.duration_since(before).unsigned_abs() >= NOTE_EVERY)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn tag(number: usize) -> Tag {
        format!("t{number}").parse().unwrap()
    }

    fn demand() -> impl Strategy<Value = Demand> {
        let times = || (1_i64..1000).prop_map(second);
        let tags = prop::collection::btree_map((0_usize..300).prop_map(tag), times(), 0..MOST_READ_TAGS);
        let times = || prop::option::of(times());
        (times(), times(), tags).prop_map(|(read_at, list_read_at, tags)| Demand {
            read_at,
            list_read_at,
            tags,
        })
    }

    proptest! {
        #[test]
        fn readings_of_replicas_merge_in_any_order_and_any_number_of_times(
            one in demand(), another in demand(), third in demand(),
        ) {
            let merged = one.merged(&another);
            prop_assert_eq!(&merged, &another.merged(&one));
            prop_assert_eq!(&merged, &merged.merged(&another));
            prop_assert_eq!(merged.merged(&third), one.merged(&another.merged(&third)));
            prop_assert!(merged.tags.len() <= MOST_READ_TAGS);
            prop_assert_eq!(merged.last_asked(), one.last_asked().max(another.last_asked()));
        }
    }

    #[test]
    fn a_reading_is_noted_once_a_minute() {
        let mut demand = Demand::default();
        assert!(demand.is_news(Reading::Whole, second(1000)));
        demand.note(Reading::Whole, second(1000));
        assert!(!demand.is_news(Reading::Whole, second(1059)));
        assert!(demand.is_news(Reading::Whole, second(1060)));
        assert!(demand.is_news(Reading::Tag(&tag(1)), second(1001)), "a tag is another matter");
        demand.note(Reading::Tag(&tag(1)), second(1001));
        assert_eq!(demand.last_read(&tag(1)), Some(second(1001)));
        assert_eq!((demand.read_at, demand.last_read(&tag(2))), (Some(second(1000)), None));
        assert_eq!(demand.last_asked(), Some(second(1001)));
        // A clock that was a day ahead and has been set right.
        demand.note(Reading::Whole, second(90_000));
        assert!(demand.is_news(Reading::Whole, second(2000)));
        demand.note(Reading::Whole, second(2000));
        assert_eq!(demand.read_at, Some(second(2000)));
        assert_eq!(demand.no_later_than(second(1000)).last_asked(), Some(second(1000)));
    }

    #[test]
    fn what_no_tag_has_to_be_confirmed_for_counts_for_the_repository_alone() {
        let mut demand = Demand::default();
        assert!(demand.is_news(Reading::List, second(1000)));
        demand.note(Reading::List, second(1000));
        assert!(!demand.is_news(Reading::List, second(1059)) && demand.is_news(Reading::List, second(1060)));
        assert!(demand.is_news(Reading::Whole, second(1001)), "that is another matter");
        assert_eq!((demand.last_asked(), demand.last_read_of_tags()), (Some(second(1000)), None));
        demand.note(Reading::Tag(&tag(1)), second(900));
        assert_eq!(
            (demand.last_asked(), demand.last_read_of_tags()),
            (Some(second(1000)), Some(second(900)))
        );
        assert_eq!(demand.no_later_than(second(800)).last_asked(), Some(second(800)));
        let older: Demand = serde_json::from_str(r#"{"read_at":"1970-01-01T00:00:07Z"}"#).unwrap();
        assert_eq!((older.read_at, older.list_read_at), (Some(second(7)), None));
    }

    #[test]
    fn the_tags_read_last_are_kept_and_take_places_once_a_minute() {
        let mut demand = Demand::default();
        for (number, at) in (0..MOST_READ_TAGS).zip(1000..) {
            demand.note(Reading::Tag(&tag(number)), second(at));
        }
        let now = second(1030);
        assert!(!demand.is_news(Reading::Tag(&tag(999)), now), "all of them were read within the minute");
        assert!(demand.is_news(Reading::Tag(&tag(999)), second(1060)));
        demand.note(Reading::Tag(&tag(999)), second(1060));
        assert_eq!(demand.tags.len(), MOST_READ_TAGS);
        assert_eq!((demand.last_read(&tag(0)), demand.last_read(&tag(1))), (None, Some(second(1001))));
    }

    #[test]
    fn with_the_longest_tags_it_stays_far_below_what_an_entry_may_hold() {
        let mut demand = Demand::default();
        for number in 0..MOST_READ_TAGS {
            let tag = format!("{number:0>128}").parse().unwrap();
            demand.note(Reading::Tag(&tag), second(1_700_000_000));
        }
        assert!(serde_json::to_vec(&demand).unwrap().len() < 64 * 1024);
    }
}
