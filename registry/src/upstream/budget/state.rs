//! The decisions of a budget: who may go, when, and who is to be told. Pure but for the waiters that it calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::Urgency;
use super::super::limits::{self, LONGEST_PAUSE, Quota};
use super::{BudgetSnapshot, Limits, RequestKind};

/// How many requests may wait for one host; more are refused.
pub(super) const MAX_WAITING: usize = 100_000;

/// What a budget knows. Changed only under its lock, never across an await.
#[derive(Debug)]
pub(super) struct State {
    limits: Limits,
    /// The part of the limits' rate that is ours, above 0 and at most 1.
    share: f64,
    /// Requests that may go now; at most `limits.burst`.
    tokens: f64,
    refilled_at: Instant,
    in_flight: usize,
    queues: [Queue; RequestKind::COUNT],
    arrivals: u64,
    /// Counts admissions, to tell what was under way before a 429 from what came after it.
    admissions: u64,
    holds: [Hold; RequestKind::COUNT],
    quota: Option<Quota>,
}

type Queue = BTreeMap<Place, Arc<Notify>>;

/// A place in the queue: urgency first, then arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    urgency: Urgency,
    arrival: u64,
}

/// How one kind of request is held back after 429.
#[derive(Debug, Default)]
struct Hold {
    until: Option<Instant>,
    /// How many 429s followed one another, those of requests that were under way together counted once.
    consecutive: u32,
    /// The number of admissions when the hold began.
    began_at_admission: u64,
}

/// What a waiter is to do.
pub(super) enum Turn {
    /// It may go.
    Go { admission: u64 },
    /// Look again then, or when notified.
    At(Instant),
    /// Look again when notified.
    Later,
}

