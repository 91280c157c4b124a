//! Learning what one tag points at, with as few requests as can be.
//!
//! | what is known of the tag | what is asked |
//! |---|---|
//! | nothing | GET by tag; where GETs count against a quota, HEAD, then GET by digest if that digest is new |
//! | its digest | HEAD; if it moved, GET by digest if that digest is new |
//! | its digest, but other platforms are wanted now | nothing that the store has by digest |
//!
//! Then one GET for every wanted child of an index and every configuration that the store does not have: which these
//! are is in [`contents`]. Documents are stored as they arrive, by digest, also those that turn out not to be images: what
//! is named by a digest is asked for once, whichever tags and repositories need it, also when they need it at the same
//! moment.

mod contents;
mod piece;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use samovar_registry::upstream::{
    Document, ErrorClass, ErrorKind, ImageConfig, ManifestSelector, Upstream, UpstreamError, Urgency,
};
use samovar_registry::{Digest, Platforms, Tag};
use tracing::debug;

pub(super) use self::contents::MAX_INDEX_DEPTH;
use super::tag::{DueTag, TagAnswer};
use crate::cache::records::ImageRecord;
use crate::metrics::Metrics;
use crate::store::{Client, Documents, StoreError, StoredDocument};

/// Why a tag could not be asked about.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The document says something that cannot be: its digest and what is wrong.
    #[error("{digest} is no image: {message}")]
    Document { digest: Digest, message: String },
}

/// Fetches what tags point at. Shared by all repositories.
#[derive(Debug)]
pub(super) struct Fetcher {
    store: Arc<dyn Client>,
    metrics: Arc<Metrics>,
    flights: Flights,
}

/// Whom to ask, for what, and how urgently.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) host: &'a str,
    pub(super) upstream: &'a dyn Upstream,
    /// The platforms whose images are wanted.
    pub(super) platforms: &'a Platforms,
    pub(super) urgency: Urgency,
}

impl Fetcher {
    pub(super) fn new(store: Arc<dyn Client>, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics, flights: Flights::default() }
    }

    /// Asks about one tag. `known_image` finds images that tags of the same repository point at already.
    pub(super) async fn ask(
        &self,
        asking: Asking<'_>,
        due: &DueTag,
        known_image: impl Fn(&Digest) -> Option<Arc<ImageRecord>>,
    ) -> Result<TagAnswer, FetchError> {
        if let Some(digest) = due.known.as_ref().filter(|_| due.other_platforms) {
            return self.moved_to(asking, digest.clone(), |_| None).await;
        }
        if due.known.is_some() || asking.upstream.counts_manifest_gets() {
            match asking.upstream.resolve(&due.tag, asking.urgency).await {
                Ok(Some(digest)) if due.known.as_ref() == Some(&digest) => return Ok(TagAnswer::Same),
                Ok(Some(digest)) => return self.moved_to(asking, digest, known_image).await,
                Ok(None) => {}
                Err(error) => return unless_not_found(error),
            }
        }
        self.by_tag(asking, due, known_image).await
    }

    async fn by_tag(
        &self,
        asking: Asking<'_>,
        due: &DueTag,
        known_image: impl Fn(&Digest) -> Option<Arc<ImageRecord>>,
    ) -> Result<TagAnswer, FetchError> {
        let tag: &Tag = &due.tag;
        let document = match asking.upstream.manifest(ManifestSelector::Tag(tag), asking.urgency).await {
            Ok(document) => document,
            Err(error) => return unless_not_found(error),
        };
        if due.known.as_ref() == Some(&document.digest) {
            return Ok(TagAnswer::Same);
        }
        if let Some(image) = known_image(&document.digest) {
            return Ok(TagAnswer::Image(image));
        }
        self.keep(&document).await;
        let digest = document.digest.clone();
        failing_as_moved(digest, self.image_of(asking, document).await)
    }

    /// The registry said by HEAD that the tag points at `digest`, which is not what we knew.
    async fn moved_to(
        &self,
        asking: Asking<'_>,
        digest: Digest,
        known_image: impl Fn(&Digest) -> Option<Arc<ImageRecord>>,
    ) -> Result<TagAnswer, FetchError> {
        if let Some(image) = known_image(&digest) {
            self.metrics.documents_saved();
            return Ok(TagAnswer::Image(image));
        }
        let answer = match self.manifest(asking, &digest).await {
            Ok(document) => self.image_of(asking, document).await,
            Err(error) => Err(error),
        };
        failing_as_moved(digest, answer)
    }

    /// A manifest or index by digest, from the store or else from the registry.
    async fn manifest(&self, asking: Asking<'_>, digest: &Digest) -> Result<Document, FetchError> {
        let flight = self.flights.of(&asking, digest);
        let _alone = flight.lock().await;
        // Without a type it was kept as a configuration, for whoever named it as one.
        let stored = Documents(&*self.store).get(digest).await?;
        if let Some(StoredDocument { media_type, bytes }) = stored.filter(|it| !it.media_type.is_empty()) {
            self.metrics.documents_saved();
            return Ok(Document { digest: digest.clone(), media_type, bytes });
        }
        let document = asking.upstream.manifest(ManifestSelector::Digest(digest), asking.urgency).await?;
        self.keep(&document).await;
        Ok(document)
    }

    /// A configuration by digest, from the store or else from the registry.
    async fn config(&self, asking: Asking<'_>, digest: &Digest) -> Result<ImageConfig, FetchError> {
        let bytes = self.blob(asking, digest).await?;
        ImageConfig::decode(&bytes)
            .map_err(|error| FetchError::Document { digest: digest.clone(), message: error.to_string() })
    }

    /// A configuration, or another small blob, as it is.
    async fn blob(&self, asking: Asking<'_>, digest: &Digest) -> Result<Bytes, FetchError> {
        let flight = self.flights.of(&asking, digest);
        let _alone = flight.lock().await;
        let stored = Documents(&*self.store).get(digest).await?;
        if let Some(stored) = stored {
            self.metrics.documents_saved();
            return Ok(stored.bytes);
        }
        let bytes = asking.upstream.config(digest, asking.urgency).await?;
        let document = StoredDocument { media_type: String::new(), bytes: bytes.clone() };
        self.put(digest, &document).await;
        Ok(bytes)
    }

    /// Stores a document by its digest, which the client has checked.
    async fn keep(&self, document: &Document) {
        let stored =
            StoredDocument { media_type: document.media_type.clone(), bytes: document.bytes.clone() };
        self.put(&document.digest, &stored).await;
    }

    /// Stores a document. Where that fails nothing is lost but a later request: what it says goes into a page, and whether
    /// pages can be stored is for the publication to find out.
    async fn put(&self, digest: &Digest, document: &StoredDocument) {
        if let Err(error) = Documents(&*self.store).put(digest, document).await {
            debug!(image.digest = %digest, %error, "a document is not kept");
        }
    }
}

