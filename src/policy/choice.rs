//! Applying a policy to the tags of a repository.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use samovar_registry::{Platform, Tag};
use serde::{Serialize, Serializer};

use super::Policy;
use super::best::Best;
use super::candidate::{Candidate, Standing};
use super::conditions::{LabelSelector, Unmet};
use super::order::{Key, Reading};
use crate::cache::records::TagStateName;

/// Tags that are shown with why they were left out, those that might have been best; the others, of which there may be as
/// many as there are signatures beside images, are counted.
const MOST_LEFT_OUT: usize = 100;

/// What a policy chose, and why.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choice {
    /// How many tags fit the policy; of these, the best ones were chosen.
    pub matched: usize,
    /// The best ones, the very best first.
    pub tags: Vec<Tag>,
    /// Tags with names that fit but that were not considered, and why: up to 100, those first that might have been best.
    pub left_out: BTreeMap<Tag, LeftOut>,
    /// How many more were left out.
    pub left_out_more: usize,
    /// Tags of which something is missing that could change the choice, or what is known of what was chosen: up to 100,
    /// those first that might be best. Where there are none the choice is complete.
    pub missing: Vec<Tag>,
}

impl Choice {
    /// Whether nothing that is missing could change it.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }
}

/// Why a tag was left out whose name fits. Written as a word that programs may rely on, and details after a colon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeftOut {
    /// There is no image to show.
    Unavailable {
        /// Pending, excluded, unknown or failed.
        state: TagStateName,
        /// Why, in words.
        reason: Option<String>,
    },
    /// It points at something new that could not be fetched yet, so that it may be too young.
    Moved,
    /// It does not offer this platform.
    Platform(Platform),
    /// Its labels do not fit this selector.
    Label(LabelSelector),
    /// It will be old enough then.
    TooYoung(Timestamp),
    /// It was there at the repository's first listing, and the registry does not say when it was pushed.
    UnknownAge,
    /// It does not say when it was built.
    NoCreationTime,
    /// The registry does not say when it was pushed.
    NoPushedTime,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable { state, reason: None } => f.write_str(state.as_str()),
            Self::Unavailable { state, reason: Some(reason) } => write!(f, "{}: {reason}", state.as_str()),
            Self::Moved => f.write_str("moved: what it points at now has not been fetched yet"),
            Self::Platform(platform) => write!(f, "platform: does not offer {platform}"),
            Self::Label(selector) => write!(f, "label: does not fit {selector}"),
            Self::TooYoung(until) => write!(f, "too-young: until {until}"),
            Self::UnknownAge => f.write_str("unknown-age: it was there at the first listing"),
            Self::NoCreationTime => f.write_str("no-creation-time: the image does not say when it was built"),
            Self::NoPushedTime => f.write_str("no-pushed-time: the registry does not say when it was pushed"),
        }
    }
}

impl Serialize for LeftOut {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where a tag stands in the order, and of equal ones by its name.
type Rank<'a> = (Key, &'a Tag);

/// Where a tag may stand at best.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum AtBest<'a> {
    Rank(Rank<'a>),
    /// Above all others.
    First,
}

impl Policy {
    /// Chooses from the tags of one repository, as of `now`.
    pub fn choose<'a>(&self, candidates: impl IntoIterator<Item = Candidate<'a>>, now: Timestamp) -> Choice {
        let mut choosing = Choosing::new(self, now);
        for candidate in candidates {
            choosing.look_at(&candidate);
        }
        choosing.done()
    }
}

/// A choice that is being made, one tag after the other: what it takes up does not grow with their number.
#[derive(Debug)]
pub(crate) struct Choosing<'p, 'a> {
    policy: &'p Policy,
    now: Timestamp,
    best: Best<Rank<'a>, ()>,
    left_out: Best<(AtBest<'a>, &'a Tag), LeftOut>,
    doubts: Best<(AtBest<'a>, &'a Tag), ()>,
}

impl<'p, 'a> Choosing<'p, 'a> {
    pub(crate) fn new(policy: &'p Policy, now: Timestamp) -> Self {
        let (best, left_out, doubts) =
            (Best::new(policy.limit), Best::new(MOST_LEFT_OUT), Best::new(MOST_LEFT_OUT));
        Self { policy, now, best, left_out, doubts }
    }

