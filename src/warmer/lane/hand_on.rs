//! Requests to refresh that reach a replica which does not hold the lane's lease: handed on through the store to the one
//! that does, and its answer back.
//!
//! One entry for each host holds the requests that are on their way. Replicas add to it by compare-and-set; the holder looks
//! twice a second, and writes beside each request how it went; whoever asked takes it out again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::{Name, Tag};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::debug;

use super::Lane;
use crate::cache::page::bounded_reason;
use crate::cache::stored;
use crate::store::{Client, Entry, Key, StoreError};
use crate::warmer::change::Cause;
use crate::warmer::requests::{RefreshResult, Request, Wanted};

/// How often the holder of a lease looks for requests of other replicas: they are begun within a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often whoever has handed on a request looks for the answer.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// An answer that has not come by then will not.
const LONGEST_WAIT: Duration = Duration::from_secs(90);
/// Requests for one host that may be on their way from replica to replica.
const MOST_HANDED_ON: usize = 100;
/// Requests of one lane that may be on their way at once, in either direction.
const MOST_EXCHANGES: usize = 64;
/// Another replica may write the entry at the same time; after this many tries it is an error.
const MOST_TRIES: usize = 20;

/// A request on its way.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Asked {
    id: u64,
    name: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<Tag>,
    #[serde(default)]
    mend: bool,
    #[serde(default = "request")]
    cause: Cause,
    at: Timestamp,
    /// How it went: empty for well, else what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
}

/// What a replica of an older version does not say.
fn request() -> Cause {
    Cause::Request
}

/// What this replica has taken from others.
#[derive(Debug, Default)]
pub(super) struct HandedOn {
    look_at: Option<Instant>,
    /// The requests that stand in the entry and were taken.
    taken: HashSet<u64>,
}

/// What an exchange with another replica ended with.
pub(super) enum Exchanged {
    /// A request of ours that another replica has answered, or has not.
    HandedOn { result: RefreshResult, request: Request },
    /// A request of another replica was answered, or could not be.
    Answered,
}

impl HandedOn {
    /// When to look for requests of other replicas; `None`: not at all.
    pub(super) fn take_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Whether to look from now on.
    pub(super) fn turned(&mut self, holds: bool) {
        self.look_at = holds.then(Instant::now);
    }
}

impl Asked {
    /// Whether somebody still waits for the answer. Clocks of replicas may differ, but not by so much.
    fn is_fresh(&self, now: Timestamp) -> bool {
        let age = now.duration_since(self.at).unsigned_abs();
        age < LONGEST_WAIT
    }
}

impl Lane {
    /// Hands on what was asked for to the replica that holds the lease.
    pub(super) fn hand_on_requests(&mut self) {
        while self.exchanges.len() < MOST_EXCHANGES {
            let Some(request) = self.asked.pop_front() else { return };
            if !request.wanted.mend {
                // A mend stays known until it is answered: every reader that misses something asks for one.
                self.requests.started(&request.wanted);
            }
            let (context, host) = (Arc::clone(&self.context), self.host.clone());
            self.exchanges.spawn(async move {
                let asked = Asked {
                    id: context.random_id(),
                    name: request.wanted.name.clone(),
                    tag: request.wanted.tag.clone(),
                    mend: request.wanted.mend,
                    cause: request.cause,
                    at: context.now(),
                    answer: None,
                };
                let answered = tokio::select! {
                    biased;
                    answered = ask_elsewhere(&*context.store, &host, asked) => answered,
                    () = context.shutdown.cancelled() => Ok(Err("samovar is shutting down".into())),
                };
                let result = answered.unwrap_or_else(|error| Err(error.to_string().into()));
                Exchanged::HandedOn { result, request }
            });
        }
    }

    pub(super) fn exchanged(&mut self, exchanged: Exchanged) {
        if let Exchanged::HandedOn { result, request } = exchanged {
            if request.wanted.mend {
                self.requests.started(&request.wanted);
            }
            request.answer(&result);
        }
    }

