//! Manifests, indexes and configurations as the registry sent them, once each, by digest.
//!
//! A document larger than one entry may be is kept in parts. What comes back is checked against its digest, so a
//! damaged or half evicted document is simply not there.

use bytes::{BufMut, Bytes, BytesMut};
use samovar_registry::Digest;
use samovar_registry::upstream::Document;

use super::{Client, Entry, Key, MAX_DECODED_BYTES, Reader, StoreError, open, seal};

/// Bytes of a document in one entry; the rest of the entry's bound is for the media type.
const PART_BYTES: usize = MAX_DECODED_BYTES - 1024;
/// Enough for the largest document that is fetched, a configuration of 8 MiB.
const MOST_PARTS: u32 = 40;
/// Longer media types are cut: none is in the wild.
const MAX_MEDIA_TYPE_BYTES: usize = 255;

/// A document and the media type that it was served with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDocument {
    /// Empty for a configuration.
    pub media_type: String,
    /// The exact bytes.
    pub bytes: Bytes,
}

impl StoredDocument {
    /// The keys that the document is kept under as `digest`.
    pub fn keys(&self, digest: &Digest) -> Vec<Key> {
        let more_parts = self.bytes.len().saturating_sub(1) / PART_BYTES;
        let parts = (1..=u32::try_from(more_parts).unwrap_or(u32::MAX))
            .map(|part| Key::DocumentPart(digest.clone(), part));
        std::iter::once(Key::Document(digest.clone())).chain(parts).collect()
    }
}

/// The documents in a store.
#[derive(Debug, Clone, Copy)]
pub struct Documents<'a, S: ?Sized>(pub &'a S);

impl<S: Reader + ?Sized> Documents<'_, S> {
    /// The document named `digest`: one round trip, two for one in parts.
    pub async fn get(&self, digest: &Digest) -> Result<Option<StoredDocument>, StoreError> {
        let Some(entry) = self.0.get(&Key::Document(digest.clone())).await? else {
            return Ok(None);
        };
        let Some(first) = open(&entry.value).ok().and_then(|plain| FirstPart::decode(&plain)) else {
            return Ok(None);
        };
        let mut bytes = BytesMut::from(&first.bytes[..]);
        if first.more_parts > MOST_PARTS {
            return Ok(None);
        }
        if first.more_parts > 0 {
            let keys: Vec<Key> =
                (1..=first.more_parts).map(|part| Key::DocumentPart(digest.clone(), part)).collect();
            for part in self.0.get_many(&keys).await? {
                let Some(plain) = part.and_then(|entry| open(&entry.value).ok()) else {
                    return Ok(None);
                };
                bytes.put(plain);
            }
        }
        let document = StoredDocument { media_type: first.media_type, bytes: bytes.freeze() };
        Ok(is_named(digest, &document.media_type, &document.bytes).then_some(document))
    }
}

impl<S: Client + ?Sized> Documents<'_, S> {
    /// Keeps a document whose bytes the caller has checked against `digest`.
    pub async fn put(&self, digest: &Digest, document: &StoredDocument) -> Result<(), StoreError> {
        let mut chunks = document.bytes.chunks(PART_BYTES);
        let first = chunks.next().unwrap_or_default();
        let rest: Vec<(Key, Entry)> = (1..)
            .zip(chunks)
            .map(|(part, chunk)| (Key::DocumentPart(digest.clone(), part), Entry::immutable(seal(chunk))))
            .collect();
        let more_parts = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let head = FirstPart::encode(&document.media_type, more_parts, first);
        let mut entries = rest;
        entries.push((Key::Document(digest.clone()), Entry::immutable(seal(&head))));
        self.0.set_many(entries).await
    }
}

/// What the entry under a document's own key tells without the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// It is the whole document, and the bytes are those that the digest promises.
    Whole,
    /// It is the first part, and so many more make up the rest.
    InParts(u32),
    /// It is no document, or another one.
    Damaged,
}

impl Beginning {
    /// Looks at `entry`, which is kept under the document's key.
    pub fn of(digest: &Digest, entry: &Entry) -> Self {
        match open(&entry.value).ok().and_then(|plain| FirstPart::decode(&plain)) {
            Some(first) if (1..=MOST_PARTS).contains(&first.more_parts) => Self::InParts(first.more_parts),
            Some(whole) if whole.more_parts == 0 && is_named(digest, &whole.media_type, &whole.bytes) => {
                Self::Whole
            }
            _ => Self::Damaged,
        }
    }
}

