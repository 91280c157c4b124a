//! What happened to repositories: changes, how they lie in the store, and how they are read back.
//!
//! ```text
//! Head(name).history     which pages there are, and from which change on they count
//! History(name, hash)    up to MOST_CHANGES_IN_PAGE changes, named by content, never rewritten
//! Side(name).early       changes that no head tells of yet: of a repository that was never listed, or is removed
//! ```
//! The head that shows a change also names the page that tells of it: one write, so that whatever crashes, a change is told
//! once and never without being visible.
//!
//! Invariants: ids only grow; a change stands in the history under the id by which subscribers heard of it, on every
//! replica; what is missing or does not decode shortens the history and harms nothing else.

mod answer;
mod pages;
mod since;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use samovar_registry::{Digest, Name, Tag};
use serde::{Deserialize, Serialize};

pub use answer::RepositoryHistory;
pub(crate) use pages::decode_page;
pub(super) use pages::known;
pub use pages::{History, HistoryPage, MOST_CHANGES_IN_PAGE, ReadHistory, open_page, read_after, seal_page};
pub use since::{NoSince, Since};

/// A change of a repository that means something to readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The repository.
    pub repository: Name,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened to a repository, as its history tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Event {
    /// Names it among all of its repository's.
    #[schema(value_type = String)]
    pub id: ChangeId,
    /// What happened.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub kind: ChangeKind,
    /// The tag, where it happened to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub tag: Option<Tag>,
    /// The image that readers were shown before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub old: Option<Digest>,
    /// The image that they are shown now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub new: Option<Digest>,
    /// When it was seen.
    pub at: Timestamp,
    /// What made us look.
    #[schema(value_type = String)]
    pub cause: Cause,
}

impl std::ops::Deref for Change {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}

/// Names a change of a repository. Later changes have greater ids. As text `generation.number`, which is opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeId {
    /// That of the head which first told of it: only grows, also after an eviction.
    pub generation: u64,
    /// Counts the changes of the repository, so that one that is missing is noticed.
    pub number: u64,
}

/// A text that names no change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a change")]
pub struct NoChangeId;

impl fmt::Display for ChangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.number)
    }
}

impl FromStr for ChangeId {
    type Err = NoChangeId;

    fn from_str(text: &str) -> Result<Self, NoChangeId> {
        let (generation, number) = text.split_once('.').ok_or(NoChangeId)?;
        let parse = |digits: &str| digits.parse().map_err(|_| NoChangeId);
        let id = Self { generation: parse(generation)?, number: parse(number)? };
        // Several spellings of one number would be several texts for one id.
        if id.to_string() == text { Ok(id) } else { Err(NoChangeId) }
    }
}

impl Serialize for ChangeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ChangeId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The kinds of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChangeKind {
    /// A tag became available that was not before. Tags of a repository's first listing are not announced.
    #[serde(rename = "tag.added")]
    TagAdded,
    /// A tag that was available is gone from the list, or has no manifest any more.
    #[serde(rename = "tag.removed")]
    TagRemoved,
    /// A tag points at another image.
    #[serde(rename = "tag.moved")]
    TagMoved,
    /// The image of a tag was available and is deliberately not offered any more.
    #[serde(rename = "image.excluded")]
    ImageExcluded,
    /// A tag that was deliberately not offered is available.
    #[serde(rename = "image.recovered")]
    ImageRecovered,
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
    pub const ALL: [Self; 8] = [
        Self::TagAdded,
        Self::TagRemoved,
        Self::TagMoved,
        Self::ImageExcluded,
        Self::ImageRecovered,
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
            Self::ImageExcluded => "image.excluded",
            Self::ImageRecovered => "image.recovered",
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
