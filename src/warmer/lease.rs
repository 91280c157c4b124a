//! Which replica speaks to a host: the lease of its lane.
//!
//! Whoever holds the lease renews it well before it ends, and stops by its own clock when it could not: two replicas never
//! both believe that it is theirs for longer than their clocks drift apart in a few seconds. A store that forgets the
//! lease can give it out twice; then a repository is scanned twice, and heads are still written by compare-and-set.
//!
//! Who has nothing to do at a host neither takes its lease nor keeps it.
//!
//! When the store cannot tell for longer than a lease lasts, every replica goes on at its share of the host's rate.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use samovar_registry::upstream::{
    Document, ListState, Listing, ManifestSelector, Upstream, UpstreamError, UpstreamFactory, Urgency,
};
use samovar_registry::{Digest, Tag};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::store::{Client, Key};

/// How long a lease lasts that is not renewed. With the pause between two tries, and the two that stores with
/// whole seconds add at most, another replica takes over within 13 seconds.
const LEASE_TIME: Duration = Duration::from_secs(9);
/// How often a lease is renewed, or another replica's is tried for.
const TRY_EVERY: Duration = Duration::from_secs(2);
/// The store may take this long to say whose the lease is.
const LONGEST_ANSWER: Duration = Duration::from_secs(2);

/// Who speaks to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneStanding {
    /// This replica.
    Ours,
    /// Another replica, or it is not known yet.
    Elsewhere,
    /// The store cannot tell: every replica does, at its share of the rate.
    Unleased,
}

impl LaneStanding {
    /// All of them, for metrics that show every label value from the start.
    pub const ALL: [Self; 3] = [Self::Ours, Self::Elsewhere, Self::Unleased];

    /// The standing in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Elsewhere => "elsewhere",
            Self::Unleased => "unleased",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Until then, or for good where nobody else can have it.
    Ours(Option<Instant>),
    Elsewhere,
    Unleased,
}

/// Tells whether the lease is ours. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Lease(watch::Receiver<Standing>);

impl Lease {
    /// A lease that nobody contends for.
    pub(super) fn for_good() -> Self {
        Self(watch::channel(Standing::Ours(None)).1)
    }

    /// Who speaks to the host now.
    pub(super) fn standing(&self) -> LaneStanding {
        match *self.0.borrow() {
            Standing::Ours(until) if until.is_none_or(|until| Instant::now() < until) => LaneStanding::Ours,
            Standing::Unleased => LaneStanding::Unleased,
            Standing::Ours(_) | Standing::Elsewhere => LaneStanding::Elsewhere,
        }
    }

    /// Whether this replica may speak to the host now.
    pub(super) fn permits(&self) -> bool {
        self.standing() != LaneStanding::Elsewhere
    }

    /// Resolves once this replica may speak to the host.
    pub(super) async fn permitted(&self) {
        let mut standing = self.0.clone();
        while !self.permits() {
            changed(&mut standing).await;
        }
    }

    /// Resolves once this replica may no longer speak to the host.
    pub(super) async fn lost(&self) {
        let mut standing = self.0.clone();
        while self.permits() {
            let until = match *standing.borrow_and_update() {
                Standing::Ours(until) => until,
                Standing::Elsewhere | Standing::Unleased => None,
            };
            tokio::select! {
                biased;
                () = changed(&mut standing) => {}
                () = super::pass::until(until) => {}
            }
        }
    }

    /// Resolves once what [`Lease::permits`] says is no longer `before`.
    pub(super) async fn turned_from(&self, before: bool) {
        if before { self.lost().await } else { self.permitted().await }
    }
}

async fn changed(standing: &mut watch::Receiver<Standing>) {
    if standing.changed().await.is_err() {
        // Its keeper has ended, and with it everything that could change.
        std::future::pending::<()>().await;
    }
}

/// Takes and renews the lease of one host.
#[derive(Debug)]
pub(super) struct Keeper {
    host: String,
    key: Key,
    replica: String,
    store: Arc<dyn Client>,
    upstreams: Arc<dyn UpstreamFactory>,
    /// The part of the host's rate at which to go on when the store cannot tell.
    unleased_share: f64,
    standing: watch::Sender<Standing>,
    /// Whether there is anything to hold it for.
    wanted: watch::Sender<bool>,
    /// When the store last said whose the lease is.
    told_at: Instant,
}

impl Keeper {
    pub(super) fn new(
        host: &str,
        replica: &str,
        unleased_share: f64,
        store: Arc<dyn Client>,
        upstreams: Arc<dyn UpstreamFactory>,
    ) -> (Self, Lease) {
        let alone = !store.is_shared();
        let (standing, lease) =
            watch::channel(if alone { Standing::Ours(None) } else { Standing::Elsewhere });
        let keeper = Self {
            host: host.to_owned(),
            key: Key::Lane(host.to_owned()),
            replica: replica.to_owned(),
            store,
            upstreams,
            unleased_share,
            standing,
            wanted: watch::Sender::new(true),
            told_at: Instant::now(),
        };
        (keeper, Lease(lease))
    }

    /// Where to say whether there is anything to hold the lease for, as is assumed until then.
    pub(super) fn wanted(&self) -> watch::Sender<bool> {
        self.wanted.clone()
    }

