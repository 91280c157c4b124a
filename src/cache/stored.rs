//! A repository as it lies in the store: a head, pages, and side records; and how it is read back.
//!
//! ```text
//! Head(name)          generation, complete, which pages      written last, by compare-and-set
//! Page(name, hash)    tags with their images                 named by content, never rewritten
//! Directory(name, h)  which pages, for a repository of so many that the head cannot name them itself
//! Side(name)          last update, last error, next listing  \ what changes without meaning:
//! SidePage(name, n)   last fetched, interval, next per tag   / neither pages nor generation move
//! ```
//! Reading takes two round trips: the head, then everything else; three with a directory.

use jiff::Timestamp;
use samovar_registry::{Name, Tag};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::page;
use super::records::{LastError, TagRecord, TagSide, TagStateName};
use crate::store::{ContentHash, Entry, Key, Reader, StoreError, open, seal};

/// The head of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Grows with every change that means something: the greater of the one before + 1 and the time in ms.
    pub generation: u64,
    /// The list was read to its end and is not held back, and no tag is pending or failed.
    pub complete: bool,
    /// A shrunken list waits for confirmation.
    #[serde(default)]
    pub held_back: bool,
    /// Listed strings that were no valid tags.
    #[serde(default)]
    pub invalid_tags: usize,
    /// How many tags are in which state.
    pub counts: TagCounts,
    /// The platforms that the images were chosen for.
    pub platforms: String,
    /// The pages, in the order of their tags. As stored, empty where there is a directory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pages: Vec<PageRef>,
    /// The parts of the directory that names the pages, for a repository of many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directory: Vec<ContentHash>,
}

/// How many tags are in each of the five states.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagCounts {
    /// With an image.
    pub ok: usize,
    /// Not fetched yet.
    pub pending: usize,
    /// Deliberately not offered.
    pub excluded: usize,
    /// Without a manifest.
    pub unknown: usize,
    /// Nothing could be learnt.
    pub failed: usize,
}

impl TagCounts {
    /// All tags listed.
    pub fn total(&self) -> usize {
        self.ok + self.pending + self.excluded + self.unknown + self.failed
    }

    /// The counts by state, for metrics.
    pub fn by_state(&self) -> [(TagStateName, usize); 5] {
        [
            (TagStateName::Ok, self.ok),
            (TagStateName::Pending, self.pending),
            (TagStateName::Excluded, self.excluded),
            (TagStateName::Unknown, self.unknown),
            (TagStateName::Failed, self.failed),
        ]
    }
}

/// Where a page is, and from which tag on it reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRef {
    /// Its first tag.
    pub first: Tag,
    /// The hash that it is kept under.
    pub hash: ContentHash,
}

/// A head names this many pages itself, and a part of the directory holds as many: with the longest tags that is still
/// below what an entry may hold.
const MOST_PAGES_IN_ONE: usize = 1000;

/// A head as it is written, and what is to be written before it.
#[derive(Debug, Clone)]
pub struct SealedHead {
    /// The head.
    pub entry: Entry,
    /// The parts of its directory.
    pub directory: Vec<(ContentHash, Entry)>,
}

impl Head {
    /// Fills in the directory, and seals head and directory for the store.
    pub fn seal(&mut self) -> SealedHead {
        if self.pages.len() <= MOST_PAGES_IN_ONE {
            self.directory.clear();
            return SealedHead { entry: Entry::immutable(encode(self)), directory: Vec::new() };
        }
        let parts = self.pages.chunks(MOST_PAGES_IN_ONE).map(|part| {
            let plain = serde_json::to_vec(part).expect("records are written to memory");
            (ContentHash::of(&plain), Entry::immutable(seal(&plain)))
        });
        let directory: Vec<_> = parts.collect();
        self.directory = directory.iter().map(|(hash, _)| *hash).collect();
        let pages = std::mem::take(&mut self.pages);
        let entry = Entry::immutable(encode(self));
        self.pages = pages;
        SealedHead { entry, directory }
    }

    /// The position of the page that would hold `tag`.
    pub fn page_of(&self, tag: &Tag) -> Option<usize> {
        self.pages.partition_point(|page| page.first <= *tag).checked_sub(1)
    }
}

