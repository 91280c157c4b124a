//! memcached as a store: a pool of servers that may forget anything at any time.
//!
//! What it forgets reads as a miss and is fetched again. What must not read as a miss is what cannot be asked: a repository
//! whose head or pages are on a server that is down would be taken for lost or torn, listed anew, and put in place of good
//! data; without its side records every tag would be asked about again; and a lease would be given to two. So everything is
//! an error while its server is set aside, but documents: they miss, as after an eviction, and are fetched by their digest.
//!
//! Entries stay for 30 days unless somebody renews them, by the servers' clocks.

#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use samovar_memcached::{Error, Expiry, Options, Outcome, Pool};

use super::{Client, Entry, Key, Reader, Statistics, StoreError};

/// How long entries stay that nobody writes or renews: the longest time that does not depend on the servers' dates.
const TIME_TO_LIVE: Duration = Duration::from_hours(30 * 24);
/// How many entries a scan holds at once.
const SCANNED_AT_ONCE: usize = 64;

/// How to reach the servers, and what our keys begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemcachedOptions {
    /// The pool.
    pub pool: Options,
    /// What every key begins with, so that several samovars can share servers.
    pub prefix: String,
}

/// A store in a pool of memcached servers.
#[derive(Debug)]
pub struct Memcached {
    pool: Pool,
    prefix: String,
}

impl Memcached {
    /// A store in these servers. Looks their names up and dials none of them: a server that is down shows when it is first
    /// needed.
    pub async fn open(options: MemcachedOptions) -> Result<Self, StoreError> {
        let pool = Pool::open(options.pool).await?;
        Ok(Self { pool, prefix: options.prefix })
    }

    /// What an entry is kept under.
    fn stored(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    fn all_stored(&self, keys: &[Key]) -> Vec<String> {
        keys.iter().map(|key| self.stored(key)).collect()
    }

    /// The key that an item is stored for; `None` for what is not ours, or not ours to tell others of.
    fn scanned(&self, stored: &[u8]) -> Option<Key> {
        let text = std::str::from_utf8(stored).ok()?;
        let key: Key = text.strip_prefix(&self.prefix)?.parse().ok()?;
        (!key.is_coordination()).then_some(key)
    }

    /// What is read under `key`, of what is known of it.
    fn entry(&self, key: &Key, outcome: Outcome) -> Result<Option<Entry>, StoreError> {
        match outcome {
            Outcome::Hit(stored) => Ok(Entry::decode(&stored)),
            Outcome::SetAside(error) if must_be_known(key) || !self.pool.reads_as_miss(&error) => {
                Err(error.into())
            }
            Outcome::Miss | Outcome::SetAside(_) => Ok(None),
        }
    }

    async fn scanned_entries(&self, keys: Vec<Key>) -> Result<Vec<(Key, Entry)>, StoreError> {
        let outcomes = self.pool.look_up(&self.all_stored(&keys)).await;
        let mut entries = Vec::with_capacity(keys.len());
        for (key, outcome) in keys.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Hit(stored) => entries.extend(Entry::decode(&stored).map(|entry| (key, entry))),
                Outcome::Miss => {}
                Outcome::SetAside(error) => return Err(error.into()),
            }
        }
        Ok(entries)
    }
}

/// Whether nothing may be concluded from a server that does not answer.
fn must_be_known(key: &Key) -> bool {
    !key.is_document()
}

#[async_trait]
impl Reader for Memcached {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let mut found = self.get_many(std::slice::from_ref(key)).await?;
        Ok(found.pop().flatten())
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>, StoreError> {
        let outcomes = self.pool.look_up(&self.all_stored(keys)).await;
        keys.iter().zip(outcomes).map(|(key, outcome)| self.entry(key, outcome)).collect()
    }
}

#[async_trait]
impl Client for Memcached {
    async fn set(&self, key: Key, entry: Entry) -> Result<(), StoreError> {
        Ok(self.pool.set(self.stored(&key), entry.encode(), Expiry::After(TIME_TO_LIVE)).await?)
    }

    async fn set_many(&self, entries: Vec<(Key, Entry)>) -> Result<(), StoreError> {
        let items = entries.iter().map(|(key, entry)| (self.stored(key), entry.encode()));
        Ok(self.pool.set_many(items, Expiry::After(TIME_TO_LIVE)).await?)
    }

    async fn compare_and_set(
        &self,
        key: Key,
        expected: Option<Entry>,
        entry: Entry,
    ) -> Result<bool, StoreError> {
        let stored = self.stored(&key);
        let (value, expiry) = (entry.encode(), Expiry::After(TIME_TO_LIVE));
        let Some(current) = self.pool.get_versioned(&stored).await? else {
            return Ok(expected.is_none() && self.pool.add(&stored, value, expiry).await?);
        };
        if Entry::decode(&current.value) != expected {
            return Ok(false);
        }
        Ok(self.pool.compare_and_swap(&stored, current.token, value, expiry).await?)
    }

    async fn delete(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        Ok(self.pool.delete_many(&self.all_stored(&keys)).await?)
    }

    async fn lease(&self, key: &Key, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        let stored = self.stored(key);
        if ttl.is_zero() {
            self.pool.release_lease(&stored, holder).await?;
            return Ok(false);
        }
        Ok(self.pool.acquire_lease(&stored, holder, ttl).await?)
    }

    fn kind(&self) -> &'static str {
        "memcached"
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn time_to_live(&self) -> Option<Duration> {
        Some(TIME_TO_LIVE)
    }

    async fn renew(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        Ok(self.pool.touch_many(&self.all_stored(&keys), Expiry::After(TIME_TO_LIVE)).await?)
    }

    /// Of the servers that answer, with whatever else they hold.
    async fn statistics(&self) -> Result<Statistics, StoreError> {
        let mut answers = Vec::new();
        let mut last_error = None;
        for (_, answer) in self.pool.statistics().await {
            match answer {
                Ok(statistics) => answers.push(statistics),
                Err(error) => last_error = Some(error),
            }
        }
        if let (true, Some(error)) = (answers.is_empty(), last_error) {
            return Err(error.into());
        }
        let sum = |name: &str| answers.iter().map(|answer| answer.get(name)?.parse::<u64>().ok()).sum();
        Ok(Statistics {
            entries: sum("curr_items"),
            value_bytes: None,
            used_bytes: sum("bytes"),
            limit_bytes: sum("limit_maxbytes"),
            evicted: sum("evictions"),
            full: false,
        })
    }

    fn scan(&self) -> BoxStream<'_, Result<(Key, Entry), StoreError>> {
        self.pool
            .keys(&self.prefix)
            .map_err(StoreError::from)
            .try_filter_map(async |stored| Ok(self.scanned(&stored)))
            .try_chunks(SCANNED_AT_ONCE)
            .map_err(|stream::TryChunksError(_, error)| error)
            .and_then(async |keys| self.scanned_entries(keys).await)
            .map_ok(|entries| stream::iter(entries).map(Ok))
            .try_flatten()
            .boxed()
    }

    fn scan_repositories(&self) -> BoxStream<'_, Result<Key, StoreError>> {
        self.pool
            .keys(&self.prefix)
            .map_err(StoreError::from)
            .try_filter_map(async |stored| Ok(self.scanned(&stored).filter(|key| key.repository().is_some())))
            .boxed()
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Protocol { .. } | Error::TooOld { .. } => Self::Protocol { message },
            Error::TooLarge { .. } | Error::OutOfMemory { .. } => Self::Full { message },
            _ => Self::Unavailable { message },
        }
    }
}
