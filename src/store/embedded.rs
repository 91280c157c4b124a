//! The default engine: one directory, one process, crash-safe, on redb.
//!
//! Reads run on the caller's thread (microseconds) or, for many keys, on a blocking one. Writes go through one
//! thread, which commits whatever has queued up in one transaction: the more there is, the less each one costs.
//!
//! It is a cache: a file that is damaged or of another version is moved aside and kept, and a fresh one begun.

mod directory;
mod engine;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use redb::{ReadableDatabase, TableDefinition};

use self::engine::Engine;
use self::writer::{Operation, Writer};
use super::leases::Leases;
use super::{Client, Entry, Key, Reader, StoreError};

/// Entries: the key's text, then the refresh deadline (8 bytes, see [`encode`]) and the value.
const ENTRIES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("entries");

/// Reading more keys than this leaves the runtime's thread: the pages may have to come from the disk.
const MOST_KEYS_INLINE: usize = 8;

/// A store in a directory of its own.
#[derive(Debug)]
pub struct Embedded {
    engine: Arc<Engine>,
    writer: Writer,
    leases: Leases,
}

impl Embedded {
    /// Opens the store at `path`, which becomes a directory, and locks it. `now` names what is moved aside.
    pub fn open(path: &Path, now: Timestamp) -> Result<Self, StoreError> {
        let engine = Arc::new(Engine::open(path, now)?);
        let writer = Writer::start(Arc::clone(&engine));
        Ok(Self { engine, writer, leases: Leases::default() })
    }
}

fn unavailable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable { message: error.to_string() }
}

fn read_entries(database: &redb::Database, keys: &[Key]) -> Result<Vec<Option<Entry>>, redb::Error> {
    let table = database.begin_read()?.open_table(ENTRIES)?;
    keys.iter()
        .map(|key| Ok(table.get(key.to_string().as_str())?.and_then(|found| decode(found.value()))))
        .collect()
}

/// Milliseconds since 1970, little endian; the least number where there is no deadline.
fn encode(entry: &Entry) -> Vec<u8> {
    let refresh_at = entry.refresh_at.map_or(i64::MIN, Timestamp::as_millisecond);
    let mut stored = Vec::with_capacity(8 + entry.value.len());
    stored.extend(refresh_at.to_le_bytes());
    stored.extend_from_slice(&entry.value);
    stored
}

fn decode(stored: &[u8]) -> Option<Entry> {
    let (refresh_at, value) = stored.split_first_chunk::<8>()?;
    let refresh_at = Timestamp::from_millisecond(i64::from_le_bytes(*refresh_at)).ok();
    Some(Entry { value: value.to_vec().into(), refresh_at })
}

#[async_trait]
impl Reader for Embedded {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let mut found = self.get_many(std::slice::from_ref(key)).await?;
        Ok(found.pop().flatten())
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>, StoreError> {
        if keys.len() <= MOST_KEYS_INLINE {
            return self.engine.read(|database| read_entries(database, keys));
        }
        let (engine, keys) = (Arc::clone(&self.engine), keys.to_vec());
        let read = move || engine.read(|database| read_entries(database, &keys));
        tokio::task::spawn_blocking(read).await.map_err(unavailable)?
    }
}

#[async_trait]
impl Client for Embedded {
    async fn set(&self, key: Key, entry: Entry) -> Result<(), StoreError> {
        self.set_many(vec![(key, entry)]).await
    }

    async fn set_many(&self, entries: Vec<(Key, Entry)>) -> Result<(), StoreError> {
        self.writer.run(Operation::Set(entries)).await.map(drop)
    }

    async fn compare_and_set(
        &self,
        key: Key,
        expected: Option<Entry>,
        entry: Entry,
    ) -> Result<bool, StoreError> {
        self.writer.run(Operation::CompareAndSet { key, expected, entry }).await
    }

    async fn delete(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        self.writer.run(Operation::Delete(keys)).await.map(drop)
    }

    async fn lease(&self, key: &Key, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        Ok(self.leases.lease(key, holder, ttl))
    }

    fn kind(&self) -> &'static str {
        "embedded"
    }
}
