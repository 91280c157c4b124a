//! What every lane and every pass needs: the store, the registries, the clock, and where to report to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use samovar_registry::upstream::UpstreamFactory;
use samovar_registry::{Clock, Name, Platforms};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::WarmerOptions;
use super::announce::Announcer;
use super::cadence::tags::Pace;
use super::demand::Demands;
use super::fetch::Fetcher;
use super::lease::Lease;
use super::publish::{Published, WorkingCopy};
use super::queue::SharedQueue;
use super::unfinished::Unfinished;
use crate::cache::stored::TagCounts;
use crate::metrics::Metrics;
use crate::sources::{PollInterval, Watch};
use crate::store::{Client, Entry};

/// Publications that somebody who waits for one may lag behind.
const PUBLICATIONS_KEPT: usize = 4096;
/// Tags of repositories that are kept in memory because the store does not take what was learnt of them.
const MOST_UNSAVED_TAGS: usize = 200_000;

#[derive(Debug)]
pub(super) struct Context {
    pub(super) store: Arc<dyn Client>,
    pub(super) upstreams: Arc<dyn UpstreamFactory>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) fetcher: Fetcher,
    pub(super) metrics: Arc<Metrics>,
    pub(super) options: WarmerOptions,
    pub(super) shutdown: CancellationToken,
    /// What readers ask for.
    pub(super) demand: Demands,
    /// Passes under way in all lanes.
    pub(super) running_passes: AtomicUsize,
    /// Repositories in the store that nobody watches, as far as is known.
    pub(super) unwatched_repositories: AtomicUsize,
    /// Tells what changed.
    pub(super) announcer: Announcer,
    /// Tells that something of a repository was published, for those who wait for it.
    publications: broadcast::Sender<Name>,
    overview: Mutex<HashMap<Name, RepositoryOverview>>,
    /// Working copies whose last publication failed: kept until the store takes them.
    unsaved: Mutex<HashMap<Name, Arc<WorkingCopy>>>,
    /// Working copies between two turns of their passes.
    pub(super) unfinished: Unfinished,
    leases: Mutex<HashMap<String, Lease>>,
    at_work: Mutex<HashMap<String, watch::Sender<bool>>>,
    yielding: Mutex<Arc<BTreeSet<Name>>>,
    queues: Mutex<BTreeMap<String, SharedQueue>>,
    watched_by: Mutex<HashMap<String, usize>>,
    random: Mutex<fastrand::Rng>,
}

/// What the warmer knows of a repository at a glance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RepositoryOverview {
    /// How many tags are in which state.
    pub counts: TagCounts,
    /// Whether nothing is missing.
    pub complete: bool,
    /// Whether it was ever listed.
    pub listed: bool,
}

impl Context {
    pub(super) fn new(
        store: Arc<dyn Client>,
        upstreams: Arc<dyn UpstreamFactory>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        options: WarmerOptions,
    ) -> Self {
        let fetcher = Fetcher::new(Arc::clone(&store), Arc::clone(&metrics));
        let random = options.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        Self {
            store,
            upstreams,
            clock,
            fetcher,
            metrics,
            options,
            shutdown: CancellationToken::new(),
            demand: Demands::default(),
            running_passes: AtomicUsize::new(0),
            unwatched_repositories: AtomicUsize::new(0),
            announcer: Announcer::new(),
            publications: broadcast::Sender::new(PUBLICATIONS_KEPT),
            overview: Mutex::default(),
            unsaved: Mutex::default(),
            unfinished: Unfinished::default(),
            leases: Mutex::default(),
            at_work: Mutex::default(),
            yielding: Mutex::default(),
            queues: Mutex::default(),
            watched_by: Mutex::default(),
            random: Mutex::new(random),
        }
    }

    /// The platforms whose images are wanted of a repository.
    pub(super) fn platforms<'a>(&'a self, watch: &'a Watch) -> &'a Platforms {
        watch.platforms.as_ref().unwrap_or(&self.options.platforms)
    }

    /// How often a repository is listed.
    pub(super) fn poll_interval(&self, watch: &Watch) -> PollInterval {
        watch.poll_interval.unwrap_or(self.options.poll_interval)
    }

