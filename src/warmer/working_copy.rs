//! A repository while it is worked on: what the store holds of it, changed in memory by what the registry answers.
//!
//! All knowledge of how states follow one another is here, as plain functions of the state, the answer and the time.
//! [`super::publish`] brings the result back to the store; [`listing`] takes in lists, [`deadlines`]
//! plans anew what was planned long ago.

mod deadlines;
mod listing;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::upstream::ErrorClass;
use samovar_registry::{Digest, Labels, Name, Newness, Tag};

use super::cadence::tags::Pace;
use super::change::{self, ChangeKind, Difference, Seen};
use super::publish::Attempt;
use super::queue::{Class, Needs};
use super::tag::{Circumstance, DueTag, Kept, TagAnswer};
use crate::cache::history::History;
use crate::cache::records::{Exclusion, ImageRecord, PutOff, TagRecord, TagState};
use crate::cache::stored::{Head, Loaded, Side, TagCounts};
use crate::sources::{Chosen, TagFilter};
use crate::store::Entry;

pub(super) use self::listing::{ListVerdict, filter_hash, next_listing};

/// No deadline is further away: a week for a tag or a list, and a margin for jitter.
pub(super) const LONGEST_DEADLINE: Duration = Duration::from_hours(8 * 24);
/// Who has asked for a tag since then counts as asking for it.
const READ_LATELY: Duration = Duration::from_hours(4 * 7 * 24);
/// Clocks of replicas, and those of registries, may differ by this much.
pub(super) const CLOCKS_DIFFER: Duration = Duration::from_mins(5);

/// Whether a side record was written by a clock that was ahead of this one.
pub(super) fn is_from_the_future(side: &Side, now: Timestamp) -> bool {
    let written = [side.last_update, side.renewed_at, side.fed_at].into_iter().flatten();
    let planned = [side.next_listing, side.next_wake].into_iter().flatten();
    written.into_iter().any(|time| time > now + CLOCKS_DIFFER)
        || planned.into_iter().any(|time| time > now + LONGEST_DEADLINE)
}

/// How likely it is that a tag matters: the greater goes first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Likelihood {
    /// It is due since then.
    Known(Reverse<Timestamp>),
    /// It was never asked about.
    New(Newness),
    /// Somebody has asked for it then; new ones first.
    Read(Timestamp, bool, Reverse<Timestamp>),
}

impl Likelihood {
    fn of(tag: &Tag, is_new: bool, next: Timestamp, last_read: Option<Timestamp>) -> Self {
        match last_read {
            Some(read) => Self::Read(read, is_new, Reverse(next)),
            None if is_new => Self::New(tag.newness()),
            None => Self::Known(Reverse(next)),
        }
    }
}

/// A repository in memory, and what of it differs from the store.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each of which may change alone")]
#[derive(Debug)]
pub(super) struct State {
    pub(super) name: Name,
    pub(super) tags: BTreeMap<Tag, Kept>,
    /// How often they are confirmed, as far as it is not theirs to say.
    pub(super) pace: Pace,
    pub(super) side: Side,
    pub(super) held_back: bool,
    pub(super) invalid_tags: usize,
    /// Whether the list was ever read to its end.
    pub(super) listed: bool,
    /// Part of the repository was missing from the store: until the list has been read again nobody is shown what is
    /// left of it.
    pub(super) torn: bool,
    /// The registry has said for long enough that the repository is gone.
    pub(super) removed: bool,
    /// The greatest generation that was stored, as far as is known.
    pub(super) generation: u64,
    pub(super) head: Option<Head>,
    pub(super) head_entry: Option<Entry>,
    /// A head of which it is not known whether the store took it.
    pub(super) attempted: Option<Attempt>,
    /// It was told that the list cannot be read.
    pub(super) failed: bool,
    /// The history as the head tells it, also where the head itself was evicted.
    pub(super) history: History,
    /// The generation that readers can see: of the head, or of a change beside it.
    pub(super) visible: u64,
    /// Tags whose record changed, that came or that went.
    pub(super) changed: BTreeSet<Tag>,
    /// Tags whose side record changed.
    pub(super) side_changed: BTreeSet<Tag>,
    pub(super) side_header_changed: bool,
    /// What to announce once it is visible.
    pub(super) changes: Vec<Seen>,
    images: HashMap<Digest, std::sync::Weak<ImageRecord>>,
    /// Of the image that came last: the next one will say much of it again.
    labels: Labels,
    /// Which of the tags are wanted, as long as no other tags come and none go.
    chosen: Option<Arc<Chosen>>,
}