    /// Keeps the lease while it is wanted, as far as others let it. Cancellation-safe.
    pub(super) async fn run(&mut self) -> ! {
        if !self.store.is_shared() {
            std::future::pending::<()>().await;
        }
        let mut wanted = self.wanted.subscribe();
        loop {
            if !*wanted.borrow_and_update() {
                self.let_go().await;
                // This keeper has a sender itself: it does not fail.
                let _ = wanted.wait_for(|wanted| *wanted).await;
                self.told_at = Instant::now();
            }
            self.try_once().await;
            tokio::select! {
                biased;
                _ = wanted.changed() => {}
                () = tokio::time::sleep(TRY_EVERY) => {}
            }
        }
    }

    /// Nothing is left to hold the lease for.
    async fn let_go(&self) {
        let before = self.standing.send_replace(Standing::Elsewhere);
        if before == Standing::Elsewhere {
            return;
        }
        self.upstreams.set_share(&self.host, 1.0);
        info!(
            registry.host = self.host,
            "nothing of the host is watched here: another replica may speak to it"
        );
        if matches!(before, Standing::Ours(_)) {
            self.hand_back().await;
        }
    }

    /// Gives the lease back, so that another replica need not wait for its end.
    pub(super) async fn give_back(self) {
        let ours = matches!(*self.standing.borrow(), Standing::Ours(Some(_)));
        if ours {
            self.hand_back().await;
        }
    }

    async fn hand_back(&self) {
        let given = self.store.lease(&self.key, &self.replica, Duration::ZERO);
        // Where this fails the lease ends by itself.
        let _ = tokio::time::timeout(LONGEST_ANSWER, given).await;
    }

    async fn try_once(&mut self) {
        // It lasts from when it was asked for: the answer may have been long on its way.
        let asked_at = Instant::now();
        let asked = self.store.lease(&self.key, &self.replica, LEASE_TIME);
        let answer = tokio::time::timeout(LONGEST_ANSWER, asked).await;
        let standing = match answer {
            Ok(Ok(true)) => Standing::Ours(Some(asked_at + LEASE_TIME)),
            Ok(Ok(false)) => Standing::Elsewhere,
            Ok(Err(_)) | Err(_) if self.told_at.elapsed() > LEASE_TIME => Standing::Unleased,
            Ok(Err(_)) | Err(_) => return,
        };
        if standing != Standing::Unleased {
            self.told_at = Instant::now();
        }
        self.turn_to(standing);
    }

    fn turn_to(&self, standing: Standing) {
        let before = self.standing.send_replace(standing);
        if std::mem::discriminant(&before) == std::mem::discriminant(&standing) {
            return;
        }
        let host = &self.host;
        let share = if standing == Standing::Unleased { self.unleased_share } else { 1.0 };
        self.upstreams.set_share(host, share);
        match standing {
            Standing::Ours(_) => {
                info!(registry.host = host, "this replica keeps the host's repositories warm");
            }
            Standing::Elsewhere => {
                info!(registry.host = host, "another replica keeps the host's repositories warm");
            }
            Standing::Unleased => warn!(
                registry.host = host,
                share,
                "the store cannot tell which replica keeps the host's repositories warm: all do, each at its share of the rate"
            ),
        }
    }
}

/// An upstream that is asked only while the lease permits it; otherwise its methods wait, also those that were begun
/// before. Whoever uses it watches [`Lease::lost`] at the same time.
#[derive(Debug)]
pub(super) struct Leased {
    pub(super) upstream: Arc<dyn Upstream>,
    pub(super) lease: Lease,
}

impl Leased {
    async fn permitted<T>(&self, asking: impl Future<Output = T>) -> T {
        self.lease.permitted().await;
        tokio::select! {
            biased;
            () = self.lease.lost() => std::future::pending().await,
            answer = asking => answer,
        }
    }
}

#[async_trait]
impl Upstream for Leased {
    async fn list(&self, known: Option<&ListState>, urgency: Urgency) -> Result<Listing, UpstreamError> {
        self.permitted(self.upstream.list(known, urgency)).await
    }

    async fn resolve(&self, tag: &Tag, urgency: Urgency) -> Result<Option<Digest>, UpstreamError> {
        self.permitted(self.upstream.resolve(tag, urgency)).await
    }

    async fn manifest(
        &self,
        what: ManifestSelector<'_>,
        urgency: Urgency,
    ) -> Result<Document, UpstreamError> {
        self.permitted(self.upstream.manifest(what, urgency)).await
    }

    async fn confirm(&self, digest: &Digest, urgency: Urgency) -> Result<(), UpstreamError> {
        self.permitted(self.upstream.confirm(digest, urgency)).await
    }

    async fn config(&self, digest: &Digest, urgency: Urgency) -> Result<Bytes, UpstreamError> {
        self.permitted(self.upstream.config(digest, urgency)).await
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        urgency: Urgency,
    ) -> Result<Document, UpstreamError> {
        self.permitted(self.upstream.referrers(subject, artifact_type, urgency)).await
    }

    fn counts_manifest_gets(&self) -> bool {
        self.upstream.counts_manifest_gets()
    }
}
