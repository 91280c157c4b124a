//! Taking over repositories: from the watch list, from the store, and from other replicas.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use samovar_registry::Name;
use tokio::time::Instant;
use tracing::debug;

use super::{CopySlot, Lane, Repository};
use crate::cache::stored::{self, Head, Side};
use crate::sources::Watch;
use crate::store::{Entry, Key, StoreError};
use crate::warmer::context::RepositoryOverview;
use crate::warmer::pass::STORE_AGAIN;
use crate::warmer::working_copy::{is_from_the_future, next_listing};

/// How often a replica without the lease looks how far the others have come.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Repositories whose heads are read in one round trip.
const HEADS_AT_ONCE: usize = 250;
/// When so many repositories cannot be read and none can, it is the store as a whole that fails.
const MOST_FAILURES: usize = 8;
/// Repositories that are made known to the store at once.
const WRITES_AT_ONCE: usize = 16;

/// Where the store says that a repository stood.
struct Stored {
    name: Name,
    head_entry: Option<Entry>,
    head: Option<Head>,
    side: Option<Side>,
}

impl Lane {
    /// Takes over what of the watch list is on this host. Repositories that are new here continue where the store
    /// says that they were.
    pub(super) async fn adopt_watch_list(&mut self) {
        let watch_list = Arc::clone(&self.watch_list.borrow_and_update());
        let ours: HashMap<&Name, &Watch> =
            watch_list.0.iter().filter(|(name, _)| name.host() == self.host).collect();
        let gone = self.repositories.keys().filter(|name| !ours.contains_key(name));
        for name in gone.cloned().collect::<Vec<_>>() {
            self.let_go(&name);
        }
        let mut new = Vec::new();
        for (name, watch) in &ours {
            if self.repositories.contains_key(*name) {
                self.adopt_watch(name, watch);
            } else {
                new.push((*name).clone());
            }
        }
        self.adopt_again_at = None;
        self.context.demand.learn(&*self.context.store, &new, self.context.now()).await;
        let (found, error) = self.look_up(new).await;
        for stored in found {
            self.adopt_repository(&stored, ours[&stored.name]);
        }
        if let Some(error) = error {
            debug!(registry.host = self.host, error = %error, "the store cannot tell where repositories stood");
            self.adopt_again_at = Some(Instant::now() + STORE_AGAIN);
        }
    }

    /// A repository that is no longer watched; a pass that runs on it is ended first.
    fn let_go(&mut self, name: &Name) {
        let Some(repository) = self.repositories.get_mut(name) else { return };
        if let Some(pass) = &repository.pass {
            repository.gone = true;
            pass.interrupt.cancel();
            return;
        }
        self.schedule.remove(&(repository.wake_at, name.clone()));
        self.repositories.remove(name);
        self.context.forget(name);
    }

    /// A repository that is watched already, perhaps in another way than before.
    fn adopt_watch(&mut self, name: &Name, watch: &Watch) {
        let Some(repository) = self.repositories.get_mut(name) else { return };
        if repository.watch == *watch && !repository.gone {
            return;
        }
        repository.login_changed |= repository.watch.credentials != watch.credentials;
        repository.watch = watch.clone();
        repository.gone = false;
        repository.list_again = true;
        if let Some(pass) = &repository.pass {
            repository.again = true;
            pass.interrupt.cancel();
        } else {
            let now = self.context.clock.now();
            self.schedule_at(name, now);
        }
    }

    fn adopt_repository(&mut self, stored: &Stored, watch: &Watch) {
        self.context.overview().insert(stored.name.clone(), stored.overview());
        let wake_at = self.resume(stored, watch, true);
        let repository = Repository {
            watch: watch.clone(),
            wake_at,
            pass: None,
            again: false,
            gone: false,
            list_again: true,
            login_changed: false,
            store_failed: false,
            copy: CopySlot::default(),
        };
        self.repositories.insert(stored.name.clone(), repository);
        self.schedule.insert((wake_at, stored.name.clone()));
    }

    /// When a repository needs something next, by what the store says. One that could not be listed before samovar
    /// started is tried again at once.
    fn resume(&self, stored: &Stored, watch: &Watch, started: bool) -> Timestamp {
        let now = self.context.clock.now();
        let Some(side) = stored.side.as_ref().filter(|side| !is_from_the_future(side, now)) else {
            return now;
        };
        let platforms = self.context.platforms(watch).to_string();
        let for_others = stored.head.as_ref().is_none_or(|head| head.platforms != platforms);
        if for_others && side.attempts == 0 || started && side.attempts > 0 {
            return now;
        }
        let interval = watch.poll_interval.unwrap_or(self.context.options.poll_interval).usual;
        let listing = next_listing(side, &watch.tags, interval);
        side.next_wake.zip(listing).map_or(now, |(wake, listing)| wake.min(listing))
    }

