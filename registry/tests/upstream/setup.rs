//! A fake registry and a client that may talk to it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::credentials::Credentials;
use samovar_registry::upstream::{
    BudgetSnapshot, HttpOptions, HttpUpstreams, Limits, Operation, Outcome, RequestObserver, RequestRecord,
    Upstream, UpstreamFactory,
};
use samovar_registry::{Clock, Name, Secret, SystemClock, Tag};
use samovar_testing::fake::{FakeRegistry, RequestKind};

use crate::overheard::Listening;

/// The repository that the tests ask for, unless they need another.
pub(crate) const REPOSITORY: &str = "team/app";
/// Never to be seen in an error.
pub(crate) const PASSWORD: &str = "open sesame";

/// The tests' own user.
pub(crate) fn alice() -> Credentials {
    Credentials::Basic {
        username: "alice".to_owned(),
        password: Secret::new(PASSWORD),
        provenance: "the test".into(),
    }
}

/// Fast enough that no test waits for the budget.
pub(crate) fn options() -> HttpOptions {
    trusting([])
}

/// The same, with these hosts insecure.
pub(crate) fn trusting<const N: usize>(insecure_hosts: [String; N]) -> HttpOptions {
    HttpOptions {
        limits: Limits { rate: 10_000.0, burst: 1_000, concurrency: 10 },
        insecure_hosts: BTreeSet::from(insecure_hosts),
        ..HttpOptions::default()
    }
}

/// A clock that the test sets: time that tokio pauses leaps while a server is waited for.
#[derive(Debug, Default)]
pub(crate) struct SetClock(Mutex<Timestamp>);

impl SetClock {
    pub(crate) fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// Remembers what it was told.
#[derive(Debug, Default)]
pub(crate) struct Observed(Mutex<Vec<(Operation, Outcome, u64)>>);

impl Observed {
    pub(crate) fn requests(&self) -> Vec<(Operation, Outcome, u64)> {
        self.0.lock().unwrap().clone()
    }
}

impl RequestObserver for Observed {
    fn request(&self, record: &RequestRecord<'_>) {
        assert!(record.host.starts_with("127.0.0.1"), "{record:?}");
        self.0.lock().unwrap().push((record.operation, record.outcome, record.bytes));
    }
}

/// A fake registry and a client. At its end no secret may have been logged.
pub(crate) struct Setup {
    pub(crate) registry: FakeRegistry,
    pub(crate) factory: HttpUpstreams,
    pub(crate) observed: Arc<Observed>,
    _listening: Listening,
}

impl Setup {
    pub(crate) async fn new() -> Self {
        Self::with(options()).await
    }

    /// The registry is insecure, and whatever else the options name.
    pub(crate) async fn with(mut options: HttpOptions) -> Self {
        let registry = FakeRegistry::start().await;
        options.insecure_hosts.insert(registry.host());
        Self::around(registry, options)
    }

    /// A client for a registry that has been started, because the options need its address.
    pub(crate) fn around(registry: FakeRegistry, options: HttpOptions) -> Self {
        Self::at(registry, options, Arc::new(SystemClock))
    }

    /// The same, with another clock than the machine's.
    pub(crate) fn at(registry: FakeRegistry, options: HttpOptions, clock: Arc<dyn Clock>) -> Self {
        let observed = Arc::new(Observed::default());
        let factory = HttpUpstreams::new(options, clock, observed.clone()).unwrap();
        Self { registry, factory, observed, _listening: Listening::start() }
    }

    /// The same with another client.
    #[cfg(feature = "aws")]
    pub(crate) fn with_factory(self, change: impl FnOnce(HttpUpstreams) -> HttpUpstreams) -> Self {
        Self { factory: change(self.factory), ..self }
    }

    pub(crate) fn name(&self, repository: &str) -> Name {
        format!("{}/{repository}", self.registry.host()).parse().unwrap()
    }

    pub(crate) fn upstream(&self) -> Arc<dyn Upstream> {
        self.upstream_as(&Credentials::Anonymous)
    }

    pub(crate) fn upstream_as(&self, credentials: &Credentials) -> Arc<dyn Upstream> {
        self.factory.upstream(&self.name(REPOSITORY), &credentials.clone().into())
    }

    /// The budget of the only host.
    pub(crate) fn budget(&self) -> BudgetSnapshot {
        let budgets = self.factory.budgets();
        let [(host, snapshot)] = &budgets[..] else { panic!("{budgets:?}") };
        assert_eq!(*host, self.registry.host());
        snapshot.clone()
    }

    /// How many requests of each kind have arrived: tags, HEAD and GET of manifests, blobs, tokens. Anything
    /// else, pings above all, must not be there.
    pub(crate) fn counts(&self) -> [usize; 5] {
        let kinds = [
            RequestKind::Tags,
            RequestKind::ManifestHead,
            RequestKind::ManifestGet,
            RequestKind::Blob,
            RequestKind::Token,
        ];
        let counts = kinds.map(|kind| self.registry.count(kind));
        assert_eq!(counts.iter().sum::<usize>(), self.registry.requests().len(), "only these kinds");
        counts
    }
}

pub(crate) fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}
