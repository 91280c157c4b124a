//! What is in memory, and the rules by which it comes and goes. Nothing here waits.

mod comparison;

use std::collections::HashMap;
use std::mem::size_of;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lru::LruCache;
use samovar_registry::Name;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::comparison::{Attended, Seen};
use super::HotSetStatistics;
use super::background::Background;
use crate::cache::snapshot::Snapshot;
use crate::store::{Entry, StoreError};

pub(super) use self::comparison::Compared;

/// No more repositories than this are hot, however small: all are compared with the store every second.
pub const MOST_HOT: usize = 4096;
/// No repository may take up more than this part of the budget.
const LARGEST_PART: usize = 2;
/// Repositories of which single tags were asked for that are remembered.
const MOST_ASKED_LATELY: usize = 4096;
/// A repository with more tags does not come in because single tags of it are asked for.
const MOST_TAGS_BROUGHT_IN: usize = 5000;
/// What a repository costs beside its snapshot: its name, and its places in the list and the index.
const OVERHEAD_BYTES: usize = 400;
/// A stale repository that could not be read again is answered from memory for so long, or until the next comparison with
/// the store succeeds, unless it is being read in the background; then reading it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What a reading of the store, or memory in its place, came to.
pub(super) type Outcome = Result<Arc<Snapshot>, StoreError>;

#[derive(Debug)]
pub(super) struct State {
    hot: LruCache<Name, Hot>,
    flights: HashMap<Name, Flight>,
    background: Background,
    /// How many tags the repositories have of which single ones were asked for.
    asked_lately: LruCache<Name, usize>,
    next_flight: u64,
    /// Repositories that somebody waits for. As many as there are requests that wait, at most.
    attended: HashMap<Name, Attended>,
    pub(super) statistics: HotSetStatistics,
}

#[derive(Debug)]
struct Hot {
    snapshot: Arc<Snapshot>,
    bytes: usize,
    /// The store has, or may have, something newer.
    stale: bool,
    /// It could not be read; until then it is not tried again.
    retry_at: Option<Instant>,
    /// What the store was last seen to hold, where that differs from what is in memory.
    seen: Option<Seen>,
}

/// A reading under way that others may wait for.
#[derive(Debug)]
struct Flight {
    number: u64,
    outcome: watch::Receiver<Option<Outcome>>,
}

/// How a read goes on.
#[derive(Debug)]
pub(super) enum Step {
    /// With what is in memory.
    Answer(Arc<Snapshot>),
    /// With what somebody else is reading.
    Wait(watch::Receiver<Option<Outcome>>),
    /// By reading.
    Read(Departure),
}

/// What a new reading starts from.
#[derive(Debug)]
pub(super) struct Departure {
    pub(super) number: u64,
    pub(super) outcome: watch::Sender<Option<Outcome>>,
    pub(super) previous: Option<Arc<Snapshot>>,
}

