//! Globs over canonical names and tags: only `*` is special, and it crosses `/`.

use std::fmt;
use std::str::FromStr;

use ::glob::Pattern;

use crate::Name;
use crate::parse::{Fault, ParseError, serde_as_string};

/// Longest pattern, in bytes.
const MAX_PATTERN_LENGTH: usize = 512;

/// A pattern in which `*` stands for any run of characters, `/` and nothing included, and all else for itself.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Glob {
    source: Box<str>,
    pattern: Pattern,
}

impl Glob {
    /// Reads a pattern of 1 to 512 bytes.
    pub fn new(source: &str) -> Result<Self, ParseError> {
        Self::compile(source).map_err(|fault| fault.in_input("glob", source))
    }

    fn compile(source: &str) -> Result<Self, Fault> {
        if source.is_empty() {
            return Err(Fault::new(0, "it is empty and would match nothing"));
        }
        if source.len() > MAX_PATTERN_LENGTH {
            return Err(Fault::new(MAX_PATTERN_LENGTH, "a glob must not be longer than 512 bytes"));
        }
        let pattern = Pattern::new(&with_only_stars_special(source))
            .map_err(|error| Fault::new(error.pos, error.msg))?;
        Ok(Self { source: source.into(), pattern })
    }

    /// Whether the pattern matches the whole of `text`.
    pub fn matches(&self, text: &str) -> bool {
        self.pattern.matches(text)
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }
}

/// The pattern in the words of the `glob` crate, for which `?`, `[` and `**` have meanings of their own.
fn with_only_stars_special(source: &str) -> String {
    let mut pattern = String::with_capacity(source.len());
    for (position, literal) in source.split('*').enumerate() {
        if position > 0 && !pattern.ends_with('*') {
            pattern.push('*');
        }
        pattern.push_str(&Pattern::escape(literal));
    }
    pattern
}

impl FromStr for Glob {
    type Err = ParseError;

    fn from_str(source: &str) -> Result<Self, ParseError> {
        Self::new(source)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

serde_as_string!(Glob, "a pattern in which * stands for anything");

/// Several globs, of which one has to match. None match nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Globs(Vec<Glob>);

impl Globs {
    /// Whether any of the globs matches `text`.
    pub fn matches(&self, text: &str) -> bool {
        self.0.iter().any(|glob| glob.matches(text))
    }

    /// Whether any of the globs matches any spelling of the name, as [`Name::spellings`] lists them.
    pub fn matches_name(&self, name: &Name) -> bool {
        !self.is_empty()
            && (self.matches(name.as_str())
                || name.spellings().skip(1).any(|spelling| self.matches(&spelling)))
    }

    /// The globs, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Glob> {
        self.0.iter()
    }

    /// Whether there is no glob at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// All of them, separated by commas.
impl fmt::Display for Globs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<_> = self.0.iter().map(Glob::as_str).collect();
        f.write_str(&shown.join(", "))
    }
}

impl FromIterator<Glob> for Globs {
    fn from_iter<I: IntoIterator<Item = Glob>>(globs: I) -> Self {
        Self(globs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(patterns: &[&str]) -> Globs {
        patterns.iter().map(|pattern| Glob::new(pattern).unwrap()).collect()
    }

    #[test]
    fn only_stars_are_special() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "docker.io/library/alpine", true),
            ("ghcr.io/*", "ghcr.io/a/b/c", true),
            ("ghcr.io/*", "ghcr.io/", true),
            ("ghcr.io/*", "ghcr.io", false),
            ("a**b", "ab", true),
            ("a***b", "axyb", true),
            ("***", "", true),
            ("a?c", "abc", false),
            ("a?c", "a?c", true),
            ("v[1", "v[1", true),
            ("v[1]*", "v1", false),
            ("v[1]*", "v[1]2", true),
            ("{a,b}", "a", false),
            ("\\*", "\\x", true),
            ("*.*.*", "1.2", false),
            ("abc", "ABC", false),
            ("*é", "cafeé", true),
        ] {
            assert_eq!(Glob::new(pattern).unwrap().matches(text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn refusals_say_why() {
        let error = Glob::new("").unwrap_err();
        assert_eq!((error.what, error.offset), ("glob", 0));
        assert!(Glob::new(&"*".repeat(MAX_PATTERN_LENGTH)).is_ok());
        let error = Glob::new(&"*".repeat(MAX_PATTERN_LENGTH + 1)).unwrap_err();
        assert_eq!((error.what, error.offset), ("glob", MAX_PATTERN_LENGTH));
    }

    #[test]
    fn a_pattern_is_shown_as_it_was_written() {
        let glob = Glob::new("a**?[").unwrap();
        assert_eq!((glob.as_str(), glob.to_string()), ("a**?[", "a**?[".to_owned()));
        assert_eq!(format!("{glob:?}"), r#""a**?[""#);
    }

    #[test]
    fn a_hostile_pattern_ends() {
        let glob = Glob::new(&format!("{}b", "*a".repeat(200))).unwrap();
        assert!(!glob.matches(&"a".repeat(1_000)));
    }

    #[test]
    fn names_match_by_any_of_their_spellings() {
        let alpine: Name = "alpine".parse().unwrap();
        for pattern in
            ["docker.io/*", "index.docker.io/library/*", "registry-1.docker.io/*", "registry.hub.*"]
        {
            assert!(globs(&["nothing", pattern]).matches_name(&alpine), "{pattern}");
        }
        assert!(!globs(&["alpine", "ghcr.io/*"]).matches_name(&alpine));

        let other: Name = "ghcr.io/library/alpine".parse().unwrap();
        assert!(!globs(&["*docker.io/*"]).matches_name(&other));
        assert!(globs(&["ghcr.io/*"]).matches_name(&other));
    }

    #[test]
    fn no_globs_match_nothing() {
        let none = Globs::default();
        assert!(none.is_empty());
        assert!(!none.matches(""));
        assert!(!none.matches_name(&"alpine".parse().unwrap()));
    }
}
