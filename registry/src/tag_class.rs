//! What a tag's name tells of what is behind it.
//!
//! Names are customs, not promises: only what is told of [`Companion`]s, whose names nobody gives to an image, may stand
//! in place of a look at the manifest.

use crate::Tag;

/// Words that stand for whatever is newest: tags that are moved on from build to build.
const FLOATING: [&str; 20] = [
    "latest",
    "stable",
    "edge",
    "nightly",
    "main",
    "master",
    "trunk",
    "head",
    "dev",
    "develop",
    "development",
    "canary",
    "next",
    "rolling",
    "current",
    "lts",
    "mainline",
    "testing",
    "unstable",
    "snapshot",
];
/// Before the abbreviated commit in tags such as `sha-1a2b3c4`.
const BEFORE_COMMIT: [&str; 3] = ["sha-", "git-", "commit-"];
/// The shortest abbreviation of a commit, in digits.
const SHORTEST_COMMIT: usize = 7;
/// The length of a whole commit, in digits.
const COMMIT: usize = 40;
/// Digits of a digest in the name of a companion: all of a sha256, the first ones of anything longer (OCI
/// distribution-spec, "Referrers Tag Schema").
const DIGEST: usize = 64;
/// A longer number is a date or a count of builds rather than part of a version.
pub(crate) const VERSION_PART_DIGITS: usize = 5;

/// What kind of name a tag has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TagClass {
    /// `latest`, `edge`, `stable-alpine`: moved on from build to build.
    Floating,
    /// A version down to the patch, such as `1.2.3` or `v1.2.3-rc.1`: rarely moved.
    Version,
    /// A version that leaves something open, such as `1`, `v1.2` or `3.12-alpine`: moved with every release below it.
    PartialVersion,
    /// A commit or a digest, such as `sha-1a2b3c4` or 40 hexadecimal digits: never moved.
    Digest,
    /// Something that is kept beside an image and named after its digest.
    Companion(Companion),
    /// Anything else.
    Other,
}

/// What is kept beside an image under a tag that is made from the image's digest, in registries without an API for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Companion {
    /// `sha256-….sig`, as cosign writes it.
    Signature,
    /// `sha256-….att`, as cosign writes it.
    Attestation,
    /// `sha256-….sbom`, as cosign writes it.
    Sbom,
    /// `sha256-…`: the index of all that refers to the image (OCI distribution-spec, "Referrers Tag Schema").
    Referrers,
}

impl Companion {
    /// What it is, in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signature => "a cosign signature",
            Self::Attestation => "a cosign attestation",
            Self::Sbom => "an SBOM (cosign)",
            Self::Referrers => "an index of referrers",
        }
    }

    fn of(tag: &str) -> Option<Self> {
        let (algorithm, rest) = tag.split_once('-')?;
        let (digits, suffix) = rest.split_at_checked(DIGEST)?;
        if !matches!(algorithm, "sha256" | "sha512") || !is_hexadecimal(digits) {
            return None;
        }
        match suffix {
            "" => Some(Self::Referrers),
            ".sig" => Some(Self::Signature),
            ".att" => Some(Self::Attestation),
            ".sbom" => Some(Self::Sbom),
            // Others name images in this way, when they copy by digest.
            _ => None,
        }
    }
}

