//! Ranges of versions, as the users of Flux, Argo CD and npm write them.
//!
//! ```text
//! range       = alternative *( "||" alternative )
//! alternative = condition *( ( "," / spaces ) condition )        all of them have to hold
//! condition   = [ operator ] partial / partial " - " partial
//! operator    = "=" "!=" ">" "<" ">=" "=>" "<=" "=<" "~" "~>" "^"
//! partial     = [ "v" ] part [ "." part [ "." part ] ] [ "-" pre-release ] [ "+" build ]
//! part        = digits / "x" / "X" / "*"
//! ```
//! A part that is left out is a wildcard. Build metadata says nothing. A pre-release is in a range only where a condition
//! of the same alternative names one (`^1.2-0`), or where the caller admits them all.

use std::fmt;
use std::str::FromStr;

use semver::{Prerelease, Version};

use self::parse::parse;

mod parse;

/// A range of versions.
#[derive(Clone, PartialEq, Eq)]
pub struct VersionRange {
    source: Box<str>,
    /// One of them has to admit a version.
    alternatives: Vec<Alternative>,
}

/// Conditions that have to hold together.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Alternative {
    conditions: Vec<Condition>,
    names_prerelease: bool,
}

/// An operator and what it compares with.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    operator: Operator,
    /// The version with zeros for wildcards.
    base: Version,
    precision: Precision,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    /// Also where there is none. With wildcards, all that they stand for.
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    /// At least the version, with the same major and, where it is given, minor number.
    Tilde,
    /// At least the version, with the same leftmost number that is not 0.
    Caret,
}

/// Down to which part a version is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Precision {
    Any,
    Major,
    Minor,
    Patch,
}

impl VersionRange {
    /// Whether the version is in the range; a pre-release also where no condition names one, if `with_prereleases`.
    pub fn admits(&self, version: &Version, with_prereleases: bool) -> bool {
        self.alternatives.iter().any(|alternative| {
            (version.pre.is_empty() || alternative.names_prerelease || with_prereleases)
                && alternative.conditions.iter().all(|condition| condition.holds(version))
        })
    }
}

impl Condition {
    /// As far as it can be told without regard to whether pre-releases are wanted at all.
    fn holds(&self, version: &Version) -> bool {
        let base = &self.base;
        let compared = version.cmp_precedence(base);
        match self.operator {
            Operator::Equal if self.precision == Precision::Patch => compared.is_eq(),
            // What the wildcards stand for: `1.2.x` is `~1.2`.
            Operator::Equal | Operator::Tilde => compared.is_ge() && self.agrees(version, Precision::Minor),
            Operator::NotEqual if self.precision == Precision::Patch => compared.is_ne(),
            Operator::NotEqual => {
                let same_prerelease = base.pre.is_empty() || base.pre == version.pre;
                !(self.agrees(version, self.precision) && same_prerelease)
            }
            // `>1.2` begins above all that `1.2` stands for.
            Operator::Greater => compared.is_gt() && !self.is_below_wildcard(version),
            Operator::GreaterOrEqual => compared.is_ge(),
            Operator::Less => compared.is_lt(),
            // And `<=1.2` ends above all of it.
            Operator::LessOrEqual => compared.is_le() || self.is_below_wildcard(version),
            Operator::Caret => compared.is_ge() && self.agrees(version, self.caret_precision()),
        }
    }

    /// Whether the version has the same numbers down to a part, or down to the first wildcard.
    fn agrees(&self, version: &Version, down_to: Precision) -> bool {
        let down_to = down_to.min(self.precision);
        (down_to < Precision::Major || version.major == self.base.major)
            && (down_to < Precision::Minor || version.minor == self.base.minor)
            && (down_to < Precision::Patch || version.patch == self.base.patch)
    }

    /// Whether wildcards, of which there are some, stand for the version.
    fn is_below_wildcard(&self, version: &Version) -> bool {
        self.precision < Precision::Patch && self.agrees(version, self.precision)
    }

    /// The part that a caret holds fast, with those before it.
    fn caret_precision(&self) -> Precision {
        match (self.base.major, self.base.minor) {
            (0, 0) => Precision::Patch,
            (0, _) => Precision::Minor,
            _ => Precision::Major,
        }
    }
}

impl FromStr for VersionRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { source: text.into(), alternatives: parse(text)? })
    }
}

/// As it was written.
impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl fmt::Debug for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.source, f)
    }
}

impl Alternative {
    fn new(conditions: Vec<Condition>) -> Self {
        let names_prerelease = conditions.iter().any(|condition| condition.base.pre != Prerelease::EMPTY);
        Self { conditions, names_prerelease }
    }
}

#[cfg(test)]
mod tests;
