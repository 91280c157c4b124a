//! Harbor, in its own format and as `CloudEvents`:
//! <https://goharbor.io/docs/main/working-with-projects/project-configuration/configure-webhooks/>.

use serde::Deserialize;

use super::cloud_event::{self, CloudEvent};
use crate::server::hooks::formats::{Delivery, is_digest};
use crate::server::hooks::hint::{Malformed, Told, bounded, host_of, object};

#[derive(Deserialize)]
struct Notification {
    r#type: Option<String>,
    event_data: Option<EventData>,
}

#[derive(Deserialize)]
struct EventData {
    #[serde(default, deserialize_with = "bounded")]
    resources: Vec<Resource>,
    repository: Option<Repository>,
}

#[derive(Deserialize)]
struct Resource {
    tag: Option<String>,
    resource_url: Option<String>,
}

#[derive(Deserialize)]
struct Repository {
    repo_full_name: Option<String>,
}

pub(super) fn decode(delivery: &Delivery<'_>, told: &mut Told<'_>) -> Result<(), Malformed> {
    if cloud_event::is_meant_by(delivery) {
        for CloudEvent { kind, data, .. } in cloud_event::decode(delivery)? {
            if let Some(deleted) = deleted(&kind) {
                tell(serde_json::from_value(data).map_err(Malformed::new)?, deleted, told);
            }
        }
        return Ok(());
    }
    let Notification { r#type: kind, event_data } = object(delivery.body)?;
    if let (Some(deleted), Some(data)) = (kind.as_deref().and_then(deleted), event_data) {
        tell(data, deleted, told);
    }
    Ok(())
}

/// Whether what is told of is gone; `None` of what is nothing to us. The names of the first version are still in use.
fn deleted(kind: &str) -> Option<bool> {
    match kind {
        "PUSH_ARTIFACT" | "pushImage" | "harbor.artifact.pushed" => Some(false),
        "DELETE_ARTIFACT" | "deleteImage" | "harbor.artifact.deleted" => Some(true),
        _ => None,
    }
}

/// What has no tag stands there with its digest for one.
fn tell(data: EventData, deleted: bool, told: &mut Told<'_>) {
    let path = data.repository.and_then(|repository| repository.repo_full_name);
    for Resource { tag, resource_url } in data.resources {
        let tag = tag.filter(|tag| !is_digest(tag) && !tag.is_empty());
        if tag.is_none() && !deleted {
            continue;
        }
        match (&path, resource_url) {
            (Some(path), url) => told.image(url.as_deref().map(host_of), path, tag.as_deref(), deleted),
            (None, Some(url)) => told.reference(&url, deleted),
            (None, None) => told.unreadable_one(),
        }
    }
}
