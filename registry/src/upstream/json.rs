//! Decoding JSON objects, strictly.

use serde::de::DeserializeOwned;

/// Decodes a document that must be an object. Derived decoders take an array of the fields' values as well,
/// and would find an empty success in documents such as `[null]`.
pub(super) fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(bytes)?;
    }
    serde_json::from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

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
