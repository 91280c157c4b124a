//! Images for several platforms.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::content::{Content, Document};
use crate::image::{Descriptor, Image, Platform, to_pretty_json};
use crate::media_type;

/// An OCI index or a Docker manifest list over images, each under the platform that it was built for.
#[derive(Debug, Clone)]
pub struct Index {
    docker: bool,
    children: Vec<Child>,
    /// After the images.
    indexes: Vec<Index>,
    annotations: BTreeMap<String, String>,
    artifact_type: Option<String>,
}

#[derive(Debug, Clone)]
struct Child {
    image: Image,
    platform: Option<Platform>,
    annotations: BTreeMap<String, String>,
}

impl Index {
    /// An OCI index of these images, in this order.
    pub fn of<'a>(images: impl IntoIterator<Item = &'a Image>) -> Self {
        let children = images
            .into_iter()
            .map(|image| Child {
                image: image.clone(),
                platform: Some(image.platform.clone()),
                annotations: BTreeMap::new(),
            })
            .collect();
        Self {
            docker: false,
            children,
            indexes: Vec::new(),
            annotations: BTreeMap::new(),
            artifact_type: None,
        }
    }

    /// As a Docker manifest list. Its children stay what they are: make them Docker images too.
    #[must_use]
    pub fn docker(mut self) -> Self {
        self.docker = true;
        self
    }

    /// As an OCI index, which it is unless told otherwise.
    #[must_use]
    pub fn oci(mut self) -> Self {
        self.docker = false;
        self
    }

    /// Adds an annotation to the index itself.
    #[must_use]
    pub fn annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// The index's `artifactType`.
    #[must_use]
    pub fn artifact_type(mut self, artifact_type: impl Into<String>) -> Self {
        self.artifact_type = Some(artifact_type.into());
        self
    }

    /// Adds a child whose descriptor names no platform.
    #[must_use]
    pub fn child_without_platform(mut self, image: &Image) -> Self {
        self.children.push(Child { image: image.clone(), platform: None, annotations: BTreeMap::new() });
        self
    }

    /// Adds an index, whose descriptor names no platform, after the images.
    #[must_use]
    pub fn child_index(mut self, index: &Index) -> Self {
        self.indexes.push(index.clone());
        self
    }

    /// Adds what build tools add beside the images: a manifest for the platform `unknown/unknown` that attests the
    /// first child.
    #[must_use]
    pub fn attestation_child(mut self) -> Self {
        let subject =
            self.children.first().expect("an attestation attests a child: add one first").image.digest();
        let statement =
            format!("{{\"_type\":\"https://in-toto.io/Statement/v0.1\",\"subject\":\"{subject}\"}}");
        let image = Image::new(format!("attestation of {subject}"))
            .platform("unknown/unknown")
            .layer_media_type("application/vnd.in-toto+json")
            .layer_bytes(statement.as_bytes());
        self.children.push(Child {
            platform: Some(image.platform.clone()),
            image,
            annotations: BTreeMap::from([
                ("vnd.docker.reference.digest".to_owned(), subject),
                ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
            ]),
        });
        self
    }
}

impl Content for Index {
    fn manifest(&self) -> Document {
        let media_type = if self.docker { media_type::DOCKER_MANIFEST_LIST } else { media_type::OCI_INDEX };
        let images = self.children.iter().map(Child::descriptor);
        let indexes = self.indexes.iter().map(|index| Descriptor::of(&index.manifest()));
        let json = IndexJson {
            schema_version: 2,
            media_type,
            artifact_type: self.artifact_type.clone(),
            manifests: images.chain(indexes).collect(),
            annotations: self.annotations.clone(),
        };
        Document::new(media_type, to_pretty_json(&json))
    }

    fn children(&self) -> Vec<Document> {
        let images = self.children.iter().map(|child| child.image.manifest());
        let indexes = self.indexes.iter().flat_map(|index| {
            let mut documents = index.children();
            documents.push(index.manifest());
            documents
        });
        images.chain(indexes).collect()
    }

    fn blobs(&self) -> Vec<Document> {
        let of_images = self.children.iter().flat_map(|child| child.image.blobs());
        of_images.chain(self.indexes.iter().flat_map(Index::blobs)).collect()
    }
}

impl Child {
    fn descriptor(&self) -> Descriptor {
        let mut descriptor = Descriptor::of(&self.image.manifest());
        descriptor.platform.clone_from(&self.platform);
        descriptor.annotations.clone_from(&self.annotations);
        descriptor
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexJson {
    schema_version: u8,
    media_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    manifests: Vec<Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn children_stand_under_their_platforms() {
        let amd64 = Image::new("a");
        let arm64 = Image::new("a").platform("linux/arm64/v8");
        let index = Index::of([&amd64, &arm64]).attestation_child().annotation("k", "v");
        let json: Value = serde_json::from_slice(&index.manifest().bytes).expect("an index is JSON");

        assert_eq!(json["mediaType"], media_type::OCI_INDEX);
        assert_eq!(json["annotations"], json!({"k": "v"}));
        assert_eq!(json["manifests"][0]["digest"], amd64.digest());
        assert_eq!(json["manifests"][0]["platform"], json!({"os": "linux", "architecture": "amd64"}));
        assert_eq!(
            json["manifests"][1]["platform"],
            json!({"os": "linux", "architecture": "arm64", "variant": "v8"})
        );
        let attestation = &json["manifests"][2];
        assert_eq!(attestation["platform"], json!({"os": "unknown", "architecture": "unknown"}));
        assert_eq!(attestation["annotations"]["vnd.docker.reference.digest"], amd64.digest());
        assert_eq!(index.children().len(), 3);
    }
}
