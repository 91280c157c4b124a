//! A file that is read again and again.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::reading::{Patience, Reading};
use crate::Digest;

/// Bound of a file of credentials, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What a file says, as far as it could last be understood: it may be caught half written.
///
/// It is read as a whole every time. Its times and length alone would not tell of two changes within one tick of the file
/// system's clock, and files of credentials are small.
#[derive(Debug)]
pub(super) struct WatchedFile<T> {
    path: PathBuf,
    /// That it has never been there is no problem.
    may_be_missing: bool,
    reading: Reading<Vec<u8>>,
    /// Of what was last read.
    digest: Option<Digest>,
    content: Option<T>,
    problem: Option<String>,
}

impl<T> WatchedFile<T> {
    pub(super) fn new(path: PathBuf) -> Self {
        let reading = Reading::default();
        Self { path, may_be_missing: false, reading, digest: None, content: None, problem: None }
    }

    /// A file that may come later.
    pub(super) fn that_may_be_missing(path: PathBuf) -> Self {
        Self { may_be_missing: true, ..Self::new(path) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What it said when it could last be understood.
    pub(super) fn content(&self) -> Option<&T> {
        self.content.as_ref()
    }

    /// What is wrong with it now, with its name.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Reads the file and, where it is not what it was, understands it anew by `parse`, whose error is the reason.
    pub(super) fn read_again(&mut self, patience: Patience, parse: impl FnOnce(&[u8]) -> Result<T, String>) {
        let path = self.path.clone();
        let text = match self.reading.get(patience, move || read(&path)) {
            Ok(text) => text,
            Err(error) => {
                let is_no_problem =
                    self.may_be_missing && self.content.is_none() && error.kind() == io::ErrorKind::NotFound;
                self.digest = None;
                self.problem =
                    (!is_no_problem).then(|| format!("cannot read {}: {error}", self.path.display()));
                return;
            }
        };
        let digest = Some(Digest::sha256(&text));
        if self.digest == digest {
            return;
        }
        self.digest = digest;
        self.problem = None;
        match parse(&text) {
            Ok(content) => self.content = Some(content),
            Err(reason) => self.problem = Some(format!("{}: {reason}", self.path.display())),
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for somebody to write to it.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &[u8]) -> Result<String, String> {
        match str::from_utf8(text) {
            Ok("") | Err(_) => Err("it says nothing".to_owned()),
            Ok(text) => Ok(text.to_owned()),
        }
    }

    #[test]
    fn the_last_good_content_stays_while_the_file_cannot_be_understood() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut file = WatchedFile::new(path.clone());
        let mut read = || {
            file.read_again(Patience::new(), words);
            (
                file.content().cloned(),
                file.problem().map(|problem| problem.replace(path.to_str().unwrap(), "FILE")),
            )
        };
        let missing = Some("cannot read FILE: No such file or directory (os error 2)".to_owned());
        assert_eq!(read(), (None, missing.clone()));
        std::fs::write(&path, "one").unwrap();
        assert_eq!(read(), (Some("one".to_owned()), None));
        std::fs::write(&path, "").unwrap();
        let empty = (Some("one".to_owned()), Some("FILE: it says nothing".to_owned()));
        assert_eq!(read(), empty);
        assert_eq!(read(), empty, "as long as it is so");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read(), (Some("one".to_owned()), missing));
        std::fs::write(&path, "one").unwrap();
        assert_eq!(read(), (Some("one".to_owned()), None));
        std::fs::write(&path, "two").unwrap();
        assert_eq!(read(), (Some("two".to_owned()), None), "though nothing but its content has changed");
        std::fs::write(&path, vec![b'x'; 1024 * 1024 + 1]).unwrap();
        assert_eq!(
            read(),
            (Some("two".to_owned()), Some("cannot read FILE: it is larger than 1048576 bytes".to_owned()))
        );
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(read().1.as_deref(), Some("cannot read FILE: it is not a file"));
    }

    #[test]
    fn a_file_that_may_be_missing_may_come_later_and_not_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut file = WatchedFile::that_may_be_missing(path.clone());
        file.read_again(Patience::new(), words);
        assert_eq!((file.content(), file.problem()), (None, None));
        std::fs::write(&path, "one").unwrap();
        file.read_again(Patience::new(), words);
        assert_eq!((file.content().map(String::as_str), file.problem()), (Some("one"), None));
        std::fs::remove_file(&path).unwrap();
        file.read_again(Patience::new(), words);
        assert_eq!(file.content().map(String::as_str), Some("one"));
        assert!(file.problem().is_some());
    }
}