/// What changes without meaning about a repository as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// When the list was last read to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update: Option<Timestamp>,
    /// What went wrong with the list last; absent after a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// Failures in a row to list.
    #[serde(default)]
    pub attempts: u32,
    /// When to list next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_listing: Option<Timestamp>,
    /// When anything of the repository, its list or one of its tags, is next to be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_wake: Option<Timestamp>,
    /// The registry refuses us (401, 403).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Denied>,
    /// The registry says that the repository is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Gone>,
    /// Which tags were wanted when the list was last taken in (a hash of the filter).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<ContentHash>,
    /// The list that is held back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shrunken: Option<Shrunken>,
}

/// A list that lost most of its tags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shrunken {
    /// How many it had left.
    pub tags: usize,
    /// When it was first read.
    pub since: Timestamp,
}

/// A registry that refuses us: the first and the last time that it did so, without a success in between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// The first time.
    pub since: Timestamp,
    /// The last time.
    pub until: Timestamp,
}

/// A repository that was there and that the registry no longer knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// When it was first said.
    pub since: Timestamp,
    /// How often it was said, in a row.
    pub confirmations: u32,
}

/// One tag's side record: tag, last fetched, interval, next (seconds since 1970, 0 for none), attempts, missing.
type SideRow = (Tag, i64, u32, i64, u32, bool);

/// Encodes something small and sealed: a head or a side record.
pub fn encode<T: Serialize>(value: &T) -> bytes::Bytes {
    seal(&serde_json::to_vec(value).expect("records have only string keys and are written to memory"))
}

/// Decodes what [`encode`] made; what does not decode is as good as not there.
pub fn decode<T: DeserializeOwned>(entry: Option<&Entry>) -> Option<T> {
    let plain = open(&entry?.value).ok()?;
    serde_json::from_slice(&plain).ok()
}

/// Encodes the side records of a page's tags.
pub fn encode_side_page<'a>(rows: impl Iterator<Item = (&'a Tag, &'a TagSide)>) -> bytes::Bytes {
    let second = |time: Option<Timestamp>| time.map_or(0, Timestamp::as_second);
    let rows: Vec<SideRow> = rows
        .map(|(tag, side)| {
            let (fetched, next) = (second(side.last_fetched), second(side.next));
            (tag.clone(), fetched, side.interval_seconds, next, side.attempts, side.missing)
        })
        .collect();
    encode(&rows)
}

fn decode_side_page(entry: Option<&Entry>) -> Vec<(Tag, TagSide)> {
    let time = |second: i64| (second != 0).then(|| Timestamp::from_second(second).ok()).flatten();
    let rows: Vec<SideRow> = decode(entry).unwrap_or_default();
    rows.into_iter()
        .map(|(tag, last_fetched, interval_seconds, next, attempts, missing)| {
            let (last_fetched, next) = (time(last_fetched), time(next));
            (tag, TagSide { last_fetched, interval_seconds, next, attempts, missing })
        })
        .collect()
}

/// What the store holds of one repository.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The head as stored, for the next compare-and-set.
    pub head_entry: Option<Entry>,
    /// The head, decoded; `None`: never listed, or undecodable.
    pub head: Option<Head>,
    /// Whether the repository is known at all: there is a side record even before the first listing.
    pub side: Option<Side>,
    /// The tags of the pages that are there, ascending.
    pub tags: Vec<(Tag, TagRecord, TagSide)>,
    /// How many of the head's pages are missing or damaged.
    pub missing_pages: usize,
}

/// Which of a repository's pages to read.
#[derive(Debug, Clone, Copy)]
pub enum Pages<'a> {
    /// All.
    All,
    /// Only the one that would hold this tag.
    Holding(&'a Tag),
    /// None: the head and the side record.
    None,
}

/// A page may vanish between reading the head and reading it, because a newer head has replaced it: then the head is
/// read again, this often at most.
const HEAD_READS: usize = 3;

/// Reads a repository: two round trips, more only while it is being rewritten.
pub async fn load<R: Reader + ?Sized>(
    reader: &R,
    name: &Name,
    pages: Pages<'_>,
) -> Result<Loaded, StoreError> {
    let mut read = 1;
    loop {
        let loaded = load_once(reader, name, pages).await?;
        if loaded.missing_pages == 0 || read == HEAD_READS {
            return Ok(loaded);
        }
        read += 1;
    }
}

