//! What may still be asked of a host: one rate, one ceiling on concurrency, one queue, pauses after 429, a breaker for
//! when it keeps failing, and a quota for each identity.
//!
//! Invariants:
//! - whoever waits is served by urgency, then by arrival, except that now and then whoever has waited for longest goes, so
//!   that nothing that is urgent keeps anybody waiting for ever; a kind of request that is held back, or an identity whose
//!   quota is used up, does not stop the others;
//! - after a pause nothing bursts: the bucket starts empty, and holds one request until the rate has recovered;
//! - only a waiter that may be able to go is woken: the first of those that nothing holds back, and the first of those
//!   that something does;
//! - no lock is held across an await, and no task runs in the background: waiters keep the time themselves.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::limits::Quota;
use super::{ErrorKind, Urgency};
use crate::Name;
use crate::credentials::Identity;
use gate::{Admission, Gate, Place, Turn};
use state::{MAX_WAITING, MOST_IDENTITIES, State};

pub(super) use account::Counting;
pub use record::BudgetRecord;
pub use snapshot::{BlockReason, BreakerSnapshot, BudgetSnapshot, IdentityQuota};

mod account;
mod answers;
mod breaker;
mod gate;
mod hold;
mod order;
mod rate;
mod record;
mod snapshot;
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

/// What a budget is made from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Terms {
    pub(super) limits: Limits,
    /// What counts against a quota.
    pub(super) counting: Counting,
    /// The part of a quota, from 0 to 1, that is kept for those who asked.
    pub(super) quota_reserve: f64,
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
    const ALL: [Self; Self::COUNT] = [Self::Registry, Self::Token, Self::Cdn];

    fn index(self) -> usize {
        match self {
            Self::Registry => 0,
            Self::Token => 1,
            Self::Cdn => 2,
        }
    }
}

/// A request that wants to draw on a budget.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw<'a> {
    pub(super) kind: RequestKind,
    pub(super) urgency: Urgency,
    /// Whose quota it counts against.
    pub(super) identity: &'a Identity,
    /// What it is about, if it is about one.
    pub(super) repository: Option<&'a Name>,
    /// Whether it is what Docker Hub counts as a pull.
    pub(super) is_manifest_get: bool,
}

/// The longest pause that a request waits out which the registry sent elsewhere. The registry itself is not held
/// back then, and whoever asks would not learn why nothing happens.
const LONGEST_WAIT_ELSEWHERE: Duration = Duration::from_secs(5);

/// The budget of one host.
#[derive(Debug)]
pub(super) struct Budget {
    state: Mutex<State>,
}

impl Budget {
    pub(super) fn new(terms: Terms) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::new(terms, Instant::now())) })
    }

    /// Waits until such a request may be sent. It counts as under way until the permit is dropped.
    ///
    /// Cancellation-safe: a dropped future leaves the queue and draws on nothing. Fails if too many wait, for requests to a
    /// token service or a CDN that is to be left alone for more than 5 seconds, and for those that would wait for their
    /// identity's quota for more than 30: these are told when to come back.
    pub(super) async fn acquire(self: &Arc<Self>, draw: &Draw<'_>) -> Result<Permit, ErrorKind> {
        let mut waiter = Waiter::join(self, draw)?;
        loop {
            if draw.kind != RequestKind::Registry
                && let Some(retry_after) =
                    self.blocked_for(draw.kind).filter(|left| *left > LONGEST_WAIT_ELSEWHERE)
            {
                return Err(ErrorKind::RateLimited { retry_after, message: None });
            }
            let turn = self.lock().turn(draw, &mut waiter.gate, waiter.place, Instant::now());
            match turn {
                Turn::Go(admission) => {
                    let (budget, gate) = (self.clone(), waiter.gate.clone());
                    return Ok(Permit {
                        budget,
                        gate,
                        admission,
                        identity: draw.identity.clone(),
                        repository: draw.repository.cloned(),
                        is_manifest_get: draw.is_manifest_get,
                    });
                }
                Turn::At(instant) => tokio::select! {
                    biased;
                    () = sleep_until(instant) => {}
                    () = waiter.called.notified() => {}
                },
                Turn::Later => waiter.called.notified().await,
                Turn::ComeBack { after, quota } => {
                    let message = quota.map(|Quota { limit, remaining, .. }| {
                        format!("{remaining} of {limit} requests are left of our quota")
                    });
                    return Err(ErrorKind::QuotaShort { retry_after: after, message });
                }
            }
        }
    }

    /// For how much longer requests of this kind are held back.
    pub(super) fn blocked_for(&self, kind: RequestKind) -> Option<Duration> {
        self.lock().blocked_for(kind, Instant::now())
    }

    /// Why requests to the registry are held back, with for how much longer.
    pub(super) fn held_back(&self) -> Option<ErrorKind> {
        let (state, now) = (self.lock(), Instant::now());
        let retry_after = state.blocked_for(RequestKind::Registry, now)?;
        let broken = state.breaker.left(now) == Some(retry_after);
        let reason = state.breaker.reason(now).filter(|_| broken);
        Some(reason.unwrap_or(ErrorKind::RateLimited { retry_after, message: None }))
    }

    /// From now on only this part of the rate, above 0 and at most 1, is ours: others ask the host as well.
    pub(super) fn set_share(&self, share: f64) {
        self.lock().set_share(share, Instant::now());
    }

    /// What is to survive a restart; `clock` is the time by the wall clock.
    pub(super) fn record(&self, clock: Timestamp) -> BudgetRecord {
        self.lock().record(Instant::now(), clock)
    }

    /// Goes on where an earlier life, or another replica, has stopped.
    pub(super) fn restore(&self, record: &BudgetRecord, clock: Timestamp) {
        self.lock().restore(record, Instant::now(), clock);
    }

    /// How the budget stands.
    pub(super) fn snapshot(&self) -> BudgetSnapshot {
        self.lock().snapshot(Instant::now())
    }

    /// Whether forgetting the budget would lose nothing: nobody waits, nothing is held back, shared or known, the bucket
    /// is full.
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
    gate: Gate,
    place: Place,
    called: Arc<Notify>,
}

