//! What a registry recognises an unchanged answer by (RFC 9110, sections 8.8 and 13.1).

use std::time::Duration;

use http::header::{DATE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

/// A longer entity tag is not kept. Bytes.
const MAX_ENTITY_TAG_BYTES: usize = 256;

/// A time of modification tells only seconds: one that was as near as this when it was told may stand for two states
/// (RFC 9110, section 8.8.2.2).
const SETTLED_AFTER: Duration = Duration::from_mins(1);

/// The validator of an answer: the entity tag where there is one, else the time of its last modification.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(in crate::upstream) enum Validators {
    #[serde(rename = "etag")]
    EntityTag(String),
    /// As the registry wrote it: it is to be sent back so.
    #[serde(rename = "modified")]
    LastModified(String),
}

impl Validators {
    /// What the header of an answer gives.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = |name: HeaderName| headers.get(name)?.to_str().ok();
        if let Some(tag) = text(ETAG).map(str::trim) {
            let is_tag = tag.strip_prefix("W/").unwrap_or(tag).starts_with('"') && tag.ends_with('"');
            return (is_tag && tag.len() <= MAX_ENTITY_TAG_BYTES).then(|| Self::EntityTag(tag.to_owned()));
        }
        let (modified, sent) = (text(LAST_MODIFIED)?.trim(), text(DATE)?);
        let is_settled = instant(modified)? + SETTLED_AFTER <= instant(sent)?;
        is_settled.then(|| Self::LastModified(modified.to_owned()))
    }

    /// The header that asks for the answer only if it is another by now.
    pub(in crate::upstream) fn condition(&self) -> Option<(HeaderName, HeaderValue)> {
        let (name, value) = match self {
            Self::EntityTag(tag) => (IF_NONE_MATCH, tag),
            Self::LastModified(time) => (IF_MODIFIED_SINCE, time),
        };
        Some((name, HeaderValue::from_str(value).ok()?))
    }
}

fn instant(date: &str) -> Option<jiff::Timestamp> {
    Some(jiff::fmt::rfc2822::parse(date).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn condition(pairs: &[(&'static str, &str)]) -> Option<(String, String)> {
        let (name, value) = Validators::of(&headers(pairs))?.condition().unwrap();
        Some((name.to_string(), value.to_str().unwrap().to_owned()))
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    const OLD: &str = "Fri, 20 Nov 2026 10:00:00 GMT";
    const NOW: &str = "Fri, 20 Nov 2026 10:01:00 GMT";

    #[test]
    fn an_entity_tag_goes_before_a_time() {
        for tag in [r#""abc""#, r#"W/"abc""#, r#""""#] {
            let expected = pair("if-none-match", tag);
            assert_eq!(condition(&[("etag", tag), ("last-modified", OLD), ("date", NOW)]), Some(expected));
        }
        assert_eq!(condition(&[("last-modified", OLD), ("date", NOW)]), Some(pair("if-modified-since", OLD)));
    }

    #[test]
    fn what_cannot_be_relied_on_is_no_validator() {
        let long = format!(r#""{}""#, "x".repeat(MAX_ENTITY_TAG_BYTES));
        for headers in [
            &[][..],
            &[("etag", "abc")],
            &[("etag", long.as_str())],
            &[("last-modified", OLD)],
            // Within the minute it may have changed again.
            &[("last-modified", OLD), ("date", "Fri, 20 Nov 2026 10:00:59 GMT")],
            &[("last-modified", "yesterday"), ("date", NOW)],
        ] {
            assert_eq!(condition(headers), None, "{headers:?}");
        }
    }
}
