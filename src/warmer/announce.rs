//! Telling subscribers what changed: every change once, in the order in which it happened to its repository, on every
//! replica.
//!
//! A replica that publishes tells what it has published; another one tells what it finds in the history of a head that it
//! has not seen yet. Both go through here, where it is known for each repository up to which generation was told. So a
//! replica that takes over, or that never got the answer to a write, tells neither twice nor less.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samovar_registry::Name;
use tokio::sync::broadcast;
use tracing::warn;

use super::publish::Published;
use crate::cache::history::{Change, ChangeId, Event, History, ReadHistory, read_after};
use crate::cache::stored::{self, Head, Side};
use crate::store::{Client, Key, StoreError};

/// Changes that a slow subscriber may lag behind before it misses some.
const CHANGES_KEPT: usize = 4096;
/// Readings of a history that is rewritten under its reader.
const MOST_READS: usize = 3;

#[derive(Debug)]
pub(super) struct Announcer {
    told: broadcast::Sender<Arc<Told>>,
    /// How far each watched repository was told.
    heard: Mutex<HashMap<Name, Heard>>,
}

/// What a subscriber is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Something changed.
    Changed(Change),
    /// Changes of this repository are not told, because they are no longer in its history: whoever follows it has to look
    /// at all of it. What comes after is told.
    Missed(Name),
}

impl Told {
    /// The change, if it is one.
    pub fn change(&self) -> Option<&Change> {
        match self {
            Self::Changed(change) => Some(change),
            Self::Missed(_) => None,
        }
    }
}

/// How far a repository was told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Heard {
    /// All changes up to this generation.
    generation: u64,
    /// The number of the next.
    next: u64,
}

/// What the store tells of a repository's changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Telling {
    head_generation: u64,
    history: History,
    early: Vec<Event>,
}

impl Telling {
    pub(super) fn of(head: Option<&Head>, side: Option<&Side>) -> Self {
        let head_generation = head.map_or(0, |head| head.generation);
        let history = head.map_or_else(History::default, |head| head.history.clone());
        let early = side.map_or(&[][..], |side| &side.early).iter();
        let early = early.filter(|event| event.id.generation > head_generation).cloned().collect();
        Self { head_generation, history, early }
    }

    /// As the store tells now.
    async fn read(store: &dyn Client, name: &Name) -> Result<Self, StoreError> {
        let mut front =
            store.get_many(&[Key::Head(name.clone()), Key::Side(name.clone())]).await?.into_iter();
        let (head, side) = (front.next().flatten(), front.next().flatten());
        let (head, side): (Option<Head>, Option<Side>) =
            (stored::decode(head.as_ref()), stored::decode(side.as_ref()));
        Ok(Self::of(head.as_ref(), side.as_ref()))
    }

    fn heard(&self) -> Heard {
        let in_head = Heard { generation: self.head_generation, next: self.history.next() };
        self.early.last().map_or(in_head, |last| Heard::up_to(last.id))
    }
}

impl Heard {
    /// Never back: others may have been faster.
    fn forward(&mut self, to: Self) {
        if to.generation > self.generation {
            *self = to;
        }
    }

    fn up_to(id: ChangeId) -> Self {
        Self { generation: id.generation, next: id.number + 1 }
    }
}

impl Announcer {
    pub(super) fn new() -> Self {
        Self { told: broadcast::Sender::new(CHANGES_KEPT), heard: Mutex::default() }
    }

    fn heard(&self) -> MutexGuard<'_, HashMap<Name, Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<Told>> {
        self.told.subscribe()
    }

    /// A repository is watched from now on: what was told of it before is no news.
    pub(super) fn begin(&self, name: &Name, telling: &Telling) {
        self.heard().entry(name.clone()).or_insert_with(|| telling.heard());
    }

    /// A repository is no longer watched.
    pub(super) fn forget(&self, name: &Name) {
        self.heard().remove(name);
    }

    /// Tells what this replica has published. `false`: others have published before it what was not told yet; all of it
    /// is to be read with [`Self::catch_up`].
    #[must_use]
    pub(super) fn published(&self, name: &Name, published: &Published) -> bool {
        let mut heard = self.heard();
        if let Some(heard) = heard.get_mut(name) {
            if heard.generation >= published.visible {
                return true;
            }
            if heard.generation != published.since {
                return false;
            }
            heard.generation = published.visible;
            heard.next = published.changes.last().map_or(heard.next, |last| last.id.number + 1);
        }
        self.tell(name, published.changes.iter().cloned());
        true
    }

    /// Up to which generation a repository was told; 0 for one that is not watched.
    pub(super) fn heard_of(&self, name: &Name) -> u64 {
        self.heard().get(name).map_or(0, |heard| heard.generation)
    }

    /// Tells what the store tells, which is `telling` or newer, and was not told yet. What keeps being rewritten is for
    /// another time.
    pub(super) async fn catch_up(
        &self,
        store: &dyn Client,
        name: &Name,
        mut telling: Telling,
    ) -> Result<(), StoreError> {
        for _ in 0..MOST_READS {
            let now = telling.heard();
            let Some(before) =
                self.heard().get(name).copied().filter(|heard| heard.generation < now.generation)
            else {
                return Ok(());
            };
            if self.told.receiver_count() == 0 {
                // Whoever comes later hears of what comes later.
                self.heard().entry(name.clone()).and_modify(|heard| heard.forward(now));
                return Ok(());
            }
            let read = read_after(store, name, &telling.history, before.generation).await?;
            if read.missing_pages > 0 {
                // Another replica may have gone on meanwhile.
                let again = Telling::read(store, name).await?;
                if again != telling {
                    telling = again;
                    continue;
                }
            }
            self.tell_read(name, &telling, read);
            return Ok(());
        }
        Ok(())
    }

    /// Tells of what was read what was not told meanwhile.
    fn tell_read(&self, name: &Name, telling: &Telling, read: ReadHistory) {
        let now = telling.heard();
        let mut heard = self.heard();
        let Some(heard) = heard.get_mut(name).filter(|heard| heard.generation < now.generation) else {
            return;
        };
        let told = heard.generation;
        let events = read.events.into_iter().chain(telling.early.iter().cloned());
        let events: Vec<Event> = events.filter(|event| event.id.generation > told).collect();
        let first = events.first().map_or(now.next, |first| first.id.number);
        if read.missing_pages > 0 || first != heard.next {
            warn!(image.name = %name, "some changes of the repository are no longer in its history: subscribers miss them");
            let _ = self.told.send(Arc::new(Told::Missed(name.clone())));
        }
        heard.forward(now);
        self.tell(name, events.into_iter());
    }

    fn tell(&self, name: &Name, events: impl Iterator<Item = Event>) {
        for event in events {
            // Nobody listens: nobody misses it.
            let change = Change { repository: name.clone(), event };
            let _ = self.told.send(Arc::new(Told::Changed(change)));
        }
    }
}
