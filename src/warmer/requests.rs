//! Requests to refresh, and for documents: what flows back from the doors. They go first, ignore deadlines, and merge. Asking
//! never blocks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use samovar_registry::{Digest, Name, Tag};
use tokio::sync::watch;

use super::change::Cause;
use super::document::{DocumentResult, Piece, Unobtainable};

/// Requests that may wait to be started, over all lanes.
const MOST_WAITING: usize = 1000;
/// The same of one host, so that one that hangs does not shut out the others.
const MOST_WAITING_OF_A_HOST: usize = 250;

/// What is to be refreshed: a repository, or one tag of it; or which document of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub(super) name: Name,
    pub(super) tag: Option<Tag>,
    /// Not a refresh of everything: a reader has found part of the repository missing from the store; of a tag, that nothing
    /// is known of it yet.
    pub(super) mend: bool,
    /// Of a repository, its list and what is due: something is said to be gone from it.
    pub(super) list: bool,
    /// Not a refresh at all: a reader wants a document that the store does not have, or not of this repository.
    pub(super) piece: Option<Piece>,
}

impl Wanted {
    /// Whether a request stays known while it is under way, so that others join it: every reader that misses something asks for
    /// the same. Refreshes do not: who asks for one wants it to begin after the asking.
    pub(super) fn is_known_until_answered(&self) -> bool {
        self.mend || self.piece.is_some()
    }
}

/// How a requested refresh ended: done, or why not.
pub type RefreshResult = Result<(), Arc<str>>;

/// How any request ended: done, with the digest of the document where one was wanted, or why not.
pub(super) type Outcome = Result<Option<Digest>, Unobtainable>;

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestRefused {
    /// The repository is not watched.
    #[error("the repository is not watched")]
    NotWatched,
    /// Too many requests are waiting.
    #[error("{MOST_WAITING_OF_A_HOST} requests for this host, or {MOST_WAITING} in all, are waiting already")]
    Busy,
}

/// A requested refresh; resolves when its result is visible to readers.
#[derive(Debug)]
pub struct Ticket(watch::Receiver<Option<Outcome>>);

impl Ticket {
    /// Waits for the refresh. Cancellation-safe, and the refresh goes on without anybody waiting.
    pub async fn done(self) -> RefreshResult {
        self.outcome().await.map(drop).map_err(|why| why.reason)
    }

    pub(super) async fn outcome(mut self) -> Outcome {
        match self.0.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().expect("waited for it"),
            Err(_) => Err("samovar is shutting down".into()),
        }
    }
}

/// A document that was asked for; resolves when the store has it.
#[derive(Debug)]
pub struct DocumentTicket(pub(super) Ticket);

impl DocumentTicket {
    /// Waits for the document. Cancellation-safe, and it is fetched without anybody waiting.
    pub async fn done(self) -> DocumentResult {
        self.0.outcome().await?.ok_or_else(|| "the replica that was asked is too old for it".into())
    }
}

/// A request on its way; whoever drops it without an answer leaves it unanswered, which waiters are told.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) wanted: Wanted,
    /// Why the first of those asked who are told how it went.
    pub(super) cause: Cause,
    /// The list was read, and what is left to be asked about is due.
    pub(super) begun: bool,
    answers: Arc<Answers>,
}

/// Whom to tell how it went: one, or more where a request that was begun waits again beside a later one.
type Answers = Mutex<Vec<watch::Sender<Option<Outcome>>>>;

impl Request {
    pub(super) fn answer(self, outcome: &Outcome) {
        for answer in locked(&self.answers).drain(..) {
            // Nobody waits: nobody minds.
            let _ = answer.send(Some(outcome.clone()));
        }
    }
}

/// The requests that wait to be started.
#[derive(Debug, Default)]
pub(super) struct Requests(Mutex<HashMap<Wanted, Weak<Answers>>>);

impl Requests {
    /// A ticket for `wanted`, and the request if none for the same thing waits already.
    pub(super) fn add(
        &self,
        wanted: Wanted,
        cause: Cause,
    ) -> Result<(Ticket, Option<Request>), RequestRefused> {
        let mut waiting = locked(&self.0);
        let merged = waiting.get(&wanted).and_then(Weak::upgrade);
        if let Some(answer) =
            merged.and_then(|answers| locked(&answers).first().map(watch::Sender::subscribe))
        {
            return Ok((Ticket(answer), None));
        }
        let of_the_host = waiting.keys().filter(|other| other.name.host() == wanted.name.host()).count();
        if waiting.len() >= MOST_WAITING || of_the_host >= MOST_WAITING_OF_A_HOST {
            return Err(RequestRefused::Busy);
        }
        let (answer, receiver) = watch::channel(None);
        let answers = Arc::new(Mutex::new(vec![answer]));
        waiting.insert(wanted.clone(), Arc::downgrade(&answers));
        Ok((Ticket(receiver), Some(Request { wanted, cause, begun: false, answers })))
    }

