//! The cache: answers what the warmer stored, and never asks a registry.
//!
//! [`Cache`] implements [`Registry`] over any [`Reader`]. Beyond the trait it tells how good an answer is:
//! [`Cache::repository_state`] comes with age, completeness, the last error and why tags are unavailable.
//!
//! Invariants: the last good answer stays while refreshes fail; not watched, never listed and each of the five tag
//! states are distinct outcomes; decorators see every image that leaves, by either method.

pub mod demand;
pub mod history;
mod hot;
mod latest;
pub mod load;
pub mod page;
pub mod records;
mod side_page;
pub mod snapshot;
pub mod stored;
mod timestamp_labels;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use samovar_registry::{Clock, ImageInfo, Name, Reference, Registry, RepositoryMetadata, Tag};

use self::load::{Loading, MissingObserver, Pages};
use self::records::{LastError, TagRecord, TagSide, TagState, Unavailable};
use self::snapshot::Snapshot;
use crate::store::{Reader, StoreError};

pub use hot::{Attention, Coherent, HotSet, HotSetStatistics, MOST_HOT, MOST_KEYS_IN_A_CHECK};
pub use latest::Latest;
pub use timestamp_labels::TimestampLabels;

/// Changes images on their way to readers.
pub trait Decorator: std::fmt::Debug + Send + Sync {
    /// Changes `image`, of the repository `name`, in place.
    fn decorate(&self, name: &Name, image: &mut ImageInfo);
}

/// A repository with what a reader must know to trust the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageRepository {
    /// The last good information.
    pub metadata: Arc<RepositoryMetadata>,
    /// Why tags have no image.
    pub unavailable: BTreeMap<Tag, Unavailable>,
    /// Whether nothing is missing: see [`stored::Head::complete`].
    pub complete: bool,
    /// Grows with every change that means something.
    pub generation: u64,
    /// When the list was last read to its end.
    pub last_update: Option<Timestamp>,
    /// What went wrong with the list since.
    pub last_error: Option<LastError>,
    /// When the list is read next.
    pub next_refresh: Option<Timestamp>,
}

/// A repository in one line.
#[derive(Debug, Clone, PartialEq)]
pub struct RepositorySummary {
    /// Tags listed; 0 before the first listing.
    pub tag_count: usize,
    /// Tags with an image.
    pub image_count: usize,
    /// Whether nothing is missing.
    pub complete: bool,
    /// When the list was last read to its end.
    pub last_update: Option<Timestamp>,
    /// What went wrong with the list since.
    pub last_error: Option<LastError>,
    /// When the list is read next.
    pub next_refresh: Option<Timestamp>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CacheError {
    /// Nothing is known of the repository: nobody asked for it to be kept.
    #[error("{name} is not watched")]
    NotWatched {
        /// The repository.
        name: Name,
    },
    /// It is watched, but its tags could never be listed; or the registry has refused us for too long.
    #[error("{name} has not been listed yet{}", because(last_error.as_ref()))]
    NeverListed {
        /// The repository.
        name: Name,
        /// What went wrong, if it was tried.
        last_error: Option<LastError>,
        /// When it is tried next.
        next_attempt: Option<Timestamp>,
        /// What went wrong is that the registry knows no such repository.
        not_found: bool,
    },
    /// The repository has no such tag, or none of its tags has that digest.
    #[error("{reference} does not exist: {reason}")]
    NoSuchImage {
        /// What was asked for.
        reference: Reference,
        /// What is not so, in words.
        reason: String,
    },
    /// The tag exists, but there is no image to show.
    #[error("{reference} is {}{}", unavailable.state.as_str(), because(unavailable.reason.as_ref()))]
    Unavailable {
        /// What was asked for.
        reference: Reference,
        /// Why.
        unavailable: Unavailable,
    },
    /// Part of the repository is missing from the store; the warmer brings it back.
    #[error("{name} is being restored: part of it is missing from the store")]
    Torn {
        /// The repository.
        name: Name,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn because(reason: Option<&impl std::fmt::Display>) -> String {
    reason.map_or_else(String::new, |reason| format!(": {reason}"))
}

impl std::fmt::Display for LastError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (at {})", self.message, self.at)
    }
}

/// Answers from what is stored.
#[derive(Debug, Clone)]
pub struct Cache<R> {
    reader: Arc<R>,
    clock: Arc<dyn Clock>,
    decorators: Vec<Arc<dyn Decorator>>,
    max_stale_denied: Duration,
    hot: Option<Arc<HotSet>>,
    observer: Arc<dyn MissingObserver>,
}

impl<R: Reader + 'static> Cache<R> {
    /// How long what we know is still served after a registry began to refuse us, where nothing else is chosen.
    pub const DEFAULT_MAX_STALE_DENIED: Duration = Duration::from_hours(24);

    /// A cache over `reader`.
    pub fn new(reader: R, clock: Arc<dyn Clock>) -> Self {
        Self {
            reader: Arc::new(reader),
            clock,
            decorators: Vec::new(),
            max_stale_denied: Self::DEFAULT_MAX_STALE_DENIED,
            hot: None,
            observer: Arc::new(()),
        }
    }

