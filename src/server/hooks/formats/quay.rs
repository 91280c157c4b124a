//! Quay: <https://docs.projectquay.io/use_quay.html#repository-events>.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::server::hooks::formats::Delivery;
use crate::server::hooks::hint::{MOST_ELEMENTS, Malformed, Told, object};

#[derive(Deserialize)]
struct Payload {
    docker_url: Option<String>,
    #[serde(default)]
    updated_tags: Tags,
}

/// A list; in older versions an object of tags and their digests.
#[derive(Default)]
struct Tags(Vec<String>);

pub(super) fn decode(delivery: &Delivery<'_>, told: &mut Told<'_>) -> Result<(), Malformed> {
    let Payload { docker_url, updated_tags: Tags(tags) } = object(delivery.body)?;
    for tag in tags {
        match docker_url.as_deref().and_then(|url| url.split_once('/')) {
            Some((host, path)) => told.image(Some(host), path, Some(&tag), false),
            None => told.unreadable_one(),
        }
    }
    Ok(())
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TagsVisitor)
    }
}

struct TagsVisitor;

impl TagsVisitor {
    fn add<E: serde::de::Error>(tags: &mut Vec<String>, tag: String) -> Result<(), E> {
        if tags.len() == MOST_ELEMENTS {
            return Err(E::custom(format!("there are more than {MOST_ELEMENTS} tags")));
        }
        tags.push(tag);
        Ok(())
    }
}

impl<'de> Visitor<'de> for TagsVisitor {
    type Value = Tags;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tags, or an object with them for keys")
    }

    fn visit_unit<E>(self) -> Result<Tags, E> {
        Ok(Tags::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tags, A::Error> {
        let mut tags = Vec::new();
        while let Some(tag) = list.next_element()? {
            Self::add(&mut tags, tag)?;
        }
        Ok(Tags(tags))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tags, A::Error> {
        let mut tags = Vec::new();
        while let Some((tag, IgnoredAny)) = map.next_entry()? {
            Self::add(&mut tags, tag)?;
        }
        Ok(Tags(tags))
    }
}
