//! A lane: the work for one host. Lanes run side by side and never wait for one another.
//!
//! Where replicas share a store, only the one that holds the lane's lease works; the others keep their view of the host's
//! repositories fresh, so that they can go on at once, and hand on what they are asked for.

mod adopt;
mod hand_on;
mod identities;
mod opening;
mod spread;
mod start;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use samovar_registry::Name;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::error;

use self::hand_on::{Exchanged, HandedOn};
use self::identities::Identities;
pub(super) use self::opening::CopySlot;
use super::change::Cause;
use super::context::Context;
use super::kept_budget::KeptBudget;
use super::lease::{Keeper, Lease};
use super::pass::{PassOutcome, Problem, STORE_AGAIN, until};
use super::queue::{Class, Identity, Needs, SharedQueue};
use super::requests::{Outcome, Request, Requests, Wanted};
use crate::sources::{Watch, WatchList};
use crate::store::StoreError;

/// Passes of different repositories that run at once in a lane; the host's budget decides how fast they go.
const MOST_PASSES: usize = 8;
/// Of these, passes that somebody asked for: one place is the schedule's, whoever asks for how much.
const MOST_ASKED_PASSES: usize = MOST_PASSES - 1;
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
    /// Tells that the lane works; see [`Context::at_work`].
    at_work: watch::Sender<bool>,
    /// A source asks the host: the lease is wanted though nothing of it is watched.
    serves_source: bool,
    /// Whether there is anything to hold the lease for.
    wants_lease: watch::Sender<bool>,
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
    /// Ordered, as whatever is gone through is: the same world and seed give the same requests.
    repositories: BTreeMap<Name, Repository>,
    /// The repositories that wait for their turn; those with a pass running are not in it.
    queue: SharedQueue,
    identities: Identities,
    running: JoinSet<Finished>,
    /// What waits for the entry of what is handed on, or for an answer to give to another replica.
    exchanges: JoinSet<Exchanged>,
    passes: usize,
    /// Those of them that somebody asked for.
    asked_passes: usize,
    working_on: HashMap<Id, Name>,
    /// What is under way and stays known until it is answered: documents, and tags that readers want.
    known: HashMap<Id, Wanted>,
}

/// One watched repository.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each of which may change alone")]
struct Repository {
    watch: Watch,
    identity: Identity,
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
    /// The turn that it has.
    class: Class,
    identity: Identity,
    started_at: Instant,
    /// Makes the pass end early, with what it has learnt stored.
    interrupt: CancellationToken,
}

/// What a task of the lane ended with.
enum Finished {
    Pass {
        name: Name,
        outcome: Result<PassOutcome, StoreError>,
        request: Option<Request>,
    },
    Tag {
        needs: Needs,
        problem: Option<Problem>,
        request: Request,
    },
    /// `None`: another replica is to fetch it.
    Document {
        outcome: Option<Outcome>,
        request: Request,
    },
}

/// What a lane is begun with.
pub(super) struct Beginning {
    pub(super) host: String,
    /// A source asks the host itself, so that there is something to do though nothing of it may be watched.
    pub(super) serves_source: bool,
    pub(super) context: Arc<Context>,
    pub(super) watch_list: watch::Receiver<Arc<WatchList>>,
    pub(super) incoming: mpsc::UnboundedReceiver<Request>,
    pub(super) requests: Arc<Requests>,
}

/// Works on one host until shutdown.
pub(super) async fn run(beginning: Beginning) {
    let (context, host) = (&beginning.context, &beginning.host);
    let (mut keeper, lease) = Keeper::new(
        host,
        &context.options.replica,
        context.options.unleased_share,
        Arc::clone(&context.store),
        Arc::clone(&context.upstreams),
    );
    context.leases().insert(host.clone(), lease.clone());
    let lane = Lane::new(beginning, lease, keeper.wanted());
    tokio::select! {
        biased;
        () = lane.work() => {}
        never = keeper.run() => never,
    }
    keeper.give_back().await;
}

impl Lane {
    fn new(beginning: Beginning, lease: Lease, wants_lease: watch::Sender<bool>) -> Self {
        let Beginning { host, serves_source, context, watch_list, incoming, requests } = beginning;
        let queue = SharedQueue::new(MOST_PASSES);
        context.queues().insert(host.clone(), queue.clone());
        Self {
            at_work: context.at_work(&host),
            serves_source,
            host,
            context,
            watch_list,
            lease,
            wants_lease,
            adopt_again_at: None,
            look_again_at: None,
            handed_on: HandedOn::default(),
            budget: KeptBudget::default(),
            incoming,
            requests,
            asked: VecDeque::new(),
            repositories: BTreeMap::new(),
            queue,
            identities: Identities::default(),
            running: JoinSet::new(),
            exchanges: JoinSet::new(),
            passes: 0,
            asked_passes: 0,
            working_on: HashMap::new(),
            known: HashMap::new(),
        }
    }

    /// Works until shutdown, then lets the passes store what they have learnt.
    async fn work(mut self) {
        let shutdown = self.context.shutdown.clone();
        let mut permitted = self.lease.permits();
        self.turned(permitted).await;
        self.adopt_watch_list().await;
        loop {
            self.settle_lease().await;
            self.at_work.send_if_modified(|at_work| std::mem::replace(at_work, permitted) != permitted);
            if permitted {
                self.start_requests();
                self.start_passes();
            } else {
                self.hand_on_requests();
            }
            let pause = self.pause(permitted);
            let lease = self.lease.clone();
            tokio::select! {
                // Always in the same order: the same world and seed give the same requests.
                biased;
                () = shutdown.cancelled() => break,
                () = lease.turned_from(permitted) => {
                    permitted = !permitted;
                    self.turned(permitted).await;
                }
                () = until(self.adopt_again_at) => self.adopt_watch_list().await,
                () = until(self.look_again_at) => self.look_again().await,
                () = until(self.handed_on.exchange_at()) => self.exchange(),
                () = until(self.budget.save_at()) => self.save_budget().await,
                Ok(()) = self.watch_list.changed() => self.adopt_watch_list().await,
                Some(request) = self.incoming.recv() => self.asked.push_back(request),
                Some(Ok(exchanged)) = self.exchanges.join_next() => self.exchanged(exchanged),
                Some(finished) = self.running.join_next_with_id() => self.finish(finished),
                () = tokio::time::sleep(pause) => {}
            }
        }
        while let Some(finished) = self.running.join_next_with_id().await {
            self.finish(finished);
        }
        self.save_budget().await;
    }