impl State {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self {
            hot: LruCache::unbounded(),
            flights: HashMap::new(),
            background: Background::default(),
            asked_lately: LruCache::sparse(NonZeroUsize::new(MOST_ASKED_LATELY).expect("more than 0")),
            next_flight: 0,
            attended: HashMap::new(),
            statistics: HotSetStatistics { limit_bytes, ..HotSetStatistics::default() },
        }
    }

    pub(super) fn statistics(&self) -> HotSetStatistics {
        HotSetStatistics { repositories: self.hot.len(), ..self.statistics.clone() }
    }

    /// What is in memory and known to be as in the store.
    pub(super) fn fresh(&self, name: &Name) -> Option<Arc<Snapshot>> {
        let hot = self.hot.peek(name).filter(|hot| !hot.stale)?;
        Some(Arc::clone(&hot.snapshot))
    }

    /// What is in memory, be it as in the store or not.
    pub(super) fn last_known(&self, name: &Name) -> Option<Arc<Snapshot>> {
        self.hot.peek(name).map(|hot| Arc::clone(&hot.snapshot))
    }

    /// Begins to read a repository.
    pub(super) fn begin(&mut self, name: &Name, now: Instant) -> Step {
        let previous = self.hot.get(name);
        if let Some(hot) = previous {
            let postponed = hot.retry_at.is_some_and(|retry_at| now < retry_at);
            if !hot.stale || postponed {
                *(if hot.stale { &mut self.statistics.stale_answers } else { &mut self.statistics.hits }) +=
                    1;
                return Step::Answer(Arc::clone(&hot.snapshot));
            }
        }
        self.statistics.misses += 1;
        if let Some(flight) = self.flights.get(name) {
            return Step::Wait(flight.outcome.clone());
        }
        let previous = previous.map(|hot| Arc::clone(&hot.snapshot));
        let number = self.next_flight;
        self.next_flight += 1;
        let (sender, outcome) = watch::channel(None);
        self.flights.insert(name.clone(), Flight { number, outcome });
        Step::Read(Departure { number, outcome: sender, previous })
    }

    /// Whether a question that concerns part of a repository is a reason to read all of it: it is in memory already, or it
    /// was asked about lately and is not large.
    pub(super) fn wants_whole(&mut self, name: &Name) -> bool {
        self.hot.contains(name)
            || self.asked_lately.get(name).is_some_and(|tags| *tags <= MOST_TAGS_BROUGHT_IN)
    }

    /// Part of a repository of so many tags was read.
    pub(super) fn part_was_read(&mut self, name: &Name, tags: usize) {
        self.statistics.misses += 1;
        if self.asked_lately.get(name).is_none() {
            self.asked_lately.put(name.clone(), tags);
        }
    }

    /// Ends a reading that nobody waits for any more, or that has come to nothing.
    pub(super) fn end_flight(&mut self, name: &Name, number: u64) -> bool {
        let is_current = self.flights.get(name).is_some_and(|flight| flight.number == number);
        if is_current {
            self.flights.remove(name);
        }
        is_current
    }

    /// Ends a reading with what it brought, and says what is to be answered.
    pub(super) fn land(
        &mut self,
        name: &Name,
        departure: &Departure,
        read: Result<Snapshot, StoreError>,
        now: Instant,
    ) -> Outcome {
        let is_current = self.end_flight(name, departure.number);
        let before = self.last_known(name).or_else(|| departure.previous.clone());
        let snapshot = match (read, before) {
            (Err(error), None) => return Err(error),
            (Ok(read), None) => read,
            (read, Some(before)) => match read.ok().and_then(|read| completed(read, &before)) {
                Some(snapshot) => snapshot,
                None => return Ok(self.answer_from_memory(name, before, is_current, now)),
            },
        };
        let snapshot = Arc::new(with_entries_of_its_own(snapshot));
        if is_current {
            self.background.cancel(name);
            self.keep(name, &snapshot);
        }
        Ok(snapshot)
    }

    /// Ends a reading that takes too long for those who wait, and says what they are to be answered. It goes on as the task
    /// that `start` makes of it, if there is room for that.
    pub(super) fn go_on_without(
        &mut self,
        name: &Name,
        number: u64,
        previous: Arc<Snapshot>,
        now: Instant,
        start: impl FnOnce() -> AbortHandle,
    ) -> Arc<Snapshot> {
        let is_current = self.end_flight(name, number);
        if let Some(fresh) = self.fresh(name) {
            // One in the background has come to its end.
            return fresh;
        }
        self.background.add(name, number, is_current, start);
        let before = self.last_known(name).unwrap_or(previous);
        self.answer_from_memory(name, before, is_current, now)
    }

    /// Takes note of what a reading in the background brought.
    pub(super) fn land_from_background(
        &mut self,
        name: &Name,
        number: u64,
        read: Result<Snapshot, StoreError>,
        now: Instant,
    ) {
        let Some(is_current) = self.background.end(name, number) else { return };
        let Some(hot) = self.hot.peek_mut(name) else {
            // Evicted, or removed, meanwhile.
            return;
        };
        let Some(snapshot) = read.ok().and_then(|read| completed(read, &hot.snapshot)) else {
            if is_current {
                hot.retry_at = Some(now + RETRY_AFTER);
            }
            return;
        };
        let seen = hot.seen;
        let read = Seen::of(snapshot.head_entry.as_ref(), snapshot.side_entry.as_ref());
        let is_as_in_store = is_current && seen.is_none_or(|seen| seen == read);
        self.keep(name, &Arc::new(with_entries_of_its_own(snapshot)));
        if !is_as_in_store && let Some(hot) = self.hot.peek_mut(name) {
            // Out of date again, but the next reading has less to read.
            (hot.stale, hot.seen) = (true, seen);
        }
    }

    /// The answer while the store cannot be read. What a write has overtaken says nothing about the store as it is now.
    fn answer_from_memory(
        &mut self,
        name: &Name,
        before: Arc<Snapshot>,
        is_current: bool,
        now: Instant,
    ) -> Arc<Snapshot> {
        self.statistics.stale_answers += 1;
        if let Some(hot) = self.hot.peek_mut(name).filter(|hot| is_current && hot.stale) {
            hot.retry_at = Some(now + RETRY_AFTER);
        }
        before
    }

    fn keep(&mut self, name: &Name, snapshot: &Arc<Snapshot>) {
        self.forget(name);
        let is_known = snapshot.head.is_some() || snapshot.side.is_some();
        if !is_known || snapshot.missing_pages > 0 || snapshot.lacks_its_side_record() {
            return;
        }
        let bytes = snapshot.bytes() + size_of::<Hot>() + OVERHEAD_BYTES;
        if bytes > self.statistics.limit_bytes / LARGEST_PART {
            self.statistics.evictions += 1;
            self.asked_lately.put(name.clone(), usize::MAX);
            return;
        }
        self.statistics.bytes += bytes;
        let hot = Hot { snapshot: Arc::clone(snapshot), bytes, stale: false, retry_at: None, seen: None };
        self.hot.put(name.clone(), hot);
        while self.statistics.bytes > self.statistics.limit_bytes || self.hot.len() > MOST_HOT {
            let Some((_, evicted)) = self.hot.pop_lru() else { return };
            self.statistics.bytes -= evicted.bytes;
            self.statistics.evictions += 1;
        }
    }

    pub(super) fn forget(&mut self, name: &Name) {
        if let Some(hot) = self.hot.pop(name) {
            self.statistics.bytes -= hot.bytes;
        }
    }

    /// Something was written: what is in memory is out of date, and so may be what is being read.
    pub(super) fn invalidate(&mut self, name: &Name) {
        self.overtake_readings(name);
        if let Some(hot) = self.hot.peek_mut(name) {
            (hot.stale, hot.retry_at) = (true, None);
        }
    }

    /// Something may have been written, and the store does not do well.
    pub(super) fn doubt(&mut self, name: &Name) {
        self.overtake_readings(name);
        if let Some(hot) = self.hot.peek_mut(name) {
            hot.stale = true;
        }
    }

    fn overtake_readings(&mut self, name: &Name) {
        self.flights.remove(name);
        self.background.overtake(name);
    }
}

