//! A store that counts what it is asked, and that fails, hangs and waits on command.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use samovar::store::{Client, Entry, Key, Memory, Reader, StoreError};
use tokio::sync::Semaphore;

/// Where a call is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Before,
    After,
}

/// Stops one call, until it is let go.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    call: usize,
    moment: Moment,
    pub(super) reached: Arc<Semaphore>,
    pub(super) go: Arc<Semaphore>,
}

#[derive(Debug)]
pub(super) struct WatchedStore {
    /// Asked directly, nothing is counted and nothing fails.
    pub(super) inner: Arc<Memory>,
    pub(super) fails: AtomicBool,
    pub(super) hangs: AtomicBool,
    /// Keys on a server that is down: whoever asks for one of them gets an error.
    pub(super) out_of_reach: Mutex<HashSet<Key>>,
    /// How long each call takes.
    pub(super) delay: Mutex<Duration>,
    calls: AtomicUsize,
    under_way: AtomicUsize,
    keys: Mutex<Vec<Key>>,
    stop: Mutex<Option<Stop>>,
    /// How often each moment of each call lets other tasks go first.
    pub(super) yields: Mutex<Vec<u8>>,
}

impl WatchedStore {
    pub(super) fn new(inner: Memory) -> Self {
        Self {
            inner: Arc::new(inner),
            fails: AtomicBool::new(false),
            hangs: AtomicBool::new(false),
            out_of_reach: Mutex::default(),
            delay: Mutex::default(),
            calls: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            keys: Mutex::default(),
            stop: Mutex::default(),
            yields: Mutex::default(),
        }
    }

    /// How often it was asked since the last time that this was.
    pub(super) fn calls(&self) -> usize {
        self.calls.swap(0, Ordering::Relaxed)
    }

    /// How many calls have begun and neither ended nor been given up.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Which keys it was asked for since the last time that this was.
    pub(super) fn keys(&self) -> Vec<Key> {
        std::mem::take(&mut self.keys.lock().unwrap())
    }

    /// Stops the call with this number, counted from now.
    pub(super) fn stop(&self, call: usize, moment: Moment) -> Stop {
        let closed = || Arc::new(Semaphore::new(0));
        let stop =
            Stop { call: self.calls.load(Ordering::Relaxed) + call, moment, reached: closed(), go: closed() };
        *self.stop.lock().unwrap() = Some(stop.clone());
        stop
    }

    pub(super) fn set_failing(&self, fails: bool) {
        self.fails.store(fails, Ordering::Relaxed);
    }

    async fn at(&self, call: usize, moment: Moment) {
        let yields = self.yields.lock().unwrap().pop().unwrap_or(0);
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        let stop = self.stop.lock().unwrap().take_if(|stop| (stop.call, stop.moment) == (call, moment));
        if let Some(stop) = stop {
            stop.reached.add_permits(1);
            stop.go.acquire().await.unwrap().forget();
        }
    }

    fn answers(&self, keys: &[Key]) -> Result<(), StoreError> {
        let out_of_reach = self.out_of_reach.lock().unwrap();
        if self.fails.load(Ordering::Relaxed) || keys.iter().any(|key| out_of_reach.contains(key)) {
            return Err(StoreError::Unavailable { message: "told to fail".into() });
        }
        Ok(())
    }
}

#[async_trait]
impl Reader for WatchedStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        Ok(self.get_many(std::slice::from_ref(key)).await?.remove(0))
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>, StoreError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        self.keys.lock().unwrap().extend_from_slice(keys);
        let _under_way = UnderWay::begin(&self.under_way);
        self.at(call, Moment::Before).await;
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let delay = *self.delay.lock().unwrap();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        self.answers(keys)?;
        let entries = self.inner.get_many(keys).await;
        self.at(call, Moment::After).await;
        entries
    }
}

/// A call, until it ends or its future is dropped.
struct UnderWay<'a>(&'a AtomicUsize);

impl<'a> UnderWay<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Stop {
    pub(super) async fn is_reached(&self) {
        self.reached.acquire().await.unwrap().forget();
    }

    pub(super) fn let_go(&self) {
        self.go.add_permits(1);
    }
}

/// What a [`SilentWriter`] does in place of an answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum AfterWriting {
    Fail,
    Hang,
}

/// A store whose writes take place, but nobody is told so.
#[derive(Debug)]
pub(super) struct SilentWriter {
    pub(super) inner: Arc<Memory>,
    pub(super) then: AfterWriting,
}

impl SilentWriter {
    async fn answer<T>(&self) -> Result<T, StoreError> {
        match self.then {
            AfterWriting::Fail => {
                Err(StoreError::Unavailable { message: "the connection broke before the answer".into() })
            }
            AfterWriting::Hang => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Reader for SilentWriter {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>, StoreError> {
        self.inner.get_many(keys).await
    }
}

#[async_trait]
impl Client for SilentWriter {
    async fn set(&self, key: Key, entry: Entry) -> Result<(), StoreError> {
        self.inner.set(key, entry).await?;
        self.answer().await
    }

    async fn set_many(&self, entries: Vec<(Key, Entry)>) -> Result<(), StoreError> {
        self.inner.set_many(entries).await?;
        self.answer().await
    }

    async fn compare_and_set(
        &self,
        key: Key,
        expected: Option<Entry>,
        entry: Entry,
    ) -> Result<bool, StoreError> {
        self.inner.compare_and_set(key, expected, entry).await?;
        self.answer().await
    }

    async fn delete(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        self.inner.delete(keys).await?;
        self.answer().await
    }

    async fn lease(&self, key: &Key, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.inner.lease(key, holder, ttl).await
    }

    fn kind(&self) -> &'static str {
        "silent"
    }
}
