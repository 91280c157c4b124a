//! The store's directory: its lock, its database file, the copy that may take its place, and what was moved aside.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use redb::Database;
use tracing::{error, warn};

use super::schema::{self, FORMAT, Unreadable};
use super::{StoreError, contain_panic, hour_of, unavailable};

const DATABASE: &str = "samovar.redb";
const LOCK: &str = "lock";
/// Says that the database was found damaged while it was in use.
const DAMAGED: &str = "samovar.redb.damaged";
/// The copy that is to take the database's place. Left behind only by a crash.
const REPLACEMENT: &str = "samovar.redb.replacement";

/// How long to wait for the lock of a process that is about to end, or that another one is about to forget which was
/// started while it was held.
const LONGEST_WAIT_FOR_LOCK: Duration = Duration::from_millis(500);
/// How often it is tried meanwhile.
const TRY_LOCK_EVERY: Duration = Duration::from_millis(10);

/// Written and removed to find out whether there is room.
const PROBE: &str = "samovar.redb.probe";
/// More than a transaction needs that only adds a few entries.
const PROBE_BYTES: usize = 1024 * 1024;

/// Memory that the engine may use to cache pages.
const CACHE_BYTES: usize = 16 * 1024 * 1024;
/// The same for a copy that is being made: it is written in order and hardly read.
const REPLACEMENT_CACHE_BYTES: usize = 4 * 1024 * 1024;

/// Left free on the file system when writing begins again after a failure: a part of it, but not less …
const LEAST_MARGIN_BYTES: u64 = 4 * 1024 * 1024;
/// … and not more.
const LARGEST_MARGIN_BYTES: u64 = 64 * 1024 * 1024;
/// Which part.
const MARGIN_PART: u64 = 64;

/// What may be done to what is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Whatever a running server needs: make what is missing, move aside what cannot be used.
    Serve,
    /// Nothing is made, moved or marked: for commands that look at a store.
    Inspect,
}

/// A locked directory. The lock ends with the process, however it ends.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    mode: Mode,
    _lock: File,
}

