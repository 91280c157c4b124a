//! The warmer, cache and store as they are, against a simulated registry in simulated time.

mod budgets;
mod cadence;
mod catalog;
mod changes;
mod contents;
mod costs;
mod demand;
mod documents;
mod fairness;
mod faults;
mod forgetting;
mod hints;
#[path = "../common/hooked_store.rs"]
mod hooked_store;
mod light;
mod log;
mod on_demand;
mod over_http;
mod policies;
mod replicas;
mod schedule;
mod selection;
#[path = "../common/shared_store.rs"]
mod shared_store;
mod simulated;
mod taking_over;
mod watch_list;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt};
use jiff::Timestamp;
use samovar::cache::{Cache, CacheError, ImageRepository};
use samovar::metrics::Metrics;
use samovar::sources::{
    ImageSource, Named, PollInterval, SharedKeychain, SourceProblems, TagFilter, TagInterval, Watch,
    WatchList,
};
use samovar::store::{Client, Entry, Key, Memory, StoreError};
use samovar::warmer::{
    Cause, ChangeKind, Class, Handle, LaneStanding, Reading, RequestRefused, Told, Warmer, WarmerOptions,
};
use samovar_registry::credentials::{
    Credentials, Keychain, KeychainOptions, Login, RepositoryCredentials, SecretSource,
};
use samovar_registry::upstream::{ErrorKind, Operation, Urgency};
use samovar_registry::{Digest, Glob, Globs, Name, Platforms, Secret, Tag, TokioClock};
use samovar_testing::{Image, Index};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use simulated::World;

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// One samovar: everything but the doors.
struct Running {
    handle: Handle,
    cache: Cache<Arc<dyn Client>>,
    changes: broadcast::Receiver<Arc<Told>>,
    watch: watch::Sender<WatchList>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// A source whose list the test changes.
#[derive(Debug)]
struct TestSource(watch::Receiver<WatchList>);

impl ImageSource for TestSource {
    fn name(&self) -> &'static str {
        "test"
    }

    fn watch_lists(&mut self) -> BoxStream<'_, WatchList> {
        let first = self.0.borrow_and_update().clone();
        let later = futures_util::stream::unfold(&mut self.0, |list| async move {
            list.changed().await.ok()?;
            let current = list.borrow_and_update().clone();
            Some((current, list))
        });
        futures_util::stream::once(async { first }).chain(later).boxed()
    }
}

fn clock() -> Arc<TokioClock> {
    // One epoch for all samovars of a test: tokio's paused time goes on between them.
    thread_local! {
        static CLOCK: Arc<TokioClock> =
            Arc::new(TokioClock::starting_at("2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap()));
    }
    CLOCK.with(Arc::clone)
}

fn watching(names: &[&Name]) -> WatchList {
    WatchList(names.iter().map(|name| ((*name).clone(), Watch::default())).collect())
}

/// Lists every five minutes: how often is learnt in [`cadence`] alone.
fn options() -> WarmerOptions {
    let poll_interval = PollInterval::fixed(MINUTE * 5);
    WarmerOptions { seed: Some(7), poll_interval, ..WarmerOptions::default() }
}

fn start_with(world: &World, store: &Arc<dyn Client>, names: &[&Name], options: WarmerOptions) -> Running {
    start_by(clock(), world, store, names, options)
}

fn start_by(
    clock: Arc<TokioClock>,
    world: &World,
    store: &Arc<dyn Client>,
    names: &[&Name],
    options: WarmerOptions,
) -> Running {
    start_among(clock, world, store, names, options, |_| Vec::new())
}

/// With these sources beside the one whose list the test changes.
fn start_among(
    clock: Arc<TokioClock>,
    world: &World,
    store: &Arc<dyn Client>,
    names: &[&Name],
    options: WarmerOptions,
    others: impl FnOnce(&Handle) -> Vec<Box<dyn ImageSource>>,
) -> Running {
    let metrics = Arc::new(Metrics::new());
    let warmer = Warmer::new(Arc::clone(store), Arc::new(world.clone()), clock.clone(), metrics, options);
    let (watch, list) = watch::channel(watching(names));
    let handle = warmer.handle();
    let shutdown = CancellationToken::new();
    let mut sources: Vec<Box<dyn ImageSource>> = vec![Box::new(TestSource(list))];
    sources.extend(others(&handle));
    Running {
        changes: handle.changes(),
        handle,
        cache: Cache::new(Arc::clone(store), clock),
        watch,
        task: tokio::spawn(warmer.run(sources, shutdown.clone())),
        shutdown,
    }
}

/// What logs in as `user` for these repositories, and for others not at all.
fn keychain(user: Option<&str>, repositories: &str) -> SharedKeychain {
    let repositories: Globs = [Glob::new(repositories).unwrap()].into_iter().collect();
    let login = |user: &str| RepositoryCredentials {
        repositories,
        login: Login::Basic { username: user.to_owned(), password: SecretSource::Given(Secret::new("p")) },
        only: false,
        provenance: "a test".into(),
    };
    let repositories = user.map(login).into_iter().collect();
    SharedKeychain::new(Keychain::new(KeychainOptions { repositories, ..KeychainOptions::default() }))
}

fn start(world: &World, store: &Arc<dyn Client>, names: &[&Name]) -> Running {
    start_with(world, store, names, options())
}

impl Running {
    async fn repository(&self, name: &Name) -> ImageRepository {
        self.cache.repository_state(name).await.unwrap()
    }

    /// Waits, for up to a simulated month, until the repository is as wanted.
    async fn until(&self, name: &Name, wanted: impl Fn(&ImageRepository) -> bool) -> ImageRepository {
        let mut publications = self.handle.publications();
        let waiting = async {
            loop {
                match self.cache.repository_state(name).await {
                    Ok(repository) if wanted(&repository) => return repository,
                    Ok(_) | Err(_) => drop(publications.recv().await),
                }
            }
        };
        tokio::time::timeout(HOUR * 24 * 31, waiting).await.expect("it never came")
    }

    async fn complete(&self, name: &Name) -> ImageRepository {
        self.until(name, |repository| repository.complete).await
    }

    fn announced(&mut self) -> Vec<(ChangeKind, Option<String>)> {
        let mut kinds = Vec::new();
        while let Ok(told) = self.changes.try_recv() {
            let change = told.change().expect("nothing is missed");
            kinds.push((change.kind, change.tag.as_ref().map(ToString::to_string)));
        }
        kinds
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }

    /// As by SIGKILL: nothing is stored that is not stored already.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn memory() -> Arc<dyn Client> {
    Arc::new(Memory::default())
}

/// A repository of `count` images `1.0`, `1.1` …
fn filled(world: &World, repository: &str, count: usize) -> Name {
    let name = name(repository);
    for number in 0..count {
        let image = Image::new(format!("{repository} {number}"))
            .created("2024-05-06T07:08:09Z")
            .label("n", number.to_string());
        world.push(&name, &format!("1.{number}"), &image);
    }
    name
}