/// The registry has nothing there: an answer, not a failure.
fn unless_not_found(error: UpstreamError) -> Result<TagAnswer, FetchError> {
    if matches!(error.kind, ErrorKind::NotFound { .. }) { Ok(TagAnswer::Unknown) } else { Err(error.into()) }
}

/// A failure behind a digest that is known to be the tag's now: the tag has moved, and we cannot follow yet.
fn failing_as_moved(digest: Digest, answer: Result<TagAnswer, FetchError>) -> Result<TagAnswer, FetchError> {
    let (class, reason) = match answer {
        Err(FetchError::Upstream(error)) if error.kind.retry_after().is_none() => {
            (error.kind.class(), error.to_string())
        }
        Err(error @ FetchError::Document { .. }) => (ErrorClass::Protocol, error.to_string()),
        answer => return answer,
    };
    Ok(TagAnswer::Failed { class, reason, moved_to: Some(digest) })
}

/// Who fetches which digest now: one at a time from each host, so that the second finds in the store what the first has
/// fetched, and nobody waits for a host that is not theirs. Nor does what somebody has asked for wait behind what the
/// schedule has, which may stand in a long line: rather, a document is fetched twice.
#[derive(Debug, Default)]
struct Flights(Mutex<HashMap<(String, Digest, Urgency), Weak<Flight>>>);

type Flight = tokio::sync::Mutex<()>;

/// Ended flights are cleared away once there are this many entries.
const CLEAR_FLIGHTS_AT: usize = 1024;

impl Flights {
    fn of(&self, asking: &Asking<'_>, digest: &Digest) -> Arc<Flight> {
        let key = (asking.host.to_owned(), digest.clone(), asking.urgency);
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&key).and_then(Weak::upgrade) {
            return flight;
        }
        if flights.len() >= CLEAR_FLIGHTS_AT {
            flights.retain(|_, flight| flight.strong_count() > 0);
        }
        let flight = Arc::default();
        flights.insert(key, Arc::downgrade(&flight));
        flight
    }
}

#[cfg(test)]
mod tests;
