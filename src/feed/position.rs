//! How far a follower of the feed has come, over all repositories and whichever replica told it: what is between two
//! connections, as text.
//!
//! Changes of different repositories have no order that all replicas agree on. A position is therefore a time up to which
//! everything was told, a little in the past, and for the few repositories that changed since, the last change that was told.
//!
//! Invariants: a change that was not told is never covered; one that was told is, unless so many repositories changed at
//! once that [`MOST_AHEAD`] does not hold them: then it is told again rather than not at all.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use samovar_registry::Name;
use sha2::{Digest as _, Sha256};

use crate::cache::history::ChangeId;

/// Repositories of which a position knows singly how far they were told.
pub const MOST_AHEAD: usize = 64;
/// The longest text of a position, in bytes.
pub const MAX_POSITION_BYTES: usize = 4096;

/// Stands for a repository: the first 48 bits of its name's SHA-256, the same on every replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(u64);

impl fmt::LowerHex for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl Mark {
    /// The mark of a repository.
    pub fn of(name: &Name) -> Self {
        let hash: [u8; 32] = Sha256::digest(name.as_str()).into();
        Self(hash[..6].iter().fold(0, |mark, byte| mark << 8 | u64::from(*byte)))
    }
}

/// How far a follower has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// Everything up to this generation was told: milliseconds since 1970.
    time: u64,
    /// What was told of later ones.
    ahead: BTreeMap<Mark, ChangeId>,
}

/// A text that is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id of the feed")]
pub struct NoPosition;

impl Position {
    /// Everything up to this generation was told, and nothing else.
    pub fn at(time: u64) -> Self {
        Self { time, ahead: BTreeMap::new() }
    }

    /// Up to which generation everything was told.
    pub fn time(&self) -> u64 {
        self.time
    }

    /// Whether a change was told.
    pub fn covers(&self, mark: Mark, id: ChangeId) -> bool {
        id.generation <= self.time || self.ahead.get(&mark).is_some_and(|told| id <= *told)
    }

    /// A change of a repository was told, and with it all before it.
    pub fn tell(&mut self, mark: Mark, id: ChangeId) {
        if self.covers(mark, id) {
            return;
        }
        self.ahead.insert(mark, id);
        if self.ahead.len() > MOST_AHEAD
            && let Some(oldest) = self.ahead.iter().min_by_key(|(_, id)| **id).map(|(mark, _)| *mark)
        {
            self.ahead.remove(&oldest);
        }
    }

    /// Everything up to this generation was told. Never goes back.
    pub fn advance(&mut self, time: u64) {
        if time > self.time {
            self.time = time;
            self.ahead.retain(|_, told| told.generation > time);
        }
    }

    /// What was told of generations after [`Self::time`].
    pub fn ahead(&self) -> impl Iterator<Item = (Mark, ChangeId)> {
        self.ahead.iter().map(|(mark, id)| (*mark, *id))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.time)?;
        self.ahead
            .iter()
            .try_for_each(|(mark, id)| write!(f, "-{mark:x}.{:x}.{:x}", id.generation - self.time, id.number))
    }
}

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        if text.len() > MAX_POSITION_BYTES {
            return Err(NoPosition);
        }
        let number = |digits: &str| u64::from_str_radix(digits, 16).map_err(|_| NoPosition);
        let mut parts = text.split('-');
        let mut position = Self::at(number(parts.next().unwrap_or_default())?);
        for part in parts {
            let mut numbers = part.split('.').map(number);
            let (Some(mark), Some(later), Some(number), None) =
                (numbers.next(), numbers.next(), numbers.next(), numbers.next())
            else {
                return Err(NoPosition);
            };
            let generation = position.time.checked_add(later?).ok_or(NoPosition)?;
            position.ahead.insert(Mark(mark?), ChangeId { generation, number: number? });
        }
        // Several spellings of one position would be several texts for it; and nothing is ahead of what it is behind.
        if position.ahead.len() <= MOST_AHEAD && position.to_string() == text {
            Ok(position)
        } else {
            Err(NoPosition)
        }
    }
}

#[cfg(test)]
mod tests;
