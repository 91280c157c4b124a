//! What every parser here shares: the error that says what is wrong and where, and the first cut of a reference
//! into name, tag and digest.

use std::borrow::Cow;

/// How many bytes of a refused input an error repeats.
const MAX_SHOWN_INPUT: usize = 160;

/// Length of the bare names that could be taken for the short identifier of an image.
const IDENTIFIER_LENGTH: usize = 64;

/// Input that was refused: what it should have been, which rule it breaks, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {input:?} at offset {offset}: {rule}")]
pub struct ParseError {
    /// What was being read, such as `image name`, `tag`, `digest`, `glob`, `platform`, `alias`, `registry host`.
    pub what: &'static str,
    /// The input; cut after 160 bytes, an ellipsis marks the cut.
    pub input: String,
    /// The rule that the input breaks.
    pub rule: Cow<'static, str>,
    /// Where it breaks the rule, in bytes from the start of the whole input.
    pub offset: usize,
}

/// A broken rule inside a fragment, before it is known which input the fragment belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// In bytes from the start of the fragment.
    offset: usize,
    rule: Cow<'static, str>,
}

impl Fault {
    pub(crate) fn new(offset: usize, rule: impl Into<Cow<'static, str>>) -> Self {
        Self { offset, rule: rule.into() }
    }

    /// The same fault, seen from a larger fragment in which this one starts at `start`.
    pub(crate) fn shifted(self, start: usize) -> Self {
        Self { offset: self.offset + start, ..self }
    }

    /// The error for the whole `input`, which was meant to be a `what`.
    pub(crate) fn in_input(self, what: &'static str, input: &str) -> ParseError {
        ParseError { what, input: shown(input), rule: self.rule, offset: self.offset }
    }
}

fn shown(input: &str) -> String {
    if input.len() <= MAX_SHOWN_INPUT {
        return input.to_owned();
    }
    format!("{}…", &input[..input.floor_char_boundary(MAX_SHOWN_INPUT)])
}

/// A piece of a larger text, and the byte at which it starts there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment<'a> {
    pub(crate) text: &'a str,
    pub(crate) start: usize,
}

/// A reference cut at its separators; the pieces are not checked yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReferenceParts<'a> {
    /// Begins where the text begins.
    pub(crate) name: &'a str,
    /// What follows the colon of the last path component.
    pub(crate) tag: Option<Fragment<'a>>,
    /// What follows the `@`.
    pub(crate) digest: Option<Fragment<'a>>,
}

impl<'a> ReferenceParts<'a> {
    /// Cuts `name[:tag][@digest]`, after refusing what is plainly something else.
    pub(crate) fn split(text: &'a str) -> Result<Self, Fault> {
        if text.is_empty() {
            return Err(Fault::new(0, "it is empty"));
        }
        if let Some(offset) = text.find(char::is_whitespace) {
            return Err(Fault::new(offset, "white space is not allowed"));
        }
        refuse_scheme(text)?;
        if is_identifier(text) {
            return Err(Fault::new(0, "64 hexadecimal digits are an image identifier, not a name"));
        }
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => (named, Some(Fragment { text: digest, start: named.len() + 1 })),
            None => (text, None),
        };
        let last_component = named.rfind('/').map_or(0, |slash| slash + 1);
        let is_bracketed_host = last_component == 0 && named.starts_with('[');
        let colon = named[last_component..].find(':').filter(|_| !is_bracketed_host);
        let (name, tag) = match colon.map(|colon| last_component + colon) {
            Some(colon) => (&named[..colon], Some(Fragment { text: &named[colon + 1..], start: colon + 1 })),
            None => (named, None),
        };
        Ok(Self { name, tag, digest })
    }
}

/// Refuses a URL where a name or a host is wanted.
pub(crate) fn refuse_scheme(text: &str) -> Result<(), Fault> {
    if text.contains("://") {
        return Err(Fault::new(0, "it must be written without a scheme such as https://"));
    }
    Ok(())
}

fn is_identifier(text: &str) -> bool {
    text.len() == IDENTIFIER_LENGTH && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Implements `Serialize` and `Deserialize` as a string, by `Display` and `FromStr`: what is read is validated.
macro_rules! serde_as_string {
    ($type:ty, $expecting:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct FromText;

                impl serde::de::Visitor<'_> for FromText {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                        text.parse().map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(FromText)
            }
        }
    };
}
pub(crate) use serde_as_string;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_names_input_place_and_rule() {
        let error = Fault::new(1, "too odd").shifted(2).in_input("tag", "a\nb");
        assert_eq!(error.to_string(), r#"invalid tag "a\nb" at offset 3: too odd"#);
    }

    #[test]
    fn a_long_input_is_cut_between_characters() {
        let just_fits = "x".repeat(MAX_SHOWN_INPUT);
        assert_eq!(Fault::new(0, "r").in_input("tag", &just_fits).input, just_fits);

        let odd = format!("x{}", "é".repeat(MAX_SHOWN_INPUT));
        let shown = Fault::new(0, "r").in_input("tag", &odd).input;
        assert_eq!(shown, format!("x{}…", "é".repeat((MAX_SHOWN_INPUT - 1) / 2)));
    }

    #[test]
    fn a_colon_belongs_to_the_tag_only_in_the_last_component() {
        let split = |text| {
            let parts = ReferenceParts::split(text).unwrap();
            (parts.name, parts.tag.map(|tag| (tag.text, tag.start)), parts.digest.map(|d| (d.text, d.start)))
        };
        assert_eq!(split("a"), ("a", None, None));
        assert_eq!(split("a:1"), ("a", Some(("1", 2)), None));
        assert_eq!(split("h:5000/a"), ("h:5000/a", None, None));
        assert_eq!(split("h:5000/a:1@d:2"), ("h:5000/a", Some(("1", 9)), Some(("d:2", 11))));
        assert_eq!(split("[::1]:5000"), ("[::1]:5000", None, None));
        assert_eq!(split("[::1]:5000/a:1"), ("[::1]:5000/a", Some(("1", 13)), None));
    }
}
