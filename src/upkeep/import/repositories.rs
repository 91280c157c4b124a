//! What an import remembers of the repositories in the file, within a bound.

use std::collections::HashMap;

use jiff::Timestamp;
use samovar_registry::Name;

use super::Outcome;
use crate::cache::stored::{self, Head, Side};
use crate::store::{ContentHash, Entry};
use crate::upkeep::MOST_REPOSITORIES_REMEMBERED;

/// A generation above all others, for a head that cannot be read: nothing in the file is known to be as new.
const UNREADABLE: u64 = u64::MAX;

/// What the file says of a repository.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims {
    /// Of the newest of its heads.
    generation: u64,
    /// From its latest side record: when the list was last read.
    last_update: Option<Timestamp>,
    /// From its latest side record: which tags were wanted.
    filter: Option<ContentHash>,
}

impl Claims {
    /// Whether the file has a newer head of the same repository.
    pub(super) fn has_newer_head(&self, generation: u64) -> bool {
        self.generation > generation
    }

    /// Whether the store, with this side record, knows what the file cannot know: a later list, or one of other tags. What
    /// the generations of two stores say of each other is only which one wrote last.
    pub(super) fn are_outdated_by(&self, there: &Side) -> bool {
        self.list_is_older_than_that_of(there) || there.filter != self.filter
    }

    /// Whether the store, with this side record, knows of a later list than the file.
    pub(super) fn list_is_older_than_that_of(&self, there: &Side) -> bool {
        there.last_update > self.last_update
    }
}

/// The repositories in the file, by a hash of their names.
#[derive(Debug, Default)]
pub(super) struct Repositories(HashMap<ContentHash, Repository>);

#[derive(Debug, Default)]
struct Repository {
    claims: Claims,
    /// What became of its newest head.
    outcome: Option<Outcome>,
}

impl Repositories {
    /// There is this head in the file.
    pub(super) fn claim_head(&mut self, name: &Name, entry: &Entry) {
        let head: Option<Head> = stored::decode(Some(entry));
        if let Some(repository) = self.of_mut(name) {
            let generation = head.map_or(UNREADABLE, |head| head.generation);
            repository.claims.generation = repository.claims.generation.max(generation);
        }
    }

    /// There is this side record in the file; the latest stands last.
    pub(super) fn claim_side(&mut self, name: &Name, entry: &Entry) {
        let side: Side = stored::decode(Some(entry)).unwrap_or_default();
        if let Some(Repository { claims, .. }) = self.of_mut(name) {
            (claims.last_update, claims.filter) = (side.last_update, side.filter);
        }
    }

    /// What the file says of a repository; of one that is beyond the bound nothing.
    pub(super) fn claims(&self, name: &Name) -> Claims {
        self.0.get(&key(name)).map(|repository| repository.claims.clone()).unwrap_or_default()
    }

    /// This became of its newest head. One that is in the file twice was written all the same.
    pub(super) fn settle(&mut self, name: &Name, outcome: Outcome) {
        if let Some(repository) = self.of_mut(name)
            && repository.outcome != Some(Outcome::Written)
        {
            repository.outcome = Some(outcome);
        }
    }

    /// What became of its newest head; `None` where the file has none, or it is beyond the bound.
    pub(super) fn head_outcome(&self, name: &Name) -> Option<Outcome> {
        self.0.get(&key(name))?.outcome
    }

    fn of_mut(&mut self, name: &Name) -> Option<&mut Repository> {
        let key = key(name);
        if self.0.len() >= MOST_REPOSITORIES_REMEMBERED && !self.0.contains_key(&key) {
            return None;
        }
        Some(self.0.entry(key).or_default())
    }
}

fn key(name: &Name) -> ContentHash {
    ContentHash::of(name.as_str().as_bytes())
}
