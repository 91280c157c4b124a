//! What the writing thread does: commits that respect the limit, and the housekeeping in between.
//!
//! The limit is kept by the footprint of what is stored (see [`totals`](super::totals)), which is known at any moment:
//! - what would go beyond 85 % of the limit makes what may go go, until 75 % are reached;
//! - when all but documents fills 85 %, documents are not stored any more: they can be had again;
//! - what would go beyond the limit is refused.
//!
//! The file itself is as large as what was live at its largest, and somewhat larger where what is freed lies scattered:
//! 0.85 to 0.91 of the limit in measurements with values of all sizes. When it takes up much more than what is live, or
//! more than the limit, it is compacted.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::Clock;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::compaction::{Compaction, Replacement};
use super::content::Content;
use super::engine::Engine;
use super::eviction::{Eviction, Step};
use super::ledger::Ledger;
use super::operation::{Limits, Operation};
use super::{Key, StoreError, hour_of};

/// Above so many hundredths of the limit, what may go goes …
const HIGH_WATER_PERCENT: u64 = 85;
/// … until no more than so many are left.
const LOW_WATER_PERCENT: u64 = 75;

/// A file that is smaller is not worth compacting, unless it is beyond the limit …
const LEAST_BYTES_COMPACTED: u64 = 64 * 1024 * 1024;
/// … and a larger one when it takes up so many times what is live.
const WORTH_COMPACTING: u64 = 2;
/// Left free on the file system beside a copy.
const ROOM_BESIDE_COPY_BYTES: u64 = 64 * 1024 * 1024;

/// How long housekeeping rests after it has failed, and after a compaction that did not help.
const REST_AFTER_FAILURE: Duration = Duration::from_mins(10);
/// Documents whose reading one commit notes.
const MOST_READS_NOTED_AT_ONCE: usize = 256;

type CompactionReply = oneshot::Sender<Result<Compaction, StoreError>>;

/// Owned by the writing thread.
#[derive(Debug)]
pub(super) struct Keeper {
    engine: Arc<Engine>,
    ledger: Arc<Ledger>,
    clock: Arc<dyn Clock>,
    limit_bytes: u64,
    /// Whether it keeps the bounds without being asked.
    keeps_house: bool,
    eviction: Eviction,
    evicting: bool,
    replacement: Option<Replacement>,
    compaction_wanted_by: Vec<CompactionReply>,
    eviction_rests_until: Option<Timestamp>,
    compaction_rests_until: Option<Timestamp>,
    /// What the operator has been told since there was room last.
    told: Told,
}

#[derive(Debug, Default)]
struct Told {
    room_is_made: bool,
    something_is_not_stored: bool,
}

impl Keeper {
    pub(super) fn new(
        engine: Arc<Engine>,
        ledger: Arc<Ledger>,
        clock: Arc<dyn Clock>,
        limit_bytes: u64,
        keeps_house: bool,
    ) -> Self {
        let mut keeper = Self {
            engine,
            ledger,
            clock,
            limit_bytes,
            keeps_house,
            eviction: Eviction::default(),
            evicting: false,
            replacement: None,
            compaction_wanted_by: Vec::new(),
            eviction_rests_until: None,
            compaction_rests_until: None,
            told: Told::default(),
        };
        keeper.look_at_the_level();
        keeper
    }

    /// Commits operations, all or none; each has its own outcome.
    pub(super) fn commit(
        &mut self,
        operations: Vec<Operation>,
    ) -> Result<Vec<Result<bool, StoreError>>, StoreError> {
        let growth = operations.iter().map(Operation::footprint).sum();
        self.make_room(growth);
        let limits = Limits { bytes: self.limit_bytes, documents_below: self.high_water() };
        let reads = match &self.replacement {
            // The copy takes over when a document was read, but not twice.
            Some(_) => Vec::new(),
            None => self.ledger.take_reads(MOST_READS_NOTED_AT_ONCE),
        };
        let notes_changes = self.replacement.is_some();
        let mut left_out = 0;
        let mut changed = Vec::new();
        let committed = self.engine.write(growth, |database| {
            let transaction = database.begin_write()?;
            let mut content = Content::open(&transaction, hour_of(self.clock.now()))?;
            for document in &reads {
                content.touch(document)?;
            }
            let mut outcomes = Vec::with_capacity(operations.len());
            for operation in operations {
                if notes_changes {
                    changed.extend(operation.keys().map(Key::to_string));
                }
                outcomes.push(operation.apply(&mut content, limits, &mut left_out)?);
            }
            let totals = content.counted();
            content.close()?;
            transaction.commit()?;
            Ok((outcomes, totals))
        });
        let (outcomes, totals) = committed.inspect_err(|error| self.give_up_compaction(error))?;
        self.ledger.set_totals(totals);
        self.ledger.count_evicted(left_out);
        if let Some(replacement) = &mut self.replacement {
            replacement.note_changed(changed);
        }
        let refuses = outcomes.iter().any(Result::is_err);
        self.ledger.set_full(refuses);
        if left_out > 0 || refuses {
            self.say_that_it_is_full();
        }
        self.look_at_the_level();
        Ok(outcomes)
    }