    /// Takes one more tag of the repository into account.
    pub(crate) fn look_at(&mut self, candidate: &Candidate<'a>) {
        let Policy { order, names, conditions, .. } = self.policy;
        let tag = candidate.tag;
        let Some(value) = names.value(tag) else { return };
        let (at_best, verdict) = match order.read(&value, candidate) {
            Reading::Passed => return,
            Reading::Key(key) => (AtBest::Rank((key, tag)), conditions.check(candidate, self.now)),
            Reading::Unknown(why, key) => {
                (key.map_or(AtBest::First, |key| AtBest::Rank((key, tag))), Err(why))
            }
        };
        if let Standing::Unavailable { state, reason } = candidate.standing
            && matches!(state, TagStateName::Excluded | TagStateName::Unknown)
        {
            self.left_out.offer((at_best, tag), LeftOut::unavailable(state, reason));
            return;
        }
        if may_change(candidate, verdict) {
            // Where it stands now says nothing if a new image moves it.
            let at_best = if order.is_by_image() { AtBest::First } else { at_best.clone() };
            self.doubts.offer((at_best, tag), ());
        }
        match (verdict, at_best) {
            (Ok(()), AtBest::Rank(rank)) => self.best.offer(rank, ()),
            (Err(unmet), at_best) => self.left_out.offer((at_best, tag), LeftOut::of(unmet, candidate)),
            (Ok(()), AtBest::First) => unreachable!("without a key there is a reason"),
        }
    }

    /// The choice from all that was looked at.
    pub(crate) fn done(self) -> Choice {
        let Self { best, left_out, doubts, .. } = self;
        let bar = best.bar().cloned().map(AtBest::Rank);
        let matters = |at_best: &AtBest<'_>| bar.as_ref().is_none_or(|bar| at_best >= bar);
        let doubts = doubts.into_best_first().map(|(doubt, ())| doubt);
        let missing =
            doubts.take_while(|(at_best, _)| matters(at_best)).map(|(_, tag)| tag.clone()).collect();
        let (matched, all_left_out) = (best.offered(), left_out.offered());
        let left_out: BTreeMap<_, _> =
            left_out.into_best_first().map(|((_, tag), why)| (tag.clone(), why)).collect();
        Choice {
            matched,
            tags: best.into_best_first().map(|((_, tag), ())| tag.clone()).collect(),
            left_out_more: all_left_out - left_out.len(),
            left_out,
            missing,
        }
    }
}

/// Whether the verdict, or what is shown of the tag, may be another one when more is known.
fn may_change(candidate: &Candidate<'_>, verdict: Result<(), Unmet<'_>>) -> bool {
    let image_is_known = matches!(candidate.standing, Standing::Image { is_outdated: false, .. });
    match verdict {
        Ok(()) | Err(Unmet::Platform(_) | Unmet::Label(_) | Unmet::NoCreationTime) => !image_is_known,
        // Whatever comes to be known, it does not make it older.
        Err(Unmet::TooYoung(_)) => false,
        Err(Unmet::UnknownAge | Unmet::NoPushedTime | Unmet::ImageMissing | Unmet::Moved) => true,
    }
}

impl LeftOut {
    fn of(unmet: Unmet<'_>, candidate: &Candidate<'_>) -> Self {
        match (unmet, candidate.standing) {
            (Unmet::ImageMissing, Standing::Unavailable { state, reason }) => {
                Self::unavailable(state, reason)
            }
            (Unmet::ImageMissing | Unmet::Moved, _) => Self::Moved,
            (Unmet::Platform(platform), _) => Self::Platform(platform.clone()),
            (Unmet::Label(selector), _) => Self::Label(selector.clone()),
            (Unmet::TooYoung(until), _) => Self::TooYoung(until),
            (Unmet::UnknownAge, _) => Self::UnknownAge,
            (Unmet::NoCreationTime, _) => Self::NoCreationTime,
            (Unmet::NoPushedTime, _) => Self::NoPushedTime,
        }
    }

    fn unavailable(state: TagStateName, reason: Option<&str>) -> Self {
        Self::Unavailable { state, reason: reason.map(str::to_owned) }
    }
}

#[cfg(test)]
mod tests;
