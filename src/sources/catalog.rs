//! The repositories of a registry that patterns of the watch list match, as the registry lists them.
//!
//! Invariants:
//! - what is known of a registry's repositories is kept in the store: after a restart, and while the registry cannot be
//!   listed, what it listed last is watched. Of replicas that share a store one asks, and the others read;
//! - a list that lost more than half of its repositories is believed when a second one says the same;
//! - before anything is known, no watch list is given: what a pattern may match is not taken for unwatched.
//!
//! What the configuration names by itself is left to [`super::ConfigurationSource`], with what it says of it.

mod kept;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use samovar_registry::credentials::CredentialChain;
use samovar_registry::upstream::{CatalogError, UpstreamFactory, Urgency};
use samovar_registry::{Clock, Name};
use tokio::time::Instant;
use tracing::{debug, warn};

use self::kept::{Kept, Names, Record};
use super::problems::Concern;
use super::{ImageSource, SharedKeychain, SourceProblems, WatchList, watched};
use crate::config::{RepositoryPattern, WatchEntry};
use crate::store::{Client, StoreError};

/// How often it is looked whether there is something new: in the store, or to ask.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often the credentials of all repositories are read again.
const CREDENTIALS_EVERY: Duration = Duration::from_secs(30);
/// A list that lost most of its repositories is confirmed after this long.
const CONFIRM_AFTER: Duration = Duration::from_mins(1);
/// After a failure the registry is asked again after this long, then after twice as long each time.
const FIRST_RETRY: Duration = Duration::from_mins(1);
/// Between two tries of a registry that cannot be listed.
const LONGEST_CATALOG_RETRY: Duration = Duration::from_hours(1);
/// One reading of the list, waiting for the host's budget included.
const LONGEST_CATALOG_READING: Duration = Duration::from_mins(20);
/// A turn to ask ends this long after it was taken, if it is not given back before: whoever had it may have died. That another
/// one asks as well where a list takes longer does no harm.
const TURN: Duration = Duration::from_mins(5);
/// Repositories that the patterns of one registry may match; those after them in the order of names are left out.
const MOST_MATCHED: usize = 50_000;
/// Logins with which one registry is asked for its repositories.
const MOST_CATALOG_LOGINS: usize = 8;
/// A time that is further ahead was written by a clock that was wrong.
const CLOCKS_DIFFER: Duration = Duration::from_mins(5);

/// What the catalogs of all registries have in common.
#[derive(Debug, Clone)]
pub struct CatalogOptions {
    /// How often a registry is asked, a tenth earlier or not.
    pub interval: Duration,
    /// The name by which this replica takes its turn to ask; no other one has it at the same time.
    pub replica: String,
    /// Makes jitter repeatable; random where absent.
    pub seed: Option<u64>,
}

