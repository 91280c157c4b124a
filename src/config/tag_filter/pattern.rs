//! What selects tags by name: globs, and regular expressions behind `regex:`.

use std::fmt;
use std::str::FromStr;

use regex::bytes::{Regex, RegexBuilder};
use samovar_registry::{Glob, Tag};

use crate::config::error::quoted;

/// What a regular expression is told by: no tag has a colon, so no glob begins like this.
const REGEX_PREFIX: &str = "regex:";
/// The longest regular expression, in bytes.
const MAX_REGEX_LENGTH: usize = 512;
/// What a regular expression may take up when it is compiled, and as much again while it is used. Bytes.
const MAX_REGEX_BYTES: usize = 256 * 1024;
/// How deep groups may stand in one another.
const MAX_REGEX_NESTING: u32 = 32;

/// A glob or a regular expression over tags.
#[derive(Clone, PartialEq)]
pub enum TagPattern {
    /// Only `*` is special.
    Glob(Glob),
    /// A regular expression.
    Regex(TagRegex),
}

/// A regular expression that has to match all of a tag. It is matched in linear time.
#[derive(Clone)]
pub struct TagRegex {
    source: Box<str>,
    regex: Regex,
}

impl TagPattern {
    /// Whether the pattern matches the whole of the tag.
    pub fn matches(&self, tag: &Tag) -> bool {
        match self {
            Self::Glob(glob) => glob.matches(tag.as_str()),
            Self::Regex(regex) => regex.matches(tag.as_str()),
        }
    }
}

/// A glob, or `regex:` and a regular expression. The error says what is wrong with it.
impl FromStr for TagPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(source) = text.strip_prefix(REGEX_PREFIX) {
            return TagRegex::new(source).map(Self::Regex);
        }
        // One with a character that no tag has would never match: a mistake.
        let is_possible = |character: char| character.is_ascii_alphanumeric() || "_.-*".contains(character);
        if let Some(stray) = text.chars().find(|character| !is_possible(*character)) {
            return Err(format!(
                "{} can match no tag: tags have no {stray:?}, and only * is special (regular expressions begin with \
                 {REGEX_PREFIX})",
                quoted(text)
            ));
        }
        Glob::new(text).map(Self::Glob).map_err(|error| error.to_string())
    }
}

impl TagRegex {
    fn new(source: &str) -> Result<Self, String> {
        if source.is_empty() {
            return Err("the regular expression is empty and would match no tag".to_owned());
        }
        // On its own first: what closes the group that is put around it is no regular expression.
        compile(source)?;
        let regex = build(&format!(r"\A(?:{source})\z")).map_err(|error| refusal(source, &error))?;
        Ok(Self { source: source.into(), regex })
    }

    fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text.as_bytes())
    }
}

/// A regular expression over tags that matches wherever it does, within the bounds of all of them. The error says what is
/// wrong with it.
pub(crate) fn compile(source: &str) -> Result<Regex, String> {
    if source.len() > MAX_REGEX_LENGTH {
        return Err(format!("a regular expression must not be longer than {MAX_REGEX_LENGTH} bytes"));
    }
    build(source).map_err(|error| refusal(source, &error))
}

fn refusal(source: &str, error: &regex::Error) -> String {
    let error = error.to_string();
    // The last line says what is wrong; those before it draw where.
    let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
    format!("{} is no regular expression: {reason}", quoted(source))
}

/// Tags are ASCII, and so are the classes.
fn build(source: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(source)
        .unicode(false)
        .size_limit(MAX_REGEX_BYTES)
        .dfa_size_limit(MAX_REGEX_BYTES)
        .nest_limit(MAX_REGEX_NESTING)
        .build()
}

impl PartialEq for TagRegex {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for TagRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.source, f)
    }
}

/// As it was written.
impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Glob(glob) => fmt::Display::fmt(glob, f),
            Self::Regex(regex) => write!(f, "{REGEX_PREFIX}{}", regex.source),
        }
    }
}

impl fmt::Debug for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, tag: &str) -> bool {
        pattern.parse::<TagPattern>().unwrap().matches(&tag.parse().unwrap())
    }

    #[test]
    fn a_regular_expression_has_to_match_the_whole_tag() {
        assert!(matches(r"regex:1\.[0-9]+", "1.25"));
        for tag in ["1.25-rc1", "v1.25", "11.2", "1x25"] {
            assert!(!matches(r"regex:1\.[0-9]+", tag), "{tag}");
        }
        assert!(matches("regex:a|ab", "ab"), "whichever of them matches the whole");
        assert!(!matches("regex:a|b", "ab"));
        assert!(matches(r"regex:(?i)^RC\d+$", "rc12"));
        assert!(matches(r"regex:(?x) v \d+", "v12"));
        assert!(matches("regex:.*", "anything_At.all-1"));
    }

    #[test]
    fn a_glob_is_a_glob() {
        assert!(matches("1.*", "1.2.3") && !matches("1.*", "1x2"));
        assert_eq!("1.*".parse::<TagPattern>().unwrap().to_string(), "1.*");
        assert_eq!("regex:1.*".parse::<TagPattern>().unwrap().to_string(), "regex:1.*");
    }

    /// D21 of the ancestor's ledger: a pattern that could not be read matched everything.
    #[test]
    fn what_cannot_be_read_is_refused() {
        let long = format!("regex:{}", "a".repeat(513));
        for (text, reason) in [
            ("regex:", "the regular expression is empty"),
            ("regex:(", "\"(\" is no regular expression: unclosed group"),
            ("regex:a)|(?:b", "is no regular expression: unopened group"),
            ("regex:*", "is no regular expression: repetition operator missing expression"),
            (r"regex:(\d{1,1000}){1,1000}", "is no regular expression: "),
            ("regex:(?x) v # a comment that hides the end", "is no regular expression: unclosed group"),
            (r"regex:\p{Greek}", "is no regular expression: "),
            (&long, "must not be longer than 512 bytes"),
            (
                "^1",
                "can match no tag: tags have no '^', and only * is special (regular expressions begin with regex:)",
            ),
            ("", "it is empty"),
        ] {
            let refused = text.parse::<TagPattern>().unwrap_err();
            assert!(refused.contains(reason), "{text}: {refused}");
        }
        let nested = format!("regex:{}a{}", "(".repeat(40), ")".repeat(40));
        assert!(nested.parse::<TagPattern>().is_err());
    }
}
