//! Reading a repository from the store: two round trips, three where a directory names its pages; more only while it is
//! being rewritten.
//!
//! What an earlier reading already has is not read again: pages are named by their content, so only those with a new
//! name are fetched. Side records have no such names and are always read.

use std::collections::HashMap;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use samovar_registry::{Name, Tag};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::page;
use super::records::{TagRecord, TagSide};
use super::side_page::read_side_page;
use super::snapshot::{PageRecords, Snapshot, SnapshotPage};
use super::stored::{Head, MOST_PAGES_IN_ONE, PageRef, Side, decode, decode_directory};
use crate::store::{ContentHash, Entry, Key, Reader, StoreError};

/// A page may vanish between reading the head and reading it, because a newer head has replaced it: then the head is
/// read again, this often at most.
const HEAD_READS: usize = 3;
/// Pages decoded before other tasks of the thread have their turn: about a millisecond's work.
const PAGES_IN_ONE_TURN: usize = 8;

/// What should be in the store and is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Missing {
    /// A page that a head names.
    Page,
    /// A part of a directory that a head names.
    Directory,
    /// A page of a history that a head names.
    History,
    /// The side record of a repository that has a head.
    Side,
    /// The side records of a page.
    SidePage,
    /// Something is there, but it does not decode, or is not what its name promises.
    Undecodable,
}

impl Missing {
    /// All of them, for metrics that show every label value from the start.
    pub const ALL: [Self; 6] =
        [Self::Page, Self::Directory, Self::History, Self::Side, Self::SidePage, Self::Undecodable];

    /// The name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Directory => "directory",
            Self::History => "history",
            Self::Side => "side",
            Self::SidePage => "side_page",
            Self::Undecodable => "undecodable",
        }
    }
}

/// Hears of what is missing, where it is found.
pub trait MissingObserver: Debug + Send + Sync {
    /// Something was missing.
    fn missing(&self, what: Missing);
}

/// Nobody hears of it.
impl MissingObserver for () {
    fn missing(&self, _what: Missing) {}
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

/// What the store holds of one repository, to be changed.
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

impl From<Snapshot> for Loaded {
    fn from(snapshot: Snapshot) -> Self {
        let tags = snapshot.tags().map(|(tag, record, side)| (tag.clone(), record.clone(), *side)).collect();
        Self {
            head_entry: snapshot.head_entry,
            head: snapshot.head.map(Arc::unwrap_or_clone),
            side: snapshot.side.map(Arc::unwrap_or_clone),
            tags,
            missing_pages: snapshot.missing_pages,
        }
    }
}

/// Reads a repository to work on it.
pub async fn load<R: Reader + ?Sized>(
    reader: &R,
    name: &Name,
    pages: Pages<'_>,
) -> Result<Loaded, StoreError> {
    Ok(Loading::new(reader, name, &()).snapshot(pages).await?.into())
}

/// One reading of a repository.
#[derive(Debug)]
pub struct Loading<'a, R: ?Sized> {
    reader: &'a R,
    name: &'a Name,
    observer: &'a dyn MissingObserver,
    previous: Option<&'a Snapshot>,
    patience: Option<Patience<'a>>,
}

/// How long somebody waits for a round trip.
#[derive(Debug)]
struct Patience<'a> {
    longest_round_trip: Duration,
    is_over: &'a Notify,
}

/// The head and the side record: what the first round trip brings.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) head_entry: Option<Entry>,
    pub(super) side_entry: Option<Entry>,
}

impl Front {
    /// What to ask for.
    pub(super) fn keys(name: &Name) -> [Key; 2] {
        [Key::Head(name.clone()), Key::Side(name.clone())]
    }

    /// Whether there is no head because the repository is no more.
    pub(super) fn says_gone_for_good(&self) -> bool {
        let side: Option<Side> = decode(self.side_entry.as_ref());
        self.head_entry.is_none() && side.is_some_and(|side| side.is_gone_for_good())
    }
}

impl<'a, R: Reader + ?Sized> Loading<'a, R> {
    /// Reads `name` from `reader`; `observer` hears of what is missing.
    pub fn new(reader: &'a R, name: &'a Name, observer: &'a dyn MissingObserver) -> Self {
        Self { reader, name, observer, previous: None, patience: None }
    }