    /// Whether there is something to do while nobody waits.
    pub(super) fn has_work(&self) -> bool {
        self.replacement.is_some()
            || !self.compaction_wanted_by.is_empty()
            || self.may_evict()
            || self.engine.is_to_be_mended()
    }

    /// Does a small piece of it.
    pub(super) fn work(&mut self) {
        if self.engine.is_to_be_mended() {
            // It says itself what comes of it.
            let _ = self.engine.mend();
        } else if self.may_evict() {
            let evicted = self.evict(self.low_water());
            self.look_at_the_level();
            if let Err(error) = &evicted {
                self.warn(error, "what may go could not be removed from the store");
            }
            // By the totals there may be something that could not be found: looking at once would not find it either.
            if self.evicting && !matches!(evicted, Ok(true)) {
                self.eviction_rests_until = Some(self.clock.now() + REST_AFTER_FAILURE);
            }
        } else if let Some(replacement) = self.replacement.take() {
            self.go_on_compacting(replacement);
        } else if !self.compaction_wanted_by.is_empty() || self.compaction_is_due() {
            self.begin_compaction();
        }
    }

    /// Looks for what may go, which has changed.
    pub(super) fn look_again(&mut self) {
        self.eviction_rests_until = None;
        self.look_at_the_level();
    }

    /// Notes what would otherwise be forgotten.
    pub(super) fn end(&mut self) {
        self.replacement = None;
        while let reads = self.ledger.take_reads(MOST_READS_NOTED_AT_ONCE)
            && !reads.is_empty()
        {
            let noted = self.engine.write(0, |database| {
                let transaction = database.begin_write()?;
                let mut content = Content::open(&transaction, hour_of(self.clock.now()))?;
                reads.iter().try_for_each(|document| content.touch(document))?;
                content.close()?;
                Ok(transaction.commit()?)
            });
            if noted.is_err() {
                return;
            }
        }
    }

    pub(super) fn ask_for_compaction(&mut self, reply: CompactionReply) {
        self.compaction_wanted_by.push(reply);
    }

    fn high_water(&self) -> u64 {
        self.limit_bytes / 100 * HIGH_WATER_PERCENT
    }

    fn low_water(&self) -> u64 {
        self.limit_bytes / 100 * LOW_WATER_PERCENT
    }

    fn look_at_the_level(&mut self) {
        let footprint = self.ledger.totals().footprint();
        if footprint <= self.low_water() {
            self.evicting = false;
            self.told = Told::default();
        } else if footprint > self.high_water() && self.keeps_house {
            self.evicting = true;
            if !std::mem::replace(&mut self.told.room_is_made, true) {
                info!(
                    store.limit_bytes = self.limit_bytes,
                    "the store reaches its limit: documents that were not read for longest make room",
                );
            }
        }
        // What comes after everything that may go has gone can stay until the high-water mark is reached again.
        self.evicting = self.evicting && self.eviction.may_find(&self.ledger, self.clock.now());
    }

    /// Evicts before a commit what would have to go after it.
    fn make_room(&mut self, growth: u64) {
        let target = self.low_water().min(self.high_water().saturating_sub(growth));
        while self.keeps_house && self.ledger.totals().footprint() + growth > self.high_water() {
            // What fails here fails again in the commit, which tells.
            if !matches!(self.evict(target), Ok(true)) {
                return;
            }
        }
    }

    fn may_evict(&self) -> bool {
        self.evicting && !rests(self.eviction_rests_until, self.clock.now())
    }

    /// One step of eviction. Says whether another one may find more.
    fn evict(&mut self, target: u64) -> Result<bool, StoreError> {
        let now = self.clock.now();
        if !self.eviction.may_find(&self.ledger, now) {
            return Ok(false);
        }
        let committed = self.engine.write(0, |database| {
            let transaction = database.begin_write()?;
            let mut content = Content::open(&transaction, hour_of(now))?;
            let step = self.eviction.step(&mut content, &self.ledger, target, now)?;
            let totals = content.counted();
            content.close()?;
            if matches!(step, Step::Removed(_)) {
                transaction.commit()?;
            } else {
                transaction.abort()?;
            }
            Ok((step, totals))
        });
        let (step, totals) = committed.inspect_err(|error| self.give_up_compaction(error))?;
        match step {
            Step::Removed(keys) => {
                self.ledger.set_totals(totals);
                self.ledger.count_evicted(keys.len());
                if let Some(replacement) = &mut self.replacement {
                    replacement.note_changed(keys);
                }
                Ok(true)
            }
            Step::Looking => Ok(true),
            Step::Nothing => Ok(false),
        }
    }

