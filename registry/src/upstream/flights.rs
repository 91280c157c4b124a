//! Concurrent requests for one thing are one request.
//!
//! Whoever waits drives: the first to ask may go away without stranding those who joined, and when all have gone the
//! request is dropped. Somebody in a hurry does not join a request that waits its turn in the background; the other way
//! round is welcome. Nothing is kept: who asks after the answer has come asks anew. So does who has a reason to ask just now
//! for what may move, a list or a tag: what is under way may have been answered before that reason came up.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use super::{Document, ListState, Listing, ManifestSelector, Upstream, UpstreamError, Urgency};
use crate::credentials::CredentialChain;
use crate::{Digest, Name, Tag};

/// Requests that are over are cleared away once there are this many entries of a kind.
const CLEAR_REQUESTS_AT: usize = 1_024;

type Outcome<T> = Result<T, UpstreamError>;
type Flight<T> = Shared<BoxFuture<'static, Outcome<T>>>;

/// What is being asked of all registries at this moment.
#[derive(Debug, Default)]
pub(super) struct Flights {
    lists: UnderWay<Option<ListState>, Listing>,
    resolutions: UnderWay<Tag, Option<Digest>>,
    by_tag: UnderWay<Tag, Document>,
    // Named by a digest: what is said of it stays true.
    by_digest: UnderWay<Digest, Document>,
    configs: UnderWay<Digest, Bytes>,
    /// By subject and type of artifact.
    referrers: UnderWay<(Digest, Option<String>), Document>,
}

/// Requests of one kind.
#[derive(Debug)]
struct UnderWay<K, T: 'static>(Mutex<HashMap<Key<K>, Boarding<T>>>);

/// Which thing, and in what hurry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key<K> {
    name: Name,
    what: K,
    urgency: Urgency,
}

/// A request that others may join who log in with the same.
#[derive(Debug)]
struct Boarding<T: 'static> {
    credentials: CredentialChain,
    flight: WeakShared<BoxFuture<'static, Outcome<T>>>,
}

impl<K, T> Default for UnderWay<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash, T: Clone> UnderWay<K, T> {
    /// Joins the request for the same thing, which may move meanwhile, or begins one.
    async fn join_if_fresh(
        &self,
        key: Key<K>,
        credentials: &CredentialChain,
        ask: impl FnOnce() -> BoxFuture<'static, Outcome<T>>,
    ) -> Outcome<T> {
        let flight = match key.urgency {
            Urgency::Asked => Self::begin(&mut self.under_way(), key, credentials, ask),
            Urgency::Background => self.board(key, credentials, ask),
        };
        flight.await
    }

    /// Joins the request for the same thing, or begins one.
    async fn join(
        &self,
        key: Key<K>,
        credentials: &CredentialChain,
        ask: impl FnOnce() -> BoxFuture<'static, Outcome<T>>,
    ) -> Outcome<T> {
        let flight = self.board(key, credentials, ask);
        flight.await
    }

    fn board(
        &self,
        key: Key<K>,
        credentials: &CredentialChain,
        ask: impl FnOnce() -> BoxFuture<'static, Outcome<T>>,
    ) -> Flight<T> {
        let mut under_way = self.under_way();
        let asked = Key { urgency: Urgency::Asked, ..key.clone() };
        for key in [&asked, &key] {
            if let Some(flight) = under_way.get(key).and_then(|boarding| boarding.admits(credentials)) {
                return flight;
            }
        }
        Self::begin(&mut under_way, key, credentials, ask)
    }

