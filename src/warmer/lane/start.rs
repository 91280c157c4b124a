//! Starting what is next: what somebody asked for, and whoever's turn it is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use samovar_registry::Name;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::opening::{Opening, Resources};
use super::{Finished, Lane, MOST_ASKED_PASSES, RunningPass};
use crate::sources::Watch;
use crate::warmer::change::Cause;
use crate::warmer::document::Fetching;
use crate::warmer::pass::{Problem, Scope};
use crate::warmer::queue::{Class, Needs, Turn};
use crate::warmer::requests::Request;

/// Requests for single tags that run at once in a lane, beside the passes.
const MOST_TAG_REQUESTS: usize = 32;
/// Documents that readers wait for and that are fetched at once in a lane, beside both.
const MOST_DOCUMENT_REQUESTS: usize = 32;

impl Lane {
    /// Starts what was asked for, as far as there is room and no pass on the same repository is in the way; what is for a
    /// whole repository gets its place in the queue.
    pub(super) fn start_requests(&mut self) {
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
            request.answer(&Err("the repository is no longer watched".into()));
            return None;
        };
        if request.wanted.piece.is_some() {
            if self.documents() >= MOST_DOCUMENT_REQUESTS {
                return Some(request);
            }
            let watch = repository.watch.clone();
            self.start_document(request, watch);
            return None;
        }
        let listed = self.is_listed(&name);
        if request.wanted.tag.is_some() && listed {
            if self.running.len() - self.passes - self.documents() >= MOST_TAG_REQUESTS {
                return Some(request);
            }
            if !request.wanted.is_known_until_answered() {
                self.requests.started(&request.wanted);
            }
            self.start_tag(request);
            return None;
        }
        match &repository.pass {
            // What the schedule asks for gives way to what somebody asks for.
            Some(pass) if pass.cause == Cause::Poll && listed => pass.interrupt.cancel(),
            Some(_) => {}
            None => {
                let needs = Needs::at(Class::Asked, self.context.clock.now());
                self.queue.lock().add(&name, needs);
            }
        }
        Some(request)
    }

    /// Starts the passes whose turn it is, as far as there is room.
    pub(super) fn start_passes(&mut self) {
        let now = self.context.clock.now();
        loop {
            let asked_too = self.asked_passes < MOST_ASKED_PASSES;
            let turn = self.queue.lock().pop(now, asked_too);
            let Some(turn) = turn else { break };
            self.start_pass(turn);
        }
        let waits_for_room = {
            let queue = self.queue.lock();
            !queue.has_room() && queue.is_asked_for_due(now)
        };
        if waits_for_room && self.asked_passes < MOST_ASKED_PASSES {
            self.make_room();
        }
    }

    /// Lets the pass that the schedule has started last end early, unless one is about to: it goes on later. Those before it
    /// come to their ends, however often somebody asks.
    fn make_room(&self) {
        let passes = || self.repositories.values().filter_map(|repository| repository.pass.as_ref());
        if passes().any(|pass| pass.interrupt.is_cancelled()) {
            return;
        }
        let of_the_schedule = passes().filter(|pass| pass.cause == Cause::Poll);
        if let Some(pass) = of_the_schedule.max_by_key(|pass| pass.started_at) {
            pass.interrupt.cancel();
        }
    }

    fn start_pass(&mut self, turn: Turn) {
        let Turn { name, class, identity } = turn;
        let (listed, resources) = (self.is_listed(&name), self.resources());
        let Some(repository) = self.repositories.get_mut(&name) else {
            self.queue.lock().ended(identity);
            return;
        };
        let is_of_the_whole =
            |request: &Request| request.wanted.piece.is_none() && (request.wanted.tag.is_none() || !listed);
        let position =
            self.asked.iter().position(|request| request.wanted.name == name && is_of_the_whole(request));
        let request = position.and_then(|position| self.asked.remove(position));
        let (cause, scope) = match &request {
            Some(request) if request.wanted.mend => (request.cause, Scope::Mend),
            // What was not asked about when it gave way is due since then.
            Some(request) if request.begun => (request.cause, Scope::Due),
            Some(request) if request.wanted.list => (request.cause, Scope::List),
            Some(request) => (request.cause, Scope::Everything),
            None => (Cause::Poll, Scope::Due),
        };
        if let Some(request) = &request {
            self.requests.started(&request.wanted);
            self.asked_passes += 1;
        }
        let interrupt = CancellationToken::new();
        let list_again = std::mem::take(&mut repository.list_again);
        repository.again = false;
        repository.pass = Some(RunningPass {
            cause,
            class,
            identity,
            started_at: Instant::now(),
            interrupt: interrupt.clone(),
        });
        let opening = Opening::new(resources, &name, repository, cause, list_again, interrupt);
        repository.login_changed = false;
        self.passes += 1;
        self.context.running_passes.fetch_add(1, Ordering::Relaxed);
        let working_on = name.clone();
        let task = self.running.spawn(async move {
            let outcome = opening.run(scope).await;
            Finished::Pass { name, outcome, request }
        });
        self.working_on.insert(task.id(), working_on);
    }

    fn start_tag(&mut self, request: Request) {
        let (name, resources) = (&request.wanted.name, self.resources());
        let Some(repository) = self.repositories.get(name) else { return };
        let interrupt = CancellationToken::new();
        let opening = Opening::new(resources, name, repository, request.cause, false, interrupt);
        let known = request.wanted.is_known_until_answered().then(|| request.wanted.clone());
        let task = self.running.spawn(async move {
            let (needs, problem) = match opening.whole().await {
                Ok(pass) => {
                    let problem = match &request.wanted.tag {
                        Some(tag) => pass.run_for_tag(tag).await,
                        None => None,
                    };
                    pass.context.keep_unsaved(&pass.name, &pass.copy);
                    (pass.copy.state().needs(), problem)
                }
                Err(error) => (Needs::default(), Some(Problem::from(error))),
            };
            Finished::Tag { needs, problem, request }
        });
        if let Some(known) = known {
            self.known.insert(task.id(), known);
        }
    }

    /// A request for a document stays known until it is answered: those who want the same wait for it.
    fn start_document(&mut self, request: Request, watch: Watch) {
        let Some(piece) = request.wanted.piece.clone() else { return };
        let wanted = request.wanted.clone();
        let fetching = Fetching {
            context: Arc::clone(&self.context),
            name: wanted.name.clone(),
            watch,
            lease: self.lease.clone(),
        };
        let task = self.running.spawn(async move {
            let outcome = fetching.run(&piece).await;
            Finished::Document { outcome, request }
        });
        self.known.insert(task.id(), wanted);
    }

    /// How many documents are being fetched.
    fn documents(&self) -> usize {
        self.known.values().filter(|wanted| wanted.piece.is_some()).count()
    }

    fn is_listed(&self, name: &Name) -> bool {
        self.context.overview().get(name).is_some_and(|overview| overview.listed)
    }

    fn resources(&self) -> Resources {
        Resources { context: Arc::clone(&self.context), lease: self.lease.clone(), queue: self.queue.clone() }
    }
}
