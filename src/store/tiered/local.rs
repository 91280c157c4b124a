//! The local store of two: copies of what never changes, and shadows. Whatever goes wrong with it, nothing fails: what it
//! cannot read is not there, what it cannot write is not kept. Who wants to know wraps it in
//! [`Instrumented`](crate::store::Instrumented).

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use samovar_registry::Name;

use super::keeper::Offer;
use super::restoring::parts;
use crate::cache::stored::{Head, decode};
use crate::store::{Client, Entry, Key};

/// Heads and side records of which it is remembered how they look, so that seeing them again costs nothing.
const MOST_REMEMBERED: usize = 65_536;

/// Whether the last one seen of what is kept under `key` is kept locally.
pub(super) fn is_shadowed(key: &Key) -> bool {
    matches!(key, Key::Head(_) | Key::Side(_))
}

/// How many times heads or side records were deleted, since the start. Whoever is about to keep what the remote store
/// answered compares it with what it was before the remote store was asked: the answer may be of what is gone since.
///
/// It is counted for all repositories together. Removals are rare, and what is not kept for one that had nothing to do
/// with it is offered again when it is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Removals(u64);

#[derive(Debug)]
pub(super) struct Local {
    client: Arc<dyn Client>,
    removals: AtomicU64,
    /// Hashes of the shadows that were written or found to be as they should.
    seen: Mutex<LruCache<Key, u64>>,
    hasher: RandomState,
}

impl Local {
    pub(super) fn new(client: Arc<dyn Client>) -> Self {
        Self {
            client,
            removals: AtomicU64::new(0),
            seen: Mutex::new(LruCache::unbounded()),
            hasher: RandomState::new(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, LruCache<Key, u64>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hash(&self, entry: &Entry) -> u64 {
        self.hasher.hash_one((&entry.value, entry.refresh_at))
    }

    /// Whether the shadow of `key` is known to be this entry.
    pub(super) fn is_last_seen(&self, key: &Key, entry: &Entry) -> bool {
        let hash = self.hash(entry);
        self.seen().get(key) == Some(&hash)
    }

    fn remember(&self, key: &Key, entry: &Entry) {
        let hash = self.hash(entry);
        let mut seen = self.seen();
        seen.put(key.clone(), hash);
        if seen.len() > MOST_REMEMBERED {
            seen.pop_lru();
        }
    }

    /// How many removals there were by now.
    pub(super) fn removals(&self) -> Removals {
        Removals(self.removals.load(Ordering::SeqCst))
    }

    /// What is kept under `key`.
    pub(super) async fn get(&self, key: &Key) -> Option<Entry> {
        self.client.get(key).await.ok().flatten()
    }

    /// What is kept under `keys`.
    pub(super) async fn get_many(&self, keys: &[Key]) -> Vec<Option<Entry>> {
        if keys.is_empty() {
            return Vec::new();
        }
        self.client.get_many(keys).await.unwrap_or_else(|_| vec![None; keys.len()])
    }

    /// What is kept under those of `keys` that never change; nothing for the others.
    pub(super) async fn get_immutable(&self, keys: &[Key]) -> Vec<Option<Entry>> {
        let mut found = vec![None; keys.len()];
        let positions: Vec<usize> =
            (0..keys.len()).filter(|position| keys[*position].is_immutable()).collect();
        let immutable: Vec<Key> = positions.iter().map(|position| keys[*position].clone()).collect();
        for (position, entry) in positions.into_iter().zip(self.get_many(&immutable).await) {
            found[position] = entry;
        }
        found
    }

    /// Keeps what has just been written to the remote store.
    pub(super) async fn write(&self, entries: Vec<(Key, Entry)>) {
        if entries.is_empty() {
            return;
        }
        let shadows: Vec<(Key, Entry)> =
            entries.iter().filter(|(key, _)| is_shadowed(key)).cloned().collect();
        match self.client.set_many(entries).await {
            Ok(()) => shadows.iter().for_each(|(key, entry)| self.remember(key, entry)),
            // It is not known what the shadows say now: the next look at them writes them again.
            Err(_) => self.forget(shadows.iter().map(|(key, _)| key)),
        }
    }

    /// Keeps copies of what never changes and was read from the remote store.
    pub(super) async fn keep(&self, offers: Vec<Offer>) {
        let now = self.removals();
        let current = offers.into_iter().filter(|offer| offer.removals == now);
        let entries: Vec<(Key, Entry)> = current.map(|offer| (offer.key, offer.entry)).collect();
        if !entries.is_empty() {
            // Told by whoever measures the client; the next read tries again.
            let _ = self.client.set_many(entries).await;
        }
    }

    /// Makes what is offered, as the remote store answered some time ago, the shadow of its key, unless a newer one is
    /// there or something was removed since. Pages that only the shadow before it named are removed: nobody else does so
    /// where another replica writes.
    pub(super) async fn follow(&self, Offer { key, entry, removals }: Offer) {
        if self.removals() != removals {
            return;
        }
        let Ok(current) = self.client.get(&key).await else { return };
        if current.as_ref() == Some(&entry) {
            self.remember(&key, &entry);
            return;
        }
        let (before, now) = (decode::<Head>(current.as_ref()), decode::<Head>(Some(&entry)));
        let is_older = match (&before, &now) {
            (Some(before), Some(now)) => now.generation < before.generation,
            _ => false,
        };
        // A comparison, because the writer of this process may have been here since.
        if is_older
            || !self.client.compare_and_set(key.clone(), current, entry.clone()).await.unwrap_or(false)
        {
            return;
        }
        if self.removals() != removals {
            // Removed between the look and the comparison, to which nothing there is nothing there. A removal that is
            // counted only after this takes the shadow with it.
            self.remove(&[key]).await;
            return;
        }
        self.remember(&key, &entry);
        if let (Key::Head(name), Some(before), Some(now)) = (&key, before, now) {
            self.delete_what_only(&before, &now, name).await;
        }
    }

    /// Removes the parts of the head `before` that the head `now` has not, if they can be told.
    async fn delete_what_only(&self, before: &Head, now: &Head, name: &Name) {
        let (before, now) = (parts(&*self.client, name, before).await, parts(&*self.client, name, now).await);
        let (Ok(before), Ok(now)) = (before, now) else { return };
        if now.are_all_known {
            self.delete(&before.keys.difference(&now.keys).cloned().collect::<Vec<_>>()).await;
        }
    }

    /// Removes what is kept under `keys`, for good: what was read of it before is not kept any more.
    pub(super) async fn delete(&self, keys: &[Key]) {
        if keys.iter().any(is_shadowed) {
            // Before anything is removed: who does not see the number grow has written before.
            self.removals.fetch_add(1, Ordering::SeqCst);
        }
        self.remove(keys).await;
    }

    async fn remove(&self, keys: &[Key]) {
        if keys.is_empty() {
            return;
        }
        self.forget(keys.iter());
        let _ = self.client.delete(keys.to_vec()).await;
    }

    fn forget<'a>(&self, keys: impl Iterator<Item = &'a Key>) {
        let mut seen = self.seen();
        for key in keys.filter(|key| is_shadowed(key)) {
            seen.pop(key);
        }
    }
}
