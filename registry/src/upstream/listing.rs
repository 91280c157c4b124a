//! Lists of tags: which are read, what one says, and what is remembered of it so that the next one costs less.
//!
//! Invariants:
//! - only the list of the distribution protocol, read to its end, says that a tag is gone;
//! - a list that is taken for unchanged was confirmed by the registry (304), or read and found to say the same.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::session::Session;
use super::{UpstreamError, Urgency};
use crate::{Digest, Tag};

pub use choice::ListingChoice;
pub(super) use google::ManifestMap;
pub(super) use own::{OwnList, Standing};
pub use plain::MAX_TAG_PAGE_BYTES;
use plain::PlainList;
pub use state::ListState;
use validators::Validators;

mod choice;
mod google;
mod own;
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
    /// Tags that have come or moved since the list that was known, and perhaps some that have not. Of others, and of any
    /// that are gone, it says nothing.
    Newer(TagList, ListState),
}

impl Listing {
    /// Whether there are no tags at all, as far as it tells.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Unchanged(state) => state.is_of([], 0),
            Self::Whole(list, _) => list.tags.is_empty() && list.invalid == 0,
            Self::Newer(..) => false,
        }
    }
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
    /// `DescribeImages` of Amazon's registries.
    #[serde(rename = "e")]
    Ecr,
}

/// The lists of one repository.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// The registry's own, where it has one that is to be read.
    pub(super) own: Option<OwnList>,
    /// Whether the list of the protocol may say more of tags than their names, as Google's do.
    pub(super) may_hint: bool,
}

impl Lists {
    /// Reads one of them: the registry's own if that is enough, else, or if anything is wrong with it, that of the
    /// protocol.
    pub(super) async fn read(
        &self,
        session: &Session,
        known: Option<&ListState>,
        urgency: Urgency,
    ) -> Result<Listing, UpstreamError> {
        let now = session.transport.now();
        let known = known.filter(|known| known.is_readable());
        let mut remembered = known.map(|known| known.own.clone()).unwrap_or_default();
        if let (Some(own), Some(known)) = (&self.own, known)
            && remembered.may_be_read(now)
            && own.may_be_tried()
        {
            match own.newer(known, urgency).await {
                Ok(newer) => {
                    own.worked();
                    let state = known.clone();
                    let state = state.with_own(remembered.after_newer(newer.cursor, newer.is_complete));
                    return Ok(if newer.is_unchanged {
                        Listing::Unchanged(state)
                    } else {
                        Listing::Newer(newer.list, state)
                    });
                }
                Err(setback) if setback.is_of_repository => {
                    tracing::debug!(image.name = %session.name, error = %setback.error, "the usual list of tags is read");
                    remembered = remembered.private(now);
                }
                Err(setback) => own.failed(&setback),
            }
        }
        let listing = PlainList { session, known, urgency, may_hint: self.may_hint }.read().await?;
        if self.own.is_none() {
            return Ok(listing);
        }
        let own = remembered.after_plain(now);
        Ok(match listing {
            Listing::Unchanged(state) => Listing::Unchanged(state.with_own(own)),
            Listing::Whole(list, state) => Listing::Whole(list, state.with_own(own)),
            newer @ Listing::Newer(..) => newer,
        })
    }
}
