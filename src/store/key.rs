//! What entries are kept under.

use std::fmt;
use std::str::FromStr;

use samovar_registry::{Digest, Name};
use sha2::{Digest as _, Sha256};

/// Version of the layout: keys of another version are not seen, so that two versions can share a server.
const LAYOUT: &str = "s1";

/// Stands where the keys of single hosts and repositories have their names.
const WHOLE_STORE: &str = "all";

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
    /// A page of a repository's history, named by its content.
    History(Name, ContentHash),
    /// What changes without meaning about a repository as a whole: last update, last error, next listing.
    Side(Name),
    /// The same for the tags of the page at this position.
    SidePage(Name, u32),
    /// When readers last asked about a repository and its tags.
    Demand(Name),
    /// A manifest, index or configuration, as the registry sent it.
    Document(Digest),
    /// One part of a document too large for one entry.
    DocumentPart(Digest, u32),
    /// The lease of a host's lane.
    Lane(String),
    /// What other replicas ask the holder of a host's lane to refresh.
    Asked(String),
    /// What the holder of a host's lane knows of the host's limits.
    Budget(String),
    /// What is known of the repositories that a host lists.
    Catalog(String),
    /// Some of their names, named by their content.
    CatalogPart(String, ContentHash),
    /// How far a receiver was told of what happens at a host: the host, the receiver's name.
    Notified(String, String),
    /// Whose turn it is to look for what nobody watches any more.
    Sweep,
    /// The repositories that are watched because somebody asked about them.
    OnDemand,
}

impl Key {
    /// Whether the entry can be had again from a registry by its digest: the first to go when space is short.
    pub fn is_document(&self) -> bool {
        matches!(self, Self::Document(_) | Self::DocumentPart(..))
    }

    /// Whether what is kept under the key never changes, because the key is made from it.
    pub fn is_immutable(&self) -> bool {
        self.is_document() || matches!(self, Self::Page(..) | Self::Directory(..) | Self::History(..))
    }

    /// Whether the entry serves the replicas of the moment, and is nothing that was learnt of images.
    pub fn is_coordination(&self) -> bool {
        matches!(
            self,
            Self::Lane(_)
                | Self::Asked(_)
                | Self::Budget(_)
                | Self::Catalog(_)
                | Self::CatalogPart(..)
                | Self::Notified(..)
                | Self::Sweep
                | Self::OnDemand
        )
    }

    /// The repository that the entry belongs to; documents are shared by all.
    pub fn repository(&self) -> Option<&Name> {
        match self {
            Self::Head(name)
            | Self::Page(name, _)
            | Self::Directory(name, _)
            | Self::History(name, _)
            | Self::Side(name)
            | Self::SidePage(name, _)
            | Self::Demand(name) => Some(name),
            Self::Document(_)
            | Self::DocumentPart(..)
            | Self::Lane(_)
            | Self::Asked(_)
            | Self::Budget(_)
            | Self::Catalog(_)
            | Self::CatalogPart(..)
            | Self::Notified(..)
            | Self::Sweep
            | Self::OnDemand => None,
        }
    }
}

/// A text that is no key of this layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a key of layout {LAYOUT}")]
pub struct UnknownKey;

impl FromStr for Key {
    type Err = UnknownKey;

