//! What a receiver is sent: a body, its type, and how it can tell that it is ours.

use aws_lc_rs::hmac;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Value, json};

use crate::config::NotifyFormat;
use crate::feed::Happening;

/// The body's HMAC, in the words of Flux and others: `sha256=` and hexadecimal digits.
const SIGNATURE: HeaderName = HeaderName::from_static("x-signature");
/// The same over the time, a full stop and the body: what is older than a few minutes is a replay.
const TIMED_SIGNATURE: HeaderName = HeaderName::from_static("x-samovar-signature");
/// The time, in seconds since 1970.
const TIMESTAMP: HeaderName = HeaderName::from_static("x-samovar-timestamp");
/// Names the notification: the same for every try.
const DELIVERY: HeaderName = HeaderName::from_static("x-samovar-delivery");
/// Where Argo CD Image Updater looks for its secret.
const WEBHOOK_SECRET: HeaderName = HeaderName::from_static("x-webhook-secret");

/// A request's body and type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Payload {
    pub(super) body: Vec<u8>,
    content_type: &'static str,
    /// Names the change among all.
    id: String,
}

impl Payload {
    /// The change in this form; `None` where the form has no words for it.
    pub(super) fn of(happening: &Happening, format: NotifyFormat) -> Option<Self> {
        let content_type = match format {
            NotifyFormat::CloudEvents | NotifyFormat::ArgoCdImageUpdater => "application/cloudevents+json",
            NotifyFormat::Flux | NotifyFormat::Keel => "application/json",
        };
        let body = match format {
            NotifyFormat::CloudEvents => cloud_event(happening, data(happening)).to_string().into_bytes(),
            NotifyFormat::Flux => happening.data.to_vec(),
            NotifyFormat::ArgoCdImageUpdater => {
                let (tag, digest) = (happening.event.tag.as_ref()?, happening.event.new.as_ref()?);
                let (registry, repository) = (happening.name.host(), happening.name.path());
                let data =
                    json!({ "registry": registry, "repository": repository, "tag": tag, "digest": digest });
                cloud_event(happening, data).to_string().into_bytes()
            }
            NotifyFormat::Keel => {
                let (tag, digest) = (happening.event.tag.as_ref()?, happening.event.new.as_ref()?);
                json!({ "name": happening.name, "tag": tag, "digest": digest }).to_string().into_bytes()
            }
        };
        Some(Self { body, content_type, id: format!("{}@{}", happening.name, happening.event.id) })
    }

    /// The headers with which it is sent at this time, in seconds since 1970.
    pub(super) fn headers(&self, format: NotifyFormat, secret: Option<&str>, now: i64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(TIMESTAMP, now.into());
        if let Ok(id) = HeaderValue::try_from(&self.id) {
            headers.insert(DELIVERY, id);
        }
        let Some(secret) = secret else { return headers };
        let timed = [now.to_string().as_bytes(), b".", &self.body].concat();
        headers.insert(SIGNATURE, signature(secret, &self.body));
        headers.insert(TIMED_SIGNATURE, signature(secret, &timed));
        let sent_along = match format {
            NotifyFormat::CloudEvents | NotifyFormat::Flux => None,
            NotifyFormat::ArgoCdImageUpdater => Some((WEBHOOK_SECRET, secret.to_owned())),
            NotifyFormat::Keel => Some((header::AUTHORIZATION, format!("Bearer {secret}"))),
        };
        if let Some((name, value)) = sent_along
            && let Ok(mut value) = HeaderValue::try_from(value)
        {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        headers
    }
}

fn data(happening: &Happening) -> Value {
    serde_json::from_slice(&happening.data).expect("a change that we have encoded")
}

/// A document by the `CloudEvents` specification, 1.0. Source and id together are the same for every try, and on every replica.
fn cloud_event(happening: &Happening, data: Value) -> Value {
    let Happening { name, event, .. } = happening;
    let subject = event.tag.as_ref().map_or_else(|| name.to_string(), |tag| format!("{name}:{tag}"));
    json!({
        "specversion": "1.0",
        "id": event.id,
        "source": format!("/api/v1/repositories/{name}"),
        "type": format!("io.samovar.{}", event.kind.as_str()),
        "subject": subject,
        "time": event.at,
        "datacontenttype": "application/json",
        "data": data,
    })
}

fn signature(secret: &str, message: &[u8]) -> HeaderValue {
    use std::fmt::Write as _;
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), message);
    let mut text = "sha256=".to_owned();
    for byte in tag.as_ref() {
        write!(text, "{byte:02x}").expect("written to memory");
    }
    HeaderValue::try_from(text).expect("hexadecimal digits")
}

