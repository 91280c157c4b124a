//! Learning what one tag points at, with as few requests as can be.
//!
//! | what is known of the tag | what is asked |
//! |---|---|
//! | nothing | GET by tag; where GETs count against a quota, HEAD, then GET by digest if that digest is new |
//! | its digest | HEAD; if it moved, GET by digest if that digest is new |
//! | its digest, but other platforms are wanted now | nothing that the store has by digest |
//!
//! Then one GET for every wanted child of an index and every configuration that the store does not have. Documents are
//! stored as they arrive, by digest: what is named by a digest is asked for once, whichever tags and repositories
//! need it, also when they need it at the same moment.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use samovar_registry::upstream::{
    Child, Document, ErrorClass, ErrorKind, ImageConfig, ImageManifest, Index, Manifest, ManifestSelector,
    Upstream, UpstreamError, Urgency,
};
use samovar_registry::{Digest, Platform, Platforms, Tag};
use tracing::debug;

use super::tag::{DueTag, TagAnswer};
use crate::cache::page::{MOST_PLATFORMS, bounded_labels};
use crate::cache::records::{Exclusion, ImageRecord};
use crate::metrics::Metrics;
use crate::store::{Client, Documents, StoreError, StoredDocument};

/// Children that do not say their platform are looked into, but no more than this many.
const MOST_UNLABELLED_CHILDREN: usize = 4;

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
    platforms: Platforms,
    metrics: Arc<Metrics>,
    flights: Flights,
}

/// Whom to ask, and how urgently.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) host: &'a str,
    pub(super) upstream: &'a dyn Upstream,
    pub(super) urgency: Urgency,
}

