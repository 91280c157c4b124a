//! What changed: said once, when readers can see it.

use jiff::Timestamp;
use samovar_registry::{Digest, Name, Tag};
use serde::{Deserialize, Serialize};

/// A change that means something to readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The repository.
    pub repository: Name,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: ChangeKind,
    /// The tag, where it happened to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// What the tag pointed at before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Digest>,
    /// What it points at now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Digest>,
    /// When it was seen.
    pub at: Timestamp,
    /// What made us look.
    pub cause: Cause,
}

/// The kinds of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum ChangeKind {
    /// A tag became available that was not before. Tags of a repository's first listing are not announced.
    #[serde(rename = "tag.added")]
    TagAdded,
    /// A tag that was available is so no longer.
    #[serde(rename = "tag.removed")]
    TagRemoved,
    /// A tag points at another digest.
    #[serde(rename = "tag.moved")]
    TagMoved,
    /// A repository's list can no longer be read.
    #[serde(rename = "repository.failed")]
    RepositoryFailed,
    /// It can be read again.
    #[serde(rename = "repository.recovered")]
    RepositoryRecovered,
    /// The registry has said for long enough that the repository is gone; what we knew was dropped.
    #[serde(rename = "repository.removed")]
    RepositoryRemoved,
}

impl ChangeKind {
    /// All kinds, for metrics that show every label value from the start.
    pub const ALL: [Self; 6] = [
        Self::TagAdded,
        Self::TagRemoved,
        Self::TagMoved,
        Self::RepositoryFailed,
        Self::RepositoryRecovered,
        Self::RepositoryRemoved,
    ];

    /// The kind as the API says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TagAdded => "tag.added",
            Self::TagRemoved => "tag.removed",
            Self::TagMoved => "tag.moved",
            Self::RepositoryFailed => "repository.failed",
            Self::RepositoryRecovered => "repository.recovered",
            Self::RepositoryRemoved => "repository.removed",
        }
    }
}

/// What made us look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The schedule.
    Poll,
    /// Somebody asked for a refresh.
    Request,
    /// A registry, or whoever pushes to it, said that something has changed.
    Webhook,
}
