//! The open database, and what is done when it breaks.
//!
//! After a failed write, such as on a full disk, the engine refuses all further writes until it is opened again: that is
//! done once there is room. Until then what is stored can be read. Damage that is found is marked, so that the next start
//! begins afresh.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use jiff::Timestamp;
use redb::Database;
use tracing::{info, warn};

use super::directory::{Directory, Mode};
use super::{StoreError, unavailable};

#[derive(Debug)]
pub(super) struct Engine {
    /// `None` only after opening it again has failed.
    database: RwLock<Option<Database>>,
    /// A write has failed; the database must be opened again before the next one.
    broken: AtomicBool,
    // Declared last, so dropped last: the lock on the directory outlives the database.
    directory: Directory,
}

impl Engine {
    pub(super) fn open(path: &Path, mode: Mode, now: Timestamp) -> Result<Self, StoreError> {
        let directory = Directory::lock(path, mode)?;
        let database = RwLock::new(Some(directory.open_database(now)?));
        Ok(Self { database, broken: AtomicBool::new(false), directory })
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Goes on with another database, which lies where the one before lay. Those who read wait for those who read.
    pub(super) fn adopt(&self, database: Database) {
        let mut current = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let before = current.replace(database);
        drop(current);
        // Closing takes a while; nobody waits for it any more.
        drop(before);
    }

    /// Lets the engine move its own pages together. Nobody can read or write meanwhile.
    pub(super) fn compact_in_place(&self) -> Result<(), StoreError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_mut().ok_or_else(|| failure(None))?;
        match catch_unwind(AssertUnwindSafe(|| database.compact())) {
            Ok(compacted) => compacted.map(drop).map_err(unavailable),
            Err(_) => Err(failure(None)),
        }
    }

    /// Runs `read`, and turns errors and panics of the engine (it panics on some kinds of damage) into ours.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        self.run(read).map_err(failure)
    }

    /// Runs `write`, a transaction, after opening the database again if an earlier one has failed.
    pub(super) fn write<T>(
        &self,
        write: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        if self.broken.load(Ordering::Relaxed) {
            self.open_again()?;
        }
        self.run(write).map_err(|error| {
            if matches!(error, Some(redb::Error::Io(_) | redb::Error::PreviousIo))
                && !self.broken.swap(true, Ordering::Relaxed)
            {
                warn!(store.path = %self.directory.path().display(), "the store cannot be written; it is tried again");
            }
            failure(error)
        })
    }

    /// `None` stands for a panic or a database that is not open.
    fn run<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, Option<redb::Error>> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(None)?;
        let Ok(done) = catch_unwind(AssertUnwindSafe(|| work(database))) else {
            self.directory.mark_damaged("the engine panicked");
            return Err(None);
        };
        if let Err(damage @ redb::Error::Corrupted(_)) = &done {
            self.directory.mark_damaged(&damage.to_string());
        }
        done.map_err(Some)
    }

    fn open_again(&self) -> Result<(), StoreError> {
        self.directory.check_room()?;
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // The file is locked by the open database: it must go before the next one can come.
        drop(database.take());
        *database = Some(self.directory.open_database_again()?);
        self.broken.store(false, Ordering::Relaxed);
        info!(store.path = %self.directory.path().display(), "the store can be written again");
        Ok(())
    }
}

fn failure(error: Option<redb::Error>) -> StoreError {
    error.map_or_else(|| unavailable("the store file is damaged or could not be opened again"), unavailable)
}

#[cfg(test)]
mod tests {
    use redb::{ReadableDatabase, ReadableTableMetadata};

    use super::*;
    use crate::store::embedded::content::Content;
    use crate::store::embedded::schema::ENTRIES;

    #[test]
    fn a_file_shrinks_in_place_and_keeps_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let engine = Engine::open(directory.path(), Mode::Serve, Timestamp::UNIX_EPOCH).unwrap();
        let change = |change: &dyn Fn(&mut Content<'_>, &str) -> Result<(), redb::Error>| {
            let changed = engine.write(|database| {
                let transaction = database.begin_write()?;
                let mut content = Content::open(&transaction, 0)?;
                (0..600).try_for_each(|number| change(&mut content, &format!("key {number}")))?;
                content.close()?;
                Ok(transaction.commit()?)
            });
            changed.unwrap();
        };
        change(&|content, key| content.insert_stored(key, &[7; 10_000], 0));
        let before = engine.directory().database_bytes();
        change(&|content, key| if key.ends_with('7') { Ok(()) } else { content.remove(key).map(drop) });
        engine.compact_in_place().unwrap();
        let after = engine.directory().database_bytes();
        assert!(after < before / 4, "{before} {after}");
        let left = engine.read(|database| Ok(database.begin_read()?.open_table(ENTRIES)?.len()?));
        assert_eq!(left.unwrap(), 60);
    }
}
