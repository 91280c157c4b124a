//! Bringing a working copy to the store: only the pages that changed, the head last.
//!
//! Readers see either the old head with its pages or the new head with its pages. Pages that no head names any more
//! are removed after the new head is there; a reader that still holds the old one reads again.
//!
//! A head that is not the one that this copy was made from was written by another replica: then the copy is worth nothing
//! any more, and the repository is loaded again. A head that is gone was evicted, perhaps with all the rest: then
//! everything is written anew.
//!
//! What changed is told by the very head that shows it ([`history`]): whatever fails, it is told once.

mod history;
mod layout;

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use samovar_registry::{Name, Tag};
use tracing::debug;

use self::history::{Appended, Tail, append};
use self::layout::{Layout, PageExtent, Stretch};
use super::change::Seen;
use super::queue::Class;
use super::tag::Kept;
use super::working_copy::State;
use crate::cache::history::{Event, History};
use crate::cache::page::{self, SealedPage};
use crate::cache::records::TagStateName;
use crate::cache::stored::{self, Head, PageRef, Pages, TagCounts, encode_side_page, load};
use crate::store::{Client, ContentHash, Entry, Key, StoreError};

pub use self::history::HistoryBounds;

/// A repository that is worked on, shared by everybody who works on it.
#[derive(Debug)]
pub(super) struct WorkingCopy {
    state: Mutex<State>,
    platforms: String,
    history_bounds: HistoryBounds,
    /// One publication at a time; remembers how the pages lie in the store.
    publishing: tokio::sync::Mutex<Layout>,
    overtaken: AtomicBool,
}

/// Why a publication did not come about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PublishError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another replica has written the repository since this copy was made.
    #[error("another replica has changed the repository")]
    Overtaken,
}

/// What became of a publication.
enum Written {
    /// All of it is in the store.
    Whole,
    /// See [`HeadWrite::Evicted`].
    Evicted,
    /// See [`HeadWrite::Behind`].
    Behind,
}

/// What became of a head.
enum HeadWrite {
    /// It is there; these keys are of the directory that only the one before needed.
    Written(Vec<Key>),
    /// The one before is gone: evicted.
    Evicted,
    /// The store has one that we had given up for lost: that is what the next one follows.
    Behind,
}

/// A head of which it is not known whether the store took it.
#[derive(Debug)]
pub(super) struct Attempt {
    head: Head,
    entry: Entry,
    /// What it tells that the one before did not.
    told: Vec<Event>,
    /// How many of the changes that were seen are among that.
    seen: usize,
}

/// What a publication did, for the overview and for the announcements.
#[derive(Debug)]
pub(super) struct Published {
    /// What is told now that was not before.
    pub(super) changes: Vec<Event>,
    /// The generation that readers could see before.
    pub(super) since: u64,
    /// The one that they can see now.
    pub(super) visible: u64,
    pub(super) counts: TagCounts,
    pub(super) complete: bool,
    pub(super) listed: bool,
}

/// What is to be written, in this order: pages, head, side records. A crash in between leaves the old head with its
/// pages, and side records that know no more than it does.
struct Plan {
    pages: Vec<(Key, Entry)>,
    head: Option<Head>,
    sides: Vec<(Key, Entry)>,
    /// What the head is to tell that the one before did not.
    told: Vec<Event>,
    /// The last page of the history, if it is another one than before.
    tail: Option<Tail>,
    extents: Vec<PageExtent>,
    obsolete: Vec<Key>,
    /// The repository is removed: its head is among what is obsolete.
    removes: bool,
}

impl WorkingCopy {
    /// Reads the repository from the store.
    pub(super) async fn load(
        store: &dyn Client,
        name: &Name,
        platforms: &str,
        history_bounds: HistoryBounds,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let loaded = load(store, name, Pages::All).await?;
        let layout = Layout::of(&loaded);
        let is_whole = loaded.missing_pages == 0;
        let mut state = State::new(name.clone(), loaded, platforms);
        state.side.whole_at = is_whole.then_some(now);
        state.distrust_the_future(now);
        Ok(Self {
            state: Mutex::new(state),
            platforms: platforms.to_owned(),
            history_bounds,
            publishing: tokio::sync::Mutex::new(layout),
            overtaken: AtomicBool::new(false),
        })
    }

    /// A copy of a repository's front, without its tags: to learn from it when to list again. It is never published.
    pub(super) fn of_front(name: &Name, loaded: stored::Loaded, platforms: &str) -> Self {
        Self {
            state: Mutex::new(State::new(name.clone(), loaded, platforms)),
            platforms: platforms.to_owned(),
            history_bounds: HistoryBounds::default(),
            publishing: tokio::sync::Mutex::default(),
            overtaken: AtomicBool::new(true),
        }
    }

