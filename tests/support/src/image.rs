//! Images to push, each described in a line.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use crate::content::{Content, Document, digest_of};
use crate::media_type;

/// The layer of an image for which none was given: 1,024 zero bytes, an empty tar archive, through gzip.
const EMPTY_LAYER: &[u8] = &[
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0x63, 0x60, 0x18, 0x05, 0xa3, 0x60, 0x14,
    0x8c, 0x54, 0x00, 0x00, 0x2e, 0xaf, 0xb5, 0xef, 0x00, 0x04, 0x00, 0x00,
];
/// The digest of [`EMPTY_LAYER`] before compression.
const EMPTY_LAYER_DIFF_ID: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// An image with one platform. The same calls give the same bytes in every run; another seed gives other digests.
///
/// An OCI image for `linux/amd64` with one empty layer, no creation time and no labels, unless told otherwise.
#[derive(Debug, Clone)]
pub struct Image {
    seed: String,
    docker: bool,
    created: Option<String>,
    labels: BTreeMap<String, String>,
    container_config_labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    pub(crate) platform: Platform,
    layers: Vec<Bytes>,
    raw_config: Option<Bytes>,
    config_media_type: Option<String>,
    layer_media_type: Option<String>,
    artifact_type: Option<String>,
}

impl Image {
    /// An image whose configuration, and therefore every digest, depends on `seed`.
    pub fn new(seed: impl Into<String>) -> Self {
        Self {
            seed: seed.into(),
            docker: false,
            created: None,
            labels: BTreeMap::new(),
            container_config_labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            platform: Platform::parse("linux/amd64"),
            layers: Vec::new(),
            raw_config: None,
            config_media_type: None,
            layer_media_type: None,
            artifact_type: None,
        }
    }

    /// As a Docker schema 2 image.
    #[must_use]
    pub fn docker(mut self) -> Self {
        self.docker = true;
        self
    }

    /// As an OCI image, which it is unless told otherwise.
    #[must_use]
    pub fn oci(mut self) -> Self {
        self.docker = false;
        self
    }

    /// Sets the configuration's `created`, usually RFC 3339; not checked.
    #[must_use]
    pub fn created(mut self, created: impl Into<String>) -> Self {
        self.created = Some(created.into());
        self
    }

    /// Adds a label to the configuration's `config.Labels`.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Adds a label to the configuration's `container_config.Labels`, where old builders left them.
    #[must_use]
    pub fn container_config_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.container_config_labels.insert(key.into(), value.into());
        self
    }

    /// Adds an annotation to the manifest.
    #[must_use]
    pub fn annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// For this platform, written `os/architecture` or `os/architecture/variant`.
    #[must_use]
    pub fn platform(mut self, platform: &str) -> Self {
        self.platform = Platform::parse(platform);
        self
    }

    /// Adds a layer with these bytes, stored as they are. The first one takes the place of the empty layer.
    #[must_use]
    pub fn layer_bytes(mut self, bytes: &[u8]) -> Self {
        self.layers.push(Bytes::copy_from_slice(bytes));
        self
    }

    /// Takes these bytes for the configuration, whatever they are. What else was said of the configuration (time,
    /// labels, platform) is then without effect on it.
    #[must_use]
    pub fn config_bytes(mut self, bytes: impl Into<Bytes>) -> Self {
        self.raw_config = Some(bytes.into());
        self
    }

    /// The media type of the configuration; what is not an image has another one than images have.
    #[must_use]
    pub fn config_media_type(mut self, media_type: impl Into<String>) -> Self {
        self.config_media_type = Some(media_type.into());
        self
    }

    /// The media type of all layers.
    #[must_use]
    pub fn layer_media_type(mut self, media_type: impl Into<String>) -> Self {
        self.layer_media_type = Some(media_type.into());
        self
    }

    /// The manifest's `artifactType`.
    #[must_use]
    pub fn artifact_type(mut self, artifact_type: impl Into<String>) -> Self {
        self.artifact_type = Some(artifact_type.into());
        self
    }

    /// The configuration blob; its digest is what is called the image's id.
    pub fn config(&self) -> Document {
        let image_type = if self.docker { media_type::DOCKER_CONFIG } else { media_type::OCI_CONFIG };
        let media_type = self.config_media_type.as_deref().unwrap_or(image_type);
        let bytes = self.raw_config.clone().unwrap_or_else(|| to_pretty_json(&self.config_json()));
        Document::new(media_type, bytes)
    }

    /// The layers, lowest first.
    pub fn layers(&self) -> Vec<Document> {
        let image_type = if self.docker { media_type::DOCKER_LAYER } else { media_type::OCI_LAYER };
        let media_type = self.layer_media_type.as_deref().unwrap_or(image_type);
        if self.layers.is_empty() {
            return vec![Document::new(media_type, EMPTY_LAYER)];
        }
        self.layers.iter().map(|bytes| Document::new(media_type, bytes.clone())).collect()
    }

    /// Bytes that a pull transfers: configuration and layers.
    pub fn size(&self) -> u64 {
        self.blobs().iter().map(|blob| blob.bytes.len() as u64).sum()
    }

    fn config_json(&self) -> impl Serialize {
        ConfigJson {
            created: self.created.clone(),
            platform: self.platform.clone(),
            config: RunConfigJson {
                env: Some(vec![format!("SEED={}", self.seed)]),
                labels: self.labels.clone(),
            },
            container_config: (!self.container_config_labels.is_empty())
                .then(|| RunConfigJson { env: None, labels: self.container_config_labels.clone() }),
            rootfs: RootFilesystemJson { kind: "layers", diff_ids: self.diff_ids() },
        }
    }

    fn diff_ids(&self) -> Vec<String> {
        if self.layers.is_empty() {
            return vec![EMPTY_LAYER_DIFF_ID.to_owned()];
        }
        self.layers.iter().map(|bytes| digest_of(bytes)).collect()
    }
}

