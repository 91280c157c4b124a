//! A page: a run of a repository's tags with the images behind them, packed.
//!
//! Images of one repository say mostly the same, so a page says every text once, and every image once however many of
//! its tags point at it. How a page is written: `page/packed.rs`.
//!
//! Where a page ends depends on its tags alone: a tag whose hash ends in `BOUNDARY_BITS` zeros begins a new one.
//! So a tag that comes, goes or moves changes the page it stands in and no other.

mod packed;
mod texts;

use std::collections::BTreeMap;
use std::sync::Arc;

use samovar_registry::{Labels, Tag};

use super::records::{TagRecord, TagState};
use crate::store::{self, ContentHash, Entry, seal_parts};

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

/// Whether a page begins with this tag, whatever is before it: what is before it has nothing to say in how the tags from here
/// on are split. By FNV-1a, which will not change under us as the standard library's hash may, with its bits stirred once more.
pub(crate) fn begins_a_page(tag: &Tag) -> bool {
    let hash = tag.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (hash ^ (hash >> 32)).trailing_zeros() >= BOUNDARY_BITS
}

/// Estimates the bytes that a tag adds to its page before compression.
pub fn weight(tag: &Tag, record: &TagRecord) -> usize {
    let state = match &record.state {
        TagState::Ok(image) => {
            let label = |(key, value): (&str, &str)| text_weight(key) + text_weight(value);
            let labels: usize = image.labels.iter().map(label).sum();
            let platforms: usize = image.platforms.iter().map(|platform| text_weight(platform)).sum();
            300 + labels + platforms
        }
        TagState::Excluded { reason, .. } | TagState::Failed { reason, .. } => 100 + text_weight(reason),
        TagState::Pending | TagState::Unknown => 0,
    };
    let pushed = if record.pushed.is_some() { 25 } else { 0 };
    80 + tag.as_str().len() + state + pushed
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
pub fn bounded_labels(labels: BTreeMap<String, String>) -> Labels {
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

/// A page, unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its tags, ascending.
    pub tags: Vec<(Tag, TagRecord)>,
    /// Every distinct text that they say. Those of labels are shared by all that say them.
    pub texts: Vec<Arc<str>>,
}

/// A page ready for the store.
#[derive(Debug, Clone)]
pub struct SealedPage {
    /// Names the page: the hash of its content.
    pub hash: ContentHash,
    /// The page.
    pub entry: Entry,
}

/// Packs tags, in ascending order, into a page.
pub fn seal<'a>(tags: impl Iterator<Item = (&'a Tag, &'a TagRecord)>) -> SealedPage {
    let packed::Encoded { json, tail } = packed::encode(tags);
    let hash = ContentHash::of(&[&json[..], &tail[..]].concat());
    SealedPage { hash, entry: Entry::immutable(seal_parts(&[&json, &tail])) }
}

/// Unpacks the page that is named `hash`, of at least one tag. `None`: its bytes are not those that the name
/// promises, or are no page.
pub fn open(entry: &Entry, hash: ContentHash) -> Option<Page> {
    let plain = store::open(&entry.value).ok()?;
    (ContentHash::of(&plain) == hash).then(|| decode(&plain)).flatten()
}