    /// What readers see of a repository of which only the side record was written.
    pub(super) fn published_front(&self) -> Published {
        let state = self.state();
        let (counts, complete) = state.of_head();
        let (visible, listed) = (state.visible, state.listed);
        Published { changes: Vec::new(), since: visible, visible, counts, complete, listed }
    }

    /// Whether another replica has written the repository since, or the copy was given up: nothing more of it can be
    /// published.
    pub(super) fn is_overtaken(&self) -> bool {
        self.overtaken.load(Ordering::Relaxed)
    }

    /// Whether the copy was made for these platforms.
    pub(super) fn is_for(&self, platforms: &str) -> bool {
        self.platforms == platforms
    }

    /// Nothing more of this copy is to be published: others are about to work on a fresh one.
    pub(super) fn give_up(&self) {
        self.overtaken.store(true, Ordering::Relaxed);
    }

    /// The state, for a moment: never held across an await.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what changed. When it fails, what changed goes with the next publication of this copy, unless it was
    /// overtaken.
    ///
    /// Not cancellation-safe: a future dropped half way forgets what it was about to write.
    pub(super) async fn publish(
        &self,
        store: &dyn Client,
        now: Timestamp,
    ) -> Result<Published, PublishError> {
        let mut layout = self.publishing.lock().await;
        if self.is_overtaken() {
            return Err(PublishError::Overtaken);
        }
        let since = self.state().visible;
        let mut taken = Taken::default();
        let written = self.write_all(store, &mut layout, &mut taken, now).await;
        let mut state = self.state();
        match written {
            Ok(Written::Whole) => {
                let (counts, complete) = state.of_head();
                let (visible, listed) = (state.visible, state.listed);
                Ok(Published { changes: taken.told, since, visible, counts, complete, listed })
            }
            // Twice in a row: somebody else is at work.
            Ok(Written::Evicted | Written::Behind) | Err(PublishError::Overtaken) => {
                self.give_up();
                Err(PublishError::Overtaken)
            }
            Err(error) => {
                taken.give_back(&mut state);
                Err(error)
            }
        }
    }

    async fn write_all(
        &self,
        store: &dyn Client,
        layout: &mut Layout,
        taken: &mut Taken,
        now: Timestamp,
    ) -> Result<Written, PublishError> {
        let plan = self.take(store, layout, taken, now).await?;
        match self.write(store, plan, layout, taken).await? {
            Written::Whole => return Ok(Written::Whole),
            Written::Evicted => {
                // The store has lost the head, and whatever else: all of the repository is to be written.
                layout.extents.clear();
                let mut state = self.state();
                (state.head, state.head_entry) = (None, None);
                state.side_header_changed = true;
            }
            // What was taken is to be written over another head than was thought.
            Written::Behind => {}
        }
        let plan = self.take(store, layout, taken, now).await?;
        self.write(store, plan, layout, taken).await
    }

    /// Takes all that is not in the store, also what was `taken` before, and plans how to write it.
    async fn take(
        &self,
        store: &dyn Client,
        layout: &mut Layout,
        taken: &mut Taken,
        now: Timestamp,
    ) -> Result<Plan, StoreError> {
        loop {
            let (name, unknown) = {
                let mut state = self.state();
                taken.give_back(&mut state);
                state.keep_early(now);
                let Some(unknown) = layout.unknown_tail(&state) else {
                    let plan = self.plan(&state, layout, now);
                    taken.take(&mut state);
                    return Ok(plan);
                };
                (state.name.clone(), unknown)
            };
            let entry = store.get(&Key::History(name, unknown.hash)).await?;
            layout.tail = Tail::new(&unknown, entry.as_ref());
        }
    }

