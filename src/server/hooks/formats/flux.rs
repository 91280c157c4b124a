//! What programs told fluxd, such as flux-recv: `{"Kind": "image", "Source": {"Name": {"Domain": …, "Image": …}}}`. No tag is
//! named. Of changes in git nothing is to be done.

use serde::Deserialize;

use super::Delivery;
use crate::server::hooks::hint::{Malformed, Told, object};

/// What is meant where no registry is named.
const DOCKER_HUB: &str = "docker.io";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    kind: Option<String>,
    source: Option<Source>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Source {
    name: Option<Name>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Name {
    domain: Option<String>,
    image: Option<String>,
}

pub(super) fn decode(delivery: &Delivery<'_>, told: &mut Told<'_>) -> Result<(), Malformed> {
    let Change { kind, source } = object(delivery.body)?;
    match kind.as_deref() {
        Some("image") => {}
        Some(_) => return Ok(()),
        None => return Err(Malformed::new("Kind is missing")),
    }
    match source.and_then(|source| source.name) {
        Some(Name { domain, image: Some(image) }) => {
            let domain = domain.filter(|domain| !domain.is_empty());
            told.image(Some(domain.as_deref().unwrap_or(DOCKER_HUB)), &image, None, false);
        }
        _ => told.unreadable_one(),
    }
    Ok(())
}
