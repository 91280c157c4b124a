//! Patterns in the watch list: what a registry lists comes and goes with it.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use samovar::config::{RepositoryPattern, WatchEntry};
use samovar::sources::{CatalogOptions, CatalogParts, CatalogSource, Lanes};
use samovar_registry::Aliases;

use super::budgets::record;
use super::shared_store::{Server, View};
use super::*;

const HOST: &str = "r.example";
/// How often the list is asked for.
const EVERY: Duration = Duration::from_mins(10);
/// A moment longer than that.
const INTERVAL: Duration = Duration::from_secs(601);

fn pattern(text: &str, tags: TagFilter) -> WatchEntry<RepositoryPattern> {
    WatchEntry {
        name: RepositoryPattern::parse(text, &Aliases::default()).unwrap().0,
        tags,
        poll_interval: PollInterval::default(),
        tag_interval: TagInterval::default(),
        platforms: Platforms::default(),
    }
}

/// Nobody else asks.
#[derive(Debug)]
struct Alone;

impl Lanes for Alone {
    fn permits(&self, _: &str) -> bool {
        true
    }

    fn permitted<'a>(&'a self, _: &'a str) -> BoxFuture<'a, ()> {
        std::future::ready(()).boxed()
    }

    fn lost<'a>(&'a self, _: &'a str) -> BoxFuture<'a, ()> {
        std::future::pending().boxed()
    }
}

/// How a registry is asked: when, as whom, and whether it is for this replica to do so.
struct Asking {
    lanes: Arc<dyn Lanes>,
    keychain: SharedKeychain,
    every: Duration,
}

impl Asking {
    fn by(lanes: impl Lanes + 'static) -> Self {
        Self { lanes: Arc::new(lanes), keychain: keychain(None, "*"), every: EVERY }
    }
}

fn source(
    world: &World,
    store: &Arc<dyn Client>,
    asking: Asking,
    patterns: Vec<WatchEntry<RepositoryPattern>>,
    named: &[&Name],
) -> CatalogSource {
    let parts = CatalogParts {
        keychain: asking.keychain,
        store: Arc::clone(store),
        upstreams: Arc::new(world.clone()),
        lanes: asking.lanes,
        clock: clock(),
    };
    let repositories = named.iter().map(|name| (*name).clone());
    let named = Named::new(repositories, patterns.iter().map(|pattern| pattern.name.clone()));
    CatalogSource::new(patterns, named, parts, CatalogOptions { interval: asking.every, seed: Some(7) })
}

/// A samovar that watches what a pattern matches, and these besides.
struct Matching {
    samovar: Running,
    problems: SourceProblems,
}

fn start_matching(world: &World, store: &Arc<dyn Client>, replica: &str, named: &[&Name]) -> Matching {
    let patterns = vec![pattern("r.example/team/*", TagFilter::All)];
    start_asking(world, store, replica, named, patterns, Asking::by)
}

fn start_asking(
    world: &World,
    store: &Arc<dyn Client>,
    replica: &str,
    named: &[&Name],
    patterns: Vec<WatchEntry<RepositoryPattern>>,
    asking: impl FnOnce(Handle) -> Asking,
) -> Matching {
    let options = WarmerOptions { replica: replica.to_owned(), ..options() };
    let mut problems = SourceProblems::default();
    let samovar = start_among(clock(), world, store, named, options, |handle| {
        let catalog = source(world, store, asking(handle.clone()), patterns, named);
        problems = catalog.problems();
        vec![Box::new(catalog)]
    });
    Matching { samovar, problems }
}

