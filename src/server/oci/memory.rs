//! What the door keeps in memory: documents that were read lately, and what was learnt of who has what. All of it can be found
//! out again; nothing of it is true for ever but that a digest names what it names.

mod weighted;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use lru::LruCache;
use samovar_registry::{Digest, Name, Tag};
use tokio::time::Instant;

use self::weighted::Weighted;
use super::provenance::Kind;
use crate::store::StoredDocument;

/// What documents that were read lately may take up in memory. Bytes.
const MOST_DOCUMENT_BYTES: usize = 16 << 20;
/// What pages of tags that were asked for lately may take up, as they are sent. Bytes.
const MOST_LIST_PAGE_BYTES: usize = 16 << 20;
/// Digests of which it is remembered that a repository has them.
const MOST_MEMBERS: usize = 65_536;
/// Answers of registries that are remembered beside what the warmer keeps: where tags point that it leaves out, and what refers
/// to a manifest.
const MOST_POINTERS: usize = 4_096;
/// For how long they are used; referrers come and go.
const POINTER_HOLDS: Duration = Duration::from_mins(5);
/// Things that a registry has said not to have.
const MOST_ABSENT: usize = 4_096;
/// For how long it is believed: somebody may push it.
const ABSENCE_HOLDS: Duration = Duration::from_secs(10);
/// Documents of which it is remembered that what they name was taken in.
const MOST_LEARNT: usize = 16_384;
/// Repositories whose documents were looked through.
const MOST_WALKED_REPOSITORIES: usize = 1_024;
/// They are not looked through again so soon, whatever has changed: what changes is learnt as it is asked for.
const WALK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Something that a registry has pointed at, beside what the warmer keeps.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Pointer {
    /// A tag that is left out.
    Tag(Tag),
    /// What refers to a manifest.
    Referrers(Digest),
}

/// Where it has pointed.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) digest: Digest,
    /// When the registry said so.
    pub(super) at: Timestamp,
    holds_until: Instant,
}

impl Said {
    pub(super) fn new(digest: Digest, at: Timestamp) -> Self {
        Self { digest, at, holds_until: Instant::now() + POINTER_HOLDS }
    }

    /// Whether it is to be taken for true without asking again.
    pub(super) fn holds(&self) -> bool {
        Instant::now() < self.holds_until
    }
}

/// The memory of the door.
#[derive(Debug)]
pub(super) struct Memory {
    documents: Mutex<Weighted<Digest, Arc<StoredDocument>>>,
    pages: Mutex<Weighted<PageKey, EncodedPage>>,
    members: Mutex<LruCache<(Name, Digest), Kind>>,
    pointers: Mutex<LruCache<(Name, Pointer), Said>>,
    /// Until when.
    absent: Mutex<LruCache<(Name, String), Instant>>,
    /// By their repositories.
    learnt: Mutex<LruCache<(Name, Digest), ()>>,
    /// At which generation, and when.
    walked: Mutex<LruCache<Name, (u64, Instant)>>,
}

/// Which page of which list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PageKey {
    pub(super) name: Name,
    /// The repository as the client calls it, which the page says.
    pub(super) asked: String,
    pub(super) size: usize,
    pub(super) last: Option<String>,
}

/// A page of tags as it is sent.
#[derive(Debug, Clone)]
pub(super) struct EncodedPage {
    /// Of which the list is.
    pub(super) generation: u64,
    pub(super) body: Bytes,
    /// Its last tag, where another page follows.
    pub(super) leads_on: Option<Tag>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            documents: Mutex::new(Weighted::new(MOST_DOCUMENT_BYTES)),
            pages: Mutex::new(Weighted::new(MOST_LIST_PAGE_BYTES)),
            members: bounded(MOST_MEMBERS),
            pointers: bounded(MOST_POINTERS),
            absent: bounded(MOST_ABSENT),
            learnt: bounded(MOST_LEARNT),
            walked: bounded(MOST_WALKED_REPOSITORIES),
        }
    }
}