    /// Takes over from an earlier reading of the same repository whatever still holds.
    #[must_use]
    pub fn with_previous(mut self, previous: Option<&'a Snapshot>) -> Self {
        self.previous = previous;
        self
    }

    /// Tells `is_over` when a round trip takes longer than `longest_round_trip`, and goes on: the store's own limits hold.
    pub(super) fn with_patience(mut self, longest_round_trip: Duration, is_over: &'a Notify) -> Self {
        self.patience = Some(Patience { longest_round_trip, is_over });
        self
    }

    /// Reads.
    pub async fn snapshot(&self, pages: Pages<'_>) -> Result<Snapshot, StoreError> {
        let mut front = self.front().await?;
        for _ in 1..HEAD_READS {
            let (snapshot, missing) = self.behind(front, pages).await?;
            if snapshot.missing_pages == 0 {
                return Ok(self.report(snapshot, &missing));
            }
            front = self.front().await?;
            if front.head_entry == snapshot.head_entry {
                // Nobody has rewritten the repository: what is missing is lost.
                return Ok(self.report(snapshot, &missing));
            }
        }
        let (snapshot, missing) = self.behind(front, pages).await?;
        Ok(self.report(snapshot, &missing))
    }

    fn report(&self, snapshot: Snapshot, missing: &[Missing]) -> Snapshot {
        for what in missing {
            self.observer.missing(*what);
        }
        snapshot
    }

    async fn front(&self) -> Result<Front, StoreError> {
        let mut entries = self.get_many(&Front::keys(self.name)).await?.into_iter();
        Ok(Front { head_entry: entries.next().flatten(), side_entry: entries.next().flatten() })
    }

    /// What stands behind a head; and what of it is missing.
    async fn behind(&self, front: Front, wanted: Pages<'_>) -> Result<(Snapshot, Vec<Missing>), StoreError> {
        let Front { head_entry, side_entry } = front;
        let mut missing = Vec::new();
        let mut head: Option<Head> = decode(head_entry.as_ref());
        let side: Option<Side> = decode(side_entry.as_ref());
        for undecodable in [head_entry.is_some() && head.is_none(), side_entry.is_some() && side.is_none()] {
            missing.extend(undecodable.then_some(Missing::Undecodable));
        }
        missing.extend((head.is_some() && side_entry.is_none()).then_some(Missing::Side));
        let mut snapshot =
            Snapshot { head_entry, side_entry, side: side.map(Arc::new), ..Snapshot::default() };
        if let (Some(head), Pages::All | Pages::Holding(_)) = (&mut head, wanted) {
            snapshot.missing_pages += self.read_directory(head, &mut missing).await?;
        }
        let positions = match (&head, wanted) {
            (None, _) | (_, Pages::None) => 0..0,
            (Some(head), Pages::All) => 0..head.pages.len(),
            (Some(head), Pages::Holding(tag)) => head.page_of(tag).map_or(0..0, |page| page..page + 1),
        };
        if let Some(head) = head {
            self.read_pages(&head.pages, positions, &mut snapshot, &mut missing).await?;
            snapshot.head = Some(Arc::new(head));
        }
        Ok((snapshot, missing))
    }

    /// Fills in which pages there are. Says how many parts of the directory are missing.
    async fn read_directory(&self, head: &mut Head, missing: &mut Vec<Missing>) -> Result<usize, StoreError> {
        let kept = self.previous.filter(|previous| previous.is_whole()).and_then(|previous| {
            let head = previous.head.as_ref()?;
            Some(head.directory.iter().copied().zip(head.pages.chunks(MOST_PAGES_IN_ONE)).collect())
        });
        let kept: HashMap<ContentHash, &[PageRef]> = kept.unwrap_or_default();
        let new = head.directory.iter().filter(|hash| !kept.contains_key(hash));
        let keys: Vec<Key> = new.map(|hash| Key::Directory(self.name.clone(), *hash)).collect();
        let mut entries = self.get_many(&keys).await?.into_iter();
        let before = missing.len();
        for hash in &head.directory {
            if let Some(pages) = kept.get(hash) {
                head.pages.extend_from_slice(pages);
                continue;
            }
            let entry = entries.next().flatten();
            match entry.as_ref().and_then(|entry| decode_directory(entry, *hash)) {
                Some(mut pages) => head.pages.append(&mut pages),
                None => missing.push(absent_or_damaged(entry.as_ref(), Missing::Directory)),
            }
        }
        Ok(missing.len() - before)
    }

