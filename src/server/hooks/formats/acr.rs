//! Azure's registry, by its own webhooks (<https://learn.microsoft.com/azure/container-registry/container-registry-webhook-reference>)
//! or by Event Grid (<https://learn.microsoft.com/azure/event-grid/event-schema-container-registry>), in either schema.

use serde::Deserialize;
use serde_json::json;

use crate::server::hooks::formats::Delivery;
use crate::server::hooks::hint::{Malformed, Told, bounded, object};

/// What Event Grid sends to hear whether the receiver wants its events.
const VALIDATION: &str = "Microsoft.EventGrid.SubscriptionValidationEvent";

#[derive(Deserialize)]
struct Notification {
    /// Of Event Grid.
    #[serde(rename = "eventType")]
    kind: Option<String>,
    data: Option<Event>,
    // Of the registry itself:
    action: Option<String>,
    target: Option<Target>,
    request: Option<Request>,
}

#[derive(Deserialize)]
struct Event {
    action: Option<String>,
    target: Option<Target>,
    request: Option<Request>,
    #[serde(rename = "validationCode")]
    validation_code: Option<String>,
}

#[derive(Deserialize)]
struct Target {
    repository: Option<String>,
    tag: Option<String>,
}

#[derive(Deserialize)]
struct Request {
    host: Option<String>,
}

#[derive(Deserialize)]
struct Batch(#[serde(deserialize_with = "bounded")] Vec<Notification>);

pub(super) fn decode(delivery: &Delivery<'_>, told: &mut Told<'_>) -> Result<(), Malformed> {
    let is_batch = delivery.body.trim_ascii_start().first() == Some(&b'[');
    let notifications = if is_batch {
        let Batch(notifications) = serde_json::from_slice(delivery.body).map_err(Malformed::new)?;
        notifications
    } else {
        vec![object(delivery.body)?]
    };
    for notification in notifications {
        let Notification { kind, data, action, target, request } = notification;
        let event = data.unwrap_or(Event { action, target, request, validation_code: None });
        if let (Some(VALIDATION), Some(code)) = (kind.as_deref(), &event.validation_code) {
            told.answer(json!({"validationResponse": code}));
        }
        tell(event, told);
    }
    Ok(())
}

/// Charts, quarantine and pings are nothing to us, nor is a manifest that is pushed by its digest.
fn tell(Event { action, target, request, .. }: Event, told: &mut Told<'_>) {
    let deleted = match action.as_deref() {
        Some("push") => false,
        Some("delete") => true,
        _ => return,
    };
    let Some(Target { repository: Some(repository), tag }) = target else { return };
    if tag.is_some() || deleted {
        let host = request.and_then(|request| request.host);
        told.image(host.as_deref(), &repository, tag.as_deref(), deleted);
    }
}
