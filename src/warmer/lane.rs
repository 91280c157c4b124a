//! A lane: the work for one host. Lanes run side by side and never wait for one another.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::Name;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::change::Cause;
use super::context::{Context, RepositoryOverview};
use super::pass::{Pass, PassOutcome, Problem, Scope, until};
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
    /// When what could not be adopted is tried again.
    adopt_again_at: Option<Instant>,
    /// Bounded by [`Requests`], which lets no more than so many wait.
    incoming: mpsc::UnboundedReceiver<Request>,
    requests: Arc<Requests>,
    asked: VecDeque<Request>,
    repositories: HashMap<Name, Repository>,
    /// The repositories that wait for their time; those with a pass running are not in it.
    schedule: BTreeSet<(Timestamp, Name)>,
    running: JoinSet<Finished>,
    passes: usize,
    working_on: HashMap<Id, Name>,
}

/// Where the working copy of a repository is found while anybody works on it.
type CopySlot = Arc<tokio::sync::Mutex<Weak<WorkingCopy>>>;

/// One watched repository.
struct Repository {
    watch: Watch,
    /// Its place in the schedule.
    wake_at: Timestamp,
    pass: Option<RunningPass>,
    /// Something happened during the pass that the next one, at once, has to see to.
    again: bool,
    /// It is no longer watched; it goes when its pass has ended.
    gone: bool,
    /// The next pass lists even if the list could not be read lately: what was in the way may be gone.
    list_again: bool,
    copy: CopySlot,
}

