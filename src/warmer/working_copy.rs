//! A repository while it is worked on: what the store holds of it, changed in memory by what the registry answers.
//!
//! All knowledge of how states follow one another is here, as plain functions of the state, the answer and the time.
//! [`super::publish`] brings the result back to the store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::upstream::{ErrorClass, ErrorKind, TagList, UpstreamError};
use samovar_registry::{Digest, Name, Tag};

use super::cadence;
use super::change::{Cause, Change, ChangeKind};
use crate::cache::records::{Exclusion, ImageRecord, LastError, TagRecord, TagSide, TagState};
use crate::cache::stored::{Gone, Head, Loaded, Side};
use crate::sources::{TagFilter, Verdict};
use crate::store::{ContentHash, Entry};

/// How often, and over how long, a registry must say that a repository is gone before it is removed.
const GONE_CONFIRMATIONS: u32 = 3;
const GONE_FOR: Duration = Duration::from_hours(24);

/// When a repository's list is to be read next; `None`: now.
pub(super) fn next_listing(side: &Side, filter: &TagFilter, poll_interval: Duration) -> Option<Timestamp> {
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
    Some(planned.min(last_update + cadence::jittered(poll_interval, 1.0)))
}

fn filter_hash(filter: &TagFilter) -> ContentHash {
    ContentHash::of(format!("{filter:?}").as_bytes())
}

/// What the registry said about one tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TagAnswer {
    /// It points where it pointed.
    Same,
    /// It points at this image.
    Image(Arc<ImageRecord>),
    /// It points at something that is not offered.
    Excluded { digest: Digest, why: Exclusion, reason: String },
    /// It has no manifest.
    Unknown,
    /// It could not be told. Where it is known that the tag has moved, and where to.
    Failed { class: ErrorClass, reason: String, moved_to: Option<Digest> },
}

impl TagAnswer {
    /// A failure that says nothing about where the tag points.
    pub(super) fn failed(class: ErrorClass, error: &impl std::fmt::Display) -> Self {
        Self::Failed { class, reason: error.to_string(), moved_to: None }
    }
}

/// A tag to ask the registry about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DueTag {
    pub(super) tag: Tag,
    /// What it points at as far as we know; `None`: nothing is known.
    pub(super) known: Option<Digest>,
    /// Other platforms are wanted than when the image was looked at: what `known` names is to be looked at again.
    pub(super) other_platforms: bool,
}

/// How a list was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListVerdict {
    Accepted,
    /// It lost so many tags that a second one must confirm it.
    HeldBack,
}

/// When and why something is applied: the time, the cause for the history, a random number from 0 to 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstance {
    pub(super) now: Timestamp,
    pub(super) cause: Cause,
    pub(super) jitter: f64,
}

/// One tag, as kept in memory.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    pub(super) record: TagRecord,
    pub(super) side: TagSide,
    /// The record was made for other platforms than are wanted now.
    pub(super) other_platforms: bool,
}

impl Kept {
    fn new(record: TagRecord) -> Self {
        Self { record, side: TagSide::default(), other_platforms: false }
    }
}

/// A repository in memory, and what of it differs from the store.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each of which may change alone")]
#[derive(Debug)]
pub(super) struct State {
    pub(super) name: Name,
    pub(super) tags: BTreeMap<Tag, Kept>,
    pub(super) side: Side,
    pub(super) held_back: bool,
    pub(super) invalid_tags: usize,
    /// Whether the list was ever read to its end.
    pub(super) listed: bool,
    /// The registry has said for long enough that the repository is gone.
    pub(super) removed: bool,
    pub(super) head: Option<Head>,
    pub(super) head_entry: Option<Entry>,
    /// Tags whose record changed, that came or that went.
    pub(super) changed: BTreeSet<Tag>,
    /// Tags whose side record changed.
    pub(super) side_changed: BTreeSet<Tag>,
    pub(super) side_header_changed: bool,
    /// What to announce once it is visible.
    pub(super) changes: Vec<Change>,
    images: HashMap<Digest, std::sync::Weak<ImageRecord>>,
}

