//! What changed: computed here and nowhere else, and said once, when readers can see it.

use jiff::Timestamp;
use samovar_registry::{Digest, Tag};

use crate::cache::history::{ChangeId, Event};
use crate::cache::records::{TagRecord, TagState};

pub(super) use crate::cache::history::{Cause, ChangeKind};

/// How what readers see of a tag differs before and after: the image shown before, and the one shown now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) kind: ChangeKind,
    pub(super) old: Option<Digest>,
    pub(super) new: Option<Digest>,
}

/// How `after` differs from `before` for readers; a tag that is not listed has no record. `None`: not at all; or it is an
/// image of the repository's first listing, which may be of any age and is no news.
pub(super) fn difference(before: Option<&TagRecord>, after: Option<&TagRecord>) -> Option<Difference> {
    let (old, new) = (before.and_then(image_digest), after.and_then(image_digest));
    if old == new {
        return None;
    }
    let kind = match (old, new) {
        (Some(_), Some(_)) => ChangeKind::TagMoved,
        (Some(_), None) if after.is_some_and(is_excluded) => ChangeKind::ImageExcluded,
        (Some(_), None) => ChangeKind::TagRemoved,
        (None, _) if before.is_some_and(|before| is_excluded(before) || before.was_excluded) => {
            ChangeKind::ImageRecovered
        }
        (None, _) if before.is_none_or(is_open) && after.is_some_and(|after| after.first_seen.is_none()) => {
            return None;
        }
        (None, _) => ChangeKind::TagAdded,
    };
    Some(Difference { kind, old: old.cloned(), new: new.cloned() })
}

/// The image that readers are shown.
pub(super) fn image_digest(record: &TagRecord) -> Option<&Digest> {
    match &record.state {
        TagState::Ok(image) => Some(&image.digest),
        _ => None,
    }
}

fn is_excluded(record: &TagRecord) -> bool {
    matches!(record.state, TagState::Excluded { .. })
}

/// Nothing was learnt of it yet.
fn is_open(record: &TagRecord) -> bool {
    matches!(record.state, TagState::Pending | TagState::Failed { .. })
}

/// A change that was seen; it gets its id when it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) kind: ChangeKind,
    pub(super) tag: Option<Tag>,
    pub(super) old: Option<Digest>,
    pub(super) new: Option<Digest>,
    pub(super) at: Timestamp,
    pub(super) cause: Cause,
}

impl Seen {
    pub(super) fn with_id(self, id: ChangeId) -> Event {
        let Self { kind, tag, old, new, at, cause } = self;
        Event { id, kind, tag, old, new, at, cause }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use samovar_registry::Labels;
    use samovar_registry::upstream::ErrorClass;

    use super::*;
    use crate::cache::records::{Exclusion, ImageRecord};

    fn image(seed: u8) -> Arc<ImageRecord> {
        Arc::new(ImageRecord {
            digest: Digest::sha256(&[seed]),
            image_id: None,
            media_type: String::new(),
            size: None,
            created_at: None,
            labels: Labels::default(),
            platforms: Vec::new(),
        })
    }

    fn record() -> impl Strategy<Value = Option<TagRecord>> {
        let excluded = |digest: Option<u8>| TagState::Excluded {
            digest: digest.map(|seed| Digest::sha256(&[seed])),
            why: Exclusion::Platform,
            reason: String::new(),
        };
        let state = prop_oneof![
            Just(TagState::Pending),
            (0..3_u8).prop_map(|seed| TagState::Ok(image(seed))),
            proptest::option::of(0..3_u8).prop_map(excluded),
            Just(TagState::Unknown),
            Just(TagState::Failed { class: ErrorClass::Timeout, reason: String::new() }),
        ];
        let record = (state, any::<bool>()).prop_map(|(state, is_new)| {
            let first_seen = is_new.then_some(Timestamp::UNIX_EPOCH);
            TagRecord { state, ..TagRecord::pending(Timestamp::UNIX_EPOCH, first_seen) }
        });
        proptest::option::of(record)
    }

    proptest! {
        /// A difference is what was shown and what is shown; only an image of a first listing comes without one.
        #[test]
        fn a_difference_says_what_was_shown_and_what_is(before in record(), after in record()) {
            prop_assert_eq!(difference(before.as_ref(), before.as_ref()), None);
            let (old, new) = (before.as_ref().and_then(image_digest), after.as_ref().and_then(image_digest));
            match difference(before.as_ref(), after.as_ref()) {
                Some(difference) => {
                    prop_assert_ne!(old, new);
                    prop_assert_eq!((difference.old.as_ref(), difference.new.as_ref()), (old, new));
                }
                None if old == new => {}
                None => {
                    prop_assert_eq!(old, None);
                    prop_assert!(after.is_some_and(|after| after.first_seen.is_none()));
                }
            }
        }
    }
}
