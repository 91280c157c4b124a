//! One refresh of one repository: list, compare, publish what is known at once; then ask about tags and publish as
//! the answers come.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::Name;
use samovar_registry::upstream::{ErrorClass, ErrorKind, Operation, Upstream, UpstreamError, Urgency};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::change::Cause;
use super::context::Context;
use super::fetch::{Asking, FetchError};
use super::publish::WorkingCopy;
use super::working_copy::{Circumstance, DueTag, ListVerdict, TagAnswer};
use crate::sources::Watch;
use crate::store::StoreError;

/// Answers that readers do not see yet are published this often at least.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);
/// A pass that could not finish for a reason of ours is tried again after this long.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// When going on is pointless, answers that are on their way may take this long.
const GRACE: Duration = Duration::from_secs(5);

/// How much a pass looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// What is due.
    Due,
    /// The list and every tag, due or not.
    Everything,
}

/// A pass over one repository.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) context: Arc<Context>,
    pub(super) name: Name,
    pub(super) watch: Watch,
    pub(super) copy: Arc<WorkingCopy>,
    pub(super) cause: Cause,
}

/// How a pass ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PassOutcome {
    /// When the repository needs something next.
    pub(super) wake_at: Timestamp,
    /// What kept the pass from doing all it set out to do.
    pub(super) problem: Option<Problem>,
}

/// What kept a pass from its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("samovar is shutting down")]
    Stopped,
}

impl Problem {
    /// How long the registry wants to be left alone, if that is the problem.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Upstream(UpstreamError { kind: ErrorKind::RateLimited { retry_after, .. }, .. }) => {
                Some(*retry_after)
            }
            _ => None,
        }
    }
}

impl Pass {
    /// Runs the pass. Ends early, with what was learnt stored, when the registry limits us or samovar stops.
    pub(super) async fn run(&self, scope: Scope) -> PassOutcome {
        let upstream = self.context.upstreams.upstream(&self.name, &self.watch.credentials);
        let problem = self.list_and_ask(&upstream, scope).await.err();
        self.context.metrics.pass_ended(problem.as_ref());
        if let Some(problem) = &problem {
            debug!(image.name = %self.name, error = %problem, "the pass ended early");
        }
        PassOutcome { wake_at: self.wake_at(problem.as_ref()), problem }
    }

    /// Asks about one tag only, whatever its deadline.
    pub(super) async fn run_for_tag(&self, tag: &samovar_registry::Tag) -> Option<Problem> {
        let upstream = self.context.upstreams.upstream(&self.name, &self.watch.credentials);
        let known = self.copy.state().tags.get(tag).and_then(|kept| kept.record.state.digest().cloned());
        let due = DueTag { tag: tag.clone(), known, other_platforms: false };
        if let Some(error) = self.held_back(Operation::Resolve) {
            return Some(error.into());
        }
        let answer = ask(&self.context, &upstream, &self.copy, &due, self.urgency()).await;
        let problem = self.apply(&due, answer);
        self.publish().await.err().or(problem)
    }

    async fn list_and_ask(&self, upstream: &Arc<dyn Upstream>, scope: Scope) -> Result<(), Problem> {
        let now = self.context.clock.now();
        let listing_is_due = self.copy.state().listing_is_due(&self.watch.tags, self.poll_interval(), now);
        if listing_is_due || scope == Scope::Everything {
            self.list(upstream).await?;
        }
        let due = self.copy.state().due(self.context.clock.now(), scope == Scope::Everything);
        let asked = self.ask_all(upstream, due).await;
        self.publish().await?;
        asked
    }

    async fn list(&self, upstream: &Arc<dyn Upstream>) -> Result<(), Problem> {
        let began = self.context.now();
        let listed = if let Some(error) = self.held_back(Operation::Tags) {
            Err(error)
        } else {
            tokio::select! {
                listed = upstream.tags(self.urgency()) => listed,
                () = self.context.shutdown.cancelled() => return Err(Problem::Stopped),
            }
        };
        let at = self.circumstance();
        match &listed {
            Ok(list) => {
                let interval = self.poll_interval();
                let verdict = self.copy.state().apply_list(list, began, &self.watch.tags, interval, at);
                if verdict == ListVerdict::HeldBack {
                    warn!(image.name = %self.name, tags = list.tags.len(), "the list shrank suspiciously; it is held back until confirmed");
                }
            }
            Err(error) => {
                let first = {
                    let mut state = self.copy.state();
                    state.list_failed(error, at);
                    state.side.attempts == 1
                };
                if first {
                    warn!(image.name = %self.name, error = %error, "the repository cannot be listed");
                }
            }
        }
        self.publish().await?;
        listed.map(drop).map_err(Problem::from)
    }

