//! Repositories that are watched because somebody asked about them.
//!
//! [`OnDemand`] is what the doors ask: whether a name is covered, and to have it watched. [`OnDemandSource`] keeps the list
//! in one entry of the store, by compare-and-set, so that a restart continues it and all replicas share it, and gives the
//! warmer what to watch.
//!
//! Invariants: nothing is watched that `allow` does not cover or the host policy denies, whatever the entry says; what the
//! configuration names by itself is left to it; the list is bounded (see [`list`]); a question is answered from memory and waits for nothing; only the source writes to the store.

mod list;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use samovar_registry::credentials::CredentialChain;
use samovar_registry::upstream::HostPolicy;
use samovar_registry::{Clock, Name};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, info};

use self::list::{Admission, AskedFor, Row};
use super::problems::Concern;
use super::{ImageSource, Named, SharedKeychain, SourceProblems, Watch, WatchList};
use crate::config::OnDemandConfig;
use crate::metrics::Metrics;
use crate::store::{Client, Entry, Key, StoreError};

pub(crate) use self::list::Leaving;

/// How often the entry is read that other replicas write to.
const SHARED_EVERY: Duration = Duration::from_secs(2);
/// How often it is looked who goes, where this process is the only one; and how often credentials are read again.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Questions that come together are written together.
const TOGETHER: Duration = Duration::from_millis(100);
/// When somebody last asked is written when it differs by this much from what the entry says.
const COARSE: Duration = Duration::from_mins(10);
/// How often it is written at most where nothing else has changed.
const TOUCH_EVERY: Duration = Duration::from_mins(1);
/// How often the entry is given its whole time to live again.
const RENEW_EVERY: Duration = Duration::from_hours(24);
/// Another replica may write at the same time; after so many tries it is tried again a little later.
const MOST_TRIES: usize = 20;

/// What a source may know of how a repository fares.
pub trait RepositoryFacts: Debug + Send + Sync {
    /// When a reader last asked about anything of it.
    fn last_asked(&self, name: &Name) -> Option<Timestamp>;

    /// Whether its tags were ever listed.
    fn is_listed(&self, name: &Name) -> bool;

    /// Whether a source names it that does not give way: it is watched whoever asks about it.
    fn is_named(&self, name: &Name) -> bool;
}

/// What may come to be watched because somebody asks about it.
#[derive(Debug, Clone)]
pub struct OnDemandScope {
    /// What is allowed, and for how long.
    pub config: OnDemandConfig,
    /// Which hosts may be asked at all.
    pub policy: HostPolicy,
    /// What is watched anyway, or will be in moments.
    pub named: Named,
}

/// Why a repository that somebody asks about does not come to be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The configuration does not allow it.
    #[error("the repository is not covered by on_demand.allow")]
    NotCovered,
    /// There is no room.
    #[error("as many repositories as may be are watched on demand, and all of them are in use")]
    Full,
}

/// Asks for repositories to be watched. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OnDemand(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    scope: OnDemandScope,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    list: Mutex<List>,
    /// Somebody has asked for something new.
    asked: Notify,
}

/// The list as it is known here.
#[derive(Debug, Default)]
struct List {
    rows: AskedFor,
    /// What was asked for here and is not in the store yet.
    pending: BTreeSet<Name>,
}

impl OnDemand {
    /// Whether a repository would be watched if somebody asked about it.
    pub fn covers(&self, name: &Name) -> bool {
        self.0.scope.config.allow.matches_name(name) && self.0.scope.policy.allows(name.host())
    }

    /// Whether a repository is watched because somebody asked about it.
    pub fn is_taken(&self, name: &Name) -> bool {
        !self.0.scope.named.is_exact(name) && self.0.list().rows.get(name).is_some()
    }

    /// Somebody asks about a repository that is not watched: it is from now on, within moments.
    pub fn ask(&self, name: &Name) -> Result<(), NotTaken> {
        if !self.covers(name) {
            return Err(NotTaken::NotCovered);
        }
        if self.0.scope.named.is_to_come(name) {
            return Ok(());
        }
        let now = self.0.now();
        let mut list = self.0.list();
        match list.rows.ask(name, now, self.0.scope.config.most) {
            Admission::Known => Ok(()),
            Admission::Full => {
                self.0.metrics.on_demand_turned_away();
                Err(NotTaken::Full)
            }
            Admission::Added { replaced } => {
                for gone in &replaced {
                    list.pending.remove(gone);
                }
                list.pending.insert(name.clone());
                self.0.asked.notify_one();
                Ok(())
            }
        }
    }
}

