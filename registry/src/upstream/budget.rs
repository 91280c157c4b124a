//! What may still be asked of a host: one rate, one ceiling on concurrency, one queue, and pauses after 429.
//!
//! Invariants:
//! - whoever waits is served by urgency, then by arrival; a kind of request that is held back does not stop
//!   the others;
//! - after a pause nothing bursts: the bucket starts empty;
//! - only a waiter that may be able to go is woken: the first of the queue, and the first of a kind that was
//!   held back;
//! - no lock is held across an await, and no task runs in the background: waiters keep the time themselves.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::limits::Quota;
use super::{ErrorKind, Urgency};
use state::{MAX_WAITING, Place, State, Turn};

mod state;

/// The limits of one host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Requests per second; finite and above zero.
    pub rate: f64,
    /// How many requests may follow one another at once after a quiet time; at least 1.
    pub burst: u32,
    /// How many requests may be under way at the same time; at least 1.
    pub concurrency: usize,
}

/// 50 requests a second, in bursts of 10, 10 at a time.
impl Default for Limits {
    fn default() -> Self {
        Self { rate: 50.0, burst: 10, concurrency: 10 }
    }
}

impl Limits {
    /// What is wrong with the limits, if anything.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if !(self.rate.is_finite() && self.rate > 0.0) {
            return Err("the rate must be a number above zero");
        }
        if self.burst == 0 {
            return Err("the burst must be at least 1");
        }
        if self.concurrency == 0 {
            return Err("the concurrency must be at least 1");
        }
        Ok(())
    }
}

/// What a request is for: a 429 holds back only requests of its own kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// To the registry itself.
    Registry,
    /// To a token service, on behalf of the registry.
    Token,
    /// To where the registry redirected us, such as a CDN with its blobs.
    Cdn,
}

impl RequestKind {
    const COUNT: usize = 3;

    fn index(self) -> usize {
        match self {
            Self::Registry => 0,
            Self::Token => 1,
            Self::Cdn => 2,
        }
    }
}

/// The longest pause that a request waits out which the registry sent elsewhere. The registry itself is not held
/// back then, and whoever asks would not learn why nothing happens.
const LONGEST_WAIT_ELSEWHERE: Duration = Duration::from_secs(5);

/// How a budget stands, for status pages and metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetSnapshot {
    /// Requests per second.
    pub rate: f64,
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
    /// The same for requests to its token service.
    pub token_blocked_for: Option<Duration>,
    /// The same for requests to where it redirects.
    pub cdn_blocked_for: Option<Duration>,
    /// The quota that the registry announced last.
    pub quota: Option<Quota>,
}

/// The budget of one host.
#[derive(Debug)]
pub(super) struct Budget {
    state: Mutex<State>,
}

impl Budget {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::new(limits, Instant::now())) })
    }

    /// Waits until a request of this kind may be sent. It counts as under way until the permit is dropped.
    ///
    /// Cancellation-safe: a dropped future leaves the queue and draws on nothing. Fails if too many wait, and for
    /// requests to a token service or a CDN that is to be left alone for more than 5 seconds.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        kind: RequestKind,
        urgency: Urgency,
    ) -> Result<Permit, ErrorKind> {
        let waiter = Waiter::join(self, kind, urgency)?;
        loop {
            if kind != RequestKind::Registry
                && let Some(retry_after) =
                    self.blocked_for(kind).filter(|left| *left > LONGEST_WAIT_ELSEWHERE)
            {
                return Err(ErrorKind::RateLimited { retry_after, message: None });
            }
            let turn = self.lock().turn(kind, waiter.place, Instant::now());
            match turn {
                Turn::Go { admission } => {
                    return Ok(Permit { budget: self.clone(), kind, admission });
                }
                Turn::At(instant) => tokio::select! {
                    () = sleep_until(instant) => {}
                    () = waiter.called.notified() => {}
                },
                Turn::Later => waiter.called.notified().await,
            }
        }
    }

    /// For how much longer requests of this kind are held back.
    pub(super) fn blocked_for(&self, kind: RequestKind) -> Option<Duration> {
        self.lock().blocked_for(kind, Instant::now())
    }

    /// From now on only this part of the rate, above 0 and at most 1, is ours: others ask the host as well.
    pub(super) fn set_share(&self, share: f64) {
        self.lock().set_share(share, Instant::now());
    }

    /// How the budget stands.
    pub(super) fn snapshot(&self) -> BudgetSnapshot {
        self.lock().snapshot(Instant::now())
    }

    /// Whether forgetting the budget would lose nothing: nobody waits, nothing is held back or
    /// shared, the bucket is full.
    pub(super) fn is_at_rest(&self) -> bool {
        self.lock().is_at_rest(Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent after every statement that can panic, so a poisoned lock is as good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue, given up when dropped.
struct Waiter<'a> {
    budget: &'a Budget,
    kind: RequestKind,
    place: Place,
    called: Arc<Notify>,
}

impl<'a> Waiter<'a> {
    fn join(budget: &'a Budget, kind: RequestKind, urgency: Urgency) -> Result<Self, ErrorKind> {
        let called = Arc::new(Notify::new());
        let place = budget.lock().join(kind, urgency, called.clone()).ok_or_else(|| ErrorKind::Refused {
            message: format!("more than {MAX_WAITING} requests wait for this host"),
        })?;
        Ok(Self { budget, kind, place, called })
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.budget.lock().leave(self.kind, self.place);
    }
}

/// The right to have one request under way.
#[derive(Debug)]
pub(super) struct Permit {
    budget: Arc<Budget>,
    kind: RequestKind,
    admission: u64,
}

impl Permit {
    /// The host answered 429, or 503 with a time: requests of this kind are held back for as long as it asked,
    /// or, where it did not say, for longer each time. Returns for how long.
    pub(super) fn hold_back(&self, asked: Option<Duration>) -> Duration {
        self.budget.lock().hold_back(self.kind, self.admission, asked, Instant::now())
    }

    /// The host answered without asking for a pause.
    pub(super) fn accepted(&self) {
        self.budget.lock().accepted(self.kind, self.admission);
    }

    /// The host announced a quota.
    pub(super) fn note_quota(&self, quota: Quota) {
        self.budget.lock().note_quota(quota);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.lock().done();
    }
}

#[cfg(test)]
mod tests;
