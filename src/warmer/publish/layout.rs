//! How a repository lies in the store: what need not be written again.

use std::collections::BTreeSet;
use std::ops::{Bound, Range};

use samovar_registry::Tag;

use super::history::Tail;
use crate::cache::history::HistoryPage;
use crate::cache::page::begins_a_page;
use crate::cache::stored::Loaded;
use crate::store::{ContentHash, Entry, Key};
use crate::warmer::working_copy::State;

/// What is remembered of a repository's stored pages, by whoever publishes it.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) extents: Vec<PageExtent>,
    /// The last page of the history, as far as it is known.
    pub(super) tail: Tail,
    /// Pages of the history that were written for a head which, as far as is known, did not come about.
    pub(super) strays: BTreeSet<ContentHash>,
}

/// Which tags a stored page spans.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PageExtent {
    pub(super) first: Tag,
    pub(super) last: Tag,
    pub(super) count: usize,
    pub(super) hash: ContentHash,
}

/// Part of a repository, which is split into pages without regard to the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stretch {
    /// Nothing of these pages has changed.
    AsStored(Range<usize>),
    /// The tags between these bounds are to be split into pages.
    Anew(Bound<Tag>, Bound<Tag>),
}

impl Layout {
    /// From the head and the tags that were loaded with it.
    pub(super) fn of(loaded: &Loaded) -> Self {
        let extents = if loaded.missing_pages == 0 { extents(loaded) } else { Vec::new() };
        Self { extents, ..Self::default() }
    }

    /// The repository in stretches, in order, where these tags have changed, come or gone: so that a publication costs what
    /// has changed, not what there is.
    pub(super) fn stretches(&self, changed: &BTreeSet<Tag>) -> Vec<Stretch> {
        let starts = |position: &usize| *position == 0 || begins_a_page(&self.extents[*position].first);
        let starts: Vec<usize> = (0..self.extents.len()).filter(starts).collect();
        let first = |run: usize| match starts.get(run) {
            Some(start) if run > 0 => Bound::Included(&self.extents[*start].first),
            _ => Bound::Unbounded,
        };
        let end = |run: usize| match first(run + 1) {
            Bound::Included(first) => Bound::Excluded(first),
            _ => Bound::Unbounded,
        };
        let mut stretches: Vec<Stretch> = Vec::new();
        // Without any pages, all of it is one run of none.
        for run in 0..starts.len().max(1) {
            let has_changed = changed.range::<Tag, _>((first(run), end(run))).next().is_some();
            // Where the tag is gone that the next run begins with, that run goes on from this one.
            let may_go_on =
                starts.get(run + 1).is_some_and(|start| changed.contains(&self.extents[*start].first));
            let is_anew = starts.is_empty() || has_changed || may_go_on;
            match stretches.last_mut() {
                Some(Stretch::Anew(_, to)) if is_anew => *to = end(run).cloned(),
                Some(Stretch::AsStored(pages)) if !is_anew => pages.end = self.end_of(&starts, run),
                _ if is_anew => stretches.push(Stretch::Anew(first(run).cloned(), end(run).cloned())),
                _ => stretches.push(Stretch::AsStored(starts[run]..self.end_of(&starts, run))),
            }
        }
        stretches
    }

    fn end_of(&self, starts: &[usize], run: usize) -> usize {
        starts.get(run + 1).copied().unwrap_or(self.extents.len())
    }

    /// Whether there is something that the next head is to tell.
    pub(super) fn has_untold(state: &State) -> bool {
        state.may_have_head() && !(state.changes.is_empty() && state.side.early.is_empty())
    }

    /// The last page of the history, where it is to be appended to and must be read first.
    pub(super) fn unknown_tail(&self, state: &State) -> Option<HistoryPage> {
        let unfinished = state.history.unfinished().filter(|_| Self::has_untold(state));
        unfinished.filter(|page| self.tail.hash != Some(page.hash)).cloned()
    }

