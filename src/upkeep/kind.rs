//! The kinds of entries.

use serde::{Deserialize, Serialize};

use crate::store::Key;

/// What an entry is, by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The head of a repository.
    Head,
    /// A page of tags with their images.
    Page,
    /// A part of a directory of pages.
    Directory,
    /// A page of what changed.
    History,
    /// What changes without meaning about a repository.
    Side,
    /// The same for the tags of a page.
    SidePage,
    /// When readers last asked about a repository and its tags.
    Demand,
    /// A manifest, index or configuration, or its first part.
    Document,
    /// A further part of a large document.
    DocumentPart,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Head,
        Self::Page,
        Self::Directory,
        Self::History,
        Self::Side,
        Self::SidePage,
        Self::Demand,
        Self::Document,
        Self::DocumentPart,
    ];

    /// The kind of what is kept under `key`; `None` for what only coordinates replicas.
    pub fn of(key: &Key) -> Option<Self> {
        match key {
            Key::Head(_) => Some(Self::Head),
            Key::Page(..) => Some(Self::Page),
            Key::Directory(..) => Some(Self::Directory),
            Key::History(..) => Some(Self::History),
            Key::Side(_) => Some(Self::Side),
            Key::SidePage(..) => Some(Self::SidePage),
            Key::Demand(_) => Some(Self::Demand),
            Key::Document(_) => Some(Self::Document),
            Key::DocumentPart(..) => Some(Self::DocumentPart),
            Key::Lane(_)
            | Key::Asked(_)
            | Key::Budget(_)
            | Key::Catalog(_)
            | Key::CatalogPart(..)
            | Key::Notified(..)
            | Key::Sweep
            | Key::OnDemand => None,
        }
    }

    /// Whether it belongs to the raw documents, which stores keep apart and drop first.
    pub fn is_document(self) -> bool {
        matches!(self, Self::Document | Self::DocumentPart)
    }

    /// The plural for people.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Head => "heads",
            Self::Page => "pages",
            Self::Directory => "directories",
            Self::History => "history pages",
            Self::Side => "side records",
            Self::SidePage => "side pages",
            Self::Demand => "demand records",
            Self::Document => "documents",
            Self::DocumentPart => "document parts",
        }
    }
}
