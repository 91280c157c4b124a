//! Docker image manifests of version 2, schema 1: read, never written. Pure.
//!
//! They are JSON with signatures inside (JWS in libtrust's "pretty" form): what was signed, the payload, is the document
//! without them, and the digest is the payload's. Nothing outside the payload is looked at, since nothing vouches for
//! it. The signatures themselves are not verified: their keys are made up by whoever pushed the image, and say nothing.
//!
//! There is no configuration; what it would say stands in the history, as the JSON text of the topmost layer's entry.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jiff::Timestamp;
use serde::Deserialize;

use super::document::DecodeError;
use super::image_config::ImageConfig;
use crate::json::{self, First, IfText};
use crate::{Digest, Platform};

/// Base64 as JWS writes it (RFC 7515 section 2), with or without the padding that it leaves out.
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A Docker schema 1 manifest, as far as it is of interest here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema1Manifest {
    /// The image's id, from the history: that of its topmost layer. Unlike the ids of later images it is not the digest
    /// of any document.
    pub image_id: Option<Digest>,
    /// When the image says that it was built. Absent where it does not say so, or says Go's zero time.
    pub created: Option<Timestamp>,
    /// The labels, bounded: those of `config.Labels`, then those of `container_config.Labels` whose keys are new.
    pub labels: BTreeMap<String, String>,
    /// The platform that the image was built for; `linux` where only the architecture is named.
    pub platform: Option<Platform>,
}

#[derive(Deserialize)]
struct RawManifest {
    architecture: Option<String>,
    history: First<RawHistory>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawHistory {
    v1_compatibility: String,
}

/// What the history's JSON text says beyond what every configuration says.
#[derive(Deserialize)]
struct RawLayer {
    id: Option<IfText<String>>,
    os: Option<String>,
    architecture: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawVersion {
    schema_version: u64,
}

#[derive(Deserialize)]
struct RawSigned {
    signatures: First<RawSignature>,
}

#[derive(Deserialize)]
struct RawSignature {
    protected: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawProtected {
    format_length: usize,
    format_tail: String,
}

impl Schema1Manifest {
    /// Decodes what the digest of `document` is of.
    pub(super) fn decode(document: &[u8]) -> Result<Self, DecodeError> {
        let error = |reason: &dyn ToString| DecodeError::new("Docker schema 1 manifest", reason.to_string());
        let raw: RawManifest = json::object(&payload(document)).map_err(|reason| error(&reason))?;
        let Some(RawHistory { v1_compatibility }) = raw.history.0 else {
            return Err(error(&"its history is empty"));
        };
        let text = v1_compatibility.as_bytes();
        let layer: RawLayer = json::object(text).map_err(|reason| error(&reason))?;
        let config = ImageConfig::decode(text).map_err(|failure| error(&failure.reason))?;
        let os = layer.os.filter(|os| !os.is_empty()).unwrap_or_else(|| "linux".to_owned());
        let architecture = layer.architecture.filter(|text| !text.is_empty()).or(raw.architecture);
        let platform =
            config.platform().or_else(|| Platform::from_parts(&os, &architecture.unwrap_or_default(), ""));
        Ok(Self {
            image_id: layer.id.and_then(|IfText(id)| format!("sha256:{}", id?).parse().ok()),
            created: config.created,
            labels: config.labels,
            platform,
        })
    }
}

/// What the digest of a schema 1 manifest is of: what was signed, or of an unsigned one everything.
pub(super) fn payload(document: &[u8]) -> Cow<'_, [u8]> {
    signed_payload(document).map_or(Cow::Borrowed(document), Cow::Owned)
}

/// The part of the document before the signatures, and the end that they have pushed out. All signatures are of one
/// payload, so the first tells which. Other documents than of schema 1 are not signed in this way: whoever has put one in
/// here has its digest in mind, not what it says.
fn signed_payload(document: &[u8]) -> Option<Vec<u8>> {
    let signed: RawSigned = json::object(document).ok()?;
    let protected = decode_base64(&signed.signatures.0?.protected)?;
    let RawProtected { format_length, format_tail } = json::object(&protected).ok()?;
    let mut payload = document.get(..format_length)?.to_vec();
    payload.extend(decode_base64(&format_tail)?);
    let RawVersion { schema_version } = json::object(&payload).ok()?;
    (schema_version == 1).then_some(payload)
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    BASE64_URL.decode(text).ok()
}

#[cfg(test)]
mod tests;