impl<'a> Waiter<'a> {
    fn join(budget: &'a Budget, draw: &Draw<'_>) -> Result<Self, ErrorKind> {
        let called = Arc::new(Notify::new());
        let joined = budget.lock().join(draw, called.clone(), Instant::now());
        let (gate, place) = joined.ok_or_else(|| ErrorKind::Refused {
            message: format!(
                "more than {MAX_WAITING} requests or {MOST_IDENTITIES} identities wait for this host"
            ),
        })?;
        Ok(Self { budget, gate, place, called })
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.budget.lock().leave(&self.gate, self.place, Instant::now());
    }
}

/// The right to have one request under way.
#[derive(Debug)]
pub(super) struct Permit {
    budget: Arc<Budget>,
    gate: Gate,
    admission: Admission,
    identity: Identity,
    repository: Option<Name>,
    is_manifest_get: bool,
}

impl Permit {
    /// The host limits us, by 429 or in words if we are too fast, or by 503 with a time: requests of this kind are held
    /// back for as long as it asked, or, where it did not say, for longer each time. Returns for how long.
    pub(super) fn hold_back(&self, asked: Option<Duration>, is_too_fast: bool) -> Duration {
        let kind = self.gate.kind();
        self.budget.lock().hold_back(kind, self.admission, asked, is_too_fast, Instant::now())
    }

    /// The host says that the identity's quota is used up: what counts against it is held back. Returns for how long.
    pub(super) fn use_up_quota(&self, asked: Option<Duration>) -> Option<Duration> {
        self.budget.lock().use_up_quota(&self.identity, self.admission, asked, Instant::now())
    }

    /// The host answered without asking for a pause. Whether it had been failing until now.
    pub(super) fn accepted(&self) -> bool {
        self.budget.lock().accepted(self.gate.kind(), &self.identity, self.admission, Instant::now())
    }

    /// There was no answer, or one that says that the host fails in passing. `random` is from 0 to 1. For how long the host
    /// is left alone, if this is the failure that makes it so.
    pub(super) fn failed(&self, failure: &ErrorKind, random: f64) -> Option<Duration> {
        if self.gate.kind() != RequestKind::Registry {
            return None;
        }
        let repository = self.repository.as_ref();
        self.budget.lock().failed(repository, self.admission, failure, random, Instant::now())
    }

    /// Whether the request counts against a quota.
    pub(super) fn counts(&self) -> bool {
        matches!(self.gate, Gate::Quota(_))
    }

    /// Whether it counts as a pull where only pulls count.
    pub(super) fn is_counted_pull(&self) -> bool {
        self.counts() && !self.budget.lock().counts_everything()
    }

    /// Whether a quota that is used up would have refused it: where only pulls count, nothing else does.
    pub(super) fn is_of_quota(&self) -> bool {
        let may_count = || self.is_manifest_get || self.budget.lock().counts_everything();
        self.gate.kind() == RequestKind::Registry && may_count()
    }

    /// The host announced a quota.
    pub(super) fn note_quota(&self, quota: Quota) {
        if self.gate.kind() != RequestKind::Registry {
            return;
        }
        self.budget.lock().note_quota(&self.identity, quota, self.admission, Instant::now());
    }

    /// The host answered what would count against a quota, and announced none.
    pub(super) fn note_no_quota(&self) {
        if self.counts() {
            self.budget.lock().note_no_quota(&self.identity, Instant::now());
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.lock().done(&self.gate, self.admission, Instant::now());
    }
}

#[cfg(test)]
mod tests;