/// A pass that runs. Another one, or what was asked for meanwhile, waits for its end.
struct RunningPass {
    cause: Cause,
    /// Makes the pass end early, with what it has learnt stored.
    interrupt: CancellationToken,
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
            adopt_again_at: None,
            incoming,
            requests,
            asked: VecDeque::new(),
            repositories: HashMap::new(),
            schedule: BTreeSet::new(),
            running: JoinSet::new(),
            passes: 0,
            working_on: HashMap::new(),
        }
    }

    /// Works until shutdown, then lets the passes store what they have learnt.
    pub(super) async fn run(mut self) {
        let shutdown = self.context.shutdown.clone();
        self.adopt_watch_list().await;
        loop {
            self.start_requests();
            self.start_passes();
            let pause = self.pause();
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(finished) = self.running.join_next_with_id() => self.finish(finished),
                Some(request) = self.incoming.recv() => self.asked.push_back(request),
                Ok(()) = self.watch_list.changed() => self.adopt_watch_list().await,
                () = until(self.adopt_again_at) => self.adopt_watch_list().await,
                () = tokio::time::sleep(pause) => {}
            }
        }
        while let Some(finished) = self.running.join_next_with_id().await {
            self.finish(finished);
        }
    }

    /// Takes over what of the watch list is on this host. Repositories that are new here continue where the store
    /// says that they were.
    async fn adopt_watch_list(&mut self) {
        let watch_list = Arc::clone(&self.watch_list.borrow_and_update());
        let ours: HashMap<&Name, &Watch> =
            watch_list.0.iter().filter(|(name, _)| name.host() == self.host).collect();
        let gone = self.repositories.keys().filter(|name| !ours.contains_key(name));
        for name in gone.cloned().collect::<Vec<_>>() {
            self.let_go(&name);
        }
        self.adopt_again_at = None;
        for (name, watch) in ours {
            if self.repositories.contains_key(name) {
                self.adopt_watch(name, watch);
            } else if let Err(error) = self.adopt_repository(name, watch).await {
                warn!(image.name = %name, error = %error, "the store cannot tell where the repository stood");
                self.adopt_again_at = Some(Instant::now() + TRY_AGAIN);
            }
        }
    }

    /// A repository that is no longer watched; a pass that runs on it is ended first.
    fn let_go(&mut self, name: &Name) {
        let Some(repository) = self.repositories.get_mut(name) else { return };
        if let Some(pass) = &repository.pass {
            repository.gone = true;
            pass.interrupt.cancel();
            return;
        }
        self.schedule.remove(&(repository.wake_at, name.clone()));
        self.repositories.remove(name);
        self.context.overview().remove(name);
    }

    /// A repository that is watched already, perhaps in another way than before.
    fn adopt_watch(&mut self, name: &Name, watch: &Watch) {
        let Some(repository) = self.repositories.get_mut(name) else { return };
        if repository.watch == *watch && !repository.gone {
            return;
        }
        repository.watch = watch.clone();
        repository.gone = false;
        repository.list_again = true;
        if let Some(pass) = &repository.pass {
            repository.again = true;
            pass.interrupt.cancel();
        } else {
            let now = self.context.clock.now();
            self.schedule_at(name, now);
        }
    }

    async fn adopt_repository(&mut self, name: &Name, watch: &Watch) -> Result<(), StoreError> {
        let wake_at = self.resume(name, watch).await?;
        let repository = Repository {
            watch: watch.clone(),
            wake_at,
            pass: None,
            again: false,
            gone: false,
            list_again: true,
            copy: CopySlot::default(),
        };
        self.repositories.insert(name.clone(), repository);
        self.schedule.insert((wake_at, name.clone()));
        Ok(())
    }

    /// Where the store says that a repository stood; one that it does not know is made known.
    async fn resume(&self, name: &Name, watch: &Watch) -> Result<Timestamp, StoreError> {
        let store = &*self.context.store;
        let loaded = load(store, name, Pages::None).await?;
        let now = self.context.clock.now();
        let overview = loaded.head.as_ref().map_or_else(RepositoryOverview::default, |head| {
            RepositoryOverview { counts: head.counts, complete: head.complete, listed: true }
        });
        self.context.overview().insert(name.clone(), overview);
        let Some(side) = loaded.side else {
            let side = Entry::immutable(stored::encode(&Side::default()));
            store.set(Key::Side(name.clone()), side).await?;
            return Ok(now);
        };
        let platforms = self.context.options.platforms.to_string();
        if side.attempts > 0 || loaded.head.is_none_or(|head| head.platforms != platforms) {
            return Ok(now);
        }
        let interval = watch.poll_interval.unwrap_or(self.context.options.poll_interval);
        let listing = next_listing(&side, &watch.tags, interval);
        Ok(side.next_wake.zip(listing).map_or(now, |(wake, listing)| wake.min(listing)))
    }

    fn schedule_at(&mut self, name: &Name, wake_at: Timestamp) {
        let Some(repository) = self.repositories.get_mut(name) else { return };
        self.schedule.remove(&(repository.wake_at, name.clone()));
        repository.wake_at = wake_at;
        self.schedule.insert((wake_at, name.clone()));
    }

    /// Starts what was asked for, as far as there is room and no pass on the same repository is in the way.
    fn start_requests(&mut self) {
        for request in std::mem::take(&mut self.asked) {
            if let Some(waiting) = self.start_request(request) {
                self.asked.push_back(waiting);
            }
        }
    }

    /// Starts one request, or gives it back.
    fn start_request(&mut self, request: Request) -> Option<Request> {
        let name = request.wanted.name.clone();
        let Some(repository) = self.repositories.get(&name).filter(|repository| !repository.gone) else {
            if self.watch_list.borrow().0.contains_key(&name) {
                return Some(request); // about to be adopted
            }
            self.requests.started(&request.wanted);
            request.answer(Err("the repository is no longer watched".into()));
            return None;
        };
        let listed = self.context.overview().get(&name).is_some_and(|overview| overview.listed);
        if request.wanted.tag.is_some() && listed {
            if self.running.len() - self.passes >= MOST_TAG_REQUESTS {
                return Some(request);
            }
            self.requests.started(&request.wanted);
            self.start_tag(request);
            return None;
        }
        if let Some(pass) = &repository.pass {
            // What the schedule asks for gives way to what somebody asks for.
            if pass.cause == Cause::Poll && listed {
                pass.interrupt.cancel();
            }
            return Some(request);
        }
        if self.passes >= MOST_PASSES {
            self.make_room();
            return Some(request);
        }
        self.requests.started(&request.wanted);
        self.start_pass(&name, Some(request));
        None
    }

    /// Lets one pass that the schedule has started end early, unless one is about to: it goes on later.
    fn make_room(&self) {
        let passes = || self.repositories.values().filter_map(|repository| repository.pass.as_ref());
        if passes().any(|pass| pass.interrupt.is_cancelled()) {
            return;
        }
        if let Some(pass) = passes().find(|pass| pass.cause == Cause::Poll) {
            pass.interrupt.cancel();
        }
    }

    /// Starts the passes that are due, the longest overdue first.
    fn start_passes(&mut self) {
        let now = self.context.clock.now();
        let room = MOST_PASSES.saturating_sub(self.passes);
        let due = self.schedule.iter().take_while(|(wake_at, _)| *wake_at <= now).take(room);
        for name in due.map(|(_, name)| name.clone()).collect::<Vec<_>>() {
            self.start_pass(&name, None);
        }
    }

    fn start_pass(&mut self, name: &Name, request: Option<Request>) {
        let Some(repository) = self.repositories.get_mut(name) else { return };
        let (cause, scope) = match &request {
            Some(_) => (Cause::Request, Scope::Everything),
            None => (Cause::Poll, Scope::Due),
        };
        self.schedule.remove(&(repository.wake_at, name.clone()));
        let interrupt = CancellationToken::new();
        repository.pass = Some(RunningPass { cause, interrupt: interrupt.clone() });
        repository.again = false;
        let list_again = std::mem::take(&mut repository.list_again);
        let (context, watch) = (Arc::clone(&self.context), repository.watch.clone());
        let (slot, name) = (Arc::clone(&repository.copy), name.clone());
        self.passes += 1;
        self.context.running_passes.fetch_add(1, Ordering::Relaxed);
        let working_on = name.clone();
        let task = self.running.spawn(async move {
            let outcome = match open(&context, &name, &slot).await {
                Ok(copy) => {
                    let pass =
                        Pass { context, name: name.clone(), watch, copy, cause, list_again, interrupt };
                    Ok(pass.run(scope).await)
                }
                Err(error) => Err(error),
            };
            Finished::Pass { name, outcome, request }
        });
        self.working_on.insert(task.id(), working_on);
    }

    fn start_tag(&mut self, request: Request) {
        let name = request.wanted.name.clone();
        let Some(repository) = self.repositories.get_mut(&name) else { return };
        let (context, watch) = (Arc::clone(&self.context), repository.watch.clone());
        let slot = Arc::clone(&repository.copy);
        self.running.spawn(async move {
            let (wake_at, problem) = match open(&context, &name, &slot).await {
                Ok(copy) => {
                    let interrupt = CancellationToken::new();
                    let cause = Cause::Request;
                    let pass = Pass { context, name, watch, copy, cause, list_again: false, interrupt };
                    let problem = match &request.wanted.tag {
                        Some(tag) => pass.run_for_tag(tag).await,
                        None => None,
                    };
                    (pass.copy.state().next_wake(), problem)
                }
                Err(error) => (None, Some(Problem::from(error))),
            };
            let result = problem.map_or(Ok(()), |problem| Err(problem.to_string().into()));
            Finished::Tag { wake_at, result, request }
        });
    }

    fn finish(&mut self, finished: Result<(Id, Finished), JoinError>) {
        let try_again = self.context.clock.now() + TRY_AGAIN;
        match finished {
            Ok((id, Finished::Pass { name, outcome, request })) => {
                self.working_on.remove(&id);
                self.pass_ended(&name, outcome.as_ref().map_or(try_again, |outcome| outcome.wake_at));
                let Some(request) = request else { return };
                let result = match outcome {
                    Ok(PassOutcome { interrupted: true, .. }) => {
                        // Not done yet: once more, or the answer that the repository is gone.
                        self.asked.push_front(request);
                        return;
                    }
                    Ok(PassOutcome { problem, .. }) => problem.map(|problem| problem.to_string()),
                    Err(error) => Some(error.to_string()),
                };
                request.answer(result.map_or(Ok(()), |problem| Err(problem.into())));
            }
            Ok((_, Finished::Tag { wake_at, result, request })) => {
                self.wake_no_later(&request.wanted.name, wake_at);
                request.answer(result);
            }
            Err(failed) => {
                error!(registry.host = self.host, error = %failed, "a refresh panicked");
                if let Some(name) = self.working_on.remove(&failed.id()) {
                    self.pass_ended(&name, try_again);
                }
            }
        }
    }

    fn pass_ended(&mut self, name: &Name, wake_at: Timestamp) {
        self.passes -= 1;
        self.context.running_passes.fetch_sub(1, Ordering::Relaxed);
        let Some(repository) = self.repositories.get_mut(name) else { return };
        repository.pass = None;
        if repository.gone {
            self.repositories.remove(name);
            self.context.overview().remove(name);
            return;
        }
        let now = self.context.clock.now();
        repository.wake_at = if repository.again { now } else { wake_at };
        self.schedule.insert((repository.wake_at, name.clone()));
    }

    /// A tag was asked about on its own: the repository may have to wake earlier.
    fn wake_no_later(&mut self, name: &Name, wake_at: Option<Timestamp>) {
        let (Some(wake_at), Some(repository)) = (wake_at, self.repositories.get(name)) else { return };
        if repository.pass.is_none() && wake_at < repository.wake_at {
            self.schedule_at(name, wake_at);
        }
    }

    /// How long nothing will be due.
    fn pause(&self) -> Duration {
        if self.passes >= MOST_PASSES {
            return LONGEST_SLEEP;
        }
        let Some((next, _)) = self.schedule.first() else { return LONGEST_SLEEP };
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
