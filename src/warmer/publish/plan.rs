//! Planning a publication: only what differs from what is stored.

use std::collections::HashSet;

use jiff::Timestamp;
use samovar_registry::Tag;

use super::history::{Appended, Tail, append};
use super::layout::{Layout, PageExtent, Stretch};
use super::{WorkingCopy, all_keys, next_generation, side_page_key};
use crate::cache::history::{Event, History};
use crate::cache::page::{self, SealedPage};
use crate::cache::stored::{self, Head, PageRef, TagCounts, encode_side_page};
use crate::store::{ContentHash, Entry, Key};
use crate::warmer::queue::Class;
use crate::warmer::tag::Kept;
use crate::warmer::working_copy::State;

/// What is to be written, in this order: pages, head, side records. A crash in between leaves the old head with its
/// pages, and side records that know no more than it does.
pub(super) struct Plan {
    pub(super) pages: Vec<(Key, Entry)>,
    pub(super) head: Option<Head>,
    pub(super) sides: Vec<(Key, Entry)>,
    /// What the head is to tell that the one before did not.
    pub(super) told: Vec<Event>,
    /// The last page of the history, if it is another one than before.
    pub(super) tail: Option<Tail>,
    pub(super) extents: Vec<PageExtent>,
    pub(super) obsolete: Vec<Key>,
    /// The repository is removed: its head is among what is obsolete.
    pub(super) removes: bool,
}

impl WorkingCopy {
    pub(super) fn plan(&self, state: &State, layout: &Layout, now: Timestamp) -> Plan {
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
            failed: state.failed,
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
