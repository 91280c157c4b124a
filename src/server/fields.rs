//! `fields=`: the parts of a repository that a client wants, so that nobody pays for what they do not read.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::cache::load::Pages;

/// Some of the fields of a repository. Its name is always there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fields(u8);

impl Fields {
    pub(super) const TAGS: Self = Self(1);
    pub(super) const IMAGES: Self = Self(1 << 1);
    pub(super) const UNAVAILABLE: Self = Self(1 << 2);
    pub(super) const COMPLETE: Self = Self(1 << 3);
    pub(super) const GENERATION: Self = Self(1 << 4);
    pub(super) const LAST_UPDATE: Self = Self(1 << 5);
    pub(super) const LAST_ERROR: Self = Self(1 << 6);
    pub(super) const ALL: Self = Self((1 << 7) - 1);

    const NAMED: [(&str, Self); 8] = [
        ("name", Self(0)),
        ("tags", Self::TAGS),
        ("images", Self::IMAGES),
        ("unavailable", Self::UNAVAILABLE),
        ("complete", Self::COMPLETE),
        ("generation", Self::GENERATION),
        ("last_update", Self::LAST_UPDATE),
        ("last_error", Self::LAST_ERROR),
    ];

    /// Reads names that are separated by commas.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut fields = 0;
        for name in text.split(',') {
            let Some((_, field)) = Self::NAMED.iter().find(|(known, _)| *known == name) else {
                let known: Vec<&str> = Self::NAMED.iter().map(|(known, _)| *known).collect();
                return Err(format!("fields: {name:?} is none; there are {}", known.join(", ")));
            };
            fields |= field.0;
        }
        Ok(Self(fields))
    }

    /// As a parameter of a query.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }

    pub(super) fn all() -> Self {
        Self::ALL
    }

    /// Whether any of these is wanted.
    pub(super) fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    /// `value`, if this field is wanted.
    pub(super) fn take<T>(self, field: Self, value: impl FnOnce() -> T) -> Option<T> {
        self.has(field).then(value)
    }

    /// What has to be read to answer them.
    pub(super) fn pages(self) -> Pages<'static> {
        let of_tags = Self(Self::TAGS.0 | Self::IMAGES.0 | Self::UNAVAILABLE.0);
        if self.has(of_tags) { Pages::All } else { Pages::None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_named_and_nothing_else() {
        assert_eq!(Fields::read("tags").unwrap(), Fields::TAGS);
        assert_eq!(Fields::read("name").unwrap(), Fields(0));
        let all = Fields::read("name,tags,images,unavailable,complete,generation,last_update,last_error");
        assert_eq!(all.unwrap(), Fields::ALL);
        assert_eq!(Fields::read("tags,tags,complete").unwrap(), Fields::read("complete,tags").unwrap());
        for bad in ["", ",", "tags,", "Tags", " tags", "tags, images", "digest", "tags;images", "*"] {
            assert!(Fields::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_are_read_only_where_something_of_them_is_wanted() {
        for (fields, reads) in
            [("name", false), ("complete,generation,last_update,last_error", false), ("complete,tags", true)]
        {
            assert_eq!(matches!(Fields::read(fields).unwrap().pages(), Pages::All), reads, "{fields}");
        }
    }
}
