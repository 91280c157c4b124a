//! What is known of a registry's repositories, in the store: a record, and the names in parts that are named by their content.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use samovar_registry::Name;
use serde::{Deserialize, Serialize};

use crate::cache::stored;
use crate::store::{Client, ContentHash, Entry, Key, StoreError, open, seal};

/// Names in one part: with the longest ones that is still below what an entry may hold.
const MOST_NAMES_IN_PART: usize = 1_000;

/// The repositories of a registry.
pub(super) type Names = Arc<BTreeSet<Name>>;

/// How far listing a registry has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// When it was last asked, with or without success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) asked_at: Option<Timestamp>,
    /// When to ask again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next_at: Option<Timestamp>,
    /// When the list was last read to its end; absent if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) read_at: Option<Timestamp>,
    /// Failures in a row.
    #[serde(default)]
    pub(super) attempts: u32,
    /// What went wrong last; absent after a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<String>,
    /// How many repositories a list had that lost most of them and is to be confirmed: what it lost is still among the names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shrunken: Option<usize>,
    /// Those logins for which the registry has ever listed something, each by the first pattern it is for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) listed_for: BTreeSet<String>,
    /// The parts that hold the names, as they are stored.
    #[serde(default)]
    pub(super) parts: Vec<ContentHash>,
}

/// Reads and writes what is known of one registry.
#[derive(Debug)]
pub(super) struct Kept {
    store: Arc<dyn Client>,
    host: String,
    /// The parts that were read or written last, and what is in them.
    seen: Option<(Vec<ContentHash>, Names)>,
}

impl Kept {
    pub(super) fn new(store: Arc<dyn Client>, host: &str) -> Self {
        Self { store, host: host.to_owned(), seen: None }
    }

    /// The record, and the names if there are any and all of them can be read.
    pub(super) async fn read(&mut self) -> Result<(Record, Option<Names>), StoreError> {
        let entry = self.store.get(&Key::Catalog(self.host.clone())).await?;
        let record: Record = stored::decode(entry.as_ref()).unwrap_or_default();
        if record.read_at.is_none() {
            return Ok((record, None));
        }
        if let Some((parts, names)) = &self.seen
            && *parts == record.parts
        {
            return Ok((record, Some(Arc::clone(names))));
        }
        let keys: Vec<Key> = record.parts.iter().map(|hash| self.part(*hash)).collect();
        let found = self.store.get_many(&keys).await?;
        let mut names = BTreeSet::new();
        for (entry, hash) in found.iter().zip(&record.parts) {
            let Some(part) = decode_part(entry.as_ref(), *hash) else { return Ok((record, None)) };
            names.extend(part);
        }
        let names = Arc::new(names);
        self.seen = Some((record.parts.clone(), Arc::clone(&names)));
        Ok((record, Some(names)))
    }

    /// Writes the names, then the record that says where they are, and removes what the one before had.
    pub(super) async fn write(&mut self, record: &Record, names: Option<&Names>) -> Result<(), StoreError> {
        let key = Key::Catalog(self.host.clone());
        let before = self.store.get(&key).await?;
        let before: Record = stored::decode(before.as_ref()).unwrap_or_default();
        let mut record = Record { parts: Vec::new(), ..record.clone() };
        let mut entries = Vec::new();
        if let Some(names) = names {
            let all: Vec<&Name> = names.iter().collect();
            for part in all.chunks(MOST_NAMES_IN_PART) {
                let plain = serde_json::to_vec(part).expect("names are written to memory");
                let hash = ContentHash::of(&plain);
                record.parts.push(hash);
                entries.push((self.part(hash), Entry::immutable(seal(&plain))));
            }
            self.seen = Some((record.parts.clone(), Arc::clone(names)));
        }
        // Also what is there already: it gets its whole time to live again.
        self.store.set_many(entries).await?;
        self.store.set(key, Entry::immutable(stored::encode(&record))).await?;
        let obsolete = before.parts.into_iter().filter(|hash| !record.parts.contains(hash));
        let obsolete: Vec<Key> = obsolete.map(|hash| self.part(hash)).collect();
        if obsolete.is_empty() { Ok(()) } else { self.store.delete(obsolete).await }
    }

    fn part(&self, hash: ContentHash) -> Key {
        Key::CatalogPart(self.host.clone(), hash)
    }
}

fn decode_part(entry: Option<&Entry>, hash: ContentHash) -> Option<Vec<Name>> {
    let plain = open(&entry?.value).ok()?;
    (ContentHash::of(&plain) == hash).then(|| serde_json::from_slice(&plain).ok()).flatten()
}
