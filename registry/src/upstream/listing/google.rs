//! The lists of Google's registries: `manifest`, beside `tags`, tells of every digest when it was pushed and which tags
//! point at it.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::{HintSource, TagHint};
use crate::json::IfText;
use crate::upstream::listed_tags::{ListedTags, MAX_TAGS};
use crate::{Digest, Tag};

/// What the map says of the tags of one page. An image may be said to be of the year 1970 where nothing is known.
#[derive(Debug, Default)]
pub(in crate::upstream) struct ManifestMap(pub(in crate::upstream) BTreeMap<Tag, TagHint>);

#[derive(Deserialize)]
struct Entry {
    tag: ListedTags,
    #[serde(rename = "timeUploadedMs")]
    uploaded: IfText<i64>,
}

impl<'de> Deserialize<'de> for ManifestMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ManifestMapVisitor)
    }
}

struct ManifestMapVisitor;

impl<'de> Visitor<'de> for ManifestMapVisitor {
    type Value = ManifestMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of manifests by digest")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<ManifestMap, A::Error> {
        let mut hints = BTreeMap::new();
        while let Some((IfText(digest), Entry { tag, uploaded })) =
            entries.next_entry::<IfText<Digest>, Entry>()?
        {
            let pushed_at = uploaded.0.filter(|millisecond| *millisecond > 0);
            let pushed_at = pushed_at.and_then(|millisecond| Timestamp::from_millisecond(millisecond).ok());
            for tag in tag.valid {
                let hint = TagHint { digest: digest.clone(), pushed_at, source: HintSource::Google };
                if hints.insert(tag, hint).is_some() {
                    return Err(A::Error::custom("a tag that points at two manifests"));
                }
                if hints.len() > MAX_TAGS {
                    return Err(A::Error::custom(format_args!("more than {MAX_TAGS} tags")));
                }
            }
        }
        Ok(ManifestMap(hints))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_is_told_its_digest_and_when_it_was_pushed() {
        let (one, other) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
        let text = format!(
            r#"{{"{one}":{{"imageSizeBytes":"7","mediaType":"x","tag":["a","b"],"timeCreatedMs":"0","timeUploadedMs":"1700000000123"}},
                "{other}":{{"tag":["c","no tag"],"timeUploadedMs":"0"}},"{}":{{"tag":[],"timeUploadedMs":"1"}}}}"#,
            Digest::sha256(b"3")
        );
        let hints = serde_json::from_str::<ManifestMap>(&text).unwrap().0;
        let told: Vec<_> = hints
            .iter()
            .map(|(tag, hint)| {
                (tag.as_str(), hint.digest.clone(), hint.pushed_at.map(Timestamp::as_millisecond))
            })
            .collect();
        let expected = [
            ("a", Some(one.clone()), Some(1_700_000_000_123)),
            ("b", Some(one), Some(1_700_000_000_123)),
            ("c", Some(other), None),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_otherwise_is_no_such_map() {
        for text in [
            "[]",
            "7",
            r#"{"sha256:x":7}"#,
            r#"{"sha256:x":{"tag":"a","timeUploadedMs":"1"}}"#,
            r#"{"sha256:x":{"tag":["a"]}}"#,
            r#"{"x":{"tag":["a"],"timeUploadedMs":"1"},"y":{"tag":["a"],"timeUploadedMs":"1"}}"#,
        ] {
            assert!(serde_json::from_str::<ManifestMap>(text).is_err(), "{text}");
        }
    }
}
