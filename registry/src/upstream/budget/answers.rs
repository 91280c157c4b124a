//! What answers, and that there is none, do to a budget.

use std::time::Duration;

use tokio::time::Instant;

use super::RequestKind;
use super::account::Counting;
use super::gate::{Admission, Gate};
use super::state::State;
use crate::Name;
use crate::credentials::Identity;
use crate::upstream::ErrorKind;
use crate::upstream::limits::Quota;

impl State {
    /// A request was answered without a pause being asked for. Whether a breaker that had tripped is closed by it.
    pub(super) fn accepted(
        &mut self,
        kind: RequestKind,
        identity: &Identity,
        admission: Admission,
        now: Instant,
    ) -> bool {
        self.settle(now);
        self.holds[kind.index()].accepted(admission.number);
        if admission.sent.counts
            && let Some(account) = self.accounts.get_mut(identity)
        {
            account.accepted(admission.number);
        }
        if kind != RequestKind::Registry {
            return false;
        }
        if self.rate.accepted(admission.number, now) {
            self.call_front(now);
        }
        let is_closed = self.breaker.answered();
        if is_closed {
            self.tokens = 0.0;
            self.call_kind(kind);
        }
        is_closed
    }

    /// A request to the registry failed in a way that may pass; `random` is from 0 to 1. For how long the host is left alone, if this is
    /// the failure that makes it so.
    pub(super) fn failed(
        &mut self,
        repository: Option<&Name>,
        admission: Admission,
        failure: &ErrorKind,
        random: f64,
        now: Instant,
    ) -> Option<Duration> {
        self.breaker.note_failure(repository, failure);
        let pause = self.breaker.failed(admission.number, self.admissions, failure, random, now);
        if pause.is_some() {
            self.call_front(now);
            self.call_kind(RequestKind::Registry);
        }
        pause
    }

    pub(super) fn note_quota(
        &mut self,
        identity: &Identity,
        quota: Quota,
        admission: Admission,
        now: Instant,
    ) {
        self.settle(now);
        self.announced = Some(quota.clone());
        if quota.source.is_some() && self.counting != Counting::ManifestGets {
            // Who says so is Docker Hub, or speaks for it.
            self.counting = Counting::ManifestGets;
            self.call_everybody(now);
        }
        // None of them stood before its quota; whose they are is not known.
        let others = self.uncounted.saturating_sub(usize::from(!admission.sent.counts));
        let others = if self.counts_everything() { others } else { 0 };
        if let Some(account) = self.account(identity, now) {
            account.announce(quota, admission.sent, others, now);
            self.tell_others(identity);
            self.call_front(now);
            self.call_first_of(&Gate::Quota(identity.clone()));
        }
    }

    /// What counts against a quota was answered without one being announced.
    pub(super) fn note_no_quota(&mut self, identity: &Identity, now: Instant) {
        if let Some(account) = self.accounts.get_mut(identity) {
            account.announce_none();
            self.call_front(now);
            self.call_first_of(&Gate::Quota(identity.clone()));
        }
    }

    /// The identity's quota is used up, says the host: what counts against it is held back. For how long from now.
    pub(super) fn use_up_quota(
        &mut self,
        identity: &Identity,
        admission: Admission,
        asked: Option<Duration>,
        now: Instant,
    ) -> Option<Duration> {
        let admissions = self.admissions;
        let account = self.account(identity, now)?;
        let pause = account.use_up(asked, admission.number, admissions, now);
        self.call_front(now);
        self.call_first_of(&Gate::Quota(identity.clone()));
        Some(pause)
    }

    /// A request was limited: its kind is held back, and the rate reduced if it was for being too fast. For how long from
    /// now.
    pub(super) fn hold_back(
        &mut self,
        kind: RequestKind,
        admission: Admission,
        asked: Option<Duration>,
        is_too_fast: bool,
        now: Instant,
    ) -> Duration {
        self.settle(now);
        let until = self.holds[kind.index()].hold(admission.number, self.admissions, asked, now);
        if is_too_fast && kind == RequestKind::Registry {
            self.rate.reduce(admission.number, self.admissions, until);
            self.breaker.answered();
        }
        self.tokens = 0.0;
        self.call_front(now);
        self.call_kind(kind);
        until - now
    }
}
