//! Bringing a working copy to the store: only the pages that changed, the head last.
//!
//! Readers see either the old head with its pages or the new head with its pages. Pages that no head names any more
//! are removed after the new head is there; a reader that still holds the old one reads again.
//!
//! A head that is not the one that this copy was made from was written by another replica: then the copy is worth nothing
//! any more, and the repository is loaded again. A head that is gone was evicted, perhaps with all the rest: then
//! everything is written anew.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use samovar_registry::{Name, Tag};
use tracing::debug;

use super::change::Change;
use super::queue::Class;
use super::tag::Kept;
use super::working_copy::State;
use crate::cache::page::{self, SealedPage};
use crate::cache::records::TagStateName;
use crate::cache::stored::{self, Head, PageRef, Pages, TagCounts, encode_side_page, load};
use crate::store::{Client, ContentHash, Entry, Key, StoreError};

/// A repository that is worked on, shared by everybody who works on it.
#[derive(Debug)]
pub(super) struct WorkingCopy {
    state: Mutex<State>,
    platforms: String,
    /// One publication at a time; remembers how the pages lie in the store.
    publishing: tokio::sync::Mutex<Vec<PageExtent>>,
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

/// Which tags a stored page spans.
#[derive(Debug, Clone, PartialEq)]
struct PageExtent {
    first: Tag,
    last: Tag,
    count: usize,
    hash: ContentHash,
}

/// What a publication did, for the overview and for the announcements.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) changes: Vec<Change>,
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
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let loaded = load(store, name, Pages::All).await?;
        let extents = if loaded.missing_pages == 0 { extents(&loaded) } else { Vec::new() };
        let mut state = State::new(name.clone(), loaded, platforms);
        state.distrust_the_future(now);
        Ok(Self {
            state: Mutex::new(state),
            platforms: platforms.to_owned(),
            publishing: tokio::sync::Mutex::new(extents),
            overtaken: AtomicBool::new(false),
        })
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
        let mut extents = self.publishing.lock().await;
        if self.is_overtaken() {
            return Err(PublishError::Overtaken);
        }
        let (plan, taken) = {
            let mut state = self.state();
            (self.plan(&state, &extents, now), Taken::from(&mut state))
        };
        let written = match self.write(store, plan, &mut extents).await {
            Ok(Written::Evicted) => {
                let plan = self.plan_anew(&mut extents, now);
                self.write(store, plan, &mut extents).await
            }
            Ok(Written::Behind) => {
                let plan = self.plan_again(&taken, &extents, now);
                self.write(store, plan, &mut extents).await
            }
            written => written,
        };
        match written {
            Ok(Written::Whole) => {
                let state = self.state();
                let counts = TagCounts::of(state.tags.values().map(|kept| &kept.record));
                let complete = state.head.as_ref().is_some_and(|head| head.complete);
                Ok(Published { changes: taken.changes, counts, complete, listed: state.listed })
            }
            // Twice in a row: somebody else is at work.
            Ok(Written::Evicted | Written::Behind) | Err(PublishError::Overtaken) => {
                self.give_up();
                Err(PublishError::Overtaken)
            }
            Err(error) => {
                taken.give_back(&mut self.state());
                Err(error)
            }
        }
    }

    /// The store has lost the head, and whatever else: all of the repository is to be written.
    fn plan_anew(&self, extents: &mut Vec<PageExtent>, now: Timestamp) -> Plan {
        extents.clear();
        let mut state = self.state();
        (state.head, state.head_entry) = (None, None);
        state.side_header_changed = true;
        let plan = self.plan(&state, extents, now);
        state.side_header_changed = false;
        plan
    }

    /// What was taken is to be written over another head than was thought.
    fn plan_again(&self, taken: &Taken, extents: &[PageExtent], now: Timestamp) -> Plan {
        let mut state = self.state();
        let since = Taken::from(&mut state);
        state.changed.clone_from(&taken.changed);
        state.side_changed.clone_from(&taken.side_changed);
        state.side_header_changed = taken.side_header_changed;
        let plan = self.plan(&state, extents, now);
        drop(Taken::from(&mut state));
        since.give_back(&mut state);
        plan
    }

    fn plan(&self, state: &State, extents: &[PageExtent], now: Timestamp) -> Plan {
        let mut plan = Plan {
            pages: Vec::new(),
            head: None,
            sides: Vec::new(),
            extents: Vec::new(),
            obsolete: Vec::new(),
            removes: state.removed,
        };
        if state.side_header_changed {
            let (next_wake, of_tags) = (state.needs().earliest(), state.needs_of_tags());
            let (next_tag, next_new) = (of_tags.earliest(), of_tags.of(Class::New));
            let side = stored::Side { next_wake, next_tag, next_new, ..state.side.clone() };
            let value = stored::encode(&side);
            plan.sides.push((Key::Side(state.name.clone()), Entry { value, refresh_at: next_wake }));
        }
        if state.removed {
            plan.obsolete = all_keys(&state.name, state.head.as_ref());
        }
        if !state.listed || state.torn {
            return plan;
        }
        let weights = state.tags.iter().map(|(tag, kept)| (tag, page::weight(tag, &kept.record)));
        let mut tags = state.tags.iter();
        for (position, count) in page::split(weights).into_iter().enumerate() {
            let run: Vec<(&Tag, &Kept)> = tags.by_ref().take(count).collect();
            plan.add_page(state, extents, position, &run);
        }
        let kept: HashSet<ContentHash> = plan.extents.iter().map(|extent| extent.hash).collect();
        let before = state.head.as_ref().map_or(&[][..], |head| &head.pages);
        let gone = before.iter().filter(|page| !kept.contains(&page.hash));
        plan.obsolete.extend(gone.map(|page| Key::Page(state.name.clone(), page.hash)));
        let side_pages_gone = plan.extents.len()..before.len();
        plan.obsolete.extend(side_pages_gone.map(|position| side_page_key(&state.name, position)));
        plan.head = self.changed_head(state, &plan.extents, now);
        plan
    }

    /// The head as it is to be, if it says anything that the stored one does not.
    fn changed_head(&self, state: &State, extents: &[PageExtent], now: Timestamp) -> Option<Head> {
        let settled = state.tags.values().all(|kept| kept.record.is_settled());
        let before = state.head.as_ref();
        let head = Head {
            generation: state.generation,
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
        };
        if before == Some(&head) {
            return None;
        }
        let generation = next_generation(head.generation, now);
        Some(Head { generation, ..head })
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
        extents: &mut Vec<PageExtent>,
    ) -> Result<Written, PublishError> {
        if !plan.pages.is_empty() {
            store.set_many(plan.pages).await?;
        }
        if let Some(head) = plan.head {
            match self.write_head(store, head).await? {
                HeadWrite::Written(obsolete) => plan.obsolete.extend(obsolete),
                HeadWrite::Evicted => return Ok(Written::Evicted),
                HeadWrite::Behind => return Ok(Written::Behind),
            }
        }
        if !plan.sides.is_empty() {
            store.set_many(plan.sides).await?;
        }
        *extents = plan.extents;
        if plan.removes {
            self.delete(store, plan.obsolete).await?;
            let mut state = self.state();
            state.removed = false;
            (state.head, state.head_entry) = (None, None);
        } else if !plan.obsolete.is_empty()
            && let Err(error) = self.delete(store, plan.obsolete).await
        {
            // What is published is published; this only takes up room.
            debug!(%error, "what is no longer needed could not be removed from the store");
        }
        Ok(Written::Whole)
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
    async fn write_head(&self, store: &dyn Client, mut head: Head) -> Result<HeadWrite, PublishError> {
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
        let attempted = self.state().attempted.replace((head.clone(), sealed.entry.clone()));
        if !store.compare_and_set(key.clone(), expected, sealed.entry.clone()).await? {
            match store.get(&key).await? {
                None => return Ok(HeadWrite::Evicted),
                // An answer that got lost on its way: it was written.
                Some(stored) if stored == sealed.entry => {}
                Some(stored) => {
                    let Some((head, entry)) = attempted.filter(|(_, entry)| *entry == stored) else {
                        return Err(PublishError::Overtaken);
                    };
                    let mut state = self.state();
                    state.generation = head.generation;
                    (state.head, state.head_entry) = (Some(head), Some(entry));
                    return Ok(HeadWrite::Behind);
                }
            }
        }
        let gone = before.into_iter().filter(|hash| !head.directory.contains(hash));
        let gone = gone.map(|hash| Key::Directory(name.clone(), hash)).collect();
        let mut state = self.state();
        state.attempted = None;
        state.generation = head.generation;
        state.head = Some(head);
        state.head_entry = Some(sealed.entry);
        Ok(HeadWrite::Written(gone))
    }
}