impl State {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            share: 1.0,
            tokens: f64::from(limits.burst),
            refilled_at: now,
            in_flight: 0,
            queues: Default::default(),
            arrivals: 0,
            admissions: 0,
            holds: Default::default(),
            quota: None,
        }
    }

    pub(super) fn snapshot(&self, now: Instant) -> BudgetSnapshot {
        BudgetSnapshot {
            rate: self.rate(),
            burst: self.limits.burst,
            concurrency: self.limits.concurrency,
            in_flight: self.in_flight,
            waiting: self.waiting(),
            blocked_for: self.blocked_for(RequestKind::Registry, now),
            token_blocked_for: self.blocked_for(RequestKind::Token, now),
            cdn_blocked_for: self.blocked_for(RequestKind::Cdn, now),
            quota: self.quota,
        }
    }

    /// Requests per second that are ours.
    fn rate(&self) -> f64 {
        self.limits.rate * self.share
    }

    /// From now on, and until changed again, only this part of the rate is ours.
    pub(super) fn set_share(&mut self, share: f64, now: Instant) {
        self.settle(now);
        self.share = share;
        // Whoever waits for the next token has computed its time at the old rate.
        self.call_front();
    }

    /// Whether nobody waits, nothing is held back or shared, and the bucket is full.
    pub(super) fn is_at_rest(&mut self, now: Instant) -> bool {
        self.settle(now);
        let is_full = self.tokens >= f64::from(self.limits.burst);
        let is_held = self.holds.iter().any(|hold| hold.until.is_some());
        is_full && !is_held && self.share >= 1.0 && self.in_flight == 0 && self.waiting() == 0
    }

    /// Joins the queue; `None` if it is full.
    pub(super) fn join(&mut self, kind: RequestKind, urgency: Urgency, called: Arc<Notify>) -> Option<Place> {
        if self.waiting() >= MAX_WAITING {
            return None;
        }
        let place = Place { urgency, arrival: self.arrivals };
        self.arrivals += 1;
        self.queues[kind.index()].insert(place, called);
        Some(place)
    }

    /// Leaves the queue, if still in it.
    pub(super) fn leave(&mut self, kind: RequestKind, place: Place) {
        let gave_up = self.queues[kind.index()].remove(&place).is_some();
        if gave_up {
            // It may have been called, or have kept the time for those behind it.
            self.call_front();
            self.call_first_of(kind);
        }
    }

    /// A request that was under way has ended.
    pub(super) fn done(&mut self) {
        self.in_flight -= 1;
        self.call_front();
    }

    /// A request was answered without a pause being asked for.
    pub(super) fn accepted(&mut self, kind: RequestKind, admission: u64) {
        let hold = &mut self.holds[kind.index()];
        if admission > hold.began_at_admission {
            hold.consecutive = 0;
        }
    }

    pub(super) fn note_quota(&mut self, quota: Quota) {
        self.quota = Some(quota);
    }

    fn waiting(&self) -> usize {
        self.queues.iter().map(BTreeMap::len).sum()
    }

    /// For how much longer requests of this kind are held back.
    pub(super) fn blocked_for(&self, kind: RequestKind, now: Instant) -> Option<Duration> {
        let left = self.holds[kind.index()].until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Brings the state up to `now`: ends the holds that are over and fills the bucket.
    fn settle(&mut self, now: Instant) {
        for hold in &mut self.holds {
            if let Some(until) = hold.until.filter(|until| *until <= now) {
                hold.until = None;
                self.tokens = 0.0;
                self.refilled_at = self.refilled_at.max(until);
            }
        }
        let elapsed = now.saturating_duration_since(self.refilled_at).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.rate()).min(f64::from(self.limits.burst));
        self.refilled_at = now;
    }

    /// The first in the queue whose kind is not held back.
    fn front(&self) -> Option<(Place, &Arc<Notify>)> {
        self.queues
            .iter()
            .zip(&self.holds)
            .filter(|(_, hold)| hold.until.is_none())
            .filter_map(|(queue, _)| queue.first_key_value())
            .map(|(place, called)| (*place, called))
            .min_by_key(|(place, _)| *place)
    }

    /// Decides about the waiter at `place`, and takes it out of the queue if it may go.
    pub(super) fn turn(&mut self, kind: RequestKind, place: Place, now: Instant) -> Turn {
        self.settle(now);
        if let Some(until) = self.holds[kind.index()].until {
            let is_first =
                self.queues[kind.index()].first_key_value().is_some_and(|(first, _)| *first == place);
            return if is_first { Turn::At(until) } else { Turn::Later };
        }
        let is_front = self.front().is_some_and(|(front, _)| front == place);
        if !is_front || self.in_flight >= self.limits.concurrency {
            return Turn::Later;
        }
        if self.tokens < 1.0 {
            let missing = (1.0 - self.tokens) / self.rate();
            // Rounded up, so that the token is there when the waiter looks again.
            let wait =
                Duration::try_from_secs_f64(missing).unwrap_or(LONGEST_PAUSE) + Duration::from_micros(1);
            return Turn::At(now + wait.min(LONGEST_PAUSE));
        }
        self.tokens -= 1.0;
        self.in_flight += 1;
        self.admissions += 1;
        self.queues[kind.index()].remove(&place);
        self.call_front();
        Turn::Go { admission: self.admissions }
    }

    /// Tells the first of the queue to look again.
    fn call_front(&self) {
        if let Some((_, called)) = self.front() {
            called.notify_one();
        }
    }

    /// Tells the first of a kind to look again: who was not first, or not held back, keeps no time.
    fn call_first_of(&self, kind: RequestKind) {
        if let Some((_, called)) = self.queues[kind.index()].first_key_value() {
            called.notify_one();
        }
    }

    /// A request was answered with 429: its kind is held back. Returns for how long from now.
    pub(super) fn hold_back(
        &mut self,
        kind: RequestKind,
        admission: u64,
        asked: Option<Duration>,
        now: Instant,
    ) -> Duration {
        self.settle(now);
        let admissions = self.admissions;
        let hold = &mut self.holds[kind.index()];
        let is_news = hold.consecutive == 0 || admission > hold.began_at_admission;
        if is_news {
            hold.consecutive = hold.consecutive.saturating_add(1);
            hold.began_at_admission = admissions;
        }
        let pause = limits::pause(asked, hold.consecutive);
        let until = hold.until.map_or(now + pause, |until| until.max(now + pause));
        hold.until = Some(until);
        self.tokens = 0.0;
        self.call_front();
        self.call_first_of(kind);
        until - now
    }
}
