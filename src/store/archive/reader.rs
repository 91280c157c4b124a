//! Reading an archive.

use std::io::{ErrorKind, Read};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{
    ArchiveError, ENTRY, MAGIC, MAX_KEY_BYTES, MAX_STORED_BYTES, MOST_VERSION_DIGITS, TRAILER, VERSION,
};
use crate::store::{Entry, Key};

/// An entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its key; `None` where the text is no key that this version knows.
    pub key: Option<Key>,
    /// Value and deadline.
    pub entry: Entry,
}

/// What an archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveSummary {
    /// Entries.
    pub entries: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Reads an archive from its first byte to its last.
///
/// # Hidden contract
/// Entries come before the checksum that covers them: nothing read may be acted upon until the same file was read to its
/// end once.
#[derive(Debug)]
pub struct ArchiveReader<R> {
    input: R,
    hash: Sha256,
    position: u64,
    entries: u64,
    ended: bool,
}

impl<R: Read> ArchiveReader<R> {
    /// Reads the header. Every entry is several small reads: `input` had better be buffered.
    pub fn new(input: R) -> Result<Self, ArchiveError> {
        let mut reader = Self { input, hash: Sha256::new(), position: 0, entries: 0, ended: false };
        reader.read_header()?;
        Ok(reader)
    }

    /// The next entry; `None` at the end, after the checksum has been compared.
    pub fn next_record(&mut self) -> Result<Option<Record>, ArchiveError> {
        if self.ended {
            return Ok(None);
        }
        let at = self.position;
        match self.read_array::<1>()? {
            [ENTRY] => self.read_entry(at).map(Some),
            [TRAILER] => {
                self.read_trailer()?;
                self.ended = true;
                Ok(None)
            }
            _ => Err(ArchiveError::Damaged { at, what: "neither an entry nor the end begins here" }),
        }
    }

    /// What was read so far; once [`ArchiveReader::next_record`] has said that there is no more, the whole archive.
    pub fn summary(&self) -> ArchiveSummary {
        ArchiveSummary { entries: self.entries, bytes: self.position }
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    fn read_header(&mut self) -> Result<(), ArchiveError> {
        let mut magic = [0; MAGIC.len()];
        // Too short to be an export is no export either.
        let foreign = |error| match error {
            ArchiveError::CutShort { .. } => ArchiveError::Foreign,
            other => other,
        };
        self.fill(&mut magic).map_err(foreign)?;
        if magic != MAGIC {
            return Err(ArchiveError::Foreign);
        }
        let mut version = 0;
        for digits in 0..=MOST_VERSION_DIGITS {
            match self.read_array::<1>()? {
                [digit @ b'0'..=b'9'] if digits < MOST_VERSION_DIGITS => {
                    version = version * 10 + u32::from(digit - b'0');
                }
                [b'\n'] if digits > 0 => break,
                _ => return Err(ArchiveError::Foreign),
            }
        }
        match version {
            VERSION => Ok(()),
            0 => Err(ArchiveError::Foreign),
            _ => Err(ArchiveError::Newer { version }),
        }
    }

    fn read_entry(&mut self, at: u64) -> Result<Record, ArchiveError> {
        let damaged = |what| ArchiveError::Damaged { at, what };
        let key_length = usize::from(u16::from_le_bytes(self.read_array()?));
        let stored_length = u32::from_le_bytes(self.read_array()?);
        let stored_length = usize::try_from(stored_length).unwrap_or(usize::MAX);
        if key_length > MAX_KEY_BYTES {
            return Err(damaged("a key is longer than any key"));
        }
        if stored_length > MAX_STORED_BYTES {
            return Err(damaged("a value is larger than any value"));
        }
        let key = self.read_bytes(key_length)?;
        let stored = self.read_bytes(stored_length)?;
        let entry = Entry::decode(&stored).ok_or_else(|| damaged("a value is cut short"))?;
        let key = std::str::from_utf8(&key).ok().and_then(|text| text.parse().ok());
        self.entries += 1;
        Ok(Record { key, entry })
    }

    fn read_trailer(&mut self) -> Result<(), ArchiveError> {
        let count = u64::from_le_bytes(self.read_array()?);
        let expected: [u8; 32] = self.hash.clone().finalize().into();
        if self.read_array()? != expected || count != self.entries {
            return Err(ArchiveError::Checksum);
        }
        let mut more = [0];
        loop {
            match self.input.read(&mut more) {
                Ok(0) => return Ok(()),
                Ok(_) => {
                    let what = "something follows its end";
                    return Err(ArchiveError::Damaged { at: self.position, what });
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn read_array<const N: usize>(&mut self) -> Result<[u8; N], ArchiveError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// The caller has checked that `length` is within its bound.
    fn read_bytes(&mut self, length: usize) -> Result<Bytes, ArchiveError> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        Ok(bytes.into())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) => return Err(ArchiveError::CutShort { bytes: self.position + filled as u64 }),
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.hash.update(&*buffer);
        self.position += filled as u64;
        Ok(())
    }
}
