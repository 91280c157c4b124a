//! The default engine: one directory, one process, crash-safe, bounded, on redb.
//!
//! Reads run on the caller's thread (microseconds) or, for many keys, on a blocking one. Writes go through one
//! thread, which commits whatever has queued up in one transaction: the more there is, the less each one costs. Between
//! commits the same thread keeps house: it removes what may go when space is short, and makes the file small again.
//!
//! It is a cache: a file that is damaged or of another version is moved aside and kept, and a fresh one begun.

mod back_off;
mod compaction;
mod content;
mod directory;
mod engine;
mod eviction;
mod keeper;
mod ledger;
mod operation;
mod scan;
mod schema;
mod totals;
mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use redb::ReadableDatabase;
use samovar_registry::{Clock, Name, TokioClock};
use tokio::sync::Semaphore;

use self::directory::Mode;
use self::engine::Engine;
use self::keeper::Keeper;
use self::ledger::Ledger;
use self::operation::Operation;
use self::schema::ENTRIES;
use self::totals::Totals;
use self::writer::Writer;
use super::leases::Leases;
use super::{Client, Entry, Key, Reader, Statistics, StoreError};

pub use self::compaction::Compaction;
pub use self::directory::SetAside;

/// Reading more keys than this leaves the runtime's thread. So many take a tenth of a millisecond, about what it costs to
/// leave it.
const MOST_KEYS_INLINE: usize = 32;
/// Larger readings at the same time. More would not be faster, and every thread that reads keeps freed memory to itself.
const MOST_LARGE_READINGS: usize = 2;

/// How an embedded store is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// Bytes that the database may take up on the disk. While it is compacted, the copy lies beside it.
    pub limit_bytes: u64,
}

impl EmbeddedOptions {
    /// The bound where none is chosen: 8 GiB.
    pub const DEFAULT_LIMIT_BYTES: u64 = 8 * 1024 * 1024 * 1024;
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { limit_bytes: Self::DEFAULT_LIMIT_BYTES }
    }
}

/// A store in a directory of its own.
#[derive(Debug)]
pub struct Embedded {
    engine: Arc<Engine>,
    ledger: Arc<Ledger>,
    limit_bytes: u64,
    large_readings: Semaphore,
    leases: Leases,
    // Declared last: nothing above may be gone while the thread still writes.
    writer: Writer,
}

impl Embedded {
    /// Opens the store at `path`, which becomes a directory, with the default bound. `now` is the time.
    pub fn open(path: &Path, now: Timestamp) -> Result<Self, StoreError> {
        Self::open_with(path, EmbeddedOptions::default(), Arc::new(TokioClock::starting_at(now)))
    }

    /// Opens the store at `path`, which becomes a directory, and locks it. What cannot be used is moved aside. The
    /// `clock` tells which documents were not read for longest.
    pub fn open_with(
        path: &Path,
        options: EmbeddedOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        Self::open_for(Mode::Serve, path, options, clock)
    }

    /// Opens a store that is there, to look at it or to compact it: nothing is made where there is none, nothing moved
    /// aside, and nothing has to go.
    pub fn open_existing(
        path: &Path,
        options: EmbeddedOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        Self::open_for(Mode::Inspect, path, options, clock)
    }

    fn open_for(
        mode: Mode,
        path: &Path,
        options: EmbeddedOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let engine = Arc::new(Engine::open(path, mode, clock.now())?);
        let ledger = Arc::new(Ledger::new(engine.read(Totals::of)?));
        let EmbeddedOptions { limit_bytes } = options;
        let keeps_house = mode == Mode::Serve;
        let keeper = Keeper::new(Arc::clone(&engine), Arc::clone(&ledger), clock, limit_bytes, keeps_house);
        Ok(Self {
            engine,
            ledger,
            limit_bytes,
            large_readings: Semaphore::new(MOST_LARGE_READINGS),
            leases: Leases::default(),
            writer: Writer::start(keeper),
        })
    }

    /// From now on, what belongs to repositories of which `is_watched` says no may go when space is short, after the
    /// documents. Before this is called, nothing but documents goes.
    pub fn protect(&self, is_watched: Arc<dyn Fn(&Name) -> bool + Send + Sync>) {
        self.ledger.set_watched(is_watched);
        self.writer.look_again();
    }

    /// Wakes the thread that writes when a read has broken the database: it opens it again.
    fn note_failed_read(&self) {
        if self.engine.is_to_be_mended() {
            self.writer.mend();
        }
    }

    /// Makes the file as small as its content allows, and returns when that is done. Reading and writing go on meanwhile,
    /// unless the file system has no room for a copy: then the file is compacted in place, and everybody waits.
    pub async fn compact(&self) -> Result<Compaction, StoreError> {
        self.writer.compact().await
    }

    /// Earlier store files in the directory that could not be used. They are not counted by the limit.
    pub fn set_aside(&self) -> SetAside {
        self.engine.directory().set_aside()
    }
}

/// Runs something of the engine; `None` when it panics, as it does on some kinds of damage. It may then be used on, but
/// not trusted.
fn contain_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

fn unavailable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable { message: error.to_string() }
}

/// Hours since 1970: fine enough to tell what was not read for long.
fn hour_of(time: Timestamp) -> u32 {
    u32::try_from(time.as_second() / 3600).unwrap_or(0)
}

fn read_entries(database: &redb::Database, keys: &[Key]) -> Result<Vec<Option<Entry>>, redb::Error> {
    let table = database.begin_read()?.open_table(ENTRIES)?;
    keys.iter()
        .map(|key| {
            let found = table.get(key.to_string().as_str())?;
            Ok(found.and_then(|found| Entry::decode(&found.value().to_vec().into())))
        })
        .collect()
}

#[async_trait]
impl Reader for Embedded {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let mut found = self.get_many(std::slice::from_ref(key)).await?;
        Ok(found.pop().flatten())
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>, StoreError> {
        for key in keys {
            if let Key::Document(digest) = key {
                self.ledger.note_read(digest);
            }
        }
        if keys.len() <= MOST_KEYS_INLINE {
            let read = self.engine.read(|database| read_entries(database, keys));
            return read.inspect_err(|_| self.note_failed_read());
        }
        let _permit = self.large_readings.acquire().await.map_err(unavailable)?;
        let (engine, keys) = (Arc::clone(&self.engine), keys.to_vec());
        let read = move || engine.read(|database| read_entries(database, &keys));
        let read = tokio::task::spawn_blocking(read).await.map_err(unavailable)?;
        read.inspect_err(|_| self.note_failed_read())
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

    /// Costs a look at the files' lengths.
    async fn statistics(&self) -> Result<Statistics, StoreError> {
        let (totals, directory) = (self.ledger.totals(), self.engine.directory());
        Ok(Statistics {
            entries: Some(totals.entries()),
            value_bytes: Some(totals.bytes()),
            used_bytes: Some(directory.database_bytes() + directory.replacement_bytes()),
            limit_bytes: Some(self.limit_bytes),
            evicted: Some(self.ledger.evicted()),
            full: self.ledger.is_full(),
        })
    }

    fn scan(&self) -> BoxStream<'_, Result<(Key, Entry), StoreError>> {
        scan::scan(Arc::clone(&self.engine)).inspect_err(|_| self.note_failed_read()).boxed()
    }

    fn scan_repositories(&self) -> BoxStream<'_, Result<Key, StoreError>> {
        scan::scan_repositories(Arc::clone(&self.engine)).inspect_err(|_| self.note_failed_read()).boxed()
    }
}
