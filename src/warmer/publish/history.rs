//! Appending what was seen to a repository's history: only its last page is rewritten, and what is too much is cut off
//! in front.

use std::time::Duration;

use jiff::Timestamp;

use super::next_generation;
use crate::cache::history::{ChangeId, Event, History, HistoryPage, MOST_CHANGES_IN_PAGE, seal_page};
use crate::store::{ContentHash, Entry};
use crate::warmer::change::Seen;
use crate::warmer::working_copy::State;

/// Changes that wait beside a repository without a head for one that tells of them; of more, the oldest are forgotten.
const MOST_EARLY_CHANGES: usize = 16;

/// How much of a repository's history is kept. It is cut when something is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryBounds {
    /// Changes; at least one. The head names their pages, and is read with every question.
    pub entries: usize,
    /// How long ago they were seen. Those older than this go when their whole page is.
    pub age: Duration,
}

impl Default for HistoryBounds {
    fn default() -> Self {
        Self { entries: 1000, age: Duration::from_hours(90 * 24) }
    }
}

/// The last page of a history, to be appended to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) hash: Option<ContentHash>,
    pub(super) content: TailContent,
}

/// What is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum TailContent {
    /// It is not there any more.
    #[default]
    Lost,
    /// It holds something that this version does not know, and stays as it is.
    Foreign,
    Known(Vec<Event>),
}

impl Tail {
    pub(super) fn new(page: &HistoryPage, entry: Option<&Entry>) -> Self {
        let content = match entry.map(|entry| crate::cache::history::open_page(entry, page.hash)) {
            Some(Some(events)) if events.len() == page.count => TailContent::Known(events),
            Some(Some(_)) => TailContent::Foreign,
            // What does not decode is as good as not there.
            None | Some(None) => TailContent::Lost,
        };
        Self { hash: Some(page.hash), content }
    }
}

/// A history with something appended, and what is to be written for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Appended {
    pub(super) history: History,
    pub(super) pages: Vec<(ContentHash, Entry)>,
    pub(super) tail: Tail,
    /// What was appended.
    pub(super) events: Vec<Event>,
}

/// Appends `events`, of which there are some, to a history whose last page, if it is unfinished, is `tail`.
pub(super) fn append(
    before: &History,
    tail: &Tail,
    events: Vec<Event>,
    bounds: HistoryBounds,
    now: Timestamp,
) -> Appended {
    let mut history = before.clone();
    let mut rewritten = Vec::new();
    if history.unfinished().is_some() {
        match &tail.content {
            TailContent::Known(known) => {
                history.pages.pop();
                rewritten.clone_from(known);
            }
            TailContent::Lost => drop(history.pages.pop()),
            TailContent::Foreign => {}
        }
    }
    let oldest = now - bounds.age;
    rewritten.retain(|event| event.at >= oldest);
    // What would be forgotten at once is not even written.
    rewritten.extend_from_slice(&events[events.len().saturating_sub(bounds.entries)..]);
    let next = events.last().map_or(0, |last| last.id.number + 1);
    history.first = history.first.max(next.saturating_sub(bounds.entries as u64));
    let oldest = u64::try_from(oldest.as_millisecond()).unwrap_or(0);
    history.pages.retain(|page| page.last >= history.first && page.generation >= oldest);
    rewritten.retain(|event| event.id.number >= history.first);
    let mut pages = Vec::new();
    for events in rewritten.chunks(MOST_CHANGES_IN_PAGE) {
        let (hash, entry) = seal_page(events);
        pages.push((hash, entry));
        let Some(last) = events.last() else { continue };
        let (last, generation, count) = (last.id.number, last.id.generation, events.len());
        history.pages.push(HistoryPage { hash, count, last, generation });
    }
    let unfinished = rewritten.len() % MOST_CHANGES_IN_PAGE;
    let known = rewritten.split_off(rewritten.len() - unfinished);
    let tail = match history.unfinished() {
        Some(page) => Tail { hash: Some(page.hash), content: TailContent::Known(known) },
        None => Tail::default(),
    };
    Appended { history, pages, tail, events }
}

impl State {
    /// Whether readers can be shown a head as things are.
    pub(super) fn may_have_head(&self) -> bool {
        self.listed && !self.torn
    }

    /// Gives what was seen its ids, and keeps it beside a repository that can have no head now.
    pub(super) fn keep_early(&mut self, now: Timestamp) {
        if self.may_have_head() || self.changes.is_empty() {
            return;
        }
        self.generation = next_generation(self.generation, now);
        let seen = std::mem::take(&mut self.changes);
        let events = numbered(seen, self.generation, self.next_number());
        self.side.early.extend(events);
        let too_many = self.side.early.len().saturating_sub(MOST_EARLY_CHANGES);
        self.side.early.drain(..too_many);
        self.side_header_changed = true;
    }

    /// What a head of this generation is to tell that the one before did not.
    pub(super) fn untold(&self, generation: u64) -> Vec<Event> {
        let mut events = self.side.early.clone();
        events.extend(numbered(self.changes.clone(), generation, self.next_number()));
        events
    }

    /// The number of the next change.
    fn next_number(&self) -> u64 {
        self.side.early.last().map_or_else(|| self.history.next(), |last| last.id.number + 1)
    }

    /// Gives out no generation up to this one.
    pub(in crate::warmer) fn generate_after(&mut self, generation: u64) {
        self.generation = self.generation.max(generation);
    }

    /// Takes note of what readers see now: all that was kept early up to this generation is told.
    pub(super) fn is_visible(&mut self, generation: u64) {
        self.generation = self.generation.max(generation);
        self.visible = self.visible.max(generation);
    }
}

fn numbered(seen: Vec<Seen>, generation: u64, first: u64) -> impl Iterator<Item = Event> {
    (first..).zip(seen).map(move |(number, seen)| seen.with_id(ChangeId { generation, number }))
}

#[cfg(test)]
mod tests;
