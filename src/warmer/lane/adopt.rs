//! Taking over repositories: from the watch list, from the store, and from other replicas.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use samovar_registry::Name;
use tokio::time::Instant;
use tracing::debug;

use super::spread::{Overdue, spread};
use super::{CopySlot, Lane, Repository};
use crate::cache::stored::{self, Head, Side};
use crate::sources::Watch;
use crate::store::{Entry, Key, StoreError};
use crate::warmer::announce::Telling;
use crate::warmer::cadence;
use crate::warmer::context::{Context, RepositoryOverview};
use crate::warmer::pass::STORE_AGAIN;
use crate::warmer::queue::{Class, Needs};
use crate::warmer::working_copy::{is_from_the_future, next_listing};

/// How often a replica without the lease looks how far the others have come.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Repositories whose heads are read in one round trip.
const HEADS_AT_ONCE: usize = 250;
/// When so many repositories cannot be read and none can, it is the store as a whole that fails.
const MOST_FAILURES: usize = 8;
/// Histories that are read at once.
const READS_AT_ONCE: usize = 16;
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
        let ours: BTreeMap<&Name, &Watch> =
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
        self.adopt_repositories(found, &ours);
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
        self.drop_repository(name);
    }

    /// A repository that is no longer watched, and on which no pass runs.
    pub(super) fn drop_repository(&mut self, name: &Name) {
        self.queue.lock().remove(name);
        if let Some(repository) = self.repositories.remove(name) {
            self.identities.leave(repository.identity);
        }
        self.context.forget(name);
    }

    /// A repository that is watched already, perhaps in another way than before.
    fn adopt_watch(&mut self, name: &Name, watch: &Watch) {
        let Some(repository) = self.repositories.get_mut(name) else { return };
        if repository.watch == *watch && !repository.gone {
            return;
        }
        if repository.watch.credentials != watch.credentials {
            repository.login_changed = true;
            self.identities.leave(repository.identity);
            repository.identity = self.identities.enter(&watch.credentials);
        }
        repository.watch = watch.clone();
        repository.gone = false;
        repository.list_again = true;
        if let Some(pass) = &repository.pass {
            repository.again = true;
            pass.interrupt.cancel();
        } else {
            let mut queue = self.queue.lock();
            let needs = queue.remove(name).unwrap_or_default();
            queue.put(name, repository.identity, needs.with(Class::Due, Some(self.context.clock.now())));
        }
    }

    fn adopt_repositories(&mut self, found: Vec<Stored>, ours: &BTreeMap<&Name, &Watch>) {
        for stored in &found {
            let watch = ours[&stored.name];
            self.context.overview().insert(stored.name.clone(), stored.overview());
            self.context.announcer.begin(&stored.name, &stored.telling());
            let repository = Repository {
                watch: watch.clone(),
                identity: self.identities.enter(&watch.credentials),
                pass: None,
                again: false,
                gone: false,
                list_again: true,
                login_changed: false,
                store_failed: false,
                copy: CopySlot::default(),
            };
            self.repositories.insert(stored.name.clone(), repository);
        }
        self.resume_all(&found);
    }

    /// Gives repositories on which no pass runs their places in the queue, by what the store says.
    fn resume_all(&self, found: &[Stored]) {
        let resumed = found.iter().filter_map(|stored| {
            let repository = self.repositories.get(&stored.name)?;
            let (needs, overdue) = self.resume(stored, repository);
            Some((&stored.name, repository.identity, needs, overdue))
        });
        let (now, resumed) = (self.context.clock.now(), resumed.collect::<Vec<_>>());
        let waits = spread(resumed.iter().filter_map(|(.., overdue)| overdue.clone()).collect());
        let mut queue = self.queue.lock();
        for (name, identity, needs, _) in resumed {
            let wait = waits.get(name).copied().unwrap_or_default();
            queue.put(name, identity, if wait.is_zero() { needs } else { needs.not_before(now + wait) });
        }
    }

    /// What a repository needs and when, by what the store says, and whether it is one of those that are not to start all at
    /// once: it is overdue by more than it is polled, or could not be listed before samovar, or another login, came and is tried again.
    fn resume(&self, stored: &Stored, repository: &Repository) -> (Needs, Option<Overdue>) {
        let watch = &repository.watch;
        let now = self.context.clock.now();
        let list = if stored.head.is_some() { Class::Background } else { Class::New };
        let Some(side) = stored.side.as_ref().filter(|side| !is_from_the_future(side, now)) else {
            return (Needs::at(list, now), None);
        };
        let platforms = self.context.platforms(watch).to_string();
        let for_others = stored.head.as_ref().is_none_or(|head| head.platforms != platforms);
        if for_others && side.attempts == 0 {
            return (Needs::at(list.min(Class::Due), now), None);
        }
        let poll = self.context.poll_interval(watch);
        let interval = cadence::poll::interval(side, &poll);
        let overdue = |since| {
            let read_at = self.context.demand.of(&stored.name).last_asked();
            Overdue { name: stored.name.clone(), since, interval, read_at }
        };
        if repository.list_again && side.attempts > 0 {
            return (Needs::at(list, now), Some(overdue(now)));
        }
        let listing = next_listing(side, &watch.tags, &poll);
        let (Some(listing), Some(wake)) = (listing, side.next_wake) else {
            return (Needs::at(list, now), None);
        };
        // What an older version wrote says only when anything is needed.
        let of_tags = side.next_tag.or((Some(wake) < side.next_listing).then_some(wake));
        let needs = Needs::at(list, listing).with(Class::New, side.next_new).with(Class::Due, of_tags);
        let since = wake.min(listing);
        (needs, (since + interval <= now).then(|| overdue(since)))
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
        self.hand_on_turned(permitted);
        if permitted {
            self.budget.take_over(&self.context, &self.host).await;
            self.look_again().await;
            self.look_again_at = None;
        } else {
            self.budget.let_go();
            self.repositories.keys().for_each(|name| self.context.unfinished.let_go(name));
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
        self.tell(&found).await;
        for stored in &found {
            self.context.overview().insert(stored.name.clone(), stored.overview());
            if !self.lease.permits() {
                self.context.drop_overtaken(&stored.name, stored.head_entry.as_ref());
            }
        }
        self.resume_all(&found);
    }

    /// Tells subscribers what other replicas have published. What cannot be read is told another time.
    async fn tell(&self, found: &[Stored]) {
        let Context { store, announcer, .. } = &*self.context;
        let telling: Vec<_> = found.iter().map(|stored| (stored.name.clone(), stored.telling())).collect();
        let telling = telling
            .into_iter()
            .map(|(name, telling)| async move { announcer.catch_up(&**store, &name, telling).await });
        let told = stream::iter(telling).buffer_unordered(READS_AT_ONCE).try_collect::<()>().await;
        if let Err(error) = told {
            debug!(registry.host = self.host, %error, "what changed cannot be read from the store");
        }
    }
}

impl Stored {
    fn telling(&self) -> Telling {
        Telling::of(self.head.as_ref(), self.side.as_ref())
    }

    fn overview(&self) -> RepositoryOverview {
        self.head.as_ref().map_or_else(RepositoryOverview::default, |head| RepositoryOverview {
            counts: head.counts,
            complete: head.complete,
            listed: true,
        })
    }
}
