//! What becomes of what is stored when nobody watches it any more.

use futures_util::stream;

use super::hooked_store::{Hooked, Hooks};
use super::shared_store::{Server, View};
use super::*;

const DAY: Duration = Duration::from_hours(24);
/// From the end of a grace to the removal.
const SOON: Duration = Duration::from_mins(2);

fn forgetting_after(grace: Duration) -> WarmerOptions {
    WarmerOptions { forget_after: grace, ..options() }
}

/// The keys that a store has of a repository.
async fn kept(store: &dyn Client, name: &Name) -> Vec<Key> {
    let keys = store.scan_repositories().map(Result::unwrap);
    keys.filter(|key| std::future::ready(key.repository() == Some(name))).collect().await
}

/// Lets scans end in the middle, as often as is said.
#[derive(Debug)]
struct Halting {
    scans_that_fail: AtomicUsize,
}

impl Hooks for Halting {
    fn scanned<'a>(
        &self,
        keys: BoxStream<'a, Result<Key, StoreError>>,
    ) -> BoxStream<'a, Result<Key, StoreError>> {
        let one_less = |left: usize| left.checked_sub(1);
        if self.scans_that_fail.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
            return keys;
        }
        let cut = StoreError::Unavailable { message: "the connection was lost".into() };
        keys.take(3).chain(stream::iter([Err(cut)])).boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn what_leaves_the_watch_list_is_let_alone_and_after_the_grace_removed() {
    let (world, store) = (World::default(), memory());
    let (stays, leaves) = (filled(&world, "r.example/stays", 3), filled(&world, "r.example/leaves", 600));
    let mut samovar = start(&world, &store, &[&stays, &leaves]);
    for name in [&stays, &leaves] {
        samovar.complete(name).await;
    }
    let before = kept(&*store, &stays).await;
    samovar.announced();
    samovar.watch.send_replace(watching(&[&stays]));
    world.take_asked();
    tokio::time::sleep(MINUTE * 1439).await;
    assert!(world.take_asked().iter().all(|asked| asked.name == stays));
    assert!(kept(&*store, &leaves).await.len() > 3);
    assert_eq!(samovar.handle.unwatched_repositories(), 1);
    tokio::time::sleep(MINUTE + SOON).await;
    assert_eq!(kept(&*store, &leaves).await, []);
    assert_eq!(samovar.handle.unwatched_repositories(), 0);
    assert_eq!(samovar.announced(), [], "nothing has changed in a registry");
    assert_eq!(kept(&*store, &stays).await.len(), before.len());
    assert_eq!(samovar.repository(&stays).await.metadata.images.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_within_the_grace_has_lost_nothing_and_asks_for_no_manifest() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "r.example/app", 40);
    let samovar = start(&world, &store, &[&app]);
    let before = samovar.complete(&app).await;
    let digests = |repository: &ImageRepository| -> Vec<_> {
        let images = repository.metadata.images.iter();
        images.map(|(tag, image)| (tag.clone(), image.digest.clone())).collect()
    };
    samovar.watch.send_replace(WatchList::default());
    tokio::time::sleep(HOUR * 23).await;
    samovar.watch.send_replace(watching(&[&app]));
    world.take_asked();
    // The mark is gone, and with it the days that were.
    tokio::time::sleep(DAY).await;
    let after = samovar.repository(&app).await;
    assert_eq!((after.generation, digests(&after)), (before.generation, digests(&before)));
    assert_eq!(after.metadata.images.len(), 40);
    assert_eq!((world.count(Operation::Manifest), world.count(Operation::Config)), (0, 0));
    // Whoever restarts the clock gives a whole grace again.
    samovar.watch.send_replace(WatchList::default());
    tokio::time::sleep(HOUR * 23).await;
    assert!(!kept(&*store, &app).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_left_while_samovar_was_down_is_found_and_removed() {
    let (world, store) = (World::default(), memory());
    let (stays, left) = (filled(&world, "r.example/stays", 3), filled(&world, "r.example/left", 3));
    let samovar = start(&world, &store, &[&stays, &left]);
    for name in [&stays, &left] {
        samovar.complete(name).await;
    }
    samovar.kill().await;

    let samovar = start(&world, &store, &[&stays]);
    tokio::time::sleep(DAY).await;
    assert!(kept(&*store, &left).await.len() >= 4, "the grace begins when it was first seen");
    // Restarts do not begin it anew.
    samovar.kill().await;
    let samovar = start(&world, &store, &[&stays]);
    tokio::time::sleep(HOUR).await;
    assert_eq!(kept(&*store, &left).await, []);
    assert_eq!(samovar.handle.unwatched_repositories(), 0);
    assert_eq!(samovar.repository(&stays).await.metadata.images.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_repository_without_its_head_goes_too_and_once() {
    let (world, store) = (World::default(), memory());
    // What a crash leaves behind when a repository is being removed.
    let orphan = Key::SidePage(name("r.example/orphan"), 7);
    store.set(orphan.clone(), Entry::immutable("what is left")).await.unwrap();
    let samovar = start(&world, &store, &[]);
    tokio::time::sleep(HOUR * 23).await;
    assert!(store.get(&orphan).await.unwrap().is_some());
    tokio::time::sleep(HOUR * 4).await;
    assert_eq!(kept(&*store, &name("r.example/orphan")).await, []);
    assert_eq!(samovar.handle.unwatched_repositories(), 0);
    tokio::time::sleep(DAY).await;
    assert_eq!(kept(&*store, &name("r.example/orphan")).await, [], "nor does a mark come back");
}

#[tokio::test(start_paused = true)]
async fn without_a_grace_it_goes_as_soon_as_its_pass_has_ended() {
    let (world, store) = (World::default(), memory());
    world.set_latency("r.example", Duration::from_secs(1));
    let app = filled(&world, "r.example/app", 500);
    let samovar = start_with(&world, &store, &[&app], forgetting_after(Duration::ZERO));
    samovar.until(&app, |repository| repository.metadata.images.len() > 50).await;
    samovar.watch.send_replace(WatchList::default());
    tokio::time::sleep(MINUTE).await;
    assert_eq!(kept(&*store, &app).await, []);
    // Begun anew where it is wanted again.
    samovar.watch.send_replace(watching(&[&app]));
    assert_eq!(samovar.complete(&app).await.metadata.images.len(), 500);
}

/// A source that has not said yet what it wants.
#[derive(Debug)]
struct Silent;

impl ImageSource for Silent {
    fn name(&self) -> &'static str {
        "silent"
    }

    fn watch_lists(&mut self) -> BoxStream<'_, WatchList> {
        stream::pending().boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_unwatched_before_every_source_has_spoken() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "r.example/app", 3);
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    samovar.stop().await;
    let metrics = Arc::new(Metrics::new());
    let upstreams = Arc::new(world.clone());
    let options = forgetting_after(Duration::ZERO);
    let warmer = Warmer::new(Arc::clone(&store), upstreams, clock(), metrics, options);
    let (_list, other) = watch::channel(WatchList::default());
    let shutdown = CancellationToken::new();
    let sources: Vec<Box<dyn ImageSource>> = vec![Box::new(TestSource(other)), Box::new(Silent)];
    let running = tokio::spawn(warmer.run(sources, shutdown.clone()));
    tokio::time::sleep(DAY * 3).await;
    assert!(kept(&*store, &app).await.len() >= 4);
    shutdown.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn replicas_with_different_lists_keep_what_one_of_them_watches() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let (one, other) = (filled(&world, "r.example/one", 3), filled(&world, "other.example/two", 3));
    let nobodys = filled(&world, "third.example/three", 3);
    let replica = |replica: &str, names: &[&Name]| {
        let options = WarmerOptions { replica: replica.to_owned(), ..forgetting_after(Duration::ZERO) };
        let store: Arc<dyn Client> = View::of(&server);
        start_with(&world, &store, names, options)
    };
    let first = replica("a", &[&one, &nobodys]);
    let second = replica("b", &[&other]);
    first.complete(&one).await;
    first.complete(&nobodys).await;
    second.complete(&other).await;
    // A registry that is down: its repository is listed ever more rarely, and still watched.
    world.set_failure("r.example", Some(ErrorKind::Unavailable { status: 503, message: None }));
    first.watch.send_replace(watching(&[&one]));
    world.take_asked();
    tokio::time::sleep(HOUR * 6).await;
    let store = View::of(&server);
    assert!(kept(&*store, &one).await.len() >= 4);
    assert!(kept(&*store, &other).await.len() >= 4);
    assert_eq!(kept(&*store, &nobodys).await, []);
    let manifests = world.count(Operation::Manifest);
    assert_eq!(manifests, 0, "nothing was lost that had to be asked for again");
}

/// A replica that watches nothing tries to remove what `first` watches, for hours.
async fn outlives_one_who_does_not_watch_it(world: &World, server: &Arc<Server>, one: &Name) {
    // A registry that is down: its repository is listed ever more rarely.
    world.set_failure("r.example", Some(ErrorKind::Unavailable { status: 503, message: None }));
    let options = WarmerOptions { replica: "b".to_owned(), ..forgetting_after(Duration::ZERO) };
    let store: Arc<dyn Client> = View::of(server);
    let other = start_with(world, &store, &[], options);
    tokio::time::sleep(HOUR * 6).await;
    assert!(kept(&*store, one).await.len() >= 4);
    other.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_replica_watches_stays_though_one_of_its_sources_has_not_spoken() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let one = filled(&world, "r.example/one", 3);
    let store: Arc<dyn Client> = View::of(&server);
    let options = WarmerOptions { replica: "a".to_owned(), ..options() };
    let metrics = Arc::new(Metrics::new());
    let warmer = Warmer::new(Arc::clone(&store), Arc::new(world.clone()), clock(), metrics, options);
    let cache = Cache::new(Arc::clone(&store), clock());
    let (_list, list) = watch::channel(watching(&[&one]));
    let shutdown = CancellationToken::new();
    let sources: Vec<Box<dyn ImageSource>> = vec![Box::new(TestSource(list)), Box::new(Silent)];
    let running = tokio::spawn(warmer.run(sources, shutdown.clone()));
    while !cache.repository_state(&one).await.is_ok_and(|repository| repository.complete) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    outlives_one_who_does_not_watch_it(&world, &server, &one).await;
    shutdown.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_replica_watches_stays_though_the_store_cannot_tell_of_others() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let (one, lost) = (filled(&world, "r.example/one", 3), filled(&world, "r.example/lost", 3));
    let view = View::of(&server);
    let store: Arc<dyn Client> = view.clone();
    let options = WarmerOptions { replica: "a".to_owned(), ..options() };
    let first = start_with(&world, &store, &[&one, &lost], options);
    first.complete(&one).await;
    first.complete(&lost).await;
    view.fail_reads_of(Some(&lost));
    outlives_one_who_does_not_watch_it(&world, &server, &one).await;
}

#[tokio::test(start_paused = true)]
async fn a_search_that_fails_half_way_marks_what_it_found_and_is_made_again() {
    let world = World::default();
    let halting = Arc::new(Hooked::with(Halting { scans_that_fail: AtomicUsize::new(2) }));
    let store: Arc<dyn Client> = halting.clone();
    let names: Vec<Name> =
        (0..4).map(|number| filled(&world, &format!("r.example/app{number}"), 3)).collect();
    let samovar = start(&world, &store, &names.iter().collect::<Vec<_>>());
    for name in &names {
        samovar.complete(name).await;
    }
    samovar.stop().await;
    let samovar = start(&world, &store, &[&names[0]]);
    tokio::time::sleep(MINUTE * 5).await;
    assert_eq!(halting.hooks.scans_that_fail.load(Ordering::Relaxed), 1);
    tokio::time::sleep(DAY + HOUR * 2).await;
    assert_eq!(halting.hooks.scans_that_fail.load(Ordering::Relaxed), 0);
    for name in &names[1..] {
        assert_eq!(kept(&*store, name).await, []);
    }
    assert_eq!(samovar.repository(&names[0]).await.metadata.images.len(), 3);
}
