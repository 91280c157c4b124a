//! Requests to refresh that reach a replica which does not hold the lane's lease: handed on through the store to the one
//! that does, and its answer back.
//!
//! One entry for each host holds the requests that are on their way. Replicas add to it by compare-and-set; the holder looks
//! twice a second, and writes beside each request how it went; whoever asked takes it out again.
//!
//! A lane has one exchange with the entry under way at a time, which makes all changes that have gathered since the last one:
//! it competes with other replicas, of which there are few, and never with itself. What could not be written is written with
//! the next one.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::{Digest, Name, Tag};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::debug;

use super::Lane;
use crate::cache::page::bounded_reason;
use crate::cache::stored;
use crate::store::{Client, Entry, Key, StoreError};
use crate::warmer::change::Cause;
use crate::warmer::document::{Lack, Piece, Unobtainable};
use crate::warmer::requests::{Outcome, Request, Wanted};

/// How often the holder of a lease looks for requests of other replicas, so that they are begun within a second, and whoever
/// has handed on a request for the answer.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Answers wait so long for others to be written with.
const ANSWERS_GATHER_FOR: Duration = Duration::from_millis(100);
/// What an exchange with the entry may take.
const LONGEST_EXCHANGE: Duration = Duration::from_secs(5);
/// An answer that has not come by then will not.
const LONGEST_WAIT: Duration = Duration::from_secs(90);
/// Requests for one host that may be on their way from replica to replica.
const MOST_HANDED_ON: usize = 100;
/// Requests of one lane that may be on their way to other replicas at once.
const MOST_EXCHANGES: usize = 64;
/// Another replica may write the entry at the same time; after this many tries it is an error.
const MOST_TRIES: usize = 20;

/// A request on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Asked {
    id: u64,
    name: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<Tag>,
    #[serde(default)]
    mend: bool,
    /// A replica of an older version refreshes the repository as a whole.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    list: bool,
    #[serde(default = "request")]
    cause: Cause,
    at: Timestamp,
    /// The document that is wanted. A replica of an older version refreshes the repository in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    piece: Option<Piece>,
    /// How it went: empty for well, else what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
    /// The document that was fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    /// What kind of thing went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lack: Option<Lack>,
    /// When it makes sense to ask again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<u64>,
}

/// What a replica of an older version does not say.
fn request() -> Cause {
    Cause::Request
}

/// What is on its way to other replicas, and from them.
#[derive(Debug, Default)]
pub(super) struct HandedOn {
    /// Whether others hand on to this replica.
    holds: bool,
    exchange_at: Option<Instant>,
    is_exchanging: bool,
    /// What the next exchange changes.
    changes: Changes,
    /// Requests of this replica, the oldest first.
    ours: Vec<OnItsWay>,
    /// The requests that stand in the entry and were taken.
    taken: HashSet<u64>,
}

/// A request of this replica that another one is to answer.
#[derive(Debug)]
struct OnItsWay {
    id: u64,
    request: Request,
    /// It stood in the entry.
    is_written: bool,
    deadline: Instant,
}

/// Changes of the entry, which may be made more than once.
#[derive(Debug, Default)]
pub(super) struct Changes {
    asked: Vec<Asked>,
    answers: BTreeMap<u64, Outcome>,
    taken_out: BTreeSet<u64>,
}

/// What a task of the lane ended with.
pub(super) enum Exchanged {
    /// The entry with these changes in it, or why they could not be made.
    Entry { changes: Changes, entry: Result<Vec<Asked>, StoreError> },
    /// A request of another replica was answered, or nobody waits for that any more.
    Answered(Option<(u64, Outcome)>),
}

impl Asked {
    /// Whether somebody still waits for the answer. Clocks of replicas may differ, but not by so much.
    fn is_fresh(&self, now: Timestamp) -> bool {
        let age = now.duration_since(self.at).unsigned_abs();
        age < LONGEST_WAIT
    }

    /// How it went, if that is known.
    fn outcome(&self) -> Option<Outcome> {
        let answer = self.answer.as_deref()?;
        if answer.is_empty() {
            return Some(Ok(self.digest.clone()));
        }
        let retry_after = self.retry_after_seconds.map(Duration::from_secs);
        Some(Err(Unobtainable { why: self.lack.unwrap_or(Lack::Failed), reason: answer.into(), retry_after }))
    }

    fn answer(&mut self, outcome: &Outcome) {
        match outcome {
            Ok(digest) => (self.answer, self.digest) = (Some(String::new()), digest.clone()),
            Err(Unobtainable { why, reason, retry_after }) => {
                self.answer = Some(bounded_reason(reason.to_string()));
                self.lack = (*why != Lack::Failed).then_some(*why);
                self.retry_after_seconds = retry_after.map(|wait| wait.as_secs() + 1);
            }
        }
    }
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.asked.is_empty() && self.answers.is_empty() && self.taken_out.is_empty()
    }

    fn apply(&self, waiting: &mut Vec<Asked>, now: Timestamp) {
        waiting.retain(|asked| asked.is_fresh(now) && !self.taken_out.contains(&asked.id));
        for asked in waiting.iter_mut() {
            if let Some(answer) = self.answers.get(&asked.id) {
                asked.answer(answer);
            }
        }
        for asked in &self.asked {
            // It may have been written by an exchange of which we have heard nothing.
            let is_there = waiting.iter().any(|other| other.id == asked.id);
            if !is_there && waiting.len() < MOST_HANDED_ON {
                waiting.push(asked.clone());
            }
        }
    }
}

