//! What can be asked of the writing thread, and whether there is room for it.

use super::content::Content;
use super::totals::footprint;
use super::{Entry, Key, StoreError};
use crate::store::entry::DEADLINE_BYTES;

/// How much may be stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The footprint of everything.
    pub(super) bytes: u64,
    /// Documents are stored while everything else, and they, stay below.
    pub(super) documents_below: u64,
}

/// Something to write.
#[derive(Debug)]
pub(super) enum Operation {
    Set(Vec<(Key, Entry)>),
    CompareAndSet { key: Key, expected: Option<Entry>, entry: Entry },
    Delete(Vec<Key>),
}

impl Operation {
    /// What is written or removed.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        let (set, single, deleted) = match self {
            Self::Set(entries) => (&entries[..], None, &[][..]),
            Self::CompareAndSet { key, .. } => (&[][..], Some(key), &[][..]),
            Self::Delete(keys) => (&[][..], None, &keys[..]),
        };
        set.iter().map(|(key, _)| key).chain(single).chain(deleted)
    }

    /// The most by which the footprint can grow.
    pub(super) fn footprint(&self) -> u64 {
        match self {
            Self::Set(entries) => entries.iter().map(|(key, entry)| footprint_of_one(key, entry)).sum(),
            Self::CompareAndSet { key, entry, .. } => footprint_of_one(key, entry),
            Self::Delete(_) => 0,
        }
    }

    /// Does what is asked, as a whole or not at all. `false`: a comparison failed. Counts in `left_out` the documents
    /// that are not stored for want of room, which is no error: they can be had again.
    pub(super) fn apply(
        self,
        content: &mut Content<'_>,
        limits: Limits,
        left_out: &mut usize,
    ) -> Result<Result<bool, StoreError>, redb::Error> {
        match self {
            Self::Set(entries) => {
                let stores_documents = limits.leave_room_for_documents(content, &entries);
                let others = entries.iter().filter(|(key, _)| !key.is_document());
                if let Some(full) = limits.refuse(content, others)? {
                    return Ok(Err(full));
                }
                for (key, entry) in &entries {
                    if key.is_document() && !stores_documents {
                        *left_out += 1;
                    } else {
                        content.insert(key, entry)?;
                    }
                }
            }
            Self::CompareAndSet { key, expected, entry } => {
                if content.get(&key)? != expected {
                    return Ok(Ok(false));
                }
                let written = [(key, entry)];
                if let Some(full) = limits.refuse(content, written.iter())? {
                    return Ok(Err(full));
                }
                let [(key, entry)] = &written;
                content.insert(key, entry)?;
            }
            Self::Delete(keys) => {
                for key in keys {
                    content.remove(&key.to_string())?;
                }
            }
        }
        Ok(Ok(true))
    }
}

impl Limits {
    fn leave_room_for_documents(self, content: &Content<'_>, entries: &[(Key, Entry)]) -> bool {
        let counted = content.counted();
        let documents = entries.iter().filter(|(key, _)| key.is_document());
        let documents: u64 = documents.map(|(key, entry)| footprint_of_one(key, entry)).sum();
        counted.others.footprint + documents <= self.documents_below
            && counted.footprint() + documents <= self.bytes
    }

    /// The error for entries that there is no room for.
    fn refuse<'a>(
        self,
        content: &Content<'_>,
        entries: impl Iterator<Item = &'a (Key, Entry)> + Clone,
    ) -> Result<Option<StoreError>, redb::Error> {
        let before = content.counted().footprint();
        let most: u64 = entries.clone().map(|(key, entry)| footprint_of_one(key, entry)).sum();
        if before + most <= self.bytes {
            return Ok(None);
        }
        // What takes the place of something as large needs no room, so that side records are kept up to date.
        let mut growth = 0;
        for (key, entry) in entries {
            growth += content.growth(key, DEADLINE_BYTES + entry.value.len())?;
        }
        if growth <= 0 || before.saturating_add_signed(growth) <= self.bytes {
            return Ok(None);
        }
        let message = format!(
            "its limit of {} MiB is reached, and nothing is left that may go: raise --store-limit or watch less",
            self.bytes / (1024 * 1024)
        );
        Ok(Some(StoreError::Full { message }))
    }
}

fn footprint_of_one(key: &Key, entry: &Entry) -> u64 {
    footprint(key.to_string().len(), DEADLINE_BYTES + entry.value.len(), key.is_document())
}
