//! How a budget stands, for status pages and metrics.

use std::time::Duration;

use tokio::time::Instant;

use super::RequestKind;
use super::state::State;
use crate::credentials::Identity;
use crate::upstream::limits::Quota;

/// How a budget stands, for status pages and metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetSnapshot {
    /// Requests per second now.
    pub rate: f64,
    /// Requests per second when the host does not limit us and nobody else asks it.
    pub configured_rate: f64,
    /// How many requests may follow one another at once.
    pub burst: u32,
    /// How many requests may be under way.
    pub concurrency: usize,
    /// How many requests are under way.
    pub in_flight: usize,
    /// How many requests wait.
    pub waiting: usize,
    /// For how much longer requests to the registry are held back; absent when they are not.
    pub blocked_for: Option<Duration>,
    /// Why they are.
    pub blocked_by: Option<BlockReason>,
    /// For how much longer requests to its token service are held back.
    pub token_blocked_for: Option<Duration>,
    /// The same for requests to where it redirects.
    pub cdn_blocked_for: Option<Duration>,
    /// Whether the host keeps failing.
    pub breaker: BreakerSnapshot,
    /// The quota that the registry announced last.
    pub quota: Option<Quota>,
    /// The quotas of all identities that are known, by identity: at most 64.
    pub quotas: Vec<IdentityQuota>,
}

/// Why a host is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockReason {
    /// It says that we ask too often, or that it is overloaded.
    RateLimit,
    /// It keeps failing.
    Failures,
}

impl BlockReason {
    /// The reason in a word or two.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RateLimit => "rate_limit",
            Self::Failures => "failures",
        }
    }
}

/// How the breaker of a host stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BreakerSnapshot {
    /// Whether it has tripped: the host is left alone or probed.
    pub is_open: bool,
    /// Failures in a row.
    pub failures: u32,
}

/// The quota of one identity.
#[derive(Debug, Clone, PartialEq)]
pub struct IdentityQuota {
    /// Whose it is.
    pub identity: Identity,
    /// As announced, with what is left of it by our own count.
    pub quota: Quota,
    /// When the window ends as far as we can tell; absent where nothing was used or the registry names no window.
    pub resets_in: Option<Duration>,
    /// For how much longer what counts against it is held back; absent when it is not.
    pub blocked_for: Option<Duration>,
    /// Whether what is left is kept for those who asked.
    pub is_reserved: bool,
}

impl State {
    pub(super) fn snapshot(&self, now: Instant) -> BudgetSnapshot {
        let blocked_for = self.blocked_for(RequestKind::Registry, now);
        let broken = self.breaker.left(now);
        let blocked_by = blocked_for
            .map(|left| if broken == Some(left) { BlockReason::Failures } else { BlockReason::RateLimit });
        let quotas = self.accounts.iter().filter_map(|(identity, account)| {
            let (quota, ends) = account.quota().filter(|_| !account.is_unknown())?;
            let left = |until: Instant| until.saturating_duration_since(now);
            Some(IdentityQuota {
                identity: identity.clone(),
                quota,
                resets_in: ends.map(left).filter(|left| !left.is_zero()),
                blocked_for: account.exhausted_until(now).map(left),
                is_reserved: account.is_reserved(self.terms.quota_reserve),
            })
        });
        BudgetSnapshot {
            rate: self.rate(),
            configured_rate: self.rate.ceiling(),
            burst: self.terms.limits.burst,
            concurrency: self.terms.limits.concurrency,
            in_flight: self.in_flight,
            waiting: self.waiting(),
            blocked_for,
            blocked_by,
            token_blocked_for: self.blocked_for(RequestKind::Token, now),
            cdn_blocked_for: self.blocked_for(RequestKind::Cdn, now),
            breaker: BreakerSnapshot {
                is_open: self.breaker.is_tripped(),
                failures: self.breaker.failures(),
            },
            quota: self.announced.clone(),
            quotas: quotas.collect(),
        }
    }
}