impl Plan {
    /// Adds the page of these tags: written if anything in it changed, else only named.
    fn add_page(&mut self, state: &State, stored: &[PageExtent], position: usize, run: &[(&Tag, &Kept)]) {
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
        let in_place = as_stored.is_some_and(|(found, _)| found == position);
        if !in_place || state.side_changed.range(span).next().is_some() {
            let value = encode_side_page(run.iter().map(|(tag, kept)| (*tag, &kept.side)));
            let refresh_at = run.iter().filter_map(|(_, kept)| kept.side.next).min();
            self.sides.push((side_page_key(&state.name, position), Entry { value, refresh_at }));
        }
        let (first, last) = ((*first).clone(), (*last).clone());
        self.extents.push(PageExtent { first, last, count: run.len(), hash });
    }
}

/// What a publication took on itself, to be given back when it fails.
struct Taken {
    changed: std::collections::BTreeSet<Tag>,
    side_changed: std::collections::BTreeSet<Tag>,
    side_header_changed: bool,
    changes: Vec<Change>,
}

impl Taken {
    fn from(state: &mut State) -> Self {
        Self {
            changed: std::mem::take(&mut state.changed),
            side_changed: std::mem::take(&mut state.side_changed),
            side_header_changed: std::mem::take(&mut state.side_header_changed),
            changes: std::mem::take(&mut state.changes),
        }
    }

