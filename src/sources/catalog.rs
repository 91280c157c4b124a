//! The repositories of a registry that patterns of the watch list match, as the registry lists them.
//!
//! Invariants:
//! - what is known of a registry's repositories is kept in the store: after a restart, and while the registry cannot be
//!   listed, what it listed last is watched. Of replicas that share a store the one asks that holds the host's lane, under the
//!   host's budget as the lane knows it, and the others read;
//! - a login that may not list keeps nothing from the others; one that could list before, and cannot now, keeps what is known;
//! - a list that lost more than half of its repositories is believed when a second one says about the same;
//! - before anything is known, no watch list is given: what a pattern may match is not taken for unwatched.
//!
//! What the configuration names by itself is left to [`super::ConfigurationSource`], with what it says of it.

mod asking;
mod judgement;
mod kept;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use samovar_registry::upstream::UpstreamFactory;
use samovar_registry::{Clock, Name};
use tokio::time::Instant;
use tracing::debug;

use self::kept::{Kept, Names, Record};
use super::problems::Concern;
use super::{ImageSource, Lanes, Named, SharedKeychain, SourceProblems, WatchList, watched};
use crate::config::{RepositoryPattern, WatchEntry};
use crate::store::{Client, StoreError};

/// How often it is looked whether there is something new: in the store, or to ask.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often the credentials of all repositories are read again.
const CREDENTIALS_EVERY: Duration = Duration::from_secs(30);
/// Repositories that the patterns of one registry may match; those after them in the order of names are left out.
const MOST_MATCHED: usize = 50_000;
/// A time that is further ahead was written by a clock that was wrong.
const CLOCKS_DIFFER: Duration = Duration::from_mins(5);

/// What the catalogs of all registries have in common.
#[derive(Debug, Clone)]
pub struct CatalogOptions {
    /// How often a registry is asked, a tenth earlier or not.
    pub interval: Duration,
    /// Makes jitter repeatable; random where absent.
    pub seed: Option<u64>,
}

/// What a source of this kind speaks with.
#[derive(Debug, Clone)]
pub struct CatalogParts {
    /// What to log in with.
    pub keychain: SharedKeychain,
    /// Where what is known is kept.
    pub store: Arc<dyn Client>,
    /// The registries.
    pub upstreams: Arc<dyn UpstreamFactory>,
    /// Whether it is for this replica to ask them.
    pub lanes: Arc<dyn Lanes>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Watches what a registry lists and patterns match.
#[derive(Debug)]
pub struct CatalogSource {
    name: String,
    host: String,
    patterns: Vec<WatchEntry<RepositoryPattern>>,
    /// What the configuration names itself.
    named: Named,
    keychain: SharedKeychain,
    kept: Kept,
    upstreams: Arc<dyn UpstreamFactory>,
    lanes: Arc<dyn Lanes>,
    clock: Arc<dyn Clock>,
    options: CatalogOptions,
    random: fastrand::Rng,
    problems: SourceProblems,
    listing_problem: Option<String>,
    match_problems: Vec<String>,
    credential_problems: Vec<String>,
    /// The registry is not asked before, whatever the store says, which may not have taken what was learnt.
    not_before: Option<Instant>,
    /// What the registry has, as far as is known.
    names: Option<Names>,
    given: Option<Given>,
}

/// The watch list that was given last.
#[derive(Debug)]
struct Given {
    list: WatchList,
    /// What it was made from.
    names: Names,
    credentials_read_at: Instant,
}

impl CatalogSource {
    /// What `patterns`, all of one registry, match there, without what is `named` already.
    ///
    /// # Panics
    /// When there are no patterns.
    pub fn new(
        patterns: Vec<WatchEntry<RepositoryPattern>>,
        named: Named,
        parts: CatalogParts,
        options: CatalogOptions,
    ) -> Self {
        let CatalogParts { keychain, store, upstreams, lanes, clock } = parts;
        let host = patterns.first().expect("there is no catalog without a pattern").name.host().to_owned();
        Self {
            name: format!("catalog of {host}"),
            patterns,
            named,
            keychain,
            kept: Kept::new(store, &host),
            host,
            upstreams,
            lanes,
            clock,
            random: options.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
            options,
            problems: SourceProblems::default(),
            listing_problem: None,
            match_problems: Vec::new(),
            credential_problems: Vec::new(),
            not_before: None,
            names: None,
            given: None,
        }
    }

