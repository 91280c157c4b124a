//! Versions as tags write them.

use semver::{BuildMetadata, Prerelease, Version};

/// A lone number with more digits is a date, a count of builds or a commit rather than a version.
const LONE_NUMBER_DIGITS: usize = 5;

/// How exactly a tag has to be written to be taken for a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strictness {
    /// Also what leaves parts open, which are 0 then, or has leading zeros: `1.2`, `v3`, `24.04`. A lone number may have five
    /// digits, so that `20240131` is no version.
    #[default]
    Partial,
    /// `1.2.3` and `v1.2.3`: what Flux takes.
    Full,
    /// Only what [SemVer 2.0.0](https://semver.org) calls a version: `1.2.3`.
    Strict,
}

/// A version, and whether it was written in full. Of equal ones, that is the greater.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TagVersion {
    pub(super) version: Version,
    pub(super) in_full: bool,
}

impl TagVersion {
    /// Reads a tag, or what was extracted from it. `None`: it is no version.
    pub(super) fn read(text: &str, strictness: Strictness) -> Option<Self> {
        let digits = match strictness {
            Strictness::Strict => text,
            Strictness::Full | Strictness::Partial => text.strip_prefix('v').unwrap_or(text),
        };
        if let Ok(version) = Version::parse(digits) {
            return Some(Self { version, in_full: true });
        }
        let version = if strictness == Strictness::Partial { completed(digits)? } else { return None };
        Some(Self { version, in_full: false })
    }
}

/// The version with what it leaves open filled in.
fn completed(text: &str) -> Option<Version> {
    let numbers_end =
        text.bytes().position(|byte| !byte.is_ascii_digit() && byte != b'.').unwrap_or(text.len());
    let (numbers, rest) = text.split_at(numbers_end);
    if !numbers.contains('.') && numbers.len() > LONE_NUMBER_DIGITS {
        return None;
    }
    let mut parts = numbers.split('.').map(|part| part.parse().ok());
    let major = parts.next()??;
    let [minor, patch] = [parts.next().unwrap_or(Some(0))?, parts.next().unwrap_or(Some(0))?];
    if parts.next().is_some() {
        return None;
    }
    let (pre, build) = rest.split_once('+').map_or((rest, None), |(pre, build)| (pre, Some(build)));
    let pre = match pre.strip_prefix('-') {
        Some("") => return None,
        Some(pre) => Prerelease::new(pre).ok()?,
        None if pre.is_empty() => Prerelease::EMPTY,
        None => return None,
    };
    let build = match build {
        Some("") => return None,
        Some(build) => BuildMetadata::new(build).ok()?,
        None => BuildMetadata::EMPTY,
    };
    Some(Version { major, minor, patch, pre, build })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str, strictness: Strictness) -> Option<String> {
        TagVersion::read(text, strictness).map(|read| read.version.to_string())
    }

    #[test]
    fn each_strictness_takes_what_it_says() {
        use Strictness::{Full, Partial, Strict};
        for (text, version, strictest) in [
            ("1.2.3", "1.2.3", Strict),
            ("1.2.3-rc.1", "1.2.3-rc.1", Strict),
            ("1.2.3-rc.1+5", "1.2.3-rc.1+5", Strict),
            ("0.0.0", "0.0.0", Strict),
            ("v1.2.3", "1.2.3", Full),
            ("v1.2.3-alpine3.20", "1.2.3-alpine3.20", Full),
            ("1", "1.0.0", Partial),
            ("v1", "1.0.0", Partial),
            ("1.2", "1.2.0", Partial),
            ("1.2-rc1", "1.2.0-rc1", Partial),
            ("1.2+7", "1.2.0+7", Partial),
            ("24.04", "24.4.0", Partial),
            ("2024.01.05", "2024.1.5", Partial),
            ("12345", "12345.0.0", Partial),
        ] {
            let expected = |asked: Strictness| {
                let takes = match strictest {
                    Strict => true,
                    Full => asked != Strict,
                    Partial => asked == Partial,
                };
                takes.then(|| version.to_owned())
            };
            for asked in [Strict, Full, Partial] {
                assert_eq!(read(text, asked), expected(asked), "{text} as {asked:?}");
            }
        }
    }

    #[test]
    fn what_is_no_version_is_none_however_lenient() {
        for text in [
            "",
            "v",
            "vv1.2.3",
            "V1.2.3",
            "latest",
            "1.",
            ".1",
            "1..2",
            "1.2.3.4",
            "1.x",
            "1.2.3-",
            "1.2-",
            "1.2+",
            "1.2rc1",
            "1_2",
            " 1.2.3",
            "1.2.3 ",
            "-1",
            "+1",
            "1.2-r\u{e9}",
            "123456",
            "20240131",
            "20240131-rc1",
            "99999999999999999999",
            "1.99999999999999999999",
        ] {
            assert_eq!(read(text, Strictness::Partial), None, "{text:?}");
        }
    }

    #[test]
    fn of_equal_versions_the_one_in_full_is_the_greater() {
        let version = |text| TagVersion::read(text, Strictness::Partial).unwrap();
        assert!(version("1.2.0") > version("1.2") && version("1.2") < version("v1.2.0"));
        assert!(version("1.2") < version("1.2.1") && version("1.2.0-rc1") < version("1.2"));
    }

    proptest! {
        #[test]
        fn parts_that_are_left_open_are_zero(major in 0..100_000_u64, minor: u64, patch: u64, v in "v?") {
            let read = |text: String| TagVersion::read(&text, Strictness::Partial).map(|read| read.version);
            prop_assert_eq!(read(format!("{v}{major}")), Some(Version::new(major, 0, 0)));
            prop_assert_eq!(read(format!("{v}{major}.{minor}")), Some(Version::new(major, minor, 0)));
            prop_assert_eq!(read(format!("{v}{major}.0{minor}.{patch}")), Some(Version::new(major, minor, patch)));
        }

        #[test]
        fn anything_is_read_or_refused(text in "\\PC{0,40}|v?[0-9.]{0,12}[-+]?[0-9a-z.+-]{0,12}") {
            let [strict, full, partial] = [Strictness::Strict, Strictness::Full, Strictness::Partial]
                .map(|strictness| TagVersion::read(&text, strictness));
            prop_assert!(strict.is_none() || strict == full);
            prop_assert!(full.is_none() || full == partial);
            prop_assert_eq!(strict.map(|read| read.version), Version::parse(&text).ok());
        }
    }
}