impl Fetcher {
    pub(super) fn new(store: Arc<dyn Client>, platforms: Platforms, metrics: Arc<Metrics>) -> Self {
        Self { store, platforms, metrics, flights: Flights::default() }
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

    /// What a document that a tag points at says.
    async fn image_of(&self, asking: Asking<'_>, document: Document) -> Result<TagAnswer, FetchError> {
        let excluded = |why, reason| Ok(TagAnswer::Excluded { digest: document.digest.clone(), why, reason });
        match decode_manifest(&document)? {
            Manifest::Image(manifest) if !manifest.is_image() => {
                excluded(Exclusion::NotAnImage, format!("not an image but {}", manifest.kind()))
            }
            Manifest::Image(manifest) => {
                let config = self.config(asking, &manifest.config.digest).await?;
                let offered = config.platform();
                if offered
                    .as_ref()
                    .is_some_and(|offered| self.platforms.position_of_wanted(offered).is_none())
                {
                    let offered: Vec<Platform> = offered.into_iter().collect();
                    return excluded(Exclusion::Platform, self.no_platform(&offered));
                }
                let platforms = offered.iter().map(ToString::to_string).collect();
                let variants = [(manifest, config)];
                Ok(TagAnswer::Image(Arc::new(image_record(&document, &variants, None, platforms))))
            }
            Manifest::Index(index) => self.image_of_index(asking, &document, index).await,
            Manifest::Schema1 => {
                excluded(Exclusion::NotAnImage, "a Docker schema 1 manifest, which is not read".to_owned())
            }
            Manifest::Unknown { media_type } => {
                excluded(Exclusion::NotAnImage, format!("not an image but {media_type}"))
            }
        }
    }

    async fn image_of_index(
        &self,
        asking: Asking<'_>,
        document: &Document,
        index: Index,
    ) -> Result<TagAnswer, FetchError> {
        let excluded = |why, reason| Ok(TagAnswer::Excluded { digest: document.digest.clone(), why, reason });
        let offered: Vec<Platform> = index
            .children
            .iter()
            .filter(|child| !child.is_attestation())
            .filter_map(|child| child.platform.clone())
            .collect();
        let wanted = self.wanted_children(&index);
        if wanted.is_empty() {
            return excluded(Exclusion::Platform, self.no_platform(&offered));
        }
        let (mut variants, mut missing) = (Vec::new(), None);
        for child in wanted {
            let child_document = match self.manifest(asking, &child.descriptor.digest).await {
                Ok(document) => document,
                // An index may have been copied without all its images: those that are there count.
                Err(FetchError::Upstream(error)) if matches!(error.kind, ErrorKind::NotFound { .. }) => {
                    missing = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Manifest::Image(manifest) = decode_manifest(&child_document)? else {
                continue;
            };
            if !manifest.is_image() {
                return excluded(Exclusion::NotAnImage, format!("not images but {}", manifest.kind()));
            }
            let config = self.config(asking, &manifest.config.digest).await?;
            let wanted_platform = child.platform.is_some()
                || config
                    .platform()
                    .is_none_or(|platform| self.platforms.position_of_wanted(&platform).is_some());
            if wanted_platform {
                variants.push((manifest, config));
            }
        }
        if variants.is_empty() {
            if let Some(missing) = missing {
                return Err(missing.into());
            }
            return excluded(Exclusion::Platform, self.no_platform(&offered));
        }
        let mut platforms: Vec<String> = offered.iter().map(ToString::to_string).collect();
        if platforms.is_empty() {
            platforms =
                variants.iter().filter_map(|(_, config)| config.platform()).map(|p| p.to_string()).collect();
        }
        Ok(TagAnswer::Image(Arc::new(image_record(document, &variants, Some(&index), platforms))))
    }

    /// The children for wanted platforms, the platform wanted most first; or, where no child says its platform, the
    /// first few, whose configurations will tell.
    fn wanted_children<'a>(&self, index: &'a Index) -> Vec<&'a Child> {
        let images = || index.children.iter().filter(|child| !child.is_attestation());
        let mut wanted: Vec<(usize, &Child)> = images()
            .filter_map(|child| Some((self.platforms.position_of_wanted(child.platform.as_ref()?)?, child)))
            .collect();
        wanted.sort_by_key(|(position, _)| *position);
        // Several variants of one platform (Windows versions, arm64 with and without v8): the first is enough.
        wanted.dedup_by_key(|(position, _)| *position);
        if wanted.is_empty() {
            return images()
                .filter(|child| child.platform.is_none())
                .take(MOST_UNLABELLED_CHILDREN)
                .collect();
        }
        wanted.into_iter().map(|(_, child)| child).collect()
    }

    fn no_platform(&self, offered: &[Platform]) -> String {
        let offered: Vec<String> = offered.iter().map(ToString::to_string).collect();
        let offered = if offered.is_empty() { "none".to_owned() } else { offered.join(", ") };
        format!("no wanted platform: it offers {offered}; wanted are {}", self.platforms)
    }

    /// A manifest or index by digest, from the store or else from the registry.
    async fn manifest(&self, asking: Asking<'_>, digest: &Digest) -> Result<Document, FetchError> {
        let flight = self.flights.of(asking.host, digest);
        let _alone = flight.lock().await;
        if let Some(StoredDocument { media_type, bytes }) = Documents(&*self.store).get(digest).await? {
            self.metrics.documents_saved();
            return Ok(Document { digest: digest.clone(), media_type, bytes });
        }
        let document = asking.upstream.manifest(ManifestSelector::Digest(digest), asking.urgency).await?;
        self.keep(&document).await;
        Ok(document)
    }

    /// A configuration by digest, from the store or else from the registry.
    async fn config(&self, asking: Asking<'_>, digest: &Digest) -> Result<ImageConfig, FetchError> {
        let flight = self.flights.of(asking.host, digest);
        let _alone = flight.lock().await;
        let stored = Documents(&*self.store).get(digest).await?;
        let bytes = if let Some(stored) = stored {
            self.metrics.documents_saved();
            stored.bytes
        } else {
            let bytes = asking.upstream.config(digest, asking.urgency).await?;
            let document = StoredDocument { media_type: String::new(), bytes: bytes.clone() };
            self.put(digest, &document).await;
            bytes
        };
        ImageConfig::decode(&bytes)
            .map_err(|error| FetchError::Document { digest: digest.clone(), message: error.to_string() })
    }

    /// Stores a document by its digest, if its bytes are known to be those that the digest names.
    async fn keep(&self, document: &Document) {
        if !document.is_verified() {
            return;
        }
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
        Err(FetchError::Upstream(error)) if !matches!(error.kind, ErrorKind::RateLimited { .. }) => {
            (error.kind.class(), error.to_string())
        }
        Err(error @ FetchError::Document { .. }) => (ErrorClass::Protocol, error.to_string()),
        answer => return answer,
    };
    Ok(TagAnswer::Failed { class, reason, moved_to: Some(digest) })
}

fn decode_manifest(document: &Document) -> Result<Manifest, FetchError> {
    Manifest::decode(document)
        .map_err(|error| FetchError::Document { digest: document.digest.clone(), message: error.to_string() })
}

/// Puts together what the documents of one image say. The variants are its wanted platforms, wanted most first: the
/// first tells id, size and, if it says so, the time of creation.
fn image_record(
    document: &Document,
    variants: &[(ImageManifest, ImageConfig)],
    index: Option<&Index>,
    mut platforms: Vec<String>,
) -> ImageRecord {
    let (manifest, _) = &variants[0];
    let configs = || variants.iter().map(|(_, config)| config);
    let annotations = variants.iter().map(|(manifest, _)| &manifest.annotations);
    // A configuration's labels are those of `config` and, after them, of `container_config`.
    let sources = configs()
        .map(|config| &config.labels)
        .chain(annotations)
        .chain(index.map(|index| &index.annotations));
    let mut labels = BTreeMap::new();
    for source in sources {
        for (key, value) in source {
            labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    platforms.truncate(MOST_PLATFORMS);
    ImageRecord {
        digest: document.digest.clone(),
        image_id: Some(manifest.config.digest.clone()),
        media_type: document.media_type.clone(),
        size: Some(manifest.total_size()),
        created_at: configs().find_map(|config| config.created),
        labels: bounded_labels(labels),
        platforms,
    }
}

/// Who fetches which digest now: one at a time from each host, so that the second finds in the store what the first has
/// fetched, and nobody waits for a host that is not theirs.
#[derive(Debug, Default)]
struct Flights(Mutex<HashMap<(String, Digest), Weak<Flight>>>);

type Flight = tokio::sync::Mutex<()>;

/// Ended flights are cleared away once there are this many entries.
const CLEAR_FLIGHTS_AT: usize = 1024;

impl Flights {
    fn of(&self, host: &str, digest: &Digest) -> Arc<Flight> {
        let key = (host.to_owned(), digest.clone());
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