fn watched(samovar: &Running) -> Vec<String> {
    samovar.handle.watch_list().0.keys().map(|name| name.path().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_a_pattern_matches_is_watched_as_it_comes_and_let_go_as_it_goes() {
    let (world, store) = (World::default(), memory());
    let one = filled(&world, "r.example/team/one", 3);
    filled(&world, "r.example/other/app", 3);
    let Matching { samovar, problems } = start_matching(&world, &store, "a", &[]);
    samovar.complete(&one).await;
    assert_eq!((watched(&samovar), world.count(Operation::Catalog)), (vec!["team/one".to_owned()], 1));

    let two = filled(&world, "r.example/team/sub/two", 3);
    let began = tokio::time::Instant::now();
    samovar.complete(&two).await;
    assert!(began.elapsed() <= INTERVAL + Duration::from_secs(10), "{:?}", began.elapsed());
    // Half of them is not most of them.
    world.forget(&one);
    tokio::time::sleep(INTERVAL + Duration::from_secs(20)).await;
    assert_eq!(watched(&samovar), ["team/sub/two"]);
    assert_eq!(problems.list(), Vec::<String>::new());
    world.take_asked();
    tokio::time::sleep(HOUR).await;
    let lists = world.count(Operation::Catalog);
    assert!((6..=7).contains(&lists), "one every ten minutes, a little earlier: {lists}");
}

#[tokio::test(start_paused = true)]
async fn what_was_listed_last_is_watched_while_the_registry_cannot_be_listed_also_over_a_restart() {
    let (world, store) = (World::default(), memory());
    let names: Vec<Name> =
        (0..5).map(|number| filled(&world, &format!("r.example/team/app{number}"), 3)).collect();
    let Matching { samovar, .. } = start_matching(&world, &store, "a", &[]);
    for name in &names {
        samovar.complete(name).await;
    }
    world.set_failure(HOST, Some(ErrorKind::Unavailable { status: 503, message: None }));
    tokio::time::sleep(HOUR * 3).await;
    assert_eq!(watched(&samovar).len(), 5);
    samovar.kill().await;

    let began = tokio::time::Instant::now();
    let Matching { samovar, problems } = start_matching(&world, &store, "a", &[]);
    while watched(&samovar).len() < 5 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(problems.list(), ["the repositories of r.example could not be listed: unavailable"]);
    world.take_asked();
    tokio::time::sleep(HOUR * 12).await;
    let tries = world.count(Operation::Catalog);
    assert!((11..=16).contains(&tries), "once an hour or so: {tries}");
    world.set_failure(HOST, None);
    tokio::time::sleep(HOUR + MINUTE).await;
    assert_eq!(problems.list(), Vec::<String>::new());
    assert_eq!(samovar.repository(&names[0]).await.metadata.images.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_lost_most_is_confirmed_before_repositories_are_let_go() {
    let (world, store) = (World::default(), memory());
    let names: Vec<Name> =
        (0..5).map(|number| filled(&world, &format!("r.example/team/app{number}"), 3)).collect();
    let Matching { samovar, .. } = start_matching(&world, &store, "a", &[]);
    for name in &names {
        samovar.complete(name).await;
    }
    world.set_unlisted(HOST, true);
    let asked = world.count(Operation::Catalog);
    while world.count(Operation::Catalog) == asked {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(watched(&samovar).len(), 5, "held back");
    world.set_unlisted(HOST, false);
    tokio::time::sleep(HOUR).await;
    assert_eq!(watched(&samovar).len(), 5, "it was a mistake");
    world.set_unlisted(HOST, true);
    tokio::time::sleep(INTERVAL + MINUTE * 2).await;
    assert_eq!(watched(&samovar), Vec::<String>::new(), "it was meant");
}

#[tokio::test(start_paused = true)]
async fn what_the_configuration_names_is_as_it_says_and_what_several_patterns_match_as_all_of_them_want() {
    let (world, store) = (World::default(), memory());
    let (named, app, other) = (
        filled(&world, "r.example/team/named", 3),
        filled(&world, "r.example/team/app", 3),
        filled(&world, "r.example/team/other", 3),
    );
    let only = |text: &str| TagFilter::exactly(tag(text));
    let patterns = vec![
        pattern("r.example/team/*", only("1.0")),
        pattern("r.example/team/a*", only("1.1")),
        pattern("r.example/nobody/*", TagFilter::All),
    ];
    let mut catalog = source(&world, &store, Asking::by(Alone), patterns, &[&named]);
    let problems = catalog.problems();
    let list = catalog.watch_lists().next().await.unwrap();
    let expected = [(app, only("1.0").union(only("1.1"))), (other, only("1.0"))];
    assert_eq!(list.0.into_iter().map(|(name, watch)| (name, watch.tags)).collect::<Vec<_>>(), expected);
    assert_eq!(problems.list(), ["r.example/nobody/* matches nothing that the registry lists"]);
}

#[tokio::test(start_paused = true)]
async fn of_several_replicas_one_asks_and_the_others_know() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let one = filled(&world, "r.example/team/one", 3);
    let replicas: Vec<Running> = ["a", "b", "c"]
        .map(|replica| {
            let store: Arc<dyn Client> = View::of(&server);
            start_matching(&world, &store, replica, &[]).samovar
        })
        .into();
    for replica in &replicas {
        replica.complete(&one).await;
    }
    world.take_asked();
    let two = filled(&world, "r.example/team/two", 3);
    tokio::time::sleep(INTERVAL + Duration::from_secs(20)).await;
    for replica in &replicas {
        assert_eq!(watched(replica), ["team/one", "team/two"]);
        replica.complete(&two).await;
    }
    tokio::time::sleep(HOUR).await;
    let lists = world.count(Operation::Catalog);
    assert!((7..=8).contains(&lists), "as many as one would ask for: {lists}");
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_does_not_list_is_said_to_and_keeps_nothing_else_from_being_watched() {
    let (world, store) = (World::default(), memory());
    let named = filled(&world, "r.example/team/named", 3);
    let other = filled(&world, "r.example/team/other", 3);
    world.set_catalog_failure(Some(ErrorKind::Rejected { status: 405, message: None }));
    let Matching { samovar, problems } = start_matching(&world, &store, "a", &[&named]);
    samovar.complete(&named).await;
    tokio::time::sleep(MINUTE / 2).await;
    assert_eq!(problems.list(), ["r.example does not list its repositories: the registry answered 405"]);
    // What it may match is not unwatched as long as it is not known.
    store.set(Key::Side(name("r.example/team/before")), Entry::immutable("x")).await.unwrap();
    tokio::time::sleep(HOUR * 72).await;
    assert!(store.get(&Key::Side(name("r.example/team/before"))).await.unwrap().is_some());
    world.set_catalog_failure(None);
    samovar.complete(&other).await;
    assert_eq!(watched(&samovar), ["team/named", "team/other"]);
}

#[tokio::test(start_paused = true)]
async fn many_repositories_are_kept_in_parts() {
    let (world, store) = (World::default(), memory());
    let digest = world.push(&name("r.example/team/app0000"), "1", &Image::new("one for all"));
    for number in 1..2_500 {
        world.push_tag(&name(&format!("r.example/team/app{number:04}")), "1", &digest);
    }
    let all = || pattern("r.example/*", TagFilter::All);
    let list =
        source(&world, &store, Asking::by(Alone), vec![all()], &[]).watch_lists().next().await.unwrap();
    assert_eq!(list.0.len(), 2_500);
    // Another process finds them without asking, unless a part is lost.
    world.take_asked();
    let again =
        source(&world, &store, Asking::by(Alone), vec![all()], &[]).watch_lists().next().await.unwrap();
    assert_eq!((again.0.len(), world.count(Operation::Catalog)), (2_500, 0));
}

#[tokio::test(start_paused = true)]
async fn a_list_of_which_a_part_is_lost_does_not_pass_for_an_empty_one() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let digest = world.push(&name("r.example/team/app0000"), "1", &Image::new("one for all"));
    for number in 1..1_200 {
        world.push_tag(&name(&format!("r.example/team/app{number:04}")), "1", &digest);
    }
    let all = || vec![pattern("r.example/*", TagFilter::All)];
    let store: Arc<dyn Client> = View::of(&server);
    let list = source(&world, &store, Asking::by(Alone), all(), &[]).watch_lists().next().await.unwrap();
    assert_eq!(list.0.len(), 1_200);
    let part = server.keys().await.into_iter().find(|key| matches!(key, Key::CatalogPart(..))).unwrap();
    server.evict(part).await;
    world.set_catalog_failure(Some(ErrorKind::Unavailable { status: 503, message: None }));
    for _ in 0..2 {
        // Also for who starts when the registry has failed already.
        let mut catalog = source(&world, &store, Asking::by(Alone), all(), &[]);
        let said = tokio::time::timeout(HOUR * 3, catalog.watch_lists().next()).await;
        assert!(said.is_err(), "{} repositories", said.unwrap().unwrap().0.len());
    }
    world.set_catalog_failure(None);
    let list = source(&world, &store, Asking::by(Alone), all(), &[]).watch_lists().next().await.unwrap();
    assert_eq!(list.0.len(), 1_200);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_may_not_list_keeps_nothing_from_the_patterns_of_another() {
    let (world, store) = (World::default(), memory());
    let (one, two) = (filled(&world, "r.example/team/one", 1), filled(&world, "r.example/team/two", 1));
    world.list_for_logins_only();
    let patterns =
        vec![pattern("r.example/open/*", TagFilter::All), pattern("r.example/team/*", TagFilter::All)];
    let asking = |handle| Asking { keychain: keychain(Some("ci"), "r.example/team/*"), ..Asking::by(handle) };
    let Matching { samovar, problems } = start_asking(&world, &store, "a", &[], patterns, asking);
    samovar.complete(&one).await;
    samovar.complete(&two).await;
    tokio::time::sleep(MINUTE).await;
    let [refused, idle] = problems.list().try_into().unwrap();
    assert!(refused.starts_with("r.example does not list its repositories: "), "{refused}");
    assert!(refused.ends_with("(as for r.example/open/*)"), "{refused}");
    assert_eq!(idle, "r.example/open/* matches nothing that the registry lists");
    // What goes is noticed as ever.
    world.forget(&one);
    tokio::time::sleep(INTERVAL + MINUTE).await;
    assert_eq!(watched(&samovar), ["team/two"]);
}

#[tokio::test(start_paused = true)]
async fn only_who_has_the_lane_asks_and_whoever_takes_it_over_knows_the_limits_of_the_host_first() {
    let server = Arc::<Server>::default();
    let worlds = [World::default(), World::default()];
    let apps = worlds.each_ref().map(|world| filled(world, "r.example/team/app", 1));
    let [app, _] = &apps;
    // As each replica sees the registry.
    let start = |replica: &str, world: &World, every: Duration| {
        let store: Arc<dyn Client> = View::of(&server);
        let patterns = vec![pattern("r.example/team/*", TagFilter::All)];
        start_asking(world, &store, replica, &[], patterns, |handle| Asking { every, ..Asking::by(handle) })
    };
    let first = start("a", &worlds[0], HOUR).samovar;
    first.complete(app).await;
    worlds[0].set_budget(HOST, &record(0.5));
    // In a hurry, but not the one to ask.
    let second = start("b", &worlds[1], MINUTE).samovar;
    tokio::time::sleep(MINUTE * 30).await;
    assert_eq!(watched(&second), ["team/app"]);
    assert_eq!((worlds[0].count(Operation::Catalog), worlds[1].count(Operation::Catalog)), (1, 0));
    assert_eq!(worlds[1].take_restored(HOST), []);
    first.kill().await;
    let began = tokio::time::Instant::now();
    while worlds[1].count(Operation::Catalog) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(worlds[1].take_restored(HOST), [record(0.5)]);
}

#[tokio::test(start_paused = true)]
async fn what_was_being_listed_when_the_lane_was_lost_is_left_to_whoever_has_it() {
    let server = Arc::<Server>::default();
    let (world, view) = (World::default(), View::of(&server));
    let app = filled(&world, "r.example/team/app", 1);
    world.set_latency(HOST, MINUTE);
    let store: Arc<dyn Client> = view.clone();
    let Matching { samovar, .. } = start_matching(&world, &store, "a", &[]);
    tokio::time::sleep(Duration::from_secs(21)).await;
    assert_eq!(world.count(Operation::Catalog), 1);
    // It stops by its own clock.
    view.cut_leases(true);
    tokio::time::sleep(Duration::from_millis(8_500)).await;
    assert_eq!(samovar.handle.lanes()[HOST], LaneStanding::Elsewhere);
    world.take_asked();
    view.cut_leases(false);
    samovar.complete(&app).await;
    assert_eq!(world.count(Operation::Catalog), 1, "asked again from its beginning");
}
