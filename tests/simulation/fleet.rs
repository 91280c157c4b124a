//! The replicas: each is the real warmer with the real client for registries over the simulated wire, on one store that
//! they share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use samovar::cache::Cache;
use samovar::cache::history::ChangeId;
use samovar::metrics::Metrics;
use samovar::sources::{ImageSource, PollInterval, Watch, WatchList};
use samovar::store::Client;
use samovar::warmer::{Handle, Told, Warmer, WarmerOptions};
use samovar_registry::upstream::{HostOptions, HttpOptions, HttpUpstreams, Limits, ListingChoice};
use samovar_registry::{Name, Platforms, TokioClock};
use tokio::sync::broadcast::{self, error::TryRecvError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::allowance::Downtimes;
use super::scenario::{Scenario, Turn};
use super::shared_store::{Server, View};
use super::wire::Network;

/// One samovar: everything but the doors.
#[derive(Debug)]
struct Replica {
    handle: Handle,
    changes: broadcast::Receiver<Arc<Told>>,
    /// The last change that was announced of each repository.
    heard: BTreeMap<Name, ChangeId>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

/// All replicas, and what they share.
#[derive(Debug)]
pub(crate) struct Fleet {
    network: Network,
    clock: Arc<TokioClock>,
    server: Arc<Server>,
    watch: WatchList,
    seed: u64,
    started: u64,
    /// The oldest first.
    running: Vec<Replica>,
    downtimes: Downtimes,
    pub(crate) kills: Vec<Duration>,
    down_since: Option<Duration>,
    pub(crate) peak_waiting: usize,
    pub(crate) peak_passes: usize,
}

impl Replica {
    /// Hears what is announced: of each repository in order, and nothing twice. Returns what was announced in another way.
    fn listen(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        loop {
            match self.changes.try_recv() {
                Ok(told) => {
                    let Some(change) = told.change() else {
                        wrong.push(format!("{told:?}"));
                        continue;
                    };
                    let last = self.heard.insert(change.repository.clone(), change.id);
                    if last.is_some_and(|last| last >= change.id) {
                        wrong.push(format!("announced after {last:?}: {change:?}"));
                    }
                }
                Err(TryRecvError::Empty | TryRecvError::Closed) => return wrong,
                Err(error @ TryRecvError::Lagged(_)) => panic!("changes were missed: {error}"),
            }
        }
    }
}

/// A list that stays as it is.
#[derive(Debug)]
struct Fixed(WatchList);

impl ImageSource for Fixed {
    fn name(&self) -> &'static str {
        "simulation"
    }

    fn watch_lists(&mut self) -> BoxStream<'_, WatchList> {
        let list = self.0.clone();
        stream::once(async { list }).chain(stream::pending()).boxed()
    }
}

impl Fleet {
    /// Watches everything that the registries hold, some of it at an interval of its own.
    pub(crate) fn new(network: Network, scenario: &Scenario, intervals: &BTreeMap<Name, Duration>) -> Self {
        let watch = |name: &Name| Watch {
            poll_interval: intervals.get(name).map(|interval| PollInterval::fixed(*interval)),
            ..Watch::default()
        };
        let watch = watched(&network).into_iter().map(|name| (name.clone(), watch(&name))).collect();
        Self {
            network,
            clock: Arc::new(TokioClock::starting_at(beginning())),
            server: Arc::default(),
            watch: WatchList(watch),
            seed: scenario.seed,
            started: 0,
            running: Vec::new(),
            downtimes: Downtimes::default(),
            kills: Vec::new(),
            down_since: None,
            peak_waiting: 0,
            peak_passes: 0,
        }
    }

    /// What readers see.
    pub(crate) fn cache(&self) -> Cache<Arc<dyn Client>> {
        let store: Arc<dyn Client> = View::of(&self.server);
        Cache::new(store, self.clock.clone())
    }

