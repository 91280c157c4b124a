//! Two stores as one: a remote one, shared and perhaps forgetful, and a local one on disk before it.
//!
//! What never changes (pages, directories, documents) is written to both and read from the local one first, so that it
//! costs a registry nothing when a memcached is restarted, and no round trip when it is read again. What changes is always
//! asked of the remote store, which other replicas write too; of heads and side records the local store keeps the last one
//! seen, a *shadow*:
//!
//! - where the remote store has lost a head or a side record, the shadow stands in for it. A head does not, once the side
//!   record says that the repository was removed;
//! - before anything of such a repository is written (its side record, or a new head in the place of the lost one), the
//!   remote store gets back its pages, and with the side record its head, of a new generation. Only the replica that holds
//!   the lease writes, so one restores, and not all of them at once; and those who only read never write;
//! - what is renewed and never changes is put back where the remote store has lost it;
//! - what was deleted stays so, also for a reader who saw it just before;
//! - an error of the remote store is an error: shadows say nothing about a store that cannot be asked;
//! - a failure of the local store never fails an operation.
//!
//! Not kept locally: side records of pages, which change with every look at a tag. When the remote store has lost them,
//! every tag is looked at again, by its digest. Raw documents are put back only when they are renewed: in a remote store
//! that is short of room they would be the first to go again. Pages that the remote store has evicted are missing for a
//! replica that does not have them itself, until one that does renews or writes them.
//!
//! This wrapper is the one part of [`crate::store`] that looks into values: it has to know which pages a head names.

mod keeper;
mod local;
mod restoring;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use samovar_registry::{Clock, Name};

use self::keeper::{Keeper, Offer};
use self::local::{Local, Removals, is_shadowed};
use super::{Client, Entry, Key, Reader, Statistics, StoreError};
use crate::cache::stored::{Side, decode};

/// Repositories remembered as lost by the remote store. Beyond it, they are noticed again when they are read again.
const MOST_LOST: usize = 100_000;

/// A remote store with a local one before it.
#[derive(Debug)]
pub struct Tiered {
    remote: Arc<dyn Client>,
    local: Arc<Local>,
    keeper: Keeper,
    clock: Arc<dyn Clock>,
    /// Repositories whose head was found to be missing in the remote store while its shadow is there.
    lost: Mutex<HashSet<Name>>,
}

impl Tiered {
    /// Puts `local` before `remote`; `clock` dates the heads that are restored. Must be called within a runtime: what is
    /// read is kept by a task, which ends with the returned value.
    pub fn new(remote: Arc<dyn Client>, local: Arc<dyn Client>, clock: Arc<dyn Clock>) -> Self {
        let local = Arc::new(Local::new(local));
        let keeper = Keeper::start(Arc::clone(&local));
        Self { remote, local, keeper, clock, lost: Mutex::default() }
    }

    fn lost(&self) -> MutexGuard<'_, HashSet<Name>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what the remote store has answered to a question asked when there had been these `removals`.
    fn arrived(&self, key: &Key, entry: &Entry, removals: Removals) {
        if let Key::Head(name) = key {
            self.lost().remove(name);
        }
        if key.is_immutable() || (is_shadowed(key) && !self.local.is_last_seen(key, entry)) {
            self.keeper.offer(Offer { key: key.clone(), entry: entry.clone(), removals });
        }
    }

    /// Fills in the shadows of heads and side records that the remote store does not have.
    async fn fill_from_shadows(&self, keys: &[Key], found: &mut [Option<Entry>]) -> Result<(), StoreError> {
        let is_wanted = |position: &usize| found[*position].is_none() && is_shadowed(&keys[*position]);
        let wanted: Vec<usize> = (0..keys.len()).filter(is_wanted).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let shadow_keys: Vec<Key> = wanted.iter().map(|position| keys[*position].clone()).collect();
        let shadows = self.local.get_many(&shadow_keys).await;
        let (mut names, mut heads) = (Vec::new(), Vec::new());
        for (position, shadow) in wanted.into_iter().zip(shadows) {
            let Some(shadow) = shadow else { continue };
            if let Key::Head(name) = &keys[position] {
                names.push(name.clone());
                heads.push((position, shadow));
            } else {
                found[position] = Some(shadow);
            }
        }
        if names.is_empty() {
            return Ok(());
        }
        let sides = self.sides(&names, keys, found).await?;
        for ((name, side), (position, shadow)) in names.into_iter().zip(sides).zip(heads) {
            if decode::<Side>(side.as_ref()).is_some_and(|side| side.is_gone_for_good()) {
                continue;
            }
            found[position] = Some(shadow);
            let mut lost = self.lost();
            if lost.len() < MOST_LOST {
                lost.insert(name);
            }
        }
        Ok(())
    }

