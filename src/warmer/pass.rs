//! One refresh of one repository: list, compare, publish what is known at once; then ask about tags and publish as
//! the answers come.

mod list;
mod tags;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::upstream::{ErrorClass, Operation, Upstream, UpstreamError, Urgency};
use samovar_registry::{Name, Platforms};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::announce::Telling;
use super::change::Cause;
use super::context::Context;
use super::lease::{Lease, Leased};
use super::publish::{PublishError, Published, WorkingCopy};
use super::queue::{Class, Needs, SharedQueue};
use super::renewal;
use super::tag::Circumstance;
use super::working_copy::next_listing;
use crate::sources::{PollInterval, Watch};
use crate::store::StoreError;

pub(super) use self::list::Listed;

/// A pass that could not finish for a reason of ours is tried again after this long.
const TRY_AGAIN: Duration = Duration::from_secs(30);
/// What could not be stored, because the store did not answer or another replica was faster, is tried again after this long.
pub(super) const STORE_AGAIN: Duration = Duration::from_secs(5);

/// Changes of one publication that are logged one by one.
const MOST_CHANGES_LOGGED: usize = 100;
/// When going on is pointless, answers that are on their way may take this long.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// How much a pass looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// What is due.
    Due,
    /// The list, due or not, and the tags that are due.
    List,
    /// What is due, after putting back what the store lacks: a reader has missed something.
    Mend,
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
    /// Whether this replica may ask the host.
    pub(super) lease: Lease,
    /// List even if the list could not be read lately.
    pub(super) list_again: bool,
    /// Ask again about tags that could not be asked about lately: the credentials are other ones now.
    pub(super) login_changed: bool,
    /// The last pass could not store what it learnt: find out first whether this one can.
    pub(super) store_failed: bool,
    /// Ends the pass early: something more urgent waits.
    pub(super) interrupt: CancellationToken,
    /// Who else of the host waits for a turn, where turns are taken.
    pub(super) queue: Option<SharedQueue>,
}

/// How a pass ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PassOutcome {
    /// What the repository needs next, and when.
    pub(super) needs: Needs,
    /// What kept the pass from doing all it set out to do.
    pub(super) problem: Option<Problem>,
    /// Something more urgent did, or others whose turn it is.
    pub(super) interrupted: bool,
}

/// What kept a pass from its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error(transparent)]
    Upstream(UpstreamError),
    /// The registry wants to be left alone until then.
    #[error("{error}")]
    Limited { error: Box<UpstreamError>, until: Timestamp },
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the tag points at cannot be understood.
    #[error("{0}")]
    Tag(String),
    #[error("samovar is shutting down")]
    Stopped,
    /// Another replica is to ask the host from now on, or has published what it learnt.
    #[error("another replica keeps the repository warm")]
    Elsewhere,
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Store(error) => Self::Store(error),
            PublishError::Overtaken => Self::Elsewhere,
        }
    }
}

impl Problem {
    /// A failed request, at the time that it failed: a pause counts from there.
    fn of(error: UpstreamError, now: Timestamp) -> Self {
        match error.kind.retry_after() {
            Some(retry_after) => Self::Limited { until: now + retry_after, error: Box::new(error) },
            None => Self::Upstream(error),
        }
    }

    /// A list that cannot be read says nothing against asking about tags, unless the registry cannot be reached, or
    /// does not want us, or says that the repository is gone.
    fn leaves_tags(&self) -> bool {
        let Self::Upstream(error) = self else { return false };
        matches!(
            error.kind.class(),
            ErrorClass::Unavailable | ErrorClass::Rejected | ErrorClass::Protocol | ErrorClass::TooLarge
        )
    }
}

impl Pass {
    /// Runs the pass. Ends early, with what was learnt stored, when the registry limits us or samovar stops.
    /// It goes on from a list that was `listed` just before, if that is of use.
    pub(super) async fn run(&self, scope: Scope, listed: Option<Listed>) -> PassOutcome {
        self.copy.state().pace = self.context.pace(&self.name, &self.watch);
        self.ended(self.list_and_ask(&self.upstream(), scope, listed).await)
    }

