//! What is known of images and repositories, and the trait that answers it.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Digest, Labels, Name, Reference, Tag};

/// What is known of one image. What is not known is absent, never null or zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageInfo {
    /// The reference that was asked for, canonical: with the tag where there is one, else with the digest.
    pub id: Reference,
    /// What the tag resolves to: the digest of the index where there is one, else of the manifest.
    pub digest: Digest,
    /// The digest of the image configuration (of the first wanted platform).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<Digest>,
    /// Media type of what `digest` names.
    pub media_type: String,
    /// Bytes that a pull of the first wanted platform transfers: the configuration and the layers, compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// When the image says that it was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// Merged per key, the first source wins: `config.Labels`, `container_config.Labels`, annotations.
    #[serde(default)]
    pub labels: Labels,
    /// The platforms that the image offers, `os/architecture[/variant]`.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// When the tag was first seen here; absent for tags of a repository's first listing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Timestamp>,
    /// When the registry last confirmed what is said here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_fetched: Option<Timestamp>,
}

/// All tags of a repository, and what is known of the images behind them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryMetadata {
    /// Every tag that the registry listed, in ascending byte order.
    pub tags: Vec<Tag>,
    /// Image by tag; lacks the tags that are pending, excluded, unknown or failed.
    pub images: BTreeMap<Tag, ImageInfo>,
}

/// Answers what images there are.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Why there is no answer.
    type Error;

    /// Everything known of one repository.
    async fn repository(&self, name: &Name) -> Result<Arc<RepositoryMetadata>, Self::Error>;

    /// One image, by tag or by digest.
    async fn image(&self, reference: &Reference) -> Result<ImageInfo, Self::Error>;
}
