//! Tags and references: what points at one image of a repository.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::parse::{Fault, ParseError, ReferenceParts, serde_as_string};
use crate::{Aliases, Digest, Name};

/// Longest tag, in bytes (OCI distribution-spec, "Pulling manifests").
const MAX_TAG_LENGTH: usize = 128;

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}` (OCI distribution-spec, "Pulling manifests"). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a tag that is a fragment of a larger text.
    fn from_fragment(text: &str) -> Result<Self, Fault> {
        let Some(&first) = text.as_bytes().first() else {
            return Err(Fault::new(0, "the tag is empty"));
        };
        if matches!(first, b'.' | b'-') {
            return Err(Fault::new(0, "a tag must begin with a letter, a digit or '_'"));
        }
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if let Some(offset) = text.bytes().position(|byte| !is_allowed(byte)) {
            return Err(Fault::new(offset, "a tag may hold only letters, digits, '.', '_' and '-'"));
        }
        if text.len() > MAX_TAG_LENGTH {
            return Err(Fault::new(MAX_TAG_LENGTH, "a tag must not be longer than 128 bytes"));
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for Tag {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::from_fragment(text).map_err(|fault| fault.in_input("tag", text))
    }
}

impl TryFrom<&str> for Tag {
    type Error = ParseError;

    fn try_from(text: &str) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl TryFrom<String> for Tag {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl AsRef<str> for Tag {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Tag {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

serde_as_string!(Tag, "a tag");

/// A repository plus tag and/or digest, written `name[:tag][@digest]` with the canonical name.
///
/// Tag and digest together are both kept. With neither, it means the repository as a whole: no `latest` is
/// ever made up.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    name: Name,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl Reference {
    /// Puts a reference together.
    pub fn new(name: Name, tag: Option<Tag>, digest: Option<Digest>) -> Self {
        Self { name, tag, digest }
    }

    /// Reads any spelling of a reference, with `aliases` standing for hosts.
    pub fn parse(text: &str, aliases: &Aliases) -> Result<Self, ParseError> {
        Self::from_text(text, aliases).map_err(|fault| fault.in_input("image name", text))
    }

    fn from_text(text: &str, aliases: &Aliases) -> Result<Self, Fault> {
        let parts = ReferenceParts::split(text)?;
        let name = Name::from_fragment(parts.name, aliases)?;
        let tag = parts.tag.map(|tag| Tag::from_fragment(tag.text).map_err(|fault| fault.shifted(tag.start)));
        let digest = parts
            .digest
            .map(|digest| Digest::from_fragment(digest.text).map_err(|fault| fault.shifted(digest.start)));
        Ok(Self { name, tag: tag.transpose()?, digest: digest.transpose()? })
    }

    /// The repository.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The tag, where the reference has one.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The digest, where the reference has one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl FromStr for Reference {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text, &Aliases::default())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name.as_str())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_string!(Reference, "an image reference such as docker.io/library/alpine:3");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_the_grammar_are_kept_as_they_are() {
        for text in ["latest", "1", "_", "V1.2.3-rc.1_x", "a..b--c__d", &"x".repeat(MAX_TAG_LENGTH)] {
            assert_eq!(text.parse::<Tag>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn refused_tags_say_where() {
        for (text, offset, rule) in [
            ("", 0, "empty"),
            (".a", 0, "must begin"),
            ("-a", 0, "must begin"),
            ("a+b", 1, "may hold only"),
            ("a b", 1, "may hold only"),
            ("a/b", 1, "may hold only"),
            ("ä", 0, "may hold only"),
            (&"x".repeat(MAX_TAG_LENGTH + 1), MAX_TAG_LENGTH, "128 bytes"),
        ] {
            let error = Tag::try_from(text).unwrap_err();
            assert_eq!((error.what, error.offset), ("tag", offset), "{error}");
            assert!(error.rule.contains(rule), "{error}");
            assert_eq!(Tag::try_from(text.to_owned()).unwrap_err(), error);
        }
    }

    #[test]
    fn tag_and_digest_are_both_kept() {
        let digest = Digest::sha512(b"tea");
        let reference: Reference = format!("alpine:3@{digest}").parse().unwrap();
        assert_eq!(reference.name().as_str(), "docker.io/library/alpine");
        assert_eq!(reference.tag().map(Tag::as_str), Some("3"));
        assert_eq!(reference.digest(), Some(&digest));
        assert_eq!(reference.to_string(), format!("docker.io/library/alpine:3@{digest}"));

        let whole: Reference = "alpine".parse().unwrap();
        assert_eq!((whole.tag(), whole.digest()), (None, None));
        assert_eq!(whole, Reference::new("alpine".parse().unwrap(), None, None));
    }

    #[test]
    fn what_follows_a_lone_name_and_a_colon_is_a_tag() {
        let reference: Reference = "registry:5000".parse().unwrap();
        assert_eq!(reference.name().as_str(), "docker.io/library/registry");
        assert_eq!(reference.tag().map(Tag::as_str), Some("5000"));

        let reference: Reference = "registry:5000/foo".parse().unwrap();
        assert_eq!((reference.name().host(), reference.tag()), ("registry:5000", None));
    }

    #[test]
    fn refused_references_count_from_the_start_of_the_whole_input() {
        for (text, offset, rule) in [
            ("alpine:", 7, "the tag is empty"),
            ("alpine@", 7, "a digest is written"),
            ("@sha256:00", 0, "empty"),
            (":tag", 0, "empty"),
            ("alpine:a:b", 8, "a tag may hold only"),
            ("ghcr.io/a/b:-x", 12, "a tag must begin"),
            ("alpine:3@sha256:zz", 16, "a digest may hold only"),
            ("alpine:3@sha256:00@sha256:00", 18, "a digest may hold only"),
            ("alpine:3 ", 8, "white space"),
        ] {
            let error = text.parse::<Reference>().unwrap_err();
            assert_eq!((error.what, error.offset), ("image name", offset), "{error}");
            assert!(error.rule.contains(rule), "{error}");
        }
    }

    #[test]
    fn json_is_the_written_form_and_is_validated() {
        let reference: Reference = serde_json::from_str("\"alpine:3\"").unwrap();
        assert_eq!(serde_json::to_string(&reference).unwrap(), "\"docker.io/library/alpine:3\"");
        let error = serde_json::from_str::<Tag>("\"-\"").unwrap_err().to_string();
        assert!(error.starts_with("invalid tag \"-\" at offset 0"), "{error}");
    }
}
