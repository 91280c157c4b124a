//! Google's registries, through a push subscription of Pub/Sub to the topic `gcr`, wrapped or not:
//! <https://cloud.google.com/artifact-registry/docs/configure-notifications>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::server::hooks::formats::Delivery;
use crate::server::hooks::hint::{Malformed, Told, object};

#[derive(Deserialize)]
struct Envelope {
    message: Option<Message>,
}

#[derive(Deserialize)]
struct Message {
    data: Option<String>,
}

#[derive(Deserialize)]
struct Event {
    action: Option<String>,
    digest: Option<String>,
    tag: Option<String>,
}

pub(super) fn decode(delivery: &Delivery<'_>, told: &mut Told<'_>) -> Result<(), Malformed> {
    let Envelope { message } = object(delivery.body)?;
    let Event { action, digest, tag } = match message {
        None => object(delivery.body)?,
        Some(Message { data }) => {
            let decoded = STANDARD.decode(data.unwrap_or_default());
            object(&decoded.map_err(|error| Malformed::new(format_args!("message.data: {error}")))?)?
        }
    };
    let tag = tag.filter(|tag| !tag.is_empty());
    match (action.as_deref(), tag, digest) {
        (Some("INSERT"), Some(tag), _) => told.reference(&tag, false),
        (Some("DELETE"), Some(image), _) | (Some("DELETE"), None, Some(image)) => {
            told.reference(&image, true);
        }
        // A manifest that is pushed by its digest changes no tag.
        _ => {}
    }
    Ok(())
}
