//! Which digests a repository has: one is served under a repository only if it was learnt through it. Documents are stored once
//! for all repositories, and whoever may read one repository must not read another through it.
//!
//! Learnt are: what the tags point at; what these documents name, be it a child of an index, a configuration, or a small blob of
//! what is no image; what refers to them, by the registry's own list; and what the registry has said, asked for this very
//! repository, to have.

use std::collections::{HashSet, VecDeque};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use samovar_registry::Digest;
use serde::Deserialize;

use super::visit::Visit;
use crate::cache::records::TagState;
use crate::cache::snapshot::Snapshot;
use crate::store::{Documents, StoreError, StoredDocument};

/// Stored documents of one repository that are looked through for a digest; beyond them the registry is asked.
const MOST_WALKED: usize = 512;
/// Of these, at once.
const READ_AT_ONCE: usize = 16;
/// Blobs of what is no image, such as signatures, are served like configurations up to this size.
const MAX_SMALL_BLOB_BYTES: u64 = 1 << 20;

/// As what a repository has a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A manifest or an index.
    Manifest,
    /// A configuration, or another small blob.
    Blob,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    manifests: Vec<RawDescriptor>,
    config: Option<RawDescriptor>,
    #[serde(default)]
    layers: Vec<RawDescriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    size: u64,
}

/// What a manifest or an index names. Nothing, where it cannot be read.
pub(super) fn named_by(document: &StoredDocument) -> Vec<(Digest, Kind)> {
    let Ok(raw) = serde_json::from_slice::<Raw>(&document.bytes) else { return Vec::new() };
    let is_image = raw.layers.iter().all(|layer| is_image_layer(&layer.media_type));
    let small = raw.layers.iter().filter(|layer| !is_image && layer.size <= MAX_SMALL_BLOB_BYTES);
    let blobs = raw.config.iter().chain(small).map(|blob| (blob, Kind::Blob));
    let manifests = raw.manifests.iter().map(|manifest| (manifest, Kind::Manifest));
    manifests
        .chain(blobs)
        .filter_map(|(descriptor, kind)| Some((descriptor.digest.parse().ok()?, kind)))
        .collect()
}

/// Whether a layer is part of an image's file system.
fn is_image_layer(media_type: &str) -> bool {
    let known = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];
    media_type.is_empty() || known.iter().any(|beginning| media_type.starts_with(beginning))
}

impl Visit<'_> {
    /// Whether the repository, of which this is stored, is known to have a digest as what it is asked for.
    pub(super) async fn has_learnt(
        &self,
        snapshot: &Snapshot,
        digest: &Digest,
        kind: Kind,
    ) -> Result<bool, StoreError> {
        if let Some(known) = self.memory().member(self.name, digest) {
            return Ok(known == kind);
        }
        let is_of_a_tag = snapshot.tags().any(|(_, record, _)| match kind {
            Kind::Manifest => {
                record.state.digest() == Some(digest) || record.moved_to.as_ref() == Some(digest)
            }
            Kind::Blob => {
                matches!(&record.state, TagState::Ok(image) if image.image_id.as_ref() == Some(digest))
            }
        });
        if is_of_a_tag {
            return Ok(true);
        }
        self.walk(snapshot, digest, kind).await
    }

    /// Looks through what is stored of what the tags point at, level by level, and remembers all that it names.
    async fn walk(&self, snapshot: &Snapshot, digest: &Digest, kind: Kind) -> Result<bool, StoreError> {
        let generation = snapshot.head.as_ref().map_or(0, |head| head.generation);
        if self.memory().was_walked(self.name, generation) {
            return Ok(false);
        }
        let mut seen = HashSet::new();
        let of_tags = snapshot.tags().filter_map(|(_, record, _)| record.state.digest());
        let mut waiting: VecDeque<Digest> =
            of_tags.filter(|digest| seen.insert((*digest).clone())).cloned().collect();
        let mut left = MOST_WALKED;
        while !waiting.is_empty() && left > 0 {
            let level: Vec<Digest> = waiting.drain(..waiting.len().min(READ_AT_ONCE).min(left)).collect();
            left -= level.len();
            let store = &*self.doors.store;
            let read: Vec<Option<StoredDocument>> = stream::iter(level)
                .map(|digest| async move { Documents(store).get(&digest).await })
                .buffered(READ_AT_ONCE)
                .try_collect()
                .await?;
            for document in read.iter().flatten() {
                let named = named_by(document);
                let is_found = named.iter().any(|named| named.0 == *digest && named.1 == kind);
                for (digest, _) in named.iter().filter(|(_, kind)| *kind == Kind::Manifest) {
                    if seen.insert(digest.clone()) {
                        waiting.push_back(digest.clone());
                    }
                }
                self.memory().add_members(self.name, named);
                if is_found {
                    return Ok(true);
                }
            }
        }
        self.memory().note_walked(self.name, generation);
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> StoredDocument {
        StoredDocument { media_type: String::new(), bytes: text.to_owned().into() }
    }

    #[test]
    fn manifests_name_children_configurations_and_the_small_blobs_of_what_is_no_image() {
        let [one, two, three] = [b"1", b"2", b"3"].map(|bytes| Digest::sha256(bytes));
        let index = format!(r#"{{"manifests":[{{"digest":"{one}","size":1}},{{"digest":"odd","size":1}}]}}"#);
        assert_eq!(named_by(&document(&index)), [(one.clone(), Kind::Manifest)]);
        let with_layers = |media_type: &str, size: u64| {
            let text = format!(
                r#"{{"config":{{"digest":"{one}","size":2}},
                    "layers":[{{"mediaType":"{media_type}","digest":"{two}","size":{size}}}],
                    "subject":{{"digest":"{three}","size":1}}}}"#
            );
            named_by(&document(&text))
        };
        let image = [(one.clone(), Kind::Blob)];
        assert_eq!(with_layers("application/vnd.oci.image.layer.v1.tar+gzip", 7), image);
        assert_eq!(with_layers("application/vnd.docker.image.rootfs.diff.tar.gzip", 7), image);
        let signature = "application/vnd.dev.cosign.simplesigning.v1+json";
        assert_eq!(with_layers(signature, 7), [(one.clone(), Kind::Blob), (two.clone(), Kind::Blob)]);
        assert_eq!(with_layers(signature, MAX_SMALL_BLOB_BYTES + 1), image);
        for nothing in ["", "[]", "{}", r#"{"manifests":7}"#, r#"{"schemaVersion":1,"fsLayers":[]}"#] {
            assert_eq!(named_by(&document(nothing)), [], "{nothing}");
        }
    }
}
