//! The texts of a page: each is said once, where it is first needed, and called by its number afterwards.
//!
//! ```text
//! plain text    itself
//! #20           the next 20 bytes of the page's tail, as hexadecimal digits: a revision, a digest
//! @1714979289   a time by RFC 3339 in UTC, in seconds since 1970; @1714979289.5000 has nanoseconds
//! =#20          the text "#20": what begins like one of the others is said behind an equals sign
//! ```

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::store::MAX_DECODED_BYTES;

/// Shorter hexadecimal texts are said as they are: packing them saves nothing.
const FEWEST_HEX_DIGITS: usize = 16;

/// A text in a page's JSON: a number for one said before, or the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Text<'a> {
    Known(usize),
    New(Cow<'a, str>),
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Known(number) => number.serialize(serializer),
            Self::New(text) => text.serialize(serializer),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, or the number of one")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Text<'de>, E> {
        usize::try_from(number).map(Text::Known).map_err(E::custom)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text::New(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text::New(Cow::Owned(text.to_owned())))
    }
}

/// Says texts, and collects the bytes of the tail.
#[derive(Debug, Default)]
pub(super) struct Writer {
    numbers: HashMap<String, usize>,
    pub(super) tail: Vec<u8>,
}

impl Writer {
    pub(super) fn text(&mut self, text: &str) -> Text<'static> {
        if let Some(number) = self.numbers.get(text) {
            return Text::Known(*number);
        }
        self.numbers.insert(text.to_owned(), self.numbers.len());
        Text::New(Cow::Owned(self.packed(text)))
    }

    fn packed(&mut self, text: &str) -> String {
        if let Some(bytes) = hex_bytes(text) {
            self.tail.extend_from_slice(&bytes);
            return format!("#{}", bytes.len());
        }
        match text.as_bytes().first() {
            Some(b'#' | b'@' | b'=') => format!("={text}"),
            Some(b'0'..=b'9') => packed_time(text).unwrap_or_else(|| text.to_owned()),
            _ => text.to_owned(),
        }
    }
}

/// Understands texts, in the order in which they were said.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) known: Vec<Arc<str>>,
    tail: &'a [u8],
    /// Bytes of text that may still be given out. What is said once can be called often: without a bound a small page
    /// could fill the memory.
    allowance: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(tail: &'a [u8]) -> Self {
        Self { known: Vec::new(), tail, allowance: MAX_DECODED_BYTES }
    }

    pub(super) fn text(&mut self, text: &Text<'_>) -> Option<Arc<str>> {
        let number = match text {
            Text::Known(number) => *number,
            Text::New(packed) => {
                let text = self.unpacked(packed)?;
                self.known.push(text);
                self.known.len() - 1
            }
        };
        let text = self.known.get(number)?;
        self.allowance = self.allowance.checked_sub(text.len())?;
        Some(Arc::clone(text))
    }

    /// The next `count` bytes of the tail.
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.tail.split_at_checked(count)?;
        self.tail = rest;
        Some(taken)
    }

    /// Whether the tail was used up: else writer and reader did not mean the same.
    pub(super) fn is_at_the_end(&self) -> bool {
        self.tail.is_empty()
    }

    fn unpacked(&mut self, packed: &str) -> Option<Arc<str>> {
        match packed.as_bytes().first() {
            Some(b'=') => Some(packed[1..].into()),
            Some(b'#') => {
                let count = packed[1..].parse().ok()?;
                Some(hex_digits(self.bytes(count)?).into())
            }
            Some(b'@') => unpacked_time(&packed[1..]).map(Arc::from),
            _ => Some(packed.into()),
        }
    }
}

/// The bytes of a text that is nothing but pairs of lower-case hexadecimal digits.
fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if text.len() < FEWEST_HEX_DIGITS || !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes().chunks_exact(2).map(|pair| Some(value(pair[0])? << 4 | value(pair[1])?)).collect()
}

fn hex_digits(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

/// A time as its number, if that can be undone to the letter.
fn packed_time(text: &str) -> Option<String> {
    let time: Timestamp = text.strip_suffix('Z').is_some().then(|| text.parse().ok())??;
    let (second, nanosecond) = (time.as_second(), time.subsec_nanosecond());
    let packed = if nanosecond == 0 { format!("{second}") } else { format!("{second}.{nanosecond}") };
    (unpacked_time(&packed)? == text).then(|| format!("@{packed}"))
}

fn unpacked_time(packed: &str) -> Option<String> {
    let (second, nanosecond) = packed.split_once('.').unwrap_or((packed, "0"));
    let time = Timestamp::new(second.parse().ok()?, nanosecond.parse().ok()?).ok()?;
    Some(time.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(texts: &[&str]) -> (Vec<Text<'static>>, Vec<u8>) {
        let mut writer = Writer::default();
        let said = texts.iter().map(|text| writer.text(text)).collect();
        (said, writer.tail)
    }

    fn new(text: &str) -> Text<'static> {
        Text::New(Cow::Owned(text.to_owned()))
    }

    const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn what_is_said_before_is_called_by_its_number() {
        let texts = ["key", REVISION, "key", REVISION, "2024-05-06T07:08:09Z", "2024-05-06T07:08:09.5Z"];
        let (said, tail) = said(&texts);
        let expected = [
            new("key"),
            new("#20"),
            Text::Known(0),
            Text::Known(1),
            new("@1714979289"),
            new("@1714979289.500000000"),
        ];
        assert_eq!(said, expected);
        assert_eq!(tail.len(), 20, "said once");
        let json = serde_json::to_string(&said).unwrap();
        assert_eq!(json, r##"["key","#20",0,1,"@1714979289","@1714979289.500000000"]"##);
        assert_eq!(serde_json::from_str::<Vec<Text<'_>>>(&json).unwrap(), said);
    }

    proptest! {
        #[test]
        fn texts_are_understood_as_they_were_said(texts in proptest::collection::vec(
            prop_oneof![
                any::<String>(),
                "[0-9a-f]{14,42}",
                "[#@=][0-9.]{0,12}",
                "20[0-9]{2}-0[0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,10})?(Z|\\+00:00)",
            ],
            0..40,
        )) {
            let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
            let (said, tail) = said(&borrowed);
            let json = serde_json::to_string(&said).unwrap();
            let said: Vec<Text<'_>> = serde_json::from_str(&json).unwrap();
            let mut reader = Reader::new(&tail);
            let understood: Option<Vec<Arc<str>>> = said.iter().map(|text| reader.text(text)).collect();
            prop_assert_eq!(understood, Some(texts.into_iter().map(Arc::from).collect()));
            prop_assert!(reader.is_at_the_end());
        }

        #[test]
        fn arbitrary_texts_do_no_harm(packed in "[#@=]?[-0-9.a-z]{0,24}", tail in proptest::collection::vec(any::<u8>(), 0..30)) {
            let _ = Reader::new(&tail).text(&new(&packed));
        }
    }

    #[test]
    fn numbers_that_were_never_given_are_refused() {
        assert_eq!(Reader::new(&[]).text(&Text::Known(0)), None);
        assert_eq!(Reader::new(&[1, 2]).text(&new("#3")), None);
    }

    #[test]
    fn a_text_that_is_called_too_often_is_refused() {
        let mut reader = Reader::new(&[]);
        let long = "x".repeat(MAX_DECODED_BYTES / 4);
        assert!(reader.text(&new(&long)).is_some());
        for _ in 0..3 {
            assert!(reader.text(&Text::Known(0)).is_some());
        }
        assert_eq!(reader.text(&Text::Known(0)), None);
    }
}
