//! Lists of tags: what one says, and what is remembered of it so that the next one costs less.
//!
//! Invariants:
//! - only the list of the distribution protocol, read to its end, says that a tag is gone;
//! - a list that is taken for unchanged was confirmed by the registry (304), or read and found to say the same.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Digest, Tag};

pub use plain::MAX_TAG_PAGE_BYTES;
pub(super) use plain::PlainList;
pub use state::ListState;
use validators::Validators;

mod plain;
mod state;
mod validators;

/// What a registry answered when it was asked for the tags of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listing {
    /// Nothing has changed since the list that was known.
    Unchanged(ListState),
    /// All tags.
    Whole(TagList, ListState),
}

/// The tags of a repository, as the registry lists them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagList {
    /// The valid tags, ascending, each once.
    pub tags: Vec<Tag>,
    /// How many listed strings were not valid tags and were dropped.
    pub invalid: usize,
    /// What else the list says about some of its tags. None from most registries.
    pub hints: BTreeMap<Tag, TagHint>,
}

/// What a list says about a tag beside its name. No more than that: what a tag points at is known when the registry
/// has said so of the tag itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagHint {
    /// What the tag points at, if the list says so.
    pub digest: Option<Digest>,
    /// When the tag was pushed, if the list says so.
    pub pushed_at: Option<Timestamp>,
    /// Whose word it is.
    pub source: HintSource,
}

/// Which interface told something about a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HintSource {
    /// The `manifest` map in the lists of Google's registries.
    #[serde(rename = "g")]
    Google,
    /// Docker Hub's own list of tags.
    #[serde(rename = "d")]
    DockerHub,
    /// Quay's own list of tags.
    #[serde(rename = "q")]
    Quay,
    /// The own list of tags of Azure's registries.
    #[serde(rename = "a")]
    Acr,
    /// Harbor's list of artifacts.
    #[serde(rename = "h")]
    Harbor,
}
