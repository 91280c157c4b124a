//! Bringing the entries of a file into a store, between whatever a server may be writing there.
//!
//! The file is read three times, because its entries are in no order and the order of writing matters:
//!
//! 1. what is named by its content or by a digest: pages, directories, documents. Nobody meets them before a head names
//!    them;
//! 2. heads, by compare-and-set, each only if all that it names is in the store, and only over one that knows less;
//! 3. side records. They come after the heads, as the warmer writes them: side records that know less than a head cost a
//!    request, those that know more would call something confirmed that nobody has seen. So they are left out where the
//!    head of the file is not in the store: the source may have lost it by eviction.
//!
//! Generations of two stores that never met do not say which knows more, only which was written last. So a head stays,
//! too, that goes with a later reading of the list than the file's, or with another choice of tags.
//!
//! A file may hold several heads of a repository, because an export goes on beside a server. The newest counts.

mod heads;
mod repositories;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use samovar_registry::Name;

use self::heads::write_head;
use self::repositories::{Claims, Repositories};
use super::AT_ONCE;
use super::judgement::Judgement;
use super::progress::{Progress, Unit};
use super::transfer::{TransferError, WholeArchive};
use crate::cache::stored::{self, Head, Side};
use crate::store::{Client, Entry, Key, Record, StoreError};

/// What is written where both the file and the store know a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precedence {
    /// What is newer. Where that cannot be told, what the store has stays.
    Newer,
    /// What the file says, unless the store's is of a version that we do not know.
    File,
}

/// What an import did. Every entry of the file is counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Entries written.
    pub written: u64,
    /// Of these, heads: repositories that are now as in the file.
    pub repositories: u64,
    /// Entries that the store had already.
    pub unchanged: u64,
    /// Entries of which the store, or the file itself, has something newer, which stays.
    pub kept: u64,
    /// Entries that this version does not know, or that do not decode.
    pub not_understood: u64,
    /// Heads whose pages are neither in the file nor in the store, and side records of heads that are not in the file, or
    /// are such.
    pub torn: u64,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Written,
    Unchanged,
    Kept,
    NotUnderstood,
    Torn,
}

impl Imported {
    fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Written => self.written += 1,
            Outcome::Unchanged => self.unchanged += 1,
            Outcome::Kept => self.kept += 1,
            Outcome::NotUnderstood => self.not_understood += 1,
            Outcome::Torn => self.torn += 1,
        }
    }
}

/// Writes the entries of `archive` into `store`. Doing it twice, or again after it ended half way, does no harm.
pub async fn import(
    store: &dyn Client,
    archive: &WholeArchive,
    precedence: Precedence,
    progress: &Progress,
) -> Result<Imported, TransferError> {
    let (done, repositories) = (Imported::default(), Repositories::default());
    let mut import = Import { store, archive, precedence, progress, done, repositories };
    import.write_content().await?;
    import.write_heads().await?;
    import.write_sides().await?;
    Ok(import.done)
}

struct Import<'a> {
    store: &'a dyn Client,
    archive: &'a WholeArchive,
    precedence: Precedence,
    progress: &'a Progress,
    done: Imported,
    repositories: Repositories,
}

impl Import<'_> {
    async fn write_content(&mut self) -> Result<(), TransferError> {
        self.begin("importing documents and pages");
        let mut pass = self.archive.pass(|key| !matches!(key, Some(Key::SidePage(..))))?;
        while let Some(batch) = pass.next_batch().await? {
            let mut sound = Vec::with_capacity(batch.records.len());
            for Record { key, entry } in batch.records {
                match key {
                    // They are written later, when it is known what the file says of all repositories.
                    Some(Key::Head(name)) => self.repositories.claim_head(&name, &entry),
                    Some(Key::Side(name)) => self.repositories.claim_side(&name, &entry),
                    Some(key) if !key.is_coordination() && is_understood(&key, &entry) => {
                        sound.push((key, entry));
                    }
                    _ => self.done.add(Outcome::NotUnderstood),
                }
            }
            let keys: Vec<Key> = sound.iter().map(|(key, _)| key.clone()).collect();
            let there = self.store.get_many(&keys).await?;
            let wanted = sound.into_iter().zip(there).filter_map(|((key, entry), there)| {
                let outcome = content_outcome(&key, &entry, there.as_ref());
                self.done.add(outcome);
                (outcome == Outcome::Written).then_some((key, entry))
            });
            write(self.store, wanted.collect()).await?;
            self.progress.reach(batch.position);
        }
        Ok(())
    }

    async fn write_heads(&mut self) -> Result<(), TransferError> {
        self.begin("importing repositories");
        let mut pass = self.archive.pass(|key| key.is_some_and(is_head))?;
        while let Some(batch) = pass.next_batch().await? {
            let (store, precedence) = (self.store, self.precedence);
            let heads: Vec<(Name, Entry, Claims)> = batch
                .records
                .into_iter()
                .filter_map(|record| match record.key {
                    Some(Key::Head(name)) => {
                        let claims = self.repositories.claims(&name);
                        Some((name, record.entry, claims))
                    }
                    _ => None,
                })
                .collect();
            let writes = heads.into_iter().map(|(name, entry, claims)| async move {
                if has_newer_in_file(&entry, &claims) {
                    return Ok((name, None));
                }
                let outcome = write_head(store, &name, entry, &claims, precedence).await?;
                Ok::<_, StoreError>((name, Some(outcome)))
            });
            let mut writes = stream::iter(writes).buffer_unordered(AT_ONCE);
            while let Some((name, outcome)) = writes.try_next().await? {
                self.done.add(outcome.unwrap_or(Outcome::Kept));
                self.done.repositories += u64::from(outcome == Some(Outcome::Written));
                if let Some(outcome) = outcome {
                    self.repositories.settle(&name, outcome);
                }
            }
            self.progress.reach(batch.position);
        }
        Ok(())
    }

    async fn write_sides(&mut self) -> Result<(), TransferError> {
        self.begin("importing side records");
        let mut pass = self.archive.pass(|key| key.is_some_and(is_side))?;
        while let Some(batch) = pass.next_batch().await? {
            let records: Vec<(Key, Entry)> =
                batch.records.into_iter().filter_map(|record| Some((record.key?, record.entry))).collect();
            let keys: Vec<Key> = records.iter().map(|(key, _)| key.clone()).collect();
            let there = self.store.get_many(&keys).await?;
            let wanted = records.into_iter().zip(there).filter_map(|((key, entry), there)| {
                let head = key.repository().and_then(|name| self.repositories.head_outcome(name));
                let outcome = side_outcome(&key, &entry, there.as_ref(), head);
                self.done.add(outcome);
                (outcome == Outcome::Written).then_some((key, entry))
            });
            write(self.store, wanted.collect()).await?;
            self.progress.reach(batch.position);
        }
        Ok(())
    }

    fn begin(&self, step: &'static str) {
        self.progress.begin(step, Unit::Bytes, Some(self.archive.summary().bytes));
    }
}

