//! Amazon's registry: events of `EventBridge` (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html>), as
//! they come from an API destination or wrapped by SNS; and the `CloudEvents` that Argo CD Image Updater wants them to be
//! made into.

use serde::Deserialize;
use serde_json::Value;
use tracing::warn;

use super::cloud_event::{self, CloudEvent};
use crate::server::hooks::formats::Delivery;
use crate::server::hooks::hint::{Malformed, Told, host_of, object};

/// What the types of such `CloudEvents` begin with.
const EVENT_TYPES: &str = "com.amazon.ecr.";

#[derive(Deserialize)]
struct Event {
    source: Option<String>,
    account: Option<String>,
    region: Option<String>,
    detail: Option<Detail>,
    // Of SNS:
    #[serde(rename = "Type")]
    kind: Option<String>,
    #[serde(rename = "Message")]
    message: Option<String>,
    #[serde(rename = "SubscribeURL")]
    subscribe_url: Option<String>,
}

#[derive(Deserialize)]
struct Detail {
    result: Option<String>,
    #[serde(rename = "action-type")]
    action: Option<String>,
    #[serde(rename = "repository-name")]
    repository: Option<String>,
    #[serde(rename = "image-tag")]
    tag: Option<String>,
}

#[derive(Deserialize)]
struct EventData {
    #[serde(rename = "repositoryName")]
    repository: Option<String>,
    #[serde(rename = "imageTag")]
    tag: Option<String>,
    #[serde(rename = "registryId")]
    account: Option<String>,
}

pub(super) fn decode(delivery: &Delivery<'_>, told: &mut Told<'_>) -> Result<(), Malformed> {
    if cloud_event::is_meant_by(delivery) {
        return cloud_event::decode(delivery)?
            .into_iter()
            .try_for_each(|event| tell_cloud_event(event, told));
    }
    let event: Event = object(delivery.body)?;
    match event.kind.as_deref() {
        None => tell(event, told),
        Some("Notification") => tell(object(event.message.unwrap_or_default().as_bytes())?, told),
        Some("SubscriptionConfirmation") => {
            // Whoever knows the path would choose whom we call.
            let url = event.subscribe_url.unwrap_or_default();
            let host: String = host_of(&url).chars().take(253).collect();
            warn!(
                server.address = host,
                "SNS wants a subscription to be confirmed: open its SubscribeURL yourself, samovar follows none"
            );
        }
        Some(_) => {}
    }
    Ok(())
}

fn tell(event: Event, told: &mut Told<'_>) {
    let (Some("aws.ecr"), Some(detail)) = (event.source.as_deref(), event.detail) else { return };
    let deleted = match (detail.result.as_deref(), detail.action.as_deref()) {
        (Some("SUCCESS"), Some("PUSH")) => false,
        (Some("SUCCESS"), Some("DELETE")) => true,
        _ => return,
    };
    let tag = detail.tag.filter(|tag| !tag.is_empty());
    let Some(repository) = detail.repository.filter(|_| tag.is_some() || deleted) else { return };
    match (event.account, event.region) {
        (Some(account), Some(region)) => {
            told.image(Some(&host(&account, &region)), &repository, tag.as_deref(), deleted);
        }
        _ => told.unreadable_one(),
    }
}

/// `source` is `urn:aws:ecr:<region>:<account>:repository/<repository>`.
pub(super) fn tell_cloud_event(event: CloudEvent, told: &mut Told<'_>) -> Result<(), Malformed> {
    if !is_of_ecr(&event.kind) {
        return Ok(());
    }
    let deleted = cloud_event::tells_of_an_end(&event.kind);
    let mut parts = event.source.splitn(6, ':').skip(3);
    let (region, source_account, resource) = (parts.next(), parts.next(), parts.next());
    let data = match event.data {
        Value::Null => EventData { repository: None, tag: None, account: None },
        data => serde_json::from_value(data).map_err(Malformed::new)?,
    };
    let named = resource.and_then(|resource| resource.strip_prefix("repository/"));
    let subject_tag = event.subject.as_deref().and_then(super::tag_behind);
    let tag = data.tag.as_deref().or(subject_tag).filter(|tag| !tag.is_empty());
    match (data.account.as_deref().or(source_account), region, data.repository.as_deref().or(named)) {
        _ if tag.is_none() && !deleted => {}
        (Some(account), Some(region), Some(repository)) => {
            told.image(Some(&host(account, region)), repository, tag, deleted);
        }
        _ => told.unreadable_one(),
    }
    Ok(())
}

/// Whether `CloudEvents` of this type are those of Amazon's registry.
pub(super) fn is_of_ecr(kind: &str) -> bool {
    kind.starts_with(EVENT_TYPES)
}

fn host(account: &str, region: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("{account}.dkr.ecr.{region}.{domain}")
}
