//! Blobs by digest (end-2 of the distribution specification): configurations, and small blobs of what is no image. Layers
//! are not kept: that they are not here sends clients to the next mirror or to the registry; or they are told its address.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use samovar_registry::{Digest, Name};

use super::error::{Code, OciError};
use super::manifests::{FOR_EVER, client_has, content, named, not_modified, with};
use super::provenance::Kind;
use super::range::{self, Range};
use super::visit::Visit;
use crate::config::{Layers, OciConfig};

const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A blob.
pub(super) async fn answer(
    visit: &Visit<'_>,
    digest: &Digest,
    headers: &HeaderMap,
) -> Result<Response, OciError> {
    if !visit.has(digest, Kind::Blob).await? {
        return layer(&visit.doors.oci.config, visit.name, digest);
    }
    let for_ever =
        [(header::CACHE_CONTROL, FOR_EVER), (header::ACCEPT_RANGES, HeaderValue::from_static("bytes"))];
    if client_has(headers, digest) {
        return Ok(with(not_modified(digest), for_ever));
    }
    let bytes = visit.blob(digest).await?.bytes.clone();
    let length = bytes.len();
    let asked = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let response = match range::of(asked, length) {
        Range::Whole => content(bytes, BYTES),
        Range::Part(part) => {
            let place = format!("bytes {}-{}/{length}", part.start, part.end - 1);
            let mut response = content(bytes.slice(part), BYTES);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let place = HeaderValue::try_from(place).expect("digits");
            with(response, [(header::CONTENT_RANGE, place)])
        }
        Range::Outside => {
            let error = OciError::new(Code::RangeInvalid, format!("the blob has {length} bytes"));
            let length = HeaderValue::try_from(format!("bytes */{length}")).expect("digits");
            return Ok(with(error.into_response(), [(header::CONTENT_RANGE, length)]));
        }
    };
    Ok(with(named(response, digest), for_ever))
}

/// What is said of a blob that is not kept.
fn layer(config: &OciConfig, name: &Name, digest: &Digest) -> Result<Response, OciError> {
    if config.layers == Layers::NotFound {
        return Err(OciError::new(
            Code::BlobUnknown,
            format!("{digest} is no configuration of {name}, and layers are not kept"),
        ));
    }
    let scheme = if config.plain_http.contains(name.host()) { "http" } else { "https" };
    let address = format!("{scheme}://{}/v2/{}/blobs/{digest}", name.registry_host(), name.path());
    let address = HeaderValue::try_from(address).expect("names and digests are ASCII");
    Ok((StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, address)]).into_response())
}
