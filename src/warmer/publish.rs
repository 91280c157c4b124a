//! Bringing a working copy to the store: only the pages that changed, the head last.
//!
//! Readers see either the old head with its pages or the new head with its pages. Pages that no head names any more
//! are removed after the new head is there; a reader that still holds the old one reads again.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use samovar_registry::{Name, Tag};
use tracing::warn;

use super::change::Change;
use super::tag::Kept;
use super::working_copy::State;
use crate::cache::page;
use crate::cache::records::TagStateName;
use crate::cache::stored::{self, Head, PageRef, Pages, TagCounts, encode_side_page, load};
use crate::store::{Client, ContentHash, Entry, Key, StoreError, seal};

/// Another writer may get in between; after this many tries it is an error.
const HEAD_WRITES: usize = 5;

/// A repository that is worked on, shared by everybody who works on it.
#[derive(Debug)]
pub(super) struct WorkingCopy {
    state: Mutex<State>,
    platforms: String,
    /// One publication at a time; remembers how the pages lie in the store.
    publishing: tokio::sync::Mutex<Vec<PageExtent>>,
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
    pub(super) async fn load(store: &dyn Client, name: &Name, platforms: &str) -> Result<Self, StoreError> {
        let loaded = load(store, name, Pages::All).await?;
        let extents = if loaded.missing_pages == 0 { extents(&loaded) } else { Vec::new() };
        Ok(Self {
            state: Mutex::new(State::new(name.clone(), loaded, platforms)),
            platforms: platforms.to_owned(),
            publishing: tokio::sync::Mutex::new(extents),
        })
    }

    /// The state, for a moment: never held across an await.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what changed. When it fails, what changed goes with the next publication of this copy.
    ///
    /// Not cancellation-safe: a future dropped half way forgets what it was about to write.
    pub(super) async fn publish(&self, store: &dyn Client, now: Timestamp) -> Result<Published, StoreError> {
        let mut extents = self.publishing.lock().await;
        let (plan, taken) = {
            let mut state = self.state();
            (self.plan(&state, &extents, now), Taken::from(&mut state))
        };
        match self.write(store, plan, &mut extents).await {
            Ok(()) => {
                let state = self.state();
                let counts = TagCounts::of(state.tags.values().map(|kept| &kept.record));
                let complete = state.head.as_ref().is_some_and(|head| head.complete);
                Ok(Published { changes: taken.changes, counts, complete, listed: state.listed })
            }
            Err(error) => {
                taken.give_back(&mut self.state());
                Err(error)
            }
        }
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
            let next_wake = state.next_wake();
            let value = stored::encode(&stored::Side { next_wake, ..state.side.clone() });
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
            generation: before.map_or(0, |head| head.generation),
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
    ) -> Result<(), StoreError> {
        if !plan.pages.is_empty() {
            store.set_many(plan.pages).await?;
        }
        if let Some(head) = plan.head {
            plan.obsolete.extend(self.write_head(store, head).await?);
        }
        if !plan.sides.is_empty() {
            store.set_many(plan.sides).await?;
        }
        *extents = plan.extents;
        if plan.removes {
            store.delete(plan.obsolete).await?;
            let mut state = self.state();
            state.removed = false;
            (state.head, state.head_entry) = (None, None);
        } else if !plan.obsolete.is_empty()
            && let Err(error) = store.delete(plan.obsolete).await
        {
            // What is published is published; this only takes up room.
            warn!(%error, "what is no longer needed could not be removed from the store");
        }
        Ok(())
    }

    /// Writes a head. Returns the keys of the directory that only the one before needed.
    async fn write_head(&self, store: &dyn Client, mut head: Head) -> Result<Vec<Key>, StoreError> {
        let (name, mut expected, before) = {
            let state = self.state();
            let before = state.head.as_ref().map_or_else(Vec::new, |head| head.directory.clone());
            (state.name.clone(), state.head_entry.clone(), before)
        };
        for _ in 0..HEAD_WRITES {
            let sealed = head.seal();
            if !sealed.directory.is_empty() {
                let key = |hash| Key::Directory(name.clone(), hash);
                let parts = sealed.directory.into_iter().map(|(hash, entry)| (key(hash), entry));
                store.set_many(parts.collect()).await?;
            }
            let key = Key::Head(name.clone());
            if store.compare_and_set(key.clone(), expected, sealed.entry.clone()).await? {
                let gone = before.into_iter().filter(|hash| !head.directory.contains(hash));
                let gone = gone.map(|hash| Key::Directory(name.clone(), hash)).collect();
                let mut state = self.state();
                state.head = Some(head);
                state.head_entry = Some(sealed.entry);
                return Ok(gone);
            }
            // Evicted, or written by another replica: ours goes on top, with a generation above both.
            expected = store.get(&key).await?;
            if let Some(other) = stored::decode::<Head>(expected.as_ref()) {
                head.generation = head.generation.max(other.generation + 1);
            }
        }
        Err(StoreError::Unavailable { message: format!("the head of {name} keeps changing under us") })
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
            let plain = page::encode(run.iter().map(|(tag, kept)| (*tag, &kept.record)));
            let hash = ContentHash::of(&plain);
            self.pages.push((Key::Page(state.name.clone(), hash), Entry::immutable(seal(&plain))));
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

/// Everything that the store holds of a repository but its side record, which says what became of it.
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