async fn load_once<R: Reader + ?Sized>(
    reader: &R,
    name: &Name,
    pages: Pages<'_>,
) -> Result<Loaded, StoreError> {
    let mut entries = reader.get_many(&[Key::Head(name.clone()), Key::Side(name.clone())]).await?.into_iter();
    let (head_entry, side_entry) = (entries.next().flatten(), entries.next().flatten());
    let mut head: Option<Head> = decode(head_entry.as_ref());
    let side: Option<Side> = decode(side_entry.as_ref());
    let mut missing_pages = 0;
    if let Some(head) =
        head.as_mut().filter(|head| !head.directory.is_empty() && !matches!(pages, Pages::None))
    {
        missing_pages = load_directory(reader, name, head).await?;
    }
    let wanted: Vec<(usize, ContentHash)> = match (&head, pages) {
        (None, _) | (_, Pages::None) => Vec::new(),
        (Some(head), Pages::All) => head.pages.iter().map(|page| page.hash).enumerate().collect(),
        (Some(head), Pages::Holding(tag)) => {
            head.page_of(tag).map(|position| (position, head.pages[position].hash)).into_iter().collect()
        }
    };
    let keys: Vec<Key> = wanted
        .iter()
        .flat_map(|(position, hash)| {
            let position = u32::try_from(*position).unwrap_or(u32::MAX);
            [Key::Page(name.clone(), *hash), Key::SidePage(name.clone(), position)]
        })
        .collect();
    let entries = if keys.is_empty() { Vec::new() } else { reader.get_many(&keys).await? };
    let mut loaded = Loaded { head_entry, head, side, tags: Vec::new(), missing_pages };
    for ((_, hash), entries) in wanted.iter().zip(entries.chunks_exact(2)) {
        let Some(records) = decode_page(entries[0].as_ref(), *hash) else {
            loaded.missing_pages += 1;
            continue;
        };
        let mut sides: std::collections::HashMap<Tag, TagSide> =
            decode_side_page(entries[1].as_ref()).into_iter().collect();
        loaded.tags.extend(records.into_iter().map(|(tag, record)| {
            let side = sides.remove(&tag).unwrap_or_default();
            (tag, record, side)
        }));
    }
    Ok(loaded)
}

/// Reads which pages there are. Says how many parts of the directory are missing.
async fn load_directory<R: Reader + ?Sized>(
    reader: &R,
    name: &Name,
    head: &mut Head,
) -> Result<usize, StoreError> {
    let keys: Vec<Key> = head.directory.iter().map(|hash| Key::Directory(name.clone(), *hash)).collect();
    let mut missing = 0;
    for (part, hash) in reader.get_many(&keys).await?.iter().zip(&head.directory) {
        let plain = part.as_ref().and_then(|entry| open(&entry.value).ok());
        let plain = plain.filter(|plain| ContentHash::of(plain) == *hash);
        match plain.and_then(|plain| serde_json::from_slice::<Vec<PageRef>>(&plain).ok()) {
            Some(mut pages) => head.pages.append(&mut pages),
            None => missing += 1,
        }
    }
    Ok(missing)
}

/// A page whose bytes are not those that its name promises is not there.
fn decode_page(entry: Option<&Entry>, hash: ContentHash) -> Option<Vec<(Tag, TagRecord)>> {
    let plain = open(&entry?.value).ok()?;
    (ContentHash::of(&plain) == hash).then(|| page::decode(&plain)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_in_the_page_that_begins_at_or_before_it() {
        let page =
            |first: &str| PageRef { first: first.parse().unwrap(), hash: ContentHash::of(first.as_bytes()) };
        let head = Head {
            generation: 1,
            complete: true,
            held_back: false,
            invalid_tags: 0,
            counts: TagCounts::default(),
            platforms: String::new(),
            pages: vec![page("b"), page("f"), page("m")],
            directory: Vec::new(),
        };
        let position = |tag: &str| head.page_of(&tag.parse().unwrap());
        assert_eq!(position("a"), None);
        assert_eq!(position("b"), Some(0));
        assert_eq!(position("ezz"), Some(0));
        assert_eq!(position("f"), Some(1));
        assert_eq!(position("zebra"), Some(2));
        assert_eq!(decode::<Head>(Some(&Entry::immutable(encode(&head)))), Some(head));
    }

    #[test]
    fn what_does_not_decode_is_not_there() {
        assert_eq!(decode::<Side>(None), None);
        assert_eq!(decode::<Side>(Some(&Entry::immutable("garbage"))), None);
        assert_eq!(decode::<Side>(Some(&Entry::immutable(seal(b"{\"last_update\":7}")))), None);
    }
}