impl Directory {
    pub(super) fn lock(path: &Path, mode: Mode) -> Result<Self, StoreError> {
        let failed = |what: &str, error: io::Error| StoreError::Unavailable {
            message: format!("{what} {}: {error}", path.display()),
        };
        if mode == Mode::Inspect && !path.join(DATABASE).exists() {
            return Err(StoreError::Unavailable {
                message: format!("there is no store at {}", path.display()),
            });
        }
        fs::create_dir_all(path).map_err(|error| failed("cannot create the directory", error))?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK))
            .map_err(|error| failed("cannot open the lock in", error))?;
        if !try_lock_for_a_while(&lock).map_err(|error| failed("cannot lock", error))? {
            let mut holder = String::new();
            let _ = lock.read_to_string(&mut holder);
            let holder = if holder.is_empty() { "another process".to_owned() } else { holder };
            return Err(StoreError::Locked { path: path.display().to_string(), holder });
        }
        let command = std::env::args_os().take(2).map(|word| word.to_string_lossy().into_owned());
        let holder = format!("process {} ({})", std::process::id(), command.collect::<Vec<_>>().join(" "));
        // On a full disk nobody learns who holds it; held it is all the same.
        let _ = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| lock.write_all(holder.as_bytes()));
        Ok(Self { path: path.to_owned(), mode, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the database. When it serves, one that cannot be used is moved aside and a fresh one made.
    pub(super) fn open_database(&self, now: Timestamp) -> Result<Database, StoreError> {
        let (file, damaged) = (self.path.join(DATABASE), self.path.join(DAMAGED));
        self.remove_replacement();
        if self.mode == Mode::Inspect {
            return open(self.mode, &file, now).map_err(Unusable::into_error);
        }
        if damaged.exists() {
            self.move_aside(&file, now, "it was found damaged while in use")?;
            fs::remove_file(&damaged).map_err(|error| self.io_failed("cannot remove the mark", &error))?;
        }
        match open(self.mode, &file, now) {
            Err(Unusable::ForGood(reason)) => {
                self.move_aside(&file, now, &reason)?;
                open(self.mode, &file, now).map_err(Unusable::into_error)
            }
            opened => opened.map_err(Unusable::into_error),
        }
    }

    /// Opens the database after a failure. It is neither made nor moved aside, whatever comes of it.
    pub(super) fn open_database_again(&self) -> Result<Database, StoreError> {
        let opened = contain_panic(|| builder(CACHE_BYTES).open(self.path.join(DATABASE)));
        let Some(opened) = opened else {
            self.mark_damaged("the engine panicked while opening it again");
            return Err(unavailable("the store file is damaged"));
        };
        opened.map_err(redb::Error::from).map_err(|error| {
            if let redb::Error::Corrupted(_) = error {
                self.mark_damaged(&error.to_string());
            }
            unavailable(error)
        })
    }

    /// Bytes that the database takes up on the disk.
    pub(super) fn database_bytes(&self) -> u64 {
        bytes_on_disk(&self.path.join(DATABASE))
    }

    /// Bytes that the copy takes up while one is made.
    pub(super) fn replacement_bytes(&self) -> u64 {
        bytes_on_disk(&self.path.join(REPLACEMENT))
    }

    /// Bytes that can still be written to the file system; `None` where it does not tell.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        Some(self.room()?.free_bytes)
    }

    fn room(&self) -> Option<Room> {
        let found = rustix::fs::statvfs(&self.path).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Some(Room { free_bytes: bytes(found.f_bavail), all_bytes: bytes(found.f_blocks) })
    }

    /// Files that were moved aside, and their bytes on the disk.
    pub(super) fn set_aside(&self) -> SetAside {
        let prefix = format!("{DATABASE}.");
        let ours = [DAMAGED, REPLACEMENT, PROBE];
        let mut found = SetAside::default();
        for file in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let name = file.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(&prefix) && !ours.contains(&name) {
                found.files += 1;
                found.bytes += bytes_on_disk(&file.path());
            }
        }
        found
    }

    /// Begins a copy of the database: an empty store beside it.
    pub(super) fn create_replacement(&self) -> Result<Database, StoreError> {
        self.remove_replacement();
        let create = || {
            let database = builder(REPLACEMENT_CACHE_BYTES).create(self.path.join(REPLACEMENT));
            let database = database.map_err(redb::Error::from)?;
            schema::prepare(&database, 0)?;
            Ok(database)
        };
        contain_panic(create)
            .unwrap_or_else(|| Err(Unusable::ForGood("the engine panicked while beginning a copy".into())))
            .map_err(Unusable::into_error)
    }

    /// Opens the finished copy as what it is to be.
    pub(super) fn open_replacement(&self) -> Result<Database, redb::Error> {
        Ok(builder(CACHE_BYTES).open(self.path.join(REPLACEMENT))?)
    }

    /// Renames the copy over the database. After a loss of power either is there, and both are whole.
    pub(super) fn put_replacement_in_place(&self) -> Result<(), StoreError> {
        fs::rename(self.path.join(REPLACEMENT), self.path.join(DATABASE))
            .map_err(|error| self.io_failed("cannot put the compacted store in place", &error))?;
        if let Err(error) = File::open(&self.path).and_then(|directory| directory.sync_all()) {
            warn!(store.path = %self.path.display(), %error, "the store's directory could not be synced");
        }
        Ok(())
    }

    pub(super) fn remove_replacement(&self) {
        // Where it cannot be removed, the next copy fails and says why.
        let _ = fs::remove_file(self.path.join(REPLACEMENT));
    }

    /// Whether there is room to write again so many bytes and some more: by what the file system says, and by writing.
    pub(super) fn check_room(&self, bytes: u64) -> Result<(), StoreError> {
        if let Some(room) = self.room() {
            let needed = bytes.saturating_add(room.margin_bytes());
            if room.free_bytes < needed {
                let message = format!("{} bytes are free where {needed} are needed", room.free_bytes);
                return Err(
                    self.io_failed("cannot write", &io::Error::new(io::ErrorKind::StorageFull, message))
                );
            }
        }
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
        if self.mode == Mode::Inspect {
            return;
        }
        let mark = self.path.join(DAMAGED);
        if !mark.exists() {
            error!(store.path = %self.path.display(), reason, "the store file is damaged; restart to begin a fresh one");
            let _ = fs::write(mark, reason);
        }
    }

    /// Forgets that the file is damaged: it has been replaced.
    pub(super) fn remove_damage_mark(&self) {
        // Where it cannot be removed, the next start begins a fresh store, and says so.
        let _ = fs::remove_file(self.path.join(DAMAGED));
    }

    fn io_failed(&self, what: &str, error: &io::Error) -> StoreError {
        StoreError::Unavailable { message: format!("{what} in {}: {error}", self.path.display()) }
    }
}

