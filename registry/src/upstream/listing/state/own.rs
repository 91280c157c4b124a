//! What is remembered of reading a registry's own list of tags.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Digest;

/// The list of the protocol, which alone says what is gone, is read again after so long.
const PLAIN_EVERY: Duration = Duration::from_hours(1);
/// And after this many readings of the registry's own.
const MOST_NEWER_READS: u32 = 12;
/// A repository that is not for everybody is asked for there again after so long.
const PRIVATE_FOR: Duration = Duration::from_hours(24);

/// What is remembered of reading a registry's own list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::upstream::listing) struct OwnState {
    /// When the list of the protocol was last read or confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    plain_at: Option<Timestamp>,
    /// How often the registry's own list was read since then.
    newer_reads: u32,
    /// How far it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::upstream::listing) cursor: Option<Cursor>,
    /// The repository is not for everybody there: not to be asked for before.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<Timestamp>,
}

/// The newest change that is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(in crate::upstream::listing) struct Cursor {
    pub(in crate::upstream::listing) at: Timestamp,
    /// A hash of all that changed at that moment.
    pub(in crate::upstream::listing) hash: Option<Digest>,
}

impl OwnState {
    /// Whether the registry's own list may be read in place of that of the protocol.
    pub(in crate::upstream::listing) fn may_be_read(&self, now: Timestamp) -> bool {
        let plain_is_fresh = self.plain_at.is_some_and(|read| read <= now && now < read + PLAIN_EVERY);
        let is_private = self.not_before.is_some_and(|not_before| now < not_before);
        plain_is_fresh && self.newer_reads < MOST_NEWER_READS && !is_private
    }

    /// The list of the protocol was read or confirmed.
    pub(in crate::upstream::listing) fn after_plain(&self, now: Timestamp) -> Self {
        Self { plain_at: Some(now), newer_reads: 0, ..self.clone() }
    }

    /// The registry's own was read; to where it is known, or else as far as it pays.
    pub(in crate::upstream::listing) fn after_newer(
        &self,
        cursor: Option<Cursor>,
        is_complete: bool,
    ) -> Self {
        let newer_reads = if is_complete { self.newer_reads + 1 } else { MOST_NEWER_READS };
        Self { newer_reads, cursor, ..self.clone() }
    }

    /// It is not for everybody.
    pub(in crate::upstream::listing) fn private(&self, now: Timestamp) -> Self {
        Self { not_before: Some(now + PRIVATE_FOR), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + minutes * 60).unwrap()
    }

    #[test]
    fn the_list_of_the_protocol_is_read_at_first_every_hour_and_every_twelfth_time() {
        let never = OwnState::default();
        assert!(!never.may_be_read(at(0)));
        let mut state = never.after_plain(at(0));
        assert!(state.may_be_read(at(59)) && !state.may_be_read(at(60)));
        assert!(!state.may_be_read(at(-1)), "a clock that was wrong");
        for _ in 0..MOST_NEWER_READS {
            assert!(state.may_be_read(at(1)));
            state = state.after_newer(None, true);
        }
        assert!(!state.may_be_read(at(1)));
        assert!(state.after_plain(at(1)).may_be_read(at(2)));
        assert!(
            !never.after_plain(at(0)).after_newer(None, false).may_be_read(at(1)),
            "more changed than was read"
        );
    }

    #[test]
    fn what_is_not_for_everybody_is_left_alone_for_a_day() {
        let state = OwnState::default().private(at(0));
        for (hours, expected) in [(1, false), (23, false), (24, true)] {
            let now = at(hours * 60);
            assert_eq!(state.after_plain(now).may_be_read(now), expected, "{hours}");
        }
    }
}
