//! What one receiver has yet to be told, and when it is tried next. Pure.
//!
//! The queue itself is nowhere but in the histories of the repositories, which the store keeps. Here is what of it was read,
//! and how far the receiver was told: its place, which the store keeps too. So a crash loses nothing, and what was
//! delivered and not noted yet is delivered once more, under the same id.
//!
//! Invariants: the changes of a repository are delivered one after the other, in order; a repository that cannot be told
//! does not hold up others; no more than [`MOST_PENDING`] changes are held, what is above is read when there is room.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::{Name, Tag};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::cache::history::{ChangeId, ChangeKind};
use crate::feed::{Happening, Position};

/// Changes held for one receiver; those above stay where they are, in the store.
pub(super) const MOST_PENDING: usize = 4096;
/// Requests to one receiver at once; one alone after a failure.
const MOST_AT_ONCE: usize = 4;
/// Changes given up that are remembered for a receiver and a host.
const MOST_DEAD_LETTERS: usize = 20;
/// The longest pause between two tries, unless the receiver asks for more.
const LONGEST_PAUSE_AFTER_FAILURES: Duration = Duration::from_mins(5);
/// The longest that a receiver may ask for.
const LONGEST_ASKED_PAUSE: Duration = Duration::from_hours(1);

/// How a delivery ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The receiver has taken it.
    Delivered,
    /// It will not take it, now or later.
    Refused(String),
    /// It may take it later: not before this time, if it says so.
    Failed(String, Option<Duration>),
}

/// A change that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeadLetter {
    /// The repository.
    #[schema(value_type = String)]
    pub name: Name,
    /// The change; absent where it is not known which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub id: Option<ChangeId>,
    /// What happened.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub kind: Option<ChangeKind>,
    /// To which tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub tag: Option<Tag>,
    /// Why it was given up.
    pub reason: String,
    /// When.
    pub given_up_at: Timestamp,
}

/// How far a receiver was told of a host, as the store keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) position: String,
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub(super) dead: VecDeque<DeadLetter>,
}

/// What a receiver has yet to be told of one host.
#[derive(Debug, Default)]
struct Host {
    told: Position,
    pending: BTreeMap<Name, VecDeque<Arc<Happening>>>,
    /// There is more in the store than is pending.
    is_cut: bool,
    dead: VecDeque<DeadLetter>,
}

/// When a repository is tried again.
#[derive(Debug, Clone, Copy)]
struct Retry {
    tries: u32,
    first_at: Instant,
    next_at: Instant,
}

/// What one receiver has yet to be told.
#[derive(Debug, Default)]
pub(super) struct Queue {
    hosts: BTreeMap<String, Host>,
    busy: BTreeSet<Name>,
    retries: BTreeMap<Name, Retry>,
    failures: u32,
    paused_until: Option<Instant>,
}

/// What a delivery means to the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Sent,
    Retried,
    GivenUp,
}