    fn compaction_is_due(&self) -> bool {
        let (bytes, live) = (self.engine.directory().database_bytes(), self.ledger.totals().footprint());
        let is_wasteful = bytes > LEAST_BYTES_COMPACTED && bytes / WORTH_COMPACTING > live;
        let is_too_large = bytes > self.limit_bytes && live <= self.high_water();
        let rests = rests(self.compaction_rests_until, self.clock.now());
        self.keeps_house && (is_wasteful || is_too_large) && !rests
    }

    fn begin_compaction(&mut self) {
        let needed = self.ledger.totals().footprint() + ROOM_BESIDE_COPY_BYTES;
        let free = self.engine.directory().free_bytes();
        if free.is_some_and(|free| free < needed) {
            self.compact_without_room(needed);
            return;
        }
        match Replacement::begin(Arc::clone(&self.engine)) {
            Ok(replacement) => self.replacement = Some(replacement),
            Err(error) => self.compaction_failed(&error),
        }
    }

    /// Nobody can read meanwhile, so it is done only when somebody has asked.
    fn compact_without_room(&mut self, needed: u64) {
        if self.compaction_wanted_by.is_empty() {
            let message = format!("its copy needs {needed} bytes of room");
            self.compaction_failed(&StoreError::Full { message });
            return;
        }
        let before = self.engine.directory().database_bytes();
        match self.engine.compact_in_place() {
            Ok(()) => self.compacted(Compaction { before, after: self.engine.directory().database_bytes() }),
            Err(error) => self.compaction_failed(&error),
        }
    }

    fn go_on_compacting(&mut self, mut replacement: Replacement) {
        match replacement.copy_piece() {
            Ok(false) => self.replacement = Some(replacement),
            Ok(true) => match replacement.finish() {
                Ok((compaction, totals)) => {
                    self.ledger.set_totals(totals);
                    self.compacted(compaction);
                }
                Err(error) => self.compaction_failed(&error),
            },
            Err(error) => {
                drop(replacement);
                self.compaction_failed(&error);
            }
        }
    }

    fn compacted(&mut self, compaction: Compaction) {
        info!(
            store.path = %self.engine.directory().path().display(),
            store.bytes_before = compaction.before,
            store.bytes_after = compaction.after,
            "the store is compacted",
        );
        for reply in self.compaction_wanted_by.drain(..) {
            let _ = reply.send(Ok(compaction));
        }
        if self.compaction_is_due() {
            // It did not help as it should have: not again at once.
            self.compaction_rests_until = Some(self.clock.now() + REST_AFTER_FAILURE);
        }
    }

    fn compaction_failed(&mut self, error: &StoreError) {
        self.compaction_rests_until = Some(self.clock.now() + REST_AFTER_FAILURE);
        if self.compaction_wanted_by.is_empty() {
            self.warn(error, "the store could not be compacted");
        }
        for reply in self.compaction_wanted_by.drain(..) {
            let _ = reply.send(Err(error.clone()));
        }
    }

    /// After a commit that failed nobody knows what has changed: a copy made so far is worth nothing.
    fn give_up_compaction(&mut self, error: &StoreError) {
        if self.replacement.take().is_some() {
            self.compaction_failed(error);
        }
    }

    fn say_that_it_is_full(&mut self) {
        if !std::mem::replace(&mut self.told.something_is_not_stored, true) {
            warn!(
                store.limit_bytes = self.limit_bytes,
                "the store is full of what is watched: raise its limit (--store-limit) or watch less",
            );
        }
    }

    fn warn(&self, error: &StoreError, what: &str) {
        warn!(store.path = %self.engine.directory().path().display(), %error, "{what}; it is tried again later");
    }
}

/// Whether a rest goes on. One that ends further away than it can last was begun by a clock that was ahead.
fn rests(until: Option<Timestamp>, now: Timestamp) -> bool {
    until.is_some_and(|until| now < until && until <= now + REST_AFTER_FAILURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_that_a_clock_ahead_has_begun_is_over() {
        let now = Timestamp::UNIX_EPOCH;
        assert!(!rests(None, now));
        assert!(rests(Some(now + REST_AFTER_FAILURE), now));
        assert!(!rests(Some(now), now));
        assert!(!rests(Some(now + Duration::from_hours(24 * 365)), now));
    }
}
