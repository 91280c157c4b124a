//! What is stored, in one writing transaction: entries, the totals about them, and when documents were last read.
//!
//! Everything that changes entries goes through here, so that the three never disagree: they change together or not
//! at all.

use std::ops::Bound;

use redb::{ReadableTable, Table, WriteTransaction};
use samovar_registry::Digest;

use super::schema::{DOCUMENTS, DOCUMENTS_BY_AGE, ENTRIES, TOTALS};
use super::totals::{Totals, footprint};
use crate::store::{Entry, Key};

/// The tables of one writing transaction.
#[derive(Debug)]
pub(super) struct Content<'txn> {
    entries: Table<'txn, &'static str, &'static [u8]>,
    documents: Table<'txn, &'static [u8], (u32, u32)>,
    by_age: Table<'txn, (u32, &'static [u8]), ()>,
    totals: Table<'txn, &'static str, (u64, u64, u64)>,
    counted: Totals,
    hour: u32,
}

/// The document that a key's text stands for or is a part of.
pub(super) fn document_of(text: &str) -> Option<Digest> {
    match text.parse().ok()? {
        Key::Document(digest) | Key::DocumentPart(digest, _) => Some(digest),
        _ => None,
    }
}

impl<'txn> Content<'txn> {
    /// Opens the tables, making those that are missing. What is written of documents counts as read in this `hour`.
    pub(super) fn open(transaction: &'txn WriteTransaction, hour: u32) -> Result<Self, redb::Error> {
        let totals = transaction.open_table(TOTALS)?;
        Ok(Self {
            entries: transaction.open_table(ENTRIES)?,
            documents: transaction.open_table(DOCUMENTS)?,
            by_age: transaction.open_table(DOCUMENTS_BY_AGE)?,
            counted: Totals::read(&totals)?,
            totals,
            hour,
        })
    }

    /// Writes the totals: the last thing to do.
    pub(super) fn close(mut self) -> Result<(), redb::Error> {
        self.counted.write(&mut self.totals)
    }

    pub(super) fn counted(&self) -> Totals {
        self.counted
    }

    pub(super) fn get(&self, key: &Key) -> Result<Option<Entry>, redb::Error> {
        let found = self.entries.get(key.to_string().as_str())?;
        Ok(found.and_then(|found| Entry::decode(&found.value().to_vec().into())))
    }

    /// By how much the footprint grows when these bytes take the place of what is stored under `key`.
    pub(super) fn growth(&self, key: &Key, stored_bytes: usize) -> Result<i64, redb::Error> {
        let text = key.to_string();
        let size = |stored_bytes| {
            i64::try_from(footprint(text.len(), stored_bytes, key.is_document())).unwrap_or(i64::MAX)
        };
        let before = self.entries.get(text.as_str())?.map_or(0, |found| size(found.value().len()));
        Ok(size(stored_bytes).saturating_sub(before))
    }

    pub(super) fn insert(&mut self, key: &Key, entry: &Entry) -> Result<(), redb::Error> {
        self.insert_stored(&key.to_string(), &entry.encode(), self.hour)
    }

    /// Inserts an entry as it is stored. A document counts as last read in this `hour`, unless it was read later.
    pub(super) fn insert_stored(&mut self, text: &str, stored: &[u8], hour: u32) -> Result<(), redb::Error> {
        let replaced = self.entries.insert(text, stored)?.map(|replaced| replaced.value().len());
        let document = document_of(text);
        if let Some(replaced) = replaced {
            self.counted.subtract(text.len(), replaced, document.is_some());
        }
        self.counted.add(text.len(), stored.len(), document.is_some());
        match document {
            Some(document) => self.note_document(&document, hour, u32::from(replaced.is_none())),
            None => Ok(()),
        }
    }

    /// Counts an entry that is there already: for a file that was written without totals.
    pub(super) fn count_in(&mut self, text: &str, stored_bytes: usize) -> Result<(), redb::Error> {
        let document = document_of(text);
        self.counted.add(text.len(), stored_bytes, document.is_some());
        match document {
            Some(document) => self.note_document(&document, self.hour, 1),
            None => Ok(()),
        }
    }

