//! What an image has to be like besides its tag's name: its platforms, its labels, its age.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use samovar_registry::{Labels, Platform};

use super::candidate::{Candidate, Standing};
use crate::config::quoted;

/// The longest selector of labels, in bytes.
const MAX_SELECTOR_LENGTH: usize = 1024;

/// What is asked of an image. All of it has to hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conditions {
    /// The platforms that it has to offer.
    pub platforms: Vec<Platform>,
    /// What its labels have to say.
    pub labels: Vec<LabelSelector>,
    /// How old it has to be.
    pub min_age: Option<MinAge>,
}

/// How long an image has to have been there, which gives others the time to find out what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinAge {
    /// For how long.
    pub age: Duration,
    /// Since when.
    pub by: AgeBy,
}

/// What the age of an image is counted from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AgeBy {
    /// When samovar first saw the tag, or last saw it move; for tags of a repository's first listing, of which it knows
    /// neither, when they were pushed. No publisher can choose these times.
    #[default]
    FirstSeen,
    /// When the registry says that the tag was last pushed.
    Pushed,
    /// When the image says that it was built, which its publisher can choose freely.
    Created,
}

/// One condition on labels, written as Kubernetes writes its selectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelSelector {
    /// `key`: there is such a label.
    Present(String),
    /// `!key`: there is none.
    Absent(String),
    /// `key=value`.
    Equal(String, String),
    /// `key!=value`: it has another value, or there is none.
    NotEqual(String, String),
}

/// What came of a condition that is not known to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unmet<'a> {
    /// It does not hold.
    Platform(&'a Platform),
    /// It does not hold.
    Label(&'a LabelSelector),
    /// It will hold at that time.
    TooYoung(Timestamp),
    /// Nobody knows since when the image is there.
    UnknownAge,
    /// The image does not say when it was built.
    NoCreationTime,
    /// The registry has not said when the tag was pushed.
    NoPushedTime,
    /// What the image is like is not known.
    ImageMissing,
    /// The tag points at something newer, of which nothing is known yet.
    Moved,
}

impl Conditions {
    /// Whether all of them hold.
    pub(super) fn check<'a>(&'a self, candidate: &Candidate<'_>, now: Timestamp) -> Result<(), Unmet<'a>> {
        if let Some(min_age) = &self.min_age {
            min_age.check(candidate, now)?;
        }
        if self.platforms.is_empty() && self.labels.is_empty() {
            return Ok(());
        }
        let Standing::Image { platforms, labels, .. } = candidate.standing else {
            return Err(Unmet::ImageMissing);
        };
        let offers = |wanted: &Platform| {
            platforms.iter().filter_map(|offered| offered.parse().ok()).any(|offered| wanted.wants(&offered))
        };
        if let Some(missing) = self.platforms.iter().find(|wanted| !offers(wanted)) {
            return Err(Unmet::Platform(missing));
        }
        match self.labels.iter().find(|selector| !selector.selects(labels)) {
            Some(unmet) => Err(Unmet::Label(unmet)),
            None => Ok(()),
        }
    }
}

impl MinAge {
    fn check(&self, candidate: &Candidate<'_>, now: Timestamp) -> Result<(), Unmet<'static>> {
        let image = match candidate.standing {
            // Who pulls the tag gets what is newer.
            Standing::Image { is_outdated: true, .. } => return Err(Unmet::Moved),
            Standing::Image { created_at, .. } => Ok(created_at),
            Standing::Unavailable { .. } => Err(Unmet::ImageMissing),
        };
        let since = match self.by {
            AgeBy::FirstSeen => candidate.moved_at.or(candidate.first_seen).or(candidate.pushed_at),
            AgeBy::Pushed => Some(candidate.pushed_at.ok_or(Unmet::NoPushedTime)?),
            AgeBy::Created => Some(image?.ok_or(Unmet::NoCreationTime)?),
        };
        let since = since.ok_or(Unmet::UnknownAge)?;
        let age = SignedDuration::try_from(self.age).unwrap_or(SignedDuration::MAX);
        match since.checked_add(age) {
            Ok(old_enough_at) if old_enough_at <= now => Ok(()),
            Ok(old_enough_at) => Err(Unmet::TooYoung(old_enough_at)),
            Err(_) => Err(Unmet::TooYoung(Timestamp::MAX)),
        }
    }
}

impl LabelSelector {
    fn selects(&self, labels: &Labels) -> bool {
        match self {
            Self::Present(key) => labels.get(key).is_some(),
            Self::Absent(key) => labels.get(key).is_none(),
            Self::Equal(key, value) => labels.get(key) == Some(value),
            Self::NotEqual(key, value) => labels.get(key) != Some(value),
        }
    }
}

/// The error says what is wrong.
impl FromStr for LabelSelector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > MAX_SELECTOR_LENGTH {
            return Err(format!("a selector must not be longer than {MAX_SELECTOR_LENGTH} bytes"));
        }
        let selector = match text.split_once('=') {
            Some((key, value)) => match key.strip_suffix('!') {
                Some(key) => Self::NotEqual(key.to_owned(), value.to_owned()),
                None => Self::Equal(key.to_owned(), value.to_owned()),
            },
            None => match text.strip_prefix('!') {
                Some(key) => Self::Absent(key.to_owned()),
                None => Self::Present(text.to_owned()),
            },
        };
        if selector.key().is_empty() {
            return Err(format!("{} names no label: write key, key=value, key!=value or !key", quoted(text)));
        }
        Ok(selector)
    }
}

impl LabelSelector {
    fn key(&self) -> &str {
        match self {
            Self::Present(key) | Self::Absent(key) | Self::Equal(key, _) | Self::NotEqual(key, _) => key,
        }
    }
}