impl Shared {
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To the second, as it is stored.
    fn now(&self) -> Timestamp {
        let now = self.clock.now();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }
}

/// The repositories that somebody asked about.
#[derive(Debug)]
pub struct OnDemandSource {
    shared: Arc<Shared>,
    store: Arc<dyn Client>,
    facts: Arc<dyn RepositoryFacts>,
    keychain: SharedKeychain,
    problems: SourceProblems,
    /// The store was read once, so that it is known what was watched before.
    is_loaded: bool,
    /// What the store said when the list was last looked through, and when that was.
    looked_at: Option<(Option<Entry>, Instant)>,
    /// When something was written, and when the entry was renewed.
    written_at: Instant,
    renewed_at: Option<Instant>,
    /// When the credentials were read last.
    credentials_at: Option<Instant>,
    latest: WatchList,
}

impl OnDemandSource {
    /// A source that keeps its list in `store` and logs in with `keychain`.
    pub fn new(
        scope: OnDemandScope,
        store: Arc<dyn Client>,
        facts: Arc<dyn RepositoryFacts>,
        keychain: SharedKeychain,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (list, asked) = (Mutex::default(), Notify::new());
        Self {
            shared: Arc::new(Shared { scope, clock, metrics, list, asked }),
            store,
            facts,
            keychain,
            problems: SourceProblems::default(),
            is_loaded: false,
            looked_at: None,
            written_at: Instant::now(),
            renewed_at: None,
            credentials_at: None,
            latest: WatchList::default(),
        }
    }

    /// For the doors.
    pub fn handle(&self) -> OnDemand {
        OnDemand(Arc::clone(&self.shared))
    }

    /// Waits until the list is another one, or, `at_first`, until it is known.
    async fn next_list(&mut self, at_first: bool) -> WatchList {
        let mut waits = !at_first;
        loop {
            if waits {
                self.pause().await;
            }
            waits = true;
            match self.exchange().await {
                Ok(()) => self.is_loaded = true,
                Err(error) => debug!(%error, "the store does not take, or tell, what is watched on demand"),
            }
            // Before it is known what was watched, nothing is said: it would seem to be unwatched.
            if self.is_loaded && (self.renew_list().await || at_first) {
                return self.latest.clone();
            }
        }
    }

    async fn pause(&self) {
        let longest = if self.store.is_shared() { SHARED_EVERY } else { LOOK_EVERY };
        tokio::select! {
            () = self.shared.asked.notified() => tokio::time::sleep(TOGETHER).await,
            () = tokio::time::sleep(longest) => {}
        }
    }

    /// Brings the list here and the one in the store together.
    async fn exchange(&mut self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        for _ in 0..MOST_TRIES {
            let before = self.store.get(&Key::OnDemand).await?;
            if self.is_looked_through(before.as_ref()) {
                return Ok(());
            }
            let now = shared.now();
            let stored = AskedFor::decode(before.as_ref(), now);
            let next = self.combined(stored.as_ref(), &shared.list(), now);
            let is_due = self.written_at.elapsed() >= TOUCH_EVERY;
            let coarse = if is_due { COARSE } else { Duration::MAX };
            if next.rows.is_nearly(&stored.unwrap_or_default(), coarse) {
                self.take_over(next);
                let is_there = before.is_some();
                self.looked_at = Some((before, Instant::now()));
                return self.renew_if_due(is_there).await;
            }
            let after = next.rows.encode();
            if self.store.compare_and_set(Key::OnDemand, before, after.clone()).await? {
                (self.written_at, self.renewed_at) = (Instant::now(), Some(Instant::now()));
                self.looked_at = Some((Some(after), Instant::now()));
                self.take_over(next);
                return Ok(());
            }
        }
        Err(StoreError::Unavailable { message: "what is watched on demand keeps changing".into() })
    }

    /// Whether nothing has happened since the list was last looked through, a moment ago.
    fn is_looked_through(&self, stored: Option<&Entry>) -> bool {
        let is_same =
            |(entry, at): &(Option<Entry>, Instant)| entry.as_ref() == stored && at.elapsed() < LOOK_EVERY;
        self.looked_at.as_ref().is_some_and(is_same) && self.shared.list().pending.is_empty()
    }