impl HandedOn {
    /// When to exchange with the entry; `None`: not before something happens.
    pub(super) fn exchange_at(&self) -> Option<Instant> {
        self.exchange_at.filter(|_| !self.is_exchanging)
    }

    /// Whether others hand on to this replica from now on.
    fn turned(&mut self, holds: bool) {
        self.holds = holds;
        if holds {
            self.exchange_at = Some(Instant::now());
        }
    }

    fn has_room(&self) -> bool {
        self.ours.len() < MOST_EXCHANGES
    }

    fn ask(&mut self, id: u64, now: Timestamp, request: Request) {
        self.changes.asked.push(Asked {
            id,
            name: request.wanted.name.clone(),
            tag: request.wanted.tag.clone(),
            mend: request.wanted.mend,
            list: request.wanted.list,
            cause: request.cause,
            at: now,
            piece: request.wanted.piece.clone(),
            answer: None,
            digest: None,
            lack: None,
            retry_after_seconds: None,
        });
        let (began, is_written) = (Instant::now(), false);
        self.ours.push(OnItsWay { id, request, is_written, deadline: began + LONGEST_WAIT });
        self.exchange_at = Some(began);
    }

    fn answer(&mut self, id: u64, outcome: Outcome) {
        self.changes.answers.insert(id, outcome);
        let soon = Instant::now() + ANSWERS_GATHER_FOR;
        self.exchange_at = Some(self.exchange_at.map_or(soon, |at| at.min(soon)));
    }

    /// An exchange begins: with these changes.
    fn begin(&mut self) -> Changes {
        self.is_exchanging = true;
        self.exchange_at = (self.holds || !self.ours.is_empty()).then(|| Instant::now() + LOOK_EVERY);
        std::mem::take(&mut self.changes)
    }

    /// An exchange has failed: the next one makes its changes, too.
    fn failed(&mut self, mut changes: Changes) {
        changes.asked.retain(|asked| self.ours.iter().any(|ours| ours.id == asked.id));
        changes.asked.append(&mut self.changes.asked);
        changes.answers.append(&mut self.changes.answers);
        changes.taken_out.append(&mut self.changes.taken_out);
        self.changes = changes;
        self.exchange_at = Some(Instant::now() + LOOK_EVERY);
    }

    /// How those of our requests went of which that is known. `entry`: what stands there since these were written.
    fn answered(&mut self, written: &[Asked], entry: &[Asked]) -> Vec<(Request, Outcome)> {
        let now = Instant::now();
        let mut answered = Vec::new();
        for mut ours in std::mem::take(&mut self.ours) {
            let id = ours.id;
            let is_new = written.iter().any(|asked| asked.id == id);
            let result = match entry.iter().find(|asked| asked.id == id) {
                Some(asked) if asked.answer.is_some() => asked.outcome(),
                None if is_new => {
                    Some(Err(format!("{MOST_HANDED_ON} requests wait for another replica already").into()))
                }
                None if ours.is_written => Some(Err(no_answer())),
                _ => (ours.deadline <= now).then(|| Err(no_answer())),
            };
            if let Some(result) = result {
                self.take_out(id);
                answered.push((ours.request, result));
            } else {
                ours.is_written |= is_new;
                self.ours.push(ours);
            }
        }
        if !answered.is_empty() {
            self.exchange_at = Some(now);
        }
        answered
    }

    /// Our requests that have waited for too long.
    fn given_up(&mut self) -> Vec<Request> {
        let now = Instant::now();
        let (late, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.ours).into_iter().partition(|ours| ours.deadline <= now);
        self.ours = waiting;
        for late in &late {
            self.take_out(late.id);
        }
        late.into_iter().map(|late| late.request).collect()
    }

    /// Takes back what others are not to do any more, the latest first.
    fn take_back(&mut self) -> Vec<Request> {
        let ours = std::mem::take(&mut self.ours);
        for ours in &ours {
            self.take_out(ours.id);
        }
        ours.into_iter().rev().map(|ours| ours.request).collect()
    }

    fn take_out(&mut self, id: u64) {
        self.changes.asked.retain(|asked| asked.id != id);
        self.changes.taken_out.insert(id);
    }

    /// What others ask for that was not taken yet.
    fn take(&mut self, entry: Vec<Asked>, now: Timestamp) -> Vec<Asked> {
        if !self.holds {
            return Vec::new();
        }
        self.taken.retain(|id| entry.iter().any(|asked| asked.id == *id));
        let waits = |asked: &Asked| {
            asked.answer.is_none() && asked.is_fresh(now) && !self.changes.taken_out.contains(&asked.id)
        };
        let waiting: Vec<Asked> = entry.into_iter().filter(waits).collect();
        waiting.into_iter().filter(|asked| self.taken.insert(asked.id)).collect()
    }
}

