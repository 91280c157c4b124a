//! The file of an export together with what is said of it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::Exported;
use super::file::UnfinishedFile;
use crate::store::{ArchiveError, Entry, Key};
use crate::upkeep::transfer::{TransferError, blocking};

/// Writes away from the runtime's threads, and counts.
#[derive(Debug)]
pub(super) struct Output {
    path: PathBuf,
    /// `None` while it is written to, and for good once that failed: then nothing more is written.
    file: Option<UnfinishedFile>,
    pub(super) exported: Exported,
}

impl Output {
    pub(super) async fn create(path: &Path) -> Result<Self, TransferError> {
        let target = path.to_owned();
        let created = blocking(move || UnfinishedFile::create(&target)).await;
        let file = created.map_err(|error| unwritable(path, error))?;
        Ok(Self { path: path.to_owned(), file: Some(file), exported: Exported::default() })
    }

    /// Not cancellation-safe: a future dropped half way takes the file with it.
    pub(super) async fn append(&mut self, batch: Vec<(Key, Entry)>) -> Result<(), TransferError> {
        if batch.is_empty() {
            return Ok(());
        }
        let count = batch.len() as u64;
        let file = self.take_file()?;
        let appended = blocking(move || file.append(&batch)).await;
        let (file, left_out) = appended.map_err(|error| unwritable(&self.path, error))?;
        self.file = Some(file);
        self.exported.left_out += left_out;
        self.exported.entries += count - left_out;
        Ok(())
    }

    /// Gives the file its name.
    pub(super) async fn finish(mut self, overwrite: bool) -> Result<Exported, TransferError> {
        let file = self.take_file()?;
        let bytes = blocking(move || file.finish(overwrite)).await.map_err(|error| match error {
            ArchiveError::Io(error) if !overwrite && error.kind() == ErrorKind::AlreadyExists => {
                TransferError::Exists { path: self.path.clone() }
            }
            error => unwritable(&self.path, error),
        })?;
        Ok(Exported { bytes, ..self.exported })
    }

    fn take_file(&mut self) -> Result<UnfinishedFile, TransferError> {
        let broken = || unwritable(&self.path, std::io::Error::from(ErrorKind::BrokenPipe).into());
        self.file.take().ok_or_else(broken)
    }
}

fn unwritable(path: &Path, error: ArchiveError) -> TransferError {
    TransferError::Write { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_appears_meanwhile_is_said_to_exist() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("export");
        let output = Output::create(&path).await.unwrap();
        std::fs::write(&path, "something dear").unwrap();
        let refused = output.finish(false).await.unwrap_err();
        assert!(matches!(refused, TransferError::Exists { .. }), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), b"something dear");
    }
}
