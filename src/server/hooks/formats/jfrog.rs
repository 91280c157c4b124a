//! `JFrog` Artifactory: <https://jfrog.com/help/r/jfrog-platform-administration-documentation/event-types>.

use serde::Deserialize;

use crate::server::hooks::formats::Delivery;
use crate::server::hooks::hint::{Malformed, Told, host_of, object};

#[derive(Deserialize)]
struct Payload {
    domain: Option<String>,
    event_type: Option<String>,
    jpd_origin: Option<String>,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    repo_key: Option<String>,
    image_name: Option<String>,
    tag: Option<String>,
}

/// An image is named `HOST/KEY/IMAGE`, by the key of the repository it lies in; where clients name it by another one, or by
/// a host of its own, the configuration says so.
pub(super) fn decode(delivery: &Delivery<'_>, told: &mut Told<'_>) -> Result<(), Malformed> {
    let Payload { domain, event_type, jpd_origin, data } = object(delivery.body)?;
    let deleted = match (domain.as_deref(), event_type.as_deref()) {
        (Some("docker"), Some("pushed" | "promoted")) => false,
        (Some("docker"), Some("deleted")) => true,
        _ => return Ok(()),
    };
    match data {
        Some(Data { repo_key, image_name: Some(image), tag: Some(tag) }) => {
            let path = told.prefixed(repo_key.as_deref(), &image);
            told.image(jpd_origin.as_deref().map(host_of), &path, Some(&tag), deleted);
        }
        _ => told.unreadable_one(),
    }
    Ok(())
}
