//! Images as they were pushed before 2016: Docker manifests of schema 1.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::content::{Content, Document, digest_of};
use crate::image::to_pretty_json;
use crate::media_type;

/// An image without a configuration: what it would say stands in the manifest's history. Signed, unless told otherwise,
/// with a signature that nobody could verify.
#[derive(Debug, Clone)]
pub struct Schema1Image {
    seed: String,
    created: Option<String>,
    labels: Map<String, Value>,
    architecture: String,
    signed: bool,
}

impl Schema1Image {
    /// An image for `linux/amd64` whose id and digest depend on `seed`.
    pub fn new(seed: impl Into<String>) -> Self {
        Self {
            seed: seed.into(),
            created: None,
            labels: Map::new(),
            architecture: "amd64".to_owned(),
            signed: true,
        }
    }

    /// Without a signature.
    #[must_use]
    pub fn unsigned(mut self) -> Self {
        self.signed = false;
        self
    }

    /// Sets the topmost layer's `created`, usually RFC 3339; not checked.
    #[must_use]
    pub fn created(mut self, created: impl Into<String>) -> Self {
        self.created = Some(created.into());
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), Value::String(value.into()));
        self
    }

    /// For Linux on this architecture.
    #[must_use]
    pub fn architecture(mut self, architecture: impl Into<String>) -> Self {
        self.architecture = architecture.into();
        self
    }

    /// The id of the topmost layer, which stands for the image's: hexadecimal digits.
    pub fn id(&self) -> String {
        digest_of(self.seed.as_bytes()).trim_start_matches("sha256:").to_owned()
    }

    /// What is signed, and what the digest is of.
    pub fn payload(&self) -> Bytes {
        let topmost = json!({
            "id": self.id(),
            "parent": digest_of(b"parent").trim_start_matches("sha256:"),
            "created": self.created,
            "os": "linux",
            "architecture": self.architecture,
            "config": {"Labels": self.labels},
        });
        let parent = json!({"id": digest_of(b"parent"), "created": "1999-01-01T00:00:00Z"});
        to_pretty_json(&json!({
            "schemaVersion": 1,
            "name": "app",
            "tag": "v1",
            "architecture": self.architecture,
            "fsLayers": [{"blobSum": digest_of(b"top")}, {"blobSum": digest_of(b"parent")}],
            "history": [
                {"v1Compatibility": topmost.to_string()},
                {"v1Compatibility": parent.to_string()},
            ],
        }))
    }

    /// The payload with a signature before its last brace.
    fn with_signature(&self) -> Bytes {
        let payload = self.payload();
        let length = payload.len() - b"\n}".len();
        let protected = json!({
            "formatLength": length,
            "formatTail": URL_SAFE_NO_PAD.encode(&payload[length..]),
            "time": "2015-06-01T00:00:00Z",
        });
        let signature = json!({
            "header": {"alg": "ES256"},
            "signature": "bm9uZQ",
            "protected": URL_SAFE_NO_PAD.encode(protected.to_string()),
        });
        let mut document = payload[..length].to_vec();
        document.extend(format!(",\n  \"signatures\": [{signature}]\n}}").into_bytes());
        document.into()
    }
}

impl Content for Schema1Image {
    fn manifest(&self) -> Document {
        if !self.signed {
            return Document::new(media_type::DOCKER_SCHEMA1, self.payload());
        }
        let digest = digest_of(&self.payload());
        let media_type = media_type::DOCKER_SCHEMA1_SIGNED.to_owned();
        Document { media_type, bytes: self.with_signature(), digest }
    }

    fn children(&self) -> Vec<Document> {
        Vec::new()
    }

    fn blobs(&self) -> Vec<Document> {
        Vec::new()
    }
}
