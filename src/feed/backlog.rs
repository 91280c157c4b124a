//! What happened lately to all that is watched, for those who resume: read from the store once, and added to as it is told.
//!
//! Invariants: no more than [`MOST_REMEMBERED`] changes, the oldest go first; of what happened after [`Backlog::reaches`]
//! says, everything is here that this replica can know, or a gap says of which repository something is missing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use samovar_registry::Name;

use super::{Happening, Mark, Position};
use crate::cache::history::{ChangeId, History, read_after};
use crate::cache::stored::{self, Head, Side};
use crate::store::{Client, Key, StoreError};
use crate::warmer::Handle;

/// Changes that are held in memory for those who resume: 8 MB, about.
const MOST_REMEMBERED: usize = 16_384;
/// Repositories whose heads are read in one round trip.
const HEADS_AT_ONCE: usize = 250;
/// Histories that are read at once.
const READS_AT_ONCE: usize = 16;
/// Readings of a history that is rewritten under its reader.
const MOST_READS: usize = 3;

/// Orders changes: by time, and those of a repository as they happened.
type Place = (u64, Name, u64);

/// What happened lately.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    changes: BTreeMap<Place, Remembered>,
    /// Of these repositories something that happened before this generation is missing.
    gaps: BTreeMap<Name, u64>,
    /// Back to this generation everything was read.
    read_since: u64,
    /// What happened up to this generation was let go of.
    cut: u64,
}

/// What somebody has missed, read from the store.
#[derive(Debug)]
pub(crate) struct Missed {
    /// The changes, in order.
    pub(crate) happenings: Vec<Arc<Happening>>,
    /// Repositories of which it missed something that is not known.
    pub(crate) gaps: Vec<Name>,
}

/// What somebody has missed who has come to `from`, of the repositories that are watched and wanted.
pub(crate) async fn missed(
    store: &dyn Client,
    warmer: &Handle,
    from: &Position,
    is_wanted: impl Fn(&Name) -> bool,
    now: u64,
) -> Result<Missed, StoreError> {
    let backlog = Backlog::read(store, warmer, is_wanted, from.time(), now).await?;
    let Recalled { happenings, gaps, .. } = backlog.recall(from);
    Ok(Missed { happenings, gaps })
}

#[derive(Debug, Clone)]
struct Remembered {
    happening: Arc<Happening>,
    /// Whether those who follow were told.
    told: bool,
}

/// What somebody who resumes has missed.
#[derive(Debug, Default)]
pub(super) struct Recalled {
    /// The changes, in order.
    pub(super) happenings: Vec<Arc<Happening>>,
    /// Of them, or of what it was told elsewhere, what may be told here a second time, by repository.
    pub(super) untold: HashMap<Mark, ChangeId>,
    /// Repositories of which it missed something that is not known.
    pub(super) gaps: Vec<Name>,
}

/// What the store tells of one repository.
struct Read {
    happenings: Vec<Arc<Happening>>,
    /// Something before this generation is missing.
    gap: Option<u64>,
}

impl Backlog {
    /// Reads what happened after `since` to everything that is watched and wanted.
    pub(super) async fn read(
        store: &dyn Client,
        warmer: &Handle,
        is_wanted: impl Fn(&Name) -> bool,
        since: u64,
        now: u64,
    ) -> Result<Self, StoreError> {
        let mut backlog = Self { read_since: since, ..Self::default() };
        let watched = warmer.watch_list();
        let names: Vec<Name> = watched.0.keys().filter(|name| is_wanted(name)).cloned().collect();
        for names in names.chunks(HEADS_AT_ONCE) {
            let keys: Vec<Key> =
                names.iter().flat_map(|name| [Key::Head(name.clone()), Key::Side(name.clone())]).collect();
            let mut entries = store.get_many(&keys).await?.into_iter();
            let mut reading = Vec::new();
            for name in names {
                let head: Option<Head> = stored::decode(entries.next().flatten().as_ref());
                let side: Option<Side> = stored::decode(entries.next().flatten().as_ref());
                if !warmer.is_taken_over(name) {
                    backlog.add_gap(name.clone(), now);
                }
                if is_moved(head.as_ref(), side.as_ref(), since) {
                    reading.push(async move {
                        let read = read(store, name, head, side, since).await?;
                        Ok::<_, StoreError>((name, read))
                    });
                }
            }
            let mut read = stream::iter(reading).buffer_unordered(READS_AT_ONCE);
            while let Some((name, read)) = read.try_next().await? {
                for happening in read.happenings {
                    backlog.add(happening, false);
                }
                if let Some(gap) = read.gap {
                    backlog.add_gap(name.clone(), gap);
                }
            }
        }
        Ok(backlog)
    }

    /// A backlog into which all is put that happened after `since`.
    #[cfg(test)]
    pub(super) fn of_all(since: u64) -> Self {
        Self { read_since: since, ..Self::default() }
    }

    /// Takes over what was read, which reaches further back.
    pub(super) fn merge(&mut self, read: Self) {
        for remembered in read.changes.into_values() {
            self.add(remembered.happening, remembered.told);
        }
        for (name, gap) in read.gaps {
            self.add_gap(name, gap);
        }
        self.read_since = self.read_since.min(read.read_since);
        self.cut = self.cut.max(read.cut);
    }

