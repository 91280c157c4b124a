//! A repository in JSON, written straight from what is in memory.

use std::sync::Arc;

use jiff::Timestamp;
use samovar_registry::{Name, Tag};
use serde::ser::{Serialize, Serializer};

use super::fields::Fields;
use super::openapi::ImageInfo;
use crate::cache::Cache;
use crate::cache::records::{LastError, Unavailable};
use crate::cache::snapshot::Snapshot;
use crate::store::Client;

/// What is asked for of one repository. Its name is always there.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
#[schema(as = Repository)]
pub(super) struct RepositoryBody<'a> {
    #[schema(value_type = String)]
    name: &'a Name,
    /// All that the registry lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    tags: Option<Tags<'a>>,
    /// By tag, where they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, ImageInfo>>)]
    images: Option<Images<'a>>,
    /// By tag, why they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, Unavailable>>)]
    unavailable: Option<Reasons<'a>>,
    /// The list was read to its end, and no tag is pending or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    complete: Option<bool>,
    /// Grows with every change that means something.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    /// When the list was last read to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_update: Option<Timestamp>,
    /// What went wrong with the list since.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<LastError>)]
    last_error: Option<&'a LastError>,
}

#[derive(Debug)]
struct Tags<'a>(&'a Snapshot);

#[derive(Debug)]
struct Images<'a> {
    cache: &'a Cache<Arc<dyn Client>>,
    name: &'a Name,
    snapshot: &'a Snapshot,
}

#[derive(Debug)]
struct Reasons<'a>(&'a Snapshot);

/// These fields of a repository.
pub(super) fn write(
    cache: &Cache<Arc<dyn Client>>,
    name: &Name,
    snapshot: &Snapshot,
    fields: Fields,
) -> Vec<u8> {
    let (head, side) = (snapshot.head.as_deref(), snapshot.side.as_deref());
    let body = RepositoryBody {
        name,
        tags: fields.take(Fields::TAGS, || Tags(snapshot)),
        images: fields.take(Fields::IMAGES, || Images { cache, name, snapshot }),
        unavailable: fields.take(Fields::UNAVAILABLE, || Reasons(snapshot)),
        complete: fields.take(Fields::COMPLETE, || head.is_some_and(|head| head.complete)),
        generation: fields.take(Fields::GENERATION, || head.map_or(0, |head| head.generation)),
        last_update: fields.take(Fields::LAST_UPDATE, || side?.last_update).flatten(),
        last_error: fields.take(Fields::LAST_ERROR, || side?.last_error.as_ref()).flatten(),
    };
    serde_json::to_vec(&body).expect("strings and numbers written to memory")
}

impl Serialize for Tags<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.tags().map(|(tag, ..)| tag))
    }
}

impl Serialize for Images<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let with_image = |(tag, record, side): (_, _, _)| -> Option<(&Tag, _)> {
            Some((tag, self.cache.image_info(self.name, Some(tag), record, side)?))
        };
        serializer.collect_map(self.snapshot.tags().filter_map(with_image))
    }
}

impl Serialize for Reasons<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reasons =
            self.0.tags().filter_map(|(tag, record, side)| Some((tag, Unavailable::of(record, side)?)));
        serializer.collect_map(reasons)
    }
}
