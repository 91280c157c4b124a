//! How a page is written: JSON, in which everything is said once, and a tail of bytes that would not compress.
//!
//! ```text
//! {"tags":[{"t":"1.0","a":1714979289000,"s":{"o":{"m":"application/…","s":3626897,"l":["key","value"]}}},
//!          {"t":"1.0.1","a":17,"s":{"k":0}}]}  digests and hexadecimal texts, in the order in which they are met
//! ```
//! An image stands with the first of its tags, the others call it by its number; times are told from the row before.
//! The JSON may gain fields without a new version of the store; what adds to the tail, or to the texts, may not:
//! a page whose tail is not used up to the last byte is refused.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use samovar_registry::upstream::{ErrorClass, HintSource};
use samovar_registry::{Digest, Labels, Tag};
use serde::{Deserialize, Serialize};

use super::Page;
use super::texts::{Reader, Text, Writer};
use crate::cache::records::{Exclusion, ImageRecord, Pushed, TagRecord, TagState};

/// Bytes of a digest in the tail where nothing else is said: sha256.
const USUAL_DIGEST_BYTES: usize = 32;

#[derive(Debug, Serialize, Deserialize)]
struct Packed<'a> {
    #[serde(borrow)]
    tags: Vec<PackedTag<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PackedTag<'a> {
    #[serde(rename = "t", borrow)]
    tag: Cow<'a, str>,
    /// Milliseconds since the row before; since 1970 in the first.
    #[serde(rename = "a")]
    since: i64,
    #[serde(rename = "s", borrow)]
    state: PackedState<'a>,
    /// Milliseconds from then until `since`.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    first_seen: Option<i64>,
    /// Bytes of the digest in the tail.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    moved_to: Option<usize>,
    /// Milliseconds from the push until `since`, and who told.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pushed: Option<(i64, HintSource)>,
    #[serde(rename = "x", default, skip_serializing_if = "std::ops::Not::not")]
    was_excluded: bool,
}

#[derive(Debug, Serialize, Deserialize)]
enum PackedState<'a> {
    #[serde(rename = "p")]
    Pending,
    #[serde(rename = "o", borrow)]
    Image(PackedImage<'a>),
    /// The number of an image that stands further up.
    #[serde(rename = "k")]
    KnownImage(usize),
    /// With the bytes of the digest in the tail.
    #[serde(rename = "x")]
    Excluded(Option<usize>, Exclusion, #[serde(borrow)] Text<'a>),
    #[serde(rename = "u")]
    Unknown,
    #[serde(rename = "f")]
    Failed(ErrorClass, #[serde(borrow)] Text<'a>),
}

#[derive(Debug, Serialize, Deserialize)]
struct PackedImage<'a> {
    /// Bytes of the digest in the tail.
    #[serde(rename = "d", default = "usual_digest", skip_serializing_if = "is_usual_digest")]
    digest: usize,
    /// The same, 0 for none.
    #[serde(rename = "i", default = "usual_digest", skip_serializing_if = "is_usual_digest")]
    image_id: usize,
    #[serde(rename = "m", borrow)]
    media_type: Text<'a>,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// Seconds since 1970.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    created_at: Option<i64>,
    #[serde(rename = "n", default, skip_serializing_if = "is_zero")]
    created_at_nanosecond: i32,
    /// Key, value, key, value …
    #[serde(rename = "l", default, skip_serializing_if = "Vec::is_empty", borrow)]
    labels: Vec<Text<'a>>,
    #[serde(rename = "p", default, skip_serializing_if = "Vec::is_empty", borrow)]
    platforms: Vec<Text<'a>>,
}

fn usual_digest() -> usize {
    USUAL_DIGEST_BYTES
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_usual_digest(bytes: &usize) -> bool {
    *bytes == USUAL_DIGEST_BYTES
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// A page's bytes before compression: JSON, and the tail that compression can leave alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Encoded {
    pub(super) json: Vec<u8>,
    pub(super) tail: Vec<u8>,
}

/// Packs a page.
pub(super) fn encode<'a>(tags: impl Iterator<Item = (&'a Tag, &'a TagRecord)>) -> Encoded {
    let mut packer = Packer::default();
    let page = Packed { tags: tags.map(|(tag, record)| packer.tag(tag, record)).collect() };
    let json = serde_json::to_vec(&page).expect("a page has only string keys and writes to memory");
    Encoded { json, tail: packer.texts.tail }
}

#[derive(Debug, Default)]
struct Packer {
    texts: Writer,
    images: HashMap<Digest, usize>,
    since: i64,
}

impl Packer {
    fn tag<'a>(&mut self, tag: &'a Tag, record: &TagRecord) -> PackedTag<'a> {
        let state = match &record.state {
            TagState::Pending => PackedState::Pending,
            TagState::Ok(image) => self.image(image),
            TagState::Excluded { digest, why, reason } => {
                let digest = digest.as_ref().map(|digest| self.digest(digest));
                PackedState::Excluded(digest, *why, self.texts.text(reason))
            }
            TagState::Unknown => PackedState::Unknown,
            TagState::Failed { class, reason } => PackedState::Failed(*class, self.texts.text(reason)),
        };
        let since = record.since.as_millisecond();
        let before = std::mem::replace(&mut self.since, since);
        PackedTag {
            tag: Cow::Borrowed(tag.as_str()),
            since: since - before,
            state,
            first_seen: record.first_seen.map(|first_seen| since - first_seen.as_millisecond()),
            moved_to: record.moved_to.as_ref().map(|digest| self.digest(digest)),
            pushed: record.pushed.map(|pushed| (since - pushed.at.as_millisecond(), pushed.source)),
            was_excluded: record.was_excluded,
        }
    }

    fn image(&mut self, image: &ImageRecord) -> PackedState<'static> {
        if let Some(number) = self.images.get(&image.digest) {
            return PackedState::KnownImage(*number);
        }
        self.images.insert(image.digest.clone(), self.images.len());
        let digest = self.digest(&image.digest);
        let image_id = image.image_id.as_ref().map_or(0, |image_id| self.digest(image_id));
        let media_type = self.texts.text(&image.media_type);
        let texts = image.labels.iter().flat_map(|(key, value)| [key, value]);
        let labels = texts.map(|text| self.texts.text(text)).collect();
        let platforms = image.platforms.iter().map(|platform| self.texts.text(platform)).collect();
        PackedState::Image(PackedImage {
            digest,
            image_id,
            media_type,
            size: image.size,
            created_at: image.created_at.map(Timestamp::as_second),
            created_at_nanosecond: image.created_at.map_or(0, Timestamp::subsec_nanosecond),
            labels,
            platforms,
        })
    }

    fn digest(&mut self, digest: &Digest) -> usize {
        self.texts.tail.extend_from_slice(digest.bytes());
        digest.bytes().len()
    }
}

