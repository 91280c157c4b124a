//! One tag: what a registry may say of it, and how its record follows from that.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::upstream::{ErrorClass, TagHint};
use samovar_registry::{Digest, Tag, TagClass};

use super::cadence;
use super::cadence::tags::TagCadence;
use super::change::Cause;
use super::working_copy::CLOCKS_DIFFER;
use crate::cache::page::bounded_reason;
use crate::cache::records::{Exclusion, ImageRecord, Pushed, PutOff, TagRecord, TagSide, TagState};
use crate::sources::{Chosen, Verdict};

/// A list that says otherwise than we know, and not since when, is believed to know better than the registry did so long
/// ago.
const HINT_COUNTS_AFTER: Duration = Duration::from_hours(1);

/// A tag to ask the registry about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DueTag {
    pub(super) tag: Tag,
    /// What it points at as far as we know; `None`: nothing is known.
    pub(super) known: Option<Digest>,
    /// Other platforms are wanted than when the image was looked at: what `known` names is to be looked at again.
    pub(super) other_platforms: bool,
}

/// Why nothing is asked about a tag, where its name alone decides: the configuration leaves it out, or it is made from the
/// digest of an image that something is kept beside.
pub(super) fn left_out(chosen: &Chosen, tag: &Tag) -> Option<(Exclusion, String)> {
    if let Verdict::Ignored(reason) = chosen.verdict(tag) {
        return Some((Exclusion::Configuration, reason.to_string()));
    }
    let TagClass::Companion(companion) = tag.class() else { return None };
    Some((Exclusion::NotAnImage, format!("not an image but {}, by its name", companion.as_str())))
}

/// What the registry said about one tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TagAnswer {
    /// It points where it pointed.
    Same,
    /// It points at this image.
    Image(Arc<ImageRecord>),
    /// It points at something that is not offered.
    Excluded { digest: Digest, why: Exclusion, reason: String },
    /// It has no manifest.
    Unknown,
    /// It could not be told. Where it is known that the tag has moved, and where to.
    Failed { class: ErrorClass, reason: String, moved_to: Option<Digest> },
    /// What is behind it is to be asked for later; the tag is not to blame.
    Later { until: Timestamp },
}

impl TagAnswer {
    /// A failure that says nothing about where the tag points.
    pub(super) fn failed(class: ErrorClass, error: &impl std::fmt::Display) -> Self {
        Self::Failed { class, reason: error.to_string(), moved_to: None }
    }
}

/// When and why something is applied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstance {
    /// When the registry was asked: what was learnt since then is newer.
    pub(super) began: Timestamp,
    /// When it is applied.
    pub(super) now: Timestamp,
    /// What made us look, for the history.
    pub(super) cause: Cause,
    /// A random number from 0 to 1.
    pub(super) jitter: f64,
}

/// One tag, as kept in memory while its repository is worked on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    pub(super) record: TagRecord,
    pub(super) side: TagSide,
    /// The record was made for other platforms than are wanted now.
    pub(super) other_platforms: bool,
    /// When the asking began whose answer was applied last.
    pub(super) asked_at: Option<Timestamp>,
}

impl Kept {
    pub(super) fn new(record: TagRecord) -> Self {
        Self { record, side: TagSide::default(), other_platforms: false, asked_at: None }
    }

    /// Whether it was never looked at.
    pub(super) fn is_new(&self) -> bool {
        self.record.state == TagState::Pending
    }

    /// Whether its name alone decides that it is not offered.
    pub(super) fn is_left_out(&self) -> bool {
        matches!(self.record.state, TagState::Excluded { digest: None, .. })
    }

    /// When the registry last said what is known, and after which time it is asked again by rights; `None` where it has
    /// not said anything.
    pub(super) fn confirmed_at(&self) -> Option<(Timestamp, Duration)> {
        let interval = match &self.record.state {
            TagState::Ok(_) => Duration::from_secs(u64::from(self.side.interval_seconds)),
            TagState::Excluded { digest: Some(_), .. } | TagState::Unknown => cadence::NEGATIVE,
            TagState::Excluded { digest: None, .. } | TagState::Pending | TagState::Failed { .. } => {
                return None;
            }
        };
        Some((self.side.last_fetched?, interval))
    }

