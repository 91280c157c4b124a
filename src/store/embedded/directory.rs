//! The store's directory: its lock, its database file, and what was moved aside.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use redb::{Database, ReadableDatabase, TableDefinition};
use tracing::{error, warn};

use super::{ENTRIES, StoreError};

const DATABASE: &str = "samovar.redb";
const LOCK: &str = "lock";
/// Says that the database was found damaged while it was in use.
const DAMAGED: &str = "samovar.redb.damaged";

/// Written and removed to find out whether there is room.
const PROBE: &str = "samovar.redb.probe";
/// More than a transaction needs that only adds a few entries.
const PROBE_BYTES: usize = 1024 * 1024;

/// Version of what is in the file. A file of another version is moved aside.
const FORMAT: u32 = 1;
const META: TableDefinition<'static, &str, u32> = TableDefinition::new("meta");

/// Memory that the engine may use to cache pages.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// A locked directory. The lock ends with the process, however it ends.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    pub(super) fn lock(path: &Path) -> Result<Self, StoreError> {
        let failed = |what: &str, error: io::Error| StoreError::Unavailable {
            message: format!("{what} {}: {error}", path.display()),
        };
        fs::create_dir_all(path).map_err(|error| failed("cannot create the directory", error))?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK))
            .map_err(|error| failed("cannot open the lock in", error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = lock.read_to_string(&mut holder);
                let holder = if holder.is_empty() { "another process".to_owned() } else { holder };
                return Err(StoreError::Locked { path: path.display().to_string(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(failed("cannot lock", error)),
        }
        let command = std::env::args_os().take(2).map(|word| word.to_string_lossy().into_owned());
        let holder = format!("process {} ({})", std::process::id(), command.collect::<Vec<_>>().join(" "));
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| lock.write_all(holder.as_bytes()))
            .map_err(|error| failed("cannot write the lock in", error))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the database; one that cannot be used is moved aside and a fresh one made.
    pub(super) fn open_database(&self, now: Timestamp) -> Result<Database, StoreError> {
        let file = self.path.join(DATABASE);
        let damaged = self.path.join(DAMAGED);
        if damaged.exists() {
            self.move_aside(&file, now, "it was found damaged while in use")?;
            fs::remove_file(&damaged).map_err(|error| self.io_failed("cannot remove the mark", &error))?;
        }
        match open(&file) {
            Ok(database) => Ok(database),
            Err(Unusable::Passing(message)) => Err(StoreError::Unavailable { message }),
            Err(Unusable::ForGood(reason)) => {
                self.move_aside(&file, now, &reason)?;
                open(&file).map_err(|error| StoreError::Unavailable { message: error.into_message() })
            }
        }
    }

    /// Opens the database after a failed write. What is in it is not touched, whatever comes of it.
    pub(super) fn open_database_again(&self) -> Result<Database, StoreError> {
        open(&self.path.join(DATABASE))
            .map_err(|error| StoreError::Unavailable { message: error.into_message() })
    }

    /// Whether there is room to write again, found by writing.
    pub(super) fn check_room(&self) -> Result<(), StoreError> {
        let probe = self.path.join(PROBE);
        let written = fs::write(&probe, vec![0; PROBE_BYTES]);
        let removed = fs::remove_file(&probe);
        written.and(removed).map_err(|error| self.io_failed("cannot write", &error))
    }

    fn move_aside(&self, file: &Path, now: Timestamp, reason: &str) -> Result<(), StoreError> {
        let kept = self.path.join(format!("{DATABASE}.{}", now.strftime("%Y%m%dT%H%M%S%.3fZ")));
        match fs::rename(file, &kept) {
            Ok(()) => {}
            // It is out of the way already.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.io_failed("cannot move the store file aside", &error)),
        }
        warn!(
            store.file = %file.display(),
            store.kept_as = %kept.display(),
            reason,
            "the store file cannot be used; it was moved aside and a fresh store begun",
        );
        Ok(())
    }

    /// Remembers that the file is damaged: the next start moves it aside.
    pub(super) fn mark_damaged(&self, reason: &str) {
        let mark = self.path.join(DAMAGED);
        if !mark.exists() {
            error!(store.path = %self.path.display(), reason, "the store file is damaged; restart to begin a fresh one");
            let _ = fs::write(mark, reason);
        }
    }

    fn io_failed(&self, what: &str, error: &io::Error) -> StoreError {
        StoreError::Unavailable { message: format!("{what} in {}: {error}", self.path.display()) }
    }
}

/// Why a database could not be opened.
enum Unusable {
    /// Another try may work: no space, no permission.
    Passing(String),
    /// This file never will.
    ForGood(String),
}

impl Unusable {
    fn into_message(self) -> String {
        match self {
            Self::Passing(message) | Self::ForGood(message) => message,
        }
    }
}

impl From<redb::Error> for Unusable {
    fn from(error: redb::Error) -> Self {
        match &error {
            redb::Error::Io(io) if io.kind() != io::ErrorKind::InvalidData => {
                Self::Passing(error.to_string())
            }
            redb::Error::DatabaseAlreadyOpen => Self::Passing(error.to_string()),
            _ => Self::ForGood(error.to_string()),
        }
    }
}

fn open(file: &Path) -> Result<Database, Unusable> {
    // The engine panics on some kinds of damage instead of reporting them.
    std::panic::catch_unwind(|| try_open(file))
        .unwrap_or_else(|_| Err(Unusable::ForGood("the engine panicked while opening it".into())))
}

fn try_open(file: &Path) -> Result<Database, Unusable> {
    let database = Database::builder().set_cache_size(CACHE_BYTES).create(file).map_err(redb::Error::from)?;
    let format = read_format(&database)?;
    if let Some(format) = format {
        if format != FORMAT {
            return Err(Unusable::ForGood(format!("it has format {format}, not {FORMAT}")));
        }
        return Ok(database);
    }
    let transaction = database.begin_write().map_err(redb::Error::from)?;
    transaction
        .open_table(META)
        .and_then(|mut meta| Ok(meta.insert("format", FORMAT).map(drop)?))
        .map_err(redb::Error::from)?;
    transaction.open_table(ENTRIES).map_err(redb::Error::from)?;
    transaction.commit().map_err(redb::Error::from)?;
    Ok(database)
}

/// The file's format; `None` for a file just made.
fn read_format(database: &Database) -> Result<Option<u32>, redb::Error> {
    let transaction = database.begin_read()?;
    match transaction.open_table(META) {
        Ok(meta) => Ok(Some(meta.get("format")?.map_or(0, |format| format.value()))),
        Err(redb::TableError::TableDoesNotExist(_)) => {
            let empty = transaction.list_tables()?.next().is_none();
            Ok(if empty { None } else { Some(0) })
        }
        Err(error) => Err(error.into()),
    }
}