    /// The lease is for those that have something to do with it: while nothing of the host is watched here, another replica
    /// that watches something has it.
    async fn settle_lease(&mut self) {
        let is_wanted = self.serves_source
            || !self.repositories.is_empty()
            || self.watch_list.borrow().0.keys().any(|name| name.host() == self.host);
        if *self.wants_lease.borrow() == is_wanted {
            return;
        }
        if !is_wanted {
            self.save_budget().await;
        }
        self.wants_lease.send_replace(is_wanted);
    }

    /// Stores what is known of the host's limits, if the lane is ours.
    async fn save_budget(&mut self) {
        if self.lease.permits() {
            self.budget.save(&self.context, &self.host).await;
        } else {
            self.budget.let_go();
        }
    }

    fn finish(&mut self, finished: Result<(Id, Finished), JoinError>) {
        let now = self.context.clock.now();
        match finished {
            Ok((id, Finished::Pass { name, outcome, request })) => {
                self.working_on.remove(&id);
                self.pass_ended(&name, |class| match &outcome {
                    Ok(outcome) => outcome.needs,
                    Err(_) => Needs::at(class, now + STORE_AGAIN),
                });
                if let Some(repository) = self.repositories.get_mut(&name) {
                    let problem = outcome.as_ref().map(|outcome| &outcome.problem);
                    repository.store_failed = matches!(problem, Err(_) | Ok(Some(Problem::Store(_))));
                }
                let Some(mut request) = request else { return };
                let problem = match outcome {
                    // Not done yet: the rest, or the answer that the repository is gone.
                    Ok(PassOutcome { interrupted: true, .. }) => {
                        request.begun = true;
                        return self.ask_again(request);
                    }
                    Ok(PassOutcome { problem, .. }) => problem,
                    Err(error) => Some(error.into()),
                };
                self.answer(request, problem);
            }
            Ok((id, Finished::Tag { needs, problem, request })) => {
                self.known.remove(&id);
                // The repository may have to wake earlier.
                self.queue.lock().add(&request.wanted.name, needs);
                if !request.wanted.is_known_until_answered() {
                    return self.answer(request, problem);
                }
                if problem == Some(Problem::Elsewhere) {
                    return self.asked.push_front(request);
                }
                self.requests.started(&request.wanted);
                self.answer(request, problem);
            }
            Ok((id, Finished::Document { outcome, request })) => {
                self.known.remove(&id);
                match outcome {
                    Some(outcome) => {
                        self.requests.started(&request.wanted);
                        request.answer(&outcome);
                    }
                    None => self.asked.push_front(request),
                }
            }
            Err(failed) => {
                error!(registry.host = self.host, error = %failed, "a refresh panicked");
                if let Some(wanted) = self.known.remove(&failed.id()) {
                    self.requests.started(&wanted);
                }
                if let Some(name) = self.working_on.remove(&failed.id()) {
                    self.pass_ended(&name, |class| Needs::at(class, now + TRY_AGAIN));
                }
            }
        }
    }

    /// Answers a request with how it went; what another replica is to do now is handed on to it.
    fn answer(&mut self, request: Request, problem: Option<Problem>) {
        match problem {
            None => request.answer(&Ok(None)),
            Some(Problem::Elsewhere) => self.ask_again(request),
            Some(problem) => request.answer(&Err(problem.to_string().into())),
        }
    }

    /// A request that was begun waits once more, before those that came later.
    fn ask_again(&mut self, request: Request) {
        if let Some(request) = self.requests.waits_again(request) {
            self.asked.push_front(request);
        }
    }

    /// `needs` is told the class of the turn that is over.
    fn pass_ended(&mut self, name: &Name, needs: impl FnOnce(Class) -> Needs) {
        self.passes -= 1;
        self.context.running_passes.fetch_sub(1, Ordering::Relaxed);
        let Some(repository) = self.repositories.get_mut(name) else { return };
        let Some(pass) = repository.pass.take() else { return };
        self.asked_passes -= usize::from(pass.cause != Cause::Poll);
        if repository.gone {
            self.queue.lock().ended(pass.identity);
            self.drop_repository(name);
            return;
        }
        let again = repository.again.then(|| self.context.clock.now());
        // Whoever asked for it has been told by now.
        let needs = needs(pass.class.max(Class::New)).with(Class::Due, again);
        self.queue.lock().comes_back(pass.identity, name, repository.identity, needs);
    }

    /// How long nothing will be due.
    fn pause(&self, permitted: bool) -> Duration {
        if !permitted || self.passes >= MOST_PASSES {
            return LONGEST_SLEEP;
        }
        let asked_too = self.asked_passes < MOST_ASKED_PASSES;
        let Some(next) = self.queue.lock().next_at(asked_too) else { return LONGEST_SLEEP };
        let until = self.context.clock.now().duration_until(next);
        Duration::try_from(until).unwrap_or_default().min(LONGEST_SLEEP)
    }
}
