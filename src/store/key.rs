//! What entries are kept under.

use std::fmt;

use samovar_registry::{Digest, Name};
use sha2::{Digest as _, Sha256};

/// Version of the layout: keys of another version are not seen, so that two versions can share a server.
const LAYOUT: &str = "s1";

/// The key of an entry. Its text form (`Display`) is what engines store under: it has neither spaces nor control
/// characters, but may be longer than memcached's 250 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A repository's head: its generation and which pages make it up. Written last.
    Head(Name),
    /// A page of a repository's tags, named by its content: never rewritten.
    Page(Name, ContentHash),
    /// A part of the directory of a repository with very many pages, named by its content.
    Directory(Name, ContentHash),
    /// What changes without meaning about a repository as a whole: last update, last error, next listing.
    Side(Name),
    /// The same for the tags of the page at this position.
    SidePage(Name, u32),
    /// A manifest, index or configuration, as the registry sent it.
    Document(Digest),
    /// One part of a document too large for one entry.
    DocumentPart(Digest, u32),
    /// The lease of a host's lane.
    Lane(String),
}

impl Key {
    /// Whether the entry can be had again from a registry by its digest: the first to go when space is short.
    pub fn is_document(&self) -> bool {
        matches!(self, Self::Document(_) | Self::DocumentPart(..))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(name) => write!(f, "{LAYOUT}|head|{name}"),
            Self::Page(name, hash) => write!(f, "{LAYOUT}|page|{name}|{hash}"),
            Self::Directory(name, hash) => write!(f, "{LAYOUT}|dir|{name}|{hash}"),
            Self::Side(name) => write!(f, "{LAYOUT}|side|{name}"),
            Self::SidePage(name, position) => write!(f, "{LAYOUT}|side|{name}|{position}"),
            Self::Document(digest) => write!(f, "{LAYOUT}|doc|{digest}"),
            Self::DocumentPart(digest, part) => write!(f, "{LAYOUT}|doc|{digest}|{part}"),
            Self::Lane(host) => write!(f, "{LAYOUT}|lane|{host}"),
        }
    }
}

/// Names content: the first 16 bytes of its SHA-256, enough that nobody meets a collision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash([u8; 16]);

impl ContentHash {
    /// The hash of `content`.
    pub fn of(content: &[u8]) -> Self {
        let full: [u8; 32] = Sha256::digest(content).into();
        let mut hash = [0; 16];
        hash.copy_from_slice(&full[..16]);
        Self(hash)
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for ContentHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ContentHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let bytes = text.as_bytes();
        let mut hash = [0; 16];
        if bytes.len() != 32 || !bytes.is_ascii() {
            return Err(serde::de::Error::custom("a content hash has 32 hexadecimal digits"));
        }
        for (position, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * position..2 * position + 2], 16)
                .map_err(serde::de::Error::custom)?;
        }
        Ok(Self(hash))
    }
}
