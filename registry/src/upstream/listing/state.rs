//! What is remembered of a list from one time to the next.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{TagHint, TagList, Validators};
use crate::{Digest, Tag};
pub(super) use own::{Cursor, OwnState};

mod own;

/// Of a state that was written by another version than this, nothing is believed.
const VERSION: u8 = 1;

/// What is remembered of a list, to be shown when the list is asked for again. Opaque, small, and to be kept with what
/// was learnt from the list. May be lost: then the list is read whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ListState {
    #[serde(rename = "v")]
    version: u8,
    /// A hash of the tags, and of how many invalid ones there were.
    names: Option<Digest>,
    /// A hash of the hints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hints: Option<Digest>,
    /// What the registry recognises an unchanged list by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) validators: Option<Validators>,
    /// When the registry last sent the list, rather than to say that it is unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sent_at: Option<Timestamp>,
    /// Of the registry's own list, where it is read.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) own: OwnState,
}

fn is_default(own: &OwnState) -> bool {
    *own == OwnState::default()
}

impl ListState {
    /// Of this list.
    pub fn of(list: &TagList) -> Self {
        Self {
            version: VERSION,
            names: Some(hash_of_names(&list.tags, list.invalid)),
            hints: hash_of_hints(&list.hints),
            validators: None,
            sent_at: None,
            own: OwnState::default(),
        }
    }

    /// The same, with what will tell at less cost whether the list has changed.
    pub(super) fn sent(self, at: Timestamp, validators: Option<Validators>) -> Self {
        Self { validators, sent_at: Some(at), ..self }
    }

    /// The same, for asking somebody else than who sent the list, or as somebody else.
    #[must_use]
    pub fn without_validators(&self) -> Self {
        Self { validators: None, ..self.clone() }
    }

    /// The same, with what is to be remembered of the registry's own list.
    pub(super) fn with_own(self, own: OwnState) -> Self {
        Self { own, ..self }
    }

    /// The same after more tags have been taken in: now of these, in ascending order, and so many invalid ones. What the
    /// list of the protocol was recognised by does not count for them.
    #[must_use]
    pub fn grown<'a>(self, tags: impl IntoIterator<Item = &'a Tag>, invalid: usize) -> Self {
        let names = Some(hash_of_names(tags, invalid));
        let validators = self.validators.filter(|_| self.names == names);
        Self { names, validators, ..self }
    }

    /// Whether a list of these tags, in ascending order, and so many invalid ones left this behind.
    pub fn is_of<'a>(&self, tags: impl IntoIterator<Item = &'a Tag>, invalid: usize) -> bool {
        self.version == VERSION && self.names == Some(hash_of_names(tags, invalid))
    }

    /// Whether this version has written it.
    pub(super) fn is_readable(&self) -> bool {
        self.version == VERSION
    }

    /// Whether both are of lists that say the same.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        (self.version, &self.names, &self.hints) == (other.version, &other.names, &other.hints)
    }
}

/// Tags have no line feed in them.
fn hash_of_names<'a>(tags: impl IntoIterator<Item = &'a Tag>, invalid: usize) -> Digest {
    let mut hash = Sha256::new();
    for tag in tags {
        hash.update(tag.as_str());
        hash.update(b"\n");
    }
    hash.update(format!("\n{invalid}"));
    digest(hash)
}

pub(super) fn hash_of_hints(hints: &BTreeMap<Tag, TagHint>) -> Option<Digest> {
    let mut hash = Sha256::new();
    for (tag, TagHint { digest, pushed_at, source }) in hints {
        let pushed_at = pushed_at.map(jiff::Timestamp::as_millisecond);
        hash.update(format!("{tag} {digest:?} {pushed_at:?} {source:?}\n"));
    }
    (!hints.is_empty()).then(|| digest(hash))
}

fn digest(hash: Sha256) -> Digest {
    Digest::from_bytes(&hash.finalize()).expect("a sha256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::HintSource;
    use super::*;

    fn list(tags: &[&str], invalid: usize) -> TagList {
        TagList { tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(), invalid, ..TagList::default() }
    }

    #[test]
    fn lists_that_differ_in_anything_leave_different_states() {
        let hinted = |digest: &[u8], second: i64| {
            let mut list = list(&["a", "b"], 0);
            let hint = TagHint {
                digest: Some(Digest::sha256(digest)),
                pushed_at: Timestamp::from_second(second).ok(),
                source: HintSource::Google,
            };
            list.hints.insert("a".parse().unwrap(), hint);
            list
        };
        let lists = [
            list(&[], 0),
            list(&[], 1),
            list(&["a"], 0),
            list(&["a", "b"], 0),
            list(&["a", "b"], 1),
            list(&["ab"], 0),
            hinted(b"x", 1),
            hinted(b"y", 1),
            hinted(b"x", 2),
        ];
        for (number, one) in lists.iter().enumerate() {
            for (other_number, other) in lists.iter().enumerate() {
                let same = ListState::of(one).says_the_same(&ListState::of(other));
                assert_eq!(same, number == other_number, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_state_that_another_version_wrote_is_of_nothing() {
        let state = ListState::of(&list(&["a"], 0));
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<ListState>(&text).unwrap(), state);
        let other: ListState = serde_json::from_str(&text.replace(r#""v":1"#, r#""v":2"#)).unwrap();
        assert!(!other.is_readable() && !other.says_the_same(&state));
        assert!(!other.is_of(&list(&["a"], 0).tags, 0));
    }

    proptest! {
        #[test]
        fn a_state_knows_its_list(tags in proptest::collection::btree_set("[a-z0-9]{1,8}", 0..20), invalid in 0_usize..3) {
            let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
            let list = list(&tags, invalid);
            let state = ListState::of(&list);
            prop_assert!(state.is_of(&list.tags, invalid));
            prop_assert!(!state.is_of(&list.tags, invalid + 1));
            prop_assert!(list.tags.is_empty() || !state.is_of(&list.tags[1..], invalid));
        }
    }
}
