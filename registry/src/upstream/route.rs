//! A repository that has mirrors: each question goes to the mirrors in order, and at last to the registry itself.
//!
//! Invariants:
//! - an operation is done with one of them from beginning to end: a list of tags is never made of pages of two;
//! - whatever goes wrong with a mirror, be it that it does not have the repository, the next one is asked, and the answer
//!   is that of the registry itself;
//! - that there are no tags or no referrers is not believed of a mirror that may not know the repository yet;
//! - what is fetched by digest is checked, wherever it comes from;
//! - a mirror has the budget and the login of its own host. It is never sent what belongs to the registry.
//!
//! A mirror that resolves tags may know fewer and older ones than the registry: who lists it as such trusts it in that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout};

use super::budget::RequestKind;
use super::endpoint::Timeouts;
use super::host::Host;
use super::mirror::Capabilities;
use super::{Document, ErrorKind, ListState, Listing, ManifestSelector, Upstream, UpstreamError, Urgency};
use crate::{Digest, Name, Tag};

/// How long a mirror that cannot be reached is passed over; doubles each time.
const FIRST_REST: Duration = Duration::from_secs(30);
/// The longest that it is passed over.
const LONGEST_REST: Duration = Duration::from_mins(10);

/// Whether a mirror is worth asking; shared by all repositories that it mirrors.
#[derive(Debug, Default)]
pub(super) struct Standing(Mutex<Failures>);

#[derive(Debug, Default)]
struct Failures {
    in_a_row: u32,
    rests_until: Option<Instant>,
}

impl Standing {
    fn is_resting(&self) -> bool {
        self.lock().rests_until.is_some_and(|until| Instant::now() < until)
    }

    fn has_answered(&self) {
        *self.lock() = Failures::default();
    }

    /// Returns for how long it is passed over, if that is news: requests that were under way together fail together.
    fn has_failed(&self) -> Option<Duration> {
        let mut failures = self.lock();
        let now = Instant::now();
        if failures.rests_until.is_some_and(|until| now < until) {
            return None;
        }
        let rest = FIRST_REST.saturating_mul(1 << failures.in_a_row.min(16)).min(LONGEST_REST);
        failures.in_a_row += 1;
        failures.rests_until = Some(now + rest);
        Some(rest)
    }

    fn lock(&self) -> MutexGuard<'_, Failures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One mirror of a repository.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) upstream: Box<dyn Upstream>,
    pub(super) capabilities: Capabilities,
    pub(super) host: Arc<Host>,
    pub(super) timeouts: Timeouts,
    pub(super) standing: Arc<Standing>,
}

impl Mirror {
    /// Whether it can be asked now. What holds its host back is not waited out: others can be asked.
    fn is_fit(&self) -> bool {
        !self.standing.is_resting() && self.host.budget.blocked_for(RequestKind::Registry).is_none()
    }

    fn has_failed(&self, error: &UpstreamError) {
        let is_down = match error.kind {
            ErrorKind::Transport { .. } | ErrorKind::Timeout { .. } | ErrorKind::Unavailable { .. } => true,
            _ => {
                self.standing.has_answered();
                false
            }
        };
        let mirror = &self.host.name;
        if let Some(rest) = is_down.then(|| self.standing.has_failed()).flatten() {
            tracing::warn!(
                mirror.host = %mirror, error = %error, rest_s = rest.as_secs(),
                "the mirror cannot be asked and is passed over for so long",
            );
        } else {
            tracing::debug!(mirror.host = %mirror, error = %error, "the mirror is passed over");
        }
    }
}

/// A repository with its mirrors.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) name: Name,
    /// In the order in which they are asked.
    pub(super) mirrors: Vec<Mirror>,
    /// The registry itself, or what is asked in its place.
    pub(super) last: Box<dyn Upstream>,
}

/// For what somebody is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    List,
    Resolve,
    Pull,
}

impl Route {
    /// The first useful answer.
    async fn first<'a, T>(
        &'a self,
        purpose: Purpose,
        ask: impl Fn(&'a dyn Upstream) -> BoxFuture<'a, Result<T, UpstreamError>> + Send,
    ) -> Result<T, UpstreamError> {
        let is_able = |mirror: &&Mirror| match purpose {
            Purpose::List | Purpose::Resolve => mirror.capabilities.resolve,
            Purpose::Pull => mirror.capabilities.pull,
        };
        for mirror in self.mirrors.iter().filter(is_able).filter(|mirror| mirror.is_fit()) {
            // Waiting for its budget included: the others are not to be kept waiting by it.
            let patience =
                if purpose == Purpose::List { mirror.timeouts.list } else { mirror.timeouts.total };
            match timeout(patience, ask(&*mirror.upstream)).await {
                Ok(Ok(answer)) => {
                    mirror.standing.has_answered();
                    return Ok(answer);
                }
                Ok(Err(error)) => mirror.has_failed(&error),
                Err(_) => tracing::debug!(
                    mirror.host = %mirror.host.name, image.name = %self.name,
                    "the mirror takes too long and is passed over",
                ),
            }
        }
        ask(&*self.last).await
    }
}

#[async_trait]
impl Upstream for Route {
    async fn list(&self, known: Option<&ListState>, urgency: Urgency) -> Result<Listing, UpstreamError> {
        // What one of them recognises its list by means nothing to another.
        let known = known.map(ListState::without_validators);
        self.first(Purpose::List, |upstream| upstream.list(known.as_ref(), urgency)).await
    }

    async fn resolve(&self, tag: &Tag, urgency: Urgency) -> Result<Option<Digest>, UpstreamError> {
        self.first(Purpose::Resolve, |upstream| upstream.resolve(tag, urgency)).await
    }

    async fn manifest(
        &self,
        what: ManifestSelector<'_>,
        urgency: Urgency,
    ) -> Result<Document, UpstreamError> {
        let purpose = match what {
            ManifestSelector::Tag(_) => Purpose::Resolve,
            ManifestSelector::Digest(_) => Purpose::Pull,
        };
        self.first(purpose, |upstream| upstream.manifest(what, urgency)).await
    }

    async fn confirm(&self, digest: &Digest, urgency: Urgency) -> Result<(), UpstreamError> {
        self.first(Purpose::Pull, |upstream| upstream.confirm(digest, urgency)).await
    }

    async fn config(&self, digest: &Digest, urgency: Urgency) -> Result<Bytes, UpstreamError> {
        self.first(Purpose::Pull, |upstream| upstream.config(digest, urgency)).await
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        urgency: Urgency,
    ) -> Result<Document, UpstreamError> {
        self.first(Purpose::Resolve, |upstream| upstream.referrers(subject, artifact_type, urgency)).await
    }

    fn counts_manifest_gets(&self) -> bool {
        self.last.counts_manifest_gets()
    }
}

#[cfg(test)]
mod tests;
