//! What makes one tag better than another.

use std::cmp::Reverse;

use jiff::Timestamp;

use super::candidate::{Candidate, Standing};
use super::conditions::Unmet;
use super::decimal::Decimal;
use super::range::VersionRange;
use super::version::{Strictness, TagVersion};

/// By what tags are compared.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// By version, the highest is best. Only tags that are versions in the range are looked at.
    SemVer {
        /// The range.
        range: VersionRange,
        /// What is a version.
        strictness: Strictness,
        /// Whether pre-releases are looked at also where the range names none.
        prereleases: bool,
    },
    /// As text, byte by byte.
    Alphabetical(Direction),
    /// As numbers. Only tags that are decimal numbers are looked at.
    Numerical(Direction),
    /// By time, the latest is best.
    Newest(NewestBy),
}

/// From which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The last in ascending order is best.
    Ascending,
    /// The first in ascending order is best.
    Descending,
}

/// Which time makes a tag new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewestBy {
    /// When the image says that it was built. Images that do not say it are left out.
    Created,
    /// When the registry says that the tag was last pushed.
    Pushed,
    /// When samovar first saw the tag. Those of a repository's first listing, which are older than all others, are
    /// compared by when they were pushed.
    FirstSeen,
}

/// What is compared: the greater, the better. The keys of one policy are all of one kind, but for their values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Version(TagVersion),
    Text(Box<str>),
    TextDescending(Reverse<Box<str>>),
    Number(Decimal),
    NumberDescending(Reverse<Decimal>),
    Time(Timestamp),
    Seen { after_first_listing: bool, at: Timestamp },
}

/// What an order makes of a tag.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reading {
    /// It does not look at such tags.
    Passed,
    /// What it compares.
    Key(Key),
    /// It would look at the tag, but this is missing; the key is no better than that, if anything is known of it.
    Unknown(Unmet<'static>, Option<Key>),
}

impl Order {
    /// What is compared of a tag, of whose name `value` counts.
    pub(super) fn read(&self, value: &str, candidate: &Candidate<'_>) -> Reading {
        let key = match self {
            Self::SemVer { range, strictness, prereleases } => TagVersion::read(value, *strictness)
                .filter(|read| range.admits(&read.version, *prereleases))
                .map(Key::Version),
            Self::Alphabetical(Direction::Ascending) => Some(Key::Text(value.into())),
            Self::Alphabetical(Direction::Descending) => Some(Key::TextDescending(Reverse(value.into()))),
            Self::Numerical(Direction::Ascending) => Decimal::read(value).map(Key::Number),
            Self::Numerical(Direction::Descending) => {
                Decimal::read(value).map(|number| Key::NumberDescending(Reverse(number)))
            }
            Self::Newest(by) => return by.read(candidate),
        };
        key.map_or(Reading::Passed, Reading::Key)
    }

    /// Whether a newer image behind the same tag may stand elsewhere in the order.
    pub(super) fn is_by_image(&self) -> bool {
        matches!(self, Self::Newest(NewestBy::Created))
    }
}

impl NewestBy {
    fn read(self, candidate: &Candidate<'_>) -> Reading {
        match (self, candidate.standing) {
            (Self::Created, Standing::Image { created_at: Some(at), .. }) => Reading::Key(Key::Time(at)),
            (Self::Created, Standing::Image { created_at: None, .. }) => {
                Reading::Unknown(Unmet::NoCreationTime, None)
            }
            (Self::Created, Standing::Unavailable { .. }) => Reading::Unknown(Unmet::ImageMissing, None),
            (Self::Pushed, _) => match candidate.pushed_at {
                Some(at) => Reading::Key(Key::Time(at)),
                None => Reading::Unknown(Unmet::NoPushedTime, None),
            },
            (Self::FirstSeen, _) => {
                let seen = |after_first_listing, at| Key::Seen { after_first_listing, at };
                match (candidate.first_seen, candidate.pushed_at) {
                    (Some(at), _) => Reading::Key(seen(true, at)),
                    (None, Some(at)) => Reading::Key(seen(false, at)),
                    (None, None) => Reading::Unknown(Unmet::UnknownAge, Some(seen(false, Timestamp::MAX))),
                }
            }
        }
    }
}
