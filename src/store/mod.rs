//! The key-value store that everything learnt is kept in: one trait, several engines.
//!
//! [`Reader`] gets, [`Client`] also sets, compares-and-sets, deletes and leases. The engines know nothing of
//! images: they keep [`Entry`] values under [`Key`]s. What the values mean is said in [`crate::cache`].
//!
//! Invariants that every engine keeps (the conformance suite in `tests/store_conformance.rs` runs on all):
//! - a value comes back byte for byte, or not at all;
//! - `compare_and_set` is atomic against every other writer of the key;
//! - a dropped future leaves the engine usable, and its effect either happened as a whole or not at all.

mod archive;
mod documents;
mod embedded;
mod entry;
mod envelope;
mod instrumented;
mod key;
mod leases;
mod memcached;
mod memory;
mod redis;
mod tiered;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use serde::Serialize;

pub use archive::{ArchiveError, ArchiveReader, ArchiveSummary, ArchiveWriter, Record};
pub use documents::{Beginning, Documents, StoredDocument};
pub use embedded::{Compaction, Embedded, EmbeddedOptions, SetAside};
pub use entry::Entry;
pub use envelope::{EnvelopeError, MAX_DECODED_BYTES, open, seal, seal_parts};
pub use instrumented::Instrumented;
pub use key::{ContentHash, Key, UnknownKey};
pub use memcached::{Memcached, MemcachedOptions};
pub use memory::Memory;
pub use redis::{Redis, RedisOptions, RedisTopology};
pub use tiered::Tiered;

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has the store open.
    #[error("the store at {path} is in use by {holder}")]
    Locked {
        /// Where the store is.
        path: String,
        /// Who holds it: process id and command, as far as it told.
        holder: String,
    },
    /// The engine cannot be reached or failed; the same call may succeed later.
    #[error("the store is unavailable: {message}")]
    Unavailable {
        /// What the engine said.
        message: String,
    },
    /// The server answers, but refuses us: a wrong password or user, a right that is missing.
    #[error("the store refuses us: {message}")]
    Denied {
        /// What it said, without secrets.
        message: String,
    },
    /// What answers is not such a server, or speaks another version.
    #[error("what answers is no such store: {message}")]
    Protocol {
        /// What was wrong with the answer.
        message: String,
    },
    /// There is no room, and nothing left that may go.
    #[error("the store is full: {message}")]
    Full {
        /// Which bound was reached.
        message: String,
    },
}

/// What a store holds and where its bounds are, as far as the engine can tell. As JSON, what it cannot tell is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Statistics {
    /// Entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// Bytes of keys and values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_bytes: Option<u64>,
    /// Bytes that the engine takes up on disk or in the server's memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    /// What it may take up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// Entries that had to go for want of room, since the start of the process or server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evicted: Option<u64>,
    /// It has just refused to store something for want of room.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub full: bool,
}

/// Reads entries.
#[async_trait]
pub trait Reader: Debug + Send + Sync {
    /// The entry under `key`, or `None`.
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError>;

    /// The entries under `keys`, in their order, in a constant number of round trips.
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>, StoreError>;
}

/// Reads and writes entries. Writes are durable when the future completes, where the engine is.
#[async_trait]
pub trait Client: Reader {
    /// Stores one entry.
    async fn set(&self, key: Key, entry: Entry) -> Result<(), StoreError>;

    /// Stores several entries. Engines with transactions store all or none; others may store some.
    async fn set_many(&self, entries: Vec<(Key, Entry)>) -> Result<(), StoreError>;

    /// Stores `entry` if what is stored now is `expected` (value and deadline; `None`: nothing is stored).
    /// Says whether it did.
    async fn compare_and_set(
        &self,
        key: Key,
        expected: Option<Entry>,
        entry: Entry,
    ) -> Result<bool, StoreError>;

    /// Removes the keys that are there.
    async fn delete(&self, keys: Vec<Key>) -> Result<(), StoreError>;

    /// Takes or renews the lease named `key` for `holder` and says whether `holder` has it now. It ends after
    /// `ttl` unless renewed; a `ttl` of zero gives it back.
    async fn lease(&self, key: &Key, holder: &str, ttl: Duration) -> Result<bool, StoreError>;

    /// What kind of engine this is, for status and metrics.
    fn kind(&self) -> &'static str;

    /// Whether other processes may use the same entries at the same time.
    fn is_shared(&self) -> bool {
        false
    }

    /// How long an entry stays that nobody writes or renews; `None` where entries stay for good.
    fn time_to_live(&self) -> Option<Duration> {
        None
    }

    /// Gives the entries that are there their whole time to live again.
    async fn renew(&self, _keys: Vec<Key>) -> Result<(), StoreError> {
        Ok(())
    }

    /// What the store holds, cheaply: for status and metrics.
    async fn statistics(&self) -> Result<Statistics, StoreError> {
        Ok(Statistics::default())
    }

    /// Every entry of ours, in no order, without those that only coordinate replicas. Entries that are written meanwhile may be missed.
    fn scan(&self) -> BoxStream<'_, Result<(Key, Entry), StoreError>> {
        let message = format!("a {} store cannot list what it holds", self.kind());
        stream::once(async { Err(StoreError::Unavailable { message }) }).boxed()
    }

    /// The keys of all that is kept of repositories, in no order, without documents. As [`Client::scan`], and cheaper where an
    /// engine need not read the values.
    fn scan_repositories(&self) -> BoxStream<'_, Result<Key, StoreError>> {
        let keys = self.scan().try_filter_map(async |(key, _)| Ok(key.repository().is_some().then_some(key)));
        keys.boxed()
    }
}

#[async_trait]
impl<T: Reader + ?Sized> Reader for Arc<T> {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        (**self).get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>, StoreError> {
        (**self).get_many(keys).await
    }
}
