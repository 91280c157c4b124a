//! Working copies of repositories whose pass gave way before it was done: they stay in memory until its next turn, which
//! goes on where the last one ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samovar_registry::Name;

use super::publish::WorkingCopy;

/// Tags of repositories that are kept in memory between two turns, over all hosts. What is above is read from the store
/// again.
const MOST_UNFINISHED_TAGS: usize = 100_000;

/// The working copies that wait for their next turn.
#[derive(Debug, Default)]
pub(super) struct Unfinished(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// With how many tags each had when it was put in.
    copies: HashMap<Name, (Arc<WorkingCopy>, usize)>,
    tags: usize,
}

impl Unfinished {
    /// Keeps a copy until it is let go of, if there is room.
    pub(super) fn keep(&self, name: &Name, copy: &Arc<WorkingCopy>) {
        let tags = copy.state().tags.len();
        let mut kept = self.kept();
        kept.let_go(name);
        if kept.tags + tags <= MOST_UNFINISHED_TAGS {
            kept.copies.insert(name.clone(), (Arc::clone(copy), tags));
            kept.tags += tags;
        }
    }

    /// The copy is of no more use, or in other hands.
    pub(super) fn let_go(&self, name: &Name) {
        self.kept().let_go(name);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn let_go(&mut self, name: &Name) {
        if let Some((_, tags)) = self.copies.remove(name) {
            self.tags -= tags;
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::store::Memory;
    use crate::warmer::HistoryBounds;

    async fn copy_of(tags: usize) -> Arc<WorkingCopy> {
        let name = "registry.example/app".parse().unwrap();
        let bounds = HistoryBounds::default();
        let copy =
            WorkingCopy::load(&Memory::default(), &name, "", bounds, Timestamp::UNIX_EPOCH).await.unwrap();
        let record = crate::cache::records::TagRecord::pending(Timestamp::UNIX_EPOCH, None);
        let kept = crate::warmer::tag::Kept::new(record);
        let tags = (0..tags).map(|number| (format!("1.{number}").parse().unwrap(), kept.clone()));
        copy.state().tags.extend(tags);
        Arc::new(copy)
    }

    #[tokio::test]
    async fn as_many_are_kept_as_there_is_room_for_until_they_are_let_go_of() {
        let unfinished = Unfinished::default();
        let name = |number: usize| format!("registry.example/app{number}").parse().unwrap();
        let half = copy_of(MOST_UNFINISHED_TAGS / 2).await;
        let small = copy_of(1).await;
        unfinished.keep(&name(0), &half);
        unfinished.keep(&name(0), &half);
        unfinished.keep(&name(1), &half);
        unfinished.keep(&name(2), &small);
        assert_eq!((Arc::strong_count(&half), Arc::strong_count(&small)), (3, 1), "no room for the last one");
        unfinished.let_go(&name(0));
        unfinished.let_go(&name(0));
        unfinished.keep(&name(2), &small);
        assert_eq!((Arc::strong_count(&half), Arc::strong_count(&small)), (2, 2));
        assert_eq!(unfinished.kept().tags, MOST_UNFINISHED_TAGS / 2 + 1);
    }
}