/// Whether this is the document that `digest` names.
fn is_named(digest: &Digest, media_type: &str, bytes: &Bytes) -> bool {
    let (digest, media_type, bytes) = (digest.clone(), media_type.to_owned(), bytes.clone());
    Document { digest, media_type, bytes }.is_verified()
}

/// `more parts (u32, little endian) · length of the media type (u8) · media type · bytes`.
struct FirstPart {
    more_parts: u32,
    media_type: String,
    bytes: Bytes,
}

impl FirstPart {
    fn encode(media_type: &str, more_parts: u32, bytes: &[u8]) -> Vec<u8> {
        let media_type = &media_type.as_bytes()[..media_type.floor_char_boundary(MAX_MEDIA_TYPE_BYTES)];
        let mut plain = Vec::with_capacity(5 + media_type.len() + bytes.len());
        plain.extend(more_parts.to_le_bytes());
        plain.push(u8::try_from(media_type.len()).expect("cut to 255 above"));
        plain.extend_from_slice(media_type);
        plain.extend_from_slice(bytes);
        plain
    }

    fn decode(plain: &Bytes) -> Option<Self> {
        let (count, rest) = plain.split_first_chunk::<4>()?;
        let (&length, rest) = rest.split_first()?;
        let media_type = std::str::from_utf8(rest.get(..usize::from(length))?).ok()?.to_owned();
        let bytes = plain.slice(5 + usize::from(length)..);
        Some(Self { more_parts: u32::from_le_bytes(*count), media_type, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;

    fn document(length: usize) -> (Digest, StoredDocument) {
        let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let media_type = "application/vnd.oci.image.index.v1+json".to_owned();
        (Digest::sha256(&bytes), StoredDocument { media_type, bytes: bytes.into() })
    }

    #[tokio::test]
    async fn documents_of_any_size_come_back_whole() {
        let store = Memory::default();
        for length in [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 4 * 1024 * 1024] {
            let (digest, document) = document(length);
            Documents(&store).put(&digest, &document).await.unwrap();
            let keys = document.keys(&digest);
            assert_eq!(Documents(&store).get(&digest).await.unwrap(), Some(document), "{length} bytes");
            assert!(
                store.get_many(&keys).await.unwrap().iter().all(Option::is_some),
                "{length} bytes: {keys:?}"
            );
            store.delete(keys).await.unwrap();
            assert_eq!(Documents(&store).get(&digest).await.unwrap(), None, "{length} bytes");
        }
    }

    #[tokio::test]
    async fn the_first_entry_tells_how_many_follow() {
        let store = Memory::default();
        for (length, expected) in [
            (0, Beginning::Whole),
            (PART_BYTES, Beginning::Whole),
            (PART_BYTES + 1, Beginning::InParts(1)),
            (PART_BYTES * 3, Beginning::InParts(2)),
        ] {
            let (digest, document) = document(length);
            Documents(&store).put(&digest, &document).await.unwrap();
            let first = store.get(&Key::Document(digest.clone())).await.unwrap().unwrap();
            assert_eq!(Beginning::of(&digest, &first), expected, "{length} bytes");
            let other = Digest::sha256(b"another document");
            let promised_by_other = Beginning::of(&other, &first);
            assert_eq!(
                promised_by_other == Beginning::Damaged,
                expected == Beginning::Whole,
                "{length} bytes"
            );
        }
        assert_eq!(Beginning::of(&Digest::sha256(b""), &Entry::immutable("garbage")), Beginning::Damaged);
    }

    #[tokio::test]
    async fn a_damaged_or_half_evicted_document_is_not_there() {
        let store = Memory::default();
        let (digest, document) = document(PART_BYTES * 2 + 5);
        Documents(&store).put(&digest, &document).await.unwrap();
        let part = Key::DocumentPart(digest.clone(), 1);
        store.set(part.clone(), Entry::immutable(seal(b"something else"))).await.unwrap();
        assert_eq!(Documents(&store).get(&digest).await.unwrap(), None);
        store.delete(vec![part]).await.unwrap();
        assert_eq!(Documents(&store).get(&digest).await.unwrap(), None);
    }
}