    /// What comes of a pass that ended like this.
    pub(super) fn ended(&self, done: Result<bool, Problem>) -> PassOutcome {
        let interrupted = matches!(done, Ok(false));
        let problem = done.err();
        self.context.metrics.pass_ended(problem.as_ref());
        if let Some(problem) = &problem {
            debug!(image.name = %self.name, error = %problem, "the pass ended early");
        }
        let needs = self.needs_after(problem.as_ref(), interrupted);
        PassOutcome { needs, problem, interrupted }
    }

    pub(super) fn upstream(&self) -> Arc<dyn Upstream> {
        let upstream = self.context.upstreams.upstream(&self.name, &self.watch.credentials);
        Arc::new(Leased { upstream, lease: self.lease.clone() })
    }

    /// Resolves when nothing more may be asked: samovar stops, or another replica has taken over.
    async fn must_end(&self) -> Problem {
        tokio::select! {
            biased;
            () = self.context.shutdown.cancelled() => Problem::Stopped,
            () = self.lease.lost() => Problem::Elsewhere,
        }
    }

    /// `Ok(false)`: it was interrupted, and there is more to do.
    async fn list_and_ask(
        &self,
        upstream: &Arc<dyn Upstream>,
        scope: Scope,
        listed: Option<Listed>,
    ) -> Result<bool, Problem> {
        if scope == Scope::Mend {
            renewal::put_back(&*self.context.store, &self.copy).await?;
        }
        self.publish_unsaved().await?;
        self.plan_anew();
        if self.login_changed {
            let mut state = self.copy.state();
            state.retry_refused(self.context.clock.now());
            state.forget_validators();
        }
        let listed = if self.must_list(scope) { self.list(upstream, listed).await } else { Ok(true) };
        if listed == Ok(false) {
            return listed;
        }
        self.renew().await?;
        if let Err(problem) = &listed
            && !problem.leaves_tags()
        {
            return listed;
        }
        let all = scope == Scope::Everything && listed.is_ok();
        let demand = self.context.demand.of(&self.name);
        let due = self.copy.state().due(self.context.clock.now(), all, |tag| demand.last_read(tag));
        let asked = self.ask_all(upstream, due).await;
        self.publish().await?;
        listed.and(asked)
    }

    /// Brings the deadlines of tags in line with what is configured and what is read now, and after a long stop apart.
    fn plan_anew(&self) {
        let (now, random) = (self.context.now(), self.context.random());
        let mut state = self.copy.state();
        state.spread_overdue(now, random);
        state.pull_forward(now);
    }

    /// Stores what an earlier pass could not. While that fails, nothing more is asked.
    async fn publish_unsaved(&self) -> Result<(), Problem> {
        let is_unsaved = {
            let mut state = self.copy.state();
            state.side_header_changed |= self.store_failed;
            state.is_unsaved()
        };
        if is_unsaved { self.publish().await } else { Ok(()) }
    }

    async fn renew(&self) -> Result<(), Problem> {
        let (now, random) = (self.context.now(), self.context.random());
        tokio::select! {
            biased;
            problem = self.must_end() => Err(problem),
            () = renewal::renew_if_due(&*self.context.store, &self.copy, now, random) => Ok(()),
            () = self.interrupt.cancelled() => Ok(()),
        }
    }

    /// Where it was a webhook that made us look, webhooks come.
    fn note_webhook(&self, now: Timestamp) {
        if self.cause == Cause::Webhook {
            self.copy.state().fed(now);
        }
    }

    async fn publish(&self) -> Result<(), Problem> {
        let published = self.copy.publish(&*self.context.store, self.context.clock.now()).await;
        match published {
            Ok(published) => {
                for change in published.changes.iter().take(MOST_CHANGES_LOGGED) {
                    info!(
                        image.name = %self.name,
                        image.tag = change.tag.as_ref().map(tracing::field::display),
                        image.old_digest = change.old.as_ref().map(tracing::field::display),
                        image.new_digest = change.new.as_ref().map(tracing::field::display),
                        cause = ?change.cause,
                        "{}",
                        change.kind.as_str(),
                    );
                }
                let more = published.changes.len().saturating_sub(MOST_CHANGES_LOGGED);
                if more > 0 {
                    info!(image.name = %self.name, changes = more, "and more changes");
                }
                self.announce(&published).await;
                self.context.published(&self.name, &published);
                Ok(())
            }
            Err(error) => {
                debug!(image.name = %self.name, error = %error, "what was learnt is not stored");
                Err(error.into())
            }
        }
    }