    /// Keeps what was read lately in memory. Whatever this process writes must then go through [`Coherent`], and
    /// [`HotSet::run`] must run where other processes write too, or what is answered grows old.
    #[must_use]
    pub fn with_hot_set(mut self, hot: Arc<HotSet>) -> Self {
        self.hot = Some(hot);
        self
    }

    /// Tells `observer` what is missing from the store.
    #[must_use]
    pub fn with_missing_observer(mut self, observer: Arc<dyn MissingObserver>) -> Self {
        self.observer = observer;
        self
    }

    /// Applies `decorator` to every image that leaves, after those added before.
    #[must_use]
    pub fn with_decorator(mut self, decorator: Arc<dyn Decorator>) -> Self {
        self.decorators.push(decorator);
        self
    }

    /// Sets how long what we know is still served after a registry began to refuse us.
    #[must_use]
    pub fn with_max_stale_denied(mut self, limit: Duration) -> Self {
        self.max_stale_denied = limit;
        self
    }

    /// A repository with all that is known of it.
    pub async fn repository_state(&self, name: &Name) -> Result<ImageRepository, CacheError> {
        let snapshot = self.read(name, Pages::All).await?;
        let Some(head) = &snapshot.head else {
            return Err(never_listed(name, &snapshot));
        };
        if snapshot.missing_pages > 0 {
            return Err(CacheError::Torn { name: name.clone() });
        }
        let side = snapshot.side.as_deref().cloned().unwrap_or_default();
        let mut metadata = RepositoryMetadata::default();
        let mut unavailable = BTreeMap::new();
        for (tag, record, tag_side) in snapshot.tags() {
            metadata.tags.push(tag.clone());
            if let Some(image) = self.image_info(name, Some(tag), record, tag_side) {
                metadata.images.insert(tag.clone(), image);
            } else if let Some(reason) = Unavailable::of(record, tag_side) {
                unavailable.insert(tag.clone(), reason);
            }
        }
        Ok(ImageRepository {
            metadata: Arc::new(metadata),
            unavailable,
            complete: head.complete,
            generation: head.generation,
            last_update: side.last_update,
            last_error: side.last_error,
            next_refresh: side.next_listing,
        })
    }

    /// The generation of a repository: one round trip at most, to tell whether anything changed.
    pub async fn generation(&self, name: &Name) -> Result<u64, CacheError> {
        let snapshot = self.read(name, Pages::None).await?;
        snapshot.head.as_ref().map(|head| head.generation).ok_or_else(|| never_listed(name, &snapshot))
    }

    /// What is stored of a repository, undecorated: at least the pages that are `wanted`, as far as they are there.
    pub(crate) async fn snapshot(&self, name: &Name, wanted: Pages<'_>) -> Result<Arc<Snapshot>, CacheError> {
        let snapshot = self.read(name, wanted).await?;
        if snapshot.head.is_none() { Err(never_listed(name, &snapshot)) } else { Ok(snapshot) }
    }

    /// A repository in one line, also before its first listing. To be asked about is no reason to become hot.
    pub async fn summary(&self, name: &Name) -> Result<RepositorySummary, CacheError> {
        let fresh = self.hot.as_ref().and_then(|hot| hot.fresh(name));
        let snapshot = match fresh {
            Some(fresh) => fresh,
            None => match self.read_from_store(name, Pages::None).await {
                Ok(snapshot) if snapshot.lacks_its_side_record() => self
                    .hot
                    .as_ref()
                    .and_then(|hot| hot.last_known(name))
                    .unwrap_or_else(|| Arc::new(snapshot)),
                Ok(snapshot) => Arc::new(snapshot),
                Err(error) => self.hot.as_ref().and_then(|hot| hot.last_known(name)).ok_or(error)?,
            },
        };
        let head = snapshot.head.as_ref().filter(|_| !self.is_withheld(&snapshot));
        let side = snapshot.side.as_deref().cloned().unwrap_or_default();
        Ok(RepositorySummary {
            tag_count: head.map_or(0, |head| head.counts.total()),
            image_count: head.map_or(0, |head| head.counts.ok),
            complete: head.is_some_and(|head| head.complete) && snapshot.side.is_some(),
            last_update: side.last_update,
            last_error: side.last_error,
            next_refresh: side.next_listing,
        })
    }

    /// Reads, from memory where it is hot, unless nothing may be shown. There may be more in it than what is wanted.
    async fn read(&self, name: &Name, wanted: Pages<'_>) -> Result<Arc<Snapshot>, CacheError> {
        let snapshot = match &self.hot {
            Some(hot) => self.read_through(hot, name, wanted).await?,
            None => Arc::new(self.read_from_store(name, wanted).await?),
        };
        if self.is_withheld(&snapshot) {
            return Err(never_listed(name, &snapshot));
        }
        if snapshot.lacks_its_side_record() {
            return Err(CacheError::Torn { name: name.clone() });
        }
        Ok(snapshot)
    }

