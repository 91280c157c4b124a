//! Asking about tags: about one, or about all that are due, a bounded number at once and for no longer than a turn.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::upstream::{ErrorClass, ErrorKind, Operation, Upstream, Urgency};
use samovar_registry::{Platforms, Tag};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, error};

use super::{GRACE, Pass, Problem, until};
use crate::warmer::change::Cause;
use crate::warmer::context::Context;
use crate::warmer::fetch::{Asking, FetchError};
use crate::warmer::publish::WorkingCopy;
use crate::warmer::tag::{DueTag, TagAnswer, left_out};

/// Answers that readers do not see yet are published this often at least.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);
/// A turn of a pass that the schedule has started is over when it has asked about so many tags and others wait.
const MOST_TAGS_IN_A_TURN: usize = 256;
/// The same by the time that it has been asking about tags.
const LONGEST_TURN: Duration = Duration::from_secs(30);

impl Pass {
    /// Asks about one tag only, whatever its deadline.
    pub(in crate::warmer) async fn run_for_tag(&self, tag: &Tag) -> Option<Problem> {
        if self.leaves_out(tag) {
            return None; // nothing is asked about it; it is shown as excluded
        }
        if self.copy.state().torn {
            return Some(Problem::Tag("part of the repository is being restored".into()));
        }
        if let Some(error) = self.held_back(Operation::Resolve) {
            return Some(Problem::of(error, self.context.now()));
        }
        if let Err(problem) = self.publish_unsaved().await {
            return Some(problem);
        }
        self.copy.state().pace = self.context.pace(&self.name, &self.watch);
        let began = self.context.now();
        let known = self.copy.state().tags.get(tag).and_then(|kept| kept.record.state.digest().cloned());
        let due = DueTag { tag: tag.clone(), known, other_platforms: false };
        let upstream = self.upstream();
        let answer = tokio::select! {
            biased;
            problem = self.must_end() => return Some(problem),
            answer = ask(&self.context, &upstream, &self.copy, self.platforms(), &due, self.urgency()) => answer,
            error = self.held_back_meanwhile(Operation::Resolve) => {
                return Some(Problem::of(error, self.context.now()));
            }
        };
        let failed = match &answer {
            Ok(TagAnswer::Failed { reason, .. }) => Some(Problem::Tag(reason.clone())),
            Ok(TagAnswer::Unknown) => {
                // Whoever asks about this very tag wants to know: it is not confirmed by asking twice.
                self.copy.state().believe_missing(tag);
                None
            }
            Err(error @ FetchError::Document { .. }) => Some(Problem::Tag(error.to_string())),
            Err(FetchError::Upstream(error)) => Some(Problem::of(error.clone(), self.context.now())),
            Ok(_) | Err(FetchError::Store(_)) => None,
        };
        let problem = self.apply(&due, answer, began).or(failed);
        self.note_webhook(self.context.now());
        self.publish().await.err().or(problem)
    }

    fn leaves_out(&self, tag: &Tag) -> bool {
        let chosen = self.copy.state().chosen(&self.watch.tags);
        left_out(&chosen, tag).is_some()
    }