    /// Tells subscribers what is visible now, and before it what others have made visible.
    pub(super) async fn announce(&self, published: &Published) {
        let Context { store, announcer, .. } = &*self.context;
        if announcer.published(&self.name, published) {
            return;
        }
        let telling = {
            let state = self.copy.state();
            Telling::of(state.head.as_ref(), Some(&state.side))
        };
        if let Err(error) = announcer.catch_up(&**store, &self.name, telling).await {
            debug!(image.name = %self.name, %error, "what changed is told with the next publication");
        }
    }

    /// What the repository needs after a pass that ended like this.
    fn needs_after(&self, problem: Option<&Problem>, interrupted: bool) -> Needs {
        let (now, planned) = (self.context.clock.now(), self.planned());
        let not_before = match problem {
            // It goes on when those have had their turn that wait already.
            None if interrupted => Some(now),
            None => None,
            Some(Problem::Limited { until, .. }) => Some(*until),
            Some(problem @ Problem::Upstream(_)) if problem.leaves_tags() => None,
            Some(Problem::Upstream(_)) => self.copy.state().side.next_listing,
            Some(Problem::Store(_) | Problem::Elsewhere) => return planned.only_at(now + STORE_AGAIN),
            Some(Problem::Tag(_) | Problem::Stopped) => return planned.only_at(now + TRY_AGAIN),
        };
        match (planned.earliest(), not_before) {
            (Some(_), Some(not_before)) => planned.not_before(not_before),
            // What was never listed keeps its place before what was.
            (None, Some(not_before)) if interrupted && self.copy.state().head.is_none() => {
                Needs::at(Class::New, not_before)
            }
            (None, Some(not_before)) => Needs::at(Class::Background, not_before),
            (Some(earliest), None) if earliest > now => planned,
            // Something is still due: a fetch that panicked, for one. Not at once again.
            (Some(_), None) => planned.not_before(now + TRY_AGAIN),
            (None, None) => Needs::at(Class::Background, now + TRY_AGAIN),
        }
    }

    /// What the repository needs next; the interval may have become shorter since its listing was planned.
    fn planned(&self) -> Needs {
        let state = self.copy.state();
        let listing = next_listing(&state.side, &self.watch.tags, &self.poll_interval());
        state.needs().with(Class::Background, listing)
    }

    /// The error to go on with where the registry wants to be left alone for longer than it pays to wait.
    fn held_back(&self, operation: Operation) -> Option<UpstreamError> {
        let kind = self.context.upstreams.held_back(&self.name)?;
        kind.retry_after().filter(|wait| *wait > GRACE)?;
        Some(UpstreamError { repository: self.name.clone(), operation, kind })
    }

    /// Resolves when the registry has come to be held back, on behalf of whoever asked it, while we wait.
    async fn held_back_meanwhile(&self, operation: Operation) -> UpstreamError {
        loop {
            tokio::time::sleep(GRACE).await;
            if let Some(error) = self.held_back(operation) {
                return error;
            }
        }
    }

    fn platforms(&self) -> &Platforms {
        self.context.platforms(&self.watch)
    }

    pub(super) fn poll_interval(&self) -> PollInterval {
        self.context.poll_interval(&self.watch)
    }

    fn urgency(&self) -> Urgency {
        match self.cause {
            Cause::Poll => Urgency::Background,
            Cause::Request | Cause::Webhook => Urgency::Asked,
        }
    }

    pub(super) fn circumstance(&self, began: Timestamp) -> Circumstance {
        Circumstance { began, now: self.context.now(), cause: self.cause, jitter: self.context.random() }
    }
}

/// Waits until then, or for ever.
pub(super) async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
