//! What a list says of a repository: whether one is due, what it brings and takes away, when it is not believed, and what
//! becomes of one that cannot be read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::Tag;
use samovar_registry::upstream::{ErrorClass, ListState, TagList, UpstreamError};

use super::State;
use crate::cache::records::{Exclusion, LastError, TagRecord, TagState};
use crate::cache::stored::{Denied, Gone, Shrunken, Side};
use crate::sources::{PollInterval, TagFilter};
use crate::store::ContentHash;
use crate::warmer::cadence;
use crate::warmer::cadence::poll::Brought;
use crate::warmer::change::{Cause, ChangeKind};
use crate::warmer::tag::{Circumstance, Kept, left_out};

/// When a repository's list is to be read next; `None`: now.
pub(in crate::warmer) fn next_listing(
    side: &Side,
    filter: &TagFilter,
    poll: &PollInterval,
) -> Option<Timestamp> {
    let planned = side.next_listing?;
    let Some(last_update) = side.last_update else {
        return Some(planned);
    };
    if side.last_error.is_some() {
        return Some(planned);
    }
    if side.filter != Some(filter_hash(filter)) {
        return None;
    }
    // The interval may have become shorter since it was planned.
    Some(planned.min(cadence::poll::latest(side, last_update, poll)))
}

pub(in crate::warmer) fn filter_hash(filter: &TagFilter) -> ContentHash {
    ContentHash::of(format!("{filter:?}").as_bytes())
}

/// How a list was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::warmer) enum ListVerdict {
    Accepted,
    /// It lost so many tags that a second one must confirm it.
    HeldBack,
}

impl State {
    /// Whether the list should be read now: its time has come, or would have with this interval, or other tags are
    /// wanted than when it was last taken in, or what we have is not whole.
    pub(in crate::warmer) fn listing_is_due(
        &self,
        filter: &TagFilter,
        poll: &PollInterval,
        now: Timestamp,
    ) -> bool {
        let incomplete = !self.listed || self.torn;
        if incomplete && self.side.last_error.is_none() {
            return true;
        }
        next_listing(&self.side, filter, poll).is_none_or(|next| next <= now)
    }

    /// Forgets what the list is recognised by: a registry may show another one to another login.
    pub(in crate::warmer) fn forget_validators(&mut self) {
        self.side.listing = self.side.listing.as_ref().map(ListState::without_validators);
        self.side_header_changed = true;
    }

    /// What the list left behind when it was last read, if what is here is what it said, for these wanted tags: then a
    /// list that has not changed has nothing to say.
    pub(in crate::warmer) fn known_list(&self, filter: &TagFilter) -> Option<&ListState> {
        let is_as_listed = self.listed && !self.torn && !self.held_back;
        let known = self.side.listing.as_ref().filter(|_| is_as_listed)?;
        let is_known =
            self.side.filter == Some(filter_hash(filter)) && known.is_of(self.tags.keys(), self.invalid_tags);
        is_known.then_some(known)
    }

    /// Takes note of what a list left behind, if what is here is what it said: a tag may have come meanwhile.
    pub(in crate::warmer) fn remember_list(&mut self, listing: ListState) {
        let is_as_listed = listing.is_of(self.tags.keys(), self.invalid_tags);
        self.side.listing = is_as_listed.then_some(listing);
        self.side_header_changed = true;
    }

    /// Takes note that the list says what it said when [`Self::known_list`] was read from it.
    pub(in crate::warmer) fn list_unchanged(
        &mut self,
        listing: ListState,
        filter: &TagFilter,
        poll: &PollInterval,
        at: Circumstance,
    ) {
        self.listed_now(filter, poll, false, at);
        self.side.listing = Some(listing);
    }

    /// Takes tags that have come or moved since the list that is known; of the others nothing was said.
    pub(in crate::warmer) fn apply_newer(
        &mut self,
        list: &TagList,
        listing: ListState,
        filter: &TagFilter,
        poll: &PollInterval,
        at: Circumstance,
    ) {
        let mut is_news = false;
        let new: BTreeSet<&Tag> = list.tags.iter().collect();
        let known = || self.tags.keys().filter(|tag| !new.contains(tag));
        let chosen = filter.choose(known().chain(&list.tags));
        // A new tag may push out another one.
        let others: Vec<Tag> = if filter.is_relative() { known().cloned().collect() } else { Vec::new() };
        for tag in others.iter().chain(&list.tags) {
            is_news |= self.apply_listed_tag(tag, left_out(&chosen, tag), Some(at.now), at);
        }
        self.chosen = Some(Arc::new(chosen));
        is_news |= self.apply_hints(list, at);
        self.listed_now(filter, poll, is_news, at);
        self.side.listing = Some(listing.grown(self.tags.keys(), self.invalid_tags));
    }