    fn plan(&self, state: &State, layout: &Layout, now: Timestamp) -> Plan {
        let mut plan = Plan {
            pages: Vec::new(),
            head: None,
            sides: Vec::new(),
            told: Vec::new(),
            tail: None,
            extents: Vec::new(),
            obsolete: Vec::new(),
            removes: state.removed,
        };
        if state.side_header_changed || Layout::has_untold(state) {
            let of_tags = state.needs_of_tags();
            let next_wake = state.needs_with(of_tags).earliest();
            let (next_tag, next_new) = (of_tags.earliest(), of_tags.of(Class::New));
            let early = if state.may_have_head() { Vec::new() } else { state.side.early.clone() };
            let side = stored::Side { next_wake, next_tag, next_new, early, ..state.side.clone() };
            let value = stored::encode(&side);
            plan.sides.push((Key::Side(state.name.clone()), Entry { value, refresh_at: next_wake }));
        }
        if state.removed {
            plan.obsolete = all_keys(&state.name, state.head.as_ref());
        }
        if !state.may_have_head() {
            return plan;
        }
        for stretch in layout.stretches(&state.changed) {
            match stretch {
                Stretch::AsStored(pages) => {
                    for position in pages {
                        plan.keep_page(state, &layout.extents[position], position);
                    }
                }
                Stretch::Anew(from, to) => {
                    let mut tags = state.tags.range((from, to));
                    let weights = tags.clone().map(|(tag, kept)| (tag, page::weight(tag, &kept.record)));
                    for count in page::split(weights) {
                        let run: Vec<(&Tag, &Kept)> = tags.by_ref().take(count).collect();
                        plan.add_page(state, &layout.extents, &run);
                    }
                }
            }
        }
        let kept: HashSet<ContentHash> = plan.extents.iter().map(|extent| extent.hash).collect();
        let before = state.head.as_ref().map_or(&[][..], |head| &head.pages);
        let gone = before.iter().filter(|page| !kept.contains(&page.hash));
        plan.obsolete.extend(gone.map(|page| Key::Page(state.name.clone(), page.hash)));
        let side_pages_gone = plan.extents.len()..before.len();
        plan.obsolete.extend(side_pages_gone.map(|position| side_page_key(&state.name, position)));
        let generation = next_generation(state.generation, now);
        let mut history = state.history.clone();
        if Layout::has_untold(state) {
            let untold = state.untold(generation);
            let appended = append(&history, &layout.tail, untold, self.history_bounds, now);
            history = plan.add_history(state, layout, appended);
        }
        plan.head = self.changed_head(state, &plan.extents, history, generation);
        plan
    }

    /// The head as it is to be, if it says anything that the stored one does not.
    fn changed_head(
        &self,
        state: &State,
        extents: &[PageExtent],
        history: History,
        generation: u64,
    ) -> Option<Head> {
        let settled = state.tags.values().all(|kept| kept.record.is_settled());
        let before = state.head.as_ref();
        let head = Head {
            generation: before.map_or(0, |before| before.generation),
            complete: settled && !state.held_back,
            held_back: state.held_back,
            invalid_tags: state.invalid_tags,
            counts: TagCounts::of(state.tags.values().map(|kept| &kept.record)),
            platforms: self.platforms_of(state),
            pages: extents
                .iter()
                .map(|extent| PageRef { first: extent.first.clone(), hash: extent.hash })
                .collect(),
            directory: before.map_or_else(Vec::new, |head| head.directory.clone()),
            history,
        };
        if before == Some(&head) { None } else { Some(Head { generation, ..head }) }
    }

    /// The platforms that all records are for: the old ones until the last has been looked at again.
    fn platforms_of(&self, state: &State) -> String {
        let before = state.head.as_ref().filter(|_| state.tags.values().any(|kept| kept.other_platforms));
        before.map_or_else(|| self.platforms.clone(), |head| head.platforms.clone())
    }

    async fn write(
        &self,
        store: &dyn Client,
        mut plan: Plan,
        layout: &mut Layout,
        taken: &mut Taken,
    ) -> Result<Written, PublishError> {
        layout.note_written(&plan.pages);
        if !plan.pages.is_empty() {
            store.set_many(plan.pages).await?;
        }
        if let Some(head) = plan.head {
            match self.write_head(store, head, plan.told, taken).await? {
                HeadWrite::Written(obsolete) => plan.obsolete.extend(obsolete),
                HeadWrite::Evicted => return Ok(Written::Evicted),
                HeadWrite::Behind => return Ok(Written::Behind),
            }
        }
        if !plan.sides.is_empty() {
            store.set_many(plan.sides).await?;
        }
        layout.extents = plan.extents;
        if let Some(tail) = plan.tail {
            layout.tail = tail;
            layout.strays.clear();
        }
        self.told_early(taken);
        if plan.removes {
            self.delete(store, plan.obsolete).await?;
            let mut state = self.state();
            state.removed = false;
            (state.head, state.head_entry) = (None, None);
            (state.history, state.attempted) = (History::default(), None);
        } else if !plan.obsolete.is_empty()
            && let Err(error) = self.delete(store, plan.obsolete).await
        {
            // What is published is published; this only takes up room.
            debug!(%error, "what is no longer needed could not be removed from the store");
        }
        Ok(Written::Whole)
    }

