//! A store in memory that passes everything on, with hooks for what a test wants to count or to fail.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use samovar::store::{Client, Entry, Key, Memory, Reader, Statistics, StoreError};

/// What is done with keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Set,
    CompareAndSet,
    Delete,
}

/// What a test has to say; by default nothing.
pub(crate) trait Hooks: Debug + Send + Sync + 'static {
    /// Before something is done with these keys. An error is what the caller gets.
    fn before(&self, _access: Access, _keys: &[&Key]) -> Result<(), StoreError> {
        Ok(())
    }

    /// What a scan tells.
    fn scanned<'a>(
        &self,
        keys: BoxStream<'a, Result<Key, StoreError>>,
    ) -> BoxStream<'a, Result<Key, StoreError>> {
        keys
    }

    /// How long entries live.
    fn time_to_live(&self) -> Option<Duration> {
        None
    }
}

/// The store.
#[derive(Debug, Default)]
pub(crate) struct Hooked<H> {
    store: Memory,
    pub(crate) hooks: H,
}

impl<H> Hooked<H> {
    pub(crate) fn with(hooks: H) -> Self {
        Self { store: Memory::default(), hooks }
    }
}

#[async_trait]
impl<H: Hooks> Reader for Hooked<H> {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.hooks.before(Access::Read, &[key])?;
        self.store.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>, StoreError> {
        self.hooks.before(Access::Read, &keys.iter().collect::<Vec<_>>())?;
        self.store.get_many(keys).await
    }
}

#[async_trait]
impl<H: Hooks> Client for Hooked<H> {
    async fn set(&self, key: Key, entry: Entry) -> Result<(), StoreError> {
        self.hooks.before(Access::Set, &[&key])?;
        self.store.set(key, entry).await
    }

    async fn set_many(&self, entries: Vec<(Key, Entry)>) -> Result<(), StoreError> {
        self.hooks.before(Access::Set, &entries.iter().map(|(key, _)| key).collect::<Vec<_>>())?;
        self.store.set_many(entries).await
    }

    async fn compare_and_set(
        &self,
        key: Key,
        expected: Option<Entry>,
        entry: Entry,
    ) -> Result<bool, StoreError> {
        self.hooks.before(Access::CompareAndSet, &[&key])?;
        self.store.compare_and_set(key, expected, entry).await
    }

    async fn delete(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        self.hooks.before(Access::Delete, &keys.iter().collect::<Vec<_>>())?;
        self.store.delete(keys).await
    }

    async fn lease(&self, key: &Key, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.store.lease(key, holder, ttl).await
    }

    fn kind(&self) -> &'static str {
        "hooked"
    }

    fn time_to_live(&self) -> Option<Duration> {
        self.hooks.time_to_live()
    }

    async fn statistics(&self) -> Result<Statistics, StoreError> {
        self.store.statistics().await
    }

    fn scan(&self) -> BoxStream<'_, Result<(Key, Entry), StoreError>> {
        self.store.scan()
    }

    fn scan_repositories(&self) -> BoxStream<'_, Result<Key, StoreError>> {
        self.hooks.scanned(self.store.scan_repositories())
    }
}
