//! A host that keeps failing is left alone, for longer each time, and then probed by one request at a time until one
//! is answered.
//!
//! What counts is that nothing works: failures in a row over all repositories. One repository for which the host answers
//! with errors does not trip it, unless it is the only one that the host is asked about.

use std::time::Duration;

use tokio::time::Instant;

use super::super::ErrorKind;
use crate::Name;

/// So many failures in a row trip the breaker.
const MOST_FAILURES_IN_A_ROW: u32 = 10;
/// How long a host is left alone when the breaker trips; doubles with each probe that fails.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest that it is left alone between two probes.
const LONGEST_PAUSE_BETWEEN_PROBES: Duration = Duration::from_mins(10);

/// The breaker of one host.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Failures since the last answer.
    failures: u32,
    /// Those of them that say nothing of one repository: there was no answer at all, or it was not about one.
    failures_of_host: u32,
    /// The repositories that the others were about.
    failing: Repositories,
    /// The repositories that the host was ever asked about.
    asked: Repositories,
    /// How often it tripped since the last answer; 0: it is closed.
    trips: u32,
    open_until: Option<Instant>,
    /// Whether a probe is under way.
    is_probing: bool,
    /// How many requests had been admitted when it tripped last: their failures are the same one.
    tripped_at: u64,
    /// The failure that tripped it.
    last: Option<ErrorKind>,
}

/// Which repositories, as far as it matters.
#[derive(Debug, Default)]
enum Repositories {
    #[default]
    None,
    One(Name),
    Several,
}

impl Repositories {
    fn add(&mut self, repository: &Name) {
        match self {
            Self::None => *self = Self::One(repository.clone()),
            Self::One(known) if known != repository => *self = Self::Several,
            Self::One(_) | Self::Several => {}
        }
    }

    fn are_several(&self) -> bool {
        matches!(self, Self::Several)
    }
}

/// Whether a breaker lets a request through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passage {
    /// As usual.
    Closed,
    /// As a probe.
    HalfOpen,
    /// A probe is under way: when that has ended.
    AfterProbe,
    /// Not before then.
    At(Instant),
}

impl Breaker {
    pub(super) fn passage(&self, now: Instant) -> Passage {
        match self.open_until {
            Some(until) if until > now => Passage::At(until),
            _ if self.trips == 0 => Passage::Closed,
            _ if self.is_probing => Passage::AfterProbe,
            _ => Passage::HalfOpen,
        }
    }

    /// For how much longer the host is left alone.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.open_until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Whether it has tripped and nothing was answered since.
    pub(super) fn is_tripped(&self) -> bool {
        self.trips > 0
    }

    /// Failures since the last answer.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Why the host is left alone.
    pub(super) fn reason(&self, now: Instant) -> Option<ErrorKind> {
        let last = self.last.as_ref()?;
        Some(ErrorKind::LeftAlone {
            retry_after: self.left(now)?,
            failures: self.failures,
            last: last.to_string(),
        })
    }

    /// A request goes. Whether it is the probe.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        let is_probe = self.passage(now) == Passage::HalfOpen;
        self.is_probing |= is_probe;
        is_probe
    }

    /// The probe has ended, in whatever way.
    pub(super) fn probe_ended(&mut self) {
        self.is_probing = false;
    }

    /// The host has answered. Whether the breaker was tripped.
    pub(super) fn answered(&mut self) -> bool {
        let was_tripped = self.is_tripped();
        *self = Self {
            is_probing: self.is_probing,
            tripped_at: self.tripped_at,
            asked: std::mem::take(&mut self.asked),
            ..Self::default()
        };
        was_tripped
    }

    /// The host is asked about a repository, if it is about one.
    pub(super) fn note_asked(&mut self, repository: Option<&Name>) {
        if let Some(repository) = repository {
            self.asked.add(repository);
        }
    }

    /// What a failure was about.
    pub(super) fn note_failure(&mut self, repository: Option<&Name>, failure: &ErrorKind) {
        match repository {
            Some(repository) if matches!(failure, ErrorKind::Unavailable { .. }) => {
                self.failing.add(repository);
            }
            _ => self.failures_of_host = self.failures_of_host.saturating_add(1),
        }
    }

    /// Whether the failures since the last answer are those of the host, not of one of its repositories.
    fn is_of_host(&self) -> bool {
        self.failures_of_host >= MOST_FAILURES_IN_A_ROW
            || self.failing.are_several()
            || !self.asked.are_several()
    }

    /// A request failed in a way that may pass. For how long the host is left alone if this trips the breaker; `random`
    /// is from 0 to 1.
    pub(super) fn failed(
        &mut self,
        admission: u64,
        admissions: u64,
        failure: &ErrorKind,
        random: f64,
        now: Instant,
    ) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        let is_known = self.trips > 0 && admission <= self.tripped_at;
        if self.failures < MOST_FAILURES_IN_A_ROW || !self.is_of_host() || is_known {
            return None;
        }
        let doublings = self.trips.min(16);
        let longest = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE_BETWEEN_PROBES);
        // The upper half at random: hosts that fail together are not probed together, nor at once.
        let pause = longest.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        self.trips = self.trips.saturating_add(1);
        self.tripped_at = admissions;
        self.open_until = Some(now + pause);
        self.last = Some(failure.clone());
        Some(pause)
    }
}
