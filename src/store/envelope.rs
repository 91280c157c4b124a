//! How bytes are wrapped before they are stored: a version, a codec, the payload.
//!
//! ```text
//! byte 0   version of the format, now 1
//! byte 1   codec: 0 as it is, 1 zstd
//! byte 2…  payload
//! ```
//! What does not open is treated as absent by the caller and fetched again; it is never trusted.

use std::cell::RefCell;
use std::io::{self, Write as _};

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};

/// The version that [`seal`] writes and [`open`] reads.
const VERSION: u8 = 1;
const RAW: u8 = 0;
const ZSTD: u8 = 1;

/// Below this many bytes compressing does not pay.
const COMPRESS_FROM: usize = 256;
/// zstd's fastest regular level: values as small as level 3 makes them, in half the time (see `docs/architecture.md`).
const LEVEL: i32 = 1;
/// No value is larger before compression; a larger one is refused on the way out and on the way in.
pub const MAX_DECODED_BYTES: usize = 256 * 1024;

/// Why stored bytes could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Shorter than the header.
    #[error("the value is cut short")]
    Short,
    /// Written by another version.
    #[error("the value has format version {0}, not {VERSION}")]
    Version(u8),
    /// A codec that this version does not know.
    #[error("the value has unknown codec {0}")]
    Codec(u8),
    /// The payload does not decompress within the bound.
    #[error("the value does not decompress: {0}")]
    Payload(String),
}

impl EnvelopeError {
    /// Whether a newer samovar wrote the value: it is left alone, and what it says is fetched again.
    pub fn is_newer_version(&self) -> bool {
        matches!(self, Self::Version(version) if *version > VERSION)
    }
}

/// Wraps `plain`, compressed where that makes it smaller.
///
/// # Panics
/// When `plain` is larger than [`MAX_DECODED_BYTES`]: callers split before that.
pub fn seal(plain: &[u8]) -> Bytes {
    assert!(plain.len() <= MAX_DECODED_BYTES, "a value of {} bytes must be split", plain.len());
    if plain.len() >= COMPRESS_FROM
        && let Ok(packed) = compress(plain)
        && packed.len() < plain.len()
    {
        return framed(ZSTD, &packed);
    }
    framed(RAW, plain)
}

/// Like [`seal`], for a value in parts of different nature: each is compressed by itself, so that bytes that do not
/// compress do not spoil the statistics of those that do. [`open`] gives them back joined.
///
/// # Panics
/// When the parts together are larger than [`MAX_DECODED_BYTES`]: callers split before that.
pub fn seal_parts(parts: &[&[u8]]) -> Bytes {
    let length = parts.iter().map(|part| part.len()).sum();
    assert!(length <= MAX_DECODED_BYTES, "a value of {length} bytes must be split");
    match compressed_parts(parts, length) {
        Ok(packed) if length >= COMPRESS_FROM && packed.len() < length => framed(ZSTD, &packed),
        Ok(_) | Err(_) => framed(RAW, &parts.concat()),
    }
}

fn compressed_parts(parts: &[&[u8]], length: usize) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::with_capacity(length), LEVEL)?;
    encoder.set_pledged_src_size(u64::try_from(length).ok())?;
    for part in parts {
        encoder.write_all(part)?;
        // Ends the block: the next one has statistics of its own.
        encoder.flush()?;
    }
    encoder.finish()
}

fn framed(codec: u8, payload: &[u8]) -> Bytes {
    let mut value = Vec::with_capacity(payload.len() + 2);
    value.extend([VERSION, codec]);
    value.extend_from_slice(payload);
    value.into()
}

/// Unwraps what [`seal`] made.
pub fn open(value: &Bytes) -> Result<Bytes, EnvelopeError> {
    let [version, codec, payload @ ..] = &value[..] else {
        return Err(EnvelopeError::Short);
    };
    if *version != VERSION {
        return Err(EnvelopeError::Version(*version));
    }
    match *codec {
        RAW => Ok(value.slice(2..)),
        ZSTD => decompress(payload).map(Bytes::from),
        other => Err(EnvelopeError::Codec(other)),
    }
}

thread_local! {
    // To make one anew costs more than to compress a record, or to decompress a page, with it.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

fn compress(plain: &[u8]) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|compressor| {
        let compressor = match compressor {
            Some(compressor) => compressor,
            None => compressor.insert(Compressor::new(LEVEL)?),
        };
        compressor.compress(plain)
    })
}

fn decompress(payload: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
    let refused = |error: io::Error| EnvelopeError::Payload(error.to_string());
    // What the frame says of its length is only believed as far as it saves memory.
    let length = zstd::zstd_safe::get_frame_content_size(payload).ok().flatten();
    let length = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(MAX_DECODED_BYTES);
    DECOMPRESSOR.with_borrow_mut(|decompressor| {
        let decompressor = match decompressor {
            Some(decompressor) => decompressor,
            None => decompressor.insert(Decompressor::new().map_err(refused)?),
        };
        decompressor.decompress(payload, length.min(MAX_DECODED_BYTES)).map_err(refused)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_sealed_opens_to_the_same(plain in proptest::collection::vec(any::<u8>(), 0..2000), times in 1_usize..20) {
            let plain = plain.repeat(times);
            prop_assert_eq!(open(&seal(&plain)).unwrap(), plain);
        }

        #[test]
        fn parts_open_joined(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..500), 0..5)) {
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(open(&seal_parts(&parts)).unwrap(), parts.concat());
        }

        #[test]
        fn arbitrary_bytes_never_panic(value in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = open(&value.into());
        }

        #[test]
        fn damage_to_the_payload_never_panics(at in 2_usize..60, flip in 1_u8..) {
            let mut value = seal(&b"a repetitive payload ".repeat(50)).to_vec();
            let at = at.min(value.len() - 1);
            value[at] ^= flip;
            let _ = open(&value.into());
        }
    }

    #[test]
    fn repetitive_values_shrink() {
        let plain = b"org.opencontainers.image.source ".repeat(100);
        assert!(seal(&plain).len() * 10 < plain.len());
    }

    #[test]
    fn other_versions_and_codecs_are_refused() {
        assert_eq!(open(&Bytes::from_static(&[1])), Err(EnvelopeError::Short));
        assert_eq!(open(&Bytes::from_static(&[2, 0, 7])), Err(EnvelopeError::Version(2)));
        assert_eq!(open(&Bytes::from_static(&[1, 9, 7])), Err(EnvelopeError::Codec(9)));
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let bomb = zstd::bulk::compress(&vec![0; MAX_DECODED_BYTES + 1], LEVEL).unwrap();
        assert!(matches!(open(&framed(ZSTD, &bomb)), Err(EnvelopeError::Payload(_))));
    }
}
