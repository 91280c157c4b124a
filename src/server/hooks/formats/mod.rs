//! The words of each kind of sender: pure functions from a delivery to hints.
//!
//! Invariants: every element of a delivery is read; an event that is nothing to us is no error, for its sender would send it
//! again and again; what is no document of the sender's kind is one. Digests are not looked at: the registry is asked.

mod acr;
mod cloud_event;
mod cloud_events;
mod distribution;
mod docker_hub;
mod ecr;
mod flux;
mod ghcr;
mod gitea;
mod google;
mod harbor;
mod hmac;
mod jfrog;
mod nexus;
mod quay;
mod zot;

use http::HeaderMap;

use super::hint::{Malformed, Told};
use crate::config::HookType;

/// What a sender has sent.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct Delivery<'a> {
    /// The headers, some of which say what it is.
    pub(in crate::server) headers: &'a HeaderMap,
    /// The body, as it was signed.
    pub(in crate::server) body: &'a [u8],
}

impl<'a> Delivery<'a> {
    pub(super) fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Reads a delivery of a sender of this kind.
pub(in crate::server) fn decode(
    kind: HookType,
    delivery: &Delivery<'_>,
    told: &mut Told<'_>,
) -> Result<(), Malformed> {
    let decode = match kind {
        HookType::Distribution | HookType::Gitlab => distribution::decode,
        HookType::DockerHub => docker_hub::decode,
        HookType::Ghcr => ghcr::decode,
        HookType::Harbor => harbor::decode,
        HookType::Quay => quay::decode,
        HookType::Acr => acr::decode,
        HookType::Google => google::decode,
        HookType::Ecr => ecr::decode,
        HookType::Gitea => gitea::decode,
        HookType::Jfrog => jfrog::decode,
        HookType::Nexus => nexus::decode,
        HookType::Zot => zot::decode,
        HookType::CloudEvents => cloud_events::decode,
        HookType::Hmac => hmac::decode,
        HookType::Flux => flux::decode,
    };
    decode(delivery, told)
}

/// Whether what stands where a tag would is a digest.
fn is_digest(text: &str) -> bool {
    text.contains(':')
}

/// The tag at the end of an image's name, if it is not empty.
fn tag_behind(image: &str) -> Option<&str> {
    let (_, last) = image.rsplit_once('/').unwrap_or(("", image));
    let (_, tag) = last.split_once(':')?;
    (!tag.is_empty() && !last.contains('@')).then_some(tag)
}

#[cfg(test)]
mod tests;