    /// Takes what a list says of its tags beside their names. When a tag was pushed is believed; where it points is asked
    /// the registry at once, if the list says otherwise than we know: then it is news.
    fn apply_hints(&mut self, list: &TagList, at: Circumstance) -> bool {
        let mut is_news = false;
        for (tag, hint) in &list.hints {
            let Some(kept) = self.tags.get_mut(tag) else { continue };
            if kept.makes_due(hint, at) {
                kept.side.next = Some(at.now);
                self.side_changed.insert(tag.clone());
                is_news = true;
            }
            if kept.take_pushed(hint) {
                self.changed.insert(tag.clone());
            }
        }
        is_news
    }

    /// The list could be read: nothing of what went wrong before counts any more. What it brought, if it is news, tells how
    /// often to read it.
    fn listed_now(&mut self, filter: &TagFilter, poll: &PollInterval, is_news: bool, at: Circumstance) {
        if std::mem::take(&mut self.failed) {
            self.announce(ChangeKind::RepositoryRecovered, at);
        }
        let brought = match (is_news, at.cause) {
            (false, _) => Brought::Nothing,
            (true, Cause::Poll | Cause::Request) => Brought::Change,
            (true, Cause::Webhook) => Brought::Announced,
        };
        // Webhooks that leave out a change are not to be relied on.
        self.side.fed_at = self.side.fed_at.filter(|_| !(is_news && at.cause == Cause::Poll));
        let interval = cadence::poll::learn(&self.side, brought, poll, at.now);
        self.side_header_changed = true;
        self.side = Side {
            last_update: Some(at.now),
            next_listing: Some(at.now + cadence::jittered(interval, at.jitter)),
            poll_interval_ms: u64::try_from(interval.as_millis()).ok(),
            fed_at: self.side.fed_at,
            paced: self.side.paced,
            filter: Some(filter_hash(filter)),
            whole_at: self.side.whole_at,
            renewed_at: self.side.renewed_at,
            early: std::mem::take(&mut self.side.early),
            ..Side::default()
        };
    }

    /// Takes a list that was read to its end. What was learnt of a tag since its reading began is newer than the list.
    pub(in crate::warmer) fn apply_list(
        &mut self,
        list: &TagList,
        filter: &TagFilter,
        poll: &PollInterval,
        at: Circumstance,
    ) -> ListVerdict {
        self.side_header_changed = true;
        let confirm_after = cadence::CONFIRM_LOSS.min(cadence::poll::interval(&self.side, poll));
        if self.listed
            && lost_most(self.tags.len(), list.tags.len())
            && !self.confirms(list, confirm_after, at)
        {
            self.held_back = true;
            let tags = list.tags.len();
            let known = self.side.shrunken.as_ref().filter(|before| !lost_most(before.tags, tags));
            let since = known.map_or(at.now, |before| before.since);
            self.side.shrunken = Some(Shrunken { tags, since });
            self.side.last_error = Some(LastError {
                message: format!(
                    "the list shrank from {} to {} tags; it is held back until a second one confirms it",
                    self.tags.len(),
                    list.tags.len()
                ),
                at: at.now,
            });
            self.side.next_listing = Some(at.now + confirm_after);
            return ListVerdict::HeldBack;
        }
        // After a loss of pages nobody can tell which tags are new.
        let first_seen = (self.listed && !self.torn).then_some(at.now);
        let listed: BTreeSet<&Tag> = list.tags.iter().collect();
        let is_gone = |(tag, kept): &(&Tag, &Kept)| !listed.contains(tag) && kept.record.since <= at.began;
        let gone: Vec<Tag> = self.tags.iter().filter(is_gone).map(|(tag, _)| tag.clone()).collect();
        let mut is_news = false;
        for tag in gone {
            let kept = self.tags.remove(&tag);
            // That it has no manifest any more was known before the list said so.
            let is_known = |kept: &Kept| kept.is_left_out() || kept.record.state == TagState::Unknown;
            is_news |= kept.as_ref().is_some_and(|kept| !is_known(kept));
            self.announce_difference(&tag, kept.as_ref().map(|kept| &kept.record), None, at);
            self.changed.insert(tag);
        }
        let chosen = filter.choose(self.tags.keys().filter(|tag| !listed.contains(tag)).chain(&list.tags));
        for tag in &list.tags {
            is_news |= self.apply_listed_tag(tag, left_out(&chosen, tag), first_seen, at);
        }
        self.chosen = Some(Arc::new(chosen));
        is_news |= self.apply_hints(list, at);
        // What was not here before says nothing about how often it changes.
        is_news &= first_seen.is_some();
        self.listed = true;
        self.torn = false;
        self.held_back = false;
        self.invalid_tags = list.invalid;
        self.listed_now(filter, poll, is_news, at);
        ListVerdict::Accepted
    }