/// Watches what a registry lists and patterns match.
#[derive(Debug)]
pub struct CatalogSource {
    name: String,
    host: String,
    patterns: Vec<WatchEntry<RepositoryPattern>>,
    /// What the configuration names itself.
    named: BTreeSet<Name>,
    keychain: SharedKeychain,
    kept: Kept,
    upstreams: Arc<dyn UpstreamFactory>,
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
        named: BTreeSet<Name>,
        keychain: SharedKeychain,
        store: Arc<dyn Client>,
        upstreams: Arc<dyn UpstreamFactory>,
        clock: Arc<dyn Clock>,
        options: CatalogOptions,
    ) -> Self {
        let host = patterns.first().expect("there is no catalog without a pattern").name.host().to_owned();
        Self {
            name: format!("catalog of {host}"),
            patterns,
            named,
            keychain,
            kept: Kept::new(store, &host),
            host,
            upstreams,
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

    /// What keeps repositories from being found.
    pub fn problems(&self) -> SourceProblems {
        self.problems.clone()
    }

    fn now(&self) -> Timestamp {
        let now = self.clock.now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    /// Waits until the list is another one.
    async fn next(&mut self) -> WatchList {
        let mut pause = self.given.is_some();
        loop {
            if std::mem::replace(&mut pause, true) {
                tokio::time::sleep(LOOK_EVERY.min(self.options.interval)).await;
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

    /// Reads what is known, and asks the registry when it is time.
    async fn look(&mut self) -> Result<(), StoreError> {
        let (mut record, mut names) = self.kept.read().await?;
        if self.is_due(&record, names.as_ref()) && self.kept.take_turn(&self.options.replica, TURN).await? {
            // Another replica may have been faster.
            (record, names) = self.kept.read().await?;
            if self.is_due(&record, names.as_ref()) {
                (record, names) = self.ask(record, names.or_else(|| self.names.clone())).await;
                let written = self.kept.write(&record, names.as_ref()).await;
                if let Err(error) = written {
                    debug!(registry.host = self.host, %error, "what is known of its repositories is not stored");
                }
            }
            self.kept.give_turn_back(&self.options.replica).await;
        }
        self.names = names.or_else(|| self.names.take());
        self.listing_problem = record.problem;
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

    /// Asks the registry. What it listed before stays where it cannot be listed now.
    async fn ask(&mut self, before: Record, known: Option<Names>) -> (Record, Option<Names>) {
        let reading = tokio::time::timeout(LONGEST_CATALOG_READING, self.list());
        let (outcome, retry_after) = match reading.await {
            Ok(Ok(listed)) => (Ok(listed), None),
            Ok(Err(error)) => {
                debug!(registry.host = self.host, %error, "its repositories could not be listed");
                let problem = match &error {
                    CatalogError::CannotList { .. } => error.to_string(),
                    // Without what is another each time, so that it is said once.
                    CatalogError::Failed { host, kind } => {
                        format!("the repositories of {host} could not be listed: {}", kind.class())
                    }
                };
                (Err(problem), error.kind().retry_after())
            }
            Err(_) => (Err(format!("listing the repositories of {} takes too long", self.host)), None),
        };
        let now = self.now();
        let early = 0.9 + self.random.f64() / 10.0;
        let (mut record, wait, names) = match outcome {
            Ok(listed) => {
                let judged = judge(known.as_deref(), listed, before.held_back);
                if judged.held_back {
                    warn!(
                        registry.host = self.host,
                        "it lists less than half of its repositories; it is asked again"
                    );
                }
                let wait =
                    if judged.held_back { CONFIRM_AFTER } else { self.options.interval.mul_f64(early) };
                let record = Record { read_at: Some(now), held_back: judged.held_back, ..Record::default() };
                (record, wait, Some(Arc::new(judged.names)))
            }
            Err(problem) => {
                let doublings = before.attempts.min(10);
                let wait =
                    FIRST_RETRY.saturating_mul(1 << doublings).min(LONGEST_CATALOG_RETRY).mul_f64(early);
                let attempts = before.attempts.saturating_add(1);
                // A list of which a part is lost is not to pass for an empty one.
                let read_at = before.read_at.filter(|_| known.is_some());
                let record = Record { attempts, problem: Some(problem), read_at, ..before };
                (record, wait.max(retry_after.unwrap_or_default()), known)
            }
        };
        record.asked_at = Some(now);
        record.next_at = Some(now + wait);
        self.not_before = Some(Instant::now() + wait.min(self.options.interval));
        (record, names)
    }

    /// What the registry lists for those who log in as for a repository that a pattern would match.
    async fn list(&self) -> Result<BTreeSet<Name>, CatalogError> {
        let examples = self.patterns.iter().map(|pattern| pattern.name.example().clone()).collect();
        let mut chains: Vec<CredentialChain> = Vec::new();
        let read = self.keychain.chains_for(examples).await.unwrap_or_default();
        for chain in read.chains {
            if !chains.contains(&chain) && chains.len() < MOST_CATALOG_LOGINS {
                chains.push(chain);
            }
        }
        let mut listed = BTreeSet::new();
        for chain in &chains {
            let catalog = self.upstreams.catalog(&self.host, chain, Urgency::Background).await?;
            listed.extend(catalog.repositories);
        }
        Ok(listed)
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
            let unnamed = together.filter(|entry| !self.named.contains(&entry.name));
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

/// What is believed of a list.
#[derive(Debug, PartialEq)]
struct Judged {
    names: BTreeSet<Name>,
    /// It lost most of what was there, and is to be confirmed.
    held_back: bool,
}

/// Believes a list, unless it lost more than half of what was known and the one before did not as well: then everything that
/// either of them has is there.
fn judge(known: Option<&BTreeSet<Name>>, listed: BTreeSet<Name>, was_held_back: bool) -> Judged {
    let Some(known) = known.filter(|_| !was_held_back) else {
        return Judged { names: listed, held_back: false };
    };
    let lost = known.difference(&listed).count();
    if lost * 2 <= known.len() {
        return Judged { names: listed, held_back: false };
    }
    Judged { names: known.union(&listed).cloned().collect(), held_back: true }
}

impl ImageSource for CatalogSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn watch_lists(&mut self) -> BoxStream<'_, WatchList> {
        stream::unfold(self, |source| async move { Some((source.next().await, source)) }).boxed()
    }
}

#[cfg(test)]
mod tests;
