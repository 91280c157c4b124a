//! How a repository lies in the store: what need not be written again.

use std::collections::BTreeSet;

use samovar_registry::Tag;

use super::history::Tail;
use crate::cache::history::HistoryPage;
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

impl Layout {
    /// From the head and the tags that were loaded with it.
    pub(super) fn of(loaded: &Loaded) -> Self {
        let extents = if loaded.missing_pages == 0 { extents(loaded) } else { Vec::new() };
        Self { extents, ..Self::default() }
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
