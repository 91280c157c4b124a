//! What the store holds, beside what is in memory: what has changed, and who is to be told.

use std::sync::Arc;

use samovar_registry::Name;

use super::{State, with_bytes_of_its_own};
use crate::cache::load::Front;
use crate::cache::snapshot::Snapshot;
use crate::store::{ContentHash, Entry};

/// A head and a side record, as far as is needed to recognise them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    head: Option<ContentHash>,
    side: Option<ContentHash>,
}

impl Seen {
    pub(super) fn of(head_entry: Option<&Entry>, side_entry: Option<&Entry>) -> Self {
        let hash = |entry: &Entry| ContentHash::of(&entry.value);
        Self { head: head_entry.map(hash), side: side_entry.map(hash) }
    }
}

/// A repository that somebody waits for.
#[derive(Debug, Default)]
pub(super) struct Attended {
    waiting: usize,
    /// The head that was last seen while it was not hot.
    head_entry: Option<Entry>,
}

/// A repository to be compared with the store.
#[derive(Debug)]
pub(in crate::cache::hot) struct Compared {
    pub(in crate::cache::hot) name: Name,
    /// What is in memory; `None`: somebody waits for it, and it is not.
    hot: Option<Arc<Snapshot>>,
}

impl State {
    pub(in crate::cache::hot) fn attend(&mut self, name: &Name) {
        self.attended.entry(name.clone()).or_default().waiting += 1;
    }

    pub(in crate::cache::hot) fn stop_attending(&mut self, name: &Name) {
        let Some(attended) = self.attended.get_mut(name) else { return };
        attended.waiting -= 1;
        if attended.waiting == 0 {
            self.attended.remove(name);
        }
    }

    /// Everything that is to be compared with the store.
    pub(in crate::cache::hot) fn all(&self) -> Vec<Compared> {
        let hot = self.hot.iter().map(|(name, hot)| (name, Some(Arc::clone(&hot.snapshot))));
        let cold = self.attended.keys().filter(|name| !self.hot.contains(*name)).map(|name| (name, None));
        hot.chain(cold).map(|(name, hot)| Compared { name: name.clone(), hot }).collect()
    }

    /// Takes note of what the store holds of a repository. Says whether those who wait for it are to be told.
    pub(in crate::cache::hot) fn found_in_store(&mut self, compared: &Compared, found: Front) -> bool {
        match &compared.hot {
            Some(snapshot) => self.found_of_hot(&compared.name, snapshot, &found),
            None => self.found_of_cold(&compared.name, found),
        }
    }

    fn found_of_hot(&mut self, name: &Name, compared: &Arc<Snapshot>, found: &Front) -> bool {
        let Some(hot) = self.hot.peek_mut(name).filter(|hot| Arc::ptr_eq(&hot.snapshot, compared)) else {
            // Read again, or evicted, meanwhile.
            return false;
        };
        if !self.background.is_reading(name) {
            hot.retry_at = None;
        }
        let head_differs = compared.head_entry != found.head_entry;
        if !head_differs && compared.side_entry == found.side_entry {
            return false;
        }
        let seen = Seen::of(found.head_entry.as_ref(), found.side_entry.as_ref());
        let before = hot.seen.replace(seen);
        if before != Some(seen) {
            hot.stale = true;
            // Whoever reads now may have read the head before it changed. What is read in the background is compared with
            // what was seen, when it is there.
            self.flights.remove(name);
        }
        let is_gone = found.says_gone_for_good();
        if is_gone {
            self.forget(name);
        }
        // Of this head it may have been told before; but whoever waits may have been answered from memory then.
        let is_news =
            before.is_none_or(|before| before.head != seen.head) || self.attended.contains_key(name);
        // A head that is lost is no change.
        let is_change = head_differs && (found.head_entry.is_some() || is_gone);
        is_change && is_news
    }

    fn found_of_cold(&mut self, name: &Name, found: Front) -> bool {
        let Some(attended) = self.attended.get_mut(name) else { return false };
        if found.head_entry.is_none() || attended.head_entry == found.head_entry {
            return false;
        }
        // At first sight, too: it may have changed since whoever waits looked at it.
        attended.head_entry = found.head_entry.map(with_bytes_of_its_own);
        true
    }
}
