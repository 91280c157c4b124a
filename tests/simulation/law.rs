//! What a registry demands of those who ask it, checked from its side: a second opinion on the budgets of the client.
//!
//! Knows nothing of the client but its configured limits. Whatever breaks a law is noted with the time, and ends up in the
//! report.

use std::collections::BTreeMap;
use std::time::Duration;

/// Timers are kept to the millisecond, and so is a rate.
const TOLERANCE: f64 = 0.2;
/// What a process knows of a pause and has not stored yet is lost when it is killed.
const KEPT_WITHIN: Duration = Duration::from_secs(6);
/// Broken laws that are told in full.
const MOST_TOLD: usize = 20;

/// What the client is configured to keep to, with the host and what belongs to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) rate: f64,
    pub(crate) burst: f64,
    pub(crate) concurrency: usize,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Registry,
    Token,
    Blobs,
}

/// The pulls that a registry lets one have in a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quota {
    pub(crate) limit: u64,
    pub(crate) window: Duration,
}

/// One host's demands, and how they were kept. All times are since the beginning of the simulation.
#[derive(Debug)]
pub(crate) struct Law {
    limits: Limits,
    tokens: f64,
    last: Duration,
    under_way: usize,
    most_under_way: usize,
    /// Since when and until when requests of a kind are not wanted.
    held: BTreeMap<Kind, (Duration, Duration)>,
    /// When a process was killed last.
    killed_at: Option<Duration>,
    broken: Vec<String>,
    broken_count: usize,
}

impl Law {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            tokens: limits.burst,
            last: Duration::ZERO,
            under_way: 0,
            most_under_way: 0,
            held: BTreeMap::new(),
            killed_at: None,
            broken: Vec::new(),
            broken_count: 0,
        }
    }

    /// A request arrives.
    pub(crate) fn arrived(&mut self, now: Duration, kind: Kind, what: &str) {
        let Limits { rate, burst, concurrency } = self.limits;
        let elapsed = now.saturating_sub(self.last).as_secs_f64();
        self.tokens = (self.tokens + elapsed * rate).min(burst) - 1.0;
        self.last = now;
        if self.tokens < -TOLERANCE {
            self.broken(now, format!("{what}: faster than {rate}/s after {burst} at once"));
            self.tokens = 0.0;
        }
        self.under_way += 1;
        self.most_under_way = self.most_under_way.max(self.under_way);
        if self.under_way > concurrency {
            self.broken(now, format!("{what}: {} at the same time", self.under_way));
        }
        if let Some((since, until)) = self.held.get(&kind).copied()
            && now > since
            && now < until
            && !self.killed_at.is_some_and(|killed| killed >= since && killed <= since + KEPT_WITHIN)
        {
            self.broken(now, format!("{what}: not wanted from {since:?} to {until:?}"));
        }
    }

    /// A request has ended, in whatever way.
    pub(crate) fn ended(&mut self) {
        self.under_way -= 1;
    }

    /// We have asked to be left alone by requests of a kind.
    pub(crate) fn hold(&mut self, now: Duration, kind: Kind, pause: Duration) {
        let until = now + pause;
        if self.held.get(&kind).is_none_or(|(_, known)| *known < until) {
            self.held.insert(kind, (now, until));
        }
    }

    /// Another process begins, whose bucket is full.
    pub(crate) fn begins_anew(&mut self) {
        self.tokens = self.limits.burst;
    }

    pub(crate) fn killed(&mut self, now: Duration) {
        self.killed_at = Some(now);
    }

    pub(crate) fn broken(&mut self, now: Duration, what: String) {
        self.broken_count += 1;
        if self.broken.len() < MOST_TOLD {
            self.broken.push(format!("at {:.3} s: {what}", now.as_secs_f64()));
        }
    }

    /// What was broken, told in full as far as it is not too much, and how often.
    pub(crate) fn verdict(&self) -> (&[String], usize) {
        (&self.broken, self.broken_count)
    }

    pub(crate) fn most_under_way(&self) -> usize {
        self.most_under_way
    }
}

/// How much of a quota was used: a window begins with the first pull in it.
#[derive(Debug)]
pub(crate) struct Counter {
    pub(crate) quota: Quota,
    began: Option<Duration>,
    used: u64,
    pub(crate) most_used: u64,
}

impl Counter {
    pub(crate) fn new(quota: Quota) -> Self {
        Self { quota, began: None, used: 0, most_used: 0 }
    }

    /// Whether a pull is within the quota; counts it if it is.
    pub(crate) fn pull(&mut self, now: Duration) -> bool {
        self.settle(now);
        if self.used >= self.quota.limit {
            return false;
        }
        self.began.get_or_insert(now);
        self.used += 1;
        self.most_used = self.most_used.max(self.used);
        true
    }

    /// How many pulls are left.
    pub(crate) fn left(&mut self, now: Duration) -> u64 {
        self.settle(now);
        self.quota.limit - self.used
    }

    /// When the window ends.
    pub(crate) fn ends(&self, now: Duration) -> Duration {
        self.began.map_or(now, |began| began + self.quota.window)
    }

    fn settle(&mut self, now: Duration) {
        if self.began.is_some_and(|began| began + self.quota.window <= now) {
            self.began = None;
            self.used = 0;
        }
    }
}
