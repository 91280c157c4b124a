//! Notifications of the distribution project's registry, and of those that are built on it:
//! <https://distribution.github.io/distribution/about/notifications/>.

use serde::Deserialize;

use crate::server::hooks::formats::Delivery;
use crate::server::hooks::hint::{Malformed, Told, bounded, object};

#[derive(Deserialize)]
struct Envelope {
    #[serde(deserialize_with = "bounded")]
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    action: Option<String>,
    target: Option<Target>,
    request: Option<Request>,
}

#[derive(Deserialize)]
struct Target {
    repository: Option<String>,
    tag: Option<String>,
    url: Option<String>,
}

#[derive(Deserialize)]
struct Request {
    host: Option<String>,
}

/// What has no tag is a layer, or a manifest that is pushed by its digest: no tag has changed. A manifest that is deleted
/// takes its tags along, which are not named.
pub(super) fn decode(delivery: &Delivery<'_>, told: &mut Told<'_>) -> Result<(), Malformed> {
    let Envelope { events } = object(delivery.body)?;
    for Event { action, target, request } in events {
        let deleted = match action.as_deref() {
            Some("push") => false,
            Some("delete") => true,
            _ => continue,
        };
        let Some(Target { repository: Some(repository), tag, url }) = target else { continue };
        if tag.is_none() && !deleted {
            continue;
        }
        let host = request.and_then(|request| request.host).filter(|host| !host.is_empty());
        told.image(host.or(url).as_deref(), &repository, tag.as_deref(), deleted);
    }
    Ok(())
}
