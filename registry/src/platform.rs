//! Platforms: which variants of an image are wanted, and which are offered.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::parse::{Fault, ParseError, serde_as_string};

/// Longest written platform, in bytes.
const MAX_PLATFORM_LENGTH: usize = 128;

/// What an image runs on, written `os/architecture[/variant]` with the words of the OCI image-spec (GOOS and
/// GOARCH).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// The operating system, such as `linux`.
    pub os: String,
    /// The processor architecture, such as `amd64`.
    pub architecture: String,
    /// The variant of the architecture, such as `v7`; in a wanted platform, `None` stands for any.
    pub variant: Option<String>,
}

impl Platform {
    /// Whether what is `offered` satisfies this wanted platform.
    ///
    /// A variant that is left out of the offer is the architecture's default one, so `arm64` and `arm64/v8` are
    /// the same offer, and so are `arm` and `arm/v7`.
    pub fn wants(&self, offered: &Self) -> bool {
        self.os == offered.os
            && self.architecture == offered.architecture
            && (self.variant.is_none() || self.effective_variant() == offered.effective_variant())
    }

    /// The variant without the `v` that some builders leave out, or the one that the architecture implies.
    fn effective_variant(&self) -> &str {
        match self.variant.as_deref() {
            Some(variant) if !variant.is_empty() => variant.strip_prefix('v').unwrap_or(variant),
            _ => match self.architecture.as_str() {
                "arm64" => "8",
                "arm" => "7",
                "amd64" => "1",
                _ => "",
            },
        }
    }

    /// A platform as documents write it, part by part; an empty variant is none. `None` for parts that could not
    /// be written as a platform.
    pub(crate) fn from_parts(os: &str, architecture: &str, variant: &str) -> Option<Self> {
        let parts = [os, architecture, variant];
        if parts.iter().any(|part| part.contains('/') || part.len() > MAX_PLATFORM_LENGTH) {
            return None;
        }
        let written = if variant.is_empty() { parts[..2].join("/") } else { parts.join("/") };
        written.parse().ok()
    }

    fn from_text(text: &str) -> Result<Self, Fault> {
        if text.len() > MAX_PLATFORM_LENGTH {
            return Err(Fault::new(MAX_PLATFORM_LENGTH, "a platform must not be longer than 128 bytes"));
        }
        let is_allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'/' | b'.' | b'-' | b'_')
        };
        if let Some(offset) = text.bytes().position(|byte| !is_allowed(byte)) {
            return Err(Fault::new(offset, "only lower-case letters, digits, '.', '-' and '_' are allowed"));
        }
        let mut start = 0;
        for part in text.split('/') {
            if part.is_empty() {
                return Err(Fault::new(start, "a part is empty: it is written os/architecture[/variant]"));
            }
            start += part.len() + 1;
        }
        let mut parts = text.splitn(3, '/').map(str::to_owned);
        let (Some(os), Some(architecture), variant) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Fault::new(text.len(), "the architecture is missing: write os/architecture"));
        };
        if let Some(slash) = variant.as_ref().and_then(|variant| variant.find('/')) {
            let offset = os.len() + architecture.len() + 2 + slash;
            return Err(Fault::new(offset, "there is more than os/architecture/variant"));
        }
        Ok(Self { os, architecture, variant })
    }
}

impl FromStr for Platform {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::from_text(text).map_err(|fault| fault.in_input("platform", text))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_string!(Platform, "a platform such as linux/amd64");

/// The platforms that are wanted, the most wanted first: never empty, none twice. Cheap to clone.
///
/// By default `linux/amd64`, then `linux/arm64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platforms(Arc<[Platform]>);

impl Platforms {
    /// The platforms in the order given, repetitions dropped; `None` where there are none.
    pub fn new(wanted: Vec<Platform>) -> Option<Self> {
        let mut distinct = Vec::with_capacity(wanted.len());
        for platform in wanted {
            if !distinct.contains(&platform) {
                distinct.push(platform);
            }
        }
        (!distinct.is_empty()).then(|| Self(distinct.into()))
    }

    /// These platforms, and after them those of `other` that are not among them.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let more = other.iter().filter(|platform| !self.0.contains(platform));
        Self(self.iter().chain(more).cloned().collect())
    }