impl Lane {
    /// Hands on what was asked for to the replica that holds the lease.
    pub(super) fn hand_on_requests(&mut self) {
        while self.handed_on.has_room() {
            let Some(request) = self.asked.pop_front() else { return };
            if !self.watch_list.borrow().0.contains_key(&request.wanted.name) {
                self.requests.started(&request.wanted);
                request.answer(&Err("the repository is no longer watched".into()));
                continue;
            }
            if !request.wanted.is_known_until_answered() {
                self.requests.started(&request.wanted);
            }
            self.handed_on.ask(self.context.random_id(), self.context.now(), request);
        }
    }

    /// The lease has come or gone: who holds it does itself what it has handed on.
    pub(super) fn hand_on_turned(&mut self, permitted: bool) {
        self.handed_on.turned(permitted && self.context.store.is_shared());
        if permitted {
            for request in self.handed_on.take_back() {
                if request.wanted.is_known_until_answered() {
                    self.asked.push_front(request);
                } else {
                    self.ask_again(request);
                }
            }
        }
    }

    /// Writes what has gathered, and reads what others have written.
    pub(super) fn exchange(&mut self) {
        let changes = self.handed_on.begin();
        let (context, host) = (Arc::clone(&self.context), self.host.clone());
        self.exchanges.spawn(async move {
            let exchanging = exchange(&*context.store, &host, &changes, context.now());
            let entry = tokio::time::timeout(LONGEST_EXCHANGE, exchanging).await.unwrap_or_else(|_| {
                Err(StoreError::Unavailable {
                    message: "what replicas ask of one another takes too long".into(),
                })
            });
            Exchanged::Entry { changes, entry }
        });
    }

    pub(super) fn exchanged(&mut self, exchanged: Exchanged) {
        match exchanged {
            Exchanged::Answered(None) => {}
            Exchanged::Answered(Some((id, result))) => self.handed_on.answer(id, result),
            Exchanged::Entry { changes, entry: Ok(entry) } => {
                self.handed_on.is_exchanging = false;
                for (request, result) in self.handed_on.answered(&changes.asked, &entry) {
                    self.was_answered(request, &result);
                }
                for asked in self.handed_on.take(entry, self.context.now()) {
                    self.take(asked);
                }
            }
            Exchanged::Entry { changes, entry: Err(error) } => {
                debug!(registry.host = self.host, %error, "replicas cannot ask one another; it is tried again");
                self.handed_on.is_exchanging = false;
                self.handed_on.failed(changes);
                for request in self.handed_on.given_up() {
                    self.was_answered(request, &Err(no_answer()));
                }
            }
        }
    }

    fn was_answered(&self, request: Request, result: &Outcome) {
        if request.wanted.is_known_until_answered() {
            self.requests.started(&request.wanted);
        }
        request.answer(result);
    }

    fn take(&mut self, asked: Asked) {
        let Asked { name, tag, mend, list, piece, .. } = asked;
        let wanted = Wanted { name, tag, mend, list, piece };
        let added = self.requests.add(wanted, asked.cause);
        let (context, id) = (Arc::clone(&self.context), asked.id);
        let ticket = added.map(|(ticket, request)| {
            self.asked.extend(request);
            ticket
        });
        self.exchanges.spawn(async move {
            let result = match ticket {
                Ok(ticket) => tokio::select! {
                    biased;
                    () = context.shutdown.cancelled() => return Exchanged::Answered(None),
                    result = ticket.outcome() => result,
                    // Nobody waits any more.
                    () = tokio::time::sleep(LONGEST_WAIT) => return Exchanged::Answered(None),
                },
                Err(refused) => Err(refused.to_string().into()),
            };
            Exchanged::Answered(Some((id, result)))
        });
    }
}

fn no_answer() -> Unobtainable {
    "the replica that keeps the repository warm did not answer".into()
}

/// Changes the requests on their way to `host`. Returns them.
async fn exchange(
    store: &dyn Client,
    host: &str,
    changes: &Changes,
    now: Timestamp,
) -> Result<Vec<Asked>, StoreError> {
    let key = Key::Asked(host.to_owned());
    for _ in 0..MOST_TRIES {
        let before = store.get(&key).await?;
        let found: Vec<Asked> = stored::decode(before.as_ref()).unwrap_or_default();
        if changes.is_empty() {
            return Ok(found);
        }
        let mut waiting = found.clone();
        changes.apply(&mut waiting, now);
        if waiting == found {
            return Ok(found);
        }
        let after = Entry::immutable(stored::encode(&waiting));
        if store.compare_and_set(key.clone(), before, after).await? {
            return Ok(waiting);
        }
    }
    Err(StoreError::Unavailable { message: "what replicas ask of one another keeps changing".into() })
}
