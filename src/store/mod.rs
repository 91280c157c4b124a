//! The key-value store that everything learnt is kept in: one trait, several engines.
//!
//! [`Reader`] gets, [`Client`] also sets, compares-and-sets, deletes and leases. The engines know nothing of
//! images: they keep [`Entry`] values under [`Key`]s. What the values mean is said in [`crate::cache`].
//!
//! Invariants that every engine keeps (the conformance suite in `tests/store_conformance.rs` runs on all):
//! - a value comes back byte for byte, or not at all;
//! - `compare_and_set` is atomic against every other writer of the key;
//! - a dropped future leaves the engine usable, and its effect either happened as a whole or not at all.

mod documents;
mod embedded;
mod envelope;
mod key;
mod leases;
mod memory;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

pub use documents::{Documents, StoredDocument};
pub use embedded::Embedded;
pub use envelope::{EnvelopeError, MAX_DECODED_BYTES, open, seal};
pub use key::{ContentHash, Key};
pub use memory::Memory;

/// A stored value and when what it says should next be looked at again. The deadline is a hint to whoever
/// refreshes: an entry does not disappear when it passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The bytes.
    pub value: Bytes,
    /// The refresh deadline, kept to the millisecond; `None` for what never changes.
    pub refresh_at: Option<Timestamp>,
}

impl Entry {
    /// An entry that never needs a refresh.
    pub fn immutable(value: impl Into<Bytes>) -> Self {
        Self { value: value.into(), refresh_at: None }
    }
}

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
