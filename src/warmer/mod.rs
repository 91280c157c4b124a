//! The warmer: follows the watch list, asks registries what changed, and stores the answers.
//!
//! ```text
//! sources → watch list → lanes (one per host) → passes (one per repository) → store
//!                          ↑ requests to refresh                             → changes
//! ```
//! - `lane`: starts what is next, for one host; `queue`: who that is;
//! - `pass`: refreshes one repository: list, compare, ask about tags, publish as it goes;
//! - `light`: the same at less cost, where nothing but the list is due and it says what it said;
//! - `fetch`: learns what one tag points at, with as few requests as can be;
//! - `working_copy`: how states follow one another; `publish`: how they get into the store;
//! - `unfinished`: what stays in memory between two turns of a long pass;
//! - `cadence`: how long to wait before asking again; `requests`: what goes first;
//! - `demand`: what readers ask for, over restarts and replicas; `document`: single documents that they want;
//! - `change`: what differs for readers; `announce`: who has been told of it;
//! - `kept_budget`: what is known of the host's limits, from one life to the next;
//! - `lease`: which of several replicas works on a host; `renewal`: keeps what is watched from running out of time;
//! - `forgetting`: removes what nobody watches any more; `facts`: what sources may know.
//!
//! Invariants: lanes never wait for one another; what was learnt is published as it comes; nothing is told to
//! subscribers that readers cannot see yet.

mod announce;
mod cadence;
mod change;
mod context;
mod demand;
mod document;
mod facts;
mod fetch;
mod forgetting;
mod kept_budget;
mod lane;
mod lease;
mod light;
mod once;
mod pass;
mod publish;
mod queue;
mod renewal;
mod requests;
mod tag;
mod unfinished;
mod working_copy;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, SelectAll};
use samovar_registry::upstream::UpstreamFactory;
use samovar_registry::{Clock, Name, Platforms, Tag};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::context::Context;
use self::queue::SharedQueue;
use self::requests::{Request, Requests, Wanted};
use crate::cache::demand::Demand;
use crate::metrics::Metrics;
use crate::sources::{ImageSource, PollInterval, TagInterval, WatchList};
use crate::store::Client;

pub use crate::cache::demand::Reading;
pub use crate::cache::history::{Cause, Change, ChangeKind};
pub use announce::Told;
pub use context::RepositoryOverview;
pub use document::{DocumentResult, Lack, Piece, Unobtainable};
pub use lease::LaneStanding;
pub use once::WarmedOnce;
pub(crate) use pass::Problem;
pub use publish::HistoryBounds;
pub use queue::{Class, QueueStanding};
pub use requests::{DocumentTicket, RefreshResult, RequestRefused, Ticket};

/// How long lanes may take to store what they have learnt when samovar stops.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// How the warmer works.
#[derive(Debug, Clone)]
pub struct WarmerOptions {
    /// How often a repository is listed, where its watch does not say.
    pub poll_interval: PollInterval,
    /// How often a tag is confirmed, where its repository's watch does not say.
    pub tag_interval: TagInterval,
    /// Which platforms' images are wanted, where a repository's watch does not say.
    pub platforms: Platforms,
    /// Tags of one repository that are asked about at once; the host's budget bounds the requests.
    pub fetches_per_repository: usize,
    /// How much of a repository's history is kept.
    pub history: HistoryBounds,
    /// Makes jitter repeatable; random where absent.
    pub seed: Option<u64>,
    /// The name by which this replica holds leases; no other one has it at the same time.
    pub replica: String,
    /// The part of a host's rate, above 0 and at most 1, at which this replica goes on when the store cannot tell which
    /// replica is to speak to the host.
    pub unleased_share: f64,
    /// What the store holds of a repository is removed when nobody has watched it for so long; in a store that replicas share,
    /// after ten minutes at the earliest.
    pub forget_after: Duration,
}

impl Default for WarmerOptions {
    fn default() -> Self {
        Self {
            poll_interval: PollInterval::default(),
            tag_interval: TagInterval::default(),
            platforms: Platforms::default(),
            fetches_per_repository: 16,
            history: HistoryBounds::default(),
            seed: None,
            replica: "the only one".to_owned(),
            unleased_share: 0.5,
            forget_after: Duration::from_hours(24),
        }
    }
}

