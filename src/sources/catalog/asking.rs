//! Asking a registry which repositories it has, and what is recorded of its answer.

use std::sync::Arc;
use std::time::Duration;

use samovar_registry::credentials::CredentialChain;
use samovar_registry::upstream::Urgency;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::CatalogSource;
use super::judgement::{Learnt, Reading};
use super::kept::{Names, Record};

/// A list that lost most of its repositories is confirmed after this long.
const CONFIRM_AFTER: Duration = Duration::from_mins(1);
/// After a failure the registry is asked again after this long, then after twice as long each time.
const FIRST_RETRY: Duration = Duration::from_mins(1);
/// Between two tries of a registry that cannot be listed.
const LONGEST_CATALOG_RETRY: Duration = Duration::from_hours(1);
/// One reading of the list, waiting for the host's budget included.
const LONGEST_CATALOG_READING: Duration = Duration::from_mins(20);
/// Logins with which one registry is asked for its repositories.
const MOST_CATALOG_LOGINS: usize = 8;

impl CatalogSource {
    /// Asks the registry. What it listed before stays where it cannot be listed now.
    pub(super) async fn ask(&mut self, before: Record, known: Option<Names>) -> (Record, Option<Names>) {
        let reading = tokio::time::timeout(LONGEST_CATALOG_READING, self.list(&before)).await;
        let reading = reading.unwrap_or_else(|_| Reading::too_slow(&self.host));
        let now = self.now();
        let early = 0.9 + self.random.f64() / 10.0;
        let retry_after = reading.retry_after();
        let (mut record, wait, names) = match reading.learnt(known.as_deref(), &before) {
            Ok(Learnt { names, shrunken, listed_for, problem }) => {
                let is_to_be_confirmed = shrunken.is_some() && shrunken != before.shrunken;
                if is_to_be_confirmed {
                    warn!(
                        registry.host = self.host,
                        "it lists less than half of its repositories; it is asked again"
                    );
                }
                let wait =
                    if is_to_be_confirmed { CONFIRM_AFTER } else { self.options.interval.mul_f64(early) };
                // A host that wants to be left alone is, for longer than the interval too.
                let attempts = u32::from(retry_after.is_some());
                let record = Record {
                    read_at: Some(now),
                    attempts,
                    problem,
                    shrunken,
                    listed_for,
                    ..Record::default()
                };
                (record, wait, Some(Arc::new(names)))
            }
            Err(problem) => {
                let doublings = before.attempts.min(10);
                let wait =
                    FIRST_RETRY.saturating_mul(1 << doublings).min(LONGEST_CATALOG_RETRY).mul_f64(early);
                let attempts = before.attempts.saturating_add(1);
                // A list of which a part is lost is not to pass for an empty one.
                let read_at = before.read_at.filter(|_| known.is_some());
                let record = Record { attempts, problem: Some(problem), read_at, ..before };
                (record, wait, known)
            }
        };
        let wait = wait.max(retry_after.unwrap_or_default());
        record.asked_at = Some(now);
        record.next_at = Some(now + wait);
        self.not_before = Some(Instant::now() + wait.min(self.options.interval));
        (record, names)
    }

    /// What the registry lists for those who log in as for a repository that a pattern would match.
    async fn list(&self, before: &Record) -> Reading {
        let examples = self.patterns.iter().map(|pattern| pattern.name.example().clone()).collect();
        let mut logins: Vec<(String, CredentialChain)> = Vec::new();
        let read = self.keychain.chains_for(examples).await.unwrap_or_default();
        for (pattern, chain) in self.patterns.iter().zip(read.chains) {
            let is_known = logins.iter().any(|(_, known)| *known == chain);
            if !is_known && logins.len() < MOST_CATALOG_LOGINS {
                logins.push((pattern.name.to_string(), chain));
            }
        }
        let mut reading = Reading::of(logins.iter().map(|(pattern, _)| pattern.clone()));
        for (pattern, chain) in &logins {
            match self.upstreams.catalog(&self.host, chain, Urgency::Background).await {
                Ok(catalog) => reading.listed(pattern, catalog.repositories),
                Err(error) => {
                    debug!(registry.host = self.host, %error, "its repositories could not be listed");
                    reading.failed(pattern, &error, before);
                }
            }
            // The host wants to be left alone, whoever asks.
            if reading.retry_after().is_some() {
                break;
            }
        }
        reading
    }
}
