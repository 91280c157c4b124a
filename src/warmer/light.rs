//! A light pass: when nothing of a repository is due but its list, and the list says what it said, no page is read.
//!
//! Only the head and the side record are read, and only the side record is written. What comes out is what the whole pass
//! would have written: the same functions of the state run, over a state without tags. Wherever that might not be so, the
//! whole pass is run, and takes over the list that was read.
//!
//! Invariants: a tag that is due, or might be, is never overlooked; nothing that somebody else has written meanwhile, another
//! replica or a request for one tag, is overwritten.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::Name;
use samovar_registry::upstream::{ListState, Listing};

use super::context::Context;
use super::lane::CopySlot;
use super::pass::{Listed, Pass, PassOutcome, Problem};
use super::publish::WorkingCopy;
use super::queue::Class;
use super::renewal;
use super::working_copy::{LONGEST_DEADLINE, filter_hash, is_from_the_future, next_listing};
use crate::cache::load::Loading;
use crate::cache::snapshot::Snapshot;
use crate::cache::stored::{Head, Loaded, Paced, Pages, Side, encode};
use crate::sources::{PollInterval, TagFilter, Watch};
use crate::store::{Entry, Key, StoreError};

/// The pages of a repository are read once in this time, though nothing of them is due: somebody may have begun to read a tag.
const LOOK_AT_PAGES_EVERY: Duration = Duration::from_hours(6);
/// The same where the store may evict them: what nobody reads, nobody would miss. With the longest usual poll interval it is
/// every poll.
const LOOK_FOR_EVICTED_EVERY: Duration = Duration::from_mins(30);

/// A repository without its pages.
#[derive(Debug)]
pub(super) struct Front {
    /// The working copy of a light pass, which has no tags and is never published.
    pub(super) copy: Arc<WorkingCopy>,
    /// The side record as it was read, in place of which the next one is written.
    side_entry: Entry,
    /// When the first of the tags is due, which are not here.
    next_tag: Option<Timestamp>,
    /// The same of those that were never looked at.
    next_new: Option<Timestamp>,
    /// What the list that is stored left behind.
    known: ListState,
}

/// How a light pass ended.
#[expect(clippy::large_enum_variant, reason = "made once for each pass, and taken apart at once")]
#[derive(Debug)]
pub(super) enum Light {
    /// There was no more to do.
    Done(PassOutcome),
    /// The whole pass is to run. It goes on from the list, if that was read.
    Whole(Option<Listed>),
}

/// What is wanted of a repository, and of its store.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    filter: &'a TagFilter,
    platforms: &'a str,
    poll: &'a PollInterval,
    paced: Paced,
    time_to_live: Option<Duration>,
}

impl Front {
    /// Reads head and side record; `None` where a light pass would not do.
    pub(super) async fn read(
        context: &Context,
        name: &Name,
        watch: &Watch,
    ) -> Result<Option<Self>, StoreError> {
        let now = context.now();
        let snapshot = Loading::new(&*context.store, name, &()).snapshot(Pages::None).await?;
        let wanted = Wanted {
            filter: &watch.tags,
            platforms: &context.platforms(watch).to_string(),
            poll: &context.poll_interval(watch),
            paced: context.pace(name, watch).paced(now),
            time_to_live: context.store.time_to_live(),
        };
        Ok(Self::of(snapshot, name, wanted, now))
    }

    /// The same, once they are read.
    fn of(snapshot: Snapshot, name: &Name, wanted: Wanted<'_>, now: Timestamp) -> Option<Self> {
        let Wanted { filter, platforms, poll, paced, time_to_live } = wanted;
        let (head, side) = (snapshot.head.as_ref()?, snapshot.side.as_ref()?);
        let is_as_planned = head.platforms == platforms
            && side.filter == Some(filter_hash(filter))
            && side.paced == Some(paced);
        let is_listing_due = next_listing(side, filter, poll).is_some_and(|next| next <= now);
        let are_pages_due =
            !was_whole_lately(side, time_to_live, now) || renewal::is_due(time_to_live, side.renewed_at, now);
        if !is_as_planned || !is_listing_due || are_pages_due || !is_quiet(head, side, now) {
            return None;
        }
        let (known, side_entry) = (side.listing.clone()?, snapshot.side_entry.clone()?);
        let (next_tag, next_new) = (side.next_tag, side.next_new);
        let copy = Arc::new(WorkingCopy::of_front(name, Loaded::from(snapshot), platforms));
        Some(Self { copy, side_entry, next_tag, next_new, known })
    }

