//! Decoding the array of tags on a page: what is a tag, what is not, and no more of them than a list may have.
//!
//! Entries are checked as they are read, so that a page of millions of tiny entries costs no more than its bytes.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use crate::Tag;
use crate::json::IfText;

/// How many tags one list may have, invalid ones and repetitions included.
pub(super) const MAX_TAGS: usize = 1_000_000;

/// The `tags` of one page; null counts as none.
#[derive(Debug, Default)]
pub(super) struct ListedTags {
    pub(super) valid: Vec<Tag>,
    pub(super) invalid: usize,
}

impl ListedTags {
    pub(super) fn len(&self) -> usize {
        self.valid.len() + self.invalid
    }
}

impl<'de> Deserialize<'de> for ListedTags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor)
    }
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = ListedTags;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of tags or null")
    }

    fn visit_unit<E>(self) -> Result<ListedTags, E> {
        Ok(ListedTags::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<ListedTags, A::Error> {
        let mut listed = ListedTags::default();
        while let Some(IfText(tag)) = entries.next_element()? {
            match tag {
                Some(tag) => listed.valid.push(tag),
                None => listed.invalid += 1,
            }
            if listed.len() > MAX_TAGS {
                return Err(A::Error::custom(format_args!("more than {MAX_TAGS} tags")));
            }
        }
        Ok(listed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_may_stand_among_tags() {
        let text = r#"["a","",null,true,1,-1,1.5,["x",["y"]],{"a":{"b":[]}},"b","a","caf\u00e9"]"#;
        let listed: ListedTags = serde_json::from_str(text).unwrap();
        assert_eq!(listed.valid.iter().map(Tag::as_str).collect::<Vec<_>>(), ["a", "b", "a"]);
        assert_eq!((listed.invalid, listed.len()), (9, 12));
    }

    #[test]
    fn null_is_none_and_other_things_are_errors() {
        assert_eq!(serde_json::from_str::<ListedTags>("null").unwrap().len(), 0);
        for text in [r#""a""#, "{}", "1", "[1", r#"["a",{"b"}]"#] {
            assert!(serde_json::from_str::<ListedTags>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn there_is_an_end() {
        let most = format!("[{}0]", "0,".repeat(MAX_TAGS - 1));
        assert_eq!(serde_json::from_str::<ListedTags>(&most).unwrap().invalid, MAX_TAGS);
        let more = format!("[{}0]", "0,".repeat(MAX_TAGS));
        let error = serde_json::from_str::<ListedTags>(&more).unwrap_err();
        assert!(error.to_string().starts_with("more than 1000000 tags"), "{error}");
    }
}