impl State {
    /// Takes over what was loaded. Tags of missing pages come back with the next listing; images that were chosen
    /// for other platforms stay until their documents have been looked at again.
    pub(super) fn new(name: Name, loaded: Loaded, platforms: &str) -> Self {
        let same_platforms = loaded.head.as_ref().is_none_or(|head| head.platforms == platforms);
        let generation = loaded.head.as_ref().map_or(0, |head| head.generation);
        // Whoever works on it watches it.
        let mut side = Side { unwatched_since: None, ..loaded.side.unwrap_or_default() };
        // The head tells of the others already: what wrote it did not come to write this.
        side.early.retain(|event| event.id.generation > generation);
        let told_beside = side.early.iter().rev().find_map(|event| match event.kind {
            ChangeKind::RepositoryFailed | ChangeKind::RepositoryRemoved => Some(true),
            ChangeKind::RepositoryRecovered => Some(false),
            _ => None,
        });
        let failed = told_beside.unwrap_or_else(|| loaded.head.as_ref().is_some_and(|head| head.failed));
        let visible = side.early.last().map_or(generation, |event| event.id.generation);
        let mut state = Self {
            name,
            tags: BTreeMap::new(),
            pace: Pace::default(),
            side,
            held_back: loaded.head.as_ref().is_some_and(|head| head.held_back),
            invalid_tags: loaded.head.as_ref().map_or(0, |head| head.invalid_tags),
            listed: loaded.head.is_some(),
            torn: loaded.missing_pages > 0,
            removed: false,
            generation: visible,
            failed,
            history: loaded.head.as_ref().map_or_else(History::default, |head| head.history.clone()),
            visible,
            head: loaded.head,
            head_entry: loaded.head_entry,
            attempted: None,
            changed: BTreeSet::new(),
            side_changed: BTreeSet::new(),
            side_header_changed: false,
            changes: Vec::new(),
            images: HashMap::new(),
            labels: Labels::default(),
            chosen: None,
        };
        for (tag, record, mut side) in loaded.tags {
            let depends_on_platforms = match &record.state {
                TagState::Ok(_) => true,
                TagState::Excluded { why, .. } => *why == Exclusion::Platform,
                TagState::Pending | TagState::Unknown | TagState::Failed { .. } => false,
            };
            let other_platforms = !same_platforms && depends_on_platforms;
            if other_platforms {
                // At once, unless it was tried already and failed.
                side.next = side.next.filter(|_| side.attempts > 0);
            } else {
                state.remember(&record);
            }
            state.tags.insert(tag, Kept { side, other_platforms, ..Kept::new(record) });
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

    /// Which of the tags are wanted by this filter: looked for once, for requests come by the dozen.
    pub(super) fn chosen(&mut self, filter: &TagFilter) -> Arc<Chosen> {
        match &self.chosen {
            Some(chosen) if chosen.is_by(filter) => Arc::clone(chosen),
            _ => Arc::clone(self.chosen.insert(Arc::new(filter.choose(self.tags.keys())))),
        }
    }

    /// The tags to ask about: those whose time has come, or, with `all`, every one that its name does not leave out. The
    /// likeliest to matter come first: what readers have asked for in the last weeks, by `last_read`; then what was never asked about,
    /// the newest-looking first; then what has been due for longest.
    ///
    /// None while a shrunken list is held back: a registry in a bad state denies the tags that its list lacks. None
    /// while the repository is torn: the answers could not be published.
    pub(super) fn due(
        &self,
        now: Timestamp,
        all: bool,
        last_read: impl Fn(&Tag) -> Option<Timestamp>,
    ) -> Vec<DueTag> {
        if self.held_back || self.torn {
            return Vec::new();
        }
        let due = self.tags.iter().filter_map(|(tag, kept)| {
            let next = kept.next().filter(|next| all || *next <= now)?;
            let last_read = last_read(tag).filter(|read| now < *read + READ_LATELY);
            Some((Likelihood::of(tag, kept.is_new(), next, last_read), tag, kept))
        });
        let mut due: Vec<_> = due.collect();
        // Stable: what is alike stays in the order of names.
        due.sort_by(|(one, ..), (other, ..)| other.cmp(one));
        let asked = |(_, tag, kept): (Likelihood, &Tag, &Kept)| {
            let known = kept.record.state.digest().cloned();
            DueTag { tag: tag.clone(), known, other_platforms: kept.other_platforms }
        };
        due.into_iter().map(asked).collect()
    }

    /// Makes these tags due.
    pub(super) fn make_due(&mut self, tags: impl Iterator<Item = Tag>, now: Timestamp) {
        for tag in tags {
            let Some(kept) = self.tags.get_mut(&tag) else { continue };
            if kept.next().is_some_and(|next| next > now) {
                kept.side.next = Some(now);
                self.side_changed.insert(tag);
                self.side_header_changed = true; // it says when to wake
            }
        }
    }

    /// Makes every tag due that could not be asked about when it was asked about last, where other credentials may help, or
    /// that a limit put off: other credentials have a quota of their own. What was spread after a stop stays so.
    pub(super) fn retry_refused(&mut self, now: Timestamp) {
        for (tag, kept) in &mut self.tags {
            let may_help = match &kept.record.state {
                TagState::Failed { class, .. } => *class == ErrorClass::Unauthorized,
                // Why it could not be looked at again is not kept.
                _ => kept.side.attempts > 0 || kept.side.put_off == Some(PutOff::Limited),
            };
            if may_help && kept.next().is_some_and(|next| next > now) {
                kept.side.next = Some(now);
                self.side_changed.insert(tag.clone());
            }
        }
    }

    /// Takes no time for true that cannot be: a clock that was wrong for a while must not put everything off until then.
    pub(super) fn distrust_the_future(&mut self, now: Timestamp) {
        if is_from_the_future(&self.side, now) {
            self.side.next_listing = None;
            self.side.last_update = self.side.last_update.map(|time| time.min(now));
            self.side.whole_at = None;
            self.side.renewed_at = self.side.renewed_at.map(|time| time.min(now));
            self.side.fed_at = self.side.fed_at.map(|time| time.min(now));
        }
        for kept in self.tags.values_mut() {
            if kept.next().is_some_and(|next| next > now + LONGEST_DEADLINE) {
                kept.side.next = Some(now);
            }
        }
    }

    /// A webhook has told of something.
    pub(super) fn fed(&mut self, now: Timestamp) {
        self.side.fed_at = Some(now);
        self.side_header_changed = true;
    }

    /// What the stored head says: how many tags are in which state, and whether nothing is missing.
    pub(super) fn of_head(&self) -> (TagCounts, bool) {
        self.head.as_ref().map_or_else(Default::default, |head| (head.counts, head.complete))
    }

    /// Whether anything differs from the store.
    pub(super) fn is_unsaved(&self) -> bool {
        self.side_header_changed || !self.changed.is_empty() || !self.side_changed.is_empty()
    }

    /// What this repository needs, and when; in the past where that is due.
    pub(super) fn needs(&self) -> Needs {
        self.needs_with(self.needs_of_tags())
    }

    /// The same, where it is known already what its tags need.
    pub(super) fn needs_with(&self, of_tags: Needs) -> Needs {
        if self.torn && self.side.last_error.is_none() {
            return Needs::at(Class::New, Timestamp::UNIX_EPOCH);
        }
        let list = if self.listed { Class::Background } else { Class::New };
        let listing = Needs::default().with(list, self.side.next_listing);
        if self.held_back || self.torn {
            return listing;
        }
        listing.and(of_tags)
    }

    /// The same of its tags alone.
    pub(super) fn needs_of_tags(&self) -> Needs {
        self.tags.values().fold(Needs::default(), |needs, kept| {
            needs.with(if kept.is_new() { Class::New } else { Class::Due }, kept.next())
        })
    }

    /// Takes what the registry said about one tag. A tag that is asked for before any list has it is taken in.
    pub(super) fn apply_answer(&mut self, tag: &Tag, answer: TagAnswer, at: Circumstance) {
        let answer = self.without_copies(answer);
        let before = self.tags.get(tag).cloned();
        if before.is_none() && !matches!(answer, TagAnswer::Image(_) | TagAnswer::Excluded { .. }) {
            return; // neither listed nor there
        }
        if before.as_ref().and_then(|before| before.asked_at).is_some_and(|asked_at| asked_at > at.began) {
            return; // somebody who asked later has heard already
        }
        if before.is_none() {
            self.side.listing = None; // the list that was read lacks it
            self.chosen = None;
        }
        let before =
            before.unwrap_or_else(|| Kept::new(TagRecord::pending(at.now, self.listed.then_some(at.now))));
        let after = before.after(answer, at, &self.pace.of(tag, &before.side, at.now));
        if after.record != before.record {
            self.announce_difference(tag, Some(&before.record), Some(&after.record), at);
            if !after.other_platforms {
                self.remember(&after.record);
            }
            self.changed.insert(tag.clone());
        }
        self.side_changed.insert(tag.clone());
        self.side_header_changed = true; // it says when to wake
        self.tags.insert(tag.clone(), after);
    }

    /// The answer, of whose image nothing is in memory a second time that the last one has said.
    fn without_copies(&mut self, mut answer: TagAnswer) -> TagAnswer {
        // Nobody else has an image that is new.
        if let TagAnswer::Image(image) = &mut answer
            && let Some(image) = Arc::get_mut(image)
        {
            image.labels = image.labels.sharing(&self.labels);
            self.labels = image.labels.clone();
        }
        answer
    }

    /// What is said next of the tag's absence is believed at once.
    pub(super) fn believe_missing(&mut self, tag: &Tag) {
        if let Some(kept) = self.tags.get_mut(tag) {
            kept.side.missing = true;
        }
    }

    /// Takes note of what readers will see of the tag otherwise than before.
    fn announce_difference(
        &mut self,
        tag: &Tag,
        before: Option<&TagRecord>,
        after: Option<&TagRecord>,
        at: Circumstance,
    ) {
        if let Some(Difference { kind, old, new }) = change::difference(before, after) {
            self.changes.push(Seen { kind, tag: Some(tag.clone()), old, new, at: at.now, cause: at.cause });
        }
    }

    /// Takes note of what happened to the repository as a whole.
    fn announce(&mut self, kind: ChangeKind, at: Circumstance) {
        self.changes.push(Seen { kind, tag: None, old: None, new: None, at: at.now, cause: at.cause });
    }
}

#[cfg(test)]
mod tests;
