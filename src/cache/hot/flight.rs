//! Reading through the hot set: what is in memory is answered, what is not is read, by one for all who ask.
//!
//! Whoever asks first reads; the others wait for the outcome. When the first goes away half way (its client hung up, its
//! task panicked), one of those who wait reads in its place. When reading again what is in memory takes long, that is
//! answered, and the reading goes on in the background: otherwise what always takes long would never be up to date.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use samovar_registry::Name;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::HotSet;
use super::state::{Departure, Outcome, Step};
use crate::cache::load::{Loading, MissingObserver, Pages};
use crate::cache::snapshot::Snapshot;
use crate::store::{Reader, StoreError};

/// When a round trip to bring a stale repository up to date takes longer, what is in memory is answered.
const LONGEST_RELOAD_STEP: Duration = Duration::from_secs(1);
/// A reading in the background is given up when it takes longer.
const LONGEST_BACKGROUND_READING: Duration = Duration::from_mins(1);

/// A reading of the store under way.
type Loaded = BoxFuture<'static, Result<Snapshot, StoreError>>;

impl HotSet {
    /// All of a repository: from memory if that is as in the store, else read from there and kept; from memory, too, if
    /// the store fails. Cancellation-safe.
    pub(in crate::cache) async fn whole<R: Reader + 'static>(
        self: &Arc<Self>,
        reader: &Arc<R>,
        name: &Name,
        observer: &Arc<dyn MissingObserver>,
    ) -> Outcome {
        loop {
            // Bound first: the lock must not live as long as the match.
            let step = self.state().begin(name, Instant::now());
            match step {
                Step::Answer(snapshot) => return Ok(snapshot),
                Step::Wait(mut outcome) => {
                    // An error means that whoever read is gone without an outcome.
                    if let Ok(outcome) = outcome.wait_for(Option::is_some).await
                        && let Some(outcome) = &*outcome
                    {
                        return outcome.clone();
                    }
                }
                Step::Read(departure) => {
                    let reading = Reading { set: self, name, departure };
                    return reading.read(reader, observer).await;
                }
            }
        }
    }

    /// For a question about part of a repository: all of it, if it is in memory or worth having there; `None`: the part is
    /// to be read by itself, and told to [`HotSet::part_was_read`].
    pub(in crate::cache) async fn whole_if_hot<R: Reader + 'static>(
        self: &Arc<Self>,
        reader: &Arc<R>,
        name: &Name,
        observer: &Arc<dyn MissingObserver>,
    ) -> Result<Option<Arc<Snapshot>>, StoreError> {
        if !self.state().wants_whole(name) {
            return Ok(None);
        }
        self.whole(reader, name, observer).await.map(Some)
    }

    /// Part of a repository was read from the store.
    pub(in crate::cache) fn part_was_read(&self, name: &Name, part: &Snapshot) {
        if let Some(head) = &part.head {
            self.state().part_was_read(name, head.counts.total());
        }
    }

    /// The repository if it is in memory and as in the store. Nothing is read or counted, and it is no reason to keep it.
    pub(in crate::cache) fn fresh(&self, name: &Name) -> Option<Arc<Snapshot>> {
        self.state().fresh(name)
    }

    /// Whether just this is in memory.
    pub(crate) fn holds(&self, name: &Name, snapshot: &Arc<Snapshot>) -> bool {
        self.last_known(name).is_some_and(|known| Arc::ptr_eq(&known, snapshot))
    }

    /// The repository if it is in memory, for when the store does not answer.
    pub(in crate::cache) fn last_known(&self, name: &Name) -> Option<Arc<Snapshot>> {
        self.state().last_known(name)
    }
}

/// The one who reads for all. Dropped without landing, it makes room for the next.
#[derive(Debug)]
struct Reading<'a> {
    set: &'a Arc<HotSet>,
    name: &'a Name,
    departure: Departure,
}

impl Reading<'_> {
    async fn read<R: Reader + 'static>(
        self,
        reader: &Arc<R>,
        observer: &Arc<dyn MissingObserver>,
    ) -> Outcome {
        let previous = self.departure.previous.clone();
        let patience_is_over = Arc::new(Notify::new());
        let mut loading = load(
            Arc::clone(reader),
            self.name.clone(),
            Arc::clone(observer),
            previous.clone(),
            Arc::clone(&patience_is_over),
        );
        let Some(previous) = previous else {
            return self.land(loading.await);
        };
        tokio::select! {
            biased;
            read = &mut loading => self.land(read),
            () = patience_is_over.notified() => self.go_on_without(loading, previous),
        }
    }

    fn land(self, read: Result<Snapshot, StoreError>) -> Outcome {
        let outcome = self.set.state().land(self.name, &self.departure, read, Instant::now());
        self.tell(outcome)
    }

    /// Answers what is in memory while the reading goes on.
    fn go_on_without(self, loading: Loaded, previous: Arc<Snapshot>) -> Outcome {
        let number = self.departure.number;
        let start = || {
            let task = read_in_background(Arc::downgrade(self.set), self.name.clone(), number, loading);
            tokio::spawn(task).abort_handle()
        };
        let outcome = self.set.state().go_on_without(self.name, number, previous, Instant::now(), start);
        self.tell(Ok(outcome))
    }

    fn tell(&self, outcome: Outcome) -> Outcome {
        self.departure.outcome.send_replace(Some(outcome.clone()));
        outcome
    }
}

/// A reading that can outlive whoever began it.
fn load<R: Reader + 'static>(
    reader: Arc<R>,
    name: Name,
    observer: Arc<dyn MissingObserver>,
    previous: Option<Arc<Snapshot>>,
    patience_is_over: Arc<Notify>,
) -> Loaded {
    Box::pin(async move {
        Loading::new(&*reader, &name, &*observer)
            .with_previous(previous.as_deref())
            .with_patience(LONGEST_RELOAD_STEP, &patience_is_over)
            .snapshot(Pages::All)
            .await
    })
}

/// Ends with the set, which owns it, at the latest.
async fn read_in_background(set: Weak<HotSet>, name: Name, number: u64, loading: Loaded) {
    let read = timeout(LONGEST_BACKGROUND_READING, loading).await.unwrap_or_else(|_| {
        let message = format!("no answer within {}s", LONGEST_BACKGROUND_READING.as_secs());
        Err(StoreError::Unavailable { message })
    });
    if let Some(set) = set.upgrade() {
        set.state().land_from_background(&name, number, read, Instant::now());
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        // Before those who wait are woken by the end of the channel: one of them is to begin anew.
        self.set.state().end_flight(self.name, self.departure.number);
    }
}