    fn note_document(&mut self, document: &Digest, hour: u32, more_entries: u32) -> Result<(), redb::Error> {
        let id = document.bytes();
        let before = self.documents.get(id)?.map(|row| row.value());
        let (hour_before, entries_before) = before.unwrap_or((hour, 0));
        let hour_now = hour.max(hour_before);
        self.documents.insert(id, (hour_now, entries_before + more_entries))?;
        if before.is_some() && hour_before != hour_now {
            self.by_age.remove((hour_before, id))?;
        }
        if before.is_none() || hour_before != hour_now {
            self.by_age.insert((hour_now, id), ())?;
        }
        Ok(())
    }

    /// Notes that a document has been read. Nothing happens when it has gone.
    pub(super) fn touch(&mut self, document: &Digest) -> Result<(), redb::Error> {
        if self.documents.get(document.bytes())?.is_none() {
            return Ok(());
        }
        self.note_document(document, self.hour, 0)
    }

    /// Removes an entry and says whether it was there.
    pub(super) fn remove(&mut self, text: &str) -> Result<bool, redb::Error> {
        let Some(removed) = self.entries.remove(text)?.map(|removed| removed.value().len()) else {
            return Ok(false);
        };
        let document = document_of(text);
        self.counted.subtract(text.len(), removed, document.is_some());
        let Some(document) = document else {
            return Ok(true);
        };
        let id = document.bytes();
        let row = self.documents.get(id)?.map(|row| row.value());
        match row {
            Some((hour, entries)) if entries > 1 => {
                self.documents.insert(id, (hour, entries - 1))?;
            }
            Some((hour, _)) => {
                self.documents.remove(id)?;
                self.by_age.remove((hour, id))?;
            }
            None => {}
        }
        Ok(true)
    }

    /// Removes the document that has not been read for longest, with all its parts. Returns the keys of what is gone;
    /// `None` when there are no documents.
    pub(super) fn remove_longest_unread(&mut self) -> Result<Option<Vec<String>>, redb::Error> {
        // Taking the row out comes first: whatever else is found, the next call finds another one.
        let oldest = self.by_age.pop_first()?.map(|(row, _)| row.value().1.to_vec());
        let Some(id) = oldest else {
            return Ok(None);
        };
        self.documents.remove(id.as_slice())?;
        let Some(document) = Digest::from_bytes(&id) else {
            return Ok(Some(Vec::new()));
        };
        let keys = self.keys_of(&Key::Document(document).to_string(), usize::MAX)?;
        for key in &keys {
            self.remove(key)?;
        }
        Ok(Some(keys))
    }

    /// The first keys that are `prefix` or begin with it and a separator, at most so many.
    pub(super) fn keys_of(&self, prefix: &str, most: usize) -> Result<Vec<String>, redb::Error> {
        let parts = format!("{prefix}|");
        let mut keys = Vec::new();
        if most > 0 && self.entries.get(prefix)?.is_some() {
            keys.push(prefix.to_owned());
        }
        for row in self.entries.range(parts.as_str()..)? {
            let (key, _) = row?;
            if keys.len() >= most || !key.value().starts_with(&parts) {
                break;
            }
            keys.push(key.value().to_owned());
        }
        Ok(keys)
    }

