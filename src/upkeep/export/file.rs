//! The file that an export is written into.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind};
use std::path::{Path, PathBuf};

use crate::store::{ArchiveError, ArchiveWriter, Entry, Key};
use crate::upkeep::transfer::FILE_BUFFER_BYTES;

/// A file beside the one that it is to become. Removed when dropped before that.
#[derive(Debug)]
pub(super) struct UnfinishedFile {
    writer: ArchiveWriter<BufWriter<File>>,
    place: Place,
}

#[derive(Debug)]
struct Place {
    temporary: PathBuf,
    target: PathBuf,
    finished: bool,
}

impl UnfinishedFile {
    pub(super) fn create(target: &Path) -> Result<Self, ArchiveError> {
        let name = target.file_name().ok_or_else(|| io::Error::from(ErrorKind::IsADirectory))?;
        let mut hidden = OsString::from(".");
        hidden.push(name);
        // In containers every process has the same number: what one left that was killed is not to stop the next.
        hidden.push(format!(".{}-{:016x}.unfinished", std::process::id(), fastrand::u64(..)));
        let temporary = target.with_file_name(hidden);
        let file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        let place = Place { temporary, target: target.to_owned(), finished: false };
        let writer = ArchiveWriter::new(BufWriter::with_capacity(FILE_BUFFER_BYTES, file))?;
        Ok(Self { writer, place })
    }

    /// Says how many entries were left out for being too large.
    pub(super) fn append(mut self, batch: &[(Key, Entry)]) -> Result<(Self, u64), ArchiveError> {
        let mut left_out = 0;
        for (key, entry) in batch {
            match self.writer.append(key, entry) {
                Err(ArchiveError::TooLarge { .. }) => left_out += 1,
                appended => appended?,
            }
        }
        Ok((self, left_out))
    }

    /// Brings the file to the disk and then to its name; one that has the name already is replaced only with
    /// `overwrite`. Says how large it is.
    pub(super) fn finish(self, overwrite: bool) -> Result<u64, ArchiveError> {
        let Self { writer, mut place } = self;
        let file = writer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let bytes = file.metadata()?.len();
        if overwrite {
            fs::rename(&place.temporary, &place.target)?;
        } else {
            rename_to_free_name(&place.temporary, &place.target)?;
        }
        place.finished = true;
        // The name is on the disk when its directory is.
        let parent = place.target.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(bytes)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing more can be done about it.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Renames, unless the new name is taken, even by somebody who takes it at this moment: then it is
/// [`ErrorKind::AlreadyExists`].
fn rename_to_free_name(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(error),
        // File systems without links say so in many ways.
        Err(_) => rename_over_placeholder(from, to),
    }
}

/// Takes the name with an empty file, and replaces that. Killed in between, it leaves the empty file.
fn rename_over_placeholder(from: &Path, to: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(to)?;
    fs::rename(from, to).inspect_err(|_| {
        let _ = fs::remove_file(to);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_is_left_to_whoever_took_it() {
        for rename in [rename_to_free_name, rename_over_placeholder] {
            let directory = tempfile::tempdir().unwrap();
            let (from, to) = (directory.path().join("from"), directory.path().join("to"));
            fs::write(&from, "new").unwrap();
            fs::write(&to, "dear").unwrap();
            assert_eq!(rename(&from, &to).unwrap_err().kind(), ErrorKind::AlreadyExists);
            assert_eq!((fs::read(&from).unwrap(), fs::read(&to).unwrap()), (b"new".into(), b"dear".into()));
            fs::remove_file(&to).unwrap();
            rename(&from, &to).unwrap();
            assert_eq!(fs::read(&to).unwrap(), b"new");
            assert!(!from.exists());
            assert!(rename(&from, &directory.path().join("other")).is_err(), "there is nothing to rename");
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no placeholder stays");
        }
    }

    #[test]
    fn a_file_that_appears_while_an_export_is_written_stays() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("export");
        let unfinished = UnfinishedFile::create(&target).unwrap();
        fs::write(&target, "something dear").unwrap();
        let refused = unfinished.finish(false).unwrap_err();
        assert!(matches!(refused, ArchiveError::Io(error) if error.kind() == ErrorKind::AlreadyExists));
        assert_eq!(fs::read(&target).unwrap(), b"something dear");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        UnfinishedFile::create(&target).unwrap().finish(true).unwrap();
        assert_ne!(fs::read(&target).unwrap(), b"something dear");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_process_of_the_same_number_left_is_in_nobodys_way() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("export");
        // Not dropped, as if killed.
        std::mem::forget(UnfinishedFile::create(&target).unwrap());
        UnfinishedFile::create(&target).unwrap().finish(false).unwrap();
        assert!(target.exists());
    }
}
