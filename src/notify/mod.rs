//! Telling others of changes by requests of ours, so that a registry without webhooks behaves as if it had them.
//!
//! ```text
//! warmer::Handle::changes ─┐
//! store (histories) ───────┴► queue ─► payload ─► delivery ─► the receiver
//!          ▲                    │
//!          └── how far it was told, by host
//! ```
//! Each receiver has a task of its own: a slow one delays no other. Of several replicas, the one that asks a registry host
//! tells of what happens there; how far it has come is kept in the store, so that whoever takes over goes on from there.
//!
//! Invariants: what a receiver is to be told is delivered at least once, in the order in which it happened to its
//! repository, or is found among the dead letters, with the reason; a secret goes to its receiver and nowhere else.

mod delivery;
mod payload;
mod queue;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::Clock;
use samovar_registry::upstream::GuardedClient;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::delivery::deliver;
use self::payload::Payload;
use self::queue::{MOST_PENDING, Outcome, Place, Queue, Verdict};
use crate::cache::stored;
use crate::config::ReceiverConfig;
use crate::feed::{self, Happening, Position};
use crate::metrics::Metrics;
use crate::store::{Client, Entry, Key, StoreError};
use crate::warmer::{Handle, LaneStanding, Told};

pub use queue::DeadLetter;

/// How often it is seen to which hosts are this replica's, and noted how far receivers were told.
const TICK: Duration = Duration::from_secs(1);
/// How far receivers were told is noted so often where nothing was delivered.
const NOTE_EVERY: Duration = Duration::from_mins(10);
/// What is told may have happened so long ago: writes take some time, and clocks differ.
const BEHIND: Duration = Duration::from_mins(1);
/// A host's repositories are waited for so long, to be taken over from the store, before what happened to them is read.
const LONGEST_TAKING_OVER: Duration = Duration::from_secs(10);
/// The store may take so long to note something when samovar stops.
const LONGEST_NOTE: Duration = Duration::from_secs(3);

/// How a receiver is doing, for status.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Standing {
    name: String,
    /// Without path and query, which may be secret.
    url: String,
    format: &'static str,
    /// Changes that wait.
    waiting: usize,
    /// Since when the first of them does.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_since: Option<Timestamp>,
    /// Changes delivered since samovar started.
    sent: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sent_at: Option<Timestamp>,
    /// Why the last try failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// For how long it is left alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_for_seconds: Option<f64>,
    /// What was given up last, of the hosts that this replica asks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    dead_letters: Vec<DeadLetter>,
}

/// How receivers are doing. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Standings(Arc<Mutex<BTreeMap<String, Standing>>>);

impl Standings {
    fn by_name(&self) -> MutexGuard<'_, BTreeMap<String, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them, by name.
    pub fn list(&self) -> Vec<Standing> {
        self.by_name().values().cloned().collect()
    }
}

/// What receivers are told with.
#[derive(Debug, Clone)]
pub struct Notifying {
    /// Tells what changes, and which hosts are ours.
    pub warmer: Handle,
    /// Holds the histories, and how far receivers were told.
    pub store: Arc<dyn Client>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Counts what is sent.
    pub metrics: Arc<Metrics>,
    /// Sends.
    pub client: GuardedClient,
}

/// Tells these receivers until `shutdown`.
pub async fn run(
    receivers: Vec<ReceiverConfig>,
    notifying: Notifying,
    standings: Standings,
    shutdown: CancellationToken,
) {
    let mut running = JoinSet::new();
    for config in receivers {
        let notifier = Notifier::new(config, notifying.clone(), standings.clone());
        running.spawn(notifier.run(shutdown.clone()));
    }
    running.join_all().await;
}

/// Tells one receiver.
struct Notifier {
    config: Arc<ReceiverConfig>,
    with: Notifying,
    standings: Standings,
    queue: Queue,
    /// Since when a host is this replica's whose repositories have yet to be taken over.
    taking_over: BTreeMap<String, Instant>,
    /// What the store was last told of each host, and when.
    noted: BTreeMap<String, (Place, Instant)>,
    running: JoinSet<(Arc<Happening>, Outcome)>,
}

impl Notifier {
    fn new(config: ReceiverConfig, with: Notifying, standings: Standings) -> Self {
        let standing = Standing {
            name: config.name.clone(),
            url: config.url.to_string(),
            format: config.format.as_str(),
            waiting: 0,
            waiting_since: None,
            sent: 0,
            last_sent_at: None,
            last_error: None,
            paused_for_seconds: None,
            dead_letters: Vec::new(),
        };
        with.metrics.notified_receiver(&config.name);
        standings.by_name().insert(config.name.clone(), standing);
        Self {
            config: Arc::new(config),
            with,
            standings,
            queue: Queue::default(),
            taking_over: BTreeMap::new(),
            noted: BTreeMap::new(),
            running: JoinSet::new(),
        }
    }

