//! Deadlines that were planned under other circumstances: pulled forward where readers may expect more now, and spread
//! where so much is overdue that it would all be asked at once.
//!
//! Invariants: only a tag that waits for nothing but its own pace is planned anew; what was put off, here or by a quota,
//! stays so until it is asked about, and is not put off twice before, so that nothing is put off for ever.

use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::Tag;

use super::State;
use crate::cache::records::PutOff;
use crate::warmer::cadence::in_milliseconds;
use crate::warmer::tag::Kept;

/// What is due for longer than this, in a repository that nobody has listed for longer than this, was not left over by a
/// busy lane but by a stop.
const LONG_OVERDUE: Duration = Duration::from_hours(1);
/// What is overdue is asked about within this part of its own interval,
const PART_OF_INTERVAL: u32 = 8;
/// and within this time.
const LONGEST_SPREAD: Duration = Duration::from_hours(6);
/// So many may be asked about at once: fewer are no burst.
const MOST_OVERDUE_AT_ONCE: usize = 32;
/// Each group of tags that has another deadline costs a look at the whole repository.
const MOST_SPREAD_GROUPS: usize = 32;

impl State {
    /// Plans the tags by the rules of now: one that is read again after a long silence, or that is to be confirmed more
    /// often by the configuration of now, has an earlier deadline. None gets a later one.
    pub(in crate::warmer) fn pull_forward(&mut self, now: Timestamp) {
        let least = self.pace.least(now);
        for (tag, kept) in &mut self.tags {
            let (Some(next), Some((confirmed, _))) = (kept.side.next, kept.confirmed_at()) else { continue };
            if next <= now || next <= confirmed + least {
                continue; // whatever its name looks like
            }
            let planned = kept.planned(&self.pace.of(tag, &kept.side, now));
            if planned.is_some_and(|planned| planned < next) {
                kept.side.next = planned;
                self.side_changed.insert(tag.clone());
            }
        }
        let paced = Some(self.pace.paced(now));
        self.side_header_changed |= self.side.paced != paced || !self.side_changed.is_empty();
        self.side.paced = paced;
    }

    /// After a long stop: gives what is long overdue deadlines that are spread over an eighth of its own interval, and no
    /// more than six hours. What readers ask for comes first, then what floats, then what has been due for longest.
    /// `random`, from 0 to 1, keeps repositories that stopped together apart.
    pub(in crate::warmer) fn spread_overdue(&mut self, now: Timestamp, random: f64) {
        if self.side.last_update.is_none_or(|last_update| last_update + LONG_OVERDUE > now) {
            return;
        }
        let mut overdue: Vec<Overdue> =
            self.tags.iter().filter_map(|(tag, kept)| self.overdue(tag, kept, now)).collect();
        if overdue.len() <= MOST_OVERDUE_AT_ONCE {
            return;
        }
        overdue.sort_unstable();
        let groups = (overdue.len() / MOST_OVERDUE_AT_ONCE).min(MOST_SPREAD_GROUPS);
        let in_each = overdue.len().div_ceil(groups);
        let parts = f64::from(u32::try_from(groups).unwrap_or(u32::MAX));
        // The first group is asked about now.
        for (group, tags) in (0_u32..).zip(overdue.chunks(in_each)).skip(1) {
            let part = (f64::from(group) - random) / parts;
            for Overdue { tag, window, .. } in tags {
                let Some(kept) = self.tags.get_mut(tag) else { continue };
                kept.side.next = Some(now + in_milliseconds(window.mul_f64(part)));
                kept.side.put_off = Some(PutOff::Spread);
                self.side_changed.insert(tag.clone());
            }
        }
        self.side_header_changed = true; // it says when to wake
    }

    /// A tag that waits for nothing but its own pace and should have been asked about long ago.
    fn overdue(&self, tag: &Tag, kept: &Kept, now: Timestamp) -> Option<Overdue> {
        let next = kept.side.next.filter(|next| *next + LONG_OVERDUE < now)?;
        let (_, interval) = kept.confirmed_at()?;
        if kept.side.attempts > 0 || kept.side.missing || kept.side.put_off.is_some() || kept.other_platforms
        {
            return None;
        }
        let cadence = self.pace.of(tag, &kept.side, now);
        let window = (interval.min(cadence.longest()) / PART_OF_INTERVAL).min(LONGEST_SPREAD);
        let is_unread = !self.pace.is_in_demand(tag, now);
        Some(Overdue { is_unread, is_fixed: !cadence.floats, since: next, tag: tag.clone(), window })
    }
}

/// A tag that is long overdue, in the order in which they are to be asked about.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Overdue {
    is_unread: bool,
    is_fixed: bool,
    since: Timestamp,
    tag: Tag,
    window: Duration,
}

#[cfg(test)]
mod tests;