/// Unpacks a page; `None` when it is not one.
pub(super) fn decode(plain: &[u8]) -> Option<Page> {
    let mut json = serde_json::Deserializer::from_slice(plain).into_iter::<Packed<'_>>();
    let packed = json.next()?.ok()?;
    let mut unpacker =
        Unpacker { texts: Reader::new(&plain[json.byte_offset()..]), images: Vec::new(), since: 0 };
    let tags = packed.tags.iter().map(|tag| unpacker.tag(tag)).collect::<Option<Vec<_>>>()?;
    unpacker.texts.is_at_the_end().then_some(Page { tags, texts: unpacker.texts.known })
}

#[derive(Debug)]
struct Unpacker<'a> {
    texts: Reader<'a>,
    images: Vec<Arc<ImageRecord>>,
    since: i64,
}

impl<'a> Unpacker<'a> {
    fn tag(&mut self, packed: &PackedTag<'a>) -> Option<(Tag, TagRecord)> {
        let tag = Tag::try_from(&*packed.tag).ok()?;
        let state = match &packed.state {
            PackedState::Pending => TagState::Pending,
            PackedState::Image(image) => TagState::Ok(self.image(image)?),
            PackedState::KnownImage(number) => TagState::Ok(Arc::clone(self.images.get(*number)?)),
            PackedState::Excluded(digest, why, reason) => {
                let digest = self.optional_digest(*digest)?;
                TagState::Excluded { digest, why: *why, reason: self.string(reason)? }
            }
            PackedState::Unknown => TagState::Unknown,
            PackedState::Failed(class, reason) => {
                TagState::Failed { class: *class, reason: self.string(reason)? }
            }
        };
        self.since = self.since.checked_add(packed.since)?;
        let before =
            |milliseconds: i64| Timestamp::from_millisecond(self.since.checked_sub(milliseconds)?).ok();
        let first_seen = match packed.first_seen {
            Some(milliseconds) => Some(before(milliseconds)?),
            None => None,
        };
        let pushed = match packed.pushed {
            Some((milliseconds, source)) => Some(Pushed { at: before(milliseconds)?, source }),
            None => None,
        };
        let since = Timestamp::from_millisecond(self.since).ok()?;
        let moved_to = self.optional_digest(packed.moved_to)?;
        let was_excluded = packed.was_excluded;
        Some((tag, TagRecord { state, since, first_seen, moved_to, pushed, was_excluded }))
    }

    fn image(&mut self, packed: &PackedImage<'a>) -> Option<Arc<ImageRecord>> {
        let digest = self.digest(packed.digest)?;
        let image_id = self.optional_digest((packed.image_id > 0).then_some(packed.image_id))?;
        let media_type = self.string(&packed.media_type)?;
        let pairs = packed.labels.chunks_exact(2);
        let labels = pairs
            .map(|pair| Some((self.texts.text(&pair[0])?, self.texts.text(&pair[1])?)))
            .collect::<Option<Labels>>()?;
        let platforms = packed.platforms.iter().map(|platform| self.string(platform));
        let platforms = platforms.collect::<Option<Vec<_>>>()?;
        let created_at = match packed.created_at {
            Some(second) => Some(Timestamp::new(second, packed.created_at_nanosecond).ok()?),
            None => None,
        };
        let image = Arc::new(ImageRecord {
            digest,
            image_id,
            media_type,
            size: packed.size,
            created_at,
            labels,
            platforms,
        });
        self.images.push(Arc::clone(&image));
        Some(image)
    }

    fn string(&mut self, text: &Text<'a>) -> Option<String> {
        self.texts.text(text).map(|text| text.as_ref().to_owned())
    }

    fn digest(&mut self, bytes: usize) -> Option<Digest> {
        Digest::from_bytes(self.texts.bytes(bytes)?)
    }

    /// `None`: there should be one, and is not.
    #[expect(clippy::option_option, reason = "whether it can be read, and whether there is one")]
    fn optional_digest(&mut self, bytes: Option<usize>) -> Option<Option<Digest>> {
        match bytes {
            Some(bytes) => self.digest(bytes).map(Some),
            None => Some(None),
        }
    }
}
