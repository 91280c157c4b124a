//! From where on a history is asked for.

use std::str::FromStr;

use jiff::Timestamp;

use super::{ChangeId, Event};

/// From where on a history is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// What was seen at this time or later.
    Time(Timestamp),
    /// What came after this change.
    Change(ChangeId),
}

/// A text that says neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a time such as 2026-11-20T06:51:00Z, or the id of a change")]
pub struct NoSince;

impl FromStr for Since {
    type Err = NoSince;

    fn from_str(text: &str) -> Result<Self, NoSince> {
        let id = || text.parse().map(Self::Change).ok();
        text.parse().map(Self::Time).ok().or_else(id).ok_or(NoSince)
    }
}

impl Since {
    /// Whether `event` came so late.
    pub fn includes(&self, event: &Event) -> bool {
        match self {
            Self::Time(time) => event.at >= *time,
            Self::Change(id) => event.id > *id,
        }
    }
}
