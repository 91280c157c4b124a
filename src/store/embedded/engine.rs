//! The open database, and what is done when it breaks.
//!
//! After a failed read or write, such as on a full disk, the engine refuses whatever it does not have in memory until it
//! is opened again. That is done at once by the thread that writes, without a lock: who reads meanwhile gets an error at
//! once instead of waiting for a repair. Writes are tried again when there is room for what had failed. Damage that is
//! found is marked, so that the next start begins afresh.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use jiff::Timestamp;
use redb::Database;
use tokio::time::Instant;
use tracing::{info, warn};

use super::back_off::BackOff;
use super::directory::{Directory, Mode};
use super::{StoreError, contain_panic, unavailable};

#[derive(Debug)]
pub(super) struct Engine {
    /// An error while it is opened again, and after that has failed.
    database: RwLock<Result<Database, StoreError>>,
    /// The database must be opened again, and is not yet. Changed only by who holds `database`.
    broken: AtomicBool,
    mending: Mutex<Mending>,
    // Declared last, so dropped last: the lock on the directory outlives the database.
    directory: Directory,
}

/// What the thread that writes knows of failures.
#[derive(Debug, Default)]
struct Mending {
    back_off: BackOff,
    /// Bytes by which a write would have let the content grow that failed. Until one succeeds, each is tried only when
    /// there is so much room.
    failed_growth: Option<u64>,
}

/// Why something could not be done.
enum Failure {
    NotOpen(StoreError),
    Panicked,
    Engine(redb::Error),
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotOpen(error) => error,
            Failure::Panicked => unavailable("the store file is damaged"),
            Failure::Engine(error) => unavailable(error),
        }
    }
}

impl Engine {
    pub(super) fn open(path: &Path, mode: Mode, now: Timestamp) -> Result<Self, StoreError> {
        let directory = Directory::lock(path, mode)?;
        let database = RwLock::new(Ok(directory.open_database(now)?));
        Ok(Self { database, broken: AtomicBool::new(false), mending: Mutex::default(), directory })
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Goes on with another database, which lies where the one before lay. Those who read wait for those who read.
    pub(super) fn adopt(&self, database: Database) {
        // Closing takes a while; nobody waits for it any more.
        close(self.exchange(Ok(database), false));
        // What was found damaged is gone.
        self.directory.remove_damage_mark();
    }

    /// Lets the engine move its own pages together. Nobody can read or write meanwhile.
    pub(super) fn compact_in_place(&self) -> Result<(), StoreError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_mut().map_err(|error| error.clone())?;
        let compacted = contain_panic(|| database.compact().map(drop).map_err(redb::Error::from));
        Ok(self.judge(compacted)?)
    }

    /// Runs `read`, and turns errors and panics of the engine (it panics on some kinds of damage) into ours.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        Ok(self.run(read)?)
    }

    /// Runs `write`, a transaction by which the content grows by at most so many bytes, after opening the database again
    /// if that is due. Only the thread that writes may call it.
    pub(super) fn write<T>(
        &self,
        growth: u64,
        write: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        self.mend()?;
        let failed_growth = self.mending().failed_growth;
        if let Some(failed) = failed_growth {
            self.directory.check_room(failed.max(growth))?;
        }
        let written = self.run(write);
        let mut mending = self.mending();
        match &written {
            Ok(_) => {
                mending.back_off.note_success(Instant::now());
                if mending.failed_growth.take().is_some() {
                    info!(store.path = %self.directory.path().display(), "the store can be written again");
                }
            }
            Err(Failure::Engine(error)) if leaves_broken(error) => {
                if mending.failed_growth.replace(growth).is_none() {
                    warn!(store.path = %self.directory.path().display(), %error, "the store cannot be written; it is tried again");
                }
            }
            Err(_) => {}
        }
        Ok(written?)
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Whether the database must be opened again and now may be: whether [`mend`](Self::mend) would do so.
    pub(super) fn is_to_be_mended(&self) -> bool {
        self.is_broken() && self.mending().back_off.is_over(Instant::now())
    }

    /// Opens the database again where it is broken, unless that was done not long ago. Only the thread that writes may
    /// call it.
    pub(super) fn mend(&self) -> Result<(), StoreError> {
        if !self.is_broken() {
            return Ok(());
        }
        if !self.is_to_be_mended() {
            return Err(unavailable("the store fails again and again; it is opened again later"));
        }
        let being_opened = unavailable("the store is being opened again");
        // The file is locked by the open database: it must go before the next one can come.
        close(self.exchange(Err(being_opened), false));
        let opened = self.directory.open_database_again();
        self.mending().back_off.note_opening(Instant::now());
        let failed = opened.as_ref().err().cloned();
        drop(self.exchange(opened, failed.is_some()));
        let path = self.directory.path().display();
        let Some(error) = failed else {
            info!(store.path = %path, "the store is opened again");
            return Ok(());
        };
        warn!(store.path = %path, %error, "the store could not be opened again; it is tried again");
        Err(error)
    }

    /// Puts another database, or the reason why there is none, in the place of what was there.
    fn exchange(&self, database: Result<Database, StoreError>, broken: bool) -> Result<Database, StoreError> {
        let mut current = self.database.write().unwrap_or_else(PoisonError::into_inner);
        self.broken.store(broken, Ordering::Relaxed);
        std::mem::replace(&mut *current, database)
    }

    fn run<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, Failure> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().map_err(|error| Failure::NotOpen(error.clone()))?;
        self.judge(contain_panic(|| work(database)))
    }

    /// Remembers what an outcome says of the database, which the caller has locked.
    fn judge<T>(&self, outcome: Option<Result<T, redb::Error>>) -> Result<T, Failure> {
        match outcome {
            None => {
                self.directory.mark_damaged("the engine panicked");
                Err(Failure::Panicked)
            }
            Some(Ok(done)) => Ok(done),
            Some(Err(error)) => {
                if leaves_broken(&error) {
                    self.broken.store(true, Ordering::Relaxed);
                } else if let redb::Error::Corrupted(_) = error {
                    self.directory.mark_damaged(&error.to_string());
                }
                Err(Failure::Engine(error))
            }
        }
    }

    fn mending(&self) -> MutexGuard<'_, Mending> {
        self.mending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the engine refuses everything after this error that it does not have in memory.
