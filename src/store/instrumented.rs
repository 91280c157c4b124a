//! A store that is measured: how long what took, how it ended, how many bytes it moved; and that says so once when it
//! stops answering, and once when it answers again.
//!
//! Dropped futures are not measured: nobody knows how they would have ended.

mod health;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use tokio::time::Instant;

use self::health::{Direction, Health};
use super::{Client, Entry, Key, Reader, Statistics, StoreError};
use crate::metrics::{StoreMetrics, StoreOperation, StoreOutcome};

/// Passes everything through to another store, and measures it.
#[derive(Debug)]
pub struct Instrumented {
    inner: Arc<dyn Client>,
    metrics: StoreMetrics,
    health: Health,
}

impl Instrumented {
    /// Measures `inner` into `metrics`, whose name for the store is also the one in logs.
    pub fn new(inner: Arc<dyn Client>, metrics: StoreMetrics) -> Self {
        Self { inner, metrics, health: Health::default() }
    }

    /// Waits for `work` and notes how long it took and whether it failed.
    async fn measured<T>(
        &self,
        operation: StoreOperation,
        direction: Direction,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let result = work.await;
        let now = Instant::now();
        self.metrics.took(operation, now - began);
        let news = self.health.note(direction, result.as_ref().err(), now);
        if let Some(news) = news {
            self.metrics.set_up(news.is_up());
            news.log(self.metrics.store());
        }
        result
    }

    async fn written(
        &self,
        operation: StoreOperation,
        bytes: usize,
        work: impl Future<Output = Result<(), StoreError>> + Send,
    ) -> Result<(), StoreError> {
        let result = self.measured(operation, Direction::Write, work).await;
        let outcome = if result.is_ok() { StoreOutcome::Ok } else { StoreOutcome::Error };
        self.metrics.count(operation, outcome, 1);
        if result.is_ok() {
            self.metrics.moved(operation, bytes);
        }
        result
    }

    async fn decided(
        &self,
        operation: StoreOperation,
        bytes: usize,
        work: impl Future<Output = Result<bool, StoreError>> + Send,
    ) -> Result<bool, StoreError> {
        let result = self.measured(operation, Direction::Write, work).await;
        let outcome = match result {
            Ok(true) => StoreOutcome::Ok,
            Ok(false) => StoreOutcome::Conflict,
            Err(_) => StoreOutcome::Error,
        };
        self.metrics.count(operation, outcome, 1);
        if result == Ok(true) {
            self.metrics.moved(operation, bytes);
        }
        result
    }

    fn count_read(&self, operation: StoreOperation, found: &[Option<Entry>]) {
        let hits = found.iter().flatten().count();
        self.metrics.count(operation, StoreOutcome::Hit, hits);
        self.metrics.count(operation, StoreOutcome::Miss, found.len() - hits);
        self.metrics.moved(operation, found.iter().flatten().map(|entry| entry.value.len()).sum());
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Reader for Instrumented {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let operation = StoreOperation::Get;
        let result = self.measured(operation, Direction::Read, self.inner.get(key)).await;
        match &result {
            Ok(found) => self.count_read(operation, std::slice::from_ref(found)),
            Err(_) => self.metrics.count(operation, StoreOutcome::Error, 1),
        }
        result
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>, StoreError> {
        let operation = StoreOperation::GetMany;
        let result = self.measured(operation, Direction::Read, self.inner.get_many(keys)).await;
        match &result {
            Ok(found) => self.count_read(operation, found),
            Err(_) => self.metrics.count(operation, StoreOutcome::Error, keys.len()),
        }
        result
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Client for Instrumented {
    async fn set(&self, key: Key, entry: Entry) -> Result<(), StoreError> {
        let bytes = entry.value.len();
        self.written(StoreOperation::Set, bytes, self.inner.set(key, entry)).await
    }

    async fn set_many(&self, entries: Vec<(Key, Entry)>) -> Result<(), StoreError> {
        let bytes = entries.iter().map(|(_, entry)| entry.value.len()).sum();
        self.written(StoreOperation::SetMany, bytes, self.inner.set_many(entries)).await
    }

    async fn compare_and_set(
        &self,
        key: Key,
        expected: Option<Entry>,
        entry: Entry,
    ) -> Result<bool, StoreError> {
        let bytes = entry.value.len();
        let work = self.inner.compare_and_set(key, expected, entry);
        self.decided(StoreOperation::CompareAndSet, bytes, work).await
    }

    async fn delete(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        self.written(StoreOperation::Delete, 0, self.inner.delete(keys)).await
    }

    async fn lease(&self, key: &Key, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        if ttl.is_zero() {
            // Given back: that nobody has it now is no conflict.
            let work = async { self.inner.lease(key, holder, ttl).await.map(drop) };
            return self.written(StoreOperation::Lease, 0, work).await.map(|()| false);
        }
        self.decided(StoreOperation::Lease, 0, self.inner.lease(key, holder, ttl)).await
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
        self.written(StoreOperation::Renew, 0, self.inner.renew(keys)).await
    }

    /// What the store says of itself; the gauges take it over.
    async fn statistics(&self) -> Result<Statistics, StoreError> {
        let statistics = self.inner.statistics().await?;
        self.metrics.stand(&statistics);
        Ok(statistics)
    }

    fn scan(&self) -> BoxStream<'_, Result<(Key, Entry), StoreError>> {
        self.inner.scan()
    }

    fn scan_repositories(&self) -> BoxStream<'_, Result<Key, StoreError>> {
        self.inner.scan_repositories()
    }
}

#[cfg(test)]
mod tests;
