//! What refers to a manifest (end-12 of the distribution specification). Where nothing does, that is the answer: a 404
//! would make clients look elsewhere.

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use samovar_registry::Digest;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::OciError;
use super::manifests::{ASK_EACH_TIME, content, with};
use super::memory::Pointer;
use super::stale;
use super::visit::Visit;
use crate::cache::load::Pages;
use crate::server::caching;
use crate::warmer::Piece;

const INDEX: HeaderValue = HeaderValue::from_static("application/vnd.oci.image.index.v1+json");
const EMPTY: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// The index of what refers to `subject`, or of what of it is of one type.
pub(super) async fn answer(
    visit: &Visit<'_>,
    subject: &Digest,
    artifact_type: Option<&str>,
) -> Result<Response, OciError> {
    // Of what may no longer be served, nothing is.
    visit.snapshot(Pages::None).await?;
    let said = visit.said(Pointer::Referrers(subject.clone()), Piece::Referrers(subject.clone())).await?;
    let mut bytes = Bytes::from_static(EMPTY);
    let (mut at, mut warning) = (None, None);
    if let Some((said, why)) = said {
        let Some(index) = visit.stored(&said.digest).await? else {
            // It was evicted meanwhile: it is asked for again.
            visit.forget(&Pointer::Referrers(subject.clone()));
            return Err(OciError::late(&format_args!("what refers to {subject}")));
        };
        visit.learn_from(&said.digest, &index);
        (at, warning, bytes) = (Some(said.at), why, index.bytes.clone());
    }
    let mut response = match artifact_type {
        Some(artifact_type) => {
            let filters =
                (HeaderName::from_static("oci-filters-applied"), HeaderValue::from_static("artifactType"));
            with(content(of_type(&bytes, artifact_type), INDEX), [filters])
        }
        None => content(bytes, INDEX),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, ASK_EACH_TIME);
    if let Some(age) = caching::age(at, visit.doors.clock.now()) {
        headers.insert(header::AGE, age);
    }
    if let Some(warning) = warning {
        headers.insert(header::WARNING, stale::warning(&warning));
    }
    Ok(response)
}

#[derive(Deserialize)]
struct Listed {
    manifests: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    artifact_type: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u8,
    media_type: &'static str,
    manifests: Vec<Box<RawValue>>,
}

/// The index of what of an index is of one type, each as the registry wrote it.
fn of_type(index: &[u8], artifact_type: &str) -> Bytes {
    let listed = serde_json::from_slice(index).map_or_else(|_| Vec::new(), |Listed { manifests }| manifests);
    let is_wanted = |descriptor: &RawValue| {
        let descriptor: Result<Descriptor, _> = serde_json::from_str(descriptor.get());
        descriptor.is_ok_and(|descriptor| descriptor.artifact_type.as_deref() == Some(artifact_type))
    };
    let index = Index {
        schema_version: 2,
        media_type: "application/vnd.oci.image.index.v1+json",
        manifests: listed.into_iter().filter(|descriptor| is_wanted(descriptor)).collect(),
    };
    serde_json::to_vec(&index).expect("what was JSON becomes JSON").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_the_type_is_left_as_it_was_written() {
        let index = br#"{"schemaVersion":2,"manifests":[
            {"digest":"sha256:1", "artifactType":"a/sig",  "x":1},{"digest":"sha256:2","artifactType":"a/sbom"},{"digest":"3"}]}"#;
        let left = of_type(index, "a/sig");
        let expected = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"digest":"sha256:1", "artifactType":"a/sig",  "x":1}]}"#;
        assert_eq!(left, expected);
        assert_eq!(of_type(index, "a/none"), EMPTY);
        assert_eq!(of_type(b"no json", "a/none"), EMPTY);
    }
}
