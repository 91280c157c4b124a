//! Forgetting: what the store holds of repositories that nobody watches goes after a grace.
//!
//! A repository that left the watch list is given a mark in its side record, with the time; one that left while samovar was
//! down, or that another configuration brought, is found by looking through the store now and then. Once the mark is older
//! than the grace, everything under the repository's name is removed: the records of its tags first, the mark last. Documents
//! are shared, and go as the store needs their room.
//!
//! Invariants:
//! - nothing is marked before every source has said what it wants: what is not named yet is not unwatched;
//! - whoever watches a repository takes its mark away, so that replicas with different lists keep what one of them
//!   watches, as long as the grace is longer than [`UPHOLD_EVERY`];
//! - a repository is only removed by whoever has changed its mark last, by compare-and-set.
//!
//! It is no change of an image: nothing is announced.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use samovar_registry::{Name, Tag};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::cadence;
use super::context::Context;
use super::pass::until;
use super::publish::stored_keys;
use crate::cache::stored::{self, Head, Pages, Side, load};
use crate::sources::WatchList;
use crate::store::{Entry, Key, StoreError};

/// The store is first looked through this long after every source has spoken, or after the grace where that is shorter.
const FIRST_SCAN: Duration = Duration::from_mins(3);
/// The same at least: what has just begun has better to do.
const LEAST_BEFORE_SCAN: Duration = Duration::from_secs(5);
/// How often the store is looked through, by one of several replicas.
const SCAN_EVERY: Duration = Duration::from_hours(1);
/// A turn to look through the store ends this much before the next one is due, so that whoever had it can have it again.
const TURN: Duration = Duration::from_mins(50);
/// The same, after it could not be looked through to its end.
const SCAN_AGAIN_AFTER: Duration = Duration::from_mins(10);
/// What could not be read or written is tried again after this long.
const AGAIN_AFTER: Duration = Duration::from_mins(1);
/// A repository that leaves the watch list is looked at this long afterwards: a pass on it may still be storing what it
/// has learnt.
const SETTLES_AFTER: Duration = Duration::from_secs(15);
/// How often marks are taken away that another replica has made.
const UPHOLD_EVERY: Duration = Duration::from_mins(3);
/// The grace is at least this long in a store that replicas share: others may watch what this one does not.
const LEAST_SHARED_GRACE: Duration = Duration::from_mins(10);
/// Unwatched repositories that are kept in mind; more are found when these have gone.
const MOST_UNWATCHED: usize = 100_000;
/// Keys of theirs that are kept in mind while the store is looked through, besides those that heads name.
const MOST_UNWATCHED_KEYS: usize = 200_000;
/// Side records read in one round trip.
const SIDES_AT_ONCE: usize = 250;
/// When so many repositories cannot be read and none can, it is the store as a whole that fails.
const MOST_FAILURES: usize = 8;
/// Keys removed in one call.
const MOST_KEYS_AT_ONCE: usize = 500;
/// The store may take this long to take a turn back when samovar stops.
const LONGEST_ANSWER: Duration = Duration::from_secs(2);

/// Looks for what nobody watches until shutdown. `told` becomes true once every source has said what it wants.
pub(super) async fn run(
    context: Arc<Context>,
    watch_list: watch::Receiver<Arc<WatchList>>,
    told: watch::Receiver<bool>,
) {
    let shutdown = context.shutdown.clone();
    let forgetting = Forgetting::new(Arc::clone(&context), watch_list);
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = forgetting.work(told) => {}
    }
    if context.store.is_shared() {
        let given_back = context.store.lease(&Key::Sweep, &context.options.replica, Duration::ZERO);
        // Where this fails the turn ends by itself.
        let _ = tokio::time::timeout(LONGEST_ANSWER, given_back).await;
    }
}

struct Forgetting {
    context: Arc<Context>,
    watch_list: watch::Receiver<Arc<WatchList>>,
    watched: Arc<WatchList>,
    grace: Duration,
    /// What nobody watches, as far as is known, and when to look at it next.
    unwatched: BTreeMap<Name, Instant>,
}

impl Forgetting {
    fn new(context: Arc<Context>, watch_list: watch::Receiver<Arc<WatchList>>) -> Self {
        let grace = context.options.forget_after;
        let grace = if context.store.is_shared() { grace.max(LEAST_SHARED_GRACE) } else { grace };
        Self { context, watch_list, watched: Arc::default(), grace, unwatched: BTreeMap::new() }
    }