fn is_head(key: &Key) -> bool {
    matches!(key, Key::Head(_))
}

fn is_side(key: &Key) -> bool {
    matches!(key, Key::Side(_) | Key::SidePage(..))
}

/// Whether an entry may be written at all.
fn is_understood(key: &Key, entry: &Entry) -> bool {
    matches!(Judgement::of(key, entry), Judgement::Sound | Judgement::Begins(_))
}

async fn write(store: &dyn Client, entries: Vec<(Key, Entry)>) -> Result<(), StoreError> {
    if entries.is_empty() { Ok(()) } else { store.set_many(entries).await }
}

/// What is to become of an entry that is named by what it holds, where `there` is in the store.
fn content_outcome(key: &Key, entry: &Entry, there: Option<&Entry>) -> Outcome {
    let Some(there) = there else { return Outcome::Written };
    if there == entry {
        return Outcome::Unchanged;
    }
    match Judgement::of(key, there) {
        // The same content, packed in another way. A part alone does not tell: the first part and the rest are to fit.
        Judgement::Sound if !matches!(key, Key::DocumentPart(..)) => Outcome::Unchanged,
        Judgement::Newer => Outcome::Kept,
        Judgement::Sound | Judgement::Begins(_) | Judgement::Damaged(_) => Outcome::Written,
    }
}

/// What is to become of a side record, where `there` is in the store and `head` became of its repository's head. With a
/// head of the file's come its side records; with one that both have, whichever knows of the later confirmation stays.
fn side_outcome(key: &Key, entry: &Entry, there: Option<&Entry>, head: Option<Outcome>) -> Outcome {
    if !is_understood(key, entry) || head == Some(Outcome::NotUnderstood) {
        return Outcome::NotUnderstood;
    }
    match (head, there) {
        (_, Some(there)) if there == entry => Outcome::Unchanged,
        (None, None) if confirms_nothing(key, entry) => Outcome::Written,
        (None | Some(Outcome::Torn | Outcome::NotUnderstood), _) => Outcome::Torn,
        (Some(Outcome::Kept), _) => Outcome::Kept,
        (_, Some(there)) if Judgement::of(key, there) == Judgement::Newer => Outcome::Kept,
        (Some(Outcome::Written), _) | (_, None) => Outcome::Written,
        (_, Some(there)) if last_confirmed(key, entry) > last_confirmed(key, there) => Outcome::Written,
        (_, Some(_)) => Outcome::Kept,
    }
}

/// Whether it is the side record of a repository that was never listed: there is no head to go with it, and it says only
/// when to try again.
fn confirms_nothing(key: &Key, entry: &Entry) -> bool {
    matches!(key, Key::Side(_)) && last_confirmed(key, entry).is_none()
}

/// Whether the file has another head of the repository that is newer than `entry`.
fn has_newer_in_file(entry: &Entry, claims: &Claims) -> bool {
    stored::decode::<Head>(Some(entry)).is_some_and(|head| claims.has_newer_head(head.generation))
}

/// When the registry last confirmed anything of what a side record tells of; `None` also where it does not decode.
fn last_confirmed(key: &Key, entry: &Entry) -> Option<Timestamp> {
    match key {
        Key::Side(_) => stored::decode::<Side>(Some(entry))?.last_update,
        Key::SidePage(..) => {
            stored::decode_side_page(entry)?.into_iter().filter_map(|(_, side)| side.last_fetched).max()
        }
        _ => None,
    }
}
