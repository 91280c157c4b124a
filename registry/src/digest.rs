//! Content digests (OCI image-spec, "Descriptors: Digests"): sha256 and sha512.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Sha256, Sha512};

use crate::parse::{Fault, ParseError, serde_as_string};

const SHA256_BYTES: usize = 32;
const SHA512_BYTES: usize = 64;

/// The digest of some content, by one of the two algorithms that the OCI specification registers.
///
/// It is held as bytes and cheap to clone; sha256, which is nearly all there is, lies inline. Written
/// `sha256:<64 lower-case hexadecimal digits>`; ordered as it is written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Value);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Value {
    Sha256([u8; SHA256_BYTES]),
    Sha512(Arc<[u8; SHA512_BYTES]>),
}

impl Digest {
    /// The sha256 of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        Self(Value::Sha256(<Sha256 as sha2::Digest>::digest(bytes).into()))
    }

    /// The sha512 of `bytes`.
    pub fn sha512(bytes: &[u8]) -> Self {
        Self(Value::Sha512(Arc::new(<Sha512 as sha2::Digest>::digest(bytes).into())))
    }

    /// The digest of `bytes` by the algorithm of this one.
    #[must_use]
    pub fn same_algorithm(&self, bytes: &[u8]) -> Self {
        match self.0 {
            Value::Sha256(_) => Self::sha256(bytes),
            Value::Sha512(_) => Self::sha512(bytes),
        }
    }

    /// Whether this is the digest of `bytes`.
    pub fn verifies(&self, bytes: &[u8]) -> bool {
        self.same_algorithm(bytes) == *self
    }

    /// `sha256` or `sha512`.
    pub fn algorithm(&self) -> &'static str {
        match self.0 {
            Value::Sha256(_) => "sha256",
            Value::Sha512(_) => "sha512",
        }
    }

    /// The part after the colon: lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        HexDigits::of(self.bytes()).as_str().to_owned()
    }

    /// The digest of 32 bytes (sha256) or 64 bytes (sha512), as [`Digest::bytes`] gives them; `None` for any other length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if let Ok(sha256) = bytes.try_into() {
            return Some(Self(Value::Sha256(sha256)));
        }
        bytes.try_into().ok().map(|sha512: [u8; SHA512_BYTES]| Self(Value::Sha512(Arc::new(sha512))))
    }

    /// The bytes that [`Digest::hex`] writes: 32 for sha256, 64 for sha512.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Value::Sha256(bytes) => bytes,
            Value::Sha512(bytes) => bytes.as_slice(),
        }
    }

    /// Reads a digest that is a fragment of a larger text.
    pub(crate) fn from_fragment(text: &str) -> Result<Self, Fault> {
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err(Fault::new(0, "a digest is written algorithm:hexadecimal digits"));
        };
        let hex_start = algorithm.len() + 1;
        match algorithm {
            "sha256" => decode_hex(hex).map(Value::Sha256),
            "sha512" => decode_hex(hex).map(|bytes| Value::Sha512(Arc::new(bytes))),
            _ => {
                return Err(Fault::new(0, "the algorithm of a digest must be sha256 or sha512"));
            }
        }
        .map(Self)
        .map_err(|fault| fault.shifted(hex_start))
    }
}

fn decode_hex<const N: usize>(text: &str) -> Result<[u8; N], Fault> {
    if let Some(offset) = text.bytes().position(|byte| hex_value(byte).is_none()) {
        return Err(Fault::new(
            offset,
            "a digest may hold only digits and the letters a to f, in lower case",
        ));
    }
    if text.len() != 2 * N {
        let rule = format!("the digest must have {} hexadecimal digits, not {}", 2 * N, text.len());
        return Err(Fault::new(text.len().min(2 * N), rule));
    }
    let mut values = text.bytes().filter_map(hex_value);
    Ok(std::array::from_fn(|_| {
        let (high, low) = values.next().zip(values.next()).expect("counted above: two digits for each byte");
        high << 4 | low
    }))
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Hexadecimal digits on the stack: digests are printed by the thousand when a repository is served.
struct HexDigits {
    digits: [u8; 2 * SHA512_BYTES],
    length: usize,
}

impl HexDigits {
    fn of(bytes: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0; 2 * SHA512_BYTES];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 0xf)];
        }
        Self { digits, length: 2 * bytes.len() }
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.digits[..self.length]).expect("hexadecimal digits are ASCII")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm())?;
        f.write_str(":")?;
        f.write_str(HexDigits::of(self.bytes()).as_str())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::from_fragment(text).map_err(|fault| fault.in_input("digest", text))
    }
}

