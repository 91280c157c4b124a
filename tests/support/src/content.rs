//! What can be pushed to a registry.

use std::fmt::Write as _;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// A manifest, an index or a blob: bytes, and the type under which they are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The exact media type, without parameters.
    pub media_type: String,
    /// The exact bytes.
    pub bytes: Bytes,
    /// `sha256:…` of the bytes.
    pub digest: String,
}

impl Document {
    /// A document with these bytes, which need not make sense: broken manifests are pushed this way.
    pub fn new(media_type: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let digest = digest_of(&bytes);
        Self { media_type: media_type.into(), bytes, digest }
    }
}

/// What stands behind a tag: a manifest and everything that must be in the registry with it.
pub trait Content: Sync {
    /// The manifest or index that a tag points at.
    fn manifest(&self) -> Document;

    /// The manifests that an index names; none for an image.
    fn children(&self) -> Vec<Document>;

    /// The configurations and layers of all its images.
    fn blobs(&self) -> Vec<Document>;

    /// The digest that a tag resolves to.
    fn digest(&self) -> String {
        self.manifest().digest
    }
}

/// A manifest alone, as it is.
impl Content for Document {
    fn manifest(&self) -> Document {
        self.clone()
    }

    fn children(&self) -> Vec<Document> {
        Vec::new()
    }

    fn blobs(&self) -> Vec<Document> {
        Vec::new()
    }
}

/// `sha256:` and the hexadecimal digest of these bytes.
pub fn digest_of(bytes: &[u8]) -> String {
    let mut digest = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        write!(digest, "{byte:02x}").expect("writing to a string succeeds");
    }
    digest
}