    /// Lets a replica come or go.
    pub(crate) async fn turn(&mut self, turn: Turn) {
        let now = self.network.now();
        match turn {
            Turn::Joins | Turn::Starts => {
                if let Some(since) = self.down_since.take() {
                    self.downtimes.0.push((since, now));
                }
                let replica = self.start();
                self.running.push(replica);
            }
            Turn::IsKilled => {
                let killed = self.running.remove(0);
                killed.task.abort();
                let _ = killed.task.await;
                self.kills.push(now);
                self.network.state().registries.iter_mut().for_each(|registry| registry.law.killed(now));
            }
            Turn::AllStop => {
                for replica in &self.running {
                    replica.shutdown.cancel();
                }
                for replica in self.running.drain(..) {
                    replica.task.await.expect("it stops in order");
                }
                self.down_since = Some(now);
            }
        }
        self.network.state().registries.iter_mut().for_each(|registry| registry.law.begins_anew());
    }

    fn start(&mut self) -> Replica {
        self.started += 1;
        let seed = self.seed.wrapping_mul(1_000).wrapping_add(self.started);
        let clock = self.clock.clone();
        let options = HttpOptions { hosts: self.host_options(), seed: Some(seed), ..HttpOptions::default() };
        let wire = Arc::new(self.network.clone());
        let upstreams = HttpUpstreams::over_wire(options, clock.clone(), Arc::new(()), wire).unwrap();
        let options = WarmerOptions {
            platforms: Platforms::new(vec!["linux/amd64".parse().unwrap()]).unwrap(),
            seed: Some(seed),
            replica: format!("replica {}", self.started),
            ..WarmerOptions::default()
        };
        let store: Arc<dyn Client> = View::of(&self.server);
        let warmer = Warmer::new(store, Arc::new(upstreams), clock, Arc::new(Metrics::new()), options);
        let (handle, shutdown) = (warmer.handle(), CancellationToken::new());
        Replica {
            changes: handle.changes(),
            heard: BTreeMap::new(),
            handle,
            task: tokio::spawn(warmer.run(vec![Box::new(Fixed(self.watch.clone()))], shutdown.clone())),
            shutdown,
        }
    }

    /// The limits are those that the registries check, and nobody is asked for lists of its own.
    fn host_options(&self) -> BTreeMap<String, HostOptions> {
        let state = self.network.state();
        let options = state.registries.iter().map(|registry| {
            let limits = registry.traits.limits;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
            let burst = limits.burst as u32;
            let limits = Limits { rate: limits.rate, burst, concurrency: limits.concurrency };
            let options =
                HostOptions { limits: Some(limits), listing: ListingChoice::Plain, ..HostOptions::default() };
            (registry.traits.host.to_owned(), options)
        });
        options.collect()
    }

    /// Listens to what the replicas announce, and looks how much they have to do. Returns what was announced wrongly.
    pub(crate) fn listen(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        for replica in &mut self.running {
            self.peak_waiting = self.peak_waiting.max(replica.handle.waiting_requests());
            self.peak_passes = self.peak_passes.max(replica.handle.running_passes());
            assert!(!replica.task.is_finished(), "a replica ended by itself");
            wrong.extend(replica.listen());
        }
        wrong
    }

    /// When nobody was there, until now.
    pub(crate) fn downtimes(&self) -> Downtimes {
        let now = self.network.now();
        let all = self.downtimes.0.iter().copied().chain(self.down_since.map(|since| (since, now)));
        Downtimes(all.collect())
    }

    pub(crate) async fn stop(&mut self) {
        self.turn(Turn::AllStop).await;
    }
}

/// The time since the beginning at which something was seen.
pub(crate) fn since_beginning(at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(beginning())).unwrap_or_default()
}

/// When it all begins, by the wall clock.
fn beginning() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// The names of all repositories that there are.
pub(crate) fn watched(network: &Network) -> Vec<Name> {
    let state = network.state();
    let of = |host: &str, path: &String| format!("{host}/{path}").parse().expect("a good name");
    let names = state
        .registries
        .iter()
        .flat_map(|registry| registry.repositories.keys().map(move |path| of(registry.traits.host, path)));
    names.collect()
}
