//! Single documents that readers want and the store does not have: manifests that no tag of a watched platform leads to,
//! configurations that were evicted, what a tag points at that is not kept warm, and what refers to a manifest.
//!
//! Invariants: a document is asked of the registry for the repository in whose name it is wanted, so that nobody reads through
//! one repository what belongs to another; those who want the same wait for one request; nothing but documents is stored.

use std::sync::Arc;
use std::time::Duration;

use samovar_registry::upstream::{ErrorClass, ErrorKind, Operation, UpstreamError, Urgency};
use samovar_registry::{Digest, Name, Tag};
use serde::{Deserialize, Serialize};

use super::context::Context;
use super::fetch::{Asking, FetchError};
use super::lease::{Lease, Leased};
use super::pass::GRACE;
use super::requests::Outcome;
use crate::cache::page::bounded_reason;
use crate::sources::Watch;

/// A document of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Piece {
    /// What a tag points at.
    Tag(Tag),
    /// A manifest or an index. Whether the repository has it is asked of the registry also where the store has it.
    Manifest(Digest),
    /// A configuration, or another small blob.
    Blob(Digest),
    /// The index of what refers to a manifest.
    Referrers(Digest),
}

/// The digest under which the store has the document now, or why it has not.
pub type DocumentResult = Result<Digest, Unobtainable>;

/// Why there is no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unobtainable {
    /// What kind of reason it is.
    pub why: Lack,
    /// In words.
    pub reason: Arc<str>,
    /// When it makes sense to ask again, where that is known.
    pub retry_after: Option<Duration>,
}

/// Why there is no document, as whoever wants it has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lack {
    /// The registry says that the repository has no such thing.
    NotThere,
    /// Anything else: nobody knows.
    Failed,
}

impl From<String> for Unobtainable {
    fn from(reason: String) -> Self {
        Self { why: Lack::Failed, reason: reason.into(), retry_after: None }
    }
}

impl From<&str> for Unobtainable {
    fn from(reason: &str) -> Self {
        Self { why: Lack::Failed, reason: reason.into(), retry_after: None }
    }
}

impl From<FetchError> for Unobtainable {
    fn from(error: FetchError) -> Self {
        let (why, retry_after) = match &error {
            FetchError::Upstream(error) if error.kind.class() == ErrorClass::NotFound => {
                (Lack::NotThere, None)
            }
            FetchError::Upstream(error) => (Lack::Failed, error.kind.retry_after()),
            FetchError::Store(_) | FetchError::Document { .. } => (Lack::Failed, None),
        };
        Self { why, reason: bounded_reason(error.to_string()).into(), retry_after }
    }
}

/// Fetches one document for one repository.
#[derive(Debug)]
pub(super) struct Fetching {
    pub(super) context: Arc<Context>,
    pub(super) name: Name,
    pub(super) watch: Watch,
    /// Whether this replica may ask the host.
    pub(super) lease: Lease,
}

impl Fetching {
    /// Fetches and stores the document. `None`: another replica is to ask the host from now on.
    pub(super) async fn run(&self, piece: &Piece) -> Option<Outcome> {
        let upstream = self.context.upstreams.upstream(&self.name, &self.watch.credentials);
        let upstream = Leased { upstream, lease: self.lease.clone() };
        let asking = Asking {
            host: self.name.host(),
            upstream: &upstream,
            platforms: self.context.platforms(&self.watch),
            urgency: Urgency::Asked,
        };
        let outcome = tokio::select! {
            biased;
            () = self.context.shutdown.cancelled() => Err("samovar is shutting down".into()),
            () = self.lease.lost() => return None,
            kind = self.held_back() => Err(self.error(piece, kind).into()),
            fetched = self.context.fetcher.piece(asking, piece) => fetched.map(Some).map_err(Into::into),
        };
        Some(outcome)
    }

    /// Resolves when the registry wants to be left alone for longer than it pays to wait.
    async fn held_back(&self) -> ErrorKind {
        loop {
            let kind = self.context.upstreams.held_back(&self.name);
            let is_long = |kind: &ErrorKind| kind.retry_after().is_some_and(|wait| wait > GRACE);
            if let Some(kind) = kind.filter(is_long) {
                return kind;
            }
            tokio::time::sleep(GRACE).await;
        }
    }

    fn error(&self, piece: &Piece, kind: ErrorKind) -> FetchError {
        UpstreamError { repository: self.name.clone(), operation: piece.operation(), kind }.into()
    }
}

impl Piece {
    fn operation(&self) -> Operation {
        match self {
            Self::Tag(_) | Self::Manifest(_) => Operation::Manifest,
            Self::Blob(_) => Operation::Config,
            Self::Referrers(_) => Operation::Referrers,
        }
    }
}