impl Queue {
    /// The hosts that are looked after here.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &String> {
        self.hosts.keys()
    }

    /// Looks after a host from now on: `told` up to there, and this is what came since.
    pub(super) fn take_over(
        &mut self,
        host: &str,
        told: Position,
        dead: VecDeque<DeadLetter>,
        since: Vec<Arc<Happening>>,
    ) {
        self.hosts.insert(host.to_owned(), Host { told, dead, ..Host::default() });
        for happening in since {
            self.add(happening);
        }
    }

    /// Another replica looks after the host.
    pub(super) fn let_go(&mut self, host: &str) {
        let Some(host) = self.hosts.remove(host) else { return };
        self.retries.retain(|name, _| !host.pending.contains_key(name));
    }

    /// Something is to be told; what is known already, or no concern of this replica, is not.
    pub(super) fn add(&mut self, happening: Arc<Happening>) {
        let is_full = self.pending() >= MOST_PENDING;
        let Some(host) = self.hosts.get_mut(happening.name.host()) else { return };
        let id = happening.event.id;
        if host.told.covers(happening.mark, id) || host.is_cut {
            return;
        }
        if is_full {
            host.is_cut = true;
            return;
        }
        let pending = host.pending.entry(happening.name.clone()).or_default();
        if pending.back().is_none_or(|last| last.event.id < id) {
            pending.push_back(happening);
        }
    }

    /// What cannot be told because it is not known any more is given up.
    pub(super) fn missed(&mut self, name: &Name, now: Timestamp) {
        let Some(host) = self.hosts.get_mut(name.host()) else { return };
        let reason = "some changes are no longer in the history".to_owned();
        host.give_up(DeadLetter {
            name: name.clone(),
            id: None,
            kind: None,
            tag: None,
            reason,
            given_up_at: now,
        });
    }

    /// The next change to deliver now; it counts as being delivered until [`Queue::ended`].
    pub(super) fn next(&mut self, now: Instant) -> Option<Arc<Happening>> {
        let most = if self.failures > 0 { 1 } else { MOST_AT_ONCE };
        if self.paused_until.is_some_and(|until| now < until) || self.busy.len() >= most {
            return None;
        }
        let is_ready = |name: &Name| {
            !self.busy.contains(name) && self.retries.get(name).is_none_or(|retry| retry.next_at <= now)
        };
        let first = self.hosts.values().flat_map(|host| &host.pending).filter(|(name, _)| is_ready(name));
        let first = first.filter_map(|(_, pending)| pending.front()).min_by_key(|first| first.event.id)?;
        let first = Arc::clone(first);
        self.busy.insert(first.name.clone());
        Some(first)
    }

    /// When to look again for something to deliver; `None`: not before something else happens.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let next = self
            .retries
            .iter()
            .filter(|(name, _)| !self.busy.contains(*name))
            .map(|(_, retry)| retry.next_at)
            .min();
        next.max(self.paused_until.filter(|_| self.pending() > 0))
    }

    /// A delivery has ended. `random` is from 0 to 1.
    pub(super) fn ended(
        &mut self,
        happening: &Happening,
        outcome: &Outcome,
        give_up_after: Duration,
        (now, at): (Instant, Timestamp),
        random: f64,
    ) -> Verdict {
        let name = &happening.name;
        self.busy.remove(name);
        match outcome {
            Outcome::Delivered => {
                (self.failures, self.paused_until) = (0, None);
                self.close(happening, None);
                Verdict::Sent
            }
            Outcome::Refused(reason) => {
                (self.failures, self.paused_until) = (0, None);
                self.close(happening, Some((reason, at)));
                Verdict::GivenUp
            }
            Outcome::Failed(reason, asked) => {
                let retry = self.retries.entry(name.clone()).or_insert(Retry {
                    tries: 0,
                    first_at: now,
                    next_at: now,
                });
                retry.tries += 1;
                retry.next_at = now + pause(retry.tries, random);
                let is_too_late = now - retry.first_at >= give_up_after;
                self.failures = self.failures.saturating_add(1);
                let asked = asked.map(|asked| asked.min(LONGEST_ASKED_PAUSE));
                self.paused_until = Some(now + pause(self.failures, random).max(asked.unwrap_or_default()));
                if is_too_late {
                    self.close(happening, Some((reason, at)));
                    return Verdict::GivenUp;
                }
                Verdict::Retried
            }
        }
    }

    /// The first change of a repository is done with.
    fn close(&mut self, happening: &Happening, given_up: Option<(&String, Timestamp)>) {
        let Happening { name, event, mark, .. } = happening;
        self.retries.remove(name);
        // It may be another replica's by now.
        let Some(host) = self.hosts.get_mut(name.host()) else { return };
        if let Some(pending) = host.pending.get_mut(name) {
            if pending.front().is_some_and(|first| first.event.id == event.id) {
                pending.pop_front();
            }
            if pending.is_empty() {
                host.pending.remove(name);
            }
        }
        host.told.tell(*mark, event.id);
        if let Some((reason, given_up_at)) = given_up {
            let (id, kind, tag) = (Some(event.id), Some(event.kind), event.tag.clone());
            host.give_up(DeadLetter {
                name: name.clone(),
                id,
                kind,
                tag,
                reason: reason.clone(),
                given_up_at,
            });
        }
    }

    /// Everything up to this generation is known here: what is not pending was told.
    pub(super) fn settle(&mut self, settled: u64) {
        for host in self.hosts.values_mut().filter(|host| !host.is_cut) {
            let pending = host.pending.values().filter_map(|pending| pending.front());
            let oldest = pending.map(|first| first.event.id.generation).min();
            host.told.advance(oldest.map_or(settled, |oldest| settled.min(oldest.saturating_sub(1))));
        }
    }

    /// Hosts of which the store has more than was held, now that there is room.
    pub(super) fn to_read_again(&self) -> Vec<String> {
        let is_drained = |host: &Host| host.is_cut && host.pending.is_empty();
        self.hosts.iter().filter(|(_, host)| is_drained(host)).map(|(name, _)| name.clone()).collect()
    }

    /// Everything is to be read again from where the receiver was told to.
    pub(super) fn read_all_again(&mut self) {
        self.retries.clear();
        for host in self.hosts.values_mut() {
            host.pending.clear();
            host.is_cut = true;
        }
    }

    /// Nothing is being delivered any more.
    pub(super) fn free(&mut self) {
        self.busy.clear();
    }

    /// How far the receiver was told of a host, and what was given up.
    pub(super) fn place(&self, host: &str) -> Option<(Position, VecDeque<DeadLetter>)> {
        self.hosts.get(host).map(|host| (host.told.clone(), host.dead.clone()))
    }

    /// Changes that wait.
    pub(super) fn pending(&self) -> usize {
        self.hosts.values().flat_map(|host| host.pending.values()).map(VecDeque::len).sum()
    }

    /// When the first of them was seen.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        let first = self.hosts.values().flat_map(|host| host.pending.values()).filter_map(VecDeque::front);
        first.map(|first| first.event.at).min()
    }

    /// Until when the receiver is left alone.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// What was given up, of all hosts.
    pub(super) fn dead(&self) -> Vec<DeadLetter> {
        self.hosts.values().flat_map(|host| &host.dead).cloned().collect()
    }
}

impl Host {
    fn give_up(&mut self, letter: DeadLetter) {
        self.dead.push_back(letter);
        let too_many = self.dead.len().saturating_sub(MOST_DEAD_LETTERS);
        self.dead.drain(..too_many);
    }
}

/// After so many failures in a row: at random from nothing to twice as long each time.
fn pause(failures: u32, random: f64) -> Duration {
    let longest = Duration::from_secs(1 << failures.min(9)).min(LONGEST_PAUSE_AFTER_FAILURES);
    longest.mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests;
