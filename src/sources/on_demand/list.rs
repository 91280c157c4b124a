//! The repositories that are watched because somebody asked about them: who comes in, who stays, who goes. Pure.
//!
//! Invariants: no more than the bounds allow, by number and by bytes; the least recently asked goes first; nothing goes for
//! want of room that is in use.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::Name;

use crate::cache::stored;
use crate::store::Entry;

/// What the entry in the store may hold, before compression: below the 256 KiB that any value may have.
const MOST_LIST_BYTES: usize = 240 * 1024;
/// Of the repositories whose tags could not be listed yet, so many are watched: names cost nothing to make up.
const MOST_NEVER_LISTED: usize = 200;
/// What a row takes up there beside its name.
const ROW_BYTES: usize = 24;
/// A repository that was asked about within this time is in use: no other one takes its place.
pub(super) const IN_USE: Duration = Duration::from_hours(1);
/// The same for one that could never be listed: there may be no such repository.
pub(super) const NEW_IN_USE: Duration = Duration::from_mins(1);
/// A repository that could never be listed goes when nobody has asked about it for so long.
pub(super) const NEVER_LISTED_IDLE: Duration = Duration::from_hours(1);
/// A repository that another source names goes when nobody has asked for so long where no other source names it: replicas may have
/// different sources.
pub(super) const NAMED_IDLE: Duration = Duration::from_hours(1);

/// Repositories that somebody asked about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct AskedFor(BTreeMap<Name, Row>);

/// What is known of one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// When somebody last asked, to the second.
    pub(super) asked_at: Timestamp,
    /// Whether its tags could ever be listed.
    pub(super) listed: bool,
}

/// What becomes of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is watched already.
    Known,
    /// It is watched from now on, in the place of these.
    Added {
        /// Those that had to go.
        replaced: Vec<Name>,
    },
    /// There is no room: all are in use.
    Full,
}

/// Why a repository is no longer watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// Nobody has asked about it for long.
    Idle,
    /// Its tags could never be listed, and nobody goes on asking.
    NeverListed,
    /// It is watched because another source names it.
    Named,
    /// Another one took its place.
    Replaced,
}

impl Leaving {
    /// All reasons, for metrics that show every label value from the start.
    pub(crate) const ALL: [Self; 4] = [Self::Idle, Self::NeverListed, Self::Named, Self::Replaced];

    /// The reason as metrics say it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::NeverListed => "never_listed",
            Self::Named => "named",
            Self::Replaced => "replaced",
        }
    }
}

/// A row as it is stored: name, second since 1970, listed.
type StoredRow = (Name, i64, bool);

impl AskedFor {
    /// What an entry says; `None` where it is not there, or not understood. A time ahead of `now` was written by a clock
    /// that was wrong.
    pub(super) fn decode(entry: Option<&Entry>, now: Timestamp) -> Option<Self> {
        let rows: Vec<StoredRow> = stored::decode(entry)?;
        let row = |(name, second, listed)| {
            let asked_at = Timestamp::from_second(second).unwrap_or(now).min(now);
            (name, Row { asked_at, listed })
        };
        Some(Self(rows.into_iter().map(row).collect()))
    }

    pub(super) fn encode(&self) -> Entry {
        let rows: Vec<StoredRow> =
            self.0.iter().map(|(name, row)| (name.clone(), row.asked_at.as_second(), row.listed)).collect();
        Entry::immutable(stored::encode(&rows))
    }

    /// Somebody asks about a repository, of which at most `most` are watched.
    pub(super) fn ask(&mut self, name: &Name, now: Timestamp, most: usize) -> Admission {
        if let Some(row) = self.0.get_mut(name) {
            row.asked_at = now.max(row.asked_at);
            return Admission::Known;
        }
        // What nobody knows to exist goes first, and where there is much of that, only one such name makes room for another.
        let never_listed = self.0.values().filter(|row| !row.listed).count();
        let is_crowded = never_listed >= MOST_NEVER_LISTED;
        let mut going: Vec<(bool, Timestamp, Name)> = self
            .0
            .iter()
            .filter(|(_, row)| !(row.is_in_use(now) || is_crowded && row.listed))
            .map(|(name, row)| (row.listed, row.asked_at, name.clone()))
            .collect();
        going.sort();
        let (mut count, mut bytes) = (self.0.len(), self.bytes());
        let mut replaced = Vec::new();
        let mut going = going.into_iter();
        while count >= most
            || bytes + row_bytes(name) > MOST_LIST_BYTES
            || is_crowded && never_listed - replaced.len() >= MOST_NEVER_LISTED
        {
            let Some((_, _, gone)) = going.next() else { return Admission::Full };
            count -= 1;
            bytes -= row_bytes(&gone);
            replaced.push(gone);
        }
        for gone in &replaced {
            self.0.remove(gone);
        }
        self.0.insert(name.clone(), Row { asked_at: now, listed: false });
        Admission::Added { replaced }
    }

    /// Takes note of what is known of the repositories from elsewhere.
    pub(super) fn learn(&mut self, mut known: impl FnMut(&Name) -> Option<Row>) {
        for (name, row) in &mut self.0 {
            if let Some(known) = known(name) {
                row.asked_at = known.asked_at.max(row.asked_at);
                row.listed |= known.listed;
            }
        }
    }

    /// Lets go of what nobody has asked about for `idle`, or for an hour where another source names it, and tells of what.
    pub(super) fn retire(
        &mut self,
        now: Timestamp,
        idle: Duration,
        mut is_named: impl FnMut(&Name) -> bool,
    ) -> Vec<(Name, Leaving)> {
        let mut gone = Vec::new();
        self.0.retain(|name, row| {
            let (limit, leaving) = if is_named(name) {
                (idle.min(NAMED_IDLE), Leaving::Named)
            } else if row.listed {
                (idle, Leaving::Idle)
            } else {
                (idle.min(NEVER_LISTED_IDLE), Leaving::NeverListed)
            };
            let stays = row.asked_at + limit > now;
            if !stays {
                gone.push((name.clone(), leaving));
            }
            stays
        });
        gone
    }

    /// Whether the same repositories are known in the same way as in `other`, and when somebody asked for them differs
    /// by less than `coarse`.
    pub(super) fn is_nearly(&self, other: &Self, coarse: Duration) -> bool {
        let is_near = |(one, another): (&Row, &Row)| {
            one.listed == another.listed
                && one.asked_at.duration_since(another.asked_at).unsigned_abs() < coarse
        };
        self.0.keys().eq(other.0.keys()) && self.0.values().zip(other.0.values()).all(is_near)
    }

    pub(super) fn get(&self, name: &Name) -> Option<Row> {
        self.0.get(name).copied()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.0.keys()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> usize {
        self.0.keys().map(row_bytes).sum()
    }
}

impl Row {
    fn is_in_use(self, now: Timestamp) -> bool {
        self.asked_at + if self.listed { IN_USE } else { NEW_IN_USE } > now
    }
}

fn row_bytes(name: &Name) -> usize {
    name.as_str().len() + ROW_BYTES
}

#[cfg(test)]
mod tests;