    /// The side record as it is to be stored.
    fn next_side(&self) -> Side {
        let side = self.copy.state().side.clone();
        let next_wake = self.next_tag.into_iter().chain(side.next_listing).min();
        Side { next_wake, next_tag: self.next_tag, next_new: self.next_new, ..side }
    }
}

/// Whether the pages of the repository were looked at lately, and were there. A store in which entries have a time to live
/// may evict them before it is over.
fn was_whole_lately(side: &Side, time_to_live: Option<Duration>, now: Timestamp) -> bool {
    let look_every = if time_to_live.is_some() { LOOK_FOR_EVICTED_EVERY } else { LOOK_AT_PAGES_EVERY };
    side.whole_at.is_some_and(|whole_at| whole_at <= now && now < whole_at + look_every)
}

/// Whether nothing of the repository is due but, perhaps, its list, and nothing is wrong with it.
fn is_quiet(head: &Head, side: &Side, now: Timestamp) -> bool {
    let is_due = |next: Timestamp| next <= now || next > now + LONGEST_DEADLINE;
    let is_sound = side.attempts == 0
        && side.last_error.is_none()
        && side.denied.is_none()
        && side.gone.is_none()
        && side.shrunken.is_none()
        && side.early.is_empty()
        && !head.held_back
        && !head.failed;
    is_sound && !side.next_tag.is_some_and(is_due) && !is_from_the_future(side, now)
}

impl Pass {
    /// Runs over the front alone, which this pass was made with. The slot is where others find the working copy.
    pub(super) async fn run_light(&self, front: &Front, slot: &CopySlot) -> Light {
        let listed = match self.read_list(&self.upstream(), Some(front.known.clone())).await {
            Ok(Some(listed)) => listed,
            Ok(None) => return Light::Done(self.front_ended(front, Ok(false))),
            Err(problem) => return Light::Done(self.ended(Err(problem))),
        };
        let Ok(Listing::Unchanged(left)) = &listed.result else { return Light::Whole(Some(listed)) };
        let at = self.circumstance(listed.began);
        self.copy.state().list_unchanged(left.clone(), &self.watch.tags, &self.poll_interval(), at);
        // From here on nobody may begin to work on the repository.
        let held = slot.lock().await;
        // What does not go into the store may go with the whole pass, which knows what else there is to it.
        if held.upgrade().is_some() || !self.store(front).await.unwrap_or(false) {
            return Light::Whole(Some(listed));
        }
        drop(held);
        let published = self.copy.published_front();
        self.announce(&published).await;
        self.context.published(&self.name, &published);
        Light::Done(self.front_ended(front, Ok(true)))
    }

    /// What comes of it, with what the tags need that are not here.
    fn front_ended(&self, front: &Front, done: Result<bool, Problem>) -> PassOutcome {
        let outcome = self.ended(done);
        let needs = outcome.needs.with(Class::Due, front.next_tag).with(Class::New, front.next_new);
        PassOutcome { needs, ..outcome }
    }

    /// Writes the side record over the one that was read. `false`: somebody else has written one.
    async fn store(&self, front: &Front) -> Result<bool, StoreError> {
        let side = front.next_side();
        let entry = Entry { value: encode(&side), refresh_at: side.next_wake };
        let (key, expected) = (Key::Side(self.name.clone()), Some(front.side_entry.clone()));
        self.context.store.compare_and_set(key, expected, entry).await
    }
}

#[cfg(test)]
mod tests;
