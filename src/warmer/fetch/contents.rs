//! What is behind a tag: one image, the images of an index, or no image at all.
//!
//! An index may hold indexes. They are read level by level: a few levels, a bounded number of documents, and each of these
//! once, so that no index, however it is built, costs more than that.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use samovar_registry::upstream::{Child, Document, ErrorKind, Index, Manifest, UpstreamError};
use samovar_registry::{Digest, Platform, Platforms};

use super::{Asking, FetchError, Fetcher};
use crate::cache::page::{MOST_PLATFORMS, bounded_labels};
use crate::cache::records::{Exclusion, ImageRecord};
use crate::warmer::tag::TagAnswer;

/// Indexes in one another that are read: an index may hold indexes that hold indexes, and what these hold is not looked at
/// unless it is an image.
pub(in crate::warmer) const MAX_INDEX_DEPTH: usize = 3;
/// Manifests and indexes that are looked at behind one tag.
const MOST_CHILDREN: usize = 64;
/// Children of an index that do not say their platform are looked into, but no more than this many.
const MOST_UNLABELLED_CHILDREN: usize = 4;

/// An image for one platform.
struct Variant {
    image_id: Option<Digest>,
    size: Option<u64>,
    created: Option<Timestamp>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    platform: Option<Platform>,
}

/// A child of an index that is worth looking at.
struct Candidate {
    digest: Digest,
    /// Which of the wanted platforms it is for; `None`: to be found out.
    position: Option<usize>,
    platform: Option<Platform>,
}

/// What the index behind a tag has brought so far.
#[derive(Default)]
struct Findings {
    /// With the position of their platform among the wanted ones.
    variants: Vec<(usize, Variant)>,
    /// The platforms that children say they are for.
    offered: Vec<Platform>,
    /// Of every index that was read, the outermost first.
    annotations: Vec<BTreeMap<String, String>>,
    looked_at: HashSet<Digest>,
    /// A child that the registry does not have.
    missing: Option<UpstreamError>,
    /// What a child is that is no image.
    foreign: Option<String>,
}

impl Fetcher {
    /// What a document that a tag points at says.
    pub(super) async fn image_of(
        &self,
        asking: Asking<'_>,
        document: Document,
    ) -> Result<TagAnswer, FetchError> {
        let manifest = decode(&document)?;
        if let Some(foreign) = manifest.foreign() {
            return Ok(excluded(&document, Exclusion::NotAnImage, format!("not an image but {foreign}")));
        }
        if let Manifest::Index(index) = manifest {
            return self.image_of_index(asking, &document, index).await;
        }
        let Some(variant) = self.variant(asking, manifest).await? else {
            return Ok(excluded(&document, Exclusion::NotAnImage, "not an image".to_owned()));
        };
        if let Some(offered) = &variant.platform
            && asking.platforms.position_of_wanted(offered).is_none()
        {
            let reason = no_platform(asking.platforms, std::slice::from_ref(offered));
            return Ok(excluded(&document, Exclusion::Platform, reason));
        }
        let offered = variant.platform.iter().map(ToString::to_string).collect();
        Ok(TagAnswer::Image(Arc::new(image_record(&document, vec![variant], Vec::new(), offered))))
    }

    async fn image_of_index(
        &self,
        asking: Asking<'_>,
        document: &Document,
        index: Index,
    ) -> Result<TagAnswer, FetchError> {
        let artifact = index.description();
        let mut findings = Findings::default();
        let mut level = vec![(index, None)];
        for _ in 0..MAX_INDEX_DEPTH {
            let mut next = Vec::new();
            for (index, platform) in level {
                self.look_into(asking, index, platform.as_ref(), &mut findings, &mut next).await?;
            }
            level = next;
        }
        findings.variants.sort_by_key(|(position, _)| *position);
        if !findings.variants.is_empty() {
            return Ok(TagAnswer::Image(Arc::new(findings.into_record(document))));
        }
        if let Some(missing) = findings.missing {
            return Err(missing.into());
        }
        let (why, reason) = match (findings.foreign, artifact) {
            (Some(foreign), _) => (Exclusion::NotAnImage, format!("not images but {foreign}")),
            (None, Some(artifact)) => (Exclusion::NotAnImage, format!("not an image but {artifact}")),
            (None, None) if !level.is_empty() => {
                let reason = format!("no image: the index holds indexes more than {MAX_INDEX_DEPTH} deep");
                (Exclusion::NotAnImage, reason)
            }
            (None, None) => (Exclusion::Platform, no_platform(asking.platforms, &findings.offered)),
        };
        Ok(excluded(document, why, reason))
    }