fn leaves_broken(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo)
}

/// Closing writes, and a database that is damaged may panic then too.
fn close(database: Result<Database, StoreError>) {
    let _ = contain_panic(|| drop(database));
}

#[cfg(test)]
mod tests {
    use redb::{ReadableDatabase, ReadableTableMetadata};

    use super::*;
    use crate::store::embedded::content::Content;
    use crate::store::embedded::schema::ENTRIES;

    fn open(directory: &tempfile::TempDir) -> Engine {
        Engine::open(directory.path(), Mode::Serve, Timestamp::UNIX_EPOCH).unwrap()
    }

    fn entries(database: &Database) -> Result<u64, redb::Error> {
        Ok(database.begin_read()?.open_table(ENTRIES)?.len()?)
    }

    #[test]
    fn a_failed_read_has_it_opened_again_once_and_then_rarely() {
        let directory = tempfile::tempdir().unwrap();
        let engine = open(&directory);
        let fail = || engine.read(|_| Err::<(), _>(redb::Error::PreviousIo)).unwrap_err();
        assert!(!engine.is_to_be_mended());
        fail();
        assert!(engine.is_to_be_mended());
        engine.mend().unwrap();
        assert!(!engine.is_broken());
        assert_eq!(engine.read(entries), Ok(0));
        fail();
        assert!(engine.is_broken() && !engine.is_to_be_mended(), "not again at once");
        let refused = engine.write(0, entries).unwrap_err().to_string();
        assert!(refused.contains("again and again"), "{refused}");
        assert_eq!(engine.read(entries), Ok(0), "what is in memory is served meanwhile");
    }

    #[test]
    fn after_a_failed_write_the_next_one_waits_for_room_and_reading_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let engine = open(&directory);
        let too_much = u64::MAX / 2;
        let full = || redb::Error::Io(std::io::ErrorKind::StorageFull.into());
        engine.write(too_much, |_| Err::<(), _>(full())).unwrap_err();
        engine.mend().unwrap();
        assert_eq!(engine.read(entries), Ok(0));
        let refused = engine.write(0, entries).unwrap_err().to_string();
        assert!(refused.contains("bytes are free where"), "{refused}");
        engine.mending().failed_growth = Some(1);
        assert_eq!(engine.write(0, entries), Ok(0));
        assert_eq!(engine.mending().failed_growth, None);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "the lock and the store");
    }

    #[test]
    fn nobody_waits_for_a_database_that_is_being_opened() {
        let directory = tempfile::tempdir().unwrap();
        let engine = open(&directory);
        let before = engine.exchange(Err(unavailable("the store is being opened again")), true);
        let error = engine.read(entries).unwrap_err();
        assert_eq!(error, unavailable("the store is being opened again"));
        drop(before);
        assert_eq!(engine.write(0, entries), Ok(0), "it is opened by who writes");
    }

    #[test]
    fn a_panic_of_the_engine_is_an_error_and_leaves_a_mark() {
        let directory = tempfile::tempdir().unwrap();
        let engine = open(&directory);
        let error = engine.write(0, |_| -> Result<(), _> { panic!("on some kinds of damage") }).unwrap_err();
        assert_eq!(error, unavailable("the store file is damaged"));
        assert!(directory.path().join("samovar.redb.damaged").exists());
        assert_eq!(engine.read(entries), Ok(0));
    }

    #[test]
    fn a_database_that_cannot_be_opened_again_says_why_until_it_can() {
        let directory = tempfile::tempdir().unwrap();
        let engine = open(&directory);
        let (file, away) = (directory.path().join("samovar.redb"), directory.path().join("away"));
        std::fs::rename(&file, &away).unwrap();
        engine.read(|_| Err::<(), _>(redb::Error::PreviousIo)).unwrap_err();
        let error = engine.mend().unwrap_err();
        assert_eq!(engine.read(entries), Err(error));
        assert!(engine.is_broken());
        std::fs::rename(&away, &file).unwrap();
        engine.mending().back_off = BackOff::default();
        engine.mend().unwrap();
        assert_eq!(engine.read(entries), Ok(0));
    }

    #[test]
    fn a_file_shrinks_in_place_and_keeps_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let engine = open(&directory);
        let change = |change: &dyn Fn(&mut Content<'_>, &str) -> Result<(), redb::Error>| {
            let changed = engine.write(0, |database| {
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
        assert_eq!(engine.read(entries), Ok(60));
    }
}
