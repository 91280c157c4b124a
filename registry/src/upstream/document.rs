//! What a manifest or an index says. Pure.
//!
//! A document that cannot be decoded is an error, never an empty success. What decodes but is no image (an
//! attestation, a chart, a signature) is recognised as such. Docker schema 1 manifests, which are read in another way,
//! are in [`super::schema1`].

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::media_type::{
    self, DOCKER_CONFIG, DOCKER_LIST, DOCKER_MANIFEST, DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED, OCI_CONFIG,
    OCI_INDEX, OCI_MANIFEST, UNTYPED,
};
use super::schema1::Schema1Manifest;
use super::{Document, artifact};
use crate::json::{self, Texts};
use crate::words;
use crate::{Digest, Platform};

/// The annotation by which builders mark a child of an index that is about another child, such as an attestation.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// How many manifests an index may list.
const MAX_CHILDREN: usize = 1_000;

/// A document does not say what its type promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be decoded: {reason}")]
pub struct DecodeError {
    /// What it should have been: `image manifest`, `image index`, `image configuration`, `Docker schema 1 manifest`.
    pub what: &'static str,
    /// What is wrong, cut to a bound.
    pub reason: String,
}

impl DecodeError {
    pub(super) fn new(what: &'static str, reason: impl ToString) -> Self {
        Self { what, reason: words::printable(&reason.to_string()) }
    }
}

/// What a manifest's digest names, with its type and size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The media type of the content, at most 255 bytes; empty where the document does not say it.
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// The content's length in bytes.
    pub size: u64,
}

/// A manifest or index, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// An OCI image manifest or a Docker schema 2 manifest: an image for one platform, or an artifact.
    Image(ImageManifest),
    /// An OCI image index or a Docker manifest list.
    Index(Index),
    /// A Docker schema 1 manifest, signed or not.
    Schema1(Schema1Manifest),
    /// Something else; the media type says what.
    Unknown {
        /// The document's media type.
        media_type: String,
    },
}

/// An OCI image manifest or a Docker schema 2 manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageManifest {
    /// The configuration.
    pub config: Descriptor,
    /// What all layers take together, in bytes, compressed as they are in the registry.
    pub layers_size: u64,
    /// The annotations.
    pub annotations: BTreeMap<String, String>,
    /// What kind of artifact it is, where it says so (OCI image specification 1.1); at most 255 bytes.
    pub artifact_type: Option<String>,
    /// Whether the configuration's type is one of those that images have.
    has_image_config: bool,
    /// The type of the layers where there are some and none is of an image: those of a signature, for instance.
    foreign_layers: Option<String>,
}

impl ImageManifest {
    /// Whether this is an image that can be run, rather than another artifact kept in the same form.
    pub fn is_image(&self) -> bool {
        self.has_image_config && self.foreign_layers.is_none()
    }

    /// What it is where it is no image, in a few words and with the type that tells it, such as `a Helm chart
    /// (application/vnd.cncf.helm.config.v1+json)`: the type of the artifact, or else that of what makes it one.
    pub fn description(&self) -> String {
        let config_type = (!self.has_image_config).then_some(self.config.media_type.as_str());
        let types = [self.artifact_type.as_deref(), config_type, self.foreign_layers.as_deref()];
        let telling = types.into_iter().flatten().find(|media_type| artifact::is_telling(media_type));
        artifact::described(telling.unwrap_or_default())
    }

    /// What a pull transfers, in bytes: the configuration and the layers.
    pub fn total_size(&self) -> u64 {
        self.config.size.saturating_add(self.layers_size)
    }
}

/// An OCI image index or a Docker manifest list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The manifests, in the order of the document.
    pub children: Vec<Child>,
    /// The annotations.
    pub annotations: BTreeMap<String, String>,
    /// What kind of artifact it is, where it says so (OCI image specification 1.1); at most 255 bytes.
    pub artifact_type: Option<String>,
}

impl Index {
    /// What it is where it says that it is an artifact, in a few words and with its type.
    pub fn description(&self) -> Option<String> {
        self.artifact_type.as_deref().map(artifact::described)
    }
}

/// One manifest of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// The manifest.
    pub descriptor: Descriptor,
    /// What it is for, where the index says so.
    pub platform: Option<Platform>,
    /// The annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Child {
    /// Whether this is about another child, such as its provenance, and no image itself.
    pub fn is_attestation(&self) -> bool {
        let is_unknown = self
            .platform
            .as_ref()
            .is_some_and(|platform| platform.os == "unknown" && platform.architecture == "unknown");
        is_unknown || self.annotations.contains_key(REFERENCE_TYPE)
    }

    /// Whether it says that it is an index itself.
    pub fn is_index(&self) -> bool {
        matches!(self.descriptor.media_type.as_str(), OCI_INDEX | DOCKER_LIST)
    }
}

