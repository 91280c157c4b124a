//! A store that several replicas share, each through a view of its own that can be cut.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use samovar::store::{Client, Entry, Key, Memory, Reader, StoreError};
use samovar_registry::Name;
use tokio::sync::watch;
use tokio::time::Instant;

/// What a store with a time to live promises.
const TIME_TO_LIVE: Duration = Duration::from_hours(24 * 30);

/// The server: it forgets what nobody has written or renewed for 30 days.
#[derive(Debug, Default)]
pub(crate) struct Server {
    store: Memory,
    alive_until: Mutex<HashMap<Key, Instant>>,
    writes: Mutex<HashMap<Key, usize>>,
}

impl Server {
    /// Forgets one key, as a server does that is short of memory.
    pub(crate) async fn evict(&self, key: Key) {
        self.store.delete(vec![key]).await.unwrap();
    }

    /// The keys that are there.
    pub(crate) async fn keys(&self) -> Vec<Key> {
        let written: Vec<Key> = self.alive_until.lock().unwrap().keys().cloned().collect();
        let found = self.get_many(&written).await;
        let mut keys: Vec<Key> =
            written.into_iter().zip(found).filter(|(_, found)| found.is_some()).map(|(key, _)| key).collect();
        keys.sort();
        keys
    }

    /// How often a key was written.
    pub(crate) fn writes_of(&self, key: &Key) -> usize {
        self.writes.lock().unwrap().get(key).copied().unwrap_or_default()
    }

    fn written<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) {
        let until = Instant::now() + TIME_TO_LIVE;
        for key in keys {
            self.alive_until.lock().unwrap().insert(key.clone(), until);
            *self.writes.lock().unwrap().entry(key.clone()).or_default() += 1;
        }
    }

    fn forget(&self, keys: &[Key]) {
        let mut alive_until = self.alive_until.lock().unwrap();
        for key in keys {
            alive_until.remove(key);
        }
    }

    fn is_alive(&self, key: &Key) -> bool {
        self.alive_until.lock().unwrap().get(key).is_some_and(|until| Instant::now() < *until)
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Option<Entry>> {
        let found = self.store.get_many(keys).await.unwrap();
        found.into_iter().zip(keys).map(|(entry, key)| entry.filter(|_| self.is_alive(key))).collect()
    }
}

/// One replica's way to the server.
#[derive(Debug)]
pub(crate) struct View {
    server: Arc<Server>,
    cut: AtomicBool,
    leases_cut: AtomicBool,
    writes_fail: AtomicBool,
    /// What is stored of this repository cannot be read.
    unreadable: Mutex<Option<Name>>,
    documents_fail: AtomicBool,
    sides_fail: AtomicBool,
    deletions_fail: AtomicBool,
    /// Histories are not read until this is false.
    histories_wait: watch::Sender<bool>,
    /// The next heads are taken, and said not to be.
    heads_answered_wrongly: AtomicUsize,
    /// How long an answer is on its way from the server, and a write to it.
    latency: Mutex<Duration>,
    /// Whether the replica knows that there are others.
    knows_of_others: bool,
}

impl View {
    pub(crate) fn of(server: &Arc<Server>) -> Arc<Self> {
        Arc::new(Self::new(server, true))
    }

    fn new(server: &Arc<Server>, knows_of_others: bool) -> Self {
        Self {
            server: Arc::clone(server),
            cut: AtomicBool::default(),
            leases_cut: AtomicBool::default(),
            writes_fail: AtomicBool::default(),
            unreadable: Mutex::default(),
            documents_fail: AtomicBool::default(),
            sides_fail: AtomicBool::default(),
            deletions_fail: AtomicBool::default(),
            histories_wait: watch::Sender::default(),
            heads_answered_wrongly: AtomicUsize::default(),
            latency: Mutex::default(),
            knows_of_others,
        }
    }

    /// A replica that takes every lease for its own, as happens when a server forgets them.
    pub(crate) fn without_leases(server: &Arc<Server>) -> Arc<Self> {
        Arc::new(Self::new(server, false))
    }

    /// From now on answers are so long on their way from the server, and writes to it: in between, others write.
    pub(crate) fn set_latency(&self, latency: Duration) {
        *self.latency.lock().unwrap() = latency;
    }

    async fn travel(&self) {
        let latency = *self.latency.lock().unwrap();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
    }

