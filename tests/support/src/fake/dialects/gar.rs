//! Google's Container Registry and Artifact Registry.
//!
//! - The list of tags has everything on one page, ten thousand tags and more, and two things besides: `manifest`, what
//!   every digest is and when it came, and `child` (observed: `go-containerregistry`).
//! - Artifact Registry sometimes says that an image was made at zero (observed there).

use serde_json::{Map, Value, json};

use super::super::auth::Bearer;
use super::super::contents::Repository;
use super::super::dialect::{Dialect, Login};
use super::super::paging::{Listing, Paging};

/// How it speaks.
pub fn dialect() -> Dialect {
    let listing = Listing { paging: Paging::None, extra: Some(manifests), ..Listing::default() };
    Dialect { listing, login: Login::Bearer(Bearer::new()), ..Dialect::of("Google Artifact Registry") }
}

/// `manifest` and `child`.
fn manifests(repository: &Repository) -> Map<String, Value> {
    let mut manifests = Map::new();
    for (tag, manifest, pushed_at) in repository.by_change() {
        let known = manifests.entry(manifest.digest.clone()).or_insert_with(|| {
            json!({
                "imageSizeBytes": manifest.bytes.len().to_string(),
                "layerId": "",
                "mediaType": manifest.media_type,
                "tag": [],
                "timeCreatedMs": "0",
                "timeUploadedMs": pushed_at.to_string(),
            })
        });
        if let Some(tags) = known["tag"].as_array_mut() {
            tags.push(tag.into());
        }
    }
    Map::from_iter([("child".to_owned(), json!([])), ("manifest".to_owned(), Value::Object(manifests))])
}
