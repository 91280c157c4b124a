//! Making the repositories in an export whole, which a server may have rewritten while they were listed.
//!
//! A listing reads every entry at another moment: a head may be in the file whose pages were replaced before they were
//! read, or side records that know more than the head. So each head is read once more when everything else has been
//! read, and what it names and the file lacks is appended, until the head stays the same.
//!
//! Invariant: the last thing read of a repository is its head. Heads are written before side records, so no side record
//! in the file knows more than the latest head in it, even where the pages of that head could not be had. Only where a
//! store forgets a head that was replaced since it was listed can this not be known: the repository counts as torn.

use std::collections::{BTreeMap, HashSet};

use samovar_registry::Name;

use super::output::Output;
use crate::cache::stored::{self, Head};
use crate::store::{Client, ContentHash, Entry, Key};
use crate::upkeep::MOST_REPOSITORIES_REMEMBERED;
use crate::upkeep::pages::{MOST_PAGES_READ, is_sound, pages_of};
use crate::upkeep::progress::{Progress, Unit};
use crate::upkeep::transfer::{MOST_BATCH_ENTRIES, TransferError};

/// Parts of repositories that are remembered to be in the file, 16 bytes each; the others are appended once more.
const MOST_PARTS_REMEMBERED: usize = 2_000_000;
/// How often a repository that changes while it is completed is begun again.
const MOST_COMPLETION_ROUNDS: usize = 5;

/// What a file holds of repositories, within bounds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// By repository, the head that was written last, where there was one.
    heads: BTreeMap<Name, Option<ContentHash>>,
    /// Pages, parts of directories and side records, by a hash of their key.
    parts: HashSet<ContentHash>,
    /// Heads that were not remembered.
    unchecked: u64,
}

impl Contents {
    /// Remembers that `entry` is in the file.
    pub(super) fn note(&mut self, key: &Key, entry: &Entry) {
        if !matches!(key, Key::Head(_))
            && key.repository().is_some()
            && self.parts.len() < MOST_PARTS_REMEMBERED
        {
            self.parts.insert(key_hash(key));
        }
        let (Key::Head(name) | Key::Side(name)) = key else { return };
        let head = matches!(key, Key::Head(_)).then(|| entry_hash(entry));
        if let Some(known) = self.heads.get_mut(name) {
            *known = head.or(*known);
        } else if self.heads.len() < MOST_REPOSITORIES_REMEMBERED {
            self.heads.insert(name.clone(), head);
        } else {
            self.unchecked += u64::from(head.is_some());
        }
    }
}

fn key_hash(key: &Key) -> ContentHash {
    ContentHash::of(key.to_string().as_bytes())
}

fn entry_hash(entry: &Entry) -> ContentHash {
    ContentHash::of(&entry.value)
}

/// Appends what repositories in the file lack, and counts those that still are not whole.
pub(super) async fn complete(
    store: &dyn Client,
    contents: Contents,
    output: &mut Output,
    progress: &Progress,
) -> Result<(), TransferError> {
    let Contents { heads, parts, unchecked } = contents;
    progress.begin("completing", Unit::Repositories, Some(heads.len() as u64));
    output.exported.unchecked = unchecked;
    let heads: Vec<(Name, Option<ContentHash>)> = heads.into_iter().collect();
    for some in heads.chunks(MOST_BATCH_ENTRIES) {
        let keys: Vec<Key> = some.iter().map(|(name, _)| Key::Head(name.clone())).collect();
        let there = store.get_many(&keys).await?;
        for ((name, written_head), there) in some.iter().zip(there) {
            let written_head = *written_head;
            let repository =
                Repository { store, output, name, written_head, parts: &parts, appended: HashSet::new() };
            let is_whole = repository.complete(there).await?;
            output.exported.torn += u64::from(!is_whole);
            progress.advance(1);
        }
    }
    Ok(())
}

/// One repository, and what the file holds of it.
struct Repository<'a> {
    store: &'a dyn Client,
    output: &'a mut Output,
    name: &'a Name,
    /// The head that the file has last.
    written_head: Option<ContentHash>,
    /// What was written of all repositories before.
    parts: &'a HashSet<ContentHash>,
    /// What is written of this one now.
    appended: HashSet<ContentHash>,
}

