//! How far a long piece of work is.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unit {
    /// Entries of a store.
    #[default]
    Entries,
    /// Repositories.
    Repositories,
    /// Bytes of a file.
    Bytes,
}

/// A moment of a piece of work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProgressSnapshot {
    /// What is being done now, in words; empty before the first step.
    pub step: &'static str,
    /// What `done` and `total` count.
    pub unit: Unit,
    /// How much of this step is done.
    pub done: u64,
    /// How much there is, where that is known.
    pub total: Option<u64>,
}

/// Told by who works, looked at by who shows.
#[derive(Debug, Default)]
pub struct Progress(Mutex<ProgressSnapshot>);

impl Progress {
    /// Where the work is now.
    pub fn snapshot(&self) -> ProgressSnapshot {
        *self.now()
    }

    pub(super) fn begin(&self, step: &'static str, unit: Unit, total: Option<u64>) {
        *self.now() = ProgressSnapshot { step, unit, done: 0, total };
    }

    pub(super) fn advance(&self, by: u64) {
        self.now().done += by;
    }

    pub(super) fn reach(&self, done: u64) {
        self.now().done = done;
    }

    fn now(&self) -> MutexGuard<'_, ProgressSnapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
