//! What export and import share: the file, read and written away from the runtime's threads, in batches.

use std::fs::{self, File};
use std::io::{self, BufReader, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::progress::{Progress, Unit};
use crate::store::{ArchiveError, ArchiveReader, ArchiveSummary, Key, Record, StoreError};

/// Entries that are handed to the store or to the file at once.
pub(super) const MOST_BATCH_ENTRIES: usize = 256;
/// Bytes of values that are handed over at once; one entry more may take it above that.
pub(super) const MOST_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Bytes read of a file in one go, whether wanted or not: keeps the progress moving.
const MOST_BYTES_READ: u64 = 16 * 1024 * 1024;
/// Entries are small; the file is read and written in larger pieces.
pub(super) const FILE_BUFFER_BYTES: usize = 256 * 1024;

/// Why an export or an import did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file is there already.
    #[error("{} exists already", path.display())]
    Exists {
        /// Its path.
        path: PathBuf,
    },
    /// What is there already is a device, a directory or a link: nothing to be replaced by a file.
    #[error("{} is not a plain file", path.display())]
    NoFile {
        /// Its path.
        path: PathBuf,
    },
    /// The file cannot be read, or is not what it should be.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        error: ArchiveError,
    },
    /// The file is no longer the one that was found whole.
    #[error("{} was changed while it was imported", path.display())]
    Changed {
        /// Its path.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    Write {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        error: ArchiveError,
    },
}

/// An export that was read to its end, and is whole.
#[derive(Debug)]
pub struct WholeArchive {
    path: PathBuf,
    /// Kept open: what is imported is the file that was verified, whatever happens to its name meanwhile.
    file: Arc<File>,
    /// What it looked like before it was verified.
    look: Look,
    summary: ArchiveSummary,
}

/// What changes about an open file when somebody writes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    bytes: u64,
    modified: SystemTime,
}

impl Look {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { bytes: metadata.len(), modified: metadata.modified()? })
    }
}

impl WholeArchive {
    /// Opens the file and reads it once, to its end; one that is damaged, cut short or no export is an error.
    pub async fn open(path: &Path, progress: &Arc<Progress>) -> Result<Self, TransferError> {
        let (opened, progress) = (path.to_owned(), Arc::clone(progress));
        let verified = blocking(move || {
            let metadata = fs::metadata(&opened)?;
            if !metadata.is_file() {
                // It is read several times; and opening a pipe would wait for whoever writes.
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file").into());
            }
            let file = Arc::new(File::open(&opened)?);
            let look = Look::of(&file)?;
            progress.begin("checking the file", Unit::Bytes, Some(metadata.len()));
            let mut reader = read_from_start(&file)?;
            while reader.next_record()?.is_some() {
                progress.reach(reader.position());
            }
            Ok((file, look, reader.summary()))
        });
        let (file, look, summary) =
            verified.await.map_err(|error| TransferError::Read { path: path.to_owned(), error })?;
        Ok(Self { path: path.to_owned(), file, look, summary })
    }

    /// What is in it.
    pub fn summary(&self) -> ArchiveSummary {
        self.summary
    }

    /// Reads it once more from its beginning, for those entries alone that are `wanted`.
    pub(super) fn pass(&self, wanted: fn(Option<&Key>) -> bool) -> Result<Pass, TransferError> {
        let read = read_from_start(&self.file);
        if Look::of(&self.file).map_err(|error| self.unreadable(error.into()))? != self.look {
            return Err(TransferError::Changed { path: self.path.clone() });
        }
        let reader = read.map_err(|error| self.unreadable(error))?;
        let file = Arc::clone(&self.file);
        Ok(Pass { path: self.path.clone(), file, look: self.look, reader: Some(reader), wanted })
    }

    fn unreadable(&self, error: ArchiveError) -> TransferError {
        TransferError::Read { path: self.path.clone(), error }
    }
}

type FileReader = ArchiveReader<BufReader<Arc<File>>>;

fn read_from_start(file: &Arc<File>) -> Result<FileReader, ArchiveError> {
    let mut file = Arc::clone(file);
    file.rewind()?;
    ArchiveReader::new(BufReader::with_capacity(FILE_BUFFER_BYTES, file))
}

/// One reading of a whole archive. Only one at a time: they share the place in the file.
#[derive(Debug)]
pub(super) struct Pass {
    path: PathBuf,
    file: Arc<File>,
    /// What the file is to look like whenever something was read.
    look: Look,
    /// `None` at the end.
    reader: Option<FileReader>,
    wanted: fn(Option<&Key>) -> bool,
}

/// Some of the wanted entries, in the order of the file.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) records: Vec<Record>,
    /// Bytes of the file that were read so far.
    pub(super) position: u64,
}

impl Pass {
    /// The next entries, which may be none although there are more; `None` at the end. An error where the file was
    /// written to since it was verified: what stands in it now, nobody has checked.
    ///
    /// Not cancellation-safe: a future dropped half way takes the place in the file with it.
    pub(super) async fn next_batch(&mut self) -> Result<Option<Batch>, TransferError> {
        let Some(reader) = self.reader.take() else {
            return Ok(None);
        };
        let (wanted, look, file) = (self.wanted, self.look, Arc::clone(&self.file));
        let read = blocking(move || {
            let read = read_batch(reader, wanted);
            if Look::of(&file)? == look { read.map(Some) } else { Ok(None) }
        });
        let read = read.await.map_err(|error| TransferError::Read { path: self.path.clone(), error })?;
        let Some((batch, reader)) = read else {
            return Err(TransferError::Changed { path: self.path.clone() });
        };
        self.reader = reader;
        Ok(Some(batch))
    }
}

/// Some more entries; and the reader, unless it is at its end.
fn read_batch(
    mut reader: FileReader,
    wanted: fn(Option<&Key>) -> bool,
) -> Result<(Batch, Option<FileReader>), ArchiveError> {
    let (mut records, mut bytes) = (Vec::new(), 0);
    let stop_at = reader.position() + MOST_BYTES_READ;
    while records.len() < MOST_BATCH_ENTRIES && bytes < MOST_BATCH_BYTES && reader.position() < stop_at {
        let Some(record) = reader.next_record()? else {
            let position = reader.position();
            return Ok((Batch { records, position }, None));
        };
        if wanted(record.key.as_ref()) {
            bytes += record.entry.value.len();
            records.push(record);
        }
    }
    let position = reader.position();
    Ok((Batch { records, position }, Some(reader)))
}

/// Runs file work on a thread that may wait for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, ArchiveError> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
