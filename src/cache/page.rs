//! A page: a run of a repository's tags with the images behind them, packed.
//!
//! Images of one repository say mostly the same, so a page keeps every string once, and every image once however
//! many of its tags point at it. Pages are JSON inside the store's envelope: fields can be added without a new version.
//!
//! Where a page ends depends on its tags alone: a tag whose hash ends in `BOUNDARY_BITS` zeros begins a new one.
//! So a tag that comes, goes or moves changes the page it stands in and no other.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use samovar_registry::upstream::ErrorClass;
use samovar_registry::{Digest, Tag};
use serde::{Deserialize, Serialize};

use super::records::{Exclusion, ImageRecord, TagRecord, TagState};

/// A page holds 2^6 = 64 tags on average.
const BOUNDARY_BITS: u32 = 6;
/// A page holds no more tags than this.
pub const MOST_TAGS: usize = 256;
/// A page ends once its content is estimated at this many bytes: half of what an entry may hold.
pub const MOST_BYTES: usize = 128 * 1024;
/// Labels of one image over this many bytes in all are dropped, the largest first: a page must hold any image.
pub const MOST_LABEL_BYTES: usize = 64 * 1024;

/// What a text costs beside itself: quotes, commas, the positions that refer to it.
const TEXT_OVERHEAD_BYTES: usize = 8;
/// Platforms of one image beyond this many are not kept.
pub const MOST_PLATFORMS: usize = 64;
/// A reason longer than this is cut.
pub const MOST_REASON_BYTES: usize = 1024;

/// Cuts a reason, which may quote a registry, to its bound.
pub fn bounded_reason(mut reason: String) -> String {
    if reason.len() > MOST_REASON_BYTES {
        reason.truncate(reason.floor_char_boundary(MOST_REASON_BYTES));
        reason.push('…');
    }
    reason
}

/// Splits tags in ascending order into pages: for each, how many of them it holds. Each tag comes with an estimate
/// of its bytes.
pub fn split<'a>(tags: impl Iterator<Item = (&'a Tag, usize)>) -> Vec<usize> {
    let mut pages = Vec::new();
    let (mut count, mut bytes) = (0, 0);
    for (tag, weight) in tags {
        if count > 0 && (begins_a_page(tag) || count == MOST_TAGS || bytes + weight > MOST_BYTES) {
            pages.push(count);
            (count, bytes) = (0, 0);
        }
        count += 1;
        bytes += weight;
    }
    if count > 0 {
        pages.push(count);
    }
    pages
}

/// By FNV-1a, which will not change under us as the standard library's hash may, with its bits stirred once more.
fn begins_a_page(tag: &Tag) -> bool {
    let hash = tag.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (hash ^ (hash >> 32)).trailing_zeros() >= BOUNDARY_BITS
}

/// Estimates the bytes that a tag adds to its page before compression.
pub fn weight(tag: &Tag, record: &TagRecord) -> usize {
    let state = match &record.state {
        TagState::Ok(image) => {
            let label = |(key, value): (&String, &String)| text_weight(key) + text_weight(value);
            let labels: usize = image.labels.iter().map(label).sum();
            let platforms: usize = image.platforms.iter().map(|platform| text_weight(platform)).sum();
            300 + labels + platforms
        }
        TagState::Excluded { reason, .. } | TagState::Failed { reason, .. } => 100 + text_weight(reason),
        TagState::Pending | TagState::Unknown => 0,
    };
    80 + tag.as_str().len() + state
}

/// The bytes of a text in JSON: a control character becomes six.
fn text_weight(text: &str) -> usize {
    let bytes = text.bytes().map(|byte| match byte {
        0..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    });
    bytes.sum::<usize>() + TEXT_OVERHEAD_BYTES
}