    /// Others may join it.
    fn begin(
        under_way: &mut HashMap<Key<K>, Boarding<T>>,
        key: Key<K>,
        credentials: &CredentialChain,
        ask: impl FnOnce() -> BoxFuture<'static, Outcome<T>>,
    ) -> Flight<T> {
        if under_way.len() >= CLEAR_REQUESTS_AT {
            under_way.retain(|_, boarding| {
                boarding.flight.upgrade().is_some_and(|flight| flight.peek().is_none())
            });
        }
        let flight = ask().shared();
        let weak = flight.downgrade().expect("a request that nobody has polled is not over");
        under_way.insert(key, Boarding { credentials: credentials.clone(), flight: weak });
        flight
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Key<K>, Boarding<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Boarding<T> {
    /// The request, for somebody who logs in with these, if it is not over.
    fn admits(&self, credentials: &CredentialChain) -> Option<Flight<T>> {
        let flight = self.flight.upgrade().filter(|flight| flight.peek().is_none())?;
        (self.credentials == *credentials).then_some(flight)
    }
}

/// One repository, of which nothing is asked twice at the same time.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) name: Name,
    pub(super) credentials: CredentialChain,
    pub(super) upstream: Arc<dyn Upstream>,
    pub(super) flights: Arc<Flights>,
}

impl Joined {
    fn key<K>(&self, what: K, urgency: Urgency) -> Key<K> {
        Key { name: self.name.clone(), what, urgency }
    }
}

#[async_trait]
impl Upstream for Joined {
    async fn list(&self, known: Option<&ListState>, urgency: Urgency) -> Result<Listing, UpstreamError> {
        let (upstream, known) = (self.upstream.clone(), known.cloned());
        let key = self.key(known.clone(), urgency);
        let ask = || async move { upstream.list(known.as_ref(), urgency).await }.boxed();
        self.flights.lists.join_if_fresh(key, &self.credentials, ask).await
    }

    async fn resolve(&self, tag: &Tag, urgency: Urgency) -> Result<Option<Digest>, UpstreamError> {
        let (upstream, tag) = (self.upstream.clone(), tag.clone());
        let key = self.key(tag.clone(), urgency);
        let ask = || async move { upstream.resolve(&tag, urgency).await }.boxed();
        self.flights.resolutions.join_if_fresh(key, &self.credentials, ask).await
    }

    async fn manifest(
        &self,
        what: ManifestSelector<'_>,
        urgency: Urgency,
    ) -> Result<Document, UpstreamError> {
        let upstream = self.upstream.clone();
        match what {
            ManifestSelector::Tag(tag) => {
                let tag = tag.clone();
                let key = self.key(tag.clone(), urgency);
                let ask =
                    || async move { upstream.manifest(ManifestSelector::Tag(&tag), urgency).await }.boxed();
                self.flights.by_tag.join_if_fresh(key, &self.credentials, ask).await
            }
            ManifestSelector::Digest(digest) => {
                let digest = digest.clone();
                let key = self.key(digest.clone(), urgency);
                let ask = || {
                    async move { upstream.manifest(ManifestSelector::Digest(&digest), urgency).await }.boxed()
                };
                self.flights.by_digest.join(key, &self.credentials, ask).await
            }
        }
    }

    /// Whoever asks takes care not to ask twice.
    async fn confirm(&self, digest: &Digest, urgency: Urgency) -> Result<(), UpstreamError> {
        self.upstream.confirm(digest, urgency).await
    }

    async fn config(&self, digest: &Digest, urgency: Urgency) -> Result<Bytes, UpstreamError> {
        let (upstream, digest) = (self.upstream.clone(), digest.clone());
        let key = self.key(digest.clone(), urgency);
        let ask = || async move { upstream.config(&digest, urgency).await }.boxed();
        self.flights.configs.join(key, &self.credentials, ask).await
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        urgency: Urgency,
    ) -> Result<Document, UpstreamError> {
        let upstream = self.upstream.clone();
        let (subject, artifact_type) = (subject.clone(), artifact_type.map(str::to_owned));
        let key = self.key((subject.clone(), artifact_type.clone()), urgency);
        let ask =
            || async move { upstream.referrers(&subject, artifact_type.as_deref(), urgency).await }.boxed();
        self.flights.referrers.join(key, &self.credentials, ask).await
    }

    fn counts_manifest_gets(&self) -> bool {
        self.upstream.counts_manifest_gets()
    }
}

#[cfg(test)]
mod tests;