    /// Reads the pages at `positions` of `pages`, and the side records of each.
    async fn read_pages(
        &self,
        pages: &[PageRef],
        positions: Range<usize>,
        snapshot: &mut Snapshot,
        missing: &mut Vec<Missing>,
    ) -> Result<(), StoreError> {
        let kept = self.previous.map_or(&[][..], |previous| &previous.pages).iter();
        let kept: HashMap<ContentHash, &SnapshotPage> = kept.map(|page| (page.hash, page)).collect();
        let wanted = || pages[positions.clone()].iter().map(|page| page.hash);
        let new = wanted().filter(|hash| !kept.contains_key(hash));
        let page_keys = new.map(|hash| Key::Page(self.name.clone(), hash));
        let side_keys = positions
            .clone()
            .map(|position| Key::SidePage(self.name.clone(), u32::try_from(position).unwrap_or(u32::MAX)));
        let side_count = positions.len();
        let keys: Vec<Key> = side_keys.chain(page_keys).collect();
        let mut side_entries = self.get_many(&keys).await?;
        let mut page_entries = side_entries.split_off(side_count).into_iter();
        for (turn, (hash, side_entry)) in wanted().zip(side_entries).enumerate() {
            if turn % PAGES_IN_ONE_TURN == PAGES_IN_ONE_TURN - 1 {
                tokio::task::yield_now().await;
            }
            let kept = kept.get(&hash).copied();
            let records = if let Some(kept) = kept {
                Arc::clone(&kept.records)
            } else {
                let entry = page_entries.next().flatten();
                let Some(page) = entry.as_ref().and_then(|entry| page::open(entry, hash)) else {
                    missing.push(absent_or_damaged(entry.as_ref(), Missing::Page));
                    snapshot.missing_pages += 1;
                    continue;
                };
                Arc::new(PageRecords::new(page))
            };
            snapshot.pages.push(with_sides(hash, records, side_entry.as_ref(), kept, missing));
        }
        Ok(())
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut read = self.reader.get_many(keys);
        let Some(patience) = &self.patience else { return read.await };
        if let Ok(entries) = timeout(patience.longest_round_trip, &mut read).await {
            return entries;
        }
        patience.is_over.notify_one();
        read.await
    }
}

fn absent_or_damaged(entry: Option<&Entry>, absent: Missing) -> Missing {
    if entry.is_some() { Missing::Undecodable } else { absent }
}

/// Puts a page together with its side records, which are those of before where nothing has changed, or nothing is there. A tag without one
/// has the default: at worst the registry is asked once again.
fn with_sides(
    hash: ContentHash,
    records: Arc<PageRecords>,
    entry: Option<&Entry>,
    kept: Option<&SnapshotPage>,
    missing: &mut Vec<Missing>,
) -> SnapshotPage {
    let side_hash = entry.map(|entry| ContentHash::of(&entry.value));
    if let Some(kept) = kept.filter(|kept| side_hash.is_none() || kept.side_hash == side_hash) {
        missing.extend(side_hash.is_none().then_some(Missing::SidePage));
        return kept.clone();
    }
    let mut sides = vec![TagSide::default(); records.tags.len()];
    let mut next = 0;
    let read = entry.and_then(|entry| {
        // Both are in ascending order.
        read_side_page(entry, |tag, side| {
            let behind = records.tags[next..].iter().position(|(listed, _)| listed.as_str() >= tag);
            next = behind.map_or(records.tags.len(), |behind| next + behind);
            if records.tags.get(next).is_some_and(|(listed, _)| listed.as_str() == tag) {
                sides[next] = side;
            }
        })
    });
    if read.is_none() {
        missing.push(absent_or_damaged(entry, Missing::SidePage));
    }
    let sides = sides.into();
    SnapshotPage { hash, records, side_hash, sides }
}
