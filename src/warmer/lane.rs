//! A lane: the work for one host. Lanes run side by side and never wait for one another.
//!
//! Where replicas share a store, only the one that holds the lane's lease works; the others keep their view of the host's
//! repositories fresh, so that they can go on at once, and hand on what they are asked for.

mod adopt;
mod hand_on;

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
use tracing::error;

use self::hand_on::{Exchanged, HandedOn};
use super::change::Cause;
use super::context::Context;
use super::kept_budget::KeptBudget;
use super::lease::{Keeper, Lease};
use super::pass::{Pass, PassOutcome, Problem, STORE_AGAIN, Scope, until};
use super::publish::WorkingCopy;
use super::requests::{Request, Requests};
use crate::sources::{Watch, WatchList};
use crate::store::StoreError;

/// Passes of different repositories that run at once in a lane; the host's budget decides how fast they go.
const MOST_PASSES: usize = 8;
/// Requests for single tags that run at once in a lane, beside the passes.
const MOST_TAG_REQUESTS: usize = 32;
/// The clock is looked at this often at least: the wall clock may leap.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// What panicked is tried again after this long.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// The work for one host.
pub(super) struct Lane {
    host: String,
    context: Arc<Context>,
    watch_list: watch::Receiver<Arc<WatchList>>,
    lease: Lease,
    /// When what could not be adopted is tried again.
    adopt_again_at: Option<Instant>,
    /// When to see how far the replica has come that holds the lease.
    look_again_at: Option<Instant>,
    handed_on: HandedOn,
    budget: KeptBudget,
    /// Bounded by [`Requests`], which lets no more than so many wait.
    incoming: mpsc::UnboundedReceiver<Request>,
    requests: Arc<Requests>,
    asked: VecDeque<Request>,
    repositories: HashMap<Name, Repository>,
    /// The repositories that wait for their time; those with a pass running are not in it.
    schedule: BTreeSet<(Timestamp, Name)>,
    running: JoinSet<Finished>,
    /// What waits for another replica, or for an answer to give to one.
    exchanges: JoinSet<Exchanged>,
    passes: usize,
    working_on: HashMap<Id, Name>,
}

/// Where the working copy of a repository is found while anybody works on it.
type CopySlot = Arc<tokio::sync::Mutex<Weak<WorkingCopy>>>;

/// One watched repository.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each of which may change alone")]
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
    /// The next pass asks again about tags that could not be asked about: it has other credentials.
    login_changed: bool,
    /// The last pass could not store what it learnt.
    store_failed: bool,
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
    Tag { wake_at: Option<Timestamp>, problem: Option<Problem>, request: Request },
}

/// Works on one host until shutdown.
pub(super) async fn run(
    host: String,
    context: Arc<Context>,
    watch_list: watch::Receiver<Arc<WatchList>>,
    incoming: mpsc::UnboundedReceiver<Request>,
    requests: Arc<Requests>,
) {
    let (mut keeper, lease) = Keeper::new(
        &host,
        &context.options.replica,
        context.options.unleased_share,
        Arc::clone(&context.store),
        Arc::clone(&context.upstreams),
    );
    context.leases().insert(host.clone(), lease.clone());
    let lane = Lane::new(host, context, watch_list, lease, incoming, requests);
    tokio::select! {
        () = lane.work() => {}
        never = keeper.run() => never,
    }
    keeper.give_back().await;
}

impl Lane {
    fn new(
        host: String,
        context: Arc<Context>,
        watch_list: watch::Receiver<Arc<WatchList>>,
        lease: Lease,
        incoming: mpsc::UnboundedReceiver<Request>,
        requests: Arc<Requests>,
    ) -> Self {
        Self {
            host,
            context,
            watch_list,
            lease,
            adopt_again_at: None,
            look_again_at: None,
            handed_on: HandedOn::default(),
            budget: KeptBudget::default(),
            incoming,
            requests,
            asked: VecDeque::new(),
            repositories: HashMap::new(),
            schedule: BTreeSet::new(),
            running: JoinSet::new(),
            exchanges: JoinSet::new(),
            passes: 0,
            working_on: HashMap::new(),
        }
    }