/// Keeps repositories warm.
#[derive(Debug)]
pub struct Warmer {
    context: Arc<Context>,
    watch_list: watch::Sender<Arc<WatchList>>,
    asked: mpsc::UnboundedReceiver<Request>,
    handle: Handle,
}

/// Speaks to a running [`Warmer`]: asks for refreshes, follows what changes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    context: Arc<Context>,
    watch_list: watch::Receiver<Arc<WatchList>>,
    requests: Arc<Requests>,
    /// Bounded by [`Requests`].
    asking: mpsc::UnboundedSender<Request>,
}

/// The lanes that run, and what keeps the demand; all end with this value.
#[derive(Debug, Default)]
struct Lanes {
    by_host: HashMap<String, mpsc::UnboundedSender<Request>>,
    running: JoinSet<()>,
}

impl Warmer {
    /// A warmer that stores in `store` what it learns from `upstreams`.
    pub fn new(
        store: Arc<dyn Client>,
        upstreams: Arc<dyn UpstreamFactory>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        options: WarmerOptions,
    ) -> Self {
        let context = Arc::new(Context::new(store, upstreams, clock, metrics, options));
        let (watch_list, watched) = watch::channel(Arc::default());
        let (asking, asked) = mpsc::unbounded_channel();
        let requests = Arc::default();
        let handle = Handle { context: Arc::clone(&context), watch_list: watched, requests, asking };
        Self { context, watch_list, asked, handle }
    }

    /// For those who ask and listen.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Follows `sources` until `shutdown`, then stores what was learnt and returns. Returns early, with the reason in the
    /// log, only if a lane has come to an end by a defect: then samovar is to be started anew.
    pub async fn run(mut self, mut sources: Vec<Box<dyn ImageSource>>, shutdown: CancellationToken) {
        let mut lanes = Lanes::default();
        lanes.running.spawn(demand::keep(Arc::clone(&self.context), self.watch_list.subscribe()));
        let mut latest: Vec<Option<WatchList>> = vec![None; sources.len()];
        let (told, all_told) = watch::channel(false);
        let forgetting = forgetting::run(Arc::clone(&self.context), self.watch_list.subscribe(), all_told);
        lanes.running.spawn(forgetting);
        let names: Vec<String> = sources.iter().map(|source| source.name().to_owned()).collect();
        let give_way: Vec<bool> = sources.iter().map(|source| source.gives_way()).collect();
        for host in sources.iter().filter_map(|source| source.asks_host()) {
            self.open_lane(host, true, &mut lanes);
        }
        let mut lists: SelectAll<_> = stream::select_all(
            sources
                .iter_mut()
                .enumerate()
                .map(|(position, source)| source.watch_lists().map(move |list| (position, list)).boxed()),
        );
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(ended) = lanes.running.join_next() => {
                    error!(error = ?ended.err(), "a part of the warmer ended by a defect");
                    break;
                }
                Some((position, list)) = lists.next() => {
                    let count = list.0.len();
                    latest[position] = Some(list);
                    let (list, yielding) = together(&latest, &give_way);
                    *self.context.yielding() = Arc::new(yielding);
                    self.adopt(list, &mut lanes);
                    self.context.watched_by().insert(names[position].clone(), count);
                    told.send_if_modified(|told| !std::mem::replace(told, latest.iter().all(Option::is_some)));
                }
                Some(request) = self.asked.recv() => if let Some(lane) = lanes.by_host.get(request.wanted.name.host()) { drop(lane.send(request)) } else {
                    self.handle.requests.started(&request.wanted);
                    request.answer(&Err("the repository is not watched".into()));
                },
            }
        }
        self.context.shutdown.cancel();
        if tokio::time::timeout(SHUTDOWN_LIMIT, lanes.running.join_all()).await.is_err() {
            warn!("some refreshes did not end in time; what they had not stored yet is asked for again");
        }
    }

    /// Makes a new watch list known, and starts lanes for hosts that have none. A lane without repositories sleeps.
    fn adopt(&self, list: WatchList, lanes: &mut Lanes) {
        let list = Arc::new(list);
        let changed = self.watch_list.send_if_modified(|current| {
            let differs = **current != *list;
            if differs {
                *current = Arc::clone(&list);
            }
            differs
        });
        if !changed {
            return;
        }
        info!(repositories = list.0.len(), "the watch list changed");
        for name in list.0.keys() {
            self.open_lane(name.host(), false, lanes);
        }
    }

    /// Begins the lane of a host that has none.
    fn open_lane(&self, host: &str, serves_source: bool, lanes: &mut Lanes) {
        if lanes.by_host.contains_key(host) {
            return;
        }
        let (asking, incoming) = mpsc::unbounded_channel();
        let beginning = lane::Beginning {
            host: host.to_owned(),
            serves_source,
            context: Arc::clone(&self.context),
            watch_list: self.watch_list.subscribe(),
            incoming,
            requests: Arc::clone(&self.handle.requests),
        };
        lanes.running.spawn(lane::run(beginning));
        lanes.by_host.insert(host.to_owned(), asking);
    }
}