impl Tag {
    /// What kind of name this is.
    pub fn class(&self) -> TagClass {
        let text = self.as_str();
        if let Some(companion) = Companion::of(text) {
            return TagClass::Companion(companion);
        }
        if is_digest(text) {
            return TagClass::Digest;
        }
        version(text).unwrap_or(if is_floating(text) { TagClass::Floating } else { TagClass::Other })
    }
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether this is a commit, perhaps abbreviated, or a digest.
pub(crate) fn is_digest(text: &str) -> bool {
    if matches!(text.len(), COMMIT | DIGEST) && is_hexadecimal(text) {
        return true;
    }
    let named = BEFORE_COMMIT.iter().find_map(|before| text.strip_prefix(before));
    let digits = named.unwrap_or(text);
    // Without a word before them, digits alone may be a date, and letters alone a word.
    let is_mixed = digits.bytes().any(|byte| byte.is_ascii_digit())
        && digits.bytes().any(|byte| byte.is_ascii_lowercase());
    (SHORTEST_COMMIT..=COMMIT).contains(&digits.len())
        && is_hexadecimal(digits)
        && (named.is_some() || is_mixed)
}

/// The numbers, of any length, that a version begins with, such as `1.2.3`, and what follows them; `None`: it is no version.
pub(crate) fn numbers_of_version(text: &str) -> Option<(&str, &str)> {
    let numbers_end = |byte: u8| !byte.is_ascii_digit() && byte != b'.';
    let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
    let (numbers, rest) = text.split_at(text.bytes().position(numbers_end).unwrap_or(text.len()));
    numbers.split('.').all(|part| !part.is_empty()).then_some((numbers, rest))
}

fn version(text: &str) -> Option<TagClass> {
    let (numbers, suffix) = numbers_of_version(text)?;
    if numbers.split('.').any(|part| part.len() > VERSION_PART_DIGITS) {
        return None;
    }
    if !(suffix.is_empty() || suffix.starts_with(['-', '_'])) {
        return None;
    }
    let parts = numbers.split('.').count();
    if parts >= 3 {
        return Some(TagClass::Version);
    }
    // `2024-01-02` is a date.
    let goes_on_with_a_digit =
        suffix.get(1..).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    (!goes_on_with_a_digit).then_some(TagClass::PartialVersion)
}

/// A word for the newest, alone or with other words behind it; with digits it may name one build.
fn is_floating(text: &str) -> bool {
    let word = text.split(['-', '_', '.']).next().unwrap_or_default();
    FLOATING.iter().any(|floating| word.eq_ignore_ascii_case(floating))
        && !text.bytes().any(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Digest;

    fn class(text: &str) -> TagClass {
        text.parse::<Tag>().unwrap().class()
    }

    #[test]
    fn names_in_use() {
        for (class_, tags) in [
            (TagClass::Floating, &["latest", "Latest", "edge", "stable-alpine", "main", "nightly_slim"][..]),
            (
                TagClass::Version,
                &["1.2.3", "v1.2.3", "1.2.3-rc.1", "1.25.3-alpine3.18", "1.2.3_build", "10.0.19041.1"],
            ),
            (TagClass::PartialVersion, &["1", "v2", "1.2", "24.04", "3.12-alpine", "17-jdk"]),
            (
                TagClass::Digest,
                &["sha-1a2b3c4", "git-1234567", "1a2b3c4d", "f00ba12", &"7".repeat(40), &"a".repeat(64)],
            ),
            (
                TagClass::Other,
                &[
                    "20240102",
                    "2024-01-02",
                    "nightly-20240102",
                    "deadbeef",
                    "1a2b3c",
                    "app",
                    "1..2",
                    "1.2.",
                    "v",
                    "1x",
                ],
            ),
        ] {
            for tag in tags {
                assert_eq!(class(tag), class_, "{tag}");
            }
        }
    }

    #[test]
    fn companions_are_named_after_a_digest() {
        let digest = Digest::sha256(b"tea").hex();
        for (suffix, companion) in [
            ("", Companion::Referrers),
            (".sig", Companion::Signature),
            (".att", Companion::Attestation),
            (".sbom", Companion::Sbom),
        ] {
            assert_eq!(class(&format!("sha256-{digest}{suffix}")), TagClass::Companion(companion));
        }
        let longer = &Digest::sha512(b"tea").hex()[..64];
        assert_eq!(class(&format!("sha512-{longer}")), TagClass::Companion(Companion::Referrers));
        for image in [
            format!("sha256-{digest}.imgpkg"),
            format!("sha256-{}.sig", &digest[1..]),
            format!("sha256-{}.sig", digest.to_uppercase()),
            format!("sha1-{digest}.sig"),
            format!("x-sha256-{digest}.sig"),
            format!("sha256-{digest}0"),
        ] {
            assert!(!matches!(class(&image), TagClass::Companion(_)), "{image}");
        }
    }

    proptest! {
        #[test]
        fn every_tag_has_a_class_and_only_names_made_from_digests_are_companions(
            text in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,100}",
        ) {
            prop_assert!(!matches!(class(&text), TagClass::Companion(_)), "{}", text);
        }

        #[test]
        fn every_version_down_to_the_patch_is_one(
            v in "v?", parts in proptest::collection::vec(0_u32..99_999, 1..4), suffix in "(-[a-z][a-z0-9.]{0,5})?",
        ) {
            let numbers: Vec<String> = parts.iter().map(ToString::to_string).collect();
            let whole = if parts.len() == 3 { TagClass::Version } else { TagClass::PartialVersion };
            prop_assert_eq!(class(&format!("{v}{}{suffix}", numbers.join("."))), whole);
        }

        #[test]
        fn what_is_named_after_any_content_is_its_companion(content in any::<Vec<u8>>(), suffix in "(|\\.sig|\\.att|\\.sbom)") {
            let tag = format!("sha256-{}{suffix}", Digest::sha256(&content).hex());
            prop_assert!(matches!(class(&tag), TagClass::Companion(_)));
        }
    }
}
