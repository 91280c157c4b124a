//! `CloudEvents` 1.0 over HTTP: structured, in batches, and binary
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md>).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use crate::server::hooks::formats::Delivery;
use crate::server::hooks::hint::{Malformed, bounded, object};

/// As much of an event as matters to us.
#[derive(Debug)]
pub(super) struct CloudEvent {
    pub(super) kind: String,
    pub(super) source: String,
    pub(super) subject: Option<String>,
    /// Null where there is none.
    pub(super) data: Value,
}

#[derive(Deserialize)]
struct Structured {
    specversion: Option<String>,
    r#type: String,
    #[serde(default)]
    source: String,
    subject: Option<Value>,
    #[serde(default)]
    data: Value,
    data_base64: Option<String>,
}

#[derive(Deserialize)]
struct Batch(#[serde(deserialize_with = "bounded")] Vec<Structured>);

#[derive(Deserialize)]
struct Version {
    specversion: Option<String>,
}

/// Whether a sender who has another format as well sends this one.
pub(super) fn is_meant_by(delivery: &Delivery<'_>) -> bool {
    let content_type = delivery.header("content-type").unwrap_or_default();
    delivery.header("ce-type").is_some()
        || content_type.starts_with("application/cloudevents")
        || object::<Version>(delivery.body).is_ok_and(|version| version.specversion.is_some())
}

/// The events of a delivery, at least one.
pub(super) fn decode(delivery: &Delivery<'_>) -> Result<Vec<CloudEvent>, Malformed> {
    if let Some(kind) = delivery.header("ce-type") {
        let data =
            if delivery.body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(delivery.body) };
        return Ok(vec![CloudEvent {
            kind: kind.to_owned(),
            source: delivery.header("ce-source").unwrap_or_default().to_owned(),
            subject: delivery.header("ce-subject").map(str::to_owned),
            data: data.map_err(Malformed::new)?,
        }]);
    }
    let events = if delivery.body.trim_ascii_start().first() == Some(&b'[') {
        let Batch(events) = serde_json::from_slice(delivery.body).map_err(Malformed::new)?;
        events
    } else {
        vec![object(delivery.body)?]
    };
    events.into_iter().map(event).collect()
}

fn event(event: Structured) -> Result<CloudEvent, Malformed> {
    if event.specversion.is_none() {
        return Err(Malformed::new("no CloudEvent: specversion is missing"));
    }
    let data = match event.data_base64 {
        None => event.data,
        Some(encoded) => {
            let bytes = STANDARD.decode(encoded).map_err(Malformed::new)?;
            serde_json::from_slice(&bytes).map_err(Malformed::new)?
        }
    };
    // CDEvents have an object of this name in their data, and nothing that is a text here.
    let subject = event.subject.and_then(|subject| subject.as_str().map(str::to_owned));
    Ok(CloudEvent { kind: event.r#type, source: event.source, subject, data })
}

/// Whether an event of this type tells that something is gone.
pub(super) fn tells_of_an_end(kind: &str) -> bool {
    let is_end = |word: &str| matches!(word, "deleted" | "delete" | "removed");
    kind.split(['.', '_']).any(is_end)
}