#[cfg(test)]
mod tests {
    use samovar_registry::Digest;

    use super::*;
    use crate::cache::history::{Cause, ChangeId, ChangeKind, Event};

    fn moved() -> std::sync::Arc<Happening> {
        let event = Event {
            id: ChangeId { generation: 17, number: 9 },
            kind: ChangeKind::TagMoved,
            tag: Some("v1".parse().unwrap()),
            old: Some(Digest::sha256(b"a")),
            new: Some(Digest::sha256(b"b")),
            at: "2026-11-20T07:20:40.776Z".parse().unwrap(),
            cause: Cause::Poll,
        };
        Happening::of("ghcr.io/team/app".parse().unwrap(), event)
    }

    fn json_of(format: NotifyFormat) -> Value {
        serde_json::from_slice(&Payload::of(&moved(), format).unwrap().body).unwrap()
    }

    #[test]
    fn every_form_says_what_its_receiver_looks_for() {
        let (old, new) = (Digest::sha256(b"a"), Digest::sha256(b"b"));
        let told = json!({
            "name": "ghcr.io/team/app", "id": "17.9", "type": "tag.moved", "tag": "v1", "old": old, "new": new,
            "at": "2026-11-20T07:20:40.776Z", "cause": "poll",
        });
        let event = |data: Value| {
            json!({
                "specversion": "1.0", "id": "17.9", "source": "/api/v1/repositories/ghcr.io/team/app",
                "type": "io.samovar.tag.moved", "subject": "ghcr.io/team/app:v1", "time": "2026-11-20T07:20:40.776Z",
                "datacontenttype": "application/json", "data": data,
            })
        };
        let argo = json!({ "registry": "ghcr.io", "repository": "team/app", "tag": "v1", "digest": new });
        assert_eq!(json_of(NotifyFormat::Flux), told);
        assert_eq!(json_of(NotifyFormat::CloudEvents), event(told));
        assert_eq!(json_of(NotifyFormat::ArgoCdImageUpdater), event(argo));
        assert_eq!(
            json_of(NotifyFormat::Keel),
            json!({ "name": "ghcr.io/team/app", "tag": "v1", "digest": new })
        );
    }

    #[test]
    fn what_a_form_has_no_words_for_is_not_sent() {
        let event = Event { tag: None, new: None, ..moved().event.clone() };
        let failed = Happening::of("ghcr.io/team/app".parse().unwrap(), event);
        for format in NotifyFormat::ALL {
            let has_words = matches!(format, NotifyFormat::CloudEvents | NotifyFormat::Flux);
            assert_eq!(Payload::of(&failed, format).is_some(), has_words, "{format:?}");
        }
    }

    #[test]
    fn signatures_are_those_that_receivers_compute() {
        // RFC 4231, test case 2.
        let known = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature("Jefe", b"what do ya want for nothing?"), known);
        let payload = Payload::of(&moved(), NotifyFormat::Flux).unwrap();
        let headers = payload.headers(NotifyFormat::Flux, Some("s3cret"), 1_795_000_000);
        assert_eq!(headers["x-signature"], signature("s3cret", &payload.body));
        let timed = [b"1795000000.", &payload.body[..]].concat();
        assert_eq!(headers["x-samovar-signature"], signature("s3cret", &timed));
        assert_eq!(headers["x-samovar-delivery"], "ghcr.io/team/app@17.9");
        assert!(!payload.headers(NotifyFormat::Flux, None, 0).contains_key("x-signature"));
    }

    #[test]
    fn a_secret_that_is_sent_along_is_not_shown() {
        for (format, header, sent) in [
            (NotifyFormat::Keel, "authorization", "Bearer hunter2"),
            (NotifyFormat::ArgoCdImageUpdater, "x-webhook-secret", "hunter2"),
        ] {
            let headers = Payload::of(&moved(), format).unwrap().headers(format, Some("hunter2"), 0);
            assert_eq!(headers[header], sent);
            assert!(!format!("{headers:?}").contains("hunter2"));
        }
    }
}
