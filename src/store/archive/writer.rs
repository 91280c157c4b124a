//! Writing an archive.

use std::io::{self, Write};

use sha2::{Digest as _, Sha256};

use super::{ArchiveError, ENTRY, MAGIC, MAX_KEY_BYTES, MAX_STORED_BYTES, TRAILER, VERSION};
use crate::store::{Entry, Key};

/// Writes an archive from its first byte to its last. Without [`ArchiveWriter::finish`] it is cut short.
#[derive(Debug)]
pub struct ArchiveWriter<W> {
    output: Hashing<W>,
    entries: u64,
}

impl<W: Write> ArchiveWriter<W> {
    /// Begins an archive. Every entry is several small writes: `output` had better be buffered.
    pub fn new(output: W) -> Result<Self, ArchiveError> {
        let mut output = Hashing { output, hash: Sha256::new() };
        output.write_all(MAGIC)?;
        output.write_all(format!("{VERSION}\n").as_bytes())?;
        Ok(Self { output, entries: 0 })
    }

    /// Adds an entry. One that is too large is refused, and nothing of it written.
    pub fn append(&mut self, key: &Key, entry: &Entry) -> Result<(), ArchiveError> {
        let (key, stored) = (key.to_string(), entry.encode());
        let too_large = || ArchiveError::TooLarge { key: key.clone(), bytes: entry.value.len() };
        if key.len() > MAX_KEY_BYTES || stored.len() > MAX_STORED_BYTES {
            return Err(too_large());
        }
        let key_length = u16::try_from(key.len()).map_err(|_| too_large())?;
        let stored_length = u32::try_from(stored.len()).map_err(|_| too_large())?;
        self.output.write_all(&[ENTRY])?;
        self.output.write_all(&key_length.to_le_bytes())?;
        self.output.write_all(&stored_length.to_le_bytes())?;
        self.output.write_all(key.as_bytes())?;
        self.output.write_all(&stored)?;
        self.entries += 1;
        Ok(())
    }

    /// Ends the archive and gives back what it was written to, flushed.
    pub fn finish(mut self) -> Result<W, ArchiveError> {
        self.output.write_all(&[TRAILER])?;
        self.output.write_all(&self.entries.to_le_bytes())?;
        let Hashing { mut output, hash } = self.output;
        output.write_all(&hash.finalize())?;
        output.flush()?;
        Ok(output)
    }
}

/// Writes through, and keeps the hash of everything written.
#[derive(Debug)]
struct Hashing<W> {
    output: W,
    hash: Sha256,
}

impl<W: Write> Hashing<W> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.output.write_all(bytes)
    }
}