    /// Asks about tags, a bounded number at once, until all are done or something makes going on pointless.
    async fn ask_all(&self, upstream: &Arc<dyn Upstream>, due: Vec<DueTag>) -> Result<(), Problem> {
        if due.is_empty() {
            return Ok(());
        }
        let mut waiting = due.into_iter();
        let mut running = JoinSet::new();
        let mut problem = self.held_back(Operation::Resolve).map(Problem::from);
        let mut publish_at = None;
        let mut give_up_at = None;
        loop {
            while problem.is_none() && running.len() < self.context.options.fetches_per_repository {
                let Some(due) = waiting.next() else { break };
                let (context, upstream, copy) =
                    (Arc::clone(&self.context), Arc::clone(upstream), Arc::clone(&self.copy));
                let urgency = self.urgency();
                running.spawn(async move {
                    let answer = ask(&context, &upstream, &copy, &due, urgency).await;
                    (due, answer)
                });
            }
            if problem.is_some() {
                give_up_at.get_or_insert_with(|| Instant::now() + GRACE);
            }
            let joined = tokio::select! {
                biased;
                () = self.context.shutdown.cancelled() => return Err(Problem::Stopped),
                () = until(publish_at) => {
                    self.publish().await?;
                    publish_at = None;
                    continue;
                }
                joined = running.join_next() => joined,
                // What has not come by then waits for a budget that is held back.
                () = until(give_up_at) => None,
            };
            publish_at.get_or_insert_with(|| Instant::now() + PUBLISH_EVERY);
            match joined {
                None => return problem.map_or(Ok(()), Err),
                Some(Ok((due, answer))) => {
                    problem = problem.or(self.apply(&due, answer));
                }
                Some(Err(failed)) => {
                    error!(image.name = %self.name, error = %failed, "asking about a tag panicked");
                }
            }
        }
    }

    /// Applies an answer, or says why asking on is pointless.
    fn apply(&self, due: &DueTag, answer: Result<TagAnswer, FetchError>) -> Option<Problem> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(FetchError::Upstream(error)) if matches!(error.kind, ErrorKind::RateLimited { .. }) => {
                return Some(Problem::Upstream(error));
            }
            Err(FetchError::Store(error)) => return Some(Problem::Store(error)),
            Err(FetchError::Upstream(error)) => TagAnswer::failed(error.kind.class(), &error),
            Err(error @ FetchError::Document { .. }) => TagAnswer::failed(ErrorClass::Protocol, &error),
        };
        let at = self.circumstance();
        self.copy.state().apply_answer(&due.tag, answer, at);
        None
    }

    async fn publish(&self) -> Result<(), Problem> {
        let published = self.copy.publish(&*self.context.store, self.context.clock.now()).await;
        match published {
            Ok(published) => {
                for change in &published.changes {
                    info!(
                        image.name = %change.repository,
                        image.tag = change.tag.as_ref().map(tracing::field::display),
                        image.old_digest = change.old.as_ref().map(tracing::field::display),
                        image.new_digest = change.new.as_ref().map(tracing::field::display),
                        cause = ?change.cause,
                        "{}",
                        change.kind.as_str(),
                    );
                }
                self.context.published(&self.name, published);
                Ok(())
            }
            Err(error) => {
                error!(image.name = %self.name, error = %error, "what was learnt cannot be stored yet");
                Err(error.into())
            }
        }
    }

    fn wake_at(&self, problem: Option<&Problem>) -> Timestamp {
        let now = self.context.clock.now();
        let planned = self.copy.state().next_wake();
        let not_before = match problem {
            None => None,
            Some(Problem::Upstream(_)) => {
                let retry_after = problem.and_then(Problem::retry_after).map(|wait| now + wait);
                retry_after.or(self.copy.state().side.next_listing)
            }
            Some(Problem::Store(_) | Problem::Stopped) => Some(now + TRY_AGAIN),
        };
        match (planned, not_before) {
            (Some(planned), Some(not_before)) => planned.max(not_before),
            (Some(planned), None) if planned > now => planned,
            (None, Some(not_before)) => not_before,
            // Something is still due: a fetch that panicked, for one. Not at once again.
            _ => now + TRY_AGAIN,
        }
    }

    /// The error to go on with where the registry wants to be left alone for longer than it pays to wait.
    fn held_back(&self, operation: Operation) -> Option<UpstreamError> {
        let retry_after = self.context.upstreams.blocked_for(&self.name).filter(|wait| *wait > GRACE)?;
        let kind = ErrorKind::RateLimited { retry_after, message: None };
        Some(UpstreamError { repository: self.name.clone(), operation, kind })
    }

    fn poll_interval(&self) -> Duration {
        self.watch.poll_interval.unwrap_or(self.context.options.poll_interval)
    }

    fn urgency(&self) -> Urgency {
        match self.cause {
            Cause::Poll => Urgency::Background,
            Cause::Request => Urgency::Asked,
        }
    }

    fn circumstance(&self) -> Circumstance {
        Circumstance { now: self.context.now(), cause: self.cause, jitter: self.context.random() }
    }
}

/// Waits until then, or for ever.
async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

async fn ask(
    context: &Context,
    upstream: &Arc<dyn Upstream>,
    copy: &WorkingCopy,
    due: &DueTag,
    urgency: Urgency,
) -> Result<TagAnswer, FetchError> {
    let asking = Asking { upstream: &**upstream, urgency };
    context.fetcher.ask(asking, due, |digest| copy.state().image(digest)).await
}
