//! What a budget knows that is to survive a restart: how fast the host was asked, until when it is to be left alone, and
//! what is left of the quotas.

use std::time::Duration;

use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::RequestKind;
use super::account::Counting;
use super::state::State;
use crate::credentials::Identity;
use crate::upstream::limits::{LONGEST_PAUSE, LONGEST_WINDOW, Quota};

/// Identities whose quota is kept: those whose window ends last.
const MOST_KEPT_IDENTITIES: usize = 32;

/// What a budget knows that is to survive a restart. Holds no secret.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BudgetRecord {
    /// Requests per second, where the host has made us slower than configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    /// Until when requests to the registry, its token service and its CDN are held back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blocked_until: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_blocked_until: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cdn_blocked_until: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    quotas: Vec<QuotaRecord>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct QuotaRecord {
    identity: String,
    limit: u64,
    remaining: u64,
    window_seconds: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    ends: Timestamp,
}

impl BudgetRecord {
    /// Whether nothing would be lost without it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl State {
    /// What is to survive a restart. Times are kept to the second, so that the record changes only when something has.
    pub(super) fn record(&self, now: Instant, clock: Timestamp) -> BudgetRecord {
        let at = |until: Instant| rounded(clock + until.saturating_duration_since(now));
        let blocked =
            |kind: RequestKind| self.holds[kind.index()].until().filter(|until| *until > now).map(at);
        let quotas = self.accounts.iter().filter_map(|(identity, account)| {
            let ((quota, _), ends) = (account.quota()?, account.surely_ends());
            Some(QuotaRecord {
                identity: identity.as_str().to_owned(),
                limit: quota.limit,
                remaining: quota.remaining,
                window_seconds: quota.window?.as_secs(),
                source: quota.source.as_deref().map(str::to_owned),
                ends: at(ends.filter(|ends| *ends > now)?),
            })
        });
        let mut quotas: Vec<_> = quotas.collect();
        quotas
            .sort_by(|one, other| other.ends.cmp(&one.ends).then_with(|| one.identity.cmp(&other.identity)));
        quotas.truncate(MOST_KEPT_IDENTITIES);
        BudgetRecord {
            rate: self.rate.is_reduced().then(|| self.rate.current()),
            blocked_until: blocked(RequestKind::Registry),
            token_blocked_until: blocked(RequestKind::Token),
            cdn_blocked_until: blocked(RequestKind::Cdn),
            quotas,
        }
    }

    /// Goes on where an earlier life, or another replica, has stopped: by what is more cautious, of what it knows and we.
    pub(super) fn restore(&mut self, record: &BudgetRecord, now: Instant, clock: Timestamp) {
        self.settle(now);
        let left = |until: Timestamp| {
            Duration::try_from(until.duration_since(clock)).ok().filter(|left| !left.is_zero())
        };
        let blocked = [record.blocked_until, record.token_blocked_until, record.cdn_blocked_until];
        for (hold, until) in self.holds.iter_mut().zip(blocked) {
            // A pause further ahead was written by a clock that was wrong.
            if let Some(left) = until.and_then(left).filter(|left| *left <= LONGEST_PAUSE) {
                hold.extend(now + left);
                self.tokens = 0.0;
            }
        }
        if let Some(rate) = record.rate {
            self.rate.restore(rate, now);
        }
        for kept in record.quotas.iter().take(MOST_KEPT_IDENTITIES) {
            let Some(left) = left(kept.ends).filter(|left| *left <= LONGEST_WINDOW) else { continue };
            let window = Duration::from_secs(kept.window_seconds);
            if window.is_zero() || window > LONGEST_WINDOW {
                continue;
            }
            if kept.source.is_some() {
                self.counting = Counting::ManifestGets;
            }
            let quota = Quota {
                limit: kept.limit,
                remaining: kept.remaining,
                window: Some(window),
                source: kept.source.as_deref().map(Into::into),
            };
            if let Some(account) = self.account(&Identity::from(kept.identity.as_str()), now) {
                account.restore(quota, now + left);
            }
        }
        self.call_everybody(now);
    }
}

/// To the nearest whole second: what was restored is one, but for what passes between reading one clock and the other.
fn rounded(time: Timestamp) -> Timestamp {
    time.round(Unit::Second).unwrap_or(time)
}