    /// Whether an earlier list was as short, and long enough ago.
    fn confirms(&self, list: &TagList, confirm_after: Duration, at: Circumstance) -> bool {
        self.side.shrunken.as_ref().is_some_and(|before| {
            !lost_most(before.tags, list.tags.len()) && before.since + confirm_after <= at.now
        })
    }

    /// Takes a tag that a list names. It is news if it is wanted and was not known at all.
    fn apply_listed_tag(
        &mut self,
        tag: &Tag,
        left_out: Option<(Exclusion, String)>,
        first_seen: Option<Timestamp>,
        at: Circumstance,
    ) -> bool {
        let known = self.tags.get(tag).map(|kept| &kept.record);
        let known_left_out = match known.map(|record| &record.state) {
            Some(TagState::Excluded { digest: None, why, reason }) => Some((*why, reason)),
            _ => None,
        };
        let is_news = known.is_none() && left_out.is_none();
        let record = match left_out {
            None if known.is_some() && known_left_out.is_none() => return false,
            Some((why, reason)) if known_left_out == Some((why, &reason)) => return false,
            None => {
                let first_seen = known.map_or(first_seen, |record| record.first_seen);
                TagRecord { was_excluded: known.is_some(), ..TagRecord::pending(at.now, first_seen) }
            }
            Some((why, reason)) => {
                let state = TagState::Excluded { digest: None, why, reason };
                let first_seen = known.map_or(first_seen, |record| record.first_seen);
                TagRecord { state, ..TagRecord::pending(at.now, first_seen) }
            }
        };
        let known = known.cloned();
        self.announce_difference(tag, known.as_ref(), Some(&record), at);
        self.tags.insert(tag.clone(), Kept::new(record));
        self.changed.insert(tag.clone());
        is_news
    }

    /// Takes note that the list could not be read: what was known stays.
    pub(in crate::warmer) fn list_failed(&mut self, error: &UpstreamError, at: Circumstance) {
        self.side_header_changed = true;
        self.side.last_error = Some(LastError { message: error.to_string(), at: at.now });
        if let Some(retry_after) = error.kind.retry_after() {
            // Nothing is wrong with the repository.
            self.side.next_listing = Some(at.now + retry_after);
            return;
        }
        self.side.attempts = self.side.attempts.saturating_add(1);
        let back_off = cadence::after_failed_listing(self.side.attempts, at.jitter);
        self.side.next_listing = Some(at.now + back_off);
        if !std::mem::replace(&mut self.failed, true) {
            self.announce(ChangeKind::RepositoryFailed, at);
        }
        self.side.not_found = error.kind.class() == ErrorClass::NotFound;
        match error.kind.class() {
            ErrorClass::Unauthorized => {
                let denied = self.side.denied.get_or_insert(Denied { since: at.now, until: at.now });
                denied.until = at.now;
            }
            ErrorClass::NotFound if self.listed => self.gone_once_more(at),
            // Three in a row, or it is not gone.
            _ if self.listed => self.side.gone = None,
            _ => {}
        }
    }

    fn gone_once_more(&mut self, at: Circumstance) {
        let gone = self.side.gone.get_or_insert(Gone { since: at.now, confirmations: 0 });
        gone.confirmations += 1;
        if self.side.is_gone_for_good() {
            self.removed = true;
            self.listed = false;
            self.tags.clear();
            self.chosen = None;
            // Unless it was told, and whoever did so did not come to the end of it.
            let last = self.side.early.last().map(|event| event.kind);
            if last != Some(ChangeKind::RepositoryRemoved) {
                self.announce(ChangeKind::RepositoryRemoved, at);
            }
        }
    }
}

/// Whether a list of so many tags after one of so many is suspicious.
fn lost_most(before: usize, after: usize) -> bool {
    after * 2 < before
}

#[cfg(test)]
mod tests;
