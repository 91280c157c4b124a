//! A lane: the work for one host. Lanes run side by side and never wait for one another.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::Name;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinSet};
use tracing::{error, warn};

use super::change::Cause;
use super::context::{Context, RepositoryOverview};
use super::pass::{Pass, PassOutcome, Problem, Scope};
use super::publish::WorkingCopy;
use super::requests::{RefreshResult, Request, Requests};
use super::working_copy::next_listing;
use crate::cache::stored::{self, Pages, Side, load};
use crate::sources::{Watch, WatchList};
use crate::store::{Entry, Key, StoreError};

/// Passes of different repositories that run at once in a lane; the host's budget decides how fast they go.
const MOST_PASSES: usize = 8;
/// Requests for single tags that run at once in a lane, beside the passes.
const MOST_TAG_REQUESTS: usize = 32;
/// The clock is looked at this often at least: the wall clock may leap.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// What could not be loaded from the store, or panicked, is tried again after this long.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// The work for one host.
pub(super) struct Lane {
    host: String,
    context: Arc<Context>,
    watch_list: watch::Receiver<Arc<WatchList>>,
    /// Bounded by [`Requests`], which lets no more than so many wait.
    incoming: mpsc::UnboundedReceiver<Request>,
    requests: Arc<Requests>,
    repositories: HashMap<Name, Repository>,
    schedule: BTreeSet<(Timestamp, Name)>,
    asked: VecDeque<Request>,
    running: JoinSet<Finished>,
    passes: usize,
    working_on: HashMap<Id, Name>,
}

/// Where the working copy of a repository is found while anybody works on it.
type CopySlot = Arc<tokio::sync::Mutex<Weak<WorkingCopy>>>;

/// One watched repository.
struct Repository {
    watch: Watch,
    wake_at: Timestamp,
    /// A pass is running: another one, or what was asked for meanwhile, waits for its end.
    running: bool,
    copy: CopySlot,
}

/// What a task of the lane ended with.
enum Finished {
    Pass { name: Name, outcome: Result<PassOutcome, StoreError>, request: Option<Request> },
    Tag { wake_at: Option<Timestamp>, result: RefreshResult, request: Request },
}

impl Lane {
    pub(super) fn new(
        host: String,
        context: Arc<Context>,
        watch_list: watch::Receiver<Arc<WatchList>>,
        incoming: mpsc::UnboundedReceiver<Request>,
        requests: Arc<Requests>,
    ) -> Self {
        Self {
            host,
            context,
            watch_list,
            incoming,
            requests,
            repositories: HashMap::new(),
            schedule: BTreeSet::new(),
            asked: VecDeque::new(),
            running: JoinSet::new(),
            passes: 0,
            working_on: HashMap::new(),
        }
    }