impl State {
    /// Takes over what was loaded. Tags of missing pages come back with the next listing; images that were chosen
    /// for other platforms stay until their documents have been looked at again.
    pub(super) fn new(name: Name, loaded: Loaded, platforms: &str) -> Self {
        let same_platforms = loaded.head.as_ref().is_none_or(|head| head.platforms == platforms);
        let mut state = Self {
            name,
            tags: BTreeMap::new(),
            side: loaded.side.unwrap_or_default(),
            held_back: loaded.head.as_ref().is_some_and(|head| head.held_back),
            invalid_tags: loaded.head.as_ref().map_or(0, |head| head.invalid_tags),
            listed: loaded.head.is_some(),
            removed: false,
            head: loaded.head,
            head_entry: loaded.head_entry,
            changed: BTreeSet::new(),
            side_changed: BTreeSet::new(),
            side_header_changed: false,
            changes: Vec::new(),
            images: HashMap::new(),
        };
        for (tag, record, side) in loaded.tags {
            let depends_on_platforms = match &record.state {
                TagState::Ok(_) => true,
                TagState::Excluded { why, .. } => *why == Exclusion::Platform,
                TagState::Pending | TagState::Unknown | TagState::Failed { .. } => false,
            };
            let other_platforms = !same_platforms && depends_on_platforms;
            if !other_platforms {
                state.remember(&record);
            }
            state.tags.insert(tag, Kept { record, side, other_platforms });
        }
        if loaded.missing_pages > 0 {
            state.side.next_listing = None;
        }
        state
    }

    fn remember(&mut self, record: &TagRecord) {
        if let TagState::Ok(image) = &record.state {
            self.images.insert(image.digest.clone(), Arc::downgrade(image));
        }
    }

    /// An image that some tag of this repository is known to point at.
    pub(super) fn image(&self, digest: &Digest) -> Option<Arc<ImageRecord>> {
        self.images.get(digest)?.upgrade()
    }

    /// Whether the list should be read now: its time has come, or would have with this interval, or other tags are
    /// wanted than when it was last taken in.
    pub(super) fn listing_is_due(&self, filter: &TagFilter, poll_interval: Duration, now: Timestamp) -> bool {
        next_listing(&self.side, filter, poll_interval).is_none_or(|next| next <= now)
    }

    /// The tags to ask about: those never asked about first, then those whose time has come (or, with `all`, every
    /// one that is not excluded by configuration).
    ///
    /// None while a shrunken list is held back: a registry in a bad state denies the tags that its list lacks.
    pub(super) fn due(&self, now: Timestamp, all: bool) -> Vec<DueTag> {
        if self.held_back {
            return Vec::new();
        }
        let (mut new, mut due) = (Vec::new(), Vec::new());
        for (tag, kept) in &self.tags {
            if let TagState::Excluded { why: Exclusion::Configuration, .. } = kept.record.state {
                continue;
            }
            let known = kept.record.state.digest().cloned();
            let asked = DueTag { tag: tag.clone(), known, other_platforms: kept.other_platforms };
            if kept.record.state == TagState::Pending {
                new.push(asked);
            } else if all || kept.other_platforms || kept.side.next.is_none_or(|next| next <= now) {
                due.push(asked);
            }
        }
        new.append(&mut due);
        new
    }