/// Unpacks the content of a page, taken out of its envelope; `None`: it is none.
pub fn decode(plain: &[u8]) -> Option<Page> {
    let page = packed::decode(plain)?;
    let is_ascending = page.tags.is_sorted_by(|(before, _), (after, _)| before < after);
    (is_ascending && !page.tags.is_empty()).then_some(page)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;
    use samovar_registry::Digest;
    use samovar_registry::upstream::{ErrorClass, HintSource};

    use super::*;
    use crate::cache::records::{Exclusion, ImageRecord, Pushed};

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
            labels: labels.collect(),
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
        let pushed = seed.is_multiple_of(3).then_some(Pushed { at: since, source: HintSource::Quay });
        let first_seen = seed.is_multiple_of(2).then_some(since);
        TagRecord { state, since, first_seen, moved_to, pushed, was_excluded: seed.is_multiple_of(13) }
    }

    proptest! {
        #[test]
        fn pages_decode_to_what_was_encoded(seeds in proptest::collection::btree_map("[a-z0-9_][a-z0-9._-]{0,20}", any::<u16>(), 1..80)) {
            let tags: Vec<(Tag, TagRecord)> = seeds.iter().map(|(text, seed)| (tag(text), record(*seed))).collect();
            let SealedPage { hash, entry } = seal(tags.iter().map(|(tag, record)| (tag, record)));
            prop_assert_eq!(open(&entry, hash).map(|page| page.tags), Some(tags));
            prop_assert_eq!(open(&entry, ContentHash::of(b"another page")), None);
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
    fn what_refers_to_nothing_and_what_is_left_over_is_refused() {
        let pending = br#"{"tags":[{"t":"a","s":"p","a":0,"added later":1}]}"#;
        assert_eq!(decode(pending).unwrap().tags.len(), 1);
        for wrong in [
            r#"{"tags":[{"t":"a","s":{"k":3},"a":0}]}"#,
            r#"{"tags":[{"t":"a","s":{"f":["timeout",0]},"a":0}]}"#,
            r#"{"tags":[{"t":"a","s":{"o":{"m":"type"}},"a":0}]}a tail of 32 bytes, but no image_id"#,
            r#"{"tags":[{"t":"a","s":"p","a":0}]}left over"#,
            r#"{"tags":[{"t":"a","s":"p","a":9223372036854775807},{"t":"b","s":"p","a":1}]}"#,
            r#"{"tags":[{"t":"no tag","s":"p","a":0}]}"#,
        ] {
            assert_eq!(decode(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn the_worst_image_fits_a_page_and_a_page_an_entry() {
        let worst = "\u{1}".repeat(40);
        let labels =
            bounded_labels((0..10_000).map(|number| (format!("{worst}{number}"), worst.clone())).collect());
        assert!((50..500).contains(&labels.len()), "{} labels", labels.len());
        let image = ImageRecord {
            labels,
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
                (tag, TagRecord { state, ..TagRecord::pending(Timestamp::UNIX_EPOCH, None) })
            })
            .collect();
        let mut rest = &records[..];
        for count in split(records.iter().map(|(tag, record)| (tag, weight(tag, record)))) {
            let (page, after) = rest.split_at(count);
            let SealedPage { hash, entry } = seal(page.iter().map(|(tag, record)| (tag, record)));
            assert_eq!(open(&entry, hash).unwrap().tags, page, "it fits, or sealing would have panicked");
            rest = after;
        }
    }

    #[test]
    fn knowing_when_tags_were_pushed_costs_a_few_bytes_each() {
        let records = |told: bool| -> Vec<(Tag, TagRecord)> {
            let record = |number: i64| {
                let second = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
                let at = second(number * 4_321 + number * number * 77);
                let pushed = told.then_some(Pushed { at, source: HintSource::DockerHub });
                let state = TagState::Ok(image(u16::try_from(number).unwrap()));
                (
                    tag(&format!("1.{number:03}")),
                    TagRecord { state, pushed, ..TagRecord::pending(second(0), None) },
                )
            };
            (0..64).map(record).collect()
        };
        let bytes = |told| {
            let records = records(told);
            let sealed = seal(records.iter().map(|(tag, record)| (tag, record)));
            assert_eq!(open(&sealed.entry, sealed.hash).unwrap().tags, records);
            sealed.entry.value.len()
        };
        let (without, with) = (bytes(false), bytes(true));
        assert!(with - without <= 64 * 8, "{without} bytes without, {with} with");
    }

    #[test]
    fn huge_labels_are_cut_largest_first() {
        let labels = BTreeMap::from([
            ("small".to_owned(), "kept".to_owned()),
            ("huge".to_owned(), "x".repeat(MOST_LABEL_BYTES)),
        ]);
        assert_eq!(bounded_labels(labels), [("small", "kept")].into_iter().collect());
    }
}
