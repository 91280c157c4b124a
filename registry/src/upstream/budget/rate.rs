//! The rate at which a host is asked now: halved when it says that it is too fast, and raised again step by step.

use std::time::Duration;

use tokio::time::Instant;

/// However often a host limits us, it is asked this often, in requests a second; less only where less is configured.
const FLOOR: f64 = 0.1;
/// What the rate is multiplied by when the host limits us.
const REDUCTION: f64 = 0.5;
/// What it is multiplied by after a clean cool-down, up to what is configured.
const RECOVERY: f64 = 1.5;
/// How long nothing may be limited before the rate is raised, counted from the end of the pause or the last step.
const COOL_DOWN: Duration = Duration::from_secs(30);

/// The rate of one host.
#[derive(Debug)]
pub(super) struct Rate {
    /// What is configured, in requests a second.
    ceiling: f64,
    current: f64,
    /// Since when nothing was limited, or the last step; in the future while a pause lasts.
    clean_since: Instant,
    /// How many requests had been admitted when the rate was reduced last: their answers say nothing of the new rate.
    reduced_at: u64,
}

impl Rate {
    pub(super) fn new(ceiling: f64, now: Instant) -> Self {
        Self { ceiling, current: ceiling, clean_since: now, reduced_at: 0 }
    }

    /// Requests a second.
    pub(super) fn current(&self) -> f64 {
        self.current
    }

    pub(super) fn ceiling(&self) -> f64 {
        self.ceiling
    }

    /// Whether it is lower than configured.
    pub(super) fn is_reduced(&self) -> bool {
        self.current < self.ceiling
    }

    /// The host has limited the request of this admission, and is left alone until then. Requests that were under way
    /// together reduce the rate once.
    pub(super) fn reduce(&mut self, admission: u64, admissions: u64, until: Instant) {
        self.clean_since = self.clean_since.max(until);
        if admission <= self.reduced_at {
            return;
        }
        self.reduced_at = admissions;
        self.current = (self.current * REDUCTION).max(FLOOR.min(self.ceiling));
    }

    /// The request of this admission was answered, and not limited. Whether the rate has changed.
    pub(super) fn accepted(&mut self, admission: u64, now: Instant) -> bool {
        let is_clean = now.saturating_duration_since(self.clean_since) >= COOL_DOWN;
        if !self.is_reduced() || !is_clean || admission <= self.reduced_at {
            return false;
        }
        self.clean_since = now;
        self.current = (self.current * RECOVERY).min(self.ceiling);
        true
    }

    /// Goes on at the rate of an earlier life, if that was lower.
    pub(super) fn restore(&mut self, rate: f64, now: Instant) {
        if rate.is_finite() && rate < self.current {
            self.current = rate.max(FLOOR.min(self.ceiling));
            self.clean_since = self.clean_since.max(now);
        }
    }
}