    /// The side records of these repositories, from what was `found` under `keys` or else from the stores.
    async fn sides(
        &self,
        names: &[Name],
        keys: &[Key],
        found: &[Option<Entry>],
    ) -> Result<Vec<Option<Entry>>, StoreError> {
        let asked = keys.iter().zip(found).filter_map(|(key, found)| match key {
            Key::Side(name) => Some((name, found.clone())),
            _ => None,
        });
        let asked: HashMap<&Name, Option<Entry>> = asked.collect();
        let mut sides: Vec<Option<Entry>> =
            names.iter().map(|name| asked.get(name).cloned().flatten()).collect();
        let missing: Vec<usize> = (0..sides.len()).filter(|position| sides[*position].is_none()).collect();
        if missing.is_empty() {
            return Ok(sides);
        }
        let missing_keys: Vec<Key> =
            missing.iter().map(|position| Key::Side(names[*position].clone())).collect();
        let remote = self.remote.get_many(&missing_keys).await?;
        let local = self.local.get_many(&missing_keys).await;
        for ((position, remote), local) in missing.into_iter().zip(remote).zip(local) {
            sides[position] = remote.or(local);
        }
        Ok(sides)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Reader for Tiered {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let mut found = self.get_many(std::slice::from_ref(key)).await?;
        Ok(found.pop().flatten())
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>, StoreError> {
        let mut found = self.local.get_immutable(keys).await;
        let asked: Vec<usize> = (0..keys.len()).filter(|position| found[*position].is_none()).collect();
        if asked.is_empty() {
            return Ok(found);
        }
        let asked_keys: Vec<Key> = asked.iter().map(|position| keys[*position].clone()).collect();
        let removals = self.local.removals();
        let answers = self.remote.get_many(&asked_keys).await?;
        for (position, answer) in asked.into_iter().zip(answers) {
            if let Some(entry) = &answer {
                self.arrived(&keys[position], entry, removals);
            }
            found[position] = answer;
        }
        self.fill_from_shadows(keys, &mut found).await?;
        Ok(found)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Client for Tiered {
    async fn set(&self, key: Key, entry: Entry) -> Result<(), StoreError> {
        self.set_many(vec![(key, entry)]).await
    }

    /// What never changes is kept locally also when the remote store fails: whoever tries again need not fetch it again.
    async fn set_many(&self, entries: Vec<(Key, Entry)>) -> Result<(), StoreError> {
        let mut kept: Vec<(Key, Entry)> =
            entries.iter().filter(|(key, _)| key.is_immutable() || is_shadowed(key)).cloned().collect();
        let written = match self.restore_what_is_written(&entries).await {
            Ok(()) => self.remote.set_many(entries).await,
            Err(error) => Err(error),
        };
        if written.is_err() {
            kept.retain(|(key, _)| key.is_immutable());
        }
        self.local.write(kept).await;
        written
    }

    /// A head that the remote store has lost counts as what its shadow says, and one that was restored as the one that
    /// was lost.
    async fn compare_and_set(
        &self,
        key: Key,
        expected: Option<Entry>,
        entry: Entry,
    ) -> Result<bool, StoreError> {
        let mut done = self.remote.compare_and_set(key.clone(), expected.clone(), entry.clone()).await?;
        if let (false, Key::Head(name), Some(expected)) = (done, &key, &expected) {
            done = self.replace_lost_or_restored(name, expected, &entry).await?;
        }
        if done && (key.is_immutable() || is_shadowed(&key)) {
            self.local.write(vec![(key, entry)]).await;
        }
        Ok(done)
    }

    async fn delete(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        // The local copies first: after a crash in between, no shadow may outlive what it is the shadow of.
        self.local.delete(&keys).await;
        let deleted = self.remote.delete(keys.clone()).await;
        if keys.iter().any(is_shadowed) {
            // Whoever read it from the remote store meanwhile has it kept again; and if they are yet to do so, this makes
            // them too late.
            self.local.delete(&keys).await;
        }
        deleted
    }

    async fn lease(&self, key: &Key, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.remote.lease(key, holder, ttl).await
    }

    fn kind(&self) -> &'static str {
        self.remote.kind()
    }

    fn is_shared(&self) -> bool {
        self.remote.is_shared()
    }

    fn time_to_live(&self) -> Option<Duration> {
        self.remote.time_to_live()
    }

    /// Renews what the remote store has, and puts back what never changes and only the local one still has.
    async fn renew(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        // First: a remote store without room for what is put back must not let the rest expire.
        self.remote.renew(keys.clone()).await?;
        self.put_back(&keys).await
    }

    /// Of the remote store.
    async fn statistics(&self) -> Result<Statistics, StoreError> {
        self.remote.statistics().await
    }

    /// What the remote store holds.
    fn scan(&self) -> BoxStream<'_, Result<(Key, Entry), StoreError>> {
        self.remote.scan()
    }

    fn scan_repositories(&self) -> BoxStream<'_, Result<Key, StoreError>> {
        self.remote.scan_repositories()
    }
}
