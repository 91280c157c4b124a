//! What may still be asked of each registry host.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::{GaugeVec, IntGaugeVec, Registry};
use samovar_registry::credentials::Identity;
use samovar_registry::upstream::{BudgetSnapshot, IdentityQuota};

/// Identities of one host that are shown; those with the least left of their quota.
const MOST_SHOWN_IDENTITIES: usize = 8;

#[derive(Debug)]
pub(super) struct BudgetMetrics {
    rate: GaugeVec,
    waiting: IntGaugeVec,
    blocked: GaugeVec,
    breaker: IntGaugeVec,
    quota_limit: IntGaugeVec,
    quota_used: IntGaugeVec,
    /// The hosts and identities that are shown.
    shown: Mutex<BTreeSet<(String, String)>>,
}

impl BudgetMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let float = |name: &str, help: &str, labels: &[&str]| {
            let metric = GaugeVec::new(prometheus::Opts::new(name, help), labels).expect(super::VALID);
            super::register(registry, metric.clone());
            metric
        };
        Self {
            rate: float(
                "samovar_budget_rate",
                "Requests a second that a registry host is asked at most, now.",
                &["host"],
            ),
            waiting: super::gauges(
                registry,
                "samovar_budget_waiting",
                "Requests that wait for their host's budget.",
                &["host"],
            ),
            blocked: float(
                "samovar_budget_blocked_seconds",
                "For how much longer requests to a host are held back, by what they are for.",
                &["host", "requests"],
            ),
            breaker: super::gauges(
                registry,
                "samovar_budget_breaker_open",
                "1 while a host that keeps failing is left alone or probed.",
                &["host"],
            ),
            quota_limit: super::gauges(
                registry,
                "samovar_budget_quota_limit",
                "Requests that a registry allows an identity in a window; 0: it has not said.",
                &["host", "identity"],
            ),
            quota_used: super::gauges(
                registry,
                "samovar_budget_quota_used",
                "How many of them are used up.",
                &["host", "identity"],
            ),
            shown: Mutex::default(),
        }
    }

    /// A host of which nothing is known yet.
    pub(super) fn host(&self, host: &str) {
        self.rate.with_label_values(&[host]);
        self.waiting.with_label_values(&[host]);
        self.breaker.with_label_values(&[host]);
        for requests in ["registry", "token", "cdn"] {
            self.blocked.with_label_values(&[host, requests]);
        }
        self.quota_limit.with_label_values(&[host, Identity::ANONYMOUS]);
        self.quota_used.with_label_values(&[host, Identity::ANONYMOUS]);
    }

    pub(super) fn set(&self, budgets: &[(String, BudgetSnapshot)]) {
        let mut shown = BTreeSet::new();
        for (host, budget) in budgets {
            self.rate.with_label_values(&[host]).set(budget.rate);
            self.waiting.with_label_values(&[host]).set(whole(budget.waiting as u64));
            self.breaker.with_label_values(&[host]).set(i64::from(budget.breaker.is_open));
            for (requests, left) in [
                ("registry", budget.blocked_for),
                ("token", budget.token_blocked_for),
                ("cdn", budget.cdn_blocked_for),
            ] {
                let left = left.as_ref().map_or(0.0, Duration::as_secs_f64);
                self.blocked.with_label_values(&[host, requests]).set(left);
            }
            let mut quotas: Vec<&IdentityQuota> = budget.quotas.iter().collect();
            quotas.sort_by_key(|known| known.quota.remaining);
            for known in quotas.into_iter().take(MOST_SHOWN_IDENTITIES) {
                let (labels, quota) = ([host.as_str(), known.identity.as_str()], &known.quota);
                self.quota_limit.with_label_values(&labels).set(whole(quota.limit));
                let used = quota.limit.saturating_sub(quota.remaining);
                self.quota_used.with_label_values(&labels).set(whole(used));
                shown.insert((host.clone(), known.identity.as_str().to_owned()));
            }
        }
        let mut shown_before = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for (host, identity) in shown_before.difference(&shown) {
            for metric in [&self.quota_limit, &self.quota_used] {
                // It was shown, so it is there.
                let _ = metric.remove_label_values(&[host, identity]);
            }
        }
        *shown_before = shown;
        for (host, _) in budgets {
            // What is there from the start stays.
            self.quota_limit.with_label_values(&[host, Identity::ANONYMOUS]);
            self.quota_used.with_label_values(&[host, Identity::ANONYMOUS]);
        }
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