    /// When this repository next needs anything; in the past where something is due.
    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        if self.held_back {
            return self.side.next_listing;
        }
        let tags = self.tags.values().filter_map(|kept| match &kept.record.state {
            TagState::Excluded { why: Exclusion::Configuration, .. } => None,
            TagState::Pending => Some(kept.record.since),
            _ if kept.other_platforms => Some(kept.record.since),
            _ => kept.side.next,
        });
        tags.chain(self.side.next_listing).min()
    }

    /// Takes a list that was read to its end, and whose reading began at `began`: what was learnt of a tag since then
    /// is newer than the list.
    pub(super) fn apply_list(
        &mut self,
        list: &TagList,
        began: Timestamp,
        filter: &TagFilter,
        poll_interval: Duration,
        at: Circumstance,
    ) -> ListVerdict {
        let lost_most = list.tags.len() * 2 < self.tags.len();
        let confirmed = self.side.held_back_tags.is_some();
        self.side_header_changed = true;
        if self.listed && lost_most && !confirmed {
            self.held_back = true;
            self.side.held_back_tags = Some(list.tags.len());
            self.side.last_error = Some(LastError {
                message: format!(
                    "the list shrank from {} to {} tags; it is held back until a second one confirms it",
                    self.tags.len(),
                    list.tags.len()
                ),
                at: at.now,
            });
            self.side.next_listing = Some(at.now + cadence::CONFIRM_SHRINKAGE.min(poll_interval));
            return ListVerdict::HeldBack;
        }
        let first_seen = self.listed.then_some(at.now);
        let listed: BTreeSet<&Tag> = list.tags.iter().collect();
        let is_gone = |(tag, kept): &(&Tag, &Kept)| !listed.contains(tag) && kept.record.since <= began;
        let gone: Vec<Tag> = self.tags.iter().filter(is_gone).map(|(tag, _)| tag.clone()).collect();
        for tag in gone {
            let Some(kept) = self.tags.remove(&tag) else {
                continue;
            };
            if let TagState::Ok(image) = kept.record.state {
                self.announce(ChangeKind::TagRemoved, Some(&tag), Some(image.digest.clone()), None, at);
            }
            self.changed.insert(tag);
        }
        for tag in &list.tags {
            self.apply_listed_tag(tag, filter.verdict(tag), first_seen, at);
        }
        if self.side.attempts > 0 {
            self.announce(ChangeKind::RepositoryRecovered, None, None, None, at);
        }
        self.listed = true;
        self.held_back = false;
        self.invalid_tags = list.invalid;
        self.side = Side {
            last_update: Some(at.now),
            next_listing: Some(at.now + cadence::jittered(poll_interval, at.jitter)),
            filter: Some(filter_hash(filter)),
            ..Side::default()
        };
        ListVerdict::Accepted
    }

    fn apply_listed_tag(
        &mut self,
        tag: &Tag,
        verdict: Verdict,
        first_seen: Option<Timestamp>,
        at: Circumstance,
    ) {
        let known = self.tags.get(tag).map(|kept| &kept.record);
        let ignored = matches!(
            known.map(|record| &record.state),
            Some(TagState::Excluded { why: Exclusion::Configuration, .. })
        );
        let record = match verdict {
            Verdict::Wanted if known.is_some() && !ignored => return,
            Verdict::Ignored(_) if ignored => return,
            Verdict::Wanted => {
                TagRecord::pending(at.now, known.map_or(first_seen, |record| record.first_seen))
            }
            Verdict::Ignored(reason) => {
                let (why, reason) = (Exclusion::Configuration, reason.to_owned());
                let state = TagState::Excluded { digest: None, why, reason };
                let first_seen = known.map_or(first_seen, |record| record.first_seen);
                TagRecord { state, since: at.now, first_seen, moved_to: None }
            }
        };
        if let Some(TagState::Ok(image)) = known.map(|record| &record.state) {
            let old = image.digest.clone();
            self.announce(ChangeKind::TagRemoved, Some(tag), Some(old), None, at);
        }
        self.tags.insert(tag.clone(), Kept::new(record));
        self.changed.insert(tag.clone());
    }

    /// Takes note that the list could not be read: what was known stays.
    pub(super) fn list_failed(&mut self, error: &UpstreamError, at: Circumstance) {
        self.side_header_changed = true;
        self.side.last_error = Some(LastError { message: error.to_string(), at: at.now });
        if let ErrorKind::RateLimited { retry_after, .. } = &error.kind {
            // Nothing is wrong with the repository.
            self.side.next_listing = Some(at.now + *retry_after);
            return;
        }
        self.side.attempts = self.side.attempts.saturating_add(1);
        let back_off = cadence::after_failed_listing(self.side.attempts, at.jitter);
        self.side.next_listing = Some(at.now + back_off);
        if self.side.attempts == 1 {
            self.announce(ChangeKind::RepositoryFailed, None, None, None, at);
        }
        match error.kind.class() {
            ErrorClass::Unauthorized => {
                self.side.denied_since.get_or_insert(at.now);
            }
            ErrorClass::NotFound if self.listed => self.gone_once_more(at),
            _ => {}
        }
    }

    fn gone_once_more(&mut self, at: Circumstance) {
        let gone = self.side.gone.get_or_insert(Gone { since: at.now, confirmations: 0 });
        gone.confirmations += 1;
        if gone.confirmations >= GONE_CONFIRMATIONS && gone.since + GONE_FOR <= at.now {
            self.removed = true;
            self.listed = false;
            self.tags.clear();
            self.announce(ChangeKind::RepositoryRemoved, None, None, None, at);
        }
    }

    /// Takes what the registry said about one tag. A tag that is asked for before any list has it is taken in.
    pub(super) fn apply_answer(&mut self, tag: &Tag, answer: TagAnswer, at: Circumstance) {
        let before = self.tags.get(tag).cloned();
        if before.is_none() && !matches!(answer, TagAnswer::Image(_) | TagAnswer::Excluded { .. }) {
            return; // neither listed nor there
        }
        let before =
            before.unwrap_or_else(|| Kept::new(TagRecord::pending(at.now, self.listed.then_some(at.now))));
        let after = after_answer(&before, answer, at);
        if after.record != before.record {
            self.announce_transition(tag, &before.record, &after.record, at);
            self.remember(&after.record);
            self.changed.insert(tag.clone());
        }
        self.side_changed.insert(tag.clone());
        self.side_header_changed = true; // it says when to wake
        self.tags.insert(tag.clone(), after);
    }

    fn announce_transition(&mut self, tag: &Tag, before: &TagRecord, after: &TagRecord, at: Circumstance) {
        let (old, new) = (image_digest(before), image_digest(after));
        let of_first_listing = before.first_seen.is_none()
            && matches!(before.state, TagState::Pending | TagState::Failed { .. });
        let kind = match (&old, &new) {
            (None, Some(_)) if !of_first_listing => ChangeKind::TagAdded,
            (Some(_), None) => ChangeKind::TagRemoved,
            (Some(old), Some(new)) if old != new => ChangeKind::TagMoved,
            _ => return,
        };
        self.announce(kind, Some(tag), old, new, at);
    }

    fn announce(
        &mut self,
        kind: ChangeKind,
        tag: Option<&Tag>,
        old: Option<Digest>,
        new: Option<Digest>,
        at: Circumstance,
    ) {
        let repository = self.name.clone();
        self.changes.push(Change {
            repository,
            kind,
            tag: tag.cloned(),
            old,
            new,
            at: at.now,
            cause: at.cause,
        });
    }
}

