//! A store whose writes are told to the hot set.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use samovar_registry::Name;

use super::HotSet;
use crate::store::{Client, Entry, Key, Reader, Statistics, StoreError};

/// Passes everything through to `inner`. What it writes of a repository is stale in the hot set before the write returns.
///
/// A write that fails, or whose future is dropped, may have taken place: then, too, the repository is read again.
#[derive(Debug, Clone)]
pub struct Coherent {
    inner: Arc<dyn Client>,
    hot: Arc<HotSet>,
}

impl Coherent {
    /// Tells `hot` what is written to `inner`.
    pub fn new(inner: Arc<dyn Client>, hot: Arc<HotSet>) -> Self {
        Self { inner, hot }
    }

    fn writing<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Writing<'_> {
        // Nothing that is answered is made from what says who asks.
        let is_read = |key: &&Key| !key.is_immutable() && !matches!(key, Key::Demand(_));
        let names = keys.filter(is_read).filter_map(Key::repository).cloned().collect();
        Writing { hot: &self.hot, names, done: false }
    }
}

/// Repositories that are being written to.
#[derive(Debug)]
struct Writing<'a> {
    hot: &'a HotSet,
    names: BTreeSet<Name>,
    done: bool,
}

impl Writing<'_> {
    /// After the write, so that nobody reads the old again in between.
    fn ended<T>(mut self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        self.done = outcome.is_ok();
        outcome
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let mut state = self.hot.state();
        for name in &self.names {
            if self.done {
                state.invalidate(name);
            } else {
                state.doubt(name);
            }
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Reader for Coherent {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>, StoreError> {
        self.inner.get_many(keys).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Client for Coherent {
    async fn set(&self, key: Key, entry: Entry) -> Result<(), StoreError> {
        let writing = self.writing(std::iter::once(&key));
        writing.ended(self.inner.set(key, entry).await)
    }

    async fn set_many(&self, entries: Vec<(Key, Entry)>) -> Result<(), StoreError> {
        let writing = self.writing(entries.iter().map(|(key, _)| key));
        writing.ended(self.inner.set_many(entries).await)
    }

    async fn compare_and_set(
        &self,
        key: Key,
        expected: Option<Entry>,
        entry: Entry,
    ) -> Result<bool, StoreError> {
        // Also when it says no: then somebody else has written.
        let writing = self.writing(std::iter::once(&key));
        writing.ended(self.inner.compare_and_set(key, expected, entry).await)
    }

    async fn delete(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        let writing = self.writing(keys.iter());
        let heads: Vec<Name> = keys
            .iter()
            .filter(|key| matches!(key, Key::Head(_)))
            .filter_map(|key| key.repository().cloned())
            .collect();
        writing.ended(self.inner.delete(keys).await)?;
        let mut state = self.hot.state();
        // A head that this process takes away is no head that the store has lost.
        for name in &heads {
            state.forget(name);
        }
        Ok(())
    }

    async fn lease(&self, key: &Key, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.inner.lease(key, holder, ttl).await
    }

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    fn time_to_live(&self) -> Option<Duration> {
        self.inner.time_to_live()
    }

    async fn renew(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        self.inner.renew(keys).await
    }

    async fn statistics(&self) -> Result<Statistics, StoreError> {
        self.inner.statistics().await
    }

    fn scan(&self) -> BoxStream<'_, Result<(Key, Entry), StoreError>> {
        self.inner.scan()
    }

    fn scan_repositories(&self) -> BoxStream<'_, Result<Key, StoreError>> {
        self.inner.scan_repositories()
    }
}