    /// What stands beside a repository without a head can be seen now.
    fn told_early(&self, taken: &mut Taken) {
        let mut state = self.state();
        let visible = state.visible;
        let early = state.side.early.iter().filter(|event| event.id.generation > visible);
        taken.told.extend(early.cloned());
        if let Some(last) = taken.told.last() {
            state.is_visible(last.id.generation);
        }
    }

    /// Removes what the head that we know has no more need for, unless another replica has written one meanwhile: it may
    /// need what we do not.
    async fn delete(&self, store: &dyn Client, obsolete: Vec<Key>) -> Result<(), StoreError> {
        let (name, expected) = {
            let state = self.state();
            (state.name.clone(), state.head_entry.clone())
        };
        if store.is_shared() && store.get(&Key::Head(name)).await? != expected {
            return Ok(());
        }
        store.delete(obsolete).await
    }

    /// Writes a head over the one that this copy was made from.
    async fn write_head(
        &self,
        store: &dyn Client,
        mut head: Head,
        told: Vec<Event>,
        taken: &mut Taken,
    ) -> Result<HeadWrite, PublishError> {
        let (name, expected, before) = {
            let state = self.state();
            let before = state.head.as_ref().map_or_else(Vec::new, |head| head.directory.clone());
            (state.name.clone(), state.head_entry.clone(), before)
        };
        let sealed = head.seal();
        if !sealed.directory.is_empty() {
            let key = |hash| Key::Directory(name.clone(), hash);
            let parts = sealed.directory.into_iter().map(|(hash, entry)| (key(hash), entry));
            store.set_many(parts.collect()).await?;
        }
        let key = Key::Head(name.clone());
        let attempt =
            Attempt { head: head.clone(), entry: sealed.entry.clone(), told, seen: taken.changes.len() };
        let attempted = self.state().attempted.replace(attempt);
        if !store.compare_and_set(key.clone(), expected, sealed.entry.clone()).await? {
            match store.get(&key).await? {
                None => return Ok(HeadWrite::Evicted),
                // An answer that got lost on its way: it was written.
                Some(stored) if stored == sealed.entry => {}
                Some(stored) => {
                    let Some(attempt) = attempted.filter(|attempt| attempt.entry == stored) else {
                        return Err(PublishError::Overtaken);
                    };
                    self.take_over(attempt, taken);
                    return Ok(HeadWrite::Behind);
                }
            }
        }
        let gone = before.into_iter().filter(|hash| !head.directory.contains(hash));
        let gone = gone.map(|hash| Key::Directory(name.clone(), hash)).collect();
        let attempt = self.state().attempted.take();
        if let Some(attempt) = attempt {
            self.take_over(attempt, taken);
        }
        Ok(HeadWrite::Written(gone))
    }

    /// The store has this head: what it tells is told.
    fn take_over(&self, attempt: Attempt, taken: &mut Taken) {
        let mut state = self.state();
        let visible = state.visible;
        taken.changes.drain(..attempt.seen.min(taken.changes.len()));
        taken.told.extend(attempt.told.into_iter().filter(|event| event.id.generation > visible));
        state.is_visible(attempt.head.generation);
        state.side.early.retain(|event| event.id.generation > attempt.head.generation);
        state.history = attempt.head.history.clone();
        (state.head, state.head_entry) = (Some(attempt.head), Some(attempt.entry));
    }
}

impl Plan {
    /// Adds the page of these tags: written if anything in it changed, else only named.
    fn add_page(&mut self, state: &State, stored: &[PageExtent], run: &[(&Tag, &Kept)]) {
        let (Some((first, _)), Some((last, _))) = (run.first(), run.last()) else { return };
        let span = (*first).clone()..=(*last).clone();
        let as_stored = stored
            .binary_search_by(|extent| extent.first.cmp(first))
            .ok()
            .map(|found| (found, &stored[found]))
            .filter(|(_, extent)| extent.last == **last && extent.count == run.len())
            .filter(|_| state.changed.range(span.clone()).next().is_none());
        let hash = if let Some((_, extent)) = as_stored {
            extent.hash
        } else {
            let SealedPage { hash, entry } = page::seal(run.iter().map(|(tag, kept)| (*tag, &kept.record)));
            self.pages.push((Key::Page(state.name.clone(), hash), entry));
            hash
        };
        let (first, last) = ((*first).clone(), (*last).clone());
        let extent = PageExtent { first, last, count: run.len(), hash };
        self.name_page(state, extent, as_stored.map(|(found, _)| found));
    }

    /// Adds a page in which nothing has changed.
    fn keep_page(&mut self, state: &State, extent: &PageExtent, stored_at: usize) {
        self.name_page(state, extent.clone(), Some(stored_at));
    }

