//! One refresh of one repository: list, compare, publish what is known at once; then ask about tags and publish as
//! the answers come.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::upstream::{
    ErrorClass, ErrorKind, ListState, Listing, Operation, Upstream, UpstreamError, Urgency,
};
use samovar_registry::{Name, Platforms, Tag};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::announce::Telling;
use super::change::Cause;
use super::context::Context;
use super::fetch::{Asking, FetchError};
use super::lease::{Lease, Leased};
use super::publish::{PublishError, Published, WorkingCopy};
use super::queue::{Class, Needs, SharedQueue};
use super::renewal;
use super::tag::{Circumstance, DueTag, TagAnswer, left_out};
use super::working_copy::{ListVerdict, next_listing};
use crate::sources::{PollInterval, Watch};
use crate::store::StoreError;

/// Answers that readers do not see yet are published this often at least.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);
/// A pass that could not finish for a reason of ours is tried again after this long.
const TRY_AGAIN: Duration = Duration::from_secs(30);
/// What could not be stored, because the store did not answer or another replica was faster, is tried again after this long.
pub(super) const STORE_AGAIN: Duration = Duration::from_secs(5);

/// A turn of a pass that the schedule has started is over when it has asked about so many tags and others wait.
const MOST_TAGS_IN_A_TURN: usize = 256;
/// The same by the time that it has been asking about tags.
const LONGEST_TURN: Duration = Duration::from_secs(30);
/// Changes of one publication that are logged one by one.
const MOST_CHANGES_LOGGED: usize = 100;
/// When going on is pointless, answers that are on their way may take this long.
const GRACE: Duration = Duration::from_secs(5);

/// How much a pass looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// What is due.
    Due,
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

/// A list that was read, or could not be.
#[derive(Debug)]
pub(super) struct Listed {
    /// What was known of the list when it was asked for.
    known: Option<ListState>,
    /// When its reading began.
    pub(super) began: Timestamp,
    pub(super) result: Result<Listing, UpstreamError>,
}

impl Listed {
    /// Whether it says something to those who know this of the list.
    fn holds_for(&self, known: Option<&ListState>) -> bool {
        match self.result {
            Ok(Listing::Unchanged(_) | Listing::Newer(..)) => self.known.as_ref() == known,
            Ok(Listing::Whole(..)) | Err(_) => true,
        }
    }
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

    /// Asks about one tag only, whatever its deadline.
    pub(super) async fn run_for_tag(&self, tag: &Tag) -> Option<Problem> {
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

    fn must_list(&self, scope: Scope) -> bool {
        let state = self.copy.state();
        let failed_before = state.side.attempts > 0;
        let due = state.listing_is_due(&self.watch.tags, &self.poll_interval(), self.context.clock.now());
        due || scope == Scope::Everything || (self.list_again && failed_before)
    }

    /// Lists, and takes over what the list says. `Ok(false)`: it was interrupted, and is due.
    async fn list(&self, upstream: &Arc<dyn Upstream>, listed: Option<Listed>) -> Result<bool, Problem> {
        let known = self.copy.state().known_list(&self.watch.tags).cloned();
        let listed = match listed.filter(|listed| listed.holds_for(known.as_ref())) {
            Some(listed) => Some(listed),
            None => self.read_list(upstream, known).await?,
        };
        let Some(Listed { began, result: listed, .. }) = listed else {
            self.make_listing_due().await?;
            return Ok(false);
        };
        let at = self.circumstance(began);
        self.note_webhook(at.now);
        match &listed {
            Ok(listing) => self.take_listing(listing, at),
            Err(error) => {
                let is_news = {
                    let mut state = self.copy.state();
                    let (failed, was_denied) = (state.side.attempts > 0, state.side.denied.is_some());
                    state.list_failed(error, at);
                    let fails = state.side.attempts > 0;
                    (fails && !failed) || (state.side.denied.is_some() && !was_denied)
                };
                if is_news {
                    warn!(image.name = %self.name, error = %error, "the repository cannot be listed");
                }
            }
        }
        self.publish().await?;
        listed.map_err(|error| Problem::of(error, at.now)).map(|_| true)
    }

    /// Whatever it was to be listed for holds on, also where this pass is forgotten.
    async fn make_listing_due(&self) -> Result<(), Problem> {
        {
            let (mut state, now) = (self.copy.state(), self.context.clock.now());
            if !state.listing_is_due(&self.watch.tags, &self.poll_interval(), now) {
                state.side.next_listing = Some(now);
                state.side_header_changed = true;
            }
        }
        self.publish_unsaved().await
    }

    /// Reads the list, unless the registry wants to be left alone. `None`: something more urgent waits, and nobody has asked
    /// for this list.
    pub(super) async fn read_list(
        &self,
        upstream: &Arc<dyn Upstream>,
        known: Option<ListState>,
    ) -> Result<Option<Listed>, Problem> {
        let began = self.context.now();
        let result = if let Some(error) = self.held_back(Operation::Tags) {
            Err(error)
        } else {
            tokio::select! {
                biased;
                problem = self.must_end() => return Err(problem),
                () = self.interrupt.cancelled(), if self.cause == Cause::Poll => return Ok(None),
                listed = upstream.list(known.as_ref(), self.urgency()) => listed,
                error = self.held_back_meanwhile(Operation::Tags) => Err(error),
            }
        };
        Ok(Some(Listed { known, began, result }))
    }

    /// Where it was a webhook that made us look, webhooks come.
    fn note_webhook(&self, now: Timestamp) {
        if self.cause == Cause::Webhook {
            self.copy.state().fed(now);
        }
    }

    fn take_listing(&self, listing: &Listing, at: Circumstance) {
        let (filter, poll) = (&self.watch.tags, &self.poll_interval());
        let mut state = self.copy.state();
        match listing {
            Listing::Unchanged(left) => state.list_unchanged(left.clone(), filter, poll, at),
            Listing::Newer(list, left) => state.apply_newer(list, left.clone(), filter, poll, at),
            Listing::Whole(list, left) => {
                let invalid_before = state.invalid_tags;
                let verdict = state.apply_list(list, filter, poll, at);
                if verdict == ListVerdict::Accepted {
                    state.remember_list(left.clone());
                }
                drop(state);
                if list.invalid > 0 && list.invalid != invalid_before {
                    warn!(image.name = %self.name, tags = list.invalid, "the registry lists strings that are no valid tags; they are left out");
                }
                if verdict == ListVerdict::HeldBack {
                    warn!(image.name = %self.name, tags = list.tags.len(), "the list shrank suspiciously; it is held back until confirmed");
                }
            }
        }
    }

    /// Asks about tags, a bounded number at once, until all are done or something makes going on pointless. Says whether
    /// all are done.
    async fn ask_all(&self, upstream: &Arc<dyn Upstream>, due: Vec<DueTag>) -> Result<bool, Problem> {
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