    fn now(&self) -> Timestamp {
        let now = self.clock.now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    /// Waits until the list is another one.
    async fn next(&mut self) -> WatchList {
        let mut pause = self.given.is_some();
        if pause {
            // Whoever asks for the next one watches the one before.
            self.named.found_out(&self.host);
        }
        loop {
            if std::mem::replace(&mut pause, true) {
                self.pause().await;
            }
            if let Err(error) = self.look().await {
                debug!(registry.host = self.host, %error, "what is known of its repositories cannot be read");
            }
            let list = self.changed().await;
            self.note_problems();
            if let Some(list) = list {
                return list;
            }
        }
    }

    /// Until it is to be looked again, or it has come to this replica to ask.
    async fn pause(&self) {
        let turn = async {
            if self.lanes.permits(&self.host) {
                std::future::pending::<()>().await;
            }
            self.lanes.permitted(&self.host).await;
        };
        tokio::select! {
            biased;
            () = turn => {}
            () = tokio::time::sleep(LOOK_EVERY.min(self.options.interval)) => {}
        }
    }

    /// Reads what is known, and asks the registry when it is time and for this replica to do so.
    async fn look(&mut self) -> Result<(), StoreError> {
        // Before the reading: whoever asked last has written what was listed before this replica may ask.
        let is_permitted = self.lanes.permits(&self.host);
        let (mut record, mut names) = self.kept.read().await?;
        if is_permitted && self.is_due(&record, names.as_ref()) {
            let (lanes, host) = (Arc::clone(&self.lanes), self.host.clone());
            let known = names.clone().or_else(|| self.names.clone());
            let asked = tokio::select! {
                biased;
                // Whoever has the lane now asks.
                () = lanes.lost(&host) => None,
                asked = self.ask(record.clone(), known) => Some(asked),
            };
            if let Some(asked) = asked {
                (record, names) = asked;
                let written = self.kept.write(&record, names.as_ref()).await;
                if let Err(error) = written {
                    debug!(registry.host = self.host, %error, "what is known of its repositories is not stored");
                }
            }
        }
        self.names = names.or_else(|| self.names.take());
        self.listing_problem = record.problem;
        if self.names.is_none() && self.listing_problem.is_some() {
            self.named.found_out(&self.host);
        }
        Ok(())
    }

    fn is_due(&self, record: &Record, names: Option<&Names>) -> bool {
        if self.not_before.is_some_and(|not_before| Instant::now() < not_before) {
            return false;
        }
        let now = self.now();
        let is_lost = record.read_at.is_some() && names.is_none();
        let is_from_the_future = record.asked_at.is_some_and(|asked| asked > now + CLOCKS_DIFFER);
        // The interval may have become shorter since it was planned.
        let planned = match record.asked_at.filter(|_| record.attempts == 0) {
            Some(asked) => record.next_at.map(|next| next.min(asked + self.options.interval)),
            None => record.next_at,
        };
        is_lost || is_from_the_future || planned.is_none_or(|planned| planned <= now)
    }

    /// The watch list, if it is another one than was given last.
    async fn changed(&mut self) -> Option<WatchList> {
        let names = self.names.clone()?;
        if let Some(given) = &self.given
            && Arc::ptr_eq(&given.names, &names)
            && given.credentials_read_at.elapsed() < CREDENTIALS_EVERY
        {
            return None;
        }
        let list = self.matched(&names).await?;
        let differs = self.given.as_ref().is_none_or(|given| given.list != list);
        self.given = Some(Given { list: list.clone(), names, credentials_read_at: Instant::now() });
        differs.then_some(list)
    }

    /// What the patterns match, each as all of them that match want it; `None` where the credentials cannot be told.
    async fn matched(&mut self, names: &BTreeSet<Name>) -> Option<WatchList> {
        let mut is_idle = vec![true; self.patterns.len()];
        let mut entries: Vec<WatchEntry> = Vec::new();
        let mut left_out = 0;
        for name in names {
            let mut together: Option<WatchEntry> = None;
            for (pattern, is_idle) in self.patterns.iter().zip(&mut is_idle) {
                if pattern.name.matches(name) {
                    *is_idle = false;
                    let entry = pattern.renamed(name.clone());
                    together = Some(match together {
                        Some(others) => others.and(entry),
                        None => entry,
                    });
                }
            }
            let unnamed = together.filter(|entry| !self.named.is_exact(&entry.name));
            if entries.len() < MOST_MATCHED {
                entries.extend(unnamed);
            } else {
                left_out += usize::from(unnamed.is_some());
            }
        }
        let read = self.keychain.chains_for(entries.iter().map(|entry| entry.name.clone()).collect()).await?;
        let idle = self.patterns.iter().zip(is_idle).filter(|(_, is_idle)| *is_idle);
        self.match_problems = idle
            .map(|(pattern, _)| format!("{} matches nothing that the registry lists", pattern.name))
            .collect();
        if left_out > 0 {
            let host = &self.host;
            self.match_problems.push(format!(
                "the patterns of {host} match more than {MOST_MATCHED} repositories; the last {left_out} are left out"
            ));
        }
        self.credential_problems = read.chain_problems;
        let watches = entries.iter().zip(read.chains).map(|(entry, chain)| watched(entry, chain));
        Some(WatchList(watches.collect()))
    }

    fn note_problems(&self) {
        let mut problems: Vec<String> = self.listing_problem.iter().cloned().collect();
        problems.extend_from_slice(&self.match_problems);
        self.problems.replace(Concern::Repositories, problems, self.credential_problems.clone());
    }
}

impl ImageSource for CatalogSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn watch_lists(&mut self) -> BoxStream<'_, WatchList> {
        stream::unfold(self, |source| async move { Some((source.next().await, source)) }).boxed()
    }

    /// What keeps repositories from being found.
    fn problems(&self) -> SourceProblems {
        self.problems.clone()
    }

    fn asks_host(&self) -> Option<&str> {
        Some(&self.host)
    }
}