/// What a file system says of itself.
#[derive(Debug, Clone, Copy)]
struct Room {
    free_bytes: u64,
    all_bytes: u64,
}

impl Room {
    fn margin_bytes(self) -> u64 {
        (self.all_bytes / MARGIN_PART).clamp(LEAST_MARGIN_BYTES, LARGEST_MARGIN_BYTES)
    }
}

/// Says whether the lock was had in time.
fn try_lock_for_a_while(lock: &File) -> io::Result<bool> {
    let tries = LONGEST_WAIT_FOR_LOCK.as_millis() / TRY_LOCK_EVERY.as_millis();
    for _ in 0..tries {
        match lock.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => std::thread::sleep(TRY_LOCK_EVERY),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(false)
}

/// Store files that could not be used and are kept beside the one in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetAside {
    /// How many.
    pub files: u64,
    /// Bytes that they take up on the disk, beyond the store's own limit.
    pub bytes: u64,
}

/// Why a database could not be opened.
enum Unusable {
    /// Another try may work: no space, no permission.
    Passing(String),
    /// This file never will.
    ForGood(String),
}

impl Unusable {
    fn into_error(self) -> StoreError {
        let (Self::Passing(message) | Self::ForGood(message)) = self;
        StoreError::Unavailable { message }
    }
}

impl From<redb::Error> for Unusable {
    fn from(error: redb::Error) -> Self {
        match &error {
            // What ends where it should go on was cut.
            redb::Error::Io(io)
                if !matches!(io.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                Self::Passing(error.to_string())
            }
            redb::Error::DatabaseAlreadyOpen => Self::Passing(error.to_string()),
            _ => Self::ForGood(error.to_string()),
        }
    }
}

impl From<Unreadable> for Unusable {
    fn from(error: Unreadable) -> Self {
        match error {
            Unreadable::Format(format) => Self::ForGood(format!("it has format {format}, not {FORMAT}")),
            Unreadable::Engine(error) => error.into(),
        }
    }
}

fn builder(cache_bytes: usize) -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes);
    builder
}

fn open(mode: Mode, file: &Path, now: Timestamp) -> Result<Database, Unusable> {
    contain_panic(|| {
        let builder = builder(CACHE_BYTES);
        let database = match mode {
            Mode::Serve => builder.create(file),
            Mode::Inspect => builder.open(file),
        };
        let database = database.map_err(redb::Error::from)?;
        schema::prepare(&database, hour_of(now))?;
        Ok(database)
    })
    .unwrap_or_else(|| Err(Unusable::ForGood("the engine panicked while opening it".into())))
}

/// What a file takes up: less than its length where it has holes, which the engine leaves when it grows.
fn bytes_on_disk(file: &Path) -> u64 {
    #[cfg(unix)]
    let bytes = |found: fs::Metadata| std::os::unix::fs::MetadataExt::blocks(&found) * 512;
    #[cfg(not(unix))]
    let bytes = |found: fs::Metadata| found.len();
    fs::metadata(file).map_or(0, bytes)
}