impl Content for Image {
    fn manifest(&self) -> Document {
        let media_type = if self.docker { media_type::DOCKER_MANIFEST } else { media_type::OCI_MANIFEST };
        let json = ManifestJson {
            schema_version: 2,
            media_type,
            artifact_type: self.artifact_type.clone(),
            config: Descriptor::of(&self.config()),
            layers: self.layers().iter().map(Descriptor::of).collect(),
            annotations: self.annotations.clone(),
        };
        Document::new(media_type, to_pretty_json(&json))
    }

    fn children(&self) -> Vec<Document> {
        Vec::new()
    }

    fn blobs(&self) -> Vec<Document> {
        std::iter::once(self.config()).chain(self.layers()).collect()
    }
}

/// A platform as configurations and indexes write it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Platform {
    architecture: String,
    os: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
}

impl Platform {
    /// Panics where `text` is not `os/architecture[/variant]`.
    pub(crate) fn parse(text: &str) -> Self {
        let mut parts = text.split('/').map(str::to_owned);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(os), Some(architecture), variant, None) => Self { architecture, os, variant },
            _ => panic!("`{text}` is not a platform: write os/architecture or os/architecture/variant"),
        }
    }
}

/// How a manifest or an index names another document.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    media_type: String,
    size: usize,
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Descriptor {
    pub(crate) fn of(document: &Document) -> Self {
        Self {
            media_type: document.media_type.clone(),
            size: document.bytes.len(),
            digest: document.digest.clone(),
            platform: None,
            annotations: BTreeMap::new(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestJson {
    schema_version: u8,
    media_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct ConfigJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(flatten)]
    platform: Platform,
    config: RunConfigJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_config: Option<RunConfigJson>,
    rootfs: RootFilesystemJson,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RunConfigJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<Vec<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct RootFilesystemJson {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: Vec<String>,
}

/// Indented, fields in the order of declaration: the same bytes in every build.
pub(crate) fn to_pretty_json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec_pretty(value).expect("documents made of strings and numbers become JSON").into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parsed(document: &Document) -> Value {
        serde_json::from_slice(&document.bytes).expect("the document is JSON")
    }

    #[test]
    fn same_calls_give_same_bytes_and_another_seed_other_digests() {
        let image = || Image::new("a").label("k", "v").created("2024-01-02T03:04:05Z");
        assert_eq!(image().manifest(), image().manifest());
        assert_ne!(
            image().digest(),
            Image::new("b").label("k", "v").created("2024-01-02T03:04:05Z").digest()
        );
        assert_ne!(image().digest(), image().docker().digest());
    }

    #[test]
    fn everything_that_was_said_is_in_the_configuration() {
        let image = Image::new("a")
            .created("2024-01-02T03:04:05Z")
            .label("k", "v")
            .container_config_label("old", "w")
            .platform("linux/arm64/v8");
        assert_eq!(
            parsed(&image.config()),
            json!({
                "created": "2024-01-02T03:04:05Z",
                "os": "linux",
                "architecture": "arm64",
                "variant": "v8",
                "config": {"Env": ["SEED=a"], "Labels": {"k": "v"}},
                "container_config": {"Labels": {"old": "w"}},
                "rootfs": {"type": "layers", "diff_ids": [EMPTY_LAYER_DIFF_ID]},
            })
        );
    }

    #[test]
    fn the_manifest_names_the_configuration_and_the_layers() {
        let image = Image::new("a").docker().layer_bytes(b"one").layer_bytes(b"two").artifact_type("x/y");
        let manifest = parsed(&image.manifest());
        assert_eq!(manifest["mediaType"], media_type::DOCKER_MANIFEST);
        assert_eq!(manifest["artifactType"], "x/y");
        assert_eq!(manifest["config"]["digest"], image.config().digest);
        assert_eq!(manifest["config"]["mediaType"], media_type::DOCKER_CONFIG);
        assert_eq!(manifest["layers"].as_array().map(Vec::len), Some(2));
        assert_eq!(manifest["layers"][1]["digest"], digest_of(b"two"));
        assert_eq!(image.size(), image.config().bytes.len() as u64 + 6);
    }

    #[test]
    fn a_broken_configuration_is_kept_as_it_is() {
        let image = Image::new("a").config_bytes("{").config_media_type("x/y");
        assert_eq!(image.config(), Document::new("x/y", "{"));
        assert_eq!(parsed(&image.manifest())["config"]["mediaType"], "x/y");
    }
}
