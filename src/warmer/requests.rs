//! Requests to refresh: what flows back from the doors. They go first, ignore deadlines, and merge.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samovar_registry::{Name, Tag};
use tokio::sync::watch;

/// Requests that may wait to be started, over all lanes.
const MOST_WAITING: usize = 1000;

/// What is to be refreshed: a repository, or one tag of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub(super) name: Name,
    pub(super) tag: Option<Tag>,
    /// Not a refresh of everything: a reader has found part of the repository missing from the store.
    pub(super) mend: bool,
}

/// How a requested refresh ended: done, or why not.
pub type RefreshResult = Result<(), Arc<str>>;

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestRefused {
    /// The repository is not watched.
    #[error("the repository is not watched")]
    NotWatched,
    /// Too many requests are waiting.
    #[error("{MOST_WAITING} requests are waiting already")]
    Busy,
}

/// A requested refresh; resolves when its result is visible to readers.
#[derive(Debug)]
pub struct Ticket(watch::Receiver<Option<RefreshResult>>);

impl Ticket {
    /// Waits for the refresh. Cancellation-safe, and the refresh goes on without anybody waiting.
    pub async fn done(mut self) -> RefreshResult {
        match self.0.wait_for(Option::is_some).await {
            Ok(result) => result.clone().expect("waited for it"),
            Err(_) => Err("samovar is shutting down".into()),
        }
    }
}

/// A request on its way; whoever drops it without an answer leaves it unanswered, which waiters are told.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) wanted: Wanted,
    answer: watch::Sender<Option<RefreshResult>>,
}

impl Request {
    pub(super) fn answer(self, result: RefreshResult) {
        // Nobody waits: nobody minds.
        let _ = self.answer.send(Some(result));
    }
}

/// The requests that wait to be started.
#[derive(Debug, Default)]
pub(super) struct Requests(Mutex<HashMap<Wanted, watch::Receiver<Option<RefreshResult>>>>);

impl Requests {
    /// A ticket for `wanted`, and the request if none for the same thing waits already.
    pub(super) fn add(&self, wanted: Wanted) -> Result<(Ticket, Option<Request>), RequestRefused> {
        let mut waiting = self.waiting();
        if let Some(receiver) = waiting.get(&wanted) {
            return Ok((Ticket(receiver.clone()), None));
        }
        if waiting.len() >= MOST_WAITING {
            return Err(RequestRefused::Busy);
        }
        let (answer, receiver) = watch::channel(None);
        waiting.insert(wanted.clone(), receiver.clone());
        Ok((Ticket(receiver), Some(Request { wanted, answer })))
    }

    /// The request is begun (or given up): the next one for the same thing is another one.
    pub(super) fn started(&self, wanted: &Wanted) {
        self.waiting().remove(wanted);
    }

    pub(super) fn len(&self) -> usize {
        self.waiting().len()
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Wanted, watch::Receiver<Option<RefreshResult>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
