//! All entries of a store in one file: what `samovar store export` writes and `import` reads.
//!
//! ```text
//! samovar-export 1\n              what it is, and the version of the format
//! 'E' key length (u16) stored length (u32) key stored
//! …                               the entries, in no order; `stored` is the deadline (8 bytes) and the value
//! 'T' count (u64) SHA-256         of all bytes before the hash; nothing follows
//! ```
//! Numbers are little endian. Keys are written as their text, values byte for byte as they were stored: they are
//! compressed already, so the file is not. Reading needs no more memory than the largest entry.
//!
//! Invariants:
//! - a file that is cut short or changed in any byte does not read to its end: every byte is covered by the hash, and
//!   the hash by what stands before it;
//! - a file of a newer version is refused as such, before anything else in it is looked at.
//!
//! Deliberately absent: what an entry means. Who imports decides what may be written, in which order.

mod reader;
mod writer;

use std::io;

pub use reader::{ArchiveReader, ArchiveSummary, Record};
pub use writer::ArchiveWriter;

use super::MAX_DECODED_BYTES;

/// What a file begins with; the version and a line feed follow.
const MAGIC: &[u8] = b"samovar-export ";
/// The version that is written, and the newest that is read.
const VERSION: u32 = 1;
/// Digits of a version that are read.
const MOST_VERSION_DIGITS: usize = 9;

/// Begins an entry.
const ENTRY: u8 = b'E';
/// Begins the trailer.
const TRAILER: u8 = b'T';

/// The longest key text in a file: a repository's name has 255 bytes at most, a digest 140.
const MAX_KEY_BYTES: usize = 1024;
/// The largest stored value in a file: the deadline, the envelope and what it may hold.
const MAX_STORED_BYTES: usize = MAX_DECODED_BYTES + 64;

/// Why a file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file system failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It does not begin as an export does.
    #[error("it is no export of a samovar store")]
    Foreign,
    /// It was written by a newer version.
    #[error("it has format version {version}; this samovar reads versions up to {VERSION}")]
    Newer {
        /// The version that it says it has.
        version: u32,
    },
    /// It ends before its trailer does.
    #[error("it is cut short: it ends after {bytes} bytes, in the middle of the export")]
    CutShort {
        /// How many bytes there are.
        bytes: u64,
    },
    /// Something stands in it that no export has.
    #[error("it is damaged at byte {at}: {what}")]
    Damaged {
        /// How many bytes stand before.
        at: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// Its bytes are not those that were written.
    #[error("it is damaged: its content does not match its checksum")]
    Checksum,
    /// An entry that the format has no room for.
    #[error("the entry {key} is too large for an export: {bytes} bytes")]
    TooLarge {
        /// Its key.
        key: String,
        /// Bytes of its value.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests;