    /// From now on, or no longer, nothing gets through.
    pub(crate) fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }

    /// From now on, or no longer, nobody can say whose the leases are.
    pub(crate) fn cut_leases(&self, cut: bool) {
        self.leases_cut.store(cut, Ordering::Relaxed);
    }

    /// From now on, or no longer, the server takes nothing, as one that is out of memory.
    pub(crate) fn fail_writes(&self, fail: bool) {
        self.writes_fail.store(fail, Ordering::Relaxed);
    }

    /// From now on, or no longer, what is stored of a repository cannot be read, as when a server of several is down.
    pub(crate) fn fail_reads_of(&self, name: Option<&Name>) {
        *self.unreadable.lock().unwrap() = name.cloned();
    }

    /// From now on documents are not taken, as when theirs is one server of several.
    pub(crate) fn fail_documents(&self) {
        self.documents_fail.store(true, Ordering::Relaxed);
    }

    /// From now on, or no longer, side records are not taken: as when a replica ends after it has written a head.
    pub(crate) fn fail_sides(&self, fail: bool) {
        self.sides_fail.store(fail, Ordering::Relaxed);
    }

    /// From now on, or no longer, nothing is removed.
    pub(crate) fn fail_deletions(&self, fail: bool) {
        self.deletions_fail.store(fail, Ordering::Relaxed);
    }

    /// From now on, or no longer, whoever reads a history waits.
    pub(crate) fn hold_up_histories(&self, hold_up: bool) {
        self.histories_wait.send_replace(hold_up);
    }

    /// The next heads are written, but the answers get lost.
    pub(crate) fn lose_answers_to_heads(&self, count: usize) {
        self.heads_answered_wrongly.store(count, Ordering::Relaxed);
    }

    fn check_write<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) -> Result<(), StoreError> {
        self.check()?;
        let documents_fail = self.documents_fail.load(Ordering::Relaxed);
        if self.writes_fail.load(Ordering::Relaxed)
            || documents_fail && keys.into_iter().any(Key::is_document)
        {
            return Err(StoreError::Unavailable { message: "out of memory".into() });
        }
        Ok(())
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.cut.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable { message: "the way to the server is cut".into() });
        }
        Ok(())
    }
}

#[async_trait]
impl Reader for View {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        Ok(self.get_many(std::slice::from_ref(key)).await?.pop().flatten())
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>, StoreError> {
        self.check()?;
        let unreadable = self.unreadable.lock().unwrap().clone();
        if unreadable.is_some() && keys.iter().any(|key| key.repository() == unreadable.as_ref()) {
            return Err(StoreError::Unavailable { message: "the server of these keys is down".into() });
        }
        if keys.iter().any(|key| matches!(key, Key::History(..))) {
            let _ = self.histories_wait.subscribe().wait_for(|wait| !wait).await;
        }
        let found = self.server.get_many(keys).await;
        self.travel().await;
        Ok(found)
    }
}

#[async_trait]
impl Client for View {
    async fn set(&self, key: Key, entry: Entry) -> Result<(), StoreError> {
        self.set_many(vec![(key, entry)]).await
    }

    async fn set_many(&self, entries: Vec<(Key, Entry)>) -> Result<(), StoreError> {
        self.check_write(entries.iter().map(|(key, _)| key))?;
        let is_side = |(key, _): &(Key, Entry)| matches!(key, Key::Side(_));
        if self.sides_fail.load(Ordering::Relaxed) && entries.iter().any(is_side) {
            return Err(StoreError::Unavailable { message: "no side records".into() });
        }
        self.server.written(entries.iter().map(|(key, _)| key));
        self.server.store.set_many(entries).await
    }

    async fn compare_and_set(
        &self,
        key: Key,
        expected: Option<Entry>,
        entry: Entry,
    ) -> Result<bool, StoreError> {
        self.check_write([&key])?;
        self.travel().await;
        if !self.server.is_alive(&key) {
            self.server.evict(key.clone()).await;
        }
        let set = self.server.store.compare_and_set(key.clone(), expected, entry).await?;
        if set {
            self.server.written([&key]);
        }
        let lost = |left: usize| left.checked_sub(1).filter(|_| matches!(key, Key::Head(_)) && set);
        if self.heads_answered_wrongly.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lost).is_ok() {
            return Err(StoreError::Unavailable { message: "the answer got lost".into() });
        }
        Ok(set)
    }

    async fn delete(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        self.check_write(&keys)?;
        if self.deletions_fail.load(Ordering::Relaxed) {
            // As far as it comes.
            let first = &keys[..1];
            self.server.forget(first);
            self.server.store.delete(first.to_vec()).await?;
            return Err(StoreError::Unavailable { message: "the rest is not removed".into() });
        }
        self.server.forget(&keys);
        self.server.store.delete(keys).await
    }

    async fn lease(&self, key: &Key, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.check()?;
        if self.leases_cut.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable { message: "the server of this lease is down".into() });
        }
        self.server.store.lease(key, holder, ttl).await
    }

    fn kind(&self) -> &'static str {
        "shared"
    }

    fn is_shared(&self) -> bool {
        self.knows_of_others
    }

    fn time_to_live(&self) -> Option<Duration> {
        Some(TIME_TO_LIVE)
    }

    async fn renew(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        self.check()?;
        let alive: Vec<&Key> = keys.iter().filter(|key| self.server.is_alive(key)).collect();
        self.server.written(alive);
        Ok(())
    }

    fn scan(&self) -> BoxStream<'_, Result<(Key, Entry), StoreError>> {
        self.server.store.scan()
    }
}