/// The lists of all sources as one; of those that give way, what the others do not name, and which repositories that are.
fn together(lists: &[Option<WatchList>], give_way: &[bool]) -> (WatchList, BTreeSet<Name>) {
    let of = |gives_way: bool| {
        let lists = lists.iter().zip(give_way).filter(move |(_, gives)| **gives == gives_way);
        lists.filter_map(|(list, _)| list.clone())
    };
    let named = of(false).fold(WatchList::default(), WatchList::merged);
    let others = of(true).fold(WatchList::default(), WatchList::merged);
    let yielding = others.0.keys().filter(|name| !named.0.contains_key(*name)).cloned().collect();
    (named.filled_up_with(others), yielding)
}

impl Handle {
    /// Asks for a refresh of a repository (its list and every tag) or of one tag, ahead of the schedule and whatever
    /// its deadlines. Requests for the same thing that have not started merge.
    pub fn refresh(&self, name: &Name, tag: Option<Tag>) -> Result<Ticket, RequestRefused> {
        self.ask_for(name, tag, Cause::Request)
    }

    /// The same, because a registry or whoever pushes to it said that something has changed.
    pub fn hint(&self, name: &Name, tag: Option<Tag>) -> Result<Ticket, RequestRefused> {
        self.ask_for(name, tag, Cause::Webhook)
    }

    /// The same of a repository's list of tags alone, because something is said to be gone from it.
    pub fn hint_list(&self, name: &Name) -> Result<Ticket, RequestRefused> {
        let wanted = Wanted { name: name.clone(), tag: None, mend: false, list: true, piece: None };
        self.add(wanted, Cause::Webhook)
    }

    fn ask_for(&self, name: &Name, tag: Option<Tag>, cause: Cause) -> Result<Ticket, RequestRefused> {
        self.add(Wanted { name: name.clone(), tag, mend: false, list: false, piece: None }, cause)
    }

    fn add(&self, wanted: Wanted, cause: Cause) -> Result<Ticket, RequestRefused> {
        if !self.is_watched(&wanted.name) {
            return Err(RequestRefused::NotWatched);
        }
        let (ticket, request) = self.requests.add(wanted, cause)?;
        self.ask(request);
        Ok(ticket)
    }

    /// Asks for a tag of which nothing is known yet, because a reader wants it. Who asks while it is on its way waits for the
    /// same.
    pub fn tag(&self, name: &Name, tag: Tag) -> Result<Ticket, RequestRefused> {
        if !self.is_watched(name) {
            return Err(RequestRefused::NotWatched);
        }
        let wanted = Wanted { name: name.clone(), tag: Some(tag), mend: true, list: false, piece: None };
        let (ticket, request) = self.requests.add(wanted, Cause::Request)?;
        self.ask(request);
        Ok(ticket)
    }

    /// Says that part of a repository is missing from the store: it is listed again ahead of the schedule, and what was
    /// lost is asked for.
    pub fn mend(&self, name: &Name) {
        if !self.is_watched(name) {
            return;
        }
        // Where too much is being asked for, the schedule has to do.
        let wanted = Wanted { name: name.clone(), tag: None, mend: true, list: false, piece: None };
        if let Ok((_, request)) = self.requests.add(wanted, Cause::Request) {
            self.ask(request);
        }
    }

