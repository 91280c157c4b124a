//! An engine in this process's memory: for tests, for trying out, and for those who want nothing on disk.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use lru::LruCache;

use super::leases::Leases;
use super::{Client, Entry, Key, Reader, Statistics, StoreError};

/// What an entry costs beyond its value: key, links, allocation.
const OVERHEAD_BYTES: usize = 200;

/// A bounded store in memory. When the bound is reached, raw documents go first, then what was read longest ago.
#[derive(Debug)]
pub struct Memory {
    kept: Mutex<Kept>,
    leases: Leases,
    limit_bytes: usize,
}

#[derive(Debug)]
struct Kept {
    documents: LruCache<Key, Entry>,
    rest: LruCache<Key, Entry>,
    bytes: usize,
    evicted: u64,
}

impl Memory {
    /// The bound where none is chosen: 256 MiB.
    pub const DEFAULT_LIMIT_BYTES: usize = 256 * 1024 * 1024;

    /// An empty store that holds at most about `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Self {
        let kept =
            Kept { documents: LruCache::unbounded(), rest: LruCache::unbounded(), bytes: 0, evicted: 0 };
        Self { kept: Mutex::new(kept), leases: Leases::default(), limit_bytes }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(Self::DEFAULT_LIMIT_BYTES)
    }
}

impl Kept {
    fn side(&mut self, key: &Key) -> &mut LruCache<Key, Entry> {
        if key.is_document() { &mut self.documents } else { &mut self.rest }
    }

    fn get(&mut self, key: &Key) -> Option<Entry> {
        self.side(key).get(key).cloned()
    }

    fn put(&mut self, key: Key, entry: Entry, limit_bytes: usize) {
        self.bytes += entry.value.len() + OVERHEAD_BYTES;
        if let Some(replaced) = self.side(&key).put(key, entry) {
            self.bytes -= replaced.value.len() + OVERHEAD_BYTES;
        }
        while self.bytes > limit_bytes {
            let Some((_, evicted)) = self.documents.pop_lru().or_else(|| self.rest.pop_lru()) else {
                return;
            };
            self.bytes -= evicted.value.len() + OVERHEAD_BYTES;
            self.evicted += 1;
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(removed) = self.side(key).pop(key) {
            self.bytes -= removed.value.len() + OVERHEAD_BYTES;
        }
    }
}

#[async_trait]
impl Reader for Memory {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        Ok(self.kept().get(key))
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>, StoreError> {
        let mut kept = self.kept();
        Ok(keys.iter().map(|key| kept.get(key)).collect())
    }
}

#[async_trait]
impl Client for Memory {
    async fn set(&self, key: Key, entry: Entry) -> Result<(), StoreError> {
        self.kept().put(key, entry, self.limit_bytes);
        Ok(())
    }

    async fn set_many(&self, entries: Vec<(Key, Entry)>) -> Result<(), StoreError> {
        let mut kept = self.kept();
        for (key, entry) in entries {
            kept.put(key, entry, self.limit_bytes);
        }
        Ok(())
    }

    async fn compare_and_set(
        &self,
        key: Key,
        expected: Option<Entry>,
        entry: Entry,
    ) -> Result<bool, StoreError> {
        let mut kept = self.kept();
        let unchanged = kept.get(&key) == expected;
        if unchanged {
            kept.put(key, entry, self.limit_bytes);
        }
        Ok(unchanged)
    }

    async fn delete(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        let mut kept = self.kept();
        for key in &keys {
            kept.remove(key);
        }
        Ok(())
    }

    async fn lease(&self, key: &Key, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        Ok(self.leases.lease(key, holder, ttl))
    }

    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn statistics(&self) -> Result<Statistics, StoreError> {
        let kept = self.kept();
        let bytes = |count: usize| Some(count as u64);
        let entries = kept.documents.len() + kept.rest.len();
        Ok(Statistics {
            entries: Some(entries as u64),
            value_bytes: bytes(kept.bytes - entries * OVERHEAD_BYTES),
            used_bytes: bytes(kept.bytes),
            limit_bytes: bytes(self.limit_bytes),
            evicted: Some(kept.evicted),
            full: false,
        })
    }

    fn scan(&self) -> BoxStream<'_, Result<(Key, Entry), StoreError>> {
        let entries: Vec<_> = {
            let kept = self.kept();
            let all = kept.documents.iter().chain(kept.rest.iter());
            let learnt = all.filter(|(key, _)| !key.is_coordination());
            learnt.map(|(key, entry)| Ok((key.clone(), entry.clone()))).collect()
        };
        stream::iter(entries).boxed()
    }

    fn scan_repositories(&self) -> BoxStream<'_, Result<Key, StoreError>> {
        let keys: Vec<_> = {
            let kept = self.kept();
            let of_repositories = kept.rest.iter().filter(|(key, _)| key.repository().is_some());
            of_repositories.map(|(key, _)| Ok(key.clone())).collect()
        };
        stream::iter(keys).boxed()
    }
}

#[cfg(test)]
mod tests {
    use samovar_registry::Digest;

    use super::*;

    #[tokio::test]
    async fn documents_are_evicted_before_anything_else() {
        let store = Memory::new(4000);
        let head = Key::Head("docker.io/library/alpine".parse().unwrap());
        store.set(head.clone(), Entry::immutable(vec![1; 500])).await.unwrap();
        for number in 0..20_u8 {
            let key = Key::Document(Digest::sha256(&[number]));
            store.set(key, Entry::immutable(vec![number; 800])).await.unwrap();
        }
        assert!(store.get(&head).await.unwrap().is_some());
        assert!(store.kept().bytes <= 4000);
        assert_eq!(store.kept().documents.len(), 3, "(4000 - 700) / 1000");
        let statistics = Statistics {
            entries: Some(4),
            value_bytes: Some(500 + 3 * 800),
            used_bytes: Some(700 + 3 * 1000),
            limit_bytes: Some(4000),
            evicted: Some(17),
            full: false,
        };
        assert_eq!(store.statistics().await.unwrap(), statistics);
    }

    #[tokio::test]
    async fn everything_is_listed_but_what_coordinates() {
        let store = Memory::default();
        let learnt =
            [Key::Head("docker.io/library/alpine".parse().unwrap()), Key::Document(Digest::sha256(b"x"))];
        for key in learnt.iter().chain([&Key::Asked("docker.io".to_owned())]) {
            store.set(key.clone(), Entry::immutable(key.to_string())).await.unwrap();
        }
        let mut listed: Vec<Key> = store
            .scan()
            .map(|listed| {
                let (key, entry) = listed.unwrap();
                assert_eq!(entry, Entry::immutable(key.to_string()));
                key
            })
            .collect()
            .await;
        listed.sort();
        assert_eq!(listed, learnt);
    }
}
