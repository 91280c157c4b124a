//! A repository, decoded, in parts that the next reading of it can share.

use std::mem::size_of;
use std::sync::Arc;

use samovar_registry::Tag;

use super::history::HistoryPage;
use super::page::Page;
use super::records::{ImageRecord, TagRecord, TagSide, TagState};
use super::stored::{Head, PageRef, Side};
use crate::store::{ContentHash, Entry};

/// What the store held of one repository when it was read. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The head as stored.
    pub head_entry: Option<Entry>,
    /// The head, decoded, with its directory filled in; `None`: never listed, or undecodable.
    pub head: Option<Arc<Head>>,
    /// The side record as stored.
    pub side_entry: Option<Entry>,
    /// Whether the repository is known at all: there is a side record even before the first listing.
    pub side: Option<Arc<Side>>,
    /// Those of the wanted pages that are there, in the order of their tags.
    pub pages: Vec<SnapshotPage>,
    /// How many of the wanted pages, or of the parts of the directory that names them, are missing or damaged.
    pub missing_pages: usize,
}

/// A page and its side records, shared by all snapshots that hold it.
#[derive(Debug, Clone)]
pub struct SnapshotPage {
    pub(super) hash: ContentHash,
    pub(super) records: Arc<PageRecords>,
    /// What the stored side page is recognised by; `None`: there is none.
    pub(super) side_hash: Option<ContentHash>,
    /// One for each record.
    pub(super) sides: Arc<[TagSide]>,
}

/// The tags of a page. Immutable, like the hash that names it.
#[derive(Debug)]
pub(super) struct PageRecords {
    pub(super) tags: Vec<(Tag, TagRecord)>,
    /// What they take up in memory, about.
    bytes: usize,
}

impl PageRecords {
    pub(super) fn new(page: Page) -> Self {
        let texts = page.texts.iter().map(|text| shared_text(text)).sum::<usize>();
        let bytes = records_bytes(&page.tags) + texts;
        Self { tags: page.tags, bytes }
    }
}

impl SnapshotPage {
    fn first(&self) -> Option<&Tag> {
        self.records.tags.first().map(|(tag, _)| tag)
    }

    fn tags(&self) -> impl Iterator<Item = (&Tag, &TagRecord, &TagSide)> + Clone {
        self.records.tags.iter().zip(self.sides.iter()).map(|((tag, record), side)| (tag, record, side))
    }
}

impl Snapshot {
    /// The tags of the pages that are there, ascending.
    pub fn tags(&self) -> impl Iterator<Item = (&Tag, &TagRecord, &TagSide)> + Clone {
        self.pages.iter().flat_map(SnapshotPage::tags)
    }

    /// What is known of one tag, if its page is there.
    pub fn tag(&self, tag: &Tag) -> Option<(&TagRecord, &TagSide)> {
        let behind = self.pages.partition_point(|page| page.first().is_some_and(|first| first <= tag));
        let page = &self.pages[behind.checked_sub(1)?];
        let position = page.records.tags.binary_search_by(|(listed, _)| listed.cmp(tag)).ok()?;
        Some((&page.records.tags[position].1, page.sides.get(position)?))
    }

    /// Whether the repository was listed and nothing that its head names is missing.
    pub fn is_whole(&self) -> bool {
        self.head.is_some() && self.missing_pages == 0
    }

    /// Whether the side record is missing that every listed repository has. It says whether the registry refuses us:
    /// without it, nobody knows whether what is there may still be served.
    pub fn lacks_its_side_record(&self) -> bool {
        self.head.is_some() && self.side.is_none()
    }

    /// What the snapshot takes up in memory: an estimate that errs on the large side.
    pub fn bytes(&self) -> usize {
        let entry = |entry: &Option<Entry>| entry.as_ref().map_or(0, |entry| allocated(entry.value.len()));
        let head = self.head.as_ref().map_or(0, |head| {
            let reference = |page: &PageRef| size_of::<PageRef>() + shared_text(page.first.as_str());
            head.pages.iter().map(reference).sum::<usize>()
                + head.directory.len() * size_of::<ContentHash>()
                + head.history.pages.len() * size_of::<HistoryPage>()
        });
        let pages = self.pages.iter().map(|page| {
            size_of::<SnapshotPage>()
                + page.records.bytes
                + allocated(page.sides.len() * size_of::<TagSide>())
        });
        let fixed = size_of::<Self>() + 2 * allocated(size_of::<Head>() + size_of::<Side>());
        fixed + entry(&self.head_entry) + entry(&self.side_entry) + head + pages.sum::<usize>()
    }
}

/// The allocator hands out multiples of this many bytes, and keeps about as many for itself.
const ALLOCATION_STEP: usize = 16;
/// How many owners a shared value has is counted twice, beside it.
const OWNER_COUNTS: usize = 2 * size_of::<usize>();

fn allocated(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { bytes.next_multiple_of(ALLOCATION_STEP) + ALLOCATION_STEP }
}

fn shared_text(text: &str) -> usize {
    allocated(text.len() + OWNER_COUNTS)
}

/// All but the texts of labels, which the images of a page share.
fn records_bytes(tags: &[(Tag, TagRecord)]) -> usize {
    let mut before: Option<&Arc<ImageRecord>> = None;
    let rows = tags.iter().map(|(tag, record)| {
        let state = match &record.state {
            // Tags that share an image stand together more often than not.
            TagState::Ok(image) if before.is_some_and(|before| Arc::ptr_eq(before, image)) => 0,
            TagState::Ok(image) => {
                before = Some(image);
                image_bytes(image)
            }
            TagState::Excluded { reason, .. } | TagState::Failed { reason, .. } => allocated(reason.len()),
            TagState::Pending | TagState::Unknown => 0,
        };
        shared_text(tag.as_str()) + state
    });
    allocated(std::mem::size_of_val(tags)) + rows.sum::<usize>()
}

fn image_bytes(image: &ImageRecord) -> usize {
    let platforms = image.platforms.iter().map(|platform| allocated(platform.len()));
    let platforms = allocated(image.platforms.capacity() * size_of::<String>()) + platforms.sum::<usize>();
    let labels = allocated(image.labels.len() * size_of::<(Arc<str>, Arc<str>)>() + OWNER_COUNTS);
    allocated(size_of::<ImageRecord>() + OWNER_COUNTS)
        + allocated(image.media_type.len())
        + labels
        + platforms
}
