//! What the writing thread and everybody else tell one another, apart from the queue: totals for status, which
//! repositories are watched, which documents were read.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use samovar_registry::{Digest, Name};

use super::totals::Totals;

/// Documents read that are remembered until the next commit notes them; beyond it they do not count as read.
const MOST_READS_REMEMBERED: usize = 4096;

/// Says of a repository whether it is watched.
pub(super) type IsWatched = Arc<dyn Fn(&Name) -> bool + Send + Sync>;

/// Shared by the store and its writing thread.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    totals: Mutex<Totals>,
    evicted: AtomicU64,
    full: AtomicBool,
    reads: Mutex<HashSet<Digest>>,
    watched: RwLock<Watched>,
}

/// What is asked about repositories, and how often it was exchanged.
#[derive(Default)]
struct Watched {
    is_watched: Option<IsWatched>,
    version: u64,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Ledger {
    pub(super) fn new(totals: Totals) -> Self {
        Self { totals: Mutex::new(totals), ..Self::default() }
    }

    /// What is stored since the last commit.
    pub(super) fn totals(&self) -> Totals {
        *self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_totals(&self, totals: Totals) {
        *self.totals.lock().unwrap_or_else(PoisonError::into_inner) = totals;
    }

    /// Entries that had to go, or could not come, for want of room.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    pub(super) fn count_evicted(&self, entries: usize) {
        self.evicted.fetch_add(entries as u64, Ordering::Relaxed);
    }

    /// Whether the last commit has refused something for want of room.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(super) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    /// Remembers that a document was read. Costs no more than a look into a table in memory.
    pub(super) fn note_read(&self, document: &Digest) {
        let mut reads = self.reads();
        if reads.len() < MOST_READS_REMEMBERED {
            reads.insert(document.clone());
        }
    }

    /// Documents that were read, at most so many, which are then forgotten.
    pub(super) fn take_reads(&self, most: usize) -> Vec<Digest> {
        let mut reads = self.reads();
        if reads.len() <= most {
            return reads.drain().collect();
        }
        let taken: Vec<Digest> = reads.iter().take(most).cloned().collect();
        for document in &taken {
            reads.remove(document);
        }
        taken
    }

    fn reads(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_watched(&self, is_watched: IsWatched) {
        let mut watched = self.watched.write().unwrap_or_else(PoisonError::into_inner);
        watched.is_watched = Some(is_watched);
        watched.version += 1;
    }

    /// What tells whether a repository is watched, where somebody has said so, and its version.
    pub(super) fn watched(&self) -> Option<(IsWatched, u64)> {
        let watched = self.watched.read().unwrap_or_else(PoisonError::into_inner);
        watched.is_watched.clone().map(|is_watched| (is_watched, watched.version))
    }
}
