//! Images of which nothing is kept but a number: what they consist of is made when it is asked for, the same bytes each
//! time, so that a hundred thousand of them take no memory worth mentioning.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// What a reader is shown the number of an image by.
pub(crate) const NUMBER_LABEL: &str = "simulation.number";

/// A document that a registry holds.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) media_type: &'static str,
    pub(crate) digest: String,
    pub(crate) bytes: Vec<u8>,
}

impl Document {
    fn new(media_type: &'static str, content: &Value) -> Self {
        let bytes = content.to_string().into_bytes();
        Self { media_type, digest: digest_of(&bytes), bytes }
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// An image, by its number: every third is an index with one platform that is wanted and one that is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Image(pub(crate) u64);

impl Image {
    fn is_index(self) -> bool {
        self.0.is_multiple_of(3)
    }

    /// How many manifests and configurations it takes to know it.
    pub(crate) fn manifests(self) -> usize {
        if self.is_index() { 2 } else { 1 }
    }

    /// What a tag points at first, then what that leads to.
    pub(crate) fn documents(self) -> Vec<Document> {
        let number = self.0;
        let config = Document::new(
            OCI_CONFIG,
            &json!({
                "created": "2025-11-12T13:14:15Z",
                "architecture": "amd64",
                "os": "linux",
                "config": {"Env": ["PATH=/usr/bin"], "Labels": {NUMBER_LABEL: number.to_string()}},
                "rootfs": {"type": "layers", "diff_ids": [digest_of(&number.to_be_bytes())]},
            }),
        );
        let layer = digest_of(&number.to_le_bytes());
        let manifest = Document::new(
            OCI_MANIFEST,
            &json!({
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": config.descriptor(),
                "layers": [{"mediaType": OCI_LAYER, "digest": layer, "size": 12_345_678}],
            }),
        );
        if !self.is_index() {
            return vec![manifest, config];
        }
        let with_platform = |mut descriptor: Value, architecture: &str| {
            descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
            descriptor
        };
        let unwanted = json!({"mediaType": OCI_MANIFEST, "digest": layer, "size": 1234});
        let index = Document::new(
            OCI_INDEX,
            &json!({
                "schemaVersion": 2,
                "mediaType": OCI_INDEX,
                "manifests": [
                    with_platform(manifest.descriptor(), "amd64"),
                    with_platform(unwanted, "s390x"),
                ],
            }),
        );
        vec![index, manifest, config]
    }
}

/// Which image a digest belongs to.
#[derive(Debug, Default)]
pub(crate) struct Digests(HashMap<u64, Image>);

impl Digests {
    /// The image is there from now on. Returns the digest that tags point at.
    pub(crate) fn add(&mut self, image: Image) -> String {
        let documents = image.documents();
        for document in &documents {
            self.0.insert(beginning(&document.digest), image);
        }
        documents[0].digest.clone()
    }

    /// The type of the document of this digest, which tags point at.
    pub(crate) fn media_type(&self, digest: &str) -> Option<&'static str> {
        let image = self.0.get(&beginning(digest))?;
        Some(if image.is_index() { OCI_INDEX } else { OCI_MANIFEST })
    }

    /// The document of this digest.
    pub(crate) fn document(&self, digest: &str) -> Option<Document> {
        let image = self.0.get(&beginning(digest))?;
        image.documents().into_iter().find(|document| document.digest == digest)
    }
}

/// Enough of a digest to tell it from others.
pub(crate) fn beginning(digest: &str) -> u64 {
    let hex = digest.strip_prefix("sha256:").and_then(|hex| hex.get(..16)).unwrap_or_default();
    u64::from_str_radix(hex, 16).unwrap_or_default()
}

fn digest_of(bytes: &[u8]) -> String {
    let mut digest = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        write!(digest, "{byte:02x}").unwrap();
    }
    digest
}
