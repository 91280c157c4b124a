//! zot: `CloudEvents` of its events extension, <https://zotregistry.dev/latest/articles/events/>. They do not say of which
//! registry.

use serde::Deserialize;

use super::cloud_event::{self, CloudEvent};
use crate::server::hooks::formats::{Delivery, is_digest};
use crate::server::hooks::hint::{Malformed, Told};

#[derive(Deserialize)]
struct Data {
    name: Option<String>,
    reference: Option<String>,
}

pub(super) fn decode(delivery: &Delivery<'_>, told: &mut Told<'_>) -> Result<(), Malformed> {
    for CloudEvent { kind, data, .. } in cloud_event::decode(delivery)? {
        let deleted = match kind.as_str() {
            "zotregistry.image.updated" => false,
            "zotregistry.image.deleted" => true,
            _ => continue,
        };
        let Data { name, reference } = serde_json::from_value(data).map_err(Malformed::new)?;
        let tag = reference.filter(|reference| !is_digest(reference) && !reference.is_empty());
        match name {
            None => told.unreadable_one(),
            Some(_) if tag.is_none() && !deleted => {}
            Some(name) => told.image(None, &name, tag.as_deref(), deleted),
        }
    }
    Ok(())
}