    /// Asks for a document of a repository that a reader wants. Requests for the same document are one, until it is there.
    /// It may also be fetched where the store has it: the registry is to say that the repository has it.
    pub fn document(&self, name: &Name, piece: Piece) -> Result<DocumentTicket, RequestRefused> {
        if !self.is_watched(name) {
            return Err(RequestRefused::NotWatched);
        }
        let wanted = Wanted { name: name.clone(), tag: None, mend: false, list: false, piece: Some(piece) };
        let (ticket, request) = self.requests.add(wanted, Cause::Request)?;
        self.ask(request);
        Ok(DocumentTicket(ticket))
    }

    fn ask(&self, request: Option<Request>) {
        if let Some(request) = request {
            // A warmer that has ended drops the request, which its ticket tells.
            let _ = self.asking.send(request);
        }
    }

    /// Somebody reads something of the repository: it matters more than what nobody reads.
    pub fn read(&self, name: &Name, reading: Reading<'_>) {
        self.context.demand.note(name, reading, self.context.now());
    }

    /// When readers last asked about a repository and its tags, here and, a little later, at other replicas.
    pub fn demand(&self, name: &Name) -> Arc<Demand> {
        self.context.demand.of(name)
    }

    /// Whether a repository is kept warm.
    pub fn is_watched(&self, name: &Name) -> bool {
        self.watch_list.borrow().0.contains_key(name)
    }

    /// How many repositories a source wants to be kept warm.
    pub fn watched_by(&self, source: &str) -> usize {
        self.context.watched_by().get(source).copied().unwrap_or_default()
    }

    /// What is kept warm now.
    pub fn watch_list(&self) -> Arc<WatchList> {
        Arc::clone(&self.watch_list.borrow())
    }

    /// The changes from now on, whichever replica has seen them: every one once, and those of a repository in order. A subscriber that lags far behind misses some, and is told how many.
    pub fn changes(&self) -> broadcast::Receiver<Arc<Told>> {
        self.context.announcer.subscribe()
    }

    /// Whether these sources have told what they want, and all that is watched was taken over from the store: of what
    /// happens from then on everything is told.
    pub fn is_settled<'a>(&self, mut sources: impl Iterator<Item = &'a str>) -> bool {
        let have_told = sources.all(|source| self.context.watched_by().contains_key(source));
        have_told && self.watch_list().0.keys().all(|name| self.is_taken_over(name))
    }

    /// Whether a repository was taken over from the store, so that changes of it are told.
    pub fn is_taken_over(&self, name: &Name) -> bool {
        self.context.overview().contains_key(name)
    }

    /// Up to which generation the changes of a repository were told, or were no news when it began to be watched; 0 for one
    /// that is not watched.
    pub fn told_of(&self, name: &Name) -> u64 {
        self.context.announcer.heard_of(name)
    }

    /// The names of repositories of which something was published, from now on.
    pub fn publications(&self) -> broadcast::Receiver<Name> {
        self.context.subscribe_publications()
    }

    /// All repositories at a glance.
    pub fn overview(&self) -> HashMap<Name, RepositoryOverview> {
        self.context.overview().clone()
    }

    /// Who speaks to which host, by host.
    pub fn lanes(&self) -> BTreeMap<String, LaneStanding> {
        self.context.leases().iter().map(|(host, lease)| (host.clone(), lease.standing())).collect()
    }

    /// Who waits for their turn, by host; here nobody does for a host that another replica speaks to.
    pub fn queues(&self) -> BTreeMap<String, QueueStanding> {
        let (now, lanes) = (self.context.clock.now(), self.lanes());
        let queues = self.context.queues().clone();
        let standing = |(host, queue): (String, SharedQueue)| {
            let is_elsewhere = lanes.get(&host) == Some(&LaneStanding::Elsewhere);
            let standing = if is_elsewhere { QueueStanding::default() } else { queue.lock().standing(now) };
            (host, standing)
        };
        queues.into_iter().map(standing).collect()
    }

    /// Repositories of which something was learnt that the store does not take.
    pub fn unsaved_repositories(&self) -> usize {
        self.context.unsaved().len()
    }

    /// Repositories that are in the store and that nobody watches, as far as this replica knows: they go after a grace.
    pub fn unwatched_repositories(&self) -> usize {
        self.context.unwatched_repositories.load(Ordering::Relaxed)
    }

    /// Passes that are under way.
    pub fn running_passes(&self) -> usize {
        self.context.running_passes.load(Ordering::Relaxed)
    }

    /// Requests that wait to be started.
    pub fn waiting_requests(&self) -> usize {
        self.requests.len()
    }
}
