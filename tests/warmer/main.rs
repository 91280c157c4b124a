//! The warmer, cache and store as they are, against a simulated registry in simulated time.

mod simulated;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{BoxStream, StreamExt};
use jiff::Timestamp;
use samovar::cache::{Cache, CacheError, ImageRepository};
use samovar::metrics::Metrics;
use samovar::sources::{ImageSource, TagFilter, Watch, WatchList};
use samovar::store::{Client, Entry, Key, Memory, Reader, StoreError};
use samovar::warmer::{Change, ChangeKind, Handle, RequestRefused, Warmer, WarmerOptions};
use samovar_registry::upstream::{Credentials, ErrorKind, Operation, Urgency};
use samovar_registry::{Name, Platforms, Tag, TokioClock};
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
    changes: broadcast::Receiver<Arc<Change>>,
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
    let watch = Watch { tags: TagFilter::All, credentials: Credentials::Anonymous, poll_interval: None };
    WatchList(names.iter().map(|name| ((*name).clone(), watch.clone())).collect())
}

fn options() -> WarmerOptions {
    WarmerOptions { seed: Some(7), ..WarmerOptions::default() }
}

fn start_with(world: &World, store: &Arc<dyn Client>, names: &[&Name], options: WarmerOptions) -> Running {
    let warmer =
        Warmer::new(Arc::clone(store), Arc::new(world.clone()), clock(), Arc::new(Metrics::new()), options);
    let (watch, list) = watch::channel(watching(names));
    let handle = warmer.handle();
    let shutdown = CancellationToken::new();
    Running {
        changes: handle.changes(),
        handle,
        cache: Cache::new(Arc::clone(store), clock()),
        watch,
        task: tokio::spawn(warmer.run(vec![Box::new(TestSource(list))], shutdown.clone())),
        shutdown,
    }
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
        while let Ok(change) = self.changes.try_recv() {
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

#[tokio::test(start_paused = true)]
async fn cold_it_costs_one_list_and_one_manifest_and_one_config_per_tag() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 50);
    let samovar = start(&world, &store, &[&app]);
    let repository = samovar.complete(&app).await;
    assert_eq!(repository.metadata.tags.len(), 50);
    let image = &repository.metadata.images[&tag("1.7")];
    assert_eq!(image.labels["n"], "7");
    assert_eq!(image.created_at, Some("2024-05-06T07:08:09Z".parse().unwrap()));
    assert_eq!(image.first_seen, None, "it may be of any age");
    assert_eq!(world.count(Operation::Tags), 1);
    assert_eq!(world.count(Operation::Manifest), 50);
    assert_eq!(world.count(Operation::Config), 50);
    assert_eq!(world.count(Operation::Resolve), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_named_by_a_digest_is_fetched_once_for_all_who_need_it_at_the_same_time() {
    let (world, store) = (World::default(), memory());
    world.set_latency("registry.example", Duration::from_millis(100));
    let (amd, arm) = (Image::new("amd"), Image::new("arm").platform("linux/arm64"));
    let (other, index) = (Image::new("other").platform("linux/s390x"), Index::of([&amd, &arm]));
    let (first, second) = (name("registry.example/first"), name("registry.example/second"));
    for number in 0..10 {
        world.push(&first, &number.to_string(), &index);
        world.push(&second, &number.to_string(), &Index::of([&amd, &other]).attestation_child());
    }
    let samovar = start(&world, &store, &[&first, &second]);
    samovar.complete(&first).await;
    samovar.complete(&second).await;
    let manifests: Vec<String> = world
        .take_asked()
        .into_iter()
        .filter(|asked| matches!(asked.operation, Operation::Manifest | Operation::Config))
        .map(|asked| asked.what)
        .filter(|what| what.starts_with("sha256:"))
        .collect();
    assert_eq!(manifests.len(), 4, "two wanted children and their two configurations: {manifests:?}");
}

#[tokio::test(start_paused = true)]
async fn on_docker_hub_a_new_tag_costs_a_head_and_a_get_only_for_a_new_digest() {
    let (world, store) = (World::default(), memory());
    let alpine = name("alpine");
    let (old, new) = (Image::new("old"), Image::new("new"));
    for tag in ["3", "3.20", "3.20.1"] {
        world.push(&alpine, tag, &old);
    }
    world.push(&alpine, "latest", &new);
    let samovar =
        start_with(&world, &store, &[&alpine], WarmerOptions { fetches_per_repository: 1, ..options() });
    samovar.complete(&alpine).await;
    assert_eq!(world.count(Operation::Resolve), 4);
    assert_eq!(world.count(Operation::Manifest), 2);
    assert_eq!(world.count(Operation::Config), 2);
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_tag_is_confirmed_ever_more_rarely_and_by_head_alone() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 3);
    let samovar = start(&world, &store, &[&app]);
    let generation = samovar.complete(&app).await.generation;
    world.take_asked();
    tokio::time::sleep(HOUR * 24 * 8).await;
    // Due 1, 3, 7, 15, 31, 63 and 127 hours after the first time, and then after 255.
    assert_eq!(world.count(Operation::Resolve), 3 * 7);
    assert_eq!(world.count(Operation::Manifest) + world.count(Operation::Config), 0);
    let listings = world.count(Operation::Tags);
    assert!((2200..2400).contains(&listings), "every five minutes or so: {listings}");
    let repository = samovar.repository(&app).await;
    assert_eq!(repository.generation, generation, "nothing has changed that means anything");
    assert!(repository.metadata.images[&tag("1.0")].last_fetched.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_where_it_stopped() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 20);
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    tokio::time::sleep(HOUR * 2).await;
    samovar.stop().await;
    world.take_asked();
    let samovar = start(&world, &store, &[&app]);
    assert_eq!(samovar.repository(&app).await.metadata.images.len(), 20, "answered at once");
    tokio::time::sleep(HOUR / 2).await;
    let asked = world.take_asked();
    assert!(
        asked.iter().all(|asked| asked.operation == Operation::Tags),
        "due only after an hour more: {asked:?}"
    );
    assert!((5..8).contains(&asked.len()));
    tokio::time::sleep(HOUR).await;
    assert_eq!(world.count(Operation::Resolve), 20);
}

#[tokio::test(start_paused = true)]
async fn a_killed_warm_up_goes_on_without_asking_again_for_what_was_published() {
    let (world, store) = (World::default(), memory());
    world.set_latency("registry.example", Duration::from_millis(200));
    let app = filled(&world, "registry.example/team/app", 200);
    let samovar = start(&world, &store, &[&app]);
    samovar.until(&app, |repository| repository.metadata.images.len() > 80).await;
    samovar.kill().await;
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    let by_tag = world
        .take_asked()
        .into_iter()
        .filter(|asked| asked.operation == Operation::Manifest && !asked.what.starts_with("sha256:"));
    // Lost are at most the requests in flight and the answers of half a second: 2 × 16 + 2.5 × 16 / 2.
    let again = by_tag.count() - 200;
    assert!(again <= 60, "{again} manifests were asked for again");
}

#[tokio::test(start_paused = true)]
async fn tags_are_served_as_they_become_known() {
    let (world, store) = (World::default(), memory());
    world.set_latency("registry.example", Duration::from_secs(1));
    let app = filled(&world, "registry.example/team/app", 200);
    let samovar = start(&world, &store, &[&app]);
    let early = samovar.until(&app, |repository| !repository.metadata.tags.is_empty()).await;
    assert_eq!((early.metadata.tags.len(), early.metadata.images.len()), (200, 0));
    assert!(!early.complete && early.unavailable.len() == 200);
    let half = samovar.until(&app, |repository| repository.metadata.images.len() >= 50).await;
    assert!(half.metadata.images.len() < 200 && half.generation > early.generation);
    let all = samovar.complete(&app).await;
    assert_eq!(all.metadata.images.len(), 200);
    assert!(all.unavailable.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_host_that_never_answers_delays_no_other() {
    let (world, store) = (World::default(), memory());
    let (stuck, fine) = (filled(&world, "stuck.example/app", 5), filled(&world, "fine.example/app", 50));
    world.set_latency("stuck.example", HOUR * 24 * 365);
    let samovar = start(&world, &store, &[&stuck, &fine]);
    let began = tokio::time::Instant::now();
    samovar.complete(&fine).await;
    assert!(began.elapsed() < Duration::from_secs(1));
    let nothing = samovar.cache.repository_state(&stuck).await;
    assert!(matches!(nothing, Err(CacheError::NeverListed { last_error: None, .. })), "{nothing:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rate_limited_host_is_left_alone_for_exactly_as_long_as_it_wants() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 200);
    let retry_after = HOUR * 3;
    world.set_latency("registry.example", Duration::from_secs(1));
    let samovar = start(&world, &store, &[&app]);
    samovar.until(&app, |repository| repository.metadata.images.len() >= 50).await;
    world.set_failure("registry.example", Some(ErrorKind::RateLimited { retry_after, message: None }));
    tokio::time::sleep(MINUTE).await;
    world.take_asked();
    tokio::time::sleep(HOUR * 2).await;
    assert_eq!(world.take_asked(), []);
    let served = samovar.repository(&app).await;
    assert!(served.metadata.images.len() >= 50 && !served.complete);
    assert!(
        served.unavailable.values().all(|unavailable| unavailable.attempts == 0),
        "the tags are not to blame"
    );
    world.set_failure("registry.example", None);
    let began = tokio::time::Instant::now();
    samovar.complete(&app).await;
    assert!(began.elapsed() <= HOUR + MINUTE);
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_is_asked_for_goes_before_a_long_warm_up() {
    let (world, store) = (World::default(), memory());
    world.set_latency("registry.example", Duration::from_secs(1));
    let app = filled(&world, "registry.example/team/app", 1000);
    let samovar = start(&world, &store, &[&app]);
    samovar.until(&app, |repository| !repository.metadata.tags.is_empty()).await;
    let moved = world.push(&app, "1.999", &Image::new("moved"));
    let began = tokio::time::Instant::now();
    samovar.handle.refresh(&app, Some(tag("1.999"))).unwrap().done().await.unwrap();
    assert!(began.elapsed() <= Duration::from_secs(3), "{:?}", began.elapsed());
    let repository = samovar.repository(&app).await;
    assert_eq!(repository.metadata.images[&tag("1.999")].digest, moved);
    assert!(!repository.complete);
    let urgent = world.take_asked().into_iter().filter(|asked| asked.urgency == Urgency::Asked);
    assert_eq!(urgent.count(), 2, "its manifest and its configuration");
    // The warm-up that was under way neither loses the tag nor asks for it again.
    let repository = samovar.complete(&app).await;
    assert_eq!(repository.metadata.images[&tag("1.999")].digest, moved);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_of_one_tag_costs_a_head_and_what_is_new_behind_it_and_lists_nothing() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 10);
    let mut samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    world.take_asked();
    let refresh = |text: &str| samovar.handle.refresh(&app, Some(tag(text))).unwrap().done();

    refresh("1.3").await.unwrap();
    let asked = world.take_asked();
    assert_eq!(asked.iter().map(|asked| asked.operation).collect::<Vec<_>>(), [Operation::Resolve]);

    let moved = world.push(&app, "1.3", &Image::new("moved"));
    refresh("1.3").await.unwrap();
    let asked: Vec<Operation> = world.take_asked().iter().map(|asked| asked.operation).collect();
    assert_eq!(asked, [Operation::Resolve, Operation::Manifest, Operation::Config]);
    assert_eq!(samovar.repository(&app).await.metadata.images[&tag("1.3")].digest, moved);

    world.push(&app, "new", &Image::new("new"));
    refresh("new").await.unwrap();
    let repository = samovar.repository(&app).await;
    assert!(repository.metadata.images[&tag("new")].first_seen.is_some());
    assert_eq!(world.count(Operation::Tags), 0);

    refresh("never-there").await.unwrap();
    assert!(!samovar.repository(&app).await.metadata.tags.contains(&tag("never-there")));
    let expected = [(ChangeKind::TagMoved, Some("1.3".into())), (ChangeKind::TagAdded, Some("new".into()))];
    assert_eq!(samovar.announced(), expected);
}

#[tokio::test(start_paused = true)]
async fn every_change_is_announced_in_order_and_once() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 10);
    let mut samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    assert_eq!(samovar.announced(), [], "what is there at first is not news");
    world.push(&app, "2.0", &Image::new("2.0"));
    tokio::time::sleep(MINUTE * 10).await;
    world.push(&app, "2.0", &Image::new("2.0 again"));
    tokio::time::sleep(HOUR * 2).await;
    world.remove(&app, "2.0");
    tokio::time::sleep(MINUTE * 10).await;
    world.set_failure("registry.example", Some(ErrorKind::Unavailable { status: 503, message: None }));
    tokio::time::sleep(HOUR).await;
    world.set_failure("registry.example", None);
    tokio::time::sleep(HOUR * 2).await;
    let tag = Some("2.0".to_owned());
    assert_eq!(
        samovar.announced(),
        [
            (ChangeKind::TagAdded, tag.clone()),
            (ChangeKind::TagMoved, tag.clone()),
            (ChangeKind::TagRemoved, tag),
            (ChangeKind::RepositoryFailed, None),
            (ChangeKind::RepositoryRecovered, None),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_days_takes_nothing_away_and_is_tried_no_less_than_hourly() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 30);
    let samovar = start(&world, &store, &[&app]);
    let before = samovar.complete(&app).await;
    world.set_failure("registry.example", Some(ErrorKind::Transport { message: "refused".into() }));
    tokio::time::sleep(HOUR * 24 * 3).await;
    let during = samovar.repository(&app).await;
    assert_eq!(during.metadata.images.len(), 30);
    assert_eq!(during.generation, before.generation);
    assert!(during.last_error.is_some() && during.last_update < before.last_update.map(|time| time + HOUR));
    let tried = world.take_asked().len();
    assert!((70..250).contains(&tried), "{tried} requests in three days");
    world.set_failure("registry.example", None);
    let recovered = samovar.until(&app, |repository| repository.last_error.is_none()).await;
    assert!(recovered.complete);
}

#[tokio::test(start_paused = true)]
async fn what_a_registry_refuses_for_a_day_is_no_longer_served() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 3);
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    let denied = ErrorKind::Denied { credentials: "no credentials".into(), message: None };
    world.set_failure("registry.example", Some(denied));
    tokio::time::sleep(HOUR * 23).await;
    assert_eq!(samovar.repository(&app).await.metadata.images.len(), 3);
    tokio::time::sleep(HOUR * 2).await;
    let refused = samovar.cache.repository_state(&app).await;
    assert!(matches!(refused, Err(CacheError::NeverListed { last_error: Some(_), .. })), "{refused:?}");
    world.set_failure("registry.example", None);
    samovar.complete(&app).await;
}

#[tokio::test(start_paused = true)]
async fn repositories_follow_the_watch_list() {
    let (world, store) = (World::default(), memory());
    let (one, other) = (filled(&world, "registry.example/one", 3), filled(&world, "other.example/two", 3));
    let samovar = start(&world, &store, &[&one]);
    samovar.complete(&one).await;
    assert_eq!(samovar.handle.refresh(&other, None).unwrap_err(), RequestRefused::NotWatched);
    samovar.watch.send_replace(watching(&[&other]));
    let began = tokio::time::Instant::now();
    samovar.complete(&other).await;
    assert!(began.elapsed() < Duration::from_secs(1), "one that appears is warmed at once");
    world.take_asked();
    tokio::time::sleep(HOUR).await;
    let asked = world.take_asked();
    assert!(asked.iter().all(|asked| asked.name == other), "one that is gone is left alone");
    assert!(!asked.is_empty());
}

#[tokio::test(start_paused = true)]
async fn requests_for_the_same_thing_merge_while_they_wait() {
    let (world, store) = (World::default(), memory());
    world.set_latency("registry.example", Duration::from_secs(10));
    let app = filled(&world, "registry.example/team/app", 1);
    let samovar = start(&world, &store, &[&app]);
    // The first pass is under way; these wait for it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let tickets: Vec<_> = (0..20).map(|_| samovar.handle.refresh(&app, None).unwrap()).collect();
    for ticket in tickets {
        ticket.done().await.unwrap();
    }
    assert_eq!(world.count(Operation::Tags), 2);
    assert_eq!(world.count(Operation::Resolve), 1);
}

#[tokio::test(start_paused = true)]
async fn when_other_platforms_are_wanted_the_stored_documents_tell() {
    let (world, store) = (World::default(), memory());
    let app = name("registry.example/team/app");
    let (amd, arm) = (
        Image::new("amd").label("for", "amd64"),
        Image::new("arm").platform("linux/arm64").label("for", "arm64"),
    );
    world.push(&app, "both", &Index::of([&amd, &arm]));
    world.push(&app, "amd", &amd);
    let samovar = start(&world, &store, &[&app]);
    let repository = samovar.complete(&app).await;
    assert_eq!(repository.metadata.images[&tag("both")].labels["for"], "amd64");
    samovar.stop().await;
    world.take_asked();
    let platforms = Platforms::new(vec!["linux/arm64".parse().unwrap()]).unwrap();
    let samovar = start_with(&world, &store, &[&app], WarmerOptions { platforms, ..options() });
    let repository = samovar.until(&app, |repository| repository.unavailable.len() == 1).await;
    assert!(repository.unavailable[&tag("amd")].reason.as_ref().unwrap().contains("no wanted platform"));
    let repository = samovar
        .until(&app, |repository| repository.metadata.images[&tag("both")].labels["for"] == "arm64")
        .await;
    assert!(repository.complete);
    assert_eq!(world.count(Operation::Manifest) + world.count(Operation::Config), 0);
}

/// A store that can be made to fail: all writes, or those of heads alone, which is where a crash would strike.
#[derive(Debug, Default)]
struct Failing {
    store: Memory,
    fails: AtomicBool,
    heads_fail: AtomicBool,
}

impl Failing {
    fn check(&self) -> Result<(), StoreError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable { message: "no space left".into() });
        }
        Ok(())
    }
}