/// Cuts labels down to what a page can hold: the smallest stay.
pub fn bounded_labels(labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let size = |(key, value): &(String, String)| text_weight(key) + text_weight(value);
    let mut smallest_first: Vec<(String, String)> = labels.into_iter().collect();
    smallest_first.sort_by_key(size);
    let mut left = MOST_LABEL_BYTES;
    smallest_first
        .into_iter()
        .map_while(|label| {
            left = left.checked_sub(size(&label))?;
            Some(label)
        })
        .collect()
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Packed {
    /// Every string once; the others refer to it by position.
    strings: Vec<String>,
    images: Vec<PackedImage>,
    tags: Vec<PackedTag>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PackedImage {
    #[serde(rename = "d")]
    digest: Digest,
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    image_id: Option<Digest>,
    #[serde(rename = "m")]
    media_type: usize,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
    /// Key, value, key, value …
    #[serde(rename = "l", default, skip_serializing_if = "Vec::is_empty")]
    labels: Vec<usize>,
    #[serde(rename = "p", default, skip_serializing_if = "Vec::is_empty")]
    platforms: Vec<usize>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PackedTag {
    #[serde(rename = "t")]
    tag: Tag,
    #[serde(rename = "s")]
    state: PackedState,
    /// Milliseconds since 1970.
    #[serde(rename = "a")]
    since: i64,
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    first_seen: Option<i64>,
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    moved_to: Option<Digest>,
}

#[derive(Debug, Serialize, Deserialize)]
enum PackedState {
    #[serde(rename = "p")]
    Pending,
    /// Position among the page's images.
    #[serde(rename = "o")]
    Ok(usize),
    #[serde(rename = "x")]
    Excluded(Option<Digest>, Exclusion, usize),
    #[serde(rename = "u")]
    Unknown,
    #[serde(rename = "f")]
    Failed(ErrorClass, usize),
}

/// Packs a page.
pub fn encode<'a>(tags: impl Iterator<Item = (&'a Tag, &'a TagRecord)>) -> Vec<u8> {
    let mut packer = Packer::default();
    for (tag, record) in tags {
        packer.add(tag, record);
    }
    serde_json::to_vec(&packer.packed).expect("a page has only string keys and writes to memory")
}

#[derive(Debug, Default)]
struct Packer {
    packed: Packed,
    strings: HashMap<String, usize>,
    images: HashMap<Digest, usize>,
}

impl Packer {
    fn add(&mut self, tag: &Tag, record: &TagRecord) {
        let state = match &record.state {
            TagState::Pending => PackedState::Pending,
            TagState::Ok(image) => PackedState::Ok(self.image(image)),
            TagState::Excluded { digest, why, reason } => {
                PackedState::Excluded(digest.clone(), *why, self.string(reason))
            }
            TagState::Unknown => PackedState::Unknown,
            TagState::Failed { class, reason } => PackedState::Failed(*class, self.string(reason)),
        };
        self.packed.tags.push(PackedTag {
            tag: tag.clone(),
            state,
            since: record.since.as_millisecond(),
            first_seen: record.first_seen.map(Timestamp::as_millisecond),
            moved_to: record.moved_to.clone(),
        });
    }

    fn image(&mut self, image: &ImageRecord) -> usize {
        if let Some(position) = self.images.get(&image.digest) {
            return *position;
        }
        let packed = PackedImage {
            digest: image.digest.clone(),
            image_id: image.image_id.clone(),
            media_type: self.string(&image.media_type),
            size: image.size,
            created_at: image.created_at,
            labels: image
                .labels
                .iter()
                .flat_map(|(key, value)| [self.string(key), self.string(value)])
                .collect(),
            platforms: image.platforms.iter().map(|platform| self.string(platform)).collect(),
        };
        let position = self.packed.images.len();
        self.packed.images.push(packed);
        self.images.insert(image.digest.clone(), position);
        position
    }

    fn string(&mut self, text: &str) -> usize {
        if let Some(position) = self.strings.get(text) {
            return *position;
        }
        let position = self.packed.strings.len();
        self.packed.strings.push(text.to_owned());
        self.strings.insert(text.to_owned(), position);
        position
    }
}

/// Unpacks a page; `None` when it is not one.
pub fn decode(plain: &[u8]) -> Option<Vec<(Tag, TagRecord)>> {
    let packed: Packed = serde_json::from_slice(plain).ok()?;
    let string = |position: usize| packed.strings.get(position).cloned();
    let images = packed
        .images
        .iter()
        .map(|image| {
            let labels = image
                .labels
                .chunks_exact(2)
                .map(|pair| Some((string(pair[0])?, string(pair[1])?)))
                .collect::<Option<BTreeMap<_, _>>>()?;
            Some(Arc::new(ImageRecord {
                digest: image.digest.clone(),
                image_id: image.image_id.clone(),
                media_type: string(image.media_type)?,
                size: image.size,
                created_at: image.created_at,
                labels: Arc::new(labels),
                platforms: image.platforms.iter().map(|platform| string(*platform)).collect::<Option<_>>()?,
            }))
        })
        .collect::<Option<Vec<_>>>()?;
    let tags = packed.tags.into_iter().map(|packed_tag| {
        let state = match packed_tag.state {
            PackedState::Pending => TagState::Pending,
            PackedState::Ok(position) => TagState::Ok(Arc::clone(images.get(position)?)),
            PackedState::Excluded(digest, why, reason) => {
                TagState::Excluded { digest, why, reason: string(reason)? }
            }
            PackedState::Unknown => TagState::Unknown,
            PackedState::Failed(class, reason) => TagState::Failed { class, reason: string(reason)? },
        };
        let record = TagRecord {
            state,
            since: Timestamp::from_millisecond(packed_tag.since).ok()?,
            first_seen: match packed_tag.first_seen {
                Some(millisecond) => Some(Timestamp::from_millisecond(millisecond).ok()?),
                None => None,
            },
            moved_to: packed_tag.moved_to,
        };
        Some((packed_tag.tag, record))
    });
    tags.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tag(text: &str) -> Tag {
        text.parse().unwrap()
    }

    fn image(seed: u16) -> Arc<ImageRecord> {
        let labels = (0..seed % 12).map(|label| (format!("label.{label}"), format!("value {}", seed % 5)));
        Arc::new(ImageRecord {
            digest: Digest::sha256(&seed.to_le_bytes()),
            image_id: seed.is_multiple_of(2).then(|| Digest::sha512(b"config")),
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            size: seed.is_multiple_of(3).then_some(u64::from(seed) << 30),
            created_at: Timestamp::from_second(i64::from(seed) * 1_000_003).ok(),
            labels: Arc::new(labels.collect()),
            platforms: vec!["linux/amd64".into(), format!("linux/arm64/v{}", seed % 3)],
        })
    }

    fn record(seed: u16) -> TagRecord {
        let state = match seed % 7 {
            0 => TagState::Pending,
            1 => TagState::Excluded { digest: None, why: Exclusion::Configuration, reason: "ignored".into() },
            2 => TagState::Unknown,
            3 => TagState::Failed { class: ErrorClass::Timeout, reason: format!("no answer {seed}") },
            _ => TagState::Ok(image(seed / 20)),
        };
        let since = Timestamp::from_millisecond(1_700_000_000_000 + i64::from(seed)).unwrap();
        let moved_to = seed.is_multiple_of(11).then(|| Digest::sha256(b"elsewhere"));
        TagRecord { state, since, first_seen: seed.is_multiple_of(2).then_some(since), moved_to }
    }

    proptest! {
        #[test]
        fn pages_decode_to_what_was_encoded(seeds in proptest::collection::btree_map("[a-z0-9_][a-z0-9._-]{0,20}", any::<u16>(), 0..80)) {
            let tags: Vec<(Tag, TagRecord)> = seeds.iter().map(|(text, seed)| (tag(text), record(*seed))).collect();
            let encoded = encode(tags.iter().map(|(tag, record)| (tag, record)));
            prop_assert_eq!(decode(&encoded), Some(tags));
        }

        #[test]
        fn a_tag_more_changes_at_most_two_pages(texts in proptest::collection::btree_set("[0-9]{1,6}", 2..600), pick in any::<prop::sample::Index>()) {
            let texts: Vec<Tag> = texts.iter().map(|text| tag(text)).collect();
            let left_out = pick.index(texts.len());
            let pages = |tags: &[Tag]| {
                let mut rest = tags;
                split(tags.iter().map(|tag| (tag, 100)))
                    .into_iter()
                    .map(|count| { let (page, after) = rest.split_at(count); rest = after; page.to_vec() })
                    .collect::<std::collections::BTreeSet<_>>()
            };
            let with = pages(&texts);
            let fewer: Vec<Tag> = texts.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, tag)| tag.clone()).collect();
            let without = pages(&fewer);
            // One page loses the tag; where the tag began a page, that page joins the one before. A page that is cut
            // for being full may shift its neighbours up to the next boundary.
            let full = with.iter().chain(&without).filter(|page| page.len() == MOST_TAGS).count();
            prop_assert!(with.difference(&without).count() <= 2 + full);
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn pages_are_neither_tiny_nor_huge() {
        let tags: Vec<Tag> = (0..50_000).map(|number| tag(&format!("1.{number}"))).collect();
        let pages = split(tags.iter().map(|tag| (tag, 500)));
        assert_eq!(pages.iter().sum::<usize>(), tags.len());
        assert!(pages.iter().all(|count| *count <= MOST_TAGS));
        assert!((400..1600).contains(&pages.len()), "{} pages", pages.len());
    }

    #[test]
    fn positions_out_of_range_are_refused() {
        assert_eq!(decode(br#"{"strings":[],"images":[],"tags":[{"t":"a","s":{"o":3},"a":0}]}"#), None);
        assert_eq!(
            decode(br#"{"strings":[],"images":[],"tags":[{"t":"a","s":{"f":["timeout",0]},"a":0}]}"#),
            None
        );
    }

    #[test]
    fn the_worst_image_fits_a_page_and_a_page_an_entry() {
        let worst = "\u{1}".repeat(40);
        let labels =
            bounded_labels((0..10_000).map(|number| (format!("{worst}{number}"), worst.clone())).collect());
        assert!((50..500).contains(&labels.len()), "{} labels", labels.len());
        let image = ImageRecord {
            labels: Arc::new(labels),
            platforms: vec!["x".repeat(300); MOST_PLATFORMS],
            media_type: "\u{1}".repeat(255),
            ..(*image(0)).clone()
        };
        let records: Vec<(Tag, TagRecord)> = (0..300_u16)
            .map(|number| {
                let digest = Digest::sha256(&number.to_le_bytes());
                let state = match number % 2 {
                    0 => TagState::Ok(Arc::new(ImageRecord { digest, ..image.clone() })),
                    _ => TagState::Failed {
                        class: ErrorClass::Protocol,
                        reason: bounded_reason("\u{1}".repeat(9999)),
                    },
                };
                let tag = tag(&format!("{number:0>128}"));
                (tag, TagRecord { state, since: Timestamp::UNIX_EPOCH, first_seen: None, moved_to: None })
            })
            .collect();
        let mut rest = &records[..];
        for count in split(records.iter().map(|(tag, record)| (tag, weight(tag, record)))) {
            let (page, after) = rest.split_at(count);
            let encoded = encode(page.iter().map(|(tag, record)| (tag, record)));
            assert!(encoded.len() <= crate::store::MAX_DECODED_BYTES, "{} bytes", encoded.len());
            rest = after;
        }
    }

    #[test]
    fn huge_labels_are_cut_largest_first() {
        let labels = BTreeMap::from([
            ("small".to_owned(), "kept".to_owned()),
            ("huge".to_owned(), "x".repeat(MOST_LABEL_BYTES)),
        ]);
        assert_eq!(bounded_labels(labels), BTreeMap::from([("small".to_owned(), "kept".to_owned())]));
    }
}