impl Manifest {
    /// Decodes by the document's media type (OCI image specification 1.1, Docker image manifest version 2).
    pub fn decode(document: &Document) -> Result<Self, DecodeError> {
        match document.media_type.as_str() {
            OCI_MANIFEST | DOCKER_MANIFEST => decode_image(document).map(Self::Image),
            OCI_INDEX | DOCKER_LIST => decode_index(&document.bytes).map(Self::Index),
            DOCKER_SCHEMA1 | DOCKER_SCHEMA1_SIGNED => {
                Schema1Manifest::decode(&document.bytes).map(Self::Schema1)
            }
            other => Ok(Self::Unknown { media_type: words::printable(other) }),
        }
    }

    /// What it is where it is no image at all, in a few words and with the type that tells it.
    pub fn foreign(&self) -> Option<String> {
        match self {
            Self::Image(manifest) => (!manifest.is_image()).then(|| manifest.description()),
            Self::Unknown { media_type } => Some(artifact::described(media_type)),
            Self::Index(_) | Self::Schema1(_) => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawImage {
    config: RawDescriptor,
    layers: Vec<RawLayer>,
    #[serde(default)]
    annotations: Texts,
    artifact_type: Option<String>,
    manifests: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawLayer {
    #[serde(default)]
    media_type: String,
    size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawIndex {
    manifests: Vec<RawChild>,
    #[serde(default)]
    annotations: Texts,
    artifact_type: Option<String>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawChild {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: u64,
    platform: Option<RawPlatform>,
    #[serde(default)]
    annotations: Texts,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: u64,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

impl RawPlatform {
    fn named(self) -> Option<Platform> {
        Platform::from_parts(&self.os, &self.architecture, self.variant.as_deref().unwrap_or_default())
    }
}

/// A media type that goes further than this module; empty is none.
fn checked_type(media_type: String) -> Result<String, &'static str> {
    if media_type.is_empty() || media_type::is_well_formed(&media_type) {
        return Ok(media_type);
    }
    Err("it names a media type that is none")
}

fn checked_artifact_type(artifact_type: Option<String>) -> Result<Option<String>, &'static str> {
    let checked = artifact_type.map(checked_type).transpose()?;
    Ok(checked.filter(|artifact_type| !artifact_type.is_empty()))
}

fn decode_image(document: &Document) -> Result<ImageManifest, DecodeError> {
    let error = |reason: &dyn ToString| DecodeError::new("image manifest", reason.to_string());
    let raw: RawImage = json::object(&document.bytes).map_err(|reason| error(&reason))?;
    // A document that can be read in two ways must not be read in either (CVE-2021-41190).
    if raw.manifests.is_some() {
        return Err(error(&"it also lists manifests"));
    }
    let config_type = raw.config.media_type.as_str();
    let is_docker = document.media_type == DOCKER_MANIFEST;
    let has_image_config =
        matches!(config_type, OCI_CONFIG | DOCKER_CONFIG) || config_type == UNTYPED && is_docker;
    let is_of_image = |layer: &RawLayer| {
        media_type::is_image_layer(&layer.media_type) || layer.media_type.is_empty() && is_docker
    };
    let layers_size = raw.layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size));
    let has_foreign_layers = !raw.layers.is_empty() && !raw.layers.iter().any(is_of_image);
    let foreign_layers = raw.layers.into_iter().next().filter(|_| has_foreign_layers);
    let config_type = checked_type(raw.config.media_type).map_err(|reason| error(&reason))?;
    let artifact_type = checked_artifact_type(raw.artifact_type).map_err(|reason| error(&reason))?;
    let foreign_layers = foreign_layers.map(|layer| checked_type(layer.media_type)).transpose();
    Ok(ImageManifest {
        config: Descriptor { media_type: config_type, digest: raw.config.digest, size: raw.config.size },
        layers_size,
        annotations: raw.annotations.0,
        artifact_type,
        has_image_config,
        foreign_layers: foreign_layers.map_err(|reason| error(&reason))?,
    })
}

fn decode_index(bytes: &[u8]) -> Result<Index, DecodeError> {
    let error = |reason: &dyn ToString| DecodeError::new("image index", reason.to_string());
    let raw: RawIndex = json::object(bytes).map_err(|reason| error(&reason))?;
    if raw.config.is_some() || raw.layers.is_some() {
        return Err(error(&"it also has a configuration or layers"));
    }
    if raw.manifests.len() > MAX_CHILDREN {
        return Err(error(&format_args!("it lists more than {MAX_CHILDREN} manifests")));
    }
    let child = |raw: RawChild| {
        let media_type = checked_type(raw.media_type)?;
        let descriptor = Descriptor { media_type, digest: raw.digest, size: raw.size };
        let platform = raw.platform.and_then(RawPlatform::named);
        Ok(Child { descriptor, platform, annotations: raw.annotations.0 })
    };
    let children: Result<_, &str> = raw.manifests.into_iter().map(child).collect();
    let artifact_type = checked_artifact_type(raw.artifact_type).map_err(|reason| error(&reason))?;
    let children = children.map_err(|reason| error(&reason))?;
    Ok(Index { children, annotations: raw.annotations.0, artifact_type })
}

#[cfg(test)]
mod tests;