    fn from_str(text: &str) -> Result<Self, UnknownKey> {
        let mut parts = text.split('|');
        if parts.next() != Some(LAYOUT) {
            return Err(UnknownKey);
        }
        let (Some(kind), Some(first), second, None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(UnknownKey);
        };
        let name = || first.parse::<Name>().map_err(|_| UnknownKey);
        let digest = || first.parse::<Digest>().map_err(|_| UnknownKey);
        let number = |text: &str| text.parse::<u32>().map_err(|_| UnknownKey);
        let hash = |text: &str| text.parse::<ContentHash>();
        let key = match (kind, second) {
            ("head", None) => Self::Head(name()?),
            ("page", Some(second)) => Self::Page(name()?, hash(second)?),
            ("dir", Some(second)) => Self::Directory(name()?, hash(second)?),
            ("history", Some(second)) => Self::History(name()?, hash(second)?),
            ("side", None) => Self::Side(name()?),
            ("side", Some(second)) => Self::SidePage(name()?, number(second)?),
            ("demand", None) => Self::Demand(name()?),
            ("doc", None) => Self::Document(digest()?),
            ("doc", Some(second)) => Self::DocumentPart(digest()?, number(second)?),
            ("lane", None) => Self::Lane(first.to_owned()),
            ("asked", None) => Self::Asked(first.to_owned()),
            ("budget", None) => Self::Budget(first.to_owned()),
            ("catalog", None) => Self::Catalog(first.to_owned()),
            ("catalog", Some(second)) => Self::CatalogPart(first.to_owned(), hash(second)?),
            ("notified", Some(second)) => Self::Notified(first.to_owned(), second.to_owned()),
            ("sweep", None) if first == WHOLE_STORE => Self::Sweep,
            ("on-demand", None) if first == WHOLE_STORE => Self::OnDemand,
            _ => return Err(UnknownKey),
        };
        // Several spellings of one name or number would be several texts for one key.
        if key.to_string() == text { Ok(key) } else { Err(UnknownKey) }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(name) => write!(f, "{LAYOUT}|head|{name}"),
            Self::Page(name, hash) => write!(f, "{LAYOUT}|page|{name}|{hash}"),
            Self::Directory(name, hash) => write!(f, "{LAYOUT}|dir|{name}|{hash}"),
            Self::History(name, hash) => write!(f, "{LAYOUT}|history|{name}|{hash}"),
            Self::Side(name) => write!(f, "{LAYOUT}|side|{name}"),
            Self::SidePage(name, position) => write!(f, "{LAYOUT}|side|{name}|{position}"),
            Self::Demand(name) => write!(f, "{LAYOUT}|demand|{name}"),
            Self::Document(digest) => write!(f, "{LAYOUT}|doc|{digest}"),
            Self::DocumentPart(digest, part) => write!(f, "{LAYOUT}|doc|{digest}|{part}"),
            Self::Lane(host) => write!(f, "{LAYOUT}|lane|{host}"),
            Self::Asked(host) => write!(f, "{LAYOUT}|asked|{host}"),
            Self::Budget(host) => write!(f, "{LAYOUT}|budget|{host}"),
            Self::Catalog(host) => write!(f, "{LAYOUT}|catalog|{host}"),
            Self::CatalogPart(host, hash) => write!(f, "{LAYOUT}|catalog|{host}|{hash}"),
            Self::Notified(host, receiver) => write!(f, "{LAYOUT}|notified|{host}|{receiver}"),
            Self::Sweep => write!(f, "{LAYOUT}|sweep|{WHOLE_STORE}"),
            Self::OnDemand => write!(f, "{LAYOUT}|on-demand|{WHOLE_STORE}"),
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

impl FromStr for ContentHash {
    type Err = UnknownKey;

    fn from_str(text: &str) -> Result<Self, UnknownKey> {
        let mut hash = [0; 16];
        if text.len() != 2 * hash.len()
            || !text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(UnknownKey);
        }
        for (position, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * position..2 * position + 2], 16).map_err(|_| UnknownKey)?;
        }
        Ok(Self(hash))
    }
}

impl<'de> serde::Deserialize<'de> for ContentHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(|_| serde::de::Error::custom("a content hash has 32 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_from_their_text() {
        let name: Name = "registry.example:5000/team/app".parse().unwrap();
        let (digest, hash) = (Digest::sha256(b"x"), ContentHash::of(b"y"));
        for key in [
            Key::Head(name.clone()),
            Key::Page(name.clone(), hash),
            Key::Directory(name.clone(), hash),
            Key::History(name.clone(), hash),
            Key::Side(name.clone()),
            Key::SidePage(name.clone(), 17),
            Key::Demand(name),
            Key::Document(digest.clone()),
            Key::DocumentPart(digest, 3),
            Key::Lane("[::1]:5000".into()),
            Key::Asked("docker.io".into()),
            Key::Budget("docker.io".into()),
            Key::Catalog("docker.io".into()),
            Key::CatalogPart("[::1]:5000".into(), hash),
            Key::Notified("[::1]:5000".into(), "flux".into()),
            Key::Sweep,
            Key::OnDemand,
        ] {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
    }

    #[test]
    fn other_texts_are_no_keys() {
        for text in [
            "",
            "s1",
            "s1|head",
            "s2|head|docker.io/library/alpine",
            "s1|head|alpine",
            "s1|head|docker.io/library/alpine|1",
            "s1|side|docker.io/library/alpine|01",
            "s1|page|docker.io/library/alpine|xyz",
            "s1|doc|sha256:short",
            "s1|on-demand|docker.io",
            "s1|other|docker.io/library/alpine",
        ] {
            assert_eq!(text.parse::<Key>(), Err(UnknownKey), "{text}");
        }
    }
}
