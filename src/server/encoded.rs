//! Answers about hot repositories, encoded: made once for every change, shared by all who ask.
//!
//! Invariants:
//! - An answer is kept with the snapshot that it was made from, and is given for that snapshot only: what has changed, be it
//!   without meaning, has another one. Answers are never older than what is in the hot set.
//! - Who asks first makes the answer; who asks meanwhile waits for it.
//! - Only answers about what the hot set holds are kept, [`MOST_KEPT_BYTES`] of them together; what was asked for longest ago
//!   goes first.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, header};
use lru::LruCache;
use samovar_registry::Name;
use tokio::sync::OnceCell;

use super::caching;
use super::coding::{self, Coding};
use super::fields::Fields;
use crate::cache::snapshot::Snapshot;

/// What is kept takes up no more, all repositories together. Bytes.
const MOST_KEPT_BYTES: usize = 32 << 20;
/// An answer that is larger than this part of it is not kept.
const LARGEST_PART: usize = 4;
/// Different answers about one repository that are kept: by fields, coding, and how clients call it.
const MOST_FORMS: usize = 16;
/// What a repository or an answer costs beside the answer's bytes.
const OVERHEAD_BYTES: usize = 256;
/// A tag with its image takes up about so much in an answer.
const BYTES_OF_A_TAG: usize = 512;

/// What an answer says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form<'a> {
    /// The repository: these fields of it.
    Repository(Fields),
    /// The list of all tags, as clients of the distribution protocol have it who call the repository this.
    Tags(&'a str),
}

/// An answer, encoded.
#[derive(Debug, Clone)]
pub(super) struct Encoded {
    bytes: Bytes,
    /// Another one than was wanted where it is too short for any.
    coding: Coding,
}

impl Encoded {
    /// The answer, with the entity tag of its generation.
    pub(super) fn into_response(self, generation: u64) -> Response {
        let length = self.bytes.len();
        let mut response = Response::new(Body::from(self.bytes));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_LENGTH, length.into());
        headers.insert(header::ETAG, caching::entity_tag(generation, self.coding));
        headers.insert(header::CACHE_CONTROL, caching::ASK_EACH_TIME);
        if let Some(token) = self.coding.token() {
            headers.insert(header::CONTENT_ENCODING, token);
        }
        response
    }
}

/// What is kept.
#[derive(Debug)]
pub struct EncodedAnswers {
    kept: Mutex<Kept>,
    made: AtomicU64,
}

#[derive(Debug)]
struct Kept {
    repositories: LruCache<Name, Forms>,
    bytes: usize,
}

/// The answers about one repository.
#[derive(Debug)]
struct Forms {
    /// What they were made from.
    of: Weak<Snapshot>,
    kept: Vec<KeptForm>,
    bytes: usize,
}

#[derive(Debug)]
struct KeptForm {
    form: OwnedForm,
    slot: Slot,
    /// 0 until it is made.
    bytes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum OwnedForm {
    Repository(Fields, Coding),
    Tags(Box<str>, Coding),
}

/// Holds an answer, or somebody who makes it.
type Slot = Arc<OnceCell<Encoded>>;

impl OwnedForm {
    fn new(form: Form<'_>, coding: Coding) -> Self {
        match form {
            Form::Repository(fields) => Self::Repository(fields, coding),
            Form::Tags(called) => Self::Tags(called.into(), coding),
        }
    }

    fn is(&self, form: Form<'_>, coding: Coding) -> bool {
        match (self, form) {
            (Self::Repository(fields, own), Form::Repository(wanted)) => *fields == wanted && *own == coding,
            (Self::Tags(called, own), Form::Tags(wanted)) => **called == *wanted && *own == coding,
            _ => false,
        }
    }
}

impl Default for EncodedAnswers {
    /// Nothing is kept yet.
    fn default() -> Self {
        Self {
            kept: Mutex::new(Kept { repositories: LruCache::unbounded(), bytes: 0 }),
            made: AtomicU64::new(0),
        }
    }
}

impl EncodedAnswers {
    /// What the answers that are kept take up, about.
    pub(super) fn bytes(&self) -> usize {
        self.kept().bytes
    }

