//! How the remote store gets back what it has lost and the local one still has.

use std::collections::HashSet;

use samovar_registry::Name;
use tracing::debug;

use super::Tiered;
use super::keeper::Offer;
use crate::cache::stored::{Head, PageRef, decode, encode};
use crate::store::{Entry, Key, Reader, StoreError, open};

/// Entries that are put back in one write.
const MOST_PUT_BACK_AT_ONCE: usize = 64;

/// What a head is made of.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// The keys of its pages and of its directory. Nothing that is kept under them ever changes.
    pub(super) keys: HashSet<Key>,
    /// The directory could be read, so no page is missing among the keys.
    pub(super) are_all_known: bool,
}

/// What `head`, as it is stored, is made of.
pub(super) async fn parts<R: Reader + ?Sized>(
    reader: &R,
    name: &Name,
    head: &Head,
) -> Result<Parts, StoreError> {
    let directory: Vec<Key> = head.directory.iter().map(|hash| Key::Directory(name.clone(), *hash)).collect();
    let page = |page: &PageRef| Key::Page(name.clone(), page.hash);
    let mut parts = Parts { keys: head.pages.iter().map(page).collect(), are_all_known: true };
    if !directory.is_empty() {
        for part in reader.get_many(&directory).await? {
            let plain = part.and_then(|part| open(&part.value).ok());
            let pages = plain.and_then(|plain| serde_json::from_slice::<Vec<PageRef>>(&plain).ok());
            parts.are_all_known &= pages.is_some();
            parts.keys.extend(pages.unwrap_or_default().iter().map(page));
        }
    }
    parts.keys.extend(directory);
    Ok(parts)
}

/// The head that is stored as `entry`, of another generation and otherwise to the byte the same.
///
/// Not sealed anew: a stored head with a directory does not name its pages, and would be taken for one without any.
fn of_generation(head: Head, entry: &Entry, generation: u64) -> Entry {
    Entry { value: encode(&Head { generation, ..head }), refresh_at: entry.refresh_at }
}

/// Whether `entry` may be written by somebody who expects `expected` where `current` is: it is the same, or was restored
/// since with a generation that is still below that of `entry`.
fn may_replace(entry: &Entry, current: &Entry, expected: &Entry) -> bool {
    if current == expected {
        return true;
    }
    let head = |entry: &Entry| decode::<Head>(Some(entry));
    let (Some(new), Some(now), Some(before)) = (head(entry), head(current), head(expected)) else {
        return false;
    };
    new.generation > now.generation && of_generation(before, expected, now.generation) == *current
}

impl Tiered {
    /// Writes `entry` in the place of the head `expected`, which the remote store does not have: because it has lost it,
    /// and the shadow says the same, or because it was restored with another generation since.
    pub(super) async fn replace_lost_or_restored(
        &self,
        name: &Name,
        expected: &Entry,
        entry: &Entry,
    ) -> Result<bool, StoreError> {
        let key = Key::Head(name.clone());
        let stored = self.remote.get(&key).await?;
        let is_lost = stored.is_none();
        let current = if is_lost { self.local.get(&key).await } else { stored.clone() };
        if !current.is_some_and(|current| may_replace(entry, &current, expected)) {
            return Ok(false);
        }
        if is_lost {
            // The lost head itself would be replaced at once. `entry` was made just now and is newer than all before it.
            self.put_back_parts(name, entry).await?;
        }
        let done = self.remote.compare_and_set(key, stored, entry.clone()).await?;
        if done {
            self.lost().remove(name);
        }
        Ok(done)
    }

    /// Restores the repositories of which a side record is about to be written and whose head was found to be missing: a
    /// refresh that finds nothing new writes nothing else.
    pub(super) async fn restore_what_is_written(&self, entries: &[(Key, Entry)]) -> Result<(), StoreError> {
        let lost: Vec<Name> = {
            let lost = self.lost();
            let sides = entries.iter().filter_map(|(key, _)| match key {
                Key::Side(name) => Some(name),
                _ => None,
            });
            sides.filter(|name| lost.contains(*name)).cloned().collect()
        };
        for name in lost {
            match self.local.get(&Key::Head(name.clone())).await {
                Some(shadow) => self.restore(&name, shadow).await?,
                None => _ = self.lost().remove(&name),
            }
        }
        Ok(())
    }

    /// Puts back the pages of the head `shadow`, then the head itself unless there is one by now. A page that is nowhere
    /// stays missing: the warmer notices, and writes it anew.
    ///
    /// The head comes back with a new generation, because others may have seen newer ones than this shadow: for them, too,
    /// generations only grow, and they take what was restored for what it is, the latest. It gets it here and not when the
    /// shadow first stands in: every replica would do that for itself, and whichever did it later than the one that restores
    /// would be ahead of the store once more. So a writer that has read the shadow knows another generation than the one
    /// that is stored now; [`Self::replace_lost_or_restored`] lets it write all the same.
    async fn restore(&self, name: &Name, shadow: Entry) -> Result<(), StoreError> {
        let removals = self.local.removals();
        let key = Key::Head(name.clone());
        self.put_back_parts(name, &shadow).await?;
        let head = match decode::<Head>(Some(&shadow)) {
            Some(head) => {
                let now = u64::try_from(self.clock.now().as_millisecond()).unwrap_or(0);
                let generation = now.max(head.generation.saturating_add(1));
                of_generation(head, &shadow, generation)
            }
            None => shadow,
        };
        let restored = self.remote.compare_and_set(key.clone(), None, head.clone()).await?;
        if restored {
            self.local.follow(Offer { key, entry: head, removals }).await;
        }
        self.lost().remove(name);
        debug!(image.name = %name, restored, "the store had lost the repository; the local tier has it still");
        Ok(())
    }

    /// Puts back what the head that is stored as `entry` is made of.
    async fn put_back_parts(&self, name: &Name, entry: &Entry) -> Result<(), StoreError> {
        let Some(head) = decode::<Head>(Some(entry)) else { return Ok(()) };
        let parts: Vec<Key> = parts(self, name, &head).await?.keys.into_iter().collect();
        self.put_back(&parts).await
    }

    /// Puts back those of `keys` whose entries never change, that the remote store has lost, and that are kept locally. What
    /// it has lost is found out by reading: there is no cheaper question that every store answers.
    pub(super) async fn put_back(&self, keys: &[Key]) -> Result<(), StoreError> {
        let wanted: Vec<Key> = keys.iter().filter(|key| key.is_immutable()).cloned().collect();
        for some in wanted.chunks(MOST_PUT_BACK_AT_ONCE) {
            let stored = self.remote.get_many(some).await?;
            let lost = some.iter().zip(stored).filter(|(_, stored)| stored.is_none());
            let lost: Vec<Key> = lost.map(|(key, _)| key.clone()).collect();
            let kept = self.local.get_many(&lost).await;
            let kept: Vec<_> =
                lost.into_iter().zip(kept).filter_map(|(key, entry)| Some((key, entry?))).collect();
            if !kept.is_empty() {
                self.remote.set_many(kept).await?;
            }
        }
        Ok(())
    }
}
