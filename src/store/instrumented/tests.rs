//! What is counted, with a store that does as it is told.

use std::sync::atomic::{AtomicBool, Ordering};

use samovar_registry::Digest;

use super::*;
use crate::metrics::Metrics;
use crate::store::Memory;

/// A store in memory that fails while it is told to.
#[derive(Debug, Default)]
struct Moody {
    memory: Memory,
    fails: AtomicBool,
}

impl Moody {
    fn check(&self) -> Result<(), StoreError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable { message: "told to".to_owned() });
        }
        Ok(())
    }
}

#[async_trait]
impl Reader for Moody {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.check()?;
        self.memory.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>, StoreError> {
        self.check()?;
        self.memory.get_many(keys).await
    }
}

#[async_trait]
impl Client for Moody {
    async fn set(&self, key: Key, entry: Entry) -> Result<(), StoreError> {
        self.check()?;
        self.memory.set(key, entry).await
    }

    async fn set_many(&self, entries: Vec<(Key, Entry)>) -> Result<(), StoreError> {
        self.check()?;
        self.memory.set_many(entries).await
    }

    async fn compare_and_set(
        &self,
        key: Key,
        expected: Option<Entry>,
        entry: Entry,
    ) -> Result<bool, StoreError> {
        self.check()?;
        self.memory.compare_and_set(key, expected, entry).await
    }

    async fn delete(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        self.check()?;
        self.memory.delete(keys).await
    }

    async fn lease(&self, key: &Key, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.check()?;
        self.memory.lease(key, holder, ttl).await
    }

    fn kind(&self) -> &'static str {
        "moody"
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn time_to_live(&self) -> Option<Duration> {
        Some(Duration::from_secs(7))
    }

    async fn statistics(&self) -> Result<Statistics, StoreError> {
        self.check()?;
        Ok(Statistics { entries: Some(5), evicted: Some(2), ..Statistics::default() })
    }
}

fn document(seed: &str) -> Key {
    Key::Document(Digest::sha256(seed.as_bytes()))
}

struct Measured {
    metrics: Metrics,
    moody: Arc<Moody>,
    store: Instrumented,
}

impl Measured {
    fn new() -> Self {
        let (metrics, moody) = (Metrics::new(), Arc::new(Moody::default()));
        let store = Instrumented::new(moody.clone(), metrics.store("moody"));
        Self { metrics, moody, store }
    }

    fn fail(&self, fails: bool) {
        self.moody.fails.store(fails, Ordering::Relaxed);
    }

    /// The sample of this family with exactly these labels besides `store`, as Prometheus orders them.
    #[track_caller]
    fn sample(&self, family: &str, labels: &str) -> u64 {
        let labels = if labels.is_empty() { String::new() } else { format!("{labels},") };
        let series = format!("{family}{{{labels}store=\"moody\"}} ");
        let page = self.metrics.render();
        let value = page.lines().find_map(|line| line.strip_prefix(&series));
        value.unwrap_or_else(|| panic!("no {series}:\n{page}")).parse().unwrap()
    }

    #[track_caller]
    fn assert_outcomes(&self, operation: &str, expected: &[(&str, u64)]) {
        for (outcome, count) in expected {
            let labels = format!("operation=\"{operation}\",outcome=\"{outcome}\"");
            assert_eq!(self.sample("samovar_store_operations_total", &labels), *count, "{labels}");
        }
    }

    fn bytes(&self, operation: &str) -> u64 {
        self.sample("samovar_store_bytes_total", &format!("operation=\"{operation}\""))
    }
}