    /// How many answers were made, because they were not kept.
    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// The answer about a repository as it is in `snapshot`, which what is prepared makes if it is not kept. It is kept if the hot set
    /// keeps the snapshot. Cancellation-safe.
    pub(super) async fn get<M: FnOnce() -> Vec<u8> + Send + 'static>(
        &self,
        name: &Name,
        snapshot: &Arc<Snapshot>,
        (form, coding): (Form<'_>, Coding),
        is_hot: impl FnOnce() -> bool,
        prepare: impl FnOnce() -> M,
    ) -> Encoded {
        let known = self.kept().find(name, snapshot, form, coding);
        let slot = match known {
            Some(slot) => slot,
            None if is_hot() => self.kept().add(name, snapshot, form, coding),
            None => return self.make(snapshot, coding, prepare()).await,
        };
        if let Some(encoded) = slot.get() {
            return encoded.clone();
        }
        let mut is_mine = false;
        let made = || {
            is_mine = true;
            self.make(snapshot, coding, prepare())
        };
        let encoded = slot.get_or_init(made).await;
        if is_mine {
            self.kept().account(name, &slot, encoded.bytes.len());
        }
        encoded.clone()
    }

    async fn make(
        &self,
        snapshot: &Snapshot,
        coding: Coding,
        make: impl FnOnce() -> Vec<u8> + Send + 'static,
    ) -> Encoded {
        self.made.fetch_add(1, Ordering::Relaxed);
        let tags = snapshot.head.as_ref().map_or(0, |head| head.counts.total());
        let (bytes, coding) = coding::write(coding, tags * BYTES_OF_A_TAG, make).await;
        Encoded { bytes, coding }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn find(
        &mut self,
        name: &Name,
        snapshot: &Arc<Snapshot>,
        form: Form<'_>,
        coding: Coding,
    ) -> Option<Slot> {
        let forms = self.repositories.get(name).filter(|forms| forms.is_of(snapshot))?;
        let kept = forms.kept.iter().find(|kept| kept.form.is(form, coding))?;
        Some(Arc::clone(&kept.slot))
    }

    fn add(&mut self, name: &Name, snapshot: &Arc<Snapshot>, form: Form<'_>, coding: Coding) -> Slot {
        if self.repositories.peek(name).is_none_or(|forms| !forms.is_of(snapshot)) {
            self.remove(name);
            let forms = Forms { of: Arc::downgrade(snapshot), kept: Vec::new(), bytes: OVERHEAD_BYTES };
            self.bytes += forms.bytes;
            self.repositories.put(name.clone(), forms);
        } else if let Some(slot) = self.find(name, snapshot, form, coding) {
            // Somebody else was faster.
            return slot;
        }
        let slot = Slot::default();
        if let Some(forms) = self.repositories.get_mut(name) {
            if forms.kept.len() == MOST_FORMS {
                let oldest = forms.kept.remove(0);
                forms.bytes -= oldest.bytes;
                self.bytes -= oldest.bytes;
            }
            let form = OwnedForm::new(form, coding);
            forms.kept.push(KeptForm { form, slot: Arc::clone(&slot), bytes: 0 });
        }
        slot
    }

    fn remove(&mut self, name: &Name) {
        if let Some(forms) = self.repositories.pop(name) {
            self.bytes -= forms.bytes;
        }
    }

    /// An answer that is being kept has so many bytes.
    fn account(&mut self, name: &Name, slot: &Slot, bytes: usize) {
        let Some(forms) = self.repositories.peek_mut(name) else { return };
        let Some(place) = forms.kept.iter().position(|kept| Arc::ptr_eq(&kept.slot, slot)) else { return };
        if bytes > MOST_KEPT_BYTES / LARGEST_PART {
            forms.kept.remove(place);
            return;
        }
        forms.kept[place].bytes = bytes + OVERHEAD_BYTES;
        forms.bytes += bytes + OVERHEAD_BYTES;
        self.bytes += bytes + OVERHEAD_BYTES;
        while self.bytes > MOST_KEPT_BYTES {
            let Some((_, gone)) = self.repositories.pop_lru() else { return };
            self.bytes -= gone.bytes;
        }
    }
}

impl Forms {
    /// A weak reference keeps the place taken: no other snapshot comes to lie there.
    fn is_of(&self, snapshot: &Arc<Snapshot>) -> bool {
        std::ptr::eq(self.of.as_ptr(), Arc::as_ptr(snapshot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Name {
        format!("r.example/app{number}").parse().unwrap()
    }

    fn snapshot() -> Arc<Snapshot> {
        Arc::default()
    }

    fn list(called: &str) -> (Form<'_>, Coding) {
        (Form::Tags(called), Coding::Identity)
    }

    async fn ask(
        answers: &EncodedAnswers,
        name: &Name,
        snapshot: &Arc<Snapshot>,
        form: (Form<'_>, Coding),
        bytes: usize,
    ) -> Bytes {
        answers.get(name, snapshot, form, || true, move || move || vec![b'x'; bytes]).await.bytes
    }

    #[tokio::test]
    async fn an_answer_is_made_once_for_every_snapshot_form_and_coding() {
        let (answers, name, first) = (EncodedAnswers::default(), name(0), snapshot());
        let one = ask(&answers, &name, &first, list("app"), 10).await;
        let same = ask(&answers, &name, &first, list("app"), 20).await;
        assert_eq!((one.as_ptr(), answers.made()), (same.as_ptr(), 1), "the bytes are shared");
        ask(&answers, &name, &first, list("team/app"), 10).await;
        ask(&answers, &name, &first, (Form::Tags("app"), Coding::Gzip), 10).await;
        ask(&answers, &name, &first, (Form::Repository(Fields::ALL), Coding::Identity), 10).await;
        assert_eq!(answers.made(), 4);
        assert_eq!(ask(&answers, &name, &snapshot(), list("app"), 20).await.len(), 20, "it has changed");
        assert_eq!(ask(&answers, &name, &first, list("app"), 30).await.len(), 30, "what was before is gone");
    }

    #[tokio::test]
    async fn who_asks_while_an_answer_is_made_waits_for_it() {
        let (answers, name, snapshot) = (EncodedAnswers::default(), name(0), snapshot());
        let asking = (0..20).map(|_| ask(&answers, &name, &snapshot, list("app"), 10));
        futures_util::future::join_all(asking).await;
        assert_eq!(answers.made(), 1);
        assert_eq!(answers.bytes(), 10 + 2 * OVERHEAD_BYTES, "it is counted once");
    }

    #[tokio::test]
    async fn what_is_not_hot_is_not_kept() {
        let (answers, name, snapshot) = (EncodedAnswers::default(), name(0), snapshot());
        for _ in 0..2 {
            answers.get(&name, &snapshot, list("app"), || false, || || vec![b'x'; 10]).await;
        }
        assert_eq!((answers.made(), answers.bytes()), (2, 0));
    }

    #[tokio::test]
    async fn what_is_kept_stays_within_its_bounds() {
        let (answers, snapshot) = (EncodedAnswers::default(), snapshot());
        let large = MOST_KEPT_BYTES / LARGEST_PART - OVERHEAD_BYTES;
        for number in 0..10 {
            ask(&answers, &name(number), &snapshot, list("app"), large).await;
            assert!(answers.bytes() <= MOST_KEPT_BYTES);
        }
        let made = answers.made();
        ask(&answers, &name(9), &snapshot, list("app"), large).await;
        assert_eq!(answers.made(), made, "what was asked for last is kept");
        ask(&answers, &name(0), &snapshot, list("app"), large).await;
        assert_eq!(answers.made(), made + 1, "what was asked for longest ago went first");

        let before = answers.bytes();
        ask(&answers, &name(11), &snapshot, list("app"), MOST_KEPT_BYTES / LARGEST_PART + 1).await;
        assert!(answers.bytes() <= before + OVERHEAD_BYTES, "too large for all");
    }

    #[tokio::test]
    async fn a_repository_has_a_bounded_number_of_forms() {
        let (answers, name, snapshot) = (EncodedAnswers::default(), name(0), snapshot());
        for number in 0..3 * MOST_FORMS {
            ask(&answers, &name, &snapshot, list(&format!("app{number}")), 10).await;
        }
        assert_eq!(answers.bytes(), MOST_FORMS * (10 + OVERHEAD_BYTES) + OVERHEAD_BYTES);
    }
}
