//! Manifests and indexes, by tag and by digest (end-3 of the distribution specification): the registry's own bytes.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use samovar_registry::{Digest, Tag};

use super::error::{Code, OciError};
use super::path::ManifestReference;
use super::provenance::Kind;
use super::stale;
use super::visit::{Resolved, Visit};
use crate::server::caching;
use crate::store::StoredDocument;

pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// What a digest names never changes.
pub(super) const FOR_EVER: HeaderValue = HeaderValue::from_static("max-age=31536000, immutable");
pub(super) const ASK_EACH_TIME: HeaderValue = HeaderValue::from_static("no-cache");

/// A manifest or an index.
pub(super) async fn answer(
    visit: &Visit<'_>,
    reference: &ManifestReference,
    headers: &HeaderMap,
) -> Result<Response, OciError> {
    match reference {
        ManifestReference::Digest(digest) => {
            let is_known = visit.has(digest, Kind::Manifest).await?;
            let response = if is_known && client_has(headers, digest) {
                not_modified(digest)
            } else {
                whole(&visit.manifest(digest, is_known).await?, digest)
            };
            Ok(with(response, [(header::CACHE_CONTROL, FOR_EVER)]))
        }
        ManifestReference::Tag(tag) => by_tag(visit, tag, headers).await,
    }
}

async fn by_tag(visit: &Visit<'_>, tag: &Tag, headers: &HeaderMap) -> Result<Response, OciError> {
    let mut resolved = visit.resolve(tag).await?;
    let mut answered = of_digest(visit, &resolved.digest, headers).await;
    if answered.as_ref().is_err_and(OciError::is_unknown) {
        // It was evicted here, and has gone there: the tag has moved meanwhile.
        resolved = visit.resolve_again(tag).await?;
        answered = of_digest(visit, &resolved.digest, headers).await;
    }
    let (response, Resolved { at, warning, .. }) = (answered?, resolved);
    let mut response = with(response, [(header::CACHE_CONTROL, ASK_EACH_TIME)]);
    if let Some(age) = caching::age(at, visit.doors.clock.now()) {
        response.headers_mut().insert(header::AGE, age);
    }
    if let Some(warning) = warning {
        response.headers_mut().insert(header::WARNING, stale::warning(&warning));
    }
    Ok(response)
}

async fn of_digest(visit: &Visit<'_>, digest: &Digest, headers: &HeaderMap) -> Result<Response, OciError> {
    if client_has(headers, digest) {
        return Ok(not_modified(digest));
    }
    Ok(whole(&visit.manifest(digest, true).await?, digest))
}

/// The reference that a path ends with; a tag that none can be is one that does not exist.
pub(super) fn reference(text: &str) -> Result<ManifestReference, OciError> {
    use super::path::NotAReference;
    ManifestReference::parse(text).map_err(|error| {
        let code = match error {
            NotAReference::Tag(_) => Code::ManifestUnknown,
            NotAReference::Digest(_) => Code::DigestInvalid,
        };
        OciError::new(code, error.to_string())
    })
}

/// Whether the client has this already (`If-None-Match`).
pub(super) fn client_has(headers: &HeaderMap, digest: &Digest) -> bool {
    if !headers.contains_key(header::IF_NONE_MATCH) {
        return false;
    }
    let digest = digest.to_string();
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).any(|tag| {
        // Some send it without its quotes.
        tag == "*" || tag.trim_start_matches("W/").trim_matches('"') == digest
    })
}

pub(super) fn not_modified(digest: &Digest) -> Response {
    named(StatusCode::NOT_MODIFIED.into_response(), digest)
}

fn whole(document: &Arc<StoredDocument>, digest: &Digest) -> Response {
    let media_type = HeaderValue::try_from(&document.media_type);
    let media_type = media_type.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    named(content(document.bytes.clone(), media_type), digest)
}

/// An answer of these bytes. How long it is it says also where the bytes themselves are left out, to HEAD.
pub(super) fn content(bytes: Bytes, media_type: HeaderValue) -> Response {
    let length = bytes.len();
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response
}

/// With the digest of what is answered.
pub(super) fn named(mut response: Response, digest: &Digest) -> Response {
    let text = digest.to_string();
    let headers = response.headers_mut();
    headers.insert(header::ETAG, HeaderValue::try_from(format!("\"{text}\"")).expect("a digest is ASCII"));
    headers.insert(CONTENT_DIGEST, HeaderValue::try_from(text).expect("a digest is ASCII"));
    response
}

pub(super) fn with<const N: usize>(
    mut response: Response,
    headers: [(HeaderName, HeaderValue); N],
) -> Response {
    response.headers_mut().extend(headers);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_digest_is_recognised_however_it_is_sent() {
        let (digest, other) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
        let asked = |value: &str| {
            HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::try_from(value).unwrap())])
        };
        for sent in
            [format!("\"{digest}\""), digest.to_string(), format!("\"{other}\", W/\"{digest}\""), "*".into()]
        {
            assert!(client_has(&asked(&sent), &digest), "{sent}");
        }
        for sent in [format!("\"{other}\""), String::new(), format!("{digest}0")] {
            assert!(!client_has(&asked(&sent), &digest), "{sent}");
        }
        assert!(!client_has(&HeaderMap::new(), &digest));
    }
}