    /// How often the tags of a repository are confirmed, as far as it is not theirs to say.
    pub(super) fn pace(&self, name: &Name, watch: &Watch) -> Pace {
        let configured = watch.tag_interval.unwrap_or(self.options.tag_interval);
        Pace { configured, demand: self.demand.of(name) }
    }

    /// The time to the millisecond: what is stored and shown.
    pub(super) fn now(&self) -> Timestamp {
        let now = self.clock.now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    /// A random number from 0 to 1, the same sequence for the same seed.
    pub(super) fn random(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }

    /// A number that no other replica comes up with at the same time.
    pub(super) fn random_id(&self) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).u64(..)
    }

    /// Takes note of what is now visible to readers.
    pub(super) fn published(&self, name: &Name, published: &Published) {
        let Published { counts, complete, listed, .. } = *published;
        // Only of what is watched: a pass may end after its repository has left the watch list.
        if let Some(overview) = self.overview().get_mut(name) {
            *overview = RepositoryOverview { counts, complete, listed };
        }
        for change in &published.changes {
            self.metrics.change(change.kind);
        }
        let _ = self.publications.send(name.clone());
    }

    pub(super) fn overview(&self) -> MutexGuard<'_, HashMap<Name, RepositoryOverview>> {
        self.overview.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The repository is no longer watched.
    pub(super) fn forget(&self, name: &Name) {
        self.overview().remove(name);
        self.announcer.forget(name);
        self.unsaved().remove(name);
        self.demand.forget(name);
        self.unfinished.let_go(name);
    }

    /// Keeps a working copy that could not be stored until it can be, within a bound; lets go of one that was.
    pub(super) fn keep_unsaved(&self, name: &Name, copy: &Arc<WorkingCopy>) {
        let is_unsaved = copy.state().is_unsaved() && !copy.is_overtaken();
        let mut unsaved = self.unsaved();
        let is_kept = unsaved.get(name).is_some_and(|kept| Arc::ptr_eq(kept, copy));
        if is_kept && !is_unsaved {
            unsaved.remove(name);
        }
        if is_kept || !is_unsaved {
            return;
        }
        // Another copy of it was overtaken.
        unsaved.remove(name);
        let tags = |copy: &Arc<WorkingCopy>| copy.state().tags.len();
        if unsaved.values().map(tags).sum::<usize>() + tags(copy) > MOST_UNSAVED_TAGS {
            warn!(image.name = %name, "too much is waiting for the store: what was learnt is asked for again");
            return;
        }
        unsaved.insert(name.clone(), Arc::clone(copy));
    }

    /// Lets go of a copy that another replica has overtaken: it was made from another head than is stored now.
    pub(super) fn drop_overtaken(&self, name: &Name, head_entry: Option<&Entry>) {
        let mut unsaved = self.unsaved();
        if unsaved.get(name).is_some_and(|copy| copy.state().head_entry.as_ref() != head_entry) {
            unsaved.remove(name);
        }
    }

    /// Repositories that wait for the store to take what was learnt of them.
    pub(super) fn unsaved(&self) -> MutexGuard<'_, HashMap<Name, Arc<WorkingCopy>>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who speaks to which host.
    pub(super) fn leases(&self) -> MutexGuard<'_, HashMap<String, Lease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the lane of a host works: its lease is here, and what the store knows of the host's limits was taken over. Of as
    /// many hosts as have a lane, or are asked by a source.
    pub(super) fn at_work(&self, host: &str) -> watch::Sender<bool> {
        let mut at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        at_work.entry(host.to_owned()).or_default().clone()
    }

    /// The watched repositories that only sources name which give way.
    pub(super) fn yielding(&self) -> MutexGuard<'_, Arc<BTreeSet<Name>>> {
        self.yielding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who waits for their turn, by host.
    pub(super) fn queues(&self) -> MutexGuard<'_, BTreeMap<String, SharedQueue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many repositories each source names.
    pub(super) fn watched_by(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.watched_by.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn subscribe_publications(&self) -> broadcast::Receiver<Name> {
        self.publications.subscribe()
    }
}