    /// Works until shutdown, then lets the passes store what they have learnt.
    pub(super) async fn run(mut self) {
        let mut adopted = self.adopt_watch_list().await;
        loop {
            self.start_requests();
            self.start_passes();
            let pause = self.pause(adopted.is_err());
            let shutdown = self.context.shutdown.clone();
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(finished) = self.running.join_next_with_id() => self.finish(finished),
                Some(request) = self.incoming.recv() => self.asked.push_back(request),
                Ok(()) = self.watch_list.changed() => adopted = self.adopt_watch_list().await,
                () = tokio::time::sleep(pause) => {
                    if adopted.is_err() {
                        adopted = self.adopt_watch_list().await;
                    }
                }
            }
        }
        while let Some(finished) = self.running.join_next_with_id().await {
            self.finish(finished);
        }
    }

    /// Takes over what of the watch list is on this host. Repositories that are new here continue where the store
    /// says that they were.
    async fn adopt_watch_list(&mut self) -> Result<(), StoreError> {
        let watch_list = Arc::clone(&self.watch_list.borrow_and_update());
        let ours: HashMap<&Name, &Watch> =
            watch_list.0.iter().filter(|(name, _)| name.host() == self.host).collect();
        let gone: Vec<Name> =
            self.repositories.keys().filter(|name| !ours.contains_key(name)).cloned().collect();
        for name in gone {
            if let Some(repository) = self.repositories.remove(&name) {
                self.schedule.remove(&(repository.wake_at, name.clone()));
                self.context.overview().remove(&name);
            }
        }
        for (name, watch) in ours {
            if let Some(repository) = self.repositories.get_mut(name) {
                if repository.watch != *watch {
                    repository.watch = watch.clone();
                    let now = self.context.clock.now();
                    self.schedule_at(name, now);
                }
                continue;
            }
            let wake_at = self.resume(name, watch).await.inspect_err(|error| {
                warn!(image.name = %name, error = %error, "the store cannot tell where the repository stood");
            })?;
            let repository =
                Repository { watch: watch.clone(), wake_at, running: false, copy: CopySlot::default() };
            self.schedule.insert((wake_at, name.clone()));
            self.repositories.insert(name.clone(), repository);
        }
        Ok(())
    }

    /// Where the store says that a repository stood; one that it does not know is made known.
    async fn resume(&self, name: &Name, watch: &Watch) -> Result<Timestamp, StoreError> {
        let store = &*self.context.store;
        let loaded = load(store, name, Pages::None).await?;
        let now = self.context.clock.now();
        let listed = loaded.head.is_some();
        if let Some(head) = loaded.head {
            let overview = RepositoryOverview { counts: head.counts, complete: head.complete, listed };
            self.context.overview().insert(name.clone(), overview);
            let same_platforms = head.platforms == self.context.options.platforms.to_string();
            let side = loaded.side.filter(|_| same_platforms).unwrap_or_default();
            let interval = watch.poll_interval.unwrap_or(self.context.options.poll_interval);
            let listing = next_listing(&side, &watch.tags, interval);
            return Ok(side.next_wake.zip(listing).map_or(now, |(wake, listing)| wake.min(listing)));
        }
        self.context.overview().insert(name.clone(), RepositoryOverview::default());
        if loaded.side.is_none() {
            let side = Entry::immutable(stored::encode(&Side::default()));
            store.set(Key::Side(name.clone()), side).await?;
        }
        Ok(now)
    }

    fn schedule_at(&mut self, name: &Name, wake_at: Timestamp) {
        if let Some(repository) = self.repositories.get_mut(name) {
            self.schedule.remove(&(repository.wake_at, name.clone()));
            repository.wake_at = wake_at;
            self.schedule.insert((wake_at, name.clone()));
        }
    }

    /// Starts what was asked for, as far as there is room and no pass on the same repository is in the way.
    fn start_requests(&mut self) {
        let mut waiting = VecDeque::new();
        while let Some(request) = self.asked.pop_front() {
            let Some(repository) = self.repositories.get(&request.wanted.name) else {
                self.requests.started(&request.wanted);
                request.answer(Err("the repository is no longer watched".into()));
                continue;
            };
            let room = match request.wanted.tag {
                Some(_) => self.running.len() - self.passes < MOST_TAG_REQUESTS,
                None => !repository.running,
            };
            if !room {
                waiting.push_back(request);
                continue;
            }
            self.requests.started(&request.wanted);
            if request.wanted.tag.is_some() {
                self.start_tag(request);
            } else {
                let name = request.wanted.name.clone();
                self.start_pass(&name, Some(request));
            }
        }
        self.asked = waiting;
    }

    /// Starts the passes that are due, the longest overdue first.
    fn start_passes(&mut self) {
        let now = self.context.clock.now();
        let mut due = Vec::new();
        for (wake_at, name) in &self.schedule {
            if *wake_at > now || self.passes + due.len() >= MOST_PASSES {
                break;
            }
            if self.repositories.get(name).is_some_and(|repository| !repository.running) {
                due.push(name.clone());
            }
        }
        for name in due {
            self.start_pass(&name, None);
        }
    }

    fn start_pass(&mut self, name: &Name, request: Option<Request>) {
        let cause = if request.is_some() { Cause::Request } else { Cause::Poll };
        let scope = if request.is_some() { Scope::Everything } else { Scope::Due };
        let Some(repository) = self.repositories.get_mut(name) else {
            return;
        };
        repository.running = true;
        // Out of the schedule until it ends.
        self.schedule.remove(&(repository.wake_at, name.clone()));
        let (context, watch) = (Arc::clone(&self.context), repository.watch.clone());
        let slot = Arc::clone(&repository.copy);
        let name = name.clone();
        self.passes += 1;
        self.context.running_passes.fetch_add(1, Ordering::Relaxed);
        let working_on = name.clone();
        let task = self.running.spawn(async move {
            let outcome = async {
                let copy = open(&context, &name, &slot).await?;
                Ok(Pass { context, name: name.clone(), watch, copy, cause }.run(scope).await)
            };
            let outcome = outcome.await;
            Finished::Pass { name, outcome, request }
        });
        self.working_on.insert(task.id(), working_on);
    }

    fn start_tag(&mut self, request: Request) {
        let name = request.wanted.name.clone();
        let Some(repository) = self.repositories.get(&name) else {
            return;
        };
        let (context, watch) = (Arc::clone(&self.context), repository.watch.clone());
        let slot = Arc::clone(&repository.copy);
        self.running.spawn(async move {
            let shutdown = context.shutdown.clone();
            let refreshed = async {
                let copy = open(&context, &name, &slot).await.map_err(Problem::from)?;
                let pass = Pass { context, name, watch, copy, cause: Cause::Request };
                let listed = pass.copy.state().listed;
                let problem = match &request.wanted.tag {
                    Some(tag) if listed => pass.run_for_tag(tag).await,
                    _ => pass.run(Scope::Due).await.problem,
                };
                problem.map_or_else(|| Ok(pass.copy.state().next_wake()), Err)
            };
            let refreshed = tokio::select! {
                refreshed = refreshed => refreshed,
                () = shutdown.cancelled() => Err(Problem::Stopped),
            };
            let wake_at = refreshed.as_ref().ok().copied().flatten();
            Finished::Tag {
                wake_at,
                result: refreshed.map(drop).map_err(|problem| problem.to_string().into()),
                request,
            }
        });
    }

    fn finish(&mut self, finished: Result<(Id, Finished), tokio::task::JoinError>) {
        let now = self.context.clock.now();
        match finished {
            Ok((id, Finished::Pass { name, outcome, request })) => {
                self.working_on.remove(&id);
                self.pass_ended(&name, outcome.as_ref().map_or(now + TRY_AGAIN, |outcome| outcome.wake_at));
                if let Some(request) = request {
                    request.answer(match outcome {
                        Ok(PassOutcome { problem: None, .. }) => Ok(()),
                        Ok(PassOutcome { problem: Some(problem), .. }) => Err(problem.to_string().into()),
                        Err(error) => Err(error.to_string().into()),
                    });
                }
            }
            Ok((_, Finished::Tag { wake_at, result, request })) => {
                self.wake_no_later(&request.wanted.name, wake_at);
                request.answer(result);
            }
            Err(failed) => {
                error!(registry.host = self.host, error = %failed, "a refresh panicked");
                if let Some(name) = self.working_on.remove(&failed.id()) {
                    self.pass_ended(&name, now + TRY_AGAIN);
                }
            }
        }
    }

    fn pass_ended(&mut self, name: &Name, wake_at: Timestamp) {
        self.passes -= 1;
        self.context.running_passes.fetch_sub(1, Ordering::Relaxed);
        if let Some(repository) = self.repositories.get_mut(name) {
            repository.running = false;
            repository.wake_at = wake_at;
            self.schedule.insert((wake_at, name.clone()));
        }
    }

    /// A tag was asked about on its own: the repository may have to wake earlier.
    fn wake_no_later(&mut self, name: &Name, wake_at: Option<Timestamp>) {
        let Some(wake_at) = wake_at else { return };
        if self
            .repositories
            .get(name)
            .is_some_and(|repository| !repository.running && wake_at < repository.wake_at)
        {
            self.schedule_at(name, wake_at);
        }
    }

    /// How long nothing will be due.
    fn pause(&self, store_is_away: bool) -> Duration {
        if store_is_away {
            return TRY_AGAIN;
        }
        let Some((next, _)) = self.schedule.first() else {
            return LONGEST_SLEEP;
        };
        if self.passes >= MOST_PASSES {
            return LONGEST_SLEEP;
        }
        let until = self.context.clock.now().duration_until(*next);
        Duration::try_from(until).unwrap_or_default().min(LONGEST_SLEEP)
    }
}

/// The working copy of a repository: the one that others work on now, or else a fresh one from the store.
async fn open(context: &Context, name: &Name, slot: &CopySlot) -> Result<Arc<WorkingCopy>, StoreError> {
    let mut slot = slot.lock().await;
    if let Some(copy) = slot.upgrade() {
        return Ok(copy);
    }
    let platforms = context.options.platforms.to_string();
    let copy = Arc::new(WorkingCopy::load(&*context.store, name, &platforms).await?);
    *slot = Arc::downgrade(&copy);
    Ok(copy)
}
