//! Decoding JSON from outside: objects strictly, and leniently where people write what they like, at no more cost
//! than the document's bytes. What is passed over is never built up in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// How many labels or annotations of one object are kept; the rest is dropped.
const MAX_TEXTS: usize = 4_096;
/// Bound of the keys and values of the labels or annotations of one object, in bytes; what goes beyond is dropped.
const MAX_TEXT_BYTES: usize = 1024 * 1024;

/// Decodes a document that must be an object. Derived decoders take an array of the fields' values as well,
/// and would find an empty success in documents such as `[null]`.
pub(crate) fn object<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, serde_json::Error> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(bytes)?;
    }
    serde_json::from_slice(bytes)
}

/// What a text says, if it stands there and can be parsed; any other value is passed over.
pub(crate) struct IfText<T>(pub(crate) Option<T>);

impl<'de, T: FromStr> Deserialize<'de> for IfText<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IfTextVisitor(PhantomData))
    }
}

struct IfTextVisitor<T>(PhantomData<T>);

impl<'de, T: FromStr> Visitor<'de> for IfTextVisitor<T> {
    type Value = IfText<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<IfText<T>, E> {
        Ok(IfText(text.parse().ok()))
    }

    fn visit_unit<E>(self) -> Result<IfText<T>, E> {
        Ok(IfText(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<IfText<T>, E> {
        Ok(IfText(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<IfText<T>, E> {
        Ok(IfText(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<IfText<T>, E> {
        Ok(IfText(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<IfText<T>, E> {
        Ok(IfText(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<IfText<T>, A::Error> {
        while entries.next_element::<IgnoredAny>()?.is_some() {}
        Ok(IfText(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<IfText<T>, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(IfText(None))
    }
}

/// The first entry of an array; the others are passed over. `None` for an empty array.
pub(crate) struct First<T>(pub(crate) Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for First<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FirstVisitor(PhantomData))
    }
}

struct FirstVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FirstVisitor<T> {
    type Value = First<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<First<T>, A::Error> {
        let first = entries.next_element()?;
        while entries.next_element::<IgnoredAny>()?.is_some() {}
        Ok(First(first))
    }
}

/// Labels or annotations: null is none, what is not a text is passed over, and what goes beyond the bounds dropped.
#[derive(Debug, Default)]
pub(crate) struct Texts(pub(crate) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts or null")
    }

    fn visit_unit<E>(self) -> Result<Texts, E> {
        Ok(Texts::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Texts, A::Error> {
        let mut texts = BTreeMap::new();
        let mut bytes = 0;
        while let Some((key, IfText(value))) = entries.next_entry::<String, IfText<String>>()? {
            let Some(value) = value else { continue };
            let more = key.len() + value.len();
            if texts.len() < MAX_TEXTS && bytes + more <= MAX_TEXT_BYTES {
                bytes += more;
                texts.insert(key, value);
            }
        }
        Ok(Texts(texts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_and_the_rest_is_passed_over() {
        let texts: Texts =
            serde_json::from_str(r#"{"a":"1","b":2,"c":null,"d":{"x":[1]},"e":["y"],"f":true,"g":"\u00e9"}"#)
                .unwrap();
        let expected = [("a", "1"), ("g", "é")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(texts.0, BTreeMap::from(expected));
        assert!(serde_json::from_str::<Texts>("null").unwrap().0.is_empty());
        for text in ["[]", "1", r#""x""#, r#"{"a":"#] {
            assert!(serde_json::from_str::<Texts>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn texts_are_bounded_in_number_and_bytes() {
        let many: Vec<String> = (0..=MAX_TEXTS).map(|number| format!(r#""k{number}":"v""#)).collect();
        let texts: Texts = serde_json::from_str(&format!("{{{}}}", many.join(","))).unwrap();
        assert_eq!(texts.0.len(), MAX_TEXTS);
        assert!(texts.0.contains_key("k0"), "the first ones are kept");

        let large = "x".repeat(MAX_TEXT_BYTES);
        let text = format!(r#"{{"small":"1","large":"{large}","after":"2"}}"#);
        let texts: Texts = serde_json::from_str(&text).unwrap();
        assert_eq!(texts.0.keys().collect::<Vec<_>>(), ["after", "small"]);
    }

    #[test]
    fn of_an_array_the_first_entry_is_kept() {
        let first = |text| serde_json::from_str::<First<u8>>(text).map(|first| first.0);
        assert_eq!(first("[7, \"x\", {}]").unwrap(), Some(7));
        assert_eq!(first("[]").unwrap(), None);
        for text in ["null", "{}", "7", "[\"x\"]", "[7"] {
            assert!(first(text).is_err(), "{text}");
        }
    }

    #[derive(Debug, serde::Deserialize)]
    struct Lenient {
        #[serde(default)]
        field: Option<u8>,
    }

    #[test]
    fn only_objects_are_objects() {
        assert_eq!(object::<Lenient>(b"\r\n {\"field\":1} ").unwrap().field, Some(1));
        assert_eq!(object::<Lenient>(b"{}").unwrap().field, None);
        for text in ["", "[]", "[null]", "null", "1", "{", "{}x"] {
            assert!(object::<Lenient>(text.as_bytes()).is_err(), "{text}");
        }
    }
}