    async fn read_through(
        &self,
        hot: &Arc<HotSet>,
        name: &Name,
        wanted: Pages<'_>,
    ) -> Result<Arc<Snapshot>, StoreError> {
        if matches!(wanted, Pages::All) {
            return hot.whole(&self.reader, name, &self.observer).await;
        }
        if let Some(whole) = hot.whole_if_hot(&self.reader, name, &self.observer).await? {
            return Ok(whole);
        }
        let part = self.read_from_store(name, wanted).await?;
        hot.part_was_read(name, &part);
        Ok(Arc::new(part))
    }

    async fn read_from_store(&self, name: &Name, wanted: Pages<'_>) -> Result<Snapshot, StoreError> {
        Loading::new(&*self.reader, name, &*self.observer).snapshot(wanted).await
    }

    /// Whether the registry has refused us for so long that what we knew is no longer served.
    fn is_withheld(&self, snapshot: &Snapshot) -> bool {
        let Some(side) = &snapshot.side else { return false };
        let Some(denied) = &side.denied else { return false };
        // It refuses us still, unless the last failure was another one.
        let still = side.last_error.as_ref().is_some_and(|error| error.at == denied.until);
        let until = if still { self.clock.now() } else { denied.until };
        denied.since + self.max_stale_denied < until
    }

    /// The image of a tag, decorated; `None`: there is none to show.
    pub(crate) fn image_info(
        &self,
        name: &Name,
        tag: Option<&Tag>,
        record: &TagRecord,
        side: &TagSide,
    ) -> Option<ImageInfo> {
        let TagState::Ok(image) = &record.state else {
            return None;
        };
        let mut info = image.info(name, tag, record, side);
        for decorator in &self.decorators {
            decorator.decorate(name, &mut info);
        }
        Some(info)
    }

    /// One image, by tag or by digest, with the generation of its repository.
    pub async fn image_state(&self, reference: &Reference) -> Result<(ImageInfo, u64), CacheError> {
        match (reference.tag(), reference.digest()) {
            (Some(tag), _) => self.image_by_tag(reference, tag).await,
            (None, Some(_)) => self.image_by_digest(reference).await,
            (None, None) => {
                let reason = "a tag or a digest is needed to name an image".to_owned();
                Err(CacheError::NoSuchImage { reference: reference.clone(), reason })
            }
        }
    }

    async fn image_by_tag(&self, reference: &Reference, tag: &Tag) -> Result<(ImageInfo, u64), CacheError> {
        let name = reference.name();
        let snapshot = self.read(name, Pages::Holding(tag)).await?;
        let Some(head) = &snapshot.head else {
            return Err(never_listed(name, &snapshot));
        };
        let Some((record, side)) = snapshot.tag(tag) else {
            if snapshot.missing_pages > 0 {
                return Err(CacheError::Torn { name: name.clone() });
            }
            let reason = "the registry does not list this tag".to_owned();
            return Err(CacheError::NoSuchImage { reference: reference.clone(), reason });
        };
        if let Some(unavailable) = Unavailable::of(record, side) {
            return Err(CacheError::Unavailable { reference: reference.clone(), unavailable });
        }
        let image = self.image_info(name, Some(tag), record, side);
        let Some(image) = image.filter(|image| reference.digest().is_none_or(|asked| *asked == image.digest))
        else {
            let reason = "the tag resolves to another digest".to_owned();
            return Err(CacheError::NoSuchImage { reference: reference.clone(), reason });
        };
        Ok((ImageInfo { id: reference.clone(), ..image }, head.generation))
    }

    /// By the digest of what the repository's tags point at. Reads the whole repository.
    async fn image_by_digest(&self, reference: &Reference) -> Result<(ImageInfo, u64), CacheError> {
        let name = reference.name();
        let snapshot = self.read(name, Pages::All).await?;
        let Some(head) = &snapshot.head else {
            return Err(never_listed(name, &snapshot));
        };
        let by_digest = |(_, record, side): (&Tag, &TagRecord, &TagSide)| {
            (record.state.digest() == reference.digest())
                .then(|| self.image_info(name, None, record, side))
                .flatten()
        };
        let image = snapshot.tags().find_map(by_digest).ok_or_else(|| {
            if snapshot.missing_pages > 0 {
                return CacheError::Torn { name: name.clone() };
            }
            let reason = "no tag of the repository resolves to this digest".to_owned();
            CacheError::NoSuchImage { reference: reference.clone(), reason }
        })?;
        Ok((image, head.generation))
    }
}

fn never_listed(name: &Name, snapshot: &Snapshot) -> CacheError {
    let name = name.clone();
    match &snapshot.side {
        None => CacheError::NotWatched { name },
        Some(side) => CacheError::NeverListed {
            name,
            last_error: side.last_error.clone(),
            next_attempt: side.next_listing,
            not_found: side.not_found,
        },
    }
}

#[async_trait]
impl<R: Reader + 'static> Registry for Cache<R> {
    type Error = CacheError;

    async fn repository(&self, name: &Name) -> Result<Arc<RepositoryMetadata>, CacheError> {
        Ok(self.repository_state(name).await?.metadata)
    }

    async fn image(&self, reference: &Reference) -> Result<ImageInfo, CacheError> {
        self.image_state(reference).await.map(|(image, _)| image)
    }
}