    /// Adds a page, and the side records of its tags, unless they are stored at its place.
    fn name_page(&mut self, state: &State, extent: PageExtent, stored_at: Option<usize>) {
        let position = self.extents.len();
        let span = &extent.first..=&extent.last;
        if stored_at != Some(position) || state.side_changed.range::<Tag, _>(span.clone()).next().is_some() {
            let run = state.tags.range::<Tag, _>(span);
            let value = encode_side_page(run.clone().map(|(tag, kept)| (tag, &kept.side)));
            let refresh_at = run.filter_map(|(_, kept)| kept.side.next).min();
            self.sides.push((side_page_key(&state.name, position), Entry { value, refresh_at }));
        }
        self.extents.push(extent);
    }

    /// Adds what was appended to the history. Returns the history as the head is to name it.
    fn add_history(&mut self, state: &State, layout: &Layout, appended: Appended) -> History {
        let Appended { history, pages, tail, events } = appended;
        let key = |hash| Key::History(state.name.clone(), hash);
        self.pages.extend(pages.into_iter().map(|(hash, entry)| (key(hash), entry)));
        let named: HashSet<ContentHash> = history.pages.iter().map(|page| page.hash).collect();
        let before = state.history.pages.iter().map(|page| page.hash);
        let gone = before.chain(layout.strays.iter().copied()).filter(|hash| !named.contains(hash));
        self.obsolete.extend(gone.map(key));
        (self.told, self.tail) = (events, Some(tail));
        history
    }
}

/// What a publication took on itself, to be given back when it fails.
#[derive(Default)]
struct Taken {
    changed: BTreeSet<Tag>,
    side_changed: BTreeSet<Tag>,
    side_header_changed: bool,
    /// What was seen and is not told by any head.
    changes: Vec<Seen>,
    /// What the publication has come to tell: this stays told.
    told: Vec<Event>,
}

impl Taken {
    /// Takes all that there is, after what was taken before was given back.
    fn take(&mut self, state: &mut State) {
        self.changed = std::mem::take(&mut state.changed);
        self.side_changed = std::mem::take(&mut state.side_changed);
        self.side_header_changed = std::mem::take(&mut state.side_header_changed);
        self.changes = std::mem::take(&mut state.changes);
    }

    fn give_back(&mut self, state: &mut State) {
        state.changed.append(&mut self.changed);
        state.side_changed.append(&mut self.side_changed);
        state.side_header_changed |= std::mem::take(&mut self.side_header_changed);
        // In the order in which they were seen.
        self.changes.append(&mut state.changes);
        state.changes = std::mem::take(&mut self.changes);
    }
}

/// Greater than the one before, and than any given out before an eviction: nobody writes 1,000 heads a second.
fn next_generation(previous: u64, now: Timestamp) -> u64 {
    u64::try_from(now.as_millisecond()).unwrap_or(0).max(previous + 1)
}

/// Everything that the store holds of a repository.
pub(super) fn stored_keys(name: &Name, head: Option<&Head>) -> Vec<Key> {
    let mut keys = all_keys(name, head);
    keys.extend([Key::Side(name.clone()), Key::Demand(name.clone())]);
    keys
}

/// The same without its side record, which says what became of it, and without who asks about it, which they go on doing.
fn all_keys(name: &Name, head: Option<&Head>) -> Vec<Key> {
    let Some(head) = head else { return Vec::new() };
    let pages = head.pages.iter().map(|page| Key::Page(name.clone(), page.hash));
    let side_pages = (0..head.pages.len()).map(|position| side_page_key(name, position));
    let directory = head.directory.iter().map(|hash| Key::Directory(name.clone(), *hash));
    let history = head.history.pages.iter().map(|page| Key::History(name.clone(), page.hash));
    let parts = pages.chain(side_pages).chain(directory).chain(history);
    std::iter::once(Key::Head(name.clone())).chain(parts).collect()
}

fn side_page_key(name: &Name, position: usize) -> Key {
    Key::SidePage(name.clone(), u32::try_from(position).unwrap_or(u32::MAX))
}

impl TagCounts {
    fn of<'a>(records: impl Iterator<Item = &'a crate::cache::records::TagRecord>) -> Self {
        let mut counts = Self::default();
        for record in records {
            *match record.state.name() {
                TagStateName::Ok => &mut counts.ok,
                TagStateName::Pending => &mut counts.pending,
                TagStateName::Excluded => &mut counts.excluded,
                TagStateName::Unknown => &mut counts.unknown,
                TagStateName::Failed => &mut counts.failed,
            } += 1;
        }
        counts
    }
}