    /// The deadline that its own pace would give it now; `None` where it has another one for a reason: it fails, has to
    /// be confirmed, was put off, or is not offered.
    pub(super) fn planned(&self, cadence: &TagCadence) -> Option<Timestamp> {
        let (confirmed, interval) =
            self.confirmed_at().filter(|_| matches!(self.record.state, TagState::Ok(_)))?;
        let is_other = self.side.attempts > 0 || self.side.missing || self.side.put_off.is_some();
        (!is_other).then(|| cadence.planned(confirmed, interval))
    }

    /// When the registry is to be asked about the tag; in the past where that is due; `None`: never.
    pub(super) fn next(&self) -> Option<Timestamp> {
        match &self.record.state {
            // By its name.
            TagState::Excluded { digest: None, .. } => None,
            _ => Some(self.side.next.unwrap_or(self.record.since)),
        }
    }

    /// Whether a list says otherwise of the tag than we know, and knows better: then the registry is to be asked now. It is
    /// not where the registry has spoken of the tag itself since, nor while what it says cannot be had.
    pub(super) fn makes_due(&self, hint: &TagHint, at: Circumstance) -> bool {
        let says_otherwise = match (&hint.digest, self.record.state.digest()) {
            (Some(said), Some(known)) => said != known,
            (Some(_), None) => self.record.state == TagState::Unknown,
            (None, Some(_)) => {
                self.record.pushed.map(|pushed| pushed.at) != hint.pushed_at.map(to_the_millisecond)
            }
            (None, None) => false,
        };
        let has_spoken = self.side.last_fetched.is_some_and(|fetched| match hint.pushed_at {
            Some(pushed_at) => pushed_at + CLOCKS_DIFFER <= fetched,
            None => at.now < fetched + HINT_COUNTS_AFTER,
        });
        let is_later = self.next().is_some_and(|next| next > at.now);
        says_otherwise && !has_spoken && is_later && self.side.attempts == 0
    }

    /// Takes from a list when the tag was pushed. Says whether that is news.
    pub(super) fn take_pushed(&mut self, hint: &TagHint) -> bool {
        let Some(pushed_at) = hint.pushed_at else { return false };
        let pushed = Some(Pushed { at: to_the_millisecond(pushed_at), source: hint.source });
        std::mem::replace(&mut self.record.pushed, pushed) != pushed
    }

    /// The tag after an answer: nothing but a function of what was, what was said, and when.
    pub(super) fn after(&self, answer: TagAnswer, at: Circumstance, cadence: &TagCadence) -> Self {
        let looked_again = matches!(answer, TagAnswer::Image(_) | TagAnswer::Excluded { .. });
        let (record, mut side) = match answer {
            TagAnswer::Same => self.after_same(at, cadence),
            TagAnswer::Image(image) => self.after_image(image, at, cadence),
            TagAnswer::Excluded { digest, why, reason } => {
                let reason = bounded_reason(reason);
                let state = TagState::Excluded { digest: Some(digest), why, reason };
                (self.settled(state, at), self.asked_rarely(at))
            }
            TagAnswer::Unknown => self.after_unknown(at),
            TagAnswer::Failed { class, reason, moved_to } => {
                (self.failed(class, reason, moved_to, at), self.asked_after_failure(at))
            }
            TagAnswer::Later { until } => {
                let put_off = Some(PutOff::Limited);
                (self.record.clone(), TagSide { next: Some(until), put_off, ..self.side })
            }
        };
        if let Some(known) = self.record.state.digest() {
            side.moved |=
                record.moved_to.is_some() || record.state.digest().is_some_and(|digest| digest != known);
        }
        let is_unknown = record.state == TagState::Unknown;
        let other_platforms = self.other_platforms && !looked_again && !is_unknown;
        Self { record, side, other_platforms, asked_at: Some(at.began) }
    }

    fn after_same(&self, at: Circumstance, cadence: &TagCadence) -> (TagRecord, TagSide) {
        let record = TagRecord { moved_to: None, ..self.record.clone() };
        let is_image = matches!(record.state, TagState::Ok(_));
        (record, if is_image { self.confirmed(false, at, cadence) } else { self.asked_rarely(at) })
    }