fn image_digest(record: &TagRecord) -> Option<Digest> {
    match &record.state {
        TagState::Ok(image) => Some(image.digest.clone()),
        _ => None,
    }
}

/// The state of a tag after an answer: nothing but a function of what was, what was said, and when.
fn after_answer(before: &Kept, answer: TagAnswer, at: Circumstance) -> Kept {
    let Kept { record, side, other_platforms } = before.clone();
    let previous = (side.interval_seconds > 0).then(|| Duration::from_secs(u64::from(side.interval_seconds)));
    let confirmed = |interval: Duration| TagSide {
        last_fetched: Some(at.now),
        interval_seconds: u32::try_from(interval.as_secs()).unwrap_or(u32::MAX),
        next: Some(at.now + interval),
        attempts: 0,
    };
    let settled = |state: TagState, record: TagRecord| {
        let same = state.name() == record.state.name() && state.digest() == record.state.digest();
        let since = if same { record.since } else { at.now };
        TagRecord { state, since, first_seen: record.first_seen, moved_to: None }
    };
    let negative =
        |side: TagSide| TagSide { interval_seconds: side.interval_seconds, ..confirmed(cadence::NEGATIVE) };
    match answer {
        TagAnswer::Same => match record.state {
            TagState::Ok(_) => Kept {
                record: TagRecord { moved_to: None, ..record },
                side: confirmed(cadence::next_interval(previous, false)),
                other_platforms,
            },
            _ => Kept { record, side: negative(side), other_platforms },
        },
        TagAnswer::Image(image) => {
            let moved = record.state.digest().is_some_and(|digest| *digest != image.digest);
            let record = settled(TagState::Ok(image), record);
            let side = confirmed(cadence::next_interval(previous, moved));
            Kept { record, side, other_platforms: false }
        }
        TagAnswer::Excluded { digest, why, reason } => {
            let record = settled(TagState::Excluded { digest: Some(digest), why, reason }, record);
            Kept { record, side: negative(side), other_platforms: false }
        }
        TagAnswer::Unknown => {
            let record = settled(TagState::Unknown, record);
            Kept { record, side: negative(side), other_platforms: false }
        }
        TagAnswer::Failed { class, reason, moved_to } => {
            let attempts = side.attempts.saturating_add(1);
            let next = Some(at.now + cadence::after_failure(attempts, at.jitter));
            let side = TagSide { next, attempts, ..side };
            let record = match record.state {
                // What was known stays.
                TagState::Ok(_) | TagState::Excluded { .. } | TagState::Unknown => {
                    TagRecord { moved_to: moved_to.or(record.moved_to.clone()), ..record }
                }
                TagState::Pending | TagState::Failed { .. } => {
                    settled(TagState::Failed { class, reason }, record)
                }
            };
            Kept { record, side, other_platforms }
        }
    }
}

#[cfg(test)]
mod tests;
