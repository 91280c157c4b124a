//! The hot set: repositories that were read lately, decoded in memory, answered without touching the store.
//!
//! Invariants:
//! - It never holds more than its budget, by an estimate that errs on the large side, nor more than [`MOST_HOT`]
//!   repositories; what was read longest ago goes first.
//! - **What this process wrote is read back**: writes go through [`Coherent`], which marks what it wrote as stale once it is
//!   written. A stale repository is read again before it is answered, of the pages only the new ones. A reading that began
//!   before the write and ends after it is kept as stale at most.
//! - **What another process wrote is seen within about a second**: [`HotSet::run`] compares the heads and side records of
//!   all hot repositories with those in the store, in one round trip for every [`MOST_KEYS_IN_A_CHECK`] keys. Side records
//!   of single tags are not compared: when a tag was last confirmed may lag behind until the repository's own side record
//!   changes, which it does with every listing.
//! - **Never less**: a store that fails, is slow, or has lost a head, a side record or a page, does not take away what is in memory; the answer's age
//!   tells. Only a repository that the registry has declared gone for good is dropped.
//!
//! Who asks for one tag of a cold repository reads one page; the next one to ask brings the repository in, unless it is
//! large. Who waits for a change [attends](HotSet::attend): the comparison covers what is waited for, hot or not.
//!
//! Deliberately absent: reading again before somebody asks. What has changed is only marked; the next reader pays for one
//! reading of what is new.

mod attention;
mod background;
mod coherence;
mod coherent;
mod flight;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::{Clock, Name};
use tokio::sync::broadcast;

use self::state::State;
use crate::store::StoreError;

pub use attention::Attention;
pub use coherence::MOST_KEYS_IN_A_CHECK;
pub use coherent::Coherent;
pub use state::MOST_HOT;

/// Changes that a slow subscriber may lag behind before it misses some.
const CHANGES_KEPT: usize = 4096;

/// Repositories in memory.
#[derive(Debug)]
pub struct HotSet {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    changed: broadcast::Sender<Name>,
}

/// How the hot set is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HotSetStatistics {
    /// Repositories in memory.
    pub repositories: usize,
    /// What they take up, about.
    pub bytes: usize,
    /// What they may take up.
    pub limit_bytes: usize,
    /// Reads that were answered without touching the store.
    pub hits: u64,
    /// Reads that had to ask the store.
    pub misses: u64,
    /// Reads that were answered with what is in memory although it may be out of date, because the store could not be
    /// read.
    pub stale_answers: u64,
    /// Repositories that had to go for want of room, or were too large to be kept.
    pub evictions: u64,
    /// When what is in memory was last compared with the store.
    pub last_checked: Option<Timestamp>,
    /// Why it, or part of it, could not be compared since.
    pub error: Option<StoreError>,
}

impl HotSet {
    /// The budget where none is chosen: 64 MiB.
    pub const DEFAULT_LIMIT_BYTES: usize = 64 * 1024 * 1024;
    /// How often what is in memory is compared with the store.
    pub const CHECK_EVERY: Duration = Duration::from_secs(1);

    /// An empty set that holds at most about `limit_bytes`; with 0 it keeps nothing, but readers of one repository still
    /// share a reading.
    pub fn new(limit_bytes: usize, clock: Arc<dyn Clock>) -> Self {
        let state = Mutex::new(State::new(limit_bytes));
        Self { state, clock, changed: broadcast::Sender::new(CHANGES_KEPT) }
    }

    /// Says that this process wrote something of `name`: what is in memory must not be answered any more without
    /// asking the store. To be called when the write is done, by whoever does not write through [`Coherent`].
    pub fn invalidate(&self, name: &Name) {
        self.state().invalidate(name);
    }

    /// Tells of repositories that another process changed, once what is read is the new: of those that are hot, and of
    /// those that somebody [attends](HotSet::attend) to. It may tell of what this process wrote, too.
    pub fn changed(&self) -> broadcast::Receiver<Name> {
        self.changed.subscribe()
    }

    /// Whether the last comparison with the store succeeded.
    pub fn is_checked(&self) -> bool {
        let statistics = &self.state().statistics;
        statistics.last_checked.is_some() && statistics.error.is_none()
    }

    /// How it is doing.
    pub fn statistics(&self) -> HotSetStatistics {
        self.state().statistics()
    }

    /// The state, for a moment: never held across an await.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
