//! What a path asks for. Pure.
//!
//! Repositories have slashes in their names, and parts that read like the protocol's own words: paths are read from the
//! right. Slashes, colons and `@` may be percent-encoded.

use std::borrow::Cow;

use samovar_registry::{Digest, Tag};

use crate::percent;

/// A path of the distribution protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path<'a> {
    /// What stands before `/v2/`: the registry that is meant.
    pub upstream: Option<Cow<'a, str>>,
    /// What is asked for.
    pub target: Target,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Whether this is a registry (end-1 of the distribution specification).
    Base,
    /// The repositories.
    Catalog,
    /// The tags of a repository (end-8).
    Tags(String),
    /// A manifest or an index (end-3).
    Manifest(String, String),
    /// A blob (end-2).
    Blob(String, String),
    /// What refers to a manifest (end-12).
    Referrers(String, String),
    /// Something that only those ask for who want to push.
    Upload(String),
    /// Nothing of the protocol.
    Nothing,
}

/// Why a path cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the path is percent-encoded in a way that cannot be read")]
pub struct Unreadable;

impl<'a> Path<'a> {
    /// Whether a path is one of the distribution protocol at all: `/v2…`, or the same behind one component.
    pub fn is_one(path: &str) -> bool {
        split(path).is_some()
    }

    /// Reads a path as it was sent.
    pub fn parse(path: &'a str) -> Result<Self, Unreadable> {
        let Some((upstream, below)) = split(path) else {
            return Ok(Self { upstream: None, target: Target::Nothing });
        };
        let decode = |text| percent::decode(text).ok_or(Unreadable);
        let upstream = upstream.map(decode).transpose()?;
        Ok(Self { upstream, target: Target::of(&decode(below)?) })
    }
}

/// The component before `/v2`, and what follows `/v2/`.
fn split(path: &str) -> Option<(Option<&str>, &str)> {
    let path = path.strip_prefix('/')?;
    if let Some(below) = below_v2(path) {
        return Some((None, below));
    }
    let (upstream, rest) = path.split_once('/').filter(|(upstream, _)| !upstream.is_empty())?;
    Some((Some(upstream), below_v2(rest)?))
}

fn below_v2(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("v2")?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

impl Target {
    fn of(below: &str) -> Self {
        if below.is_empty() {
            return Self::Base;
        }
        if below == "_catalog" {
            return Self::Catalog;
        }
        if let Some(name) = below.strip_suffix("/tags/list") {
            return Self::Tags(name.to_owned());
        }
        let Some((rest, last)) = below.rsplit_once('/') else { return Self::Nothing };
        let Some((name, word)) = rest.rsplit_once('/') else { return Self::Nothing };
        let (repository, last) = (name.to_owned(), last.to_owned());
        match word {
            "manifests" => Self::Manifest(repository, last),
            "blobs" if last == "uploads" => Self::Upload(repository),
            "blobs" => Self::Blob(repository, last),
            "referrers" => Self::Referrers(repository, last),
            "uploads" => {
                name.strip_suffix("/blobs").map_or(Self::Nothing, |name| Self::Upload(name.to_owned()))
            }
            _ => Self::Nothing,
        }
    }
}

/// How a manifest is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestReference {
    /// By tag.
    Tag(Tag),
    /// By digest; a tag before it, as some write it, adds nothing.
    Digest(Digest),
}

impl ManifestReference {
    /// Reads `TAG`, `DIGEST` or `TAG@DIGEST`.
    pub fn parse(text: &str) -> Result<Self, NotAReference> {
        let digest = match text.split_once('@') {
            Some((_, digest)) => Some(digest),
            None => text.contains(':').then_some(text),
        };
        match digest {
            Some(digest) => digest
                .parse()
                .map(Self::Digest)
                .map_err(|error: samovar_registry::ParseError| NotAReference::Digest(error.to_string())),
            None => text
                .parse()
                .map(Self::Tag)
                .map_err(|error: samovar_registry::ParseError| NotAReference::Tag(error.to_string())),
        }
    }
}

