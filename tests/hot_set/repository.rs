//! Repositories written into a store as the warmer writes them, and the cache that reads them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use samovar::cache::history::History;
use samovar::cache::page::{self, SealedPage};
use samovar::cache::records::{ImageRecord, LastError, TagRecord, TagSide, TagState};
use samovar::cache::stored::{self, Gone, Head, PageRef, Side, TagCounts};
use samovar::cache::{Cache, HotSet};
use samovar::store::{Client, Entry, Key, Memory};
use samovar_registry::{Digest, Name, Tag, TokioClock};

use super::watched_store::WatchedStore;

pub(super) const START: &str = "2026-01-01T00:00:00Z";
/// Enough for everything that is not about the budget.
pub(super) const AMPLE: usize = 512 * 1024 * 1024;

/// Longer than any read takes that ends at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// A repository at one moment: tags, each with a number that stands for its image.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    pub(super) name: Name,
    pub(super) generation: u64,
    pub(super) tags: BTreeMap<Tag, u64>,
    pub(super) side: Side,
}

impl Repository {
    pub(super) fn new(name: &str, tags: u64) -> Self {
        let tags = (0..tags).map(|number| (tag(&format!("1.{number}")), number)).collect();
        let side = Side { last_update: Some(start()), ..Side::default() };
        Self { name: name.parse().unwrap(), generation: 1, tags, side }
    }

    /// The next generation, in which `text` points at another image.
    pub(super) fn moved(&self, text: &str) -> Self {
        let mut next = Self { generation: self.generation + 1, ..self.clone() };
        *next.tags.get_mut(&tag(text)).expect("the tag is there") += 1_000_000;
        next
    }

    /// The same, confirmed a second later.
    pub(super) fn confirmed(&self) -> Self {
        let mut next = self.clone();
        next.side.last_update = next.side.last_update.map(|time| time + Duration::from_secs(1));
        next
    }

    pub(super) fn last_error(&self, seconds: i64) -> LastError {
        let message = format!("{} cannot be listed", self.name);
        LastError { message, at: Timestamp::from_second(start().as_second() + seconds).unwrap() }
    }

    /// What the registry has said often enough: there is no such repository.
    pub(super) fn gone(&self) -> Side {
        let gone = Gone { since: start(), confirmations: Gone::MANY_CONFIRMATIONS };
        Side { gone: Some(gone), last_error: Some(self.last_error(24 * 3600)), ..self.side.clone() }
    }

    fn records(&self) -> Vec<(Tag, TagRecord)> {
        let record = |number: u64| TagRecord {
            state: TagState::Ok(Arc::new(image(number))),
            since: start(),
            first_seen: None,
            moved_to: None,
            pushed: None,
            was_excluded: false,
        };
        self.tags.iter().map(|(tag, number)| (tag.clone(), record(*number))).collect()
    }

    /// Everything that the store is to hold of it: pages and side records, then the head.
    pub(super) fn entries(&self) -> Vec<(Key, Entry)> {
        let records = self.records();
        let mut rest = &records[..];
        let mut entries = vec![(Key::Side(self.name.clone()), Entry::immutable(stored::encode(&self.side)))];
        let mut pages = Vec::new();
        let sizes = page::split(records.iter().map(|(tag, record)| (tag, page::weight(tag, record))));
        for (position, count) in (0..).zip(sizes) {
            let (run, after) = rest.split_at(count);
            rest = after;
            let SealedPage { hash, entry } = page::seal(run.iter().map(|(tag, record)| (tag, record)));
            entries.push((Key::Page(self.name.clone(), hash), entry));
            pages.push(PageRef { first: run[0].0.clone(), hash });
            let side = TagSide { last_fetched: self.side.last_update, ..TagSide::default() };
            let value = stored::encode_side_page(run.iter().map(|(tag, _)| (tag, &side)));
            entries.push((Key::SidePage(self.name.clone(), position), Entry::immutable(value)));
        }
        let counts = TagCounts { ok: self.tags.len(), ..TagCounts::default() };
        let mut head = Head {
            generation: self.generation,
            complete: true,
            held_back: false,
            failed: false,
            invalid_tags: 0,
            counts,
            platforms: "linux/amd64".into(),
            pages,
            directory: Vec::new(),
            history: History::default(),
        };
        let sealed = head.seal();
        let directory = sealed.directory.into_iter();
        entries.extend(directory.map(|(hash, entry)| (Key::Directory(self.name.clone(), hash), entry)));
        entries.push((Key::Head(self.name.clone()), sealed.entry));
        entries
    }

    pub(super) async fn write(&self, store: &dyn Client) {
        store.set_many(self.entries()).await.unwrap();
    }

    pub(super) fn head(&self) -> Key {
        Key::Head(self.name.clone())
    }

    pub(super) fn reference(&self, text: &str) -> samovar_registry::Reference {
        format!("{}:{text}", self.name).parse().unwrap()
    }
}

pub(super) fn image(number: u64) -> ImageRecord {
    let labels = (0..10).map(|label| (format!("org.example.label.{label}"), format!("{label} of {number}")));
    ImageRecord {
        digest: Digest::sha256(&number.to_le_bytes()),
        image_id: Some(Digest::sha256(b"configuration")),
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        size: Some(number),
        created_at: Some(start()),
        labels: labels.collect(),
        platforms: vec!["linux/amd64".into()],
    }
}

pub(super) fn start() -> Timestamp {
    START.parse().unwrap()
}

pub(super) fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

/// A store, a hot set, and a cache over both.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) store: Arc<WatchedStore>,
    pub(super) hot: Arc<HotSet>,
    pub(super) cache: Cache<Arc<WatchedStore>>,
}

impl Setting {
    pub(super) fn new(limit_bytes: usize) -> Self {
        let clock = Arc::new(TokioClock::starting_at(start()));
        let store = Arc::new(WatchedStore::new(Memory::new(AMPLE)));
        let hot = Arc::new(HotSet::new(limit_bytes, clock.clone()));
        let cache = Cache::new(Arc::clone(&store), clock).with_hot_set(Arc::clone(&hot));
        Self { store, hot, cache }
    }

    /// With these in the store.
    pub(super) async fn with(repositories: &[&Repository]) -> Self {
        let setting = Self::new(AMPLE);
        for repository in repositories {
            repository.write(&*setting.store.inner).await;
        }
        setting
    }

    /// Reads a whole repository and gives its generation.
    pub(super) async fn read(&self, repository: &Repository) -> u64 {
        let reading = self.cache.repository_state(&repository.name);
        tokio::time::timeout(PATIENCE, reading).await.expect("it hangs").unwrap().generation
    }
}