    /// Looks at the children of one index that is for `platform`, where whatever holds it says so. The indexes among them
    /// go to the `next` level.
    async fn look_into(
        &self,
        asking: Asking<'_>,
        index: Index,
        platform: Option<&Platform>,
        findings: &mut Findings,
        next: &mut Vec<(Index, Option<Platform>)>,
    ) -> Result<(), FetchError> {
        for candidate in findings.candidates(&index, platform, asking.platforms) {
            if findings.looked_at.len() == MOST_CHILDREN {
                break;
            }
            if !findings.looked_at.insert(candidate.digest.clone()) {
                continue;
            }
            let document = match self.manifest(asking, &candidate.digest).await {
                Ok(document) => document,
                // An index may have been copied without all its images: those that are there count.
                Err(FetchError::Upstream(error)) if matches!(error.kind, ErrorKind::NotFound { .. }) => {
                    findings.missing = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let manifest = decode(&document)?;
            if let Some(foreign) = manifest.foreign() {
                findings.foreign.get_or_insert(foreign);
            } else if let Manifest::Index(index) = manifest {
                next.push((index, candidate.platform));
            } else if let Some(variant) = self.variant(asking, manifest).await? {
                findings.add(variant, candidate.position, asking.platforms);
            }
        }
        findings.annotations.push(index.annotations);
        Ok(())
    }

    /// The image that a manifest describes; `None` if it does not describe one.
    async fn variant(&self, asking: Asking<'_>, manifest: Manifest) -> Result<Option<Variant>, FetchError> {
        match manifest {
            Manifest::Image(manifest) => {
                let config = self.config(asking, &manifest.config.digest).await?;
                let platform = config.platform();
                Ok(Some(Variant {
                    size: Some(manifest.total_size()),
                    image_id: Some(manifest.config.digest),
                    created: config.created,
                    labels: config.labels,
                    annotations: manifest.annotations,
                    platform,
                }))
            }
            Manifest::Schema1(manifest) => Ok(Some(Variant {
                image_id: manifest.image_id,
                size: None,
                created: manifest.created,
                labels: manifest.labels,
                annotations: BTreeMap::new(),
                platform: manifest.platform,
            })),
            Manifest::Index(_) | Manifest::Unknown { .. } => Ok(None),
        }
    }
}

impl Findings {
    /// The children worth looking at, the platform wanted most first: those for a wanted platform that nothing was found
    /// for yet, one for each, or, where there are none, the first few that do not say their platform, whose configurations
    /// will tell. While something wanted is missing, also the first few indexes that do not say what they are for.
    fn candidates(
        &mut self,
        index: &Index,
        for_platform: Option<&Platform>,
        wanted: &Platforms,
    ) -> Vec<Candidate> {
        let (mut labelled, mut nested, mut unlabelled) = (Vec::new(), Vec::new(), Vec::new());
        for child in index.children.iter().filter(|child| !child.is_attestation()) {
            let platform = child.platform.as_ref().or(for_platform);
            let position = platform.and_then(|platform| wanted.position_of_wanted(platform));
            if let Some(platform) = platform.filter(|platform| !self.offered.contains(platform)) {
                self.offered.push(platform.clone());
            }
            let candidate = |position| candidate(child, position, platform);
            match (platform, position) {
                (Some(_), Some(position)) if !self.has(position) => {
                    labelled.push((position, candidate(Some(position))));
                }
                (None, _) if child.is_index() => nested.push(candidate(None)),
                (None, _) => unlabelled.push(candidate(None)),
                (Some(_), _) => {}
            }
        }
        labelled.sort_by_key(|(position, _)| *position);
        // Several variants of one platform (Windows versions, arm64 with and without v8): the first is enough.
        labelled.dedup_by_key(|(position, _)| *position);
        let is_all = self.variants.len() + labelled.len() >= wanted.iter().len();
        let first_few = if is_all { 0 } else { MOST_UNLABELLED_CHILDREN };
        let images = if labelled.is_empty() { unlabelled } else { Vec::new() };
        let unlabelled = images.into_iter().take(first_few).chain(nested.into_iter().take(first_few));
        labelled.into_iter().map(|(_, candidate)| candidate).chain(unlabelled).collect()
    }

    fn has(&self, position: usize) -> bool {
        self.variants.iter().any(|(known, _)| *known == position)
    }

    /// Adds an image at the position that its index gives it, or else at that of the platform that it says itself; one
    /// that says none is taken as it is.
    fn add(&mut self, variant: Variant, position: Option<usize>, wanted: &Platforms) {
        let own = || match &variant.platform {
            Some(platform) => wanted.position_of_wanted(platform),
            None => Some(usize::MAX),
        };
        if let Some(position) = position.or_else(own) {
            self.variants.push((position, variant));
        }
    }

    fn into_record(self, document: &Document) -> ImageRecord {
        let variants: Vec<Variant> = self.variants.into_iter().map(|(_, variant)| variant).collect();
        let mut platforms: Vec<String> = self.offered.iter().map(ToString::to_string).collect();
        if platforms.is_empty() {
            platforms =
                variants.iter().filter_map(|variant| Some(variant.platform.as_ref()?.to_string())).collect();
        }
        image_record(document, variants, self.annotations, platforms)
    }
}

fn candidate(child: &Child, position: Option<usize>, platform: Option<&Platform>) -> Candidate {
    Candidate { digest: child.descriptor.digest.clone(), position, platform: platform.cloned() }
}

fn decode(document: &Document) -> Result<Manifest, FetchError> {
    Manifest::decode(document)
        .map_err(|error| FetchError::Document { digest: document.digest.clone(), message: error.to_string() })
}

fn excluded(document: &Document, why: Exclusion, reason: String) -> TagAnswer {
    TagAnswer::Excluded { digest: document.digest.clone(), why, reason }
}

fn no_platform(wanted: &Platforms, offered: &[Platform]) -> String {
    let offered: Vec<String> = offered.iter().map(ToString::to_string).collect();
    let offered = if offered.is_empty() { "none".to_owned() } else { offered.join(", ") };
    format!("no wanted platform: it offers {offered}; wanted are {wanted}")
}

/// Puts together what the documents of one image say. The variants, at least one, are its wanted platforms, wanted most
/// first: the first tells id, size and, if it says so, the time of creation.
fn image_record(
    document: &Document,
    variants: Vec<Variant>,
    index_annotations: Vec<BTreeMap<String, String>>,
    mut platforms: Vec<String>,
) -> ImageRecord {
    let created_at = variants.iter().find_map(|variant| variant.created);
    let first = variants.first();
    let (image_id, size) = first.map_or((None, None), |first| (first.image_id.clone(), first.size));
    let (mut sources, mut annotations) = (Vec::new(), Vec::new());
    for variant in variants {
        // A configuration's labels are those of `config` and, after them, of `container_config`.
        sources.push(variant.labels);
        annotations.push(variant.annotations);
    }
    let mut labels = BTreeMap::new();
    for source in sources.into_iter().chain(annotations).chain(index_annotations) {
        for (key, value) in source {
            labels.entry(key).or_insert(value);
        }
    }
    platforms.truncate(MOST_PLATFORMS);
    ImageRecord {
        digest: document.digest.clone(),
        image_id,
        media_type: document.media_type.clone(),
        size,
        created_at,
        labels: bounded_labels(labels),
        platforms,
    }
}
