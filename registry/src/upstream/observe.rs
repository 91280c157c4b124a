//! Telling an observer, such as metrics, of every request that is sent.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{ErrorClass, Operation};

/// Is told of every HTTP request sent upstream: retries, token requests and redirect hops one by one.
pub trait RequestObserver: Debug + Send + Sync {
    /// One request has ended. Called on the path of the request: must not block.
    fn request(&self, record: &RequestRecord<'_>);
}

/// Nobody watches.
impl RequestObserver for () {
    fn request(&self, _: &RequestRecord<'_>) {}
}

/// One HTTP request, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRecord<'a> {
    /// The registry host for which it was sent, canonical; tokens and redirect hops count for their registry.
    pub host: &'a str,
    /// What was being done.
    pub operation: Operation,
    /// How it ended.
    pub outcome: Outcome,
    /// Bytes of body received.
    pub bytes: u64,
    /// From sending to the end of the body, without `waited`.
    pub duration: Duration,
    /// How long it waited for the host's budget before it was sent.
    pub waited: Duration,
}

/// How one HTTP request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// An answer that was of use, redirects included.
    Ok,
    /// Failed; the first request to a registry that wants a login counts as `Unauthorized`.
    Failed(ErrorClass),
    /// Whoever asked went away before the answer was complete.
    Cancelled,
}

impl Outcome {
    /// The bounded metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed(class) => class.as_str(),
            Self::Cancelled => "cancelled",
        }
    }
}

/// Tells the observer exactly once, also when the request's future is dropped half way.
#[derive(Debug)]
pub(super) struct Recording {
    observer: Arc<dyn RequestObserver>,
    host: Arc<str>,
    operation: Operation,
    started: Instant,
    waited: Duration,
    /// `None` if there is nothing to tell.
    outcome: Option<Outcome>,
    bytes: u64,
}

impl Recording {
    /// Starts the watch; the request is about to be sent.
    pub(super) fn start(
        observer: Arc<dyn RequestObserver>,
        host: Arc<str>,
        operation: Operation,
        waited: Duration,
    ) -> Self {
        let started = Instant::now();
        Self { observer, host, operation, started, waited, outcome: Some(Outcome::Cancelled), bytes: 0 }
    }

    /// Counts bytes of body as they come.
    pub(super) fn received(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// The request has ended like this.
    pub(super) fn end(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    /// No request was sent after all.
    pub(super) fn discard(mut self) {
        self.outcome = None;
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let Some(outcome) = self.outcome else { return };
        self.observer.request(&RequestRecord {
            host: &self.host,
            operation: self.operation,
            outcome,
            bytes: self.bytes,
            duration: self.started.elapsed(),
            waited: self.waited,
        });
    }
}