    fn after_image(
        &self,
        image: Arc<ImageRecord>,
        at: Circumstance,
        cadence: &TagCadence,
    ) -> (TagRecord, TagSide) {
        let known = self.record.state.digest();
        let same_digest = known == Some(&image.digest);
        let moved = known.is_some() && !same_digest;
        let side = if self.other_platforms && same_digest {
            // It was derived anew from stored documents: the registry has confirmed nothing.
            let interval = Duration::from_secs(u64::from(self.side.interval_seconds));
            let next = self.side.last_fetched.map_or(at.now, |fetched| fetched + interval);
            TagSide { next: Some(next), attempts: 0, missing: false, put_off: None, ..self.side }
        } else {
            self.confirmed(moved, at, cadence)
        };
        (self.settled(TagState::Ok(image), at), side)
    }

    /// A tag whose image is known is given up only when its absence is said twice: registries in a bad state deny what
    /// they have.
    fn after_unknown(&self, at: Circumstance) -> (TagRecord, TagSide) {
        if matches!(self.record.state, TagState::Ok(_)) && !self.side.missing {
            let next = Some(at.now + cadence::CONFIRM_LOSS);
            return (self.record.clone(), TagSide { next, missing: true, put_off: None, ..self.side });
        }
        (self.settled(TagState::Unknown, at), self.asked_rarely(at))
    }

    /// What was known stays.
    fn failed(
        &self,
        class: ErrorClass,
        reason: String,
        moved_to: Option<Digest>,
        at: Circumstance,
    ) -> TagRecord {
        match self.record.state {
            TagState::Ok(_) | TagState::Excluded { .. } | TagState::Unknown => {
                // What could not be looked at again where the tag points already is no move.
                let moved_to = moved_to.filter(|digest| self.record.state.digest() != Some(digest));
                let moved_to = moved_to.or_else(|| self.record.moved_to.clone());
                TagRecord { moved_to, ..self.record.clone() }
            }
            TagState::Pending | TagState::Failed { .. } => {
                self.settled(TagState::Failed { class, reason: bounded_reason(reason) }, at)
            }
        }
    }

    /// The record in another state; since now, unless it says the same as before.
    fn settled(&self, state: TagState, at: Circumstance) -> TagRecord {
        let before = &self.record;
        let same = state.name() == before.state.name() && state.digest() == before.state.digest();
        let since = if same { before.since } else { at.now };
        // A push from before the registry last confirmed where the tag pointed is not the one that has moved it.
        let has_moved = before.state.digest().is_some() && state.digest() != before.state.digest();
        let is_older = |pushed: &Pushed| {
            self.side.last_fetched.is_some_and(|fetched| pushed.at + CLOCKS_DIFFER <= fetched)
        };
        let pushed = before.pushed.filter(|pushed| !(has_moved && is_older(pushed)));
        let was_excluded =
            before.was_excluded && matches!(state, TagState::Pending | TagState::Failed { .. });
        TagRecord { state, since, first_seen: before.first_seen, moved_to: None, pushed, was_excluded }
    }

    fn confirmed(&self, moved: bool, at: Circumstance, cadence: &TagCadence) -> TagSide {
        let seconds = u64::from(self.side.interval_seconds);
        let fetched = self.side.last_fetched.filter(|_| seconds > 0);
        let previous =
            fetched.map(|fetched| (Duration::from_secs(seconds), cadence::elapsed(fetched, at.now)));
        let interval = cadence.learn(previous, moved);
        // Whatever it looks like.
        let cadence = TagCadence { floats: cadence.floats || moved, ..*cadence };
        TagSide {
            last_fetched: Some(at.now),
            interval_seconds: u32::try_from(interval.as_secs()).unwrap_or(u32::MAX),
            next: Some(cadence.planned(at.now, interval)),
            attempts: 0,
            missing: false,
            moved: self.side.moved,
            put_off: None,
        }
    }

    fn asked_rarely(&self, at: Circumstance) -> TagSide {
        let next = Some(at.now + cadence::NEGATIVE);
        TagSide { last_fetched: Some(at.now), next, attempts: 0, missing: false, put_off: None, ..self.side }
    }

    fn asked_after_failure(&self, at: Circumstance) -> TagSide {
        let attempts = self.side.attempts.saturating_add(1);
        let next = Some(at.now + cadence::after_failure(attempts, at.jitter));
        TagSide { next, attempts, put_off: None, ..self.side }
    }
}

/// Times are kept to the millisecond.
fn to_the_millisecond(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}
