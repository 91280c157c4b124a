//! What is known, decoded: the tags of a repository, each in one of five states, and the images behind them.

use std::sync::Arc;

use jiff::Timestamp;
use samovar_registry::upstream::{ErrorClass, HintSource};
use samovar_registry::{Digest, ImageInfo, Labels, Name, Reference, Tag};
use serde::{Deserialize, Serialize};

/// One image, whichever tags point at it: what its documents say. Immutable, like the digest that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// The index's digest where there is one, else the manifest's.
    pub digest: Digest,
    /// The configuration's digest, of the first wanted platform.
    pub image_id: Option<Digest>,
    /// Media type of what `digest` names.
    pub media_type: String,
    /// Bytes of configuration and layers of the first wanted platform.
    pub size: Option<u64>,
    /// When it says that it was built.
    pub created_at: Option<Timestamp>,
    /// Merged labels and annotations.
    pub labels: Labels,
    /// Platforms on offer.
    pub platforms: Vec<String>,
}

impl ImageRecord {
    /// The image as `tag` of `name` (or by its digest), as it is answered to readers.
    pub fn info(&self, name: &Name, tag: Option<&Tag>, entry: &TagRecord, side: &TagSide) -> ImageInfo {
        let digest = tag.is_none().then(|| self.digest.clone());
        ImageInfo {
            id: Reference::new(name.clone(), tag.cloned(), digest),
            digest: self.digest.clone(),
            image_id: self.image_id.clone(),
            media_type: self.media_type.clone(),
            size: self.size,
            created_at: self.created_at,
            labels: self.labels.clone(),
            platforms: self.platforms.clone(),
            first_seen: entry.first_seen,
            last_fetched: side.last_fetched,
        }
    }
}

/// Why a tag is deliberately not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exclusion {
    /// The configuration says so; nothing was asked about it.
    Configuration,
    /// It offers none of the wanted platforms.
    Platform,
    /// It is not an image: a chart, a signature, another artifact.
    NotAnImage,
}

/// What is known of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagState {
    /// Listed, not fetched yet.
    Pending,
    /// The image is known.
    Ok(Arc<ImageRecord>),
    /// Deliberately not offered.
    Excluded {
        /// What the tag resolves to; absent where its name alone decided, and nothing was asked about it.
        digest: Option<Digest>,
        /// Why.
        why: Exclusion,
        /// Why, in words.
        reason: String,
    },
    /// Listed, but the registry has no manifest for it.
    Unknown,
    /// Nothing could be learnt yet, because of this.
    Failed {
        /// The kind of failure.
        class: ErrorClass,
        /// The failure, in words.
        reason: String,
    },
}

impl TagState {
    /// The state's name as the API and the metrics say it.
    pub fn name(&self) -> TagStateName {
        match self {
            Self::Pending => TagStateName::Pending,
            Self::Ok(_) => TagStateName::Ok,
            Self::Excluded { .. } => TagStateName::Excluded,
            Self::Unknown => TagStateName::Unknown,
            Self::Failed { .. } => TagStateName::Failed,
        }
    }

    /// What the tag resolves to, as far as is known.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            Self::Ok(image) => Some(&image.digest),
            Self::Excluded { digest, .. } => digest.as_ref(),
            Self::Pending | Self::Unknown | Self::Failed { .. } => None,
        }
    }
}

/// The five states of a tag.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum TagStateName {
    /// The image is known.
    Ok,
    /// Listed, not fetched yet.
    Pending,
    /// Deliberately not offered.
    Excluded,
    /// The registry has no manifest for it.
    Unknown,
    /// Nothing could be learnt.
    Failed,
}

impl TagStateName {
    /// All of them, for metrics that show every label value from the start.
    pub const ALL: [Self; 5] = [Self::Ok, Self::Pending, Self::Excluded, Self::Unknown, Self::Failed];

    /// The name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Pending => "pending",
            Self::Excluded => "excluded",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
        }
    }
}

/// A tag: its state, and what stays when the state changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagRecord {
    /// What is known.
    pub state: TagState,
    /// Since when it is in this state (for a known image: since when the tag points at it).
    pub since: Timestamp,
    /// When the tag was first listed; absent for tags of the first listing, which may be of any age.
    pub first_seen: Option<Timestamp>,
    /// The registry moved the tag to this digest, but what is behind it could not be fetched yet: the last good
    /// image is still offered, and the repository is not complete.
    pub moved_to: Option<Digest>,
    /// When the tag was last pushed, where a list has said so.
    pub pushed: Option<Pushed>,
    /// It was excluded before it became pending, and nothing has been learnt of it since: what comes is not new.
    pub was_excluded: bool,
}

/// When a tag was pushed, and whose word it is. To the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// When.
    pub at: Timestamp,
    /// Who says so.
    pub source: HintSource,
}

impl TagRecord {
    /// A tag just listed.
    pub fn pending(now: Timestamp, first_seen: Option<Timestamp>) -> Self {
        Self {
            state: TagState::Pending,
            since: now,
            first_seen,
            moved_to: None,
            pushed: None,
            was_excluded: false,
        }
    }

    /// Whether a complete repository may hold it: what the registry has behind it is known.
    pub fn is_settled(&self) -> bool {
        let open = matches!(self.state, TagState::Pending | TagState::Failed { .. });
        !open && self.moved_to.is_none()
    }
}

/// What changes about a tag without meaning anything to readers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TagSide {
    /// When the registry last confirmed the record.
    pub last_fetched: Option<Timestamp>,
    /// Seconds between confirmations, as learnt so far; 0 before the first.
    pub interval_seconds: u32,
    /// When to ask again; `None`: as soon as possible.
    pub next: Option<Timestamp>,
    /// Failures in a row.
    pub attempts: u32,
    /// The registry said once that it has no manifest for the tag, whose image we know.
    pub missing: bool,
    /// The registry has been seen to move the tag: whatever its name looks like, it floats.
    pub moved: bool,
    /// Why it is asked about later than its own pace would have it; until it is asked about.
    pub put_off: Option<PutOff>,
}

/// Why a tag is asked about later than its own pace would have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOff {
    /// A quota, or where the registry keeps its blobs, lets nothing through until then.
    Limited,
    /// After a long stop so much was overdue that it was spread.
    Spread,
}

/// What went wrong with a repository's list, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LastError {
    /// In words.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// Why a tag has no image to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Unavailable {
    /// The state, never `ok`.
    pub state: TagStateName,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// Failures in a row.
    pub attempts: u32,
    /// When the registry is asked again; absent where it is not, or as soon as the budget allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Timestamp>,
}

impl Unavailable {
    /// Why `record` has no image; `None` when it has one.
    pub fn of(record: &TagRecord, side: &TagSide) -> Option<Self> {
        let reason = match &record.state {
            TagState::Ok(_) => return None,
            TagState::Pending => None,
            TagState::Excluded { reason, .. } | TagState::Failed { reason, .. } => Some(reason.clone()),
            TagState::Unknown => Some("the registry lists the tag but has no manifest for it".to_owned()),
        };
        let state = record.state.name();
        Some(Self { state, reason, since: record.since, attempts: side.attempts, next_attempt: side.next })
    }
}