    /// What the list is to be, by what the store says and what was asked here.
    fn combined(&self, stored: Option<&AskedFor>, here: &List, now: Timestamp) -> Combined {
        // An entry that is gone was lost: nobody removes it.
        let mut rows = stored.cloned().unwrap_or_else(|| here.rows.clone());
        rows.learn(|name| {
            let asked_at = here.rows.get(name).map(|row| row.asked_at).max(self.facts.last_asked(name));
            // Who asks about what another source names does not keep it here as well.
            let asked_at = asked_at.filter(|_| !self.facts.is_named(name));
            let listed = self.facts.is_listed(name);
            Some(Row { asked_at: asked_at.unwrap_or(Timestamp::MIN).min(now), listed })
        });
        let (mut added, mut gone) = (Vec::new(), Vec::new());
        let taken = here.pending.clone();
        for name in &taken {
            let asked_at = here.rows.get(name).map_or(now, |row| row.asked_at);
            let is_known = stored.is_some_and(|stored| stored.get(name).is_some());
            if let Admission::Added { replaced } = rows.ask(name, asked_at, self.shared.scope.config.most) {
                gone.extend(replaced.into_iter().map(|name| (name, Leaving::Replaced)));
            }
            if !is_known && rows.get(name).is_some() {
                added.push(name.clone());
            }
        }
        gone.extend(rows.retire(now, self.shared.scope.config.idle, |name| self.facts.is_named(name)));
        Combined { rows, taken, added, gone }
    }

    /// The list is what the store has now.
    fn take_over(&self, combined: Combined) {
        let Combined { mut rows, taken, added, gone } = combined;
        for name in added {
            info!(image.name = %name, "somebody asked about a repository: it is watched from now on");
            self.shared.metrics.on_demand_added();
        }
        for (name, leaving) in gone {
            info!(image.name = %name, reason = leaving.as_str(), "a repository is no longer watched on demand");
            self.shared.metrics.on_demand_removed(leaving);
        }
        let mut list = self.shared.list();
        list.pending.retain(|name| !taken.contains(name));
        // What was asked for meanwhile.
        for name in list.pending.clone() {
            let asked_at = list.rows.get(&name).map_or_else(|| self.shared.now(), |row| row.asked_at);
            rows.ask(&name, asked_at, self.shared.scope.config.most);
        }
        self.shared.metrics.set_on_demand_repositories(rows.len());
        list.rows = rows;
    }

    /// Where entries have a time to live, this one stays.
    async fn renew_if_due(&mut self, is_there: bool) -> Result<(), StoreError> {
        let is_due = self.renewed_at.is_none_or(|renewed_at| renewed_at.elapsed() >= RENEW_EVERY);
        if is_there && is_due && self.store.time_to_live().is_some() {
            self.store.renew(vec![Key::OnDemand]).await?;
            self.renewed_at = Some(Instant::now());
        }
        Ok(())
    }

    /// Makes the watch list from the list and the credentials as they are now, and says whether it is another one.
    async fn renew_list(&mut self) -> bool {
        let handle = self.handle();
        let is_ours = |name: &&Name| handle.covers(name) && !self.shared.scope.named.is_exact(name);
        let names: Vec<Name> = self.shared.list().rows.names().filter(is_ours).cloned().collect();
        let is_due = self.credentials_at.is_none_or(|at| at.elapsed() >= LOOK_EVERY);
        if names.iter().eq(self.latest.0.keys()) && !is_due {
            return false;
        }
        let chains = if self.shared.scope.config.log_in {
            let Some(read) = self.keychain.chains_for(names.clone()).await else { return false };
            // What is wrong with files, the configuration tells.
            self.problems.replace(Concern::Credentials, read.chain_problems, Vec::new());
            read.chains
        } else {
            vec![CredentialChain::default().ended(); names.len()]
        };
        self.credentials_at = Some(Instant::now());
        let watch = |credentials| Watch { credentials, ..Watch::default() };
        let list = WatchList(names.into_iter().zip(chains.into_iter().map(watch)).collect());
        let differs = list != self.latest;
        self.latest = list;
        differs
    }
}

/// What the list is to be, and how it came to be so.
struct Combined {
    rows: AskedFor,
    /// The pending ones that are taken into account.
    taken: BTreeSet<Name>,
    added: Vec<Name>,
    gone: Vec<(Name, Leaving)>,
}

impl ImageSource for OnDemandSource {
    fn name(&self) -> &'static str {
        "on demand"
    }

    fn watch_lists(&mut self) -> BoxStream<'_, WatchList> {
        let lists = stream::unfold((self, true), |(source, at_first)| async move {
            let list = source.next_list(at_first).await;
            Some((list, (source, false)))
        });
        lists.boxed()
    }

    /// Who asks for a repository by name says nothing of which tags matter; the configuration does.
    fn gives_way(&self) -> bool {
        true
    }

    /// What is wrong with the credentials, as of the last reading.
    fn problems(&self) -> SourceProblems {
        self.problems.clone()
    }
}