impl Repository<'_> {
    /// Appends what is missing beside `head`, which the store has now. Says whether all is in the file.
    async fn complete(mut self, mut head: Option<Entry>) -> Result<bool, TransferError> {
        for _ in 0..MOST_COMPLETION_ROUNDS {
            let Some(entry) = head else {
                // Never listed; or else removed or evicted meanwhile, with whatever was not read before.
                return Ok(self.written_head.is_none());
            };
            let is_new = self.written_head != Some(entry_hash(&entry));
            let entries_before = self.output.exported.entries;
            let is_whole = match stored::decode::<Head>(Some(&entry)) {
                Some(decoded) => self.append_named_by(&decoded, is_new).await?,
                // Not ours to judge: an import leaves it out.
                None => true,
            };
            self.append_head(&entry).await?;
            if is_whole && self.output.exported.entries == entries_before {
                return Ok(true);
            }
            head = self.store.get(&Key::Head(self.name.clone())).await?;
            if head.as_ref() == Some(&entry) {
                return Ok(is_whole);
            }
        }
        if let Some(entry) = head {
            self.append_head(&entry).await?;
        }
        Ok(false)
    }

    /// Appends what the head names and the file lacks; all side records, where the head `is_new` to the file. Says
    /// whether all pages are in the file.
    async fn append_named_by(&mut self, head: &Head, is_new: bool) -> Result<bool, TransferError> {
        let directory = head.directory.iter().map(|hash| Key::Directory(self.name.clone(), *hash)).collect();
        let mut is_whole = self.append_missing(directory).await?;
        let Some(pages) = pages_of(self.store, self.name, head).await? else { return Ok(false) };
        let page_keys = pages.iter().map(|page| Key::Page(self.name.clone(), page.hash)).collect();
        is_whole &= self.append_missing(page_keys).await?;
        let history = head.history.pages.iter().map(|page| Key::History(self.name.clone(), page.hash));
        // What is lost of a history shortens it, and tears nothing.
        self.append_missing(history.collect()).await?;
        let positions = 0..u32::try_from(pages.len()).unwrap_or(u32::MAX);
        let side_pages = positions.map(|position| Key::SidePage(self.name.clone(), position));
        let side_keys: Vec<Key> = std::iter::once(Key::Side(self.name.clone())).chain(side_pages).collect();
        if is_new {
            self.append_all(&side_keys).await?;
        } else {
            // A side record that is nowhere costs a request: it tears nothing.
            self.append_missing(side_keys).await?;
        }
        Ok(is_whole)
    }

    async fn append_head(&mut self, entry: &Entry) -> Result<(), TransferError> {
        let hash = entry_hash(entry);
        if self.written_head != Some(hash) {
            self.output.append(vec![(Key::Head(self.name.clone()), entry.clone())]).await?;
            self.written_head = Some(hash);
        }
        Ok(())
    }

    /// Appends those of `keys` that the file lacks. Says whether it has all of them now.
    async fn append_missing(&mut self, mut keys: Vec<Key>) -> Result<bool, TransferError> {
        keys.retain(|key| {
            let hash = key_hash(key);
            !self.parts.contains(&hash) && !self.appended.contains(&hash)
        });
        self.append_all(&keys).await
    }

    /// Appends what the store has under `keys`. Says whether it has all of it.
    async fn append_all(&mut self, keys: &[Key]) -> Result<bool, TransferError> {
        let mut has_all = true;
        for keys in keys.chunks(MOST_PAGES_READ) {
            let found = keys.iter().cloned().zip(self.store.get_many(keys).await?);
            let sound: Vec<(Key, Entry)> = found
                .filter_map(|(key, entry)| Some((key, entry?)))
                .filter(|(key, entry)| is_sound(key, entry))
                .collect();
            has_all &= sound.len() == keys.len();
            self.appended.extend(sound.iter().map(|(key, _)| key_hash(key)));
            self.output.append(sound).await?;
        }
        Ok(has_all)
    }
}