fn bounded<K: std::hash::Hash + Eq, V>(most: usize) -> Mutex<LruCache<K, V>> {
    Mutex::new(LruCache::new(NonZeroUsize::new(most).expect("not 0")))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    pub(super) fn document(&self, digest: &Digest) -> Option<Arc<StoredDocument>> {
        locked(&self.documents).get(digest)
    }

    pub(super) fn keep_document(&self, digest: &Digest, document: &Arc<StoredDocument>) {
        let bytes = document.bytes.len() + document.media_type.len() + BESIDE;
        locked(&self.documents).put(digest.clone(), Arc::clone(document), bytes);
    }

    /// A page of tags, if it is one of this generation.
    pub(super) fn page(&self, key: &PageKey, generation: u64) -> Option<EncodedPage> {
        locked(&self.pages).get(key).filter(|page| page.generation == generation)
    }

    pub(super) fn keep_page(&self, key: PageKey, page: EncodedPage) {
        let bytes = page.body.len() + key.asked.len() + key.last.as_ref().map_or(0, String::len) + BESIDE;
        locked(&self.pages).put(key, page, bytes);
    }

    /// As what a repository has a digest, if it is known to have it.
    pub(super) fn member(&self, name: &Name, digest: &Digest) -> Option<Kind> {
        locked(&self.members).get(&(name.clone(), digest.clone())).copied()
    }

    pub(super) fn add_members(&self, name: &Name, digests: impl IntoIterator<Item = (Digest, Kind)>) {
        let mut members = locked(&self.members);
        for (digest, kind) in digests {
            members.put((name.clone(), digest), kind);
        }
    }

    pub(super) fn said(&self, name: &Name, pointer: &Pointer) -> Option<Said> {
        locked(&self.pointers).get(&(name.clone(), pointer.clone())).cloned()
    }

    pub(super) fn keep_said(&self, name: &Name, pointer: Pointer, said: Said) {
        locked(&self.pointers).put((name.clone(), pointer), said);
    }

    pub(super) fn forget_said(&self, name: &Name, pointer: &Pointer) {
        locked(&self.pointers).pop(&(name.clone(), pointer.clone()));
    }

    /// Whether a registry has just said that a repository has no such thing.
    pub(super) fn is_absent(&self, name: &Name, what: &str) -> bool {
        let until = locked(&self.absent).get(&(name.clone(), what.to_owned())).copied();
        until.is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn note_absent(&self, name: &Name, what: String) {
        locked(&self.absent).put((name.clone(), what), Instant::now() + ABSENCE_HOLDS);
    }

    /// Whether it is news that a repository has this document: then what it names is to be taken in.
    pub(super) fn is_to_be_learnt(&self, name: &Name, digest: &Digest) -> bool {
        locked(&self.learnt).put((name.clone(), digest.clone()), ()).is_none()
    }

    /// Whether the documents of a repository were looked through at this generation, or a moment ago.
    pub(super) fn was_walked(&self, name: &Name, generation: u64) -> bool {
        let walked = locked(&self.walked).get(name).copied();
        walked.is_some_and(|(at, when)| at == generation || when.elapsed() < WALK_AGAIN_AFTER)
    }

    pub(super) fn note_walked(&self, name: &Name, generation: u64) {
        locked(&self.walked).put(name.clone(), (generation, Instant::now()));
    }
}

/// What an entry takes up beside its content, about. Bytes.
const BESIDE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Name {
        "r.example/app".parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_registries_have_said_is_believed_for_a_while() {
        let (memory, digest) = (Memory::default(), Digest::sha256(b""));
        let pointer = Pointer::Referrers(digest.clone());
        assert!(memory.said(&name(), &pointer).is_none());
        memory.keep_said(&name(), pointer.clone(), Said::new(digest, Timestamp::UNIX_EPOCH));
        memory.note_absent(&name(), "v1".to_owned());
        assert!(memory.said(&name(), &pointer).unwrap().holds());
        assert!(memory.is_absent(&name(), "v1") && !memory.is_absent(&name(), "v2"));
        tokio::time::advance(ABSENCE_HOLDS).await;
        assert!(!memory.is_absent(&name(), "v1"));
        tokio::time::advance(POINTER_HOLDS.saturating_sub(ABSENCE_HOLDS)).await;
        assert!(!memory.said(&name(), &pointer).unwrap().holds(), "it is still known, but asked for again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_repository_has_what_it_was_said_to_have_and_no_other_has_it() {
        let (memory, digest) = (Memory::default(), Digest::sha256(b""));
        memory.add_members(&name(), [(digest.clone(), Kind::Blob)]);
        assert_eq!(memory.member(&name(), &digest), Some(Kind::Blob));
        assert_eq!(memory.member(&"r.example/other".parse().unwrap(), &digest), None);
        assert!(!memory.was_walked(&name(), 7));
        memory.note_walked(&name(), 7);
        assert!(memory.was_walked(&name(), 7) && memory.was_walked(&name(), 8), "a moment ago");
        tokio::time::advance(WALK_AGAIN_AFTER).await;
        assert!(memory.was_walked(&name(), 7) && !memory.was_walked(&name(), 8));
        assert!(memory.is_to_be_learnt(&name(), &digest) && !memory.is_to_be_learnt(&name(), &digest));
    }
}
