//! A repository as it lies in the store: a head, pages, and side records. How it is read back is in [`super::load`].
//!
//! ```text
//! Head(name)          generation, complete, which pages      written last, by compare-and-set
//! Page(name, hash)    tags with their images                 named by content, never rewritten
//! Directory(name, h)  which pages, for a repository of so many that the head cannot name them itself
//! History(name, h)    what changed: see super::history   named by content, never rewritten
//! Side(name)          last update, last error, next listing  \ what changes without meaning:
//! SidePage(name, n)   last fetched, interval, next per tag   / neither pages nor generation move
//! ```
//! Reading takes two round trips: the head, then everything else; three with a directory.

use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::Tag;
use samovar_registry::upstream::ListState;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::history::{self, Event, History};
pub use super::load::{Loaded, Pages, load};
use super::records::{LastError, TagStateName};
pub(crate) use super::side_page::decode_side_page;
pub use super::side_page::encode_side_page;
use crate::store::{ContentHash, Entry, open, seal};

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
    /// The list could not be read, which the history tells.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
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
    /// What led to this head.
    #[serde(default, skip_serializing_if = "History::is_empty")]
    pub history: History,
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
pub(super) const MOST_PAGES_IN_ONE: usize = 1000;

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
    /// How often to list, as learnt so far: milliseconds between two listings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_interval_ms: Option<u64>,
    /// When a webhook last told of something; absent once the list has changed without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fed_at: Option<Timestamp>,
    /// By which rules the deadlines of its tags were planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paced: Option<Paced>,
    /// When anything of the repository, its list or one of its tags, is next to be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_wake: Option<Timestamp>,
    /// When the first of its tags is to be asked about; absent where none is, or in a record of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_tag: Option<Timestamp>,
    /// The same of those that were never looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_new: Option<Timestamp>,
    /// The registry refuses us (401, 403).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Denied>,
    /// The registry says that the repository is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Gone>,
    /// What the registry said last is that there is no such repository.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_found: bool,
    /// What the list left behind when it was last read, for reading it again at less cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listing: Option<ListState>,
    /// Which tags were wanted when the list was last taken in (a hash of the filter).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<ContentHash>,
    /// The list that is held back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shrunken: Option<Shrunken>,
    /// When all its pages were last read, and were there; absent in a record of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_at: Option<Timestamp>,
    /// When everything that the repository needs was last given its whole time to live again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed_at: Option<Timestamp>,
    /// Since when nobody was seen to watch the repository; whoever watches it takes this away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwatched_since: Option<Timestamp>,
    /// Changes that no head tells of yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "history::known")]
    pub early: Vec<Event>,
}

/// What was the case when the deadlines of a repository's tags were looked through: they hold as long as it is no less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paced {
    /// What may pass between two looks at a tag at most, in seconds.
    pub longest_seconds: u64,
    /// Somebody had read the repository, or a tag of it, lately.
    pub in_demand: bool,
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

impl Side {
    /// Whether the registry has said often enough, and for long enough, that the repository is gone: then it was removed
    /// from the store. A head that is missing otherwise was evicted.
    pub fn is_gone_for_good(&self) -> bool {
        let Some((gone, last_error)) = self.gone.as_ref().zip(self.last_error.as_ref()) else { return false };
        gone.confirmations >= Gone::MANY_CONFIRMATIONS && gone.since + Gone::LONG_ENOUGH <= last_error.at
    }
}

/// A repository that was there and that the registry no longer knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// When it was first said.
    pub since: Timestamp,
    /// How often it was said, in a row.
    pub confirmations: u32,
}

impl Gone {
    /// How often, in a row, a registry must say that a repository is gone before it is removed.
    pub const MANY_CONFIRMATIONS: u32 = 3;
    /// Over how long it must say so.
    pub const LONG_ENOUGH: Duration = Duration::from_hours(24);
}

/// Encodes something small and sealed: a head or a side record.
pub fn encode<T: Serialize>(value: &T) -> bytes::Bytes {
    seal(&serde_json::to_vec(value).expect("records have only string keys and are written to memory"))
}

/// Decodes what [`encode`] made; what does not decode is as good as not there.
pub fn decode<T: DeserializeOwned>(entry: Option<&Entry>) -> Option<T> {
    let plain = open(&entry?.value).ok()?;
    serde_json::from_slice(&plain).ok()
}

/// Decodes a part of a directory; `None` where it is not what its name promises.
pub(super) fn decode_directory(entry: &Entry, hash: ContentHash) -> Option<Vec<PageRef>> {
    let plain = open(&entry.value).ok()?;
    (ContentHash::of(&plain) == hash).then(|| serde_json::from_slice(&plain).ok()).flatten()
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
            failed: false,
            invalid_tags: 0,
            counts: TagCounts::default(),
            platforms: String::new(),
            pages: vec![page("b"), page("f"), page("m")],
            directory: Vec::new(),
            history: History::default(),
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
