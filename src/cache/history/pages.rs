//! The pages of a history: how they are named, written and read.

use samovar_registry::Name;
use serde::{Deserialize, Deserializer, Serialize};

use super::Event;
use crate::store::{ContentHash, Entry, Key, Reader, StoreError, open, seal};

/// Changes that a page holds at most. With the longest tags and digests they are about 70 KiB, far below what an entry may hold.
pub const MOST_CHANGES_IN_PAGE: usize = 128;

/// Where a repository's history is: part of its head.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The number of the first change that counts; those before it in the first page are forgotten.
    #[serde(rename = "from")]
    pub first: u64,
    /// The pages, the oldest first.
    pub pages: Vec<HistoryPage>,
}

/// Where a page is, and what of it must be known without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryPage {
    /// The hash that it is kept under.
    pub hash: ContentHash,
    /// How many changes it holds.
    #[serde(rename = "n")]
    pub count: usize,
    /// The number of the last.
    #[serde(rename = "last")]
    pub last: u64,
    /// The generation that told of the last, which is about when that was, in milliseconds.
    #[serde(rename = "g")]
    pub generation: u64,
}

impl History {
    /// Whether nothing was ever told.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// The number of the next change.
    pub fn next(&self) -> u64 {
        self.pages.last().map_or(0, |page| page.last + 1)
    }

    /// The last page, if there is room in it.
    pub fn unfinished(&self) -> Option<&HistoryPage> {
        self.pages.last().filter(|page| page.count < MOST_CHANGES_IN_PAGE)
    }
}

/// Seals changes, no more than fit a page.
pub fn seal_page(events: &[Event]) -> (ContentHash, Entry) {
    let plain = serde_json::to_vec(events).expect("changes are written to memory");
    (ContentHash::of(&plain), Entry::immutable(seal(&plain)))
}

/// Opens what [`seal_page`] made; `None` where it is not what its name promises.
pub fn open_page(entry: &Entry, hash: ContentHash) -> Option<Vec<Event>> {
    let plain = open(&entry.value).ok()?;
    (ContentHash::of(&plain) == hash).then(|| decode_page(&plain)).flatten()
}

/// Decodes the content of a page. Changes of a kind that only a later samovar knows are left out.
pub(crate) fn decode_page(plain: &[u8]) -> Option<Vec<Event>> {
    known(&mut serde_json::Deserializer::from_slice(plain)).ok()
}

/// Reads changes, and leaves out those that this version does not know.
pub(in crate::cache) fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Event>, D::Error> {
    let events = Vec::<serde_json::Value>::deserialize(deserializer)?;
    Ok(events.into_iter().filter_map(|event| serde_json::from_value(event).ok()).collect())
}

/// What could be read of a history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadHistory {
    /// The changes, the oldest first.
    pub events: Vec<Event>,
    /// Pages that are missing or do not decode.
    pub missing_pages: usize,
}

/// Reads, in one round trip, what `history` tells of generations after this one.
pub async fn read_after<R: Reader + ?Sized>(
    reader: &R,
    name: &Name,
    history: &History,
    generation: u64,
) -> Result<ReadHistory, StoreError> {
    let wanted: Vec<&HistoryPage> =
        history.pages.iter().filter(|page| page.generation > generation).collect();
    let mut read = ReadHistory::default();
    if wanted.is_empty() {
        return Ok(read);
    }
    let keys: Vec<Key> = wanted.iter().map(|page| Key::History(name.clone(), page.hash)).collect();
    for (page, entry) in wanted.iter().zip(reader.get_many(&keys).await?) {
        match entry.and_then(|entry| open_page(&entry, page.hash)) {
            Some(events) => read.events.extend(events),
            None => read.missing_pages += 1,
        }
    }
    read.events.retain(|event| event.id.number >= history.first && event.id.generation > generation);
    Ok(read)
}