/// Why a manifest cannot be named like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAReference {
    /// No repository can have such a tag.
    #[error("{0}")]
    Tag(String),
    /// It is no digest.
    #[error("{0}")]
    Digest(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(path: &str) -> Target {
        let Path { upstream, target } = Path::parse(path).unwrap();
        assert_eq!(upstream, None, "{path}");
        target
    }

    fn tags(name: &str) -> Target {
        Target::Tags(name.to_owned())
    }

    fn manifest(name: &str, reference: &str) -> Target {
        Target::Manifest(name.to_owned(), reference.to_owned())
    }

    #[test]
    fn paths_are_read_from_the_right() {
        assert_eq!(target("/v2"), Target::Base);
        assert_eq!(target("/v2/"), Target::Base);
        assert_eq!(target("/v2/_catalog"), Target::Catalog);
        assert_eq!(target("/v2/a/tags/list"), tags("a"));
        assert_eq!(target("/v2/team/tags/list/tags/list"), tags("team/tags/list"));
        assert_eq!(target("/v2/a/manifests/manifests/v1"), manifest("a/manifests", "v1"));
        assert_eq!(
            target("/v2/127.0.0.1:5000/a/b/manifests/sha256:ab"),
            manifest("127.0.0.1:5000/a/b", "sha256:ab")
        );
        assert_eq!(
            target("/v2/[::1]:5000/a/manifests/v1@sha256:ab"),
            manifest("[::1]:5000/a", "v1@sha256:ab")
        );
        assert_eq!(target("/v2/a/blobs/sha256:ab"), Target::Blob("a".into(), "sha256:ab".into()));
        assert_eq!(
            target("/v2/v2/a/referrers/sha256:ab"),
            Target::Referrers("v2/a".into(), "sha256:ab".into())
        );
        for upload in ["/v2/a/blobs/uploads", "/v2/a/blobs/uploads/", "/v2/a/blobs/uploads/session"] {
            assert_eq!(target(upload), Target::Upload("a".into()), "{upload}");
        }
        for nothing in
            ["/v2/tags/list", "/v2/a", "/v2/a/b/c", "/v2/_oci/ext/discover", "/v2/a/tags/list/", "/"]
        {
            assert_eq!(target(nothing), Target::Nothing, "{nothing}");
        }
    }

    #[test]
    fn encoded_characters_are_as_good_as_raw_ones() {
        assert_eq!(
            target("/v2/127.0.0.1%3a5000%2Fa/manifests/sha256%3Aab"),
            manifest("127.0.0.1:5000/a", "sha256:ab")
        );
        assert_eq!(target("/v2/a%2Ftags%2Flist"), tags("a"));
        for bad in ["/v2/a%", "/v2/a%2", "/v2/a%zz/tags/list", "/v2/%ff/tags/list", "/v2/a%+1b/tags/list"] {
            assert_eq!(Path::parse(bad), Err(Unreadable), "{bad}");
        }
    }

    #[test]
    fn the_registry_may_stand_before_it() {
        let parsed = |path| Path::parse(path).unwrap();
        let behind =
            |upstream: &'static str, target| Path { upstream: Some(Cow::Borrowed(upstream)), target };
        assert_eq!(parsed("/docker.io/v2/"), behind("docker.io", Target::Base));
        assert_eq!(parsed("/docker.io/v2"), behind("docker.io", Target::Base));
        assert_eq!(parsed("/up/v2/team/app/tags/list"), behind("up", tags("team/app")));
        assert_eq!(parsed("/127.0.0.1%3A5000/v2/a/tags/list").upstream.as_deref(), Some("127.0.0.1:5000"));
        for other in
            ["/v2x/a", "/up/v2x/a", "/up/more/v2/a/tags/list", "//v2/a/tags/list", "/api/v1/status", "v2"]
        {
            assert!(!Path::is_one(other), "{other}");
        }
    }

    #[test]
    fn manifests_are_named_by_tag_or_digest() {
        let digest = Digest::sha256(b"");
        let by_digest = ManifestReference::Digest(digest.clone());
        assert_eq!(ManifestReference::parse(&digest.to_string()), Ok(by_digest.clone()));
        assert_eq!(ManifestReference::parse(&format!("v1@{digest}")), Ok(by_digest));
        assert_eq!(ManifestReference::parse("v1"), Ok(ManifestReference::Tag("v1".parse().unwrap())));
        assert!(matches!(ManifestReference::parse(".none"), Err(NotAReference::Tag(_))));
        for bad in ["sha256:ab", "sha384:ab", "v1@", "a:b"] {
            assert!(matches!(ManifestReference::parse(bad), Err(NotAReference::Digest(_))), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_is_understood_as_it_was_meant(
            name in "[a-z0-9/:@._-]{1,40}", last in "[a-zA-Z0-9:@._-]{1,80}",
        ) {
            prop_assert_eq!(Target::of(&format!("{name}/manifests/{last}")), manifest(&name, &last));
            prop_assert_eq!(Target::of(&format!("{name}/tags/list")), tags(&name));
        }

        #[test]
        fn any_path_is_read_or_refused_and_encoding_makes_no_difference(path in "/(v2|up/v2)/[ -$&-~é]{0,60}") {
            let (v2, below) = path.split_at(path.find("v2/").unwrap() + 3);
            let encoded = below.bytes().fold(v2.to_owned(), |before, byte| format!("{before}%{byte:02X}"));
            prop_assert!(Path::is_one(&path));
            prop_assert_eq!(Path::parse(&path), Path::parse(&encoded));
        }
    }
}