/// What was read of the store, with what it has lost as it was `before`; `None`: it has lost pages.
fn completed(read: Snapshot, before: &Snapshot) -> Option<Snapshot> {
    if read.missing_pages > 0 {
        return None;
    }
    let (head, pages) = if has_lost_its_head(&read, before) {
        (before.head.clone(), before.pages.clone())
    } else {
        (read.head, read.pages)
    };
    // Without it nobody would know that the registry refuses us.
    let side = read.side.or_else(|| before.side.clone());
    Some(Snapshot { head, side, pages, ..read })
}

fn has_lost_its_head(read: &Snapshot, before: &Snapshot) -> bool {
    let gone_for_good = read.side.as_ref().is_some_and(|side| side.is_gone_for_good());
    read.head.is_none() && before.head.is_some() && !gone_for_good
}

/// Copies the stored bytes: they may be a small part of a large buffer, which would be kept alive by them.
fn with_bytes_of_its_own(entry: Entry) -> Entry {
    Entry { value: Bytes::copy_from_slice(&entry.value), ..entry }
}

fn with_entries_of_its_own(snapshot: Snapshot) -> Snapshot {
    let head_entry = snapshot.head_entry.map(with_bytes_of_its_own);
    let side_entry = snapshot.side_entry.map(with_bytes_of_its_own);
    Snapshot { head_entry, side_entry, ..snapshot }
}
