//! The decisions of a budget: who may go, when, and who is to be told. Pure but for the waiters that it calls.
//!
//! Waiters stand in queues, one for each gate that may be shut by itself: a kind of request, or the quota of an identity.
//! The first of a gate that is shut until some time keeps that time; of the others, the first of all gates that are open
//! keeps the time of the bucket. Nobody else does, so whoever goes, or shuts or opens a gate, calls those who come to be first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::Urgency;
use super::super::limits::{LONGEST_PAUSE, Quota};
use super::account::{Account, Admittance, Counting, Sent};
use super::breaker::{Breaker, Passage};
use super::gate::{Admission, Gate, Opening, Place, Turn};
use super::hold::Hold;
use super::order::Order;
use super::rate::Rate;
use super::{Draw, RequestKind, Terms};
use crate::credentials::Identity;

/// How many requests may wait for one host; more are refused.
pub(super) const MAX_WAITING: usize = 100_000;
/// Identities of one host whose quota is known at the same time; beyond them the one unused for longest goes.
pub(super) const MOST_IDENTITIES: usize = 64;
/// How long a request waits for its identity's quota in the queue; one that would wait for longer is told when to come back.
const LONGEST_WAIT_FOR_QUOTA: Duration = Duration::from_secs(30);

/// What a budget knows. Changed only under its lock, never across an await.
#[derive(Debug)]
pub(super) struct State {
    pub(super) terms: Terms,
    /// What counts against a quota, as far as it is known.
    pub(super) counting: Counting,
    /// The part of the rate that is ours, above 0 and at most 1.
    pub(super) share: f64,
    pub(super) rate: Rate,
    /// Requests that may go now; at most what the bucket holds.
    pub(super) tokens: f64,
    refilled_at: Instant,
    pub(super) in_flight: usize,
    /// How many of them are to the registry and stood before no quota.
    pub(super) uncounted: usize,
    queues: [Queue; RequestKind::COUNT],
    pub(super) accounts: BTreeMap<Identity, Account>,
    arrivals: u64,
    order: Order,
    /// Counts admissions, to tell what was under way before a 429 from what came after it.
    pub(super) admissions: u64,
    pub(super) holds: [Hold; RequestKind::COUNT],
    pub(super) breaker: Breaker,
    /// The quota that was announced last, to whomever.
    pub(super) announced: Option<Quota>,
}

type Queue = BTreeMap<Place, Arc<Notify>>;

impl State {
    pub(super) fn new(terms: Terms, now: Instant) -> Self {
        Self {
            share: 1.0,
            rate: Rate::new(terms.limits.rate, now),
            tokens: f64::from(terms.limits.burst),
            counting: terms.counting,
            terms,
            refilled_at: now,
            in_flight: 0,
            uncounted: 0,
            queues: Default::default(),
            accounts: BTreeMap::new(),
            arrivals: 0,
            order: Order::default(),
            admissions: 0,
            holds: Default::default(),
            breaker: Breaker::default(),
            announced: None,
        }
    }

    /// Requests per second that are ours.
    pub(super) fn rate(&self) -> f64 {
        self.rate.current() * self.share
    }

    /// How many requests the bucket holds. While a host limits us nothing bursts.
    fn capacity(&self) -> f64 {
        if self.rate.is_reduced() { 1.0 } else { f64::from(self.terms.limits.burst) }
    }

    /// From now on, and until changed again, only this part of the rate is ours.
    pub(super) fn set_share(&mut self, share: f64, now: Instant) {
        self.settle(now);
        self.share = share;
        // Whoever waits for the next token has computed its time at the old rate.
        self.call_front(now);
    }

    /// Whether nobody waits, nothing is held back, shared or known, and the bucket is full.
    pub(super) fn is_at_rest(&mut self, now: Instant) -> bool {
        self.settle(now);
        let is_full = self.tokens >= f64::from(self.terms.limits.burst);
        let is_held = self.holds.iter().any(|hold| hold.until().is_some()) || self.breaker.is_tripped();
        let is_known = self.rate.is_reduced() || !self.accounts.values().all(|account| account.is_idle(now));
        let is_used = self.in_flight > 0 || self.waiting() > 0;
        is_full && !is_held && !is_known && !is_used && self.share >= 1.0
    }

