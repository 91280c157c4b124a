//! Percent-encoding (RFC 3986, section 2.1), strictly: what is broken is refused, where libraries take it as it stands.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Undoes it; `None` for what is not such, or not UTF-8 behind it.
pub(crate) fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        decoded.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits are a byte"));
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// Percent-encodes all but what RFC 3986 calls unreserved, and `|`, which many a prefix ends with.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~|".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writes to memory");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn broken_escapes_are_found() {
        for text in ["%", "%4", "%zz", "a%4", "%ff", "%+1"] {
            assert_eq!(decode(text), None, "{text}");
        }
        assert_eq!(decode("%c3%A4").unwrap(), "ä");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_to_the_same(text in ".*") {
            let encoded = encode(&text);
            prop_assert_eq!(decode(&encoded).unwrap(), text);
        }
    }
}