#[tokio::test]
async fn hits_misses_and_errors_are_three_things_counted_by_key() {
    let measured = Measured::new();
    let store = &measured.store;
    store.set(document("a"), Entry::immutable("1234")).await.unwrap();
    assert!(store.get(&document("a")).await.unwrap().is_some());
    assert!(store.get(&document("b")).await.unwrap().is_none());
    let keys = ["a", "b", "c"].map(document);
    assert_eq!(store.get_many(&keys).await.unwrap().iter().flatten().count(), 1);
    measured.fail(true);
    assert!(store.get(&document("a")).await.is_err());
    assert!(store.get_many(&keys).await.is_err());
    measured.assert_outcomes("get", &[("hit", 1), ("miss", 1), ("error", 1)]);
    measured.assert_outcomes("get_many", &[("hit", 1), ("miss", 2), ("error", 3)]);
    assert_eq!((measured.bytes("set"), measured.bytes("get"), measured.bytes("get_many")), (4, 4, 4));
    let durations = |operation: &str| {
        measured
            .sample("samovar_store_operation_duration_seconds_count", &format!("operation=\"{operation}\""))
    };
    assert_eq!((durations("get"), durations("get_many"), durations("set")), (3, 2, 1));
}

#[tokio::test]
async fn writes_end_well_in_conflict_or_with_an_error() {
    let measured = Measured::new();
    let store = &measured.store;
    let (key, entry) = (document("a"), Entry::immutable("12345"));
    store.set_many(vec![(key.clone(), entry.clone()), (document("b"), entry.clone())]).await.unwrap();
    assert!(store.compare_and_set(key.clone(), Some(entry.clone()), entry.clone()).await.unwrap());
    assert!(!store.compare_and_set(key.clone(), None, entry.clone()).await.unwrap());
    store.delete(vec![key.clone()]).await.unwrap();
    store.renew(vec![key.clone()]).await.unwrap();
    measured.fail(true);
    assert!(store.set_many(vec![(key.clone(), entry.clone())]).await.is_err());
    assert!(store.compare_and_set(key.clone(), None, entry.clone()).await.is_err());
    assert!(store.delete(vec![key]).await.is_err());
    measured.assert_outcomes("set_many", &[("ok", 1), ("error", 1)]);
    measured.assert_outcomes("compare_and_set", &[("ok", 1), ("conflict", 1), ("error", 1)]);
    measured.assert_outcomes("delete", &[("ok", 1), ("error", 1)]);
    measured.assert_outcomes("renew", &[("ok", 1), ("error", 0)]);
    assert_eq!((measured.bytes("set_many"), measured.bytes("compare_and_set")), (10, 5));
}

#[tokio::test]
async fn a_lease_that_another_has_is_a_conflict_and_one_given_back_is_none() {
    let measured = Measured::new();
    let (store, lane, minute) = (&measured.store, Key::Lane("h".to_owned()), Duration::from_mins(1));
    assert!(store.lease(&lane, "me", minute).await.unwrap());
    assert!(!store.lease(&lane, "you", minute).await.unwrap());
    assert!(!store.lease(&lane, "me", Duration::ZERO).await.unwrap());
    measured.assert_outcomes("lease", &[("ok", 2), ("conflict", 1), ("error", 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_down_until_it_answers() {
    let measured = Measured::new();
    let up = || measured.sample("samovar_store_up", "");
    assert_eq!(up(), 1);
    measured.fail(true);
    assert!(measured.store.get(&document("a")).await.is_err());
    assert_eq!(up(), 0);
    measured.fail(false);
    tokio::time::advance(Duration::from_secs(3)).await;
    assert!(measured.store.get(&document("a")).await.is_ok());
    assert_eq!(up(), 1);
}

#[tokio::test]
async fn what_the_store_says_of_itself_passes_through_into_the_gauges() {
    let measured = Measured::new();
    let store = &measured.store;
    assert_eq!((store.kind(), store.is_shared()), ("moody", true));
    assert_eq!(store.time_to_live(), Some(Duration::from_secs(7)));
    assert_eq!(store.statistics().await.unwrap().entries, Some(5));
    assert_eq!(measured.sample("samovar_store_entries", ""), 5);
    assert_eq!(measured.sample("samovar_store_evicted_total", ""), 2);
}