serde_as_string!(Digest, "a digest such as sha256:…");

#[cfg(test)]
mod tests {
    use super::*;

    // The digests of nothing are printed in FIPS 180-4's examples and all over the registries' logs.
    const SHA256_OF_NOTHING: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const SHA512_OF_NOTHING: &str = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
                                     47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";

    #[test]
    fn both_algorithms_give_the_known_digests() {
        assert_eq!(Digest::sha256(b"").to_string(), SHA256_OF_NOTHING);
        assert_eq!(Digest::sha512(b"").to_string(), SHA512_OF_NOTHING);
        assert_eq!(SHA256_OF_NOTHING.parse(), Ok(Digest::sha256(b"")));
        assert_eq!(SHA512_OF_NOTHING.parse(), Ok(Digest::sha512(b"")));
    }

    #[test]
    fn hex_algorithm_and_debug_are_parts_of_the_written_form() {
        let digest = Digest::sha256(b"");
        assert_eq!(format!("{}:{}", digest.algorithm(), digest.hex()), SHA256_OF_NOTHING);
        assert_eq!(format!("{digest:?}"), SHA256_OF_NOTHING);
        assert_eq!(Digest::sha512(b"").algorithm(), "sha512");
    }

    #[test]
    fn digests_are_made_again_from_their_bytes() {
        for digest in [Digest::sha256(b"tea"), Digest::sha512(b"tea")] {
            assert_eq!(Digest::from_bytes(digest.bytes()), Some(digest));
        }
        for length in [0, 20, 31, 33, 63, 65] {
            assert_eq!(Digest::from_bytes(&vec![7; length]), None, "{length} bytes");
        }
    }

    #[test]
    fn only_the_same_bytes_are_verified_by_the_same_algorithm() {
        for digest in [Digest::sha256(b"tea"), Digest::sha512(b"tea")] {
            assert!(digest.verifies(b"tea"));
            assert!(!digest.verifies(b"teb"));
            assert_eq!(digest.same_algorithm(b"x").algorithm(), digest.algorithm());
        }
    }

    #[test]
    fn refusals_say_where() {
        let upper = SHA256_OF_NOTHING.replace("e3b0", "e3B0");
        let short = &SHA256_OF_NOTHING[..70];
        let long = format!("{SHA256_OF_NOTHING}0");
        for (text, offset, rule) in [
            ("", 0, "written algorithm:"),
            ("sha256", 0, "written algorithm:"),
            ("sha256:", 7, "64 hexadecimal digits, not 0"),
            ("md5:d41d8cd98f00b204e9800998ecf8427e", 0, "sha256 or sha512"),
            ("SHA256:00", 0, "sha256 or sha512"),
            (&upper, 9, "in lower case"),
            (short, 70, "64 hexadecimal digits, not 63"),
            (&long, 71, "64 hexadecimal digits, not 65"),
            ("sha256:ü", 7, "only digits"),
            (&SHA256_OF_NOTHING.replace("sha256", "sha512"), 71, "128 hexadecimal digits, not 64"),
        ] {
            let error = text.parse::<Digest>().unwrap_err();
            assert_eq!((error.what, error.offset), ("digest", offset), "{error}");
            assert!(error.rule.contains(rule), "{error}");
        }
    }

    #[test]
    fn json_holds_the_written_form_and_is_validated() {
        let json = serde_json::to_string(&Digest::sha256(b"")).unwrap();
        assert_eq!(json, format!("{SHA256_OF_NOTHING:?}"));
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), Digest::sha256(b""));
        assert!(serde_json::from_str::<Digest>("\"sha256:00\"").is_err());
    }
}
