//! Counting what is in a store.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use serde::Serialize;

use super::kind::Kind;
use super::progress::{Progress, Unit};
use crate::cache::stored::{self, Head};
use crate::store::{Client, Entry, Key, StoreError};

/// Bytes of the deadline that every engine keeps with a value.
const DEADLINE_BYTES: usize = 8;

/// Entries and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// How many.
    pub entries: u64,
    /// Bytes of their keys and of their values as they are stored.
    pub bytes: u64,
}

/// What a store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// By kind; every kind is there.
    pub kinds: BTreeMap<Kind, Tally>,
    /// Repositories that were listed.
    pub repositories: u64,
    /// Of these, how many are complete.
    pub complete: u64,
    /// Their tags.
    pub tags: u64,
    /// Tags with an image.
    pub images: u64,
}

impl Census {
    fn new() -> Self {
        Self { kinds: Kind::ALL.map(|kind| (kind, Tally::default())).into(), ..Self::default() }
    }

    /// What is decoded: repositories with their pages and side records.
    pub fn records(&self) -> Tally {
        self.sum(|kind| !kind.is_document())
    }

    /// Raw documents, shared by all repositories.
    pub fn documents(&self) -> Tally {
        self.sum(Kind::is_document)
    }

    fn sum(&self, wanted: impl Fn(Kind) -> bool) -> Tally {
        let wanted = self.kinds.iter().filter(|(kind, _)| wanted(**kind));
        wanted.fold(Tally::default(), |sum, (_, tally)| Tally {
            entries: sum.entries + tally.entries,
            bytes: sum.bytes + tally.bytes,
        })
    }

    fn add(&mut self, key: &Key, entry: &Entry) {
        let Some(kind) = Kind::of(key) else { return };
        let tally = self.kinds.entry(kind).or_default();
        tally.entries += 1;
        tally.bytes += (key.to_string().len() + DEADLINE_BYTES + entry.value.len()) as u64;
        if kind == Kind::Head
            && let Some(head) = stored::decode::<Head>(Some(entry))
        {
            self.repositories += 1;
            self.complete += u64::from(head.complete);
            self.tags += head.counts.total() as u64;
            self.images += head.counts.ok as u64;
        }
    }
}

/// Reads the whole store and counts.
pub async fn count(store: &dyn Client, progress: &Progress) -> Result<Census, StoreError> {
    progress.begin("counting", Unit::Entries, store.statistics().await?.entries);
    let mut census = Census::new();
    let mut entries = store.scan();
    while let Some((key, entry)) = entries.try_next().await? {
        census.add(&key, &entry);
        progress.advance(1);
    }
    Ok(census)
}
