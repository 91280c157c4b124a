//! What readers ask for: when a repository was last read as a whole, when each of its tags was, and when something that no
//! tag has to be confirmed for.
//!
//! Doors note every reading, which costs a look into a table; what is noted goes into the store, once an hour for each
//! repository, and comes back with the next start and on every other replica.
//!
//! Invariants: readings are merged, the later one wins, and nothing that was read is forgotten before the bounds say so;
//! no reading waits for the store; times are exact to a minute.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use jiff::Timestamp;
use samovar_registry::Name;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::debug;

use super::context::Context;
use crate::cache::demand::{Demand, Reading};
use crate::cache::stored;
use crate::sources::WatchList;
use crate::store::{Client, Entry, Key, StoreError};

/// Repositories whose readings are noted; those of further ones are not.
const MOST_READ_REPOSITORIES: usize = 100_000;
/// How often it is looked whether there are readings to store.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// How often the readings of one repository are stored.
const SAVE_EVERY: Duration = Duration::from_hours(1);
/// Repositories whose readings are stored after one look.
const MOST_SAVED: usize = 500;
/// How often the readings of other replicas are read.
const LEARN_EVERY: Duration = Duration::from_mins(10);
/// What is read of a repository that is not watched, as one may be that is about to be, is remembered for this long.
const UNWATCHED_FOR: Duration = Duration::from_hours(1);
/// Repositories whose readings are read from the store in one round trip.
const READ_TOGETHER: usize = 250;
/// Repositories whose readings are stored at once.
const WRITES_AT_ONCE: usize = 16;
/// Another replica may write at the same time; after so many tries it is an error.
const MOST_TRIES: usize = 20;

/// The demand for all repositories.
#[derive(Debug, Default)]
pub(super) struct Demands(Mutex<HashMap<Name, Known>>);

/// What is known of one repository.
#[derive(Debug, Default)]
struct Known {
    demand: Arc<Demand>,
    /// There are readings that the store does not know.
    is_unsaved: bool,
    /// When this process stored them last.
    saved_at: Option<Instant>,
}

impl Demands {
    /// The demand for a repository, as far as it is known.
    pub(super) fn of(&self, name: &Name) -> Arc<Demand> {
        self.known().get(name).map(|known| Arc::clone(&known.demand)).unwrap_or_default()
    }

    /// Somebody has read something of the repository.
    pub(super) fn note(&self, name: &Name, reading: Reading<'_>, now: Timestamp) {
        let mut all = self.known();
        if !all.contains_key(name) {
            if all.len() >= MOST_READ_REPOSITORIES {
                return;
            }
            all.insert(name.clone(), Known::default());
        }
        let Some(known) = all.get_mut(name) else { return };
        if known.demand.is_news(reading, now) {
            Arc::make_mut(&mut known.demand).note(reading, now);
            known.is_unsaved = true;
        }
    }

    /// The repository is no longer watched.
    pub(super) fn forget(&self, name: &Name) {
        self.known().remove(name);
    }

    /// Takes over what the store knows of these repositories. What it cannot tell now comes later.
    pub(super) async fn learn(&self, store: &dyn Client, names: &[Name], now: Timestamp) {
        for names in names.chunks(READ_TOGETHER) {
            let keys: Vec<Key> = names.iter().cloned().map(Key::Demand).collect();
            let found = match store.get_many(&keys).await {
                Ok(found) => found,
                Err(error) => return debug!(%error, "the store cannot tell what readers ask for"),
            };
            for (name, entry) in names.iter().zip(found) {
                if let Some(stored) = stored::decode::<Demand>(entry.as_ref()) {
                    self.merge(name, &stored.no_later_than(now));
                }
            }
        }
    }

    /// Takes over what somebody else has noted. Returns all that is known.
    fn merge(&self, name: &Name, other: &Demand) -> Demand {
        let mut all = self.known();
        if !all.contains_key(name) && all.len() >= MOST_READ_REPOSITORIES {
            return other.clone();
        }
        let known = all.entry(name.clone()).or_default();
        let merged = known.demand.merged(other);
        if merged != *known.demand {
            known.demand = Arc::new(merged.clone());
        }
        merged
    }

    /// Those whose readings are to be stored now, the longest unsaved first; all of them, or a bounded number that were
    /// not stored lately.
    fn unsaved(&self, all: bool) -> Vec<Name> {
        let now = Instant::now();
        let known = self.known();
        let is_due = |known: &Known| {
            known.is_unsaved
                && (all || known.saved_at.is_none_or(|saved_at| now.duration_since(saved_at) >= SAVE_EVERY))
        };
        let mut due: Vec<(Option<Instant>, Name)> = known
            .iter()
            .filter(|(_, known)| is_due(known))
            .map(|(name, known)| (known.saved_at, name.clone()))
            .collect();
        due.sort();
        let most = if all { due.len() } else { MOST_SAVED };
        due.into_iter().take(most).map(|(_, name)| name).collect()
    }

    /// Stores the readings of these repositories, together with what the store knows. What it does not take now is stored
    /// later.
    async fn save(&self, store: &dyn Client, names: Vec<Name>, now: Timestamp) {
        let saves = names.into_iter().map(|name| async move {
            if let Err(error) = self.save_one(store, &name, now).await {
                debug!(image.name = %name, %error, "what readers ask for is not stored");
            }
        });
        stream::iter(saves).buffer_unordered(WRITES_AT_ONCE).collect::<()>().await;
    }

    async fn save_one(&self, store: &dyn Client, name: &Name, now: Timestamp) -> Result<(), StoreError> {
        let key = Key::Demand(name.clone());
        for _ in 0..MOST_TRIES {
            let before = store.get(&key).await?;
            let stored: Demand = stored::decode(before.as_ref()).unwrap_or_default();
            let merged = self.merge(name, &stored.no_later_than(now));
            let after = Entry::immutable(stored::encode(&merged));
            if before.as_ref() == Some(&after) || store.compare_and_set(key.clone(), before, after).await? {
                if let Some(known) = self.known().get_mut(name) {
                    known.saved_at = Some(Instant::now());
                    // Somebody may have read meanwhile.
                    known.is_unsaved = *known.demand != merged;
                }
                return Ok(());
            }
        }
        Err(StoreError::Unavailable { message: "what readers ask for keeps changing".into() })
    }

    /// Forgets what was read of repositories that did not come to be watched.
    fn forget_unwatched(&self, watch_list: &WatchList, now: Timestamp) {
        let is_recent = |known: &Known| known.demand.last_asked().is_some_and(|at| at + UNWATCHED_FOR > now);
        self.known().retain(|name, known| watch_list.0.contains_key(name) || is_recent(known));
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Name, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings readings to the store, and those of other replicas from there, until shutdown; then stores what is left.
pub(super) async fn keep(context: Arc<Context>, watch_list: watch::Receiver<Arc<WatchList>>) {
    let (store, demand) = (&*context.store, &context.demand);
    let mut learnt_at = Instant::now();
    let going_on = async {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let watched = Arc::clone(&watch_list.borrow());
            demand.forget_unwatched(&watched, context.now());
            if store.is_shared() && learnt_at.elapsed() >= LEARN_EVERY {
                learnt_at = Instant::now();
                let names: Vec<Name> = watched.0.keys().cloned().collect();
                demand.learn(store, &names, context.now()).await;
            }
            demand.save(store, demand.unsaved(false), context.now()).await;
        }
    };
    tokio::select! {
        biased;
        () = context.shutdown.cancelled() => {}
        () = going_on => {}
    }
    demand.save(store, demand.unsaved(true), context.now()).await;
}