    /// Reads where repositories stand, and makes those known that the store does not know. What could not be read, because
    /// the store or the server of some keys fails, is left out.
    async fn look_up(&self, names: Vec<Name>) -> (Vec<Stored>, Option<StoreError>) {
        let mut found = Vec::with_capacity(names.len());
        let mut failed = None;
        for names in names.chunks(HEADS_AT_ONCE) {
            match self.look_up_together(names).await {
                Ok(together) => found.extend(together),
                Err(error) => {
                    failed = Some(error);
                    let one_by_one = self.look_up_one_by_one(names).await;
                    if one_by_one.is_empty() {
                        // The store as a whole.
                        break;
                    }
                    found.extend(one_by_one);
                }
            }
        }
        let unknown = found
            .iter()
            // A head without a side record has lost it: what it said, such as that the registry refuses us, is for the next
            // pass to find out.
            .filter(|stored| stored.side.is_none() && stored.head.is_none())
            .map(|stored| Key::Side(stored.name.clone()));
        let made_known = self.make_known(unknown.collect()).await;
        (found, failed.or(made_known.err()))
    }

    async fn look_up_together(&self, names: &[Name]) -> Result<Vec<Stored>, StoreError> {
        let keys: Vec<Key> =
            names.iter().flat_map(|name| [Key::Head(name.clone()), Key::Side(name.clone())]).collect();
        let mut entries = self.context.store.get_many(&keys).await?.into_iter();
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let (head_entry, side_entry) = (entries.next().flatten(), entries.next().flatten());
            let (head, side) = (stored::decode(head_entry.as_ref()), stored::decode(side_entry.as_ref()));
            found.push(Stored { name: name.clone(), head_entry, head, side });
        }
        Ok(found)
    }

    /// What of these can be read. Gives up when the first few cannot.
    async fn look_up_one_by_one(&self, names: &[Name]) -> Vec<Stored> {
        let mut found = Vec::new();
        let mut failures = 0;
        for name in names {
            match self.look_up_together(std::slice::from_ref(name)).await {
                Ok(one) => found.extend(one),
                Err(_) => failures += 1,
            }
            if found.is_empty() && failures == MOST_FAILURES {
                break;
            }
        }
        found
    }

    async fn make_known(&self, sides: Vec<Key>) -> Result<(), StoreError> {
        let write = |key| {
            let store = Arc::clone(&self.context.store);
            let side = Entry::immutable(stored::encode(&Side::default()));
            // Unless another replica was faster.
            async move { store.compare_and_set(key, None, side).await.map(drop) }
        };
        stream::iter(sides.into_iter().map(write)).buffer_unordered(WRITES_AT_ONCE).try_collect().await
    }

    /// The lease has come or gone.
    pub(super) async fn turned(&mut self, permitted: bool) {
        self.handed_on.turned(permitted && self.context.store.is_shared());
        if permitted {
            self.budget.take_over(&self.context, &self.host).await;
            self.look_again().await;
            self.look_again_at = None;
        } else {
            self.budget.let_go();
            // The passes notice by themselves, and store what they have learnt.
            self.look_again_at = Some(Instant::now() + LOOK_EVERY);
        }
    }

    /// Takes over from the store how far another replica has come.
    pub(super) async fn look_again(&mut self) {
        let idle = self.repositories.iter().filter(|(_, repository)| repository.pass.is_none());
        let names: Vec<Name> = idle.map(|(name, _)| name.clone()).collect();
        self.look_again_at = Some(Instant::now() + LOOK_EVERY);
        // Where the store cannot tell, what is known already has to do.
        let (found, _) = self.look_up(names).await;
        for stored in found {
            let Some(repository) = self.repositories.get(&stored.name) else { continue };
            let wake_at = self.resume(&stored, &repository.watch, false);
            self.context.overview().insert(stored.name.clone(), stored.overview());
            if !self.lease.permits() {
                self.context.drop_overtaken(&stored.name, stored.head_entry.as_ref());
            }
            self.schedule_at(&stored.name, wake_at);
        }
    }
}

impl Stored {
    fn overview(&self) -> RepositoryOverview {
        self.head.as_ref().map_or_else(RepositoryOverview::default, |head| RepositoryOverview {
            counts: head.counts,
            complete: head.complete,
            listed: true,
        })
    }
}
