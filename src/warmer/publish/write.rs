//! Carrying out a plan: what a head names first, then the head by compare-and-set, then the side records.

use std::collections::BTreeSet;

use samovar_registry::Tag;
use tracing::debug;

use super::layout::Layout;
use super::plan::Plan;
use super::{PublishError, WorkingCopy};
use crate::cache::history::{Event, History};
use crate::cache::stored::Head;
use crate::store::{Client, Entry, Key, StoreError};
use crate::warmer::change::Seen;
use crate::warmer::working_copy::State;

/// What became of a publication.
pub(super) enum Written {
    /// All of it is in the store.
    Whole,
    /// See [`HeadWrite::Evicted`].
    Evicted,
    /// See [`HeadWrite::Behind`].
    Behind,
}

/// What became of a head.
enum HeadWrite {
    /// It is there; these keys are of the directory that only the one before needed.
    Written(Vec<Key>),
    /// The one before is gone: evicted.
    Evicted,
    /// The store has one that we had given up for lost: that is what the next one follows.
    Behind,
}

/// A head of which it is not known whether the store took it.
#[derive(Debug)]
pub(in crate::warmer) struct Attempt {
    head: Head,
    entry: Entry,
    /// What it tells that the one before did not.
    told: Vec<Event>,
    /// How many of the changes that were seen are among that.
    seen: usize,
}

/// What a publication took on itself, to be given back when it fails.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) changed: BTreeSet<Tag>,
    pub(super) side_changed: BTreeSet<Tag>,
    pub(super) side_header_changed: bool,
    /// What was seen and is not told by any head.
    pub(super) changes: Vec<Seen>,
    /// What the publication has come to tell: this stays told.
    pub(super) told: Vec<Event>,
}

impl Taken {
    /// Takes all that there is, after what was taken before was given back.
    pub(super) fn take(&mut self, state: &mut State) {
        self.changed = std::mem::take(&mut state.changed);
        self.side_changed = std::mem::take(&mut state.side_changed);
        self.side_header_changed = std::mem::take(&mut state.side_header_changed);
        self.changes = std::mem::take(&mut state.changes);
    }

    pub(super) fn give_back(&mut self, state: &mut State) {
        state.changed.append(&mut self.changed);
        state.side_changed.append(&mut self.side_changed);
        state.side_header_changed |= std::mem::take(&mut self.side_header_changed);
        // In the order in which they were seen.
        self.changes.append(&mut state.changes);
        state.changes = std::mem::take(&mut self.changes);
    }
}

impl WorkingCopy {
    pub(super) async fn write(
        &self,
        store: &dyn Client,
        mut plan: Plan,
        layout: &mut Layout,
        taken: &mut Taken,
    ) -> Result<Written, PublishError> {
        layout.note_written(&plan.pages);
        if !plan.pages.is_empty() {
            store.set_many(plan.pages).await?;
        }
        if let Some(head) = plan.head {
            match self.write_head(store, head, plan.told, taken).await? {
                HeadWrite::Written(obsolete) => plan.obsolete.extend(obsolete),
                HeadWrite::Evicted => return Ok(Written::Evicted),
                HeadWrite::Behind => return Ok(Written::Behind),
            }
        }
        if !plan.sides.is_empty() {
            store.set_many(plan.sides).await?;
        }
        layout.extents = plan.extents;
        if let Some(tail) = plan.tail {
            layout.tail = tail;
            layout.strays.clear();
        }
        self.told_early(taken);
        if plan.removes {
            self.delete(store, plan.obsolete, true).await?;
            let mut state = self.state();
            state.removed = false;
            (state.head, state.head_entry) = (None, None);
            (state.history, state.attempted) = (History::default(), None);
        } else if !plan.obsolete.is_empty()
            && let Err(error) = self.delete(store, plan.obsolete, false).await
        {
            // What is published is published; this only takes up room.
            debug!(%error, "what is no longer needed could not be removed from the store");
        }
        Ok(Written::Whole)
    }

    /// What stands beside a repository without a head can be seen now.
    fn told_early(&self, taken: &mut Taken) {
        let mut state = self.state();
        let visible = state.visible;
        let early = state.side.early.iter().filter(|event| event.id.generation > visible);
        taken.told.extend(early.cloned());
        if let Some(last) = taken.told.last() {
            state.is_visible(last.id.generation);
        }
    }

    /// Removes what the head that we know has no more need for, unless another replica has written one meanwhile: it may
    /// need what we do not.
    /// A removal that was cut short has the head behind it already.
    async fn delete(&self, store: &dyn Client, obsolete: Vec<Key>, removes: bool) -> Result<(), StoreError> {
        let (name, expected) = {
            let state = self.state();
            (state.name.clone(), state.head_entry.clone())
        };
        if store.is_shared() {
            let head = store.get(&Key::Head(name)).await?;
            if head != expected && !(removes && head.is_none()) {
                return Ok(());
            }
        }
        store.delete(obsolete).await
    }

    /// Writes a head over the one that this copy was made from.
    async fn write_head(
        &self,
        store: &dyn Client,
        mut head: Head,
        told: Vec<Event>,
        taken: &mut Taken,
    ) -> Result<HeadWrite, PublishError> {
        let (name, expected, before) = {
            let state = self.state();
            let before = state.head.as_ref().map_or_else(Vec::new, |head| head.directory.clone());
            (state.name.clone(), state.head_entry.clone(), before)
        };
        let sealed = head.seal();
        if !sealed.directory.is_empty() {
            let key = |hash| Key::Directory(name.clone(), hash);
            let parts = sealed.directory.into_iter().map(|(hash, entry)| (key(hash), entry));
            store.set_many(parts.collect()).await?;
        }
        let key = Key::Head(name.clone());
        let attempt =
            Attempt { head: head.clone(), entry: sealed.entry.clone(), told, seen: taken.changes.len() };
        let attempted = self.state().attempted.replace(attempt);
        if !store.compare_and_set(key.clone(), expected, sealed.entry.clone()).await? {
            match store.get(&key).await? {
                None => return Ok(HeadWrite::Evicted),
                // An answer that got lost on its way: it was written.
                Some(stored) if stored == sealed.entry => {}
                Some(stored) => {
                    let Some(attempt) = attempted.filter(|attempt| attempt.entry == stored) else {
                        return Err(PublishError::Overtaken);
                    };
                    self.take_over(attempt, taken);
                    return Ok(HeadWrite::Behind);
                }
            }
        }
        let gone = before.into_iter().filter(|hash| !head.directory.contains(hash));
        let gone = gone.map(|hash| Key::Directory(name.clone(), hash)).collect();
        let attempt = self.state().attempted.take();
        if let Some(attempt) = attempt {
            self.take_over(attempt, taken);
        }
        Ok(HeadWrite::Written(gone))
    }

    /// The store has this head: what it tells is told.
    fn take_over(&self, attempt: Attempt, taken: &mut Taken) {
        let mut state = self.state();
        let visible = state.visible;
        taken.changes.drain(..attempt.seen.min(taken.changes.len()));
        taken.told.extend(attempt.told.into_iter().filter(|event| event.id.generation > visible));
        state.is_visible(attempt.head.generation);
        state.side.early.retain(|event| event.id.generation > attempt.head.generation);
        state.history = attempt.head.history.clone();
        (state.head, state.head_entry) = (Some(attempt.head), Some(attempt.entry));
    }
}