    /// The platforms, the most wanted first.
    pub fn iter(&self) -> std::slice::Iter<'_, Platform> {
        self.0.iter()
    }

    /// Which of the wanted platforms is satisfied by what is `offered`; the smaller, the more wanted.
    pub fn position_of_wanted(&self, offered: &Platform) -> Option<usize> {
        self.0.iter().position(|wanted| wanted.wants(offered))
    }
}

impl Default for Platforms {
    fn default() -> Self {
        let linux = |architecture: &str| Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: None,
        };
        Self([linux("amd64"), linux("arm64")].into())
    }
}

impl<'a> IntoIterator for &'a Platforms {
    type Item = &'a Platform;
    type IntoIter = std::slice::Iter<'a, Platform>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Platforms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, platform) in self.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            write!(f, "{platform}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn parts_are_told_apart() {
        let arm = platform("linux/arm/v7");
        assert_eq!((&*arm.os, &*arm.architecture, arm.variant.as_deref()), ("linux", "arm", Some("v7")));
        assert_eq!(platform("windows/amd64").variant, None);
        assert_eq!(arm.to_string(), "linux/arm/v7");
    }

    #[test]
    fn refusals_say_where() {
        for (text, offset, rule) in [
            ("", 0, "part is empty"),
            ("linux", 5, "architecture is missing"),
            ("linux/", 6, "part is empty"),
            ("/amd64", 0, "part is empty"),
            ("linux//v7", 6, "part is empty"),
            ("linux/arm/", 10, "part is empty"),
            ("linux/arm/v7/x", 12, "more than"),
            ("Linux/amd64", 0, "only lower-case"),
            ("linux/amd64 ", 11, "only lower-case"),
            ("linux/ärm", 6, "only lower-case"),
            (&format!("linux/{}", "a".repeat(MAX_PLATFORM_LENGTH)), MAX_PLATFORM_LENGTH, "128 bytes"),
        ] {
            let error = text.parse::<Platform>().unwrap_err();
            assert_eq!((error.what, error.offset), ("platform", offset), "{error}");
            assert!(error.rule.contains(rule), "{error}");
        }
    }

    #[test]
    fn a_wanted_platform_accepts_what_the_offer_implies() {
        for (wanted, offered, expected) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/amd64/v3", true),
            ("linux/amd64/v3", "linux/amd64", false),
            ("linux/amd64/v1", "linux/amd64", true),
            ("linux/arm", "linux/arm/v6", true),
            ("linux/arm/v7", "linux/arm/v6", false),
            ("linux/arm/v7", "linux/arm", true),
            ("linux/arm/v7", "linux/arm/7", true),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm64/v9", "linux/arm64", false),
            ("linux/arm64", "linux/arm", false),
            ("linux/amd64", "windows/amd64", false),
            ("linux/riscv64/rva23", "linux/riscv64", false),
        ] {
            assert_eq!(platform(wanted).wants(&platform(offered)), expected, "{wanted} of {offered}");
        }
    }

    #[test]
    fn an_empty_variant_is_none() {
        let offered = Platform { variant: Some(String::new()), ..platform("linux/arm64") };
        assert!(platform("linux/arm64/v8").wants(&offered));
    }

    #[test]
    fn wanted_platforms_are_ordered_distinct_and_never_none() {
        assert_eq!(Platforms::new(Vec::new()), None);
        let wanted =
            Platforms::new(["linux/arm64", "linux/amd64", "linux/arm64"].map(platform).into()).unwrap();
        assert_eq!(wanted.to_string(), "linux/arm64,linux/amd64");
        assert_eq!(wanted.position_of_wanted(&platform("linux/amd64")), Some(1));
        assert_eq!(wanted.position_of_wanted(&platform("linux/arm64/v8")), Some(0));
        assert_eq!(wanted.position_of_wanted(&platform("linux/s390x")), None);
        assert_eq!(Platforms::default().to_string(), "linux/amd64,linux/arm64");
        let both =
            wanted.union(&Platforms::new(["linux/s390x", "linux/arm64"].map(platform).into()).unwrap());
        assert_eq!(both.to_string(), "linux/arm64,linux/amd64,linux/s390x");
    }
}