    /// Remembers which pages of the history are about to be written.
    pub(super) fn note_written(&mut self, pages: &[(Key, Entry)]) {
        self.strays.extend(pages.iter().filter_map(|(key, _)| match key {
            Key::History(_, hash) => Some(*hash),
            _ => None,
        }));
    }
}

/// How the pages of a repository lie, from the head and the tags that were loaded with it.
fn extents(loaded: &Loaded) -> Vec<PageExtent> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::page::split;

    fn extent(tags: &[Tag], hash: ContentHash) -> PageExtent {
        PageExtent { first: tags[0].clone(), last: tags[tags.len() - 1].clone(), count: tags.len(), hash }
    }

    /// Some tags weigh so much that pages are full before a boundary comes.
    fn heavy(tag: &Tag) -> usize {
        tag.as_str().bytes().fold(7_usize, |sum, byte| (sum * 31 + usize::from(byte)) % 100) * 700
    }

    fn split_into_extents(tags: &[Tag], weight: impl Fn(&Tag) -> usize) -> Vec<PageExtent> {
        let mut rest = tags;
        let pages = split(tags.iter().map(|tag| (tag, weight(tag))));
        let page = |count| {
            let (page, after) = rest.split_at(count);
            rest = after;
            extent(page, ContentHash::of(format!("{page:?}").as_bytes()))
        };
        pages.into_iter().map(page).collect()
    }

    proptest! {
        #[test]
        fn what_is_split_anew_comes_out_as_if_all_were(
            before in proptest::collection::btree_set("[0-9]{1,4}", 0..500),
            others in proptest::collection::btree_set("[0-9]{1,4}", 0..6),
            gone in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
            goes_first in any::<bool>(),
        ) {
            let tags = |texts: &BTreeSet<String>| -> BTreeSet<Tag> { texts.iter().map(|text| text.parse().unwrap()).collect() };
            let before = tags(&before);
            let stored: Vec<Tag> = before.iter().cloned().collect();
            let layout = Layout { extents: split_into_extents(&stored, heavy), ..Layout::default() };
            let others = tags(&others);
            let mut after: BTreeSet<Tag> = before.union(&others).cloned().collect();
            let mut changed = others;
            // Those that pages begin with are the ones that matter.
            let firsts: Vec<Tag> = layout.extents.iter().map(|extent| extent.first.clone()).collect();
            for index in gone {
                let pool = if goes_first { &firsts } else { &stored };
                if pool.is_empty() { continue }
                let tag = index.get(pool).clone();
                after.remove(&tag);
                changed.insert(tag);
            }
            let mut extents = Vec::new();
            let mut kept = 0;
            for stretch in layout.stretches(&changed) {
                match stretch {
                    Stretch::AsStored(pages) => {
                        kept += pages.len();
                        extents.extend_from_slice(&layout.extents[pages]);
                    }
                    Stretch::Anew(from, to) => {
                        let tags: Vec<Tag> = after.range((from, to)).cloned().collect();
                        extents.extend(split_into_extents(&tags, heavy));
                    }
                }
            }
            let all: Vec<Tag> = after.iter().cloned().collect();
            prop_assert_eq!(extents, split_into_extents(&all, heavy));
            prop_assert!(!changed.is_empty() || kept == layout.extents.len());
        }
    }

    #[test]
    fn a_tag_that_changes_costs_its_neighbours_and_no_more() {
        let tags: Vec<Tag> = (0..50_000).map(|number| format!("1.{number:05}").parse().unwrap()).collect();
        let layout = Layout { extents: split_into_extents(&tags, |_| 100), ..Layout::default() };
        let stretches = layout.stretches(&BTreeSet::from([tags[25_000].clone()]));
        let [
            Stretch::AsStored(before),
            Stretch::Anew(Bound::Included(from), Bound::Excluded(to)),
            Stretch::AsStored(after),
        ] = &stretches[..]
        else {
            panic!("{stretches:?}")
        };
        assert!(before.len() + after.len() + 20 > layout.extents.len());
        assert!((from..to).contains(&&tags[25_000]));
    }
}