    /// Works until shutdown, then lets the passes store what they have learnt.
    async fn work(mut self) {
        let shutdown = self.context.shutdown.clone();
        let mut permitted = self.lease.permits();
        self.turned(permitted).await;
        self.adopt_watch_list().await;
        loop {
            if permitted {
                self.start_requests();
                self.start_passes();
            } else {
                self.hand_on_requests();
            }
            let pause = self.pause(permitted);
            let lease = self.lease.clone();
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(finished) = self.running.join_next_with_id() => self.finish(finished),
                Some(Ok(exchanged)) = self.exchanges.join_next() => self.exchanged(exchanged),
                Some(request) = self.incoming.recv() => self.asked.push_back(request),
                Ok(()) = self.watch_list.changed() => self.adopt_watch_list().await,
                () = until(self.adopt_again_at) => self.adopt_watch_list().await,
                () = until(self.look_again_at) => self.look_again().await,
                () = until(self.handed_on.take_at()) => self.take_handed_on().await,
                () = until(self.budget.save_at()) => self.save_budget().await,
                () = lease.turned_from(permitted) => {
                    permitted = !permitted;
                    self.turned(permitted).await;
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
        while let Some(finished) = self.running.join_next_with_id().await {
            self.finish(finished);
        }
        self.save_budget().await;
    }

    /// Stores what is known of the host's limits, if the lane is ours.
    async fn save_budget(&mut self) {
        if self.lease.permits() {
            self.budget.save(&self.context, &self.host).await;
        } else {
            self.budget.let_go();
        }
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
            Some(request) if request.wanted.mend => (Cause::Request, Scope::Mend),
            Some(_) => (Cause::Request, Scope::Everything),
            None => (Cause::Poll, Scope::Due),
        };
        self.schedule.remove(&(repository.wake_at, name.clone()));
        let interrupt = CancellationToken::new();
        repository.pass = Some(RunningPass { cause, interrupt: interrupt.clone() });
        repository.again = false;
        let list_again = std::mem::take(&mut repository.list_again);
        let opening = open_pass(&self.context, &self.lease, name, repository, cause, list_again, interrupt);
        repository.login_changed = false;
        self.passes += 1;
        self.context.running_passes.fetch_add(1, Ordering::Relaxed);
        let (name, working_on) = (name.clone(), name.clone());
        let task = self.running.spawn(async move {
            let outcome = match opening.await {
                Ok(pass) => {
                    let outcome = pass.run(scope).await;
                    pass.context.keep_unsaved(&pass.name, &pass.copy);
                    Ok(outcome)
                }
                Err(error) => Err(error),
            };
            Finished::Pass { name, outcome, request }
        });
        self.working_on.insert(task.id(), working_on);
    }

    fn start_tag(&mut self, request: Request) {
        let name = &request.wanted.name;
        let Some(repository) = self.repositories.get(name) else { return };
        let interrupt = CancellationToken::new();
        let opening =
            open_pass(&self.context, &self.lease, name, repository, Cause::Request, false, interrupt);
        self.running.spawn(async move {
            let (wake_at, problem) = match opening.await {
                Ok(pass) => {
                    let problem = match &request.wanted.tag {
                        Some(tag) => pass.run_for_tag(tag).await,
                        None => None,
                    };
                    pass.context.keep_unsaved(&pass.name, &pass.copy);
                    (pass.copy.state().next_wake(), problem)
                }
                Err(error) => (None, Some(Problem::from(error))),
            };
            Finished::Tag { wake_at, problem, request }
        });
    }

    fn finish(&mut self, finished: Result<(Id, Finished), JoinError>) {
        let now = self.context.clock.now();
        match finished {
            Ok((id, Finished::Pass { name, outcome, request })) => {
                self.working_on.remove(&id);
                self.pass_ended(&name, outcome.as_ref().map_or(now + STORE_AGAIN, |outcome| outcome.wake_at));
                if let Some(repository) = self.repositories.get_mut(&name) {
                    let problem = outcome.as_ref().map(|outcome| &outcome.problem);
                    repository.store_failed = matches!(problem, Err(_) | Ok(Some(Problem::Store(_))));
                }
                let Some(request) = request else { return };
                let problem = match outcome {
                    // Not done yet: once more, or the answer that the repository is gone.
                    Ok(PassOutcome { interrupted: true, .. }) => return self.asked.push_front(request),
                    Ok(PassOutcome { problem, .. }) => problem,
                    Err(error) => Some(error.into()),
                };
                self.answer(request, problem);
            }
            Ok((_, Finished::Tag { wake_at, problem, request })) => {
                self.wake_no_later(&request.wanted.name, wake_at);
                self.answer(request, problem);
            }
            Err(failed) => {
                error!(registry.host = self.host, error = %failed, "a refresh panicked");
                if let Some(name) = self.working_on.remove(&failed.id()) {
                    self.pass_ended(&name, now + TRY_AGAIN);
                }
            }
        }
    }

    /// Answers a request with how it went; what another replica is to do now is handed on to it.
    fn answer(&mut self, request: Request, problem: Option<Problem>) {
        match problem {
            None => request.answer(Ok(())),
            Some(Problem::Elsewhere) => self.asked.push_back(request),
            Some(problem) => request.answer(Err(problem.to_string().into())),
        }
    }

    fn pass_ended(&mut self, name: &Name, wake_at: Timestamp) {
        self.passes -= 1;
        self.context.running_passes.fetch_sub(1, Ordering::Relaxed);
        let Some(repository) = self.repositories.get_mut(name) else { return };
        repository.pass = None;
        if repository.gone {
            self.repositories.remove(name);
            self.context.forget(name);
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
    fn pause(&self, permitted: bool) -> Duration {
        if !permitted || self.passes >= MOST_PASSES {
            return LONGEST_SLEEP;
        }
        let Some((next, _)) = self.schedule.first() else { return LONGEST_SLEEP };
        let until = self.context.clock.now().duration_until(*next);
        Duration::try_from(until).unwrap_or_default().min(LONGEST_SLEEP)
    }
}

/// Prepares a pass over a repository; what is returned opens its working copy.
fn open_pass(
    context: &Arc<Context>,
    lease: &Lease,
    name: &Name,
    repository: &Repository,
    cause: Cause,
    list_again: bool,
    interrupt: CancellationToken,
) -> impl Future<Output = Result<Pass, StoreError>> + use<> {
    let (context, lease, name) = (Arc::clone(context), lease.clone(), name.clone());
    let (watch, slot) = (repository.watch.clone(), Arc::clone(&repository.copy));
    let (login_changed, store_failed) = (repository.login_changed, repository.store_failed);
    async move {
        let copy = open(&context, &name, &watch, &slot).await?;
        Ok(Pass {
            context,
            name,
            watch,
            copy,
            cause,
            lease,
            list_again,
            login_changed,
            store_failed,
            interrupt,
        })
    }
}

/// The working copy of a repository: the one that others work on now, or else a fresh one from the store. One that was
/// made for other platforms than are wanted now is given up; what it had not stored is found out again.
async fn open(
    context: &Context,
    name: &Name,
    watch: &Watch,
    slot: &CopySlot,
) -> Result<Arc<WorkingCopy>, StoreError> {
    let mut slot = slot.lock().await;
    let platforms = context.platforms(watch).to_string();
    if let Some(copy) = slot.upgrade().filter(|copy| !copy.is_overtaken()) {
        if copy.is_for(&platforms) {
            return Ok(copy);
        }
        copy.give_up();
    }
    let copy = Arc::new(WorkingCopy::load(&*context.store, name, &platforms, context.clock.now()).await?);
    *slot = Arc::downgrade(&copy);
    Ok(copy)
}