    /// Marks are taken away from the start; made they are once every source has been `told` of.
    async fn work(mut self, mut told: watch::Receiver<bool>) {
        self.watched = Arc::clone(&self.watch_list.borrow_and_update());
        self.uphold(self.watched.0.keys().cloned().collect()).await;
        let mut scan_at = None;
        let mut uphold_at = self.context.store.is_shared().then(|| Instant::now() + UPHOLD_EVERY);
        loop {
            let is_told = scan_at.is_some();
            let look_at = self.unwatched.values().min().copied().filter(|_| is_told);
            tokio::select! {
                biased;
                has_spoken = async { told.wait_for(|told| *told).await.is_ok() }, if !is_told => {
                    if !has_spoken {
                        return;
                    }
                    scan_at = Some(Instant::now() + self.grace.clamp(LEAST_BEFORE_SCAN, FIRST_SCAN));
                }
                () = until(scan_at) => {
                    let again = if self.scan().await { SCAN_EVERY } else { SCAN_AGAIN_AFTER };
                    scan_at = Some(Instant::now() + cadence::jittered(again, self.context.random()));
                }
                () = until(look_at) => self.look().await,
                () = until(uphold_at) => {
                    self.uphold(self.watched.0.keys().cloned().collect()).await;
                    uphold_at = Some(Instant::now() + UPHOLD_EVERY);
                }
                changed = self.watch_list.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.follow().await;
                }
            }
            self.context.unwatched_repositories.store(self.unwatched.len(), Ordering::Relaxed);
        }
    }

    /// The watch list is another one.
    async fn follow(&mut self) {
        let before = std::mem::replace(&mut self.watched, Arc::clone(&self.watch_list.borrow_and_update()));
        let settled = Instant::now() + SETTLES_AFTER;
        for name in before.0.keys().filter(|name| !self.watched.0.contains_key(*name)) {
            if self.unwatched.len() < MOST_UNWATCHED {
                self.unwatched.insert(name.clone(), settled);
            }
        }
        self.unwatched.retain(|name, _| !self.watched.0.contains_key(name));
        let new = self.watched.0.keys().filter(|name| !before.0.contains_key(*name));
        self.uphold(new.cloned().collect()).await;
    }

    /// Takes the marks away that watched repositories have. What cannot be read or written now is for the next time, or for
    /// the repository's next pass.
    async fn uphold(&self, names: Vec<Name>) {
        for names in names.chunks(SIDES_AT_ONCE) {
            if self.uphold_some(names).await.is_err() {
                self.uphold_one_by_one(names).await;
            }
        }
    }

    /// What of these can be read: the server of some keys may be down. Gives up when the first few cannot.
    async fn uphold_one_by_one(&self, names: &[Name]) {
        let (mut upheld, mut failures) = (0, 0);
        for name in names {
            match self.uphold_some(std::slice::from_ref(name)).await {
                Ok(()) => upheld += 1,
                Err(error) => {
                    debug!(image.name = %name, %error, "the store cannot tell whether it is marked as unwatched");
                    failures += 1;
                }
            }
            if upheld == 0 && failures == MOST_FAILURES {
                return;
            }
        }
    }

    async fn uphold_some(&self, names: &[Name]) -> Result<(), StoreError> {
        let keys: Vec<Key> = names.iter().cloned().map(Key::Side).collect();
        let found = self.context.store.get_many(&keys).await?;
        for (key, entry) in keys.into_iter().zip(found) {
            let Some(side) = stored::decode::<Side>(entry.as_ref()) else { continue };
            if side.unwatched_since.is_some() {
                // Unless it has been written since: whoever wrote it has taken the mark away.
                self.write_side(key, entry, Side { unwatched_since: None, ..side }).await?;
            }
        }
        Ok(())
    }

    /// Writes a side record over what was read. Says whether that was still there.
    async fn write_side(&self, key: Key, entry: Option<Entry>, side: Side) -> Result<bool, StoreError> {
        let refresh_at = entry.as_ref().and_then(|entry| entry.refresh_at);
        let marked = Entry { value: stored::encode(&side), refresh_at };
        self.context.store.compare_and_set(key, entry, marked).await
    }

    /// Looks through the store, if it is this replica's turn. Says whether it came to the end.
    async fn scan(&mut self) -> bool {
        let store = &self.context.store;
        if store.is_shared() {
            match store.lease(&Key::Sweep, &self.context.options.replica, TURN).await {
                Ok(true) => {}
                Ok(false) => return true,
                Err(error) => {
                    debug!(%error, "the store cannot tell whose turn it is to look for what nobody watches");
                    return false;
                }
            }
        }
        let mut found: BTreeMap<Name, Vec<Key>> = BTreeMap::new();
        let mut keys_found = 0;
        let mut failed = None;
        let mut keys = store.scan_repositories();
        while let Some(key) = keys.next().await {
            let key = match key {
                Ok(key) => key,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            };
            let Some(name) = key.repository().filter(|name| !self.watched.0.contains_key(*name)) else {
                continue;
            };
            if !found.contains_key(name) && found.len() >= MOST_UNWATCHED {
                continue;
            }
            let keys = found.entry(name.clone()).or_default();
            if keys_found < MOST_UNWATCHED_KEYS {
                keys_found += 1;
                keys.push(key);
            }
        }
        drop(keys);
        // What was found is what it is, however far the search came.
        for (name, keys) in &found {
            self.consider(name, keys).await;
        }
        if let Some(error) = &failed {
            warn!(%error, "the store could not be looked through for what nobody watches; it is tried again");
        }
        failed.is_none()
    }

    /// Looks at those whose time has come.
    async fn look(&mut self) {
        let now = Instant::now();
        let due: BTreeSet<Name> =
            self.unwatched.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        for name in &due {
            self.consider(name, &[]).await;
        }
    }

    /// Marks or removes a repository, and keeps in mind when to look at it next. `keys`: what the store is known to have of it
    /// besides what its head names.
    async fn consider(&mut self, name: &Name, keys: &[Key]) {
        let again = if self.is_watched(name) {
            None
        } else {
            self.mark_or_remove(name, keys).await.unwrap_or_else(|error| {
                debug!(image.name = %name, %error, "an unwatched repository is looked at again later");
                Some(AGAIN_AFTER)
            })
        };
        match again {
            Some(again) if self.unwatched.contains_key(name) || self.unwatched.len() < MOST_UNWATCHED => {
                self.unwatched.insert(name.clone(), Instant::now() + again);
            }
            _ => {
                self.unwatched.remove(name);
            }
        }
    }

    /// Whether it is watched at this moment: it may have come back since it was looked for.
    fn is_watched(&self, name: &Name) -> bool {
        self.watch_list.borrow().0.contains_key(name)
    }

    /// In how long to look at it again; `None`: it is gone.
    async fn mark_or_remove(&self, name: &Name, keys: &[Key]) -> Result<Option<Duration>, StoreError> {
        let store = &self.context.store;
        let key = Key::Side(name.clone());
        let now = self.context.now();
        let mut entry = store.get(&key).await?;
        if entry.is_none() && keys.is_empty() && store.get(&Key::Head(name.clone())).await?.is_none() {
            return Ok(None);
        }
        let mut side: Side = stored::decode(entry.as_ref()).unwrap_or_default();
        if side.unwatched_since.is_none() {
            side.unwatched_since = Some(now);
            if !self.write_side(key.clone(), entry, side.clone()).await? {
                return Ok(Some(SETTLES_AFTER));
            }
            debug!(image.name = %name, "nobody watches the repository");
            entry = store.get(&key).await?;
        }
        // Not later than now: the clock of whoever marked it may be ahead.
        let since = side.unwatched_since.map_or(now, |since| since.min(now));
        let left = self.grace.saturating_sub(elapsed(since, now));
        if !left.is_zero() {
            return Ok(Some(left));
        }
        // Any tag: what is wanted is which pages there are, those that only a directory names included.
        let any: Tag = "latest".parse().expect("it is a tag");
        let head = load(&**store, name, Pages::Holding(&any)).await?.head;
        if head.is_none() && keys.is_empty() {
            // What is left of it only a search finds.
            return Ok(Some(SCAN_EVERY));
        }
        // Whoever adopts it from here on begins anew, and whoever has done so before has written another record.
        let emptied = Side { unwatched_since: side.unwatched_since, ..Side::default() };
        if side != emptied && !self.write_side(key, entry, emptied).await? {
            return Ok(Some(SETTLES_AFTER));
        }
        self.remove(name, head.as_ref(), keys).await?;
        Ok(None)
    }

    /// Removes it, unless it comes back meanwhile: then whoever works on it finds out what is missing.
    async fn remove(&self, name: &Name, head: Option<&Head>, keys: &[Key]) -> Result<(), StoreError> {
        let store = &self.context.store;
        let side = Key::Side(name.clone());
        let mut all: Vec<Key> = stored_keys(name, head);
        all.extend_from_slice(keys);
        all.retain(|key| *key != side);
        all.push(side);
        for keys in all.chunks(MOST_KEYS_AT_ONCE) {
            if self.is_watched(name) {
                return Ok(());
            }
            store.delete(keys.to_vec()).await?;
        }
        self.context.metrics.forgotten_repository();
        info!(image.name = %name, "what was stored of a repository that nobody watches is removed");
        Ok(())
    }
}

fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}
