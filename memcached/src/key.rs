//! Keys of any length and content as memcached takes them.
//!
//! memcached's keys have 1 to 250 bytes without spaces and control characters. Those go over the wire as they are. Others
//! are stored under their hash, with the whole key in front of the value: reading compares it, so that another key's value
//! is never handed out, and listing tells it. Keys that look like a hash are hashed themselves, so that none meets another.

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};

/// The longest key that memcached takes, in bytes.
const LONGEST_KEY_BYTES: usize = 250;
/// What the stored form of a hashed key begins with, and no key that is stored as it is.
const HASHED: &[u8] = b"sha256:";
/// Bytes of the key's length in front of the key in front of the value.
const LENGTH_BYTES: usize = 4;

/// A key and what it is stored under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredKey {
    stored: Bytes,
    /// The key itself where it is not what it is stored under.
    hashed: Option<Bytes>,
}

impl StoredKey {
    pub(crate) fn of(key: &[u8]) -> Self {
        let key = Bytes::copy_from_slice(key);
        if is_legal(&key) && !is_hashed(&key) {
            return Self { stored: key, hashed: None };
        }
        let mut stored = BytesMut::from(HASHED);
        for byte in Sha256::digest(&key) {
            stored.put_slice(&[hexadecimal_digit(byte >> 4), hexadecimal_digit(byte & 0xf)]);
        }
        Self { stored: stored.freeze(), hashed: Some(key) }
    }

    /// What it is stored under.
    pub(crate) fn stored(&self) -> &Bytes {
        &self.stored
    }

    /// The value as it is stored.
    pub(crate) fn seal(&self, value: Bytes) -> Bytes {
        let Some(key) = &self.hashed else { return value };
        let length = u32::try_from(key.len()).expect("a key is shorter than 4 GiB");
        let mut sealed = BytesMut::with_capacity(LENGTH_BYTES + key.len() + value.len());
        sealed.put_u32(length);
        sealed.put_slice(key);
        sealed.put_slice(&value);
        sealed.freeze()
    }

    /// The value in what is stored; `None` where that is another key's. Shares the bytes.
    pub(crate) fn unseal(&self, stored: Bytes) -> Option<Bytes> {
        let Some(key) = &self.hashed else { return Some(stored) };
        let (found, value) = split(&stored)?;
        (found == key).then_some(value)
    }
}

/// Whether what something is stored under is the hash of its key.
pub(crate) fn is_hashed(stored_key: &[u8]) -> bool {
    stored_key.starts_with(HASHED)
}

/// The key in front of a value that is stored under a hash; `None` where none is there.
pub(crate) fn hashed_key(stored_value: &Bytes) -> Option<Bytes> {
    split(stored_value).map(|(key, _)| key)
}

fn split(stored: &Bytes) -> Option<(Bytes, Bytes)> {
    let (length, rest) = stored.split_first_chunk::<LENGTH_BYTES>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    if length > rest.len() {
        return None;
    }
    let value_start = LENGTH_BYTES + length;
    Some((stored.slice(LENGTH_BYTES..value_start), stored.slice(value_start..)))
}

fn is_legal(key: &[u8]) -> bool {
    (1..=LONGEST_KEY_BYTES).contains(&key.len()) && key.iter().all(|byte| *byte > b' ' && *byte != 0x7f)
}

fn hexadecimal_digit(value: u8) -> u8 {
    match value {
        0..=9 => b'0' + value,
        _ => b'a' + value - 10,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn legal_keys_are_stored_as_they_are() {
        let longest = "k".repeat(250);
        for key in ["a", "s1|head|docker.io/library/alpine", "schlüssel", "~!\"%", &longest] {
            let stored = StoredKey::of(key.as_bytes());
            assert_eq!(stored.stored(), key.as_bytes());
            assert_eq!(stored.seal(Bytes::from_static(b"value")), "value");
        }
    }

    #[test]
    fn other_keys_are_hashed_those_too_that_look_like_a_hash() {
        let hash = StoredKey::of(b"a b").stored().clone();
        let too_long = "k".repeat(251);
        assert_eq!(hash, "sha256:c8687a08aa5d6ed2044328fa6a697ab8e96dc34291e8c2034ae8c38e6fcc6d65");
        for key in [b"".as_slice(), b"a b", b"a\r\nflush_all", b"a\0", b"\x7f", too_long.as_bytes(), &hash] {
            let stored = StoredKey::of(key);
            assert!(is_legal(stored.stored()) && is_hashed(stored.stored()));
            assert_ne!(stored.stored(), key);
            let sealed = stored.seal(Bytes::from_static(b"value"));
            assert_eq!(hashed_key(&sealed).as_deref(), Some(key));
            assert_eq!(stored.unseal(sealed), Some(Bytes::from_static(b"value")));
        }
    }

    #[test]
    fn what_belongs_to_another_key_is_not_unsealed() {
        let (one, other) = (StoredKey::of(b"a b"), StoredKey::of(b"a c"));
        assert_eq!(one.unseal(other.seal(Bytes::from_static(b"value"))), None);
        for torn in [b"".as_slice(), b"\0\0\0", b"\xff\xff\xff\xffa b", b"\0\0\0\x04a b"] {
            assert_eq!(one.unseal(Bytes::copy_from_slice(torn)), None, "{torn:?}");
        }
    }

    proptest! {
        #[test]
        fn every_value_comes_back_under_every_key(key: Vec<u8>, value: Vec<u8>) {
            let stored = StoredKey::of(&key);
            prop_assert!(is_legal(stored.stored()));
            prop_assert_eq!(stored.unseal(stored.seal(Bytes::from(value.clone()))), Some(Bytes::from(value)));
        }
    }
}
