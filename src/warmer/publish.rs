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
mod plan;
mod write;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use samovar_registry::Name;

use self::history::Tail;
use self::layout::Layout;
use self::plan::Plan;
use self::write::{Taken, Written};
use super::working_copy::State;
use crate::cache::history::Event;
use crate::cache::records::TagStateName;
use crate::cache::stored::{Head, Loaded, Pages, TagCounts, load};
use crate::store::{Client, Key, StoreError};

pub use self::history::HistoryBounds;
pub(super) use self::write::Attempt;

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
    pub(super) fn of_front(name: &Name, loaded: Loaded, platforms: &str) -> Self {
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