    async fn run(mut self, shutdown: CancellationToken) {
        let mut changes = self.with.warmer.changes();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.send_what_can_be();
            let wake_at = self.queue.wake_at();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(ended) = self.running.join_next() => match ended {
                    Ok((happening, outcome)) => self.ended(&happening, &outcome),
                    Err(error) => {
                        warn!(receiver = %self.config.name, %error, "a delivery ended by a defect");
                        self.queue.free();
                        self.queue.read_all_again();
                    }
                },
                told = changes.recv() => match told {
                    Ok(told) => self.told(&told),
                    // It is in the store.
                    Err(RecvError::Lagged(_)) => self.queue.read_all_again(),
                    Err(RecvError::Closed) => break,
                },
                () = until(wake_at), if wake_at.is_some_and(|at| at > Instant::now()) => {}
                _ = ticks.tick() => self.tick().await,
            }
            self.show();
        }
        // What is under way may be delivered once more after the next start.
        self.running.shutdown().await;
        if timeout(LONGEST_NOTE, self.note_all(true)).await.is_err() {
            warn!(receiver = %self.config.name, "how far a receiver was told is not noted: it will be told some of it again");
        }
    }

    fn now(&self) -> Timestamp {
        let now = self.with.clock.now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.now().as_millisecond()).unwrap_or(0)
    }

    fn told(&mut self, told: &Told) {
        match told {
            Told::Changed(change) => {
                if self.config.selection.wants(&change.repository, change.event.kind) {
                    self.queue.add(Happening::of(change.repository.clone(), change.event.clone()));
                }
            }
            Told::Missed(name) => {
                if self.config.selection.wants_name(name) {
                    self.queue.missed(name, self.now());
                }
            }
        }
    }

    fn send_what_can_be(&mut self) {
        while let Some(happening) = self.queue.next(Instant::now()) {
            let Some(payload) = Payload::of(&happening, self.config.format) else {
                // There are no words for it: it is as good as told.
                self.ended_by(&happening, &Outcome::Delivered);
                continue;
            };
            let (config, client) = (Arc::clone(&self.config), self.with.client.clone());
            let now = self.now().as_second();
            self.running.spawn(async move {
                let outcome = deliver(&client, &config, &payload, now).await;
                (happening, outcome)
            });
        }
    }

    fn ended_by(&mut self, happening: &Happening, outcome: &Outcome) -> Verdict {
        let now = (Instant::now(), self.now());
        self.queue.ended(happening, outcome, self.config.give_up_after, now, fastrand::f64())
    }

    fn ended(&mut self, happening: &Happening, outcome: &Outcome) {
        let verdict = self.ended_by(happening, outcome);
        self.with.metrics.notified(&self.config.name, verdict.as_str());
        let now = self.now();
        let mut standings = self.standings.by_name();
        let Some(standing) = standings.get_mut(&self.config.name) else { return };
        match outcome {
            Outcome::Delivered => {
                standing.sent += 1;
                (standing.last_sent_at, standing.last_error) = (Some(now), None);
            }
            Outcome::Refused(reason) | Outcome::Failed(reason, _) => {
                standing.last_error = Some(reason.clone());
                let name = &self.config.name;
                if verdict == Verdict::GivenUp {
                    warn!(receiver = %name, image.name = %happening.name, change = %happening.event.id, reason, "a receiver is not told of a change");
                } else {
                    debug!(receiver = %name, image.name = %happening.name, reason, "a receiver is told of a change later");
                }
            }
        }
    }

    fn show(&self) {
        let mut standings = self.standings.by_name();
        let Some(standing) = standings.get_mut(&self.config.name) else { return };
        standing.waiting = self.queue.pending();
        standing.waiting_since = self.queue.oldest();
        let left = self.queue.paused_until().and_then(|until| until.checked_duration_since(Instant::now()));
        standing.paused_for_seconds = left.map(|left| left.as_secs_f64());
        standing.dead_letters = self.queue.dead();
        self.with.metrics.set_notifications_waiting(&self.config.name, standing.waiting);
    }

    async fn tick(&mut self) {
        self.follow_lanes().await;
        for host in self.queue.to_read_again() {
            if let Some((told, dead)) = self.queue.place(&host)
                && let Err(error) = self.read(&host, told, dead).await
            {
                debug!(registry.host = host, %error, "what a receiver is to be told cannot be read");
            }
        }
        self.queue.settle(self.millis().saturating_sub(u64::try_from(BEHIND.as_millis()).unwrap_or(0)));
        self.note_all(false).await;
    }

    /// Takes over the hosts that are this replica's now, and lets go of those that are no longer.
    async fn follow_lanes(&mut self) {
        let lanes = self.with.warmer.lanes();
        let is_ours = |host: &String, held: bool| match lanes.get(host) {
            Some(LaneStanding::Ours) => true,
            // Nobody can tell: whoever told before goes on.
            Some(LaneStanding::Unleased) => held,
            Some(LaneStanding::Elsewhere) | None => false,
        };
        let gone: Vec<String> = self.queue.hosts().filter(|host| !is_ours(host, true)).cloned().collect();
        for host in gone {
            self.note(&host, true).await;
            self.queue.let_go(&host);
            self.noted.remove(&host);
        }
        self.taking_over.retain(|host, _| is_ours(host, false));
        let new: Vec<String> = lanes.keys().filter(|host| is_ours(host, false)).cloned().collect();
        for host in new {
            if self.queue.hosts().any(|held| *held == host) {
                continue;
            }
            let since = *self.taking_over.entry(host.clone()).or_insert_with(Instant::now);
            let is_complete = self
                .with
                .warmer
                .watch_list()
                .0
                .keys()
                .all(|name| name.host() != host || self.with.warmer.is_taken_over(name));
            if !is_complete && since.elapsed() < LONGEST_TAKING_OVER {
                continue;
            }
            match self.take_over(&host).await {
                Ok(()) => drop(self.taking_over.remove(&host)),
                Err(error) => {
                    debug!(registry.host = host, %error, "how far a receiver was told cannot be read");
                }
            }
        }
    }

    async fn take_over(&mut self, host: &str) -> Result<(), StoreError> {
        let entry = self.with.store.get(&self.key(host)).await?;
        let place: Option<Place> = stored::decode(entry.as_ref());
        let position = place.as_ref().and_then(|place| place.position.parse::<Position>().ok());
        let Some(told) = position else {
            // From now on: a receiver that is new is not told what was before.
            self.queue.take_over(host, Position::at(self.millis()), VecDeque::new(), Vec::new());
            self.note(host, true).await;
            return Ok(());
        };
        let dead = place.map(|place| place.dead).unwrap_or_default();
        self.read(host, told, dead).await
    }

    /// Reads what came after `told`.
    async fn read(
        &mut self,
        host: &str,
        told: Position,
        dead: VecDeque<DeadLetter>,
    ) -> Result<(), StoreError> {
        let wants =
            |name: &samovar_registry::Name| name.host() == host && self.config.selection.wants_name(name);
        let missed = feed::missed(&*self.with.store, &self.with.warmer, &told, wants, self.millis()).await?;
        let (since, gaps) = (missed.happenings, missed.gaps);
        let selection = &self.config.selection;
        let since: Vec<_> =
            since.into_iter().filter(|one| selection.wants(&one.name, one.event.kind)).collect();
        if since.len() > MOST_PENDING / 2 {
            info!(receiver = %self.config.name, registry.host = host, changes = since.len(), "a receiver has much to be told");
        }
        self.queue.take_over(host, told, dead, since);
        let now = self.now();
        for name in &gaps {
            self.queue.missed(name, now);
        }
        Ok(())
    }

    fn key(&self, host: &str) -> Key {
        Key::Notified(host.to_owned(), self.config.name.clone())
    }

    /// Notes how far the receiver was told, of all hosts.
    async fn note_all(&mut self, in_any_case: bool) {
        let hosts: Vec<String> = self.queue.hosts().cloned().collect();
        for host in hosts {
            self.note(&host, in_any_case).await;
        }
    }

    /// The same of one host. What the store does not take now is noted later.
    async fn note(&mut self, host: &str, in_any_case: bool) {
        let Some((told, dead)) = self.queue.place(host) else { return };
        let place = Place { position: told.to_string(), dead };
        if let Some((noted, at)) = self.noted.get(host) {
            let before: Position = noted.position.parse().unwrap_or_default();
            let is_known = noted.dead == place.dead && told.ahead().all(|(mark, id)| before.covers(mark, id));
            if *noted == place || (is_known && !in_any_case && at.elapsed() < NOTE_EVERY) {
                return;
            }
        }
        let entry = Entry::immutable(stored::encode(&place));
        match self.with.store.set(self.key(host), entry).await {
            Ok(()) => drop(self.noted.insert(host.to_owned(), (place, Instant::now()))),
            Err(error) => {
                debug!(receiver = %self.config.name, %error, "how far a receiver was told is not noted");
            }
        }
    }
}

impl Verdict {
    /// All of them, for metrics that show every label value from the start.
    const ALL: [Self; 3] = [Self::Sent, Self::Retried, Self::GivenUp];

    fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Retried => "retried",
            Self::GivenUp => "given_up",
        }
    }
}

/// How deliveries end, as metrics say it.
pub(crate) fn outcomes() -> [&'static str; 3] {
    Verdict::ALL.map(Verdict::as_str)
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