    /// Joins the queue; `None` if there is no room.
    pub(super) fn join(
        &mut self,
        draw: &Draw<'_>,
        called: Arc<Notify>,
        now: Instant,
    ) -> Option<(Gate, Place)> {
        if self.waiting() >= MAX_WAITING {
            return None;
        }
        let gate = self.gate(draw, now)?;
        let place = Place { urgency: draw.urgency, arrival: self.arrivals };
        self.arrivals += 1;
        self.queue_mut(&gate)?.insert(place, called);
        Some((gate, place))
    }

    /// What a request has to pass.
    fn gate(&mut self, draw: &Draw<'_>, now: Instant) -> Option<Gate> {
        let counts = draw.kind == RequestKind::Registry
            && match self.counting {
                Counting::ManifestGets => draw.is_manifest_get,
                Counting::Everything => self.accounts.get(draw.identity).is_some_and(Account::is_limited),
            };
        if !counts {
            return Some(Gate::Kind(draw.kind));
        }
        self.account(draw.identity, now)?;
        Some(Gate::Quota(draw.identity.clone()))
    }

    pub(super) fn counts_everything(&self) -> bool {
        self.counting == Counting::Everything
    }

    /// The account of an identity, in whose place another one may have to go; `None` if all are in use.
    pub(super) fn account(&mut self, identity: &Identity, now: Instant) -> Option<&mut Account> {
        if !self.accounts.contains_key(identity) {
            if self.accounts.len() >= MOST_IDENTITIES {
                let unused = self.accounts.iter().filter(|(_, account)| account.is_unused());
                let (oldest, _) = unused.min_by_key(|(_, account)| account.used_at())?;
                let oldest = oldest.clone();
                self.accounts.remove(&oldest);
            }
            let is_counted = self.counting == Counting::ManifestGets;
            self.accounts.insert(identity.clone(), Account::new(is_counted, now));
        }
        self.accounts.get_mut(identity)
    }

    /// Identities that the host counts by the same source share what is left: the others have no more than this one.
    pub(super) fn tell_others(&mut self, identity: &Identity) {
        let Some(account) = self.accounts.get(identity) else { return };
        let (Some(source), Some((quota, _))) = (account.source().cloned(), account.quota()) else { return };
        let others = self.accounts.iter_mut().filter(|(other, _)| *other != identity);
        for (_, other) in others.filter(|(_, other)| other.source() == Some(&source)) {
            other.hear(quota.remaining);
        }
    }

    /// Leaves the queue, if still in it.
    pub(super) fn leave(&mut self, gate: &Gate, place: Place, now: Instant) {
        let gave_up = self.queue_mut(gate).is_some_and(|queue| queue.remove(&place).is_some());
        if gave_up {
            // It may have been called, or have kept the time for those behind it.
            self.call_front(now);
            self.call_first_of(gate);
        }
    }

    /// A request that was under way has ended.
    pub(super) fn done(&mut self, gate: &Gate, admission: Admission, now: Instant) {
        self.in_flight -= 1;
        self.uncounted -= usize::from(*gate == Gate::Kind(RequestKind::Registry));
        if let Gate::Quota(identity) = gate
            && let Some(account) = self.accounts.get_mut(identity)
        {
            account.done();
            self.call_first_of(gate);
        }
        if admission.is_probe {
            self.breaker.probe_ended();
            self.call_kind(RequestKind::Registry);
        }
        self.call_front(now);
    }

    pub(super) fn waiting(&self) -> usize {
        let counted = self.accounts.values().map(|account| account.queue.len());
        self.queues.iter().map(BTreeMap::len).chain(counted).sum()
    }

    /// For how much longer requests of this kind are held back.
    pub(super) fn blocked_for(&self, kind: RequestKind, now: Instant) -> Option<Duration> {
        let held = self.holds[kind.index()].left(now);
        let broken = self.breaker.left(now).filter(|_| kind == RequestKind::Registry);
        held.max(broken)
    }

