//! The tags of a repository that a policy chooses.

use jiff::Timestamp;
use samovar_registry::{ImageInfo, Name, Tag};

use super::load::Pages;
use super::records::{TagRecord, TagSide, TagState, TagStateName, Unavailable};
use super::snapshot::Snapshot;
use super::{Cache, CacheError, never_listed};
use crate::policy::{Candidate, Choice, Choosing, Policy, Standing};
use crate::store::Reader;

/// Tags looked at in one go. Then others get a turn: a repository may have a million.
const TAGS_AT_ONCE: usize = 1024;

/// What a policy chose from a repository.
#[derive(Debug, Clone, PartialEq)]
pub struct Latest {
    /// What was chosen, and why.
    pub choice: Choice,
    /// The tags of the choice, the best first, with their images; or why there is none to show of a tag that was chosen by
    /// its name.
    pub tags: Vec<(Tag, Result<ImageInfo, Unavailable>)>,
    /// The repository's.
    pub generation: u64,
    /// When the list was last read to its end.
    pub last_update: Option<Timestamp>,
    /// When the registry is next asked about one of the tags that the choice is incomplete without; absent where that is
    /// not known.
    pub next_attempt: Option<Timestamp>,
}

impl<R: Reader + 'static> Cache<R> {
    /// Applies a policy to the tags of a repository.
    pub async fn latest(&self, name: &Name, policy: &Policy) -> Result<Latest, CacheError> {
        let snapshot = self.read(name, Pages::All).await?;
        let Some(head) = &snapshot.head else {
            return Err(never_listed(name, &snapshot));
        };
        if snapshot.missing_pages > 0 {
            return Err(CacheError::Torn { name: name.clone() });
        }
        let mut choosing = Choosing::new(policy, self.clock.now());
        for (position, (tag, record, side)) in snapshot.tags().enumerate() {
            if position % TAGS_AT_ONCE == TAGS_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            let mut candidate = candidate(tag, record, side);
            if let Standing::Image { created_at, .. } = &mut candidate.standing
                && policy.needs_created_at()
            {
                *created_at =
                    self.image_info(name, Some(tag), record, side).and_then(|image| image.created_at);
            }
            choosing.look_at(&candidate);
        }
        let choice = choosing.done();
        let with_image = |tag: &Tag| {
            let (record, side) = snapshot.tag(tag)?;
            let image = self.image_info(name, Some(tag), record, side);
            let image = image.ok_or_else(|| Unavailable::of(record, side));
            Some((
                tag.clone(),
                image.map_err(|unavailable| unavailable.expect("a tag without an image says why")),
            ))
        };
        Ok(Latest {
            tags: choice.tags.iter().filter_map(with_image).collect(),
            generation: head.generation,
            last_update: snapshot.side.as_ref().and_then(|side| side.last_update),
            next_attempt: next_attempt(&snapshot, &choice.missing),
            choice,
        })
    }
}

fn candidate<'a>(tag: &'a Tag, record: &'a TagRecord, side: &TagSide) -> Candidate<'a> {
    let unavailable = |state, reason: Option<&'a String>| Standing::Unavailable {
        state,
        reason: reason.map(String::as_str),
    };
    let standing = match &record.state {
        TagState::Ok(image) => Standing::Image {
            created_at: image.created_at,
            platforms: &image.platforms,
            labels: &image.labels,
            is_outdated: record.moved_to.is_some(),
        },
        TagState::Pending => unavailable(TagStateName::Pending, None),
        TagState::Unknown => unavailable(TagStateName::Unknown, None),
        TagState::Excluded { reason, .. } => unavailable(TagStateName::Excluded, Some(reason)),
        TagState::Failed { reason, .. } => unavailable(TagStateName::Failed, Some(reason)),
    };
    Candidate {
        tag,
        first_seen: record.first_seen,
        moved_at: side.moved.then_some(record.since),
        pushed_at: record.pushed.map(|pushed| pushed.at),
        standing,
    }
}

fn next_attempt(snapshot: &Snapshot, missing: &[Tag]) -> Option<Timestamp> {
    missing.iter().filter_map(|tag| snapshot.tag(tag)?.1.next).min()
}