    /// The first key at or after `bound`.
    pub(super) fn first_key(&self, bound: Bound<&str>) -> Result<Option<String>, redb::Error> {
        let row = self.entries.range::<&str>((bound, Bound::Unbounded))?.next().transpose()?;
        Ok(row.map(|(key, _)| key.value().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redb::{Database, ReadableTable};

    use super::*;

    /// What the property does: a document of a few, one of its parts or a page; how large; when.
    #[derive(Debug, Clone)]
    enum Change {
        Insert { number: u8, part: u32, length: usize, hour: u32 },
        Remove { number: u8, part: u32 },
        Touch { number: u8 },
        RemoveLongestUnread,
    }

    fn change() -> impl Strategy<Value = Change> {
        let (number, part) = (0..6_u8, 0..4_u32);
        prop_oneof![
            6 => (number.clone(), part.clone(), 0..9000_usize, 0..50_u32)
                .prop_map(|(number, part, length, hour)| Change::Insert { number, part, length, hour }),
            4 => (number.clone(), part).prop_map(|(number, part)| Change::Remove { number, part }),
            2 => number.prop_map(|number| Change::Touch { number }),
            1 => Just(Change::RemoveLongestUnread),
        ]
    }

    /// The last part is no part, but a page.
    fn key(number: u8, part: u32) -> String {
        let digest = Digest::sha256(&[number]);
        let key = match part {
            0 => Key::Document(digest),
            3 => Key::Page("model.example/a".parse().unwrap(), crate::store::ContentHash::of(&[number])),
            _ => Key::DocumentPart(digest, part),
        };
        key.to_string()
    }

    fn in_memory() -> Database {
        Database::builder().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap()
    }

    fn rows(table: &impl ReadableTable<&'static [u8], (u32, u32)>) -> Vec<(Vec<u8>, (u32, u32))> {
        let rows = table.iter().unwrap().map(Result::unwrap);
        rows.map(|(id, row)| (id.value().to_vec(), row.value())).collect()
    }

    /// Counts everything anew, and compares.
    fn check(content: &Content<'_>) {
        let other = in_memory();
        let transaction = other.begin_write().unwrap();
        let mut counted_anew = Content::open(&transaction, 0).unwrap();
        for row in content.entries.iter().unwrap() {
            let (key, stored) = row.unwrap();
            counted_anew.count_in(key.value(), stored.value().len()).unwrap();
        }
        assert_eq!(content.counted, counted_anew.counted);
        let documents = rows(&content.documents);
        let entries = |rows: &[(Vec<u8>, (u32, u32))]| -> Vec<_> {
            rows.iter().map(|(id, (_, entries))| (id.clone(), *entries)).collect()
        };
        assert_eq!(entries(&documents), entries(&rows(&counted_anew.documents)));
        let mut by_age: Vec<(u32, Vec<u8>)> =
            documents.into_iter().map(|(id, (hour, _))| (hour, id)).collect();
        by_age.sort();
        let found: Vec<(u32, Vec<u8>)> = content
            .by_age
            .iter()
            .unwrap()
            .map(|row| row.unwrap().0)
            .map(|row| (row.value().0, row.value().1.to_vec()))
            .collect();
        assert_eq!(found, by_age);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn totals_and_ages_are_those_of_what_is_stored(changes in prop::collection::vec(change(), 1..40)) {
            let database = in_memory();
            for (hour, changes) in (10..).zip(changes.chunks(8)) {
                let transaction = database.begin_write().unwrap();
                let mut content = Content::open(&transaction, hour).unwrap();
                for change in changes {
                    match *change {
                        Change::Insert { number, part, length, hour } => {
                            content.insert_stored(&key(number, part), &vec![7; length], hour).unwrap();
                        }
                        Change::Remove { number, part } => drop(content.remove(&key(number, part)).unwrap()),
                        Change::Touch { number } => content.touch(&Digest::sha256(&[number])).unwrap(),
                        Change::RemoveLongestUnread => drop(content.remove_longest_unread().unwrap()),
                    }
                    check(&content);
                }
                content.close().unwrap();
                transaction.commit().unwrap();
            }
        }
    }

    #[test]
    fn a_row_without_its_document_does_not_stop_eviction() {
        let database = in_memory();
        let transaction = database.begin_write().unwrap();
        let mut content = Content::open(&transaction, 1).unwrap();
        content.by_age.insert((0, Digest::sha256(b"gone").bytes()), ()).unwrap();
        content.by_age.insert((0, b"no digest".as_slice()), ()).unwrap();
        content.insert_stored(&key(1, 0), b"there", 1).unwrap();
        let mut removed = Vec::new();
        while let Some(keys) = content.remove_longest_unread().unwrap() {
            removed.extend(keys);
        }
        assert_eq!(removed, [key(1, 0)]);
    }
}
