//! A store that the tests can look into, and that fails on command.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};

use crate::store::{Client, Entry, Key, Reader, Statistics, StoreError};

/// A store in memory. One call writes all of what it is given or nothing.
#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    entries: BTreeMap<Key, Entry>,
    /// Calls that write before they fail; `None`: they do not.
    writes_left: Option<usize>,
    /// Entries that are listed before that ends in another way; `None`: all are.
    listed: Option<(usize, ListingEnds)>,
    /// What is listed instead of what is there: as listing met it earlier.
    listed_instead: Option<Vec<(Key, Entry)>>,
    /// What another writer makes of the store, one after the other, whenever a head was read.
    successors: VecDeque<BTreeMap<Key, Entry>>,
    /// What another writer puts in the place of the first entry that is compared and set.
    interference: Option<Entry>,
}

/// How listing ends before everything is listed.
#[derive(Debug, Clone, Copy)]
pub(super) enum ListingEnds {
    /// With an error.
    Fails,
    /// Never.
    Hangs,
}

impl Shelf {
    pub(super) fn holding(entries: impl IntoIterator<Item = (Key, Entry)>) -> Self {
        let entries = entries.into_iter().collect();
        Self(Mutex::new(Inside { entries, ..Inside::default() }))
    }

    pub(super) fn entries(&self) -> BTreeMap<Key, Entry> {
        self.inside().entries.clone()
    }

    pub(super) fn put(&self, key: Key, entry: Entry) {
        self.inside().entries.insert(key, entry);
    }

    pub(super) fn remove(&self, key: &Key) {
        assert!(self.inside().entries.remove(key).is_some(), "{key} is not there");
    }

    pub(super) fn fail_after_writes(&self, writes: Option<usize>) {
        self.inside().writes_left = writes;
    }

    pub(super) fn end_listing_after(&self, entries: usize, how: ListingEnds) {
        self.inside().listed = Some((entries, how));
    }

    pub(super) fn interfere_once_with(&self, entry: Entry) {
        self.inside().interference = Some(entry);
    }

    pub(super) fn list_instead(&self, entries: impl IntoIterator<Item = (Key, Entry)>) {
        self.inside().listed_instead = Some(entries.into_iter().collect());
    }

    pub(super) fn becomes_after_reading_a_head(&self, entries: impl IntoIterator<Item = (Key, Entry)>) {
        self.inside().successors.push_back(entries.into_iter().collect());
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap()
    }
}

impl Inside {
    fn write(&mut self) -> Result<&mut BTreeMap<Key, Entry>, StoreError> {
        match &mut self.writes_left {
            Some(0) => return Err(broken()),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(&mut self.entries)
    }
}

fn broken() -> StoreError {
    StoreError::Unavailable { message: "as the test wanted it".into() }
}

#[async_trait]
impl Reader for Shelf {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        Ok(self.get_many(std::slice::from_ref(key)).await?.pop().flatten())
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>, StoreError> {
        let mut inside = self.inside();
        let found = keys.iter().map(|key| inside.entries.get(key).cloned()).collect();
        if keys.iter().any(|key| matches!(key, Key::Head(_)))
            && let Some(successor) = inside.successors.pop_front()
        {
            inside.entries = successor;
        }
        Ok(found)
    }
}

#[async_trait]
impl Client for Shelf {
    async fn set(&self, key: Key, entry: Entry) -> Result<(), StoreError> {
        self.set_many(vec![(key, entry)]).await
    }

    async fn set_many(&self, entries: Vec<(Key, Entry)>) -> Result<(), StoreError> {
        self.inside().write()?.extend(entries);
        Ok(())
    }

    async fn compare_and_set(
        &self,
        key: Key,
        expected: Option<Entry>,
        entry: Entry,
    ) -> Result<bool, StoreError> {
        let mut inside = self.inside();
        if let Some(interference) = inside.interference.take() {
            inside.entries.insert(key.clone(), interference);
        }
        let entries = inside.write()?;
        let unchanged = entries.get(&key) == expected.as_ref();
        if unchanged {
            entries.insert(key, entry);
        }
        Ok(unchanged)
    }

    async fn delete(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        let mut inside = self.inside();
        let entries = inside.write()?;
        for key in &keys {
            entries.remove(key);
        }
        Ok(())
    }

    async fn lease(&self, _key: &Key, _holder: &str, _ttl: Duration) -> Result<bool, StoreError> {
        Ok(true)
    }

    fn kind(&self) -> &'static str {
        "shelf"
    }

    async fn statistics(&self) -> Result<Statistics, StoreError> {
        Ok(Statistics { entries: Some(self.inside().entries.len() as u64), ..Statistics::default() })
    }

    fn scan(&self) -> BoxStream<'_, Result<(Key, Entry), StoreError>> {
        let inside = self.inside();
        let entries = || inside.entries.clone().into_iter().collect();
        let entries: Vec<_> = inside.listed_instead.clone().unwrap_or_else(entries);
        let entries = stream::iter(entries.into_iter().map(Ok));
        match inside.listed {
            None => entries.boxed(),
            Some((count, ListingEnds::Fails)) => {
                entries.take(count).chain(stream::once(async { Err(broken()) })).boxed()
            }
            Some((count, ListingEnds::Hangs)) => entries.take(count).chain(stream::pending()).boxed(),
        }
    }
}