    /// The request is begun (or given up): the next one for the same thing is another one.
    pub(super) fn started(&self, wanted: &Wanted) {
        locked(&self.0).remove(wanted);
    }

    /// A request that was begun waits again, and counts again. `None`: a later one for the same thing waits, and whoever is
    /// to be told of this one is told of that one.
    pub(super) fn waits_again(&self, request: Request) -> Option<Request> {
        let mut waiting = locked(&self.0);
        if let Some(later) = waiting.get(&request.wanted).and_then(Weak::upgrade) {
            let mut later = locked(&later);
            if !later.is_empty() {
                later.append(&mut locked(&request.answers));
                return None;
            }
        }
        waiting.insert(request.wanted.clone(), Arc::downgrade(&request.answers));
        Some(request)
    }

    pub(super) fn len(&self) -> usize {
        locked(&self.0).len()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str, tag: Option<&str>) -> Wanted {
        let tag = tag.map(|tag| tag.parse().unwrap());
        Wanted { name: name.parse().unwrap(), tag, mend: false, list: false, piece: None }
    }

    #[tokio::test]
    async fn requests_for_the_same_thing_are_one_whoever_asks_and_however_it_is_spelt() {
        let requests = Requests::default();
        let (first, request) = requests.add(wanted("alpine", None), Cause::Webhook).unwrap();
        let request = request.unwrap();
        for spelling in ["docker.io/alpine", "index.docker.io/library/alpine", "docker.io/library/alpine"] {
            let (_, another) = requests.add(wanted(spelling, None), Cause::Request).unwrap();
            assert!(another.is_none(), "{spelling}");
        }
        let (second, another) = requests.add(wanted("alpine", None), Cause::Request).unwrap();
        assert!(another.is_none());
        assert_eq!((requests.len(), request.cause), (1, Cause::Webhook));
        assert!(requests.add(wanted("alpine", Some("1")), Cause::Request).unwrap().1.is_some());
        requests.started(&request.wanted);
        assert!(requests.add(wanted("alpine", None), Cause::Request).unwrap().1.is_some(), "a later one");
        request.answer(&Ok(None));
        assert_eq!((first.done().await, second.done().await), (Ok(()), Ok(())));
    }

    #[tokio::test]
    async fn what_waits_again_counts_again_and_merges_with_a_later_one() {
        let requests = Requests::default();
        let (first, request) = requests.add(wanted("alpine", None), Cause::Request).unwrap();
        let request = request.unwrap();
        requests.started(&request.wanted);
        assert_eq!(requests.len(), 0);
        let request = requests.waits_again(request).unwrap();
        assert_eq!(requests.len(), 1);
        requests.started(&request.wanted);
        let (second, later) = requests.add(wanted("alpine", None), Cause::Request).unwrap();
        assert!(requests.waits_again(request).is_none());
        assert_eq!(requests.len(), 1);
        later.unwrap().answer(&Err("no".into()));
        assert_eq!((first.done().await, second.done().await), (Err("no".into()), Err("no".into())));
    }

    // D14: asking never blocks, however many have asked already.
    #[tokio::test]
    async fn too_many_are_refused_and_what_is_dropped_is_told() {
        let requests = Requests::default();
        let mut kept = Vec::new();
        for number in 0..MOST_WAITING_OF_A_HOST {
            kept.push(requests.add(wanted(&format!("team/app{number}"), None), Cause::Request).unwrap());
        }
        let of_this_host = requests.add(wanted("team/more", None), Cause::Request);
        assert_eq!(of_this_host.map(drop), Err(RequestRefused::Busy));
        for number in MOST_WAITING_OF_A_HOST..MOST_WAITING {
            let name = format!("host{}.example/app{number}", number % 5);
            kept.push(requests.add(wanted(&name, None), Cause::Request).unwrap());
        }
        let refused = requests.add(wanted("other.example/more", None), Cause::Request);
        assert_eq!(refused.map(drop), Err(RequestRefused::Busy));
        assert!(requests.add(wanted("team/app7", None), Cause::Request).is_ok(), "it waits already");
        let (ticket, request) = kept.swap_remove(7);
        drop(request);
        ticket.done().await.unwrap_err();
        assert_eq!(
            requests.add(wanted("team/more", None), Cause::Request).map(drop),
            Err(RequestRefused::Busy)
        );
    }
}
