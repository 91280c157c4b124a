//! Answering what happened to a repository.

use samovar_registry::{Name, Tag};

use super::{Event, ReadHistory, Since, read_after};
use crate::cache::load::{Missing, Pages};
use crate::cache::{Cache, CacheError, never_listed};
use crate::store::Reader;

/// The last page is replaced whenever something changes: what was named a moment ago may be gone, and is looked for
/// again, this often at most.
const MOST_READS: usize = 3;

/// A repository's history, as far as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryHistory {
    /// What happened, the latest last.
    pub events: Vec<Event>,
    /// The repository's generation, or that of a change that no head tells of yet.
    pub generation: u64,
}

impl<R: Reader + 'static> Cache<R> {
    /// What happened to a repository, or to one of its tags, as far back as it is kept. Two round trips, one where the
    /// repository is hot.
    pub async fn history(
        &self,
        name: &Name,
        tag: Option<&Tag>,
        since: Option<Since>,
    ) -> Result<RepositoryHistory, CacheError> {
        let after = match since {
            Some(Since::Change(id)) => id.generation.saturating_sub(1),
            Some(Since::Time(_)) | None => 0,
        };
        let mut snapshot = self.read(name, Pages::None).await?;
        let mut read = ReadHistory::default();
        for reads in 1..=MOST_READS {
            let Some(head) = &snapshot.head else { break };
            read = read_after(&*self.reader, name, &head.history, after).await?;
            if read.missing_pages == 0 || reads == MOST_READS {
                break;
            }
            let again = self.read_from_store(name, Pages::None).await?;
            if again.head_entry == snapshot.head_entry {
                break;
            }
            snapshot = again.into();
        }
        for _ in 0..read.missing_pages {
            self.observer.missing(Missing::History);
        }
        let head_generation = snapshot.head.as_ref().map(|head| head.generation);
        let early = snapshot.side.as_ref().map_or(&[][..], |side| &side.early);
        let early = early.iter().filter(|event| Some(event.id.generation) > head_generation);
        let mut events = read.events;
        events.extend(early.cloned());
        let latest = events.last().map(|event| event.id.generation);
        let Some(generation) = head_generation.max(latest) else {
            return Err(never_listed(name, &snapshot));
        };
        events.retain(|event| {
            tag.is_none_or(|tag| event.tag.as_ref() == Some(tag))
                && since.is_none_or(|since| since.includes(event))
        });
        Ok(RepositoryHistory { events, generation })
    }
}