#[async_trait]
impl Reader for Failing {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.store.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>, StoreError> {
        self.store.get_many(keys).await
    }
}

#[async_trait]
impl Client for Failing {
    async fn set(&self, key: Key, entry: Entry) -> Result<(), StoreError> {
        self.check()?;
        self.store.set(key, entry).await
    }

    async fn set_many(&self, entries: Vec<(Key, Entry)>) -> Result<(), StoreError> {
        self.check()?;
        self.store.set_many(entries).await
    }

    async fn compare_and_set(
        &self,
        key: Key,
        expected: Option<Entry>,
        entry: Entry,
    ) -> Result<bool, StoreError> {
        self.check()?;
        if self.heads_fail.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable { message: "no heads today".into() });
        }
        self.store.compare_and_set(key, expected, entry).await
    }

    async fn delete(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        self.check()?;
        self.store.delete(keys).await
    }

    async fn lease(&self, key: &Key, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.store.lease(key, holder, ttl).await
    }

    fn kind(&self) -> &'static str {
        "failing"
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_written_is_survived() {
    let world = World::default();
    let failing = Arc::new(Failing::default());
    let store: Arc<dyn Client> = failing.clone();
    let app = filled(&world, "registry.example/team/app", 30);
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    failing.fails.store(true, Ordering::Relaxed);
    world.push(&app, "2.0", &Image::new("2.0"));
    tokio::time::sleep(HOUR * 3).await;
    assert_eq!(samovar.repository(&app).await.metadata.images.len(), 30, "what is stored is served");
    failing.fails.store(false, Ordering::Relaxed);
    samovar.until(&app, |repository| repository.complete && repository.metadata.images.len() == 31).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_the_head_is_written_leaves_nothing_that_claims_to_be_newer_than_it() {
    let world = World::default();
    let failing = Arc::new(Failing::default());
    let store: Arc<dyn Client> = failing.clone();
    let app = filled(&world, "registry.example/team/app", 30);
    // The first listing never gets its head.
    failing.heads_fail.store(true, Ordering::Relaxed);
    let samovar = start(&world, &store, &[&app]);
    tokio::time::sleep(MINUTE).await;
    samovar.kill().await;
    failing.heads_fail.store(false, Ordering::Relaxed);
    let began = tokio::time::Instant::now();
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // A tag moves, is seen to have moved, and the head that says so is never written.
    tokio::time::sleep(HOUR / 2).await;
    let moved = world.push(&app, "1.0", &Image::new("moved"));
    failing.heads_fail.store(true, Ordering::Relaxed);
    samovar.handle.refresh(&app, Some(tag("1.0"))).unwrap().done().await.unwrap_err();
    samovar.kill().await;
    failing.heads_fail.store(false, Ordering::Relaxed);
    let samovar = start(&world, &store, &[&app]);
    let began = tokio::time::Instant::now();
    samovar.until(&app, |repository| repository.metadata.images[&tag("1.0")].digest == moved).await;
    assert!(began.elapsed() <= HOUR, "no later than if it had not been seen: {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_page_lost_from_the_store_comes_back_by_itself() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 200);
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    let head = samovar::cache::stored::load(&*store, &app, samovar::cache::stored::Pages::None)
        .await
        .unwrap()
        .head
        .unwrap();
    store.delete(vec![Key::Page(app.clone(), head.pages[0].hash)]).await.unwrap();
    assert!(matches!(samovar.cache.repository_state(&app).await, Err(CacheError::Torn { .. })));
    let repository = samovar.until(&app, |repository| repository.metadata.images.len() == 200).await;
    assert!(repository.complete);
}

#[tokio::test(start_paused = true)]
async fn a_changed_watch_is_followed_at_once_also_over_a_restart() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 10);
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    let only = |text: &str| {
        let mut list = watching(&[&app]);
        list.0.get_mut(&app).unwrap().tags = TagFilter::exactly(tag(text));
        list
    };
    let began = tokio::time::Instant::now();
    samovar.watch.send_replace(only("1.3"));
    samovar.until(&app, |repository| repository.metadata.images.len() == 1).await;
    samovar.stop().await;
    let samovar = start(&world, &store, &[&app]);
    samovar.until(&app, |repository| repository.metadata.images.len() == 10).await;
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_changes_during_its_pass_is_followed_by_one_more_pass_and_then_rest() {
    let (world, store) = (World::default(), memory());
    world.set_latency("registry.example", Duration::from_secs(5));
    let app = filled(&world, "registry.example/team/app", 100);
    let samovar = start(&world, &store, &[&app]);
    samovar.until(&app, |repository| !repository.metadata.images.is_empty()).await;
    let mut list = watching(&[&app]);
    list.0.get_mut(&app).unwrap().tags = TagFilter::exactly(tag("1.3"));
    samovar.watch.send_replace(list);
    samovar.until(&app, |repository| repository.complete && repository.metadata.images.len() == 1).await;
    world.take_asked();
    tokio::time::sleep(HOUR / 2).await;
    let asked = world.take_asked().len();
    assert!((5..8).contains(&asked), "a listing every five minutes and nothing else: {asked}");
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_leaves_the_watch_list_and_comes_back_during_its_pass_is_whole() {
    let (world, store) = (World::default(), memory());
    world.set_latency("registry.example", Duration::from_secs(5));
    let app = filled(&world, "registry.example/team/app", 200);
    let samovar = start(&world, &store, &[&app]);
    samovar.until(&app, |repository| !repository.metadata.images.is_empty()).await;
    samovar.watch.send_replace(WatchList::default());
    tokio::time::sleep(Duration::from_secs(1)).await;
    samovar.watch.send_replace(watching(&[&app]));
    let repository = samovar.complete(&app).await;
    assert_eq!(repository.metadata.images.len(), 200);
    samovar.watch.send_replace(WatchList::default());
    tokio::time::sleep(MINUTE).await;
    assert!(samovar.handle.overview().is_empty(), "what is not watched is not counted");
    world.take_asked();
    tokio::time::sleep(HOUR).await;
    assert_eq!(world.take_asked(), []);
}

#[tokio::test(start_paused = true)]
async fn a_repository_of_very_many_tags_is_kept_by_a_directory() {
    let (world, store) = (World::default(), memory());
    let app = name("registry.example/team/huge");
    let digest = world.push(&app, "wanted", &Image::new("one for all"));
    for number in 0..80_000 {
        world.push_tag(&app, &format!("sha-{number:040}"), &digest);
    }
    let only = |text: &str| {
        let mut list = watching(&[&app]);
        list.0.get_mut(&app).unwrap().tags = TagFilter::exactly(tag(text));
        list
    };
    let samovar = start(&world, &store, &[]);
    samovar.watch.send_replace(only("wanted"));
    let repository = samovar.complete(&app).await;
    assert_eq!((repository.metadata.tags.len(), repository.metadata.images.len()), (80_001, 1));
    let pages =
        samovar::cache::stored::load(&*store, &app, samovar::cache::stored::Pages::All).await.unwrap();
    assert!(!pages.head.unwrap().directory.is_empty(), "the head alone could not name the pages");
    let moved = world.push(&app, "wanted", &Image::new("moved"));
    samovar.handle.refresh(&app, Some(tag("wanted"))).unwrap().done().await.unwrap();
    samovar.stop().await;
    let samovar = start(&world, &store, &[]);
    samovar.watch.send_replace(only("wanted"));
    let repository = samovar.complete(&app).await;
    assert_eq!(repository.metadata.images[&tag("wanted")].digest, moved);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_cannot_be_read_does_not_keep_known_tags_from_being_confirmed() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 3);
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    world.set_list_failure(Some(ErrorKind::Unavailable { status: 500, message: None }));
    let moved = world.push(&app, "1.0", &Image::new("moved"));
    let repository =
        samovar.until(&app, |repository| repository.metadata.images[&tag("1.0")].digest == moved).await;
    assert!(repository.last_error.is_some());
}

#[tokio::test(start_paused = true)]
async fn requests_for_tags_of_a_repository_that_was_never_listed_share_one_listing() {
    let (world, store) = (World::default(), memory());
    world.set_latency("registry.example", Duration::from_secs(1));
    let app = filled(&world, "registry.example/team/app", 30);
    let samovar = start(&world, &store, &[&app]);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let tickets: Vec<_> = (0..30)
        .map(|number| samovar.handle.refresh(&app, Some(tag(&format!("1.{number}")))).unwrap())
        .collect();
    for ticket in tickets {
        ticket.done().await.unwrap();
    }
    assert_eq!(samovar.complete(&app).await.metadata.images.len(), 30);
    assert_eq!(world.count(Operation::Tags), 1);
    assert!(world.count(Operation::Manifest) <= 60, "{}", world.count(Operation::Manifest));
}