    fn give_back(mut self, state: &mut State) {
        state.changed.append(&mut self.changed);
        state.side_changed.append(&mut self.side_changed);
        state.side_header_changed |= self.side_header_changed;
        self.changes.append(&mut state.changes);
        state.changes = self.changes;
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
    std::iter::once(Key::Head(name.clone())).chain(pages).chain(side_pages).chain(directory).collect()
}

fn side_page_key(name: &Name, position: usize) -> Key {
    Key::SidePage(name.clone(), u32::try_from(position).unwrap_or(u32::MAX))
}

/// How the pages of a repository lie, from the head and the tags that were loaded with it.
fn extents(loaded: &stored::Loaded) -> Vec<PageExtent> {
    let Some(head) = &loaded.head else {
        return Vec::new();
    };
    let mut tags = loaded.tags.iter().map(|(tag, ..)| tag).peekable();
    let mut extents = Vec::with_capacity(head.pages.len());
    for (position, page) in head.pages.iter().enumerate() {
        let next = head.pages.get(position + 1).map(|page| &page.first);
        let (mut last, mut count) = (page.first.clone(), 0);
        while let Some(tag) = tags.next_if(|tag| next.is_none_or(|next| *tag < next)) {
            last = tag.clone();
            count += 1;
        }
        extents.push(PageExtent { first: page.first.clone(), last, count, hash: page.hash });
    }
    extents
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