    /// Asks about tags, a bounded number at once, until all are done or something makes going on pointless. Says whether
    /// all are done.
    pub(super) async fn ask_all(
        &self,
        upstream: &Arc<dyn Upstream>,
        due: Vec<DueTag>,
    ) -> Result<bool, Problem> {
        if due.is_empty() {
            return Ok(true);
        }
        let mut waiting = due.into_iter().peekable();
        let mut running = JoinSet::new();
        let held_back = self.held_back(Operation::Resolve);
        let mut problem = held_back.map(|error| Problem::of(error, self.context.now()));
        let (mut publish_at, mut give_up_at) = (None, None);
        let (began_at, mut asked) = (Instant::now(), 0);
        loop {
            while problem.is_none()
                && !self.gives_way(began_at, asked)
                && running.len() < self.context.options.fetches_per_repository
            {
                let Some(due) = waiting.next() else { break };
                asked += 1;
                let (context, upstream, copy) =
                    (Arc::clone(&self.context), Arc::clone(upstream), Arc::clone(&self.copy));
                let (platforms, urgency) = (self.platforms().clone(), self.urgency());
                let began = self.context.now();
                running.spawn(async move {
                    let answer = ask(&context, &upstream, &copy, &platforms, &due, urgency).await;
                    (due, began, answer)
                });
            }
            if problem.is_some() {
                give_up_at.get_or_insert_with(|| Instant::now() + GRACE);
            }
            let joined = tokio::select! {
                biased;
                problem = self.must_end() => return Err(problem),
                () = until(publish_at) => {
                    // What is on its way still goes into the copy.
                    problem = problem.or(self.publish().await.err());
                    publish_at = None;
                    continue;
                }
                joined = running.join_next() => joined,
                // What has not come by then waits for a budget that is held back.
                () = until(give_up_at) => None,
                error = self.held_back_meanwhile(Operation::Resolve), if problem.is_none() => {
                    problem = Some(Problem::of(error, self.context.now()));
                    continue;
                }
            };
            publish_at.get_or_insert_with(|| Instant::now() + PUBLISH_EVERY);
            match joined {
                None => {
                    let Some(problem) = problem else {
                        let is_done = waiting.peek().is_none();
                        // Whatever its deadline: the next turn goes on with it.
                        self.copy.state().make_due(waiting.map(|due| due.tag), self.context.now());
                        return Ok(is_done);
                    };
                    return Err(problem);
                }
                Some(Ok((due, began, answer))) => problem = problem.or(self.apply(&due, answer, began)),
                Some(Err(failed)) => {
                    error!(image.name = %self.name, error = %failed, "asking about a tag panicked");
                }
            }
        }
    }

    /// Whether to let something else go first: what somebody asked for, the next listing, or whose turn it is.
    fn gives_way(&self, began_at: Instant, asked: usize) -> bool {
        let list_is_due = || {
            let next_listing = self.copy.state().side.next_listing;
            next_listing.is_some_and(|next| next <= self.context.clock.now())
        };
        let turn_is_over = || {
            let is_long = asked >= MOST_TAGS_IN_A_TURN || began_at.elapsed() >= LONGEST_TURN;
            let Some(queue) = self.queue.as_ref().filter(|_| is_long) else { return false };
            let (queue, now) = (queue.lock(), self.context.clock.now());
            // Whoever asked gives way to others who asked, and to nobody else.
            if self.cause == Cause::Poll { queue.waits_for_room(now) } else { queue.is_asked_for_due(now) }
        };
        self.interrupt.is_cancelled() || (self.cause == Cause::Poll && list_is_due()) || turn_is_over()
    }

    /// Applies an answer, or says why asking on is pointless.
    fn apply(
        &self,
        due: &DueTag,
        answer: Result<TagAnswer, FetchError>,
        began: Timestamp,
    ) -> Option<Problem> {
        let at = self.circumstance(began);
        let answer = match answer {
            Ok(answer) => answer,
            Err(FetchError::Store(error)) => return Some(Problem::Store(error)),
            Err(FetchError::Upstream(error)) => match (&error.kind, error.operation) {
                // It is where the registry keeps its blobs that limits us: everything else can go on.
                (ErrorKind::RateLimited { retry_after, .. }, Operation::Config)
                    if self.context.upstreams.blocked_for(&self.name).is_none() =>
                {
                    TagAnswer::Later { until: at.now + *retry_after }
                }
                // Its turn will come: confirming others costs no quota.
                (ErrorKind::QuotaShort { retry_after, .. }, Operation::Manifest | Operation::Config) => {
                    TagAnswer::Later { until: at.now + *retry_after }
                }
                (kind, _) if kind.retry_after().is_some() => return Some(Problem::of(error, at.now)),
                (kind, _) => TagAnswer::failed(kind.class(), &error),
            },
            Err(error @ FetchError::Document { .. }) => TagAnswer::failed(ErrorClass::Protocol, &error),
        };
        if let TagAnswer::Failed { reason, .. } = &answer {
            debug!(image.name = %self.name, image.tag = %due.tag, error = reason, "the tag cannot be refreshed");
        }
        self.copy.state().apply_answer(&due.tag, answer, at);
        None
    }
}

async fn ask(
    context: &Context,
    upstream: &Arc<dyn Upstream>,
    copy: &WorkingCopy,
    platforms: &Platforms,
    due: &DueTag,
    urgency: Urgency,
) -> Result<TagAnswer, FetchError> {
    let name = copy.state().name.clone();
    let asking = Asking { host: name.host(), upstream: &**upstream, platforms, urgency };
    context.fetcher.ask(asking, due, |digest| copy.state().image(digest)).await
}