    /// Brings the state up to `now`: ends the holds that are over and fills the bucket.
    pub(super) fn settle(&mut self, now: Instant) {
        for hold in &mut self.holds {
            if let Some(until) = hold.end(now) {
                self.tokens = 0.0;
                self.refilled_at = self.refilled_at.max(until);
            }
        }
        for account in self.accounts.values_mut() {
            account.settle(now);
        }
        let elapsed = now.saturating_duration_since(self.refilled_at).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.rate()).min(self.capacity());
        self.refilled_at = now;
    }

    fn queue(&self, gate: &Gate) -> Option<&Queue> {
        match gate {
            Gate::Kind(kind) => Some(&self.queues[kind.index()]),
            Gate::Quota(identity) => self.accounts.get(identity).map(|account| &account.queue),
        }
    }

    fn queue_mut(&mut self, gate: &Gate) -> Option<&mut Queue> {
        match gate {
            Gate::Kind(kind) => Some(&mut self.queues[kind.index()]),
            Gate::Quota(identity) => self.accounts.get_mut(identity).map(|account| &mut account.queue),
        }
    }

    /// Whether requests of a kind may go at all.
    fn opening_of_kind(&self, kind: RequestKind, now: Instant) -> Opening {
        if let Some(until) = self.holds[kind.index()].until() {
            return Opening::At(until);
        }
        if kind != RequestKind::Registry {
            return Opening::Open;
        }
        match self.breaker.passage(now) {
            Passage::Closed | Passage::HalfOpen => Opening::Open,
            Passage::AfterProbe => Opening::AfterOther,
            Passage::At(until) => Opening::At(until),
        }
    }

    fn opening_of_quota(&self, account: &Account, urgency: Urgency, now: Instant) -> Opening {
        match account.admittance(urgency, self.terms.quota_reserve, now) {
            Admittance::Now => Opening::Open,
            Admittance::AfterOther => Opening::AfterOther,
            Admittance::At(at) if at - now > LONGEST_WAIT_FOR_QUOTA => Opening::NotSoon(at),
            Admittance::At(at) => Opening::At(at),
        }
    }

    /// Whether a request of this urgency may pass.
    fn opening(&self, gate: &Gate, urgency: Urgency, now: Instant) -> Opening {
        let of_quota = match gate {
            Gate::Kind(_) => Opening::Open,
            Gate::Quota(identity) => self
                .accounts
                .get(identity)
                .map_or(Opening::Open, |account| self.opening_of_quota(account, urgency, now)),
        };
        match of_quota {
            // Waiting for the host's own pause would not help.
            Opening::NotSoon(_) => of_quota,
            _ => match self.opening_of_kind(gate.kind(), now) {
                Opening::Open => of_quota,
                shut => shut,
            },
        }
    }

    /// The first of each urgency in the queues whose gate is open to it.
    fn open(&self, now: Instant) -> impl Iterator<Item = (Place, &Arc<Notify>)> {
        let kinds = RequestKind::ALL.into_iter().zip(&self.queues);
        let kinds = kinds
            .filter(|(_, queue)| !queue.is_empty())
            .filter(move |(kind, _)| self.opening_of_kind(*kind, now) == Opening::Open)
            .flat_map(|(_, queue)| firsts(queue));
        let is_open = self.opening_of_kind(RequestKind::Registry, now) == Opening::Open;
        let counted = self.accounts.values().filter(move |_| is_open).flat_map(move |account| {
            let is_open = move |urgency| self.opening_of_quota(account, urgency, now) == Opening::Open;
            firsts(&account.queue).filter(move |(place, _)| is_open(place.urgency))
        });
        kinds.chain(counted)
    }

    /// Who of all that nothing holds back is the next.
    fn front(&self, now: Instant) -> Option<(Place, &Arc<Notify>)> {
        self.order.next(self.open(now))
    }

    /// Puts a waiter before another gate where, since it came, the host has said what it counts.
    fn gate_again(&mut self, draw: &Draw<'_>, gate: &mut Gate, place: Place, now: Instant) {
        let Some(other) = self.gate(draw, now).filter(|other| other != gate) else { return };
        let Some(called) = self.queue_mut(gate).and_then(|queue| queue.remove(&place)) else { return };
        let left = std::mem::replace(gate, other);
        if let Some(queue) = self.queue_mut(gate) {
            queue.insert(place, called);
        }
        self.call_first_of(&left);
        self.call_front(now);
    }

    /// Decides about the waiter at `place`, and takes it out of the queue if it may go.
    pub(super) fn turn(&mut self, draw: &Draw<'_>, gate: &mut Gate, place: Place, now: Instant) -> Turn {
        self.settle(now);
        self.gate_again(draw, gate, place, now);
        let is_first = self
            .queue(gate)
            .and_then(|queue| queue.first_key_value())
            .is_some_and(|(first, _)| *first == place);
        let opening = self.opening(gate, place.urgency, now);
        if is_first && opening != Opening::Open {
            // It may have been the first of all until its gate was shut by time.
            self.call_front(now);
        }
        match opening {
            Opening::At(until) if is_first => return Turn::At(until),
            Opening::At(_) | Opening::AfterOther => return Turn::Later,
            Opening::NotSoon(opens) => return self.come_back(gate, place.urgency, opens, now),
            Opening::Open => {}
        }
        let is_front = self.front(now).is_some_and(|(front, _)| front == place);
        if is_first && !is_front {
            // Its gate may have been opened by time, to somebody behind it whose turn it is.
            self.call_front(now);
        }
        if !is_front || self.in_flight >= self.terms.limits.concurrency {
            return Turn::Later;
        }
        if self.tokens < 1.0 {
            let missing = (1.0 - self.tokens) / self.rate();
            // Rounded up, so that the token is there when the waiter looks again.
            let wait =
                Duration::try_from_secs_f64(missing).unwrap_or(LONGEST_PAUSE) + Duration::from_micros(1);
            return Turn::At(now + wait.min(LONGEST_PAUSE));
        }
        Turn::Go(self.admit(draw, gate, place, now))
    }

    fn admit(&mut self, draw: &Draw<'_>, gate: &Gate, place: Place, now: Instant) -> Admission {
        self.tokens -= 1.0;
        self.in_flight += 1;
        let is_passed_over = |(other, _): (Place, _)| other.arrival < place.arrival;
        let passes_over = self.open(now).any(is_passed_over);
        self.order.went(passes_over);
        self.uncounted += usize::from(*gate == Gate::Kind(RequestKind::Registry));
        self.admissions += 1;
        let is_probe = gate.kind() == RequestKind::Registry && self.breaker.admit(now);
        if gate.kind() == RequestKind::Registry {
            self.breaker.note_asked(draw.repository);
        }
        let counts = matches!(gate, Gate::Quota(_));
        let mut sent = Sent::default();
        if let Some(account) = self.accounts.get_mut(draw.identity) {
            sent = account.mark(counts, now);
            if counts {
                account.send(draw.urgency, now);
            }
        }
        if counts {
            self.tell_others(draw.identity);
        }
        if let Some(queue) = self.queue_mut(gate) {
            queue.remove(&place);
        }
        self.call_front(now);
        self.call_first_of(gate);
        Admission { number: self.admissions, sent, is_probe }
    }

    fn come_back(&mut self, gate: &Gate, urgency: Urgency, opens: Instant, now: Instant) -> Turn {
        let reserve = self.terms.quota_reserve;
        let Gate::Quota(identity) = gate else { return Turn::Later };
        let Some(account) = self.accounts.get_mut(identity) else { return Turn::Later };
        let after = account.promise(urgency, reserve, opens, now);
        Turn::ComeBack { after, quota: account.quota().map(|(quota, _)| quota) }
    }

    /// Tells the first of the queues to look again.
    pub(super) fn call_front(&self, now: Instant) {
        if let Some((_, called)) = self.front(now) {
            called.notify_one();
        }
    }

    /// Tells the first before a gate to look again: who was not first, or not held back, keeps no time.
    pub(super) fn call_first_of(&self, gate: &Gate) {
        if let Some((_, called)) = self.queue(gate).and_then(|queue| queue.first_key_value()) {
            called.notify_one();
        }
    }

    /// Tells the first before each gate of a kind to look again.
    pub(super) fn call_kind(&self, kind: RequestKind) {
        self.call_first_of(&Gate::Kind(kind));
        if kind == RequestKind::Registry {
            let firsts = self.accounts.values().filter_map(|account| account.queue.first_key_value());
            firsts.for_each(|(_, called)| called.notify_one());
        }
    }

    /// Tells the first before every gate to look again.
    pub(super) fn call_everybody(&self, now: Instant) {
        self.call_front(now);
        for kind in RequestKind::ALL {
            self.call_kind(kind);
        }
    }
}

/// The first of each urgency.
fn firsts(queue: &Queue) -> impl Iterator<Item = (Place, &Arc<Notify>)> {
    Urgency::ALL.into_iter().filter_map(|urgency| {
        let (place, called) = queue.range(Place { urgency, arrival: 0 }..).next()?;
        (place.urgency == urgency).then_some((*place, called))
    })
}