    /// Takes what other replicas ask for.
    pub(super) async fn take_handed_on(&mut self) {
        self.handed_on.look_at = Some(Instant::now() + LOOK_EVERY);
        let key = Key::Asked(self.host.clone());
        let asked = match self.context.store.get(&key).await {
            Ok(entry) => read(entry.as_ref()),
            Err(error) => {
                return debug!(registry.host = self.host, %error, "what other replicas ask for is not known");
            }
        };
        self.handed_on.taken.retain(|id| asked.iter().any(|asked| asked.id == *id));
        let now = self.context.now();
        for asked in asked.into_iter().filter(|asked| asked.answer.is_none() && asked.is_fresh(now)) {
            if self.handed_on.taken.insert(asked.id) {
                self.take(asked);
            }
        }
    }

    fn take(&mut self, asked: Asked) {
        let wanted = Wanted { name: asked.name, tag: asked.tag, mend: asked.mend };
        let added = self.requests.add(wanted, asked.cause);
        let (context, host, id) = (Arc::clone(&self.context), self.host.clone(), asked.id);
        let ticket = added.map(|(ticket, request)| {
            self.asked.extend(request);
            ticket
        });
        self.exchanges.spawn(async move {
            let result = match ticket {
                Ok(ticket) => tokio::select! {
                    biased;
                    result = ticket.done() => result,
                    // Nobody waits any more.
                    () = tokio::time::sleep(LONGEST_WAIT) => return Exchanged::Answered,
                    () = context.shutdown.cancelled() => return Exchanged::Answered,
                },
                Err(refused) => Err(refused.to_string().into()),
            };
            let answer = result.err().map_or_else(String::new, |reason| bounded_reason(reason.to_string()));
            let answered = change(&*context.store, &host, |waiting| {
                if let Some(asked) = waiting.iter_mut().find(|asked| asked.id == id) {
                    asked.answer = Some(answer.clone());
                }
            });
            if let Err(error) = answered.await {
                debug!(registry.host = host, %error, "another replica cannot be told how its request went");
            }
            Exchanged::Answered
        });
    }
}

/// Asks whoever holds the lease, and waits for the answer.
async fn ask_elsewhere(store: &dyn Client, host: &str, asked: Asked) -> Result<RefreshResult, StoreError> {
    let id = asked.id;
    let mut taken_in = false;
    change(store, host, |waiting| {
        waiting.retain(|other| other.is_fresh(asked.at));
        taken_in = waiting.len() < MOST_HANDED_ON;
        if taken_in {
            waiting.push(asked.clone());
        }
    })
    .await?;
    if !taken_in {
        return Ok(Err(format!("{MOST_HANDED_ON} requests wait for another replica already").into()));
    }
    let deadline = Instant::now() + LONGEST_WAIT;
    while Instant::now() < deadline {
        tokio::time::sleep(ASK_EVERY).await;
        let waiting = read(store.get(&Key::Asked(host.to_owned())).await?.as_ref());
        let Some(asked) = waiting.into_iter().find(|asked| asked.id == id) else { break };
        let Some(answer) = asked.answer else { continue };
        change(store, host, |waiting| waiting.retain(|asked| asked.id != id)).await?;
        return Ok(if answer.is_empty() { Ok(()) } else { Err(answer.into()) });
    }
    Ok(Err("the replica that keeps the repository warm did not answer".into()))
}

/// Changes the requests on their way to `host`.
async fn change(
    store: &dyn Client,
    host: &str,
    mut change: impl FnMut(&mut Vec<Asked>),
) -> Result<(), StoreError> {
    let key = Key::Asked(host.to_owned());
    for _ in 0..MOST_TRIES {
        let before = store.get(&key).await?;
        let mut waiting = read(before.as_ref());
        change(&mut waiting);
        let after = Entry::immutable(stored::encode(&waiting));
        if before.as_ref() == Some(&after) || store.compare_and_set(key.clone(), before, after).await? {
            return Ok(());
        }
    }
    Err(StoreError::Unavailable { message: "what replicas ask of one another keeps changing".into() })
}

fn read(entry: Option<&Entry>) -> Vec<Asked> {
    stored::decode(entry).unwrap_or_default()
}