    /// Remembers a change, and whether those who follow were told of it.
    pub(super) fn add(&mut self, happening: Arc<Happening>, told: bool) {
        let id = happening.event.id;
        let place = (id.generation, happening.name.clone(), id.number);
        let remembered = self.changes.entry(place).or_insert(Remembered { happening, told });
        remembered.told |= told;
        while self.changes.len() > MOST_REMEMBERED
            && let Some(((generation, ..), _)) = self.changes.pop_first()
        {
            self.cut = self.cut.max(generation);
        }
    }

    /// Something that happened to a repository before this generation cannot be told.
    pub(super) fn add_gap(&mut self, name: Name, generation: u64) {
        let gap = self.gaps.entry(name).or_default();
        *gap = generation.max(*gap);
    }

    /// All that is remembered.
    pub(super) fn happenings(&self) -> impl Iterator<Item = &Happening> {
        self.changes.values().map(|remembered| &*remembered.happening)
    }

    /// Whether reading again could tell no more of what happened since.
    pub(super) fn was_read_since(&self, since: u64) -> bool {
        self.read_since <= since
    }

    /// Whether everything is known that happened since.
    pub(super) fn reaches(&self, since: u64) -> bool {
        self.read_since <= since && self.cut <= since
    }

    /// What somebody has missed who has come to `from`.
    pub(super) fn recall(&self, from: &Position) -> Recalled {
        let mut recalled = Recalled { untold: from.ahead().collect(), ..Recalled::default() };
        for ((generation, ..), remembered) in self.changes.iter().rev() {
            if *generation <= from.time() {
                break;
            }
            let Remembered { happening, told } = remembered;
            let (mark, id) = (happening.mark, happening.event.id);
            if *told {
                // The next one of the repository is a later one: nothing up to here comes again.
                if recalled.untold.get(&mark).is_some_and(|untold| *untold <= id) {
                    recalled.untold.remove(&mark);
                }
            } else {
                let untold = recalled.untold.entry(mark).or_insert(id);
                *untold = id.max(*untold);
            }
            if !from.covers(mark, id) {
                recalled.happenings.push(Arc::clone(happening));
            }
        }
        recalled.happenings.reverse();
        let missed = self.gaps.iter().filter(|(name, generation)| {
            !from.covers(
                Mark::of(name),
                ChangeId { generation: generation.saturating_sub(1), number: u64::MAX },
            )
        });
        recalled.gaps = missed.map(|(name, _)| name.clone()).collect();
        recalled
    }
}

/// Whether a repository may have changed after `since`.
fn is_moved(head: Option<&Head>, side: Option<&Side>, since: u64) -> bool {
    head.is_some_and(|head| head.generation > since)
        || side.is_some_and(|side| side.early.last().is_some_and(|event| event.id.generation > since))
}

/// What the store tells of a repository after `since`.
async fn read(
    store: &dyn Client,
    name: &Name,
    mut head: Option<Head>,
    mut side: Option<Side>,
    since: u64,
) -> Result<Read, StoreError> {
    let mut reads = 1;
    let (history, found) = loop {
        let history = head.as_ref().map_or_else(History::default, |head| head.history.clone());
        let found = read_after(store, name, &history, since).await?;
        if found.missing_pages == 0 || reads == MOST_READS {
            break (history, found);
        }
        // It may have been rewritten meanwhile.
        let keys = [Key::Head(name.clone()), Key::Side(name.clone())];
        let mut entries = store.get_many(&keys).await?.into_iter();
        let Some(again) = stored::decode::<Head>(entries.next().flatten().as_ref()) else {
            break (history, found);
        };
        (head, side) = (Some(again), stored::decode(entries.next().flatten().as_ref()));
        reads += 1;
    };
    let in_head = head.as_ref().map_or(0, |head| head.generation);
    let early = side.as_ref().map_or(&[][..], |side| &side.early).iter();
    let early = early.filter(|event| event.id.generation > in_head.max(since)).cloned();
    let events: Vec<_> = found.events.into_iter().chain(early).collect();
    let known_from = events.first().map_or(in_head, |first| first.id.generation);
    // What was before the first that is known may have been after `since` just as well.
    let is_cut =
        history.first > 0 || history.pages.first().is_some_and(|page| page.last >= page.count as u64);
    let is_all_later = history.pages.iter().all(|page| page.generation > since)
        && events.first().is_some_and(|first| first.id.number == first_number(&history));
    let gap =
        (found.missing_pages > 0).then_some(in_head + 1).or((is_cut && is_all_later).then_some(known_from));
    let happenings = events.into_iter().map(|event| Happening::of(name.clone(), event)).collect();
    Ok(Read { happenings, gap })
}

/// The number of the first change that a history still tells of.
fn first_number(history: &History) -> u64 {
    let in_page = history.pages.first().map_or(0, |page| (page.last + 1).saturating_sub(page.count as u64));
    history.first.max(in_page)
}

#[cfg(test)]
mod tests;