/// As it was written.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present(key) => f.write_str(key),
            Self::Absent(key) => write!(f, "!{key}"),
            Self::Equal(key, value) => write!(f, "{key}={value}"),
            Self::NotEqual(key, value) => write!(f, "{key}!={value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use samovar_registry::Tag;

    use super::*;
    use crate::cache::records::TagStateName;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + hour * 3600).unwrap()
    }

    fn tag() -> Tag {
        "1.0".parse().unwrap()
    }

    /// Whether 24 hours have passed, or what is not known, at hour 100.
    fn check_age(by: AgeBy, candidate: Candidate<'_>) -> Result<(), Unmet<'static>> {
        MinAge { age: Duration::from_hours(24), by }.check(&candidate, at(100))
    }

    #[test]
    fn age_is_counted_from_what_no_publisher_chooses() {
        let (tag, labels) = (tag(), Labels::default());
        let image =
            |created_at| Standing::Image { created_at, platforms: &[], labels: &labels, is_outdated: false };
        let base = Candidate { standing: image(Some(at(0))), ..Candidate::pending(&tag) };
        let seen = |hour| Candidate { first_seen: Some(at(hour)), ..base };
        let by_default = |candidate| check_age(AgeBy::FirstSeen, candidate);
        assert_eq!(by_default(seen(76)), Ok(()), "to the moment");
        assert_eq!(by_default(seen(77)), Err(Unmet::TooYoung(at(101))));
        assert_eq!(by_default(base), Err(Unmet::UnknownAge), "of the first listing");
        assert_eq!(by_default(Candidate { pushed_at: Some(at(1)), ..base }), Ok(()));
        assert_eq!(
            by_default(Candidate { pushed_at: Some(at(99)), ..seen(1) }),
            Ok(()),
            "first seen is first seen"
        );
        let moved = Candidate { moved_at: Some(at(90)), ..seen(1) };
        assert_eq!(by_default(moved), Err(Unmet::TooYoung(at(114))), "what it points at is as old as that");

        let by_pushed = |candidate| check_age(AgeBy::Pushed, candidate);
        assert_eq!(by_pushed(seen(1)), Err(Unmet::NoPushedTime));
        assert_eq!(by_pushed(Candidate { pushed_at: Some(at(1)), ..seen(99) }), Ok(()));

        assert_eq!(check_age(AgeBy::Created, seen(99)), Ok(()));
        let without = Candidate { standing: image(None), ..seen(1) };
        assert_eq!(check_age(AgeBy::Created, without), Err(Unmet::NoCreationTime));
        let far = Candidate { first_seen: Some(Timestamp::MAX), ..base };
        assert_eq!(by_default(far), Err(Unmet::TooYoung(Timestamp::MAX)));
    }

    #[test]
    fn the_age_of_what_was_not_fetched_is_known_unless_it_is_in_the_image() {
        let tag = tag();
        let pending = Candidate { first_seen: Some(at(1)), ..Candidate::pending(&tag) };
        assert_eq!(check_age(AgeBy::FirstSeen, pending), Ok(()));
        assert_eq!(check_age(AgeBy::Created, pending), Err(Unmet::ImageMissing));
        let labels = Labels::default();
        let standing =
            Standing::Image { created_at: Some(at(1)), platforms: &[], labels: &labels, is_outdated: true };
        let outdated = Candidate { standing, ..pending };
        for by in [AgeBy::FirstSeen, AgeBy::Pushed, AgeBy::Created] {
            assert_eq!(check_age(by, outdated), Err(Unmet::Moved), "{by:?}");
        }
    }

    #[test]
    fn platforms_and_labels_have_to_be_offered() {
        let tag = tag();
        let labels: Labels = [("team", "tea"), ("tier", "")].into_iter().collect();
        let offered = ["linux/amd64".to_owned(), "linux/arm64/v8".to_owned(), "no platform".to_owned()];
        let standing =
            Standing::Image { created_at: None, platforms: &offered, labels: &labels, is_outdated: false };
        let candidate = Candidate { standing, ..Candidate::pending(&tag) };
        let check = |platforms: &[&str], selectors: &[&str]| {
            let conditions = Conditions {
                platforms: platforms.iter().map(|platform| platform.parse().unwrap()).collect(),
                labels: selectors.iter().map(|selector| selector.parse().unwrap()).collect(),
                min_age: None,
            };
            conditions.check(&candidate, at(0)).map_err(|unmet| match unmet {
                Unmet::Platform(platform) => platform.to_string(),
                Unmet::Label(selector) => selector.to_string(),
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(
            check(&["linux/arm64", "linux/amd64"], &["team", "team=tea", "!a", "tier=", "a!=b"]),
            Ok(())
        );
        assert_eq!(check(&["linux/amd64", "linux/s390x"], &[]), Err("linux/s390x".into()));
        for selector in ["!team", "team=coffee", "team!=tea", "a", "a=b", "tier=1"] {
            assert_eq!(check(&[], &["team", selector]), Err(selector.into()));
        }
        let pending = Candidate {
            standing: Standing::Unavailable { state: TagStateName::Pending, reason: None },
            ..candidate
        };
        let conditions = Conditions { labels: vec!["team".parse().unwrap()], ..Conditions::default() };
        assert_eq!(conditions.check(&pending, at(0)), Err(Unmet::ImageMissing));
        assert_eq!(Conditions::default().check(&pending, at(0)), Ok(()));
    }

    #[test]
    fn a_selector_without_a_label_is_refused() {
        for text in ["", "!", "=x", "!=x", &"k".repeat(1025)] {
            assert!(text.parse::<LabelSelector>().is_err(), "{text}");
        }
        assert_eq!("a=b=c".parse(), Ok(LabelSelector::Equal("a".into(), "b=c".into())));
    }
}
