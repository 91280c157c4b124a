//! Repositories that are watched because somebody asked about them.

use samovar::config::{OnDemandConfig, RepositoryPattern};
use samovar::sources::{NotTaken, OnDemand, OnDemandScope, OnDemandSource};
use samovar_registry::Aliases;
use samovar_registry::upstream::HostPolicy;

use super::shared_store::{Server, View};
use super::*;

const DAY: Duration = Duration::from_hours(24);

/// A samovar that takes questions.
struct Asking {
    running: Running,
    on_demand: OnDemand,
}

fn globs(globs: &[&str]) -> Globs {
    globs.iter().map(|glob| Glob::new(glob).unwrap()).collect()
}

fn config() -> OnDemandConfig {
    OnDemandConfig { allow: globs(&["registry.example/*"]), log_in: true, idle: 7 * DAY, most: 100 }
}

fn scope(config: OnDemandConfig) -> OnDemandScope {
    let policy = HostPolicy { deny: globs(&["denied.example"]), ..HostPolicy::default() };
    OnDemandScope { config, policy, named: Named::default() }
}

fn asking(world: &World, store: &Arc<dyn Client>, names: &[&Name], config: OnDemandConfig) -> Asking {
    asking_as("the only one", world, store, names, scope(config))
}

fn asking_as(
    replica: &str,
    world: &World,
    store: &Arc<dyn Client>,
    names: &[&Name],
    scope: OnDemandScope,
) -> Asking {
    let options = WarmerOptions { replica: replica.to_owned(), ..options() };
    let mut on_demand = None;
    let running = start_among(clock(), world, store, names, options, |handle| {
        let source = demanded(store, handle, scope, keychain(None, "*"));
        on_demand = Some(source.handle());
        vec![Box::new(source)]
    });
    Asking { running, on_demand: on_demand.unwrap() }
}

fn demanded(
    store: &Arc<dyn Client>,
    handle: &Handle,
    scope: OnDemandScope,
    keychain: SharedKeychain,
) -> OnDemandSource {
    let metrics = Arc::new(Metrics::new());
    OnDemandSource::new(scope, Arc::clone(store), Arc::new(handle.clone()), keychain, clock(), metrics)
}

impl Asking {
    /// A question, as a door takes it.
    fn ask(&self, name: &Name) -> Result<(), NotTaken> {
        if !self.running.handle.is_watched(name) {
            self.on_demand.ask(name)?;
        }
        self.running.handle.read(name, Reading::Whole);
        Ok(())
    }

    fn watches(&self, name: &Name) -> bool {
        self.running.handle.is_watched(name)
    }
}

/// Long enough for whatever a question sets off.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(15)).await;
}

#[tokio::test(start_paused = true)]
async fn who_asks_about_a_repository_has_it_watched_within_a_second() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 5);
    let samovar = asking(&world, &store, &[], config());
    settle().await;
    assert!(!samovar.watches(&app));
    let began = tokio::time::Instant::now();
    assert_eq!(samovar.ask(&app), Ok(()));
    assert_eq!(samovar.ask(&app), Ok(()), "once more before it is watched");
    samovar.running.complete(&app).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(world.count(Operation::Tags), 1);
    assert_eq!(samovar.running.handle.watched_by("on demand"), 1);
    for other in ["other.example/team/app", "docker.io/library/alpine"] {
        assert_eq!(samovar.ask(&name(other)), Err(NotTaken::NotCovered), "{other}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_denied_host_is_not_asked_whatever_is_allowed_or_stored() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "denied.example/team/app", 5);
    let open = || OnDemandConfig { allow: globs(&["denied.example/*", "registry.example/*"]), ..config() };
    let entry = Entry::immutable(samovar::store::seal(
        br#"[["denied.example/team/app",1767225600,true],["elsewhere.example/app",1767225600,true]]"#,
    ));
    store.set(Key::OnDemand, entry).await.unwrap();
    let samovar = asking(&world, &store, &[], open());
    settle().await;
    assert_eq!(samovar.ask(&app), Err(NotTaken::NotCovered));
    settle().await;
    assert_eq!(world.take_asked(), []);
    assert!(samovar.running.handle.watch_list().0.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_about_for_a_week_is_let_go_and_what_is_asked_about_stays() {
    let (world, store) = (World::default(), memory());
    let idle = filled(&world, "registry.example/team/idle", 2);
    let used = filled(&world, "registry.example/team/used", 2);
    let samovar = asking(&world, &store, &[], config());
    samovar.ask(&idle).unwrap();
    samovar.ask(&used).unwrap();
    samovar.running.complete(&idle).await;
    samovar.running.complete(&used).await;
    for day in 0..12 {
        settle().await;
        assert_eq!(samovar.watches(&idle), day < 7, "on day {day}");
        tokio::time::sleep(DAY.saturating_sub(MINUTE)).await;
        samovar.ask(&used).unwrap();
        tokio::time::sleep(MINUTE).await;
    }
    assert!(samovar.watches(&used));
    world.take_asked();
    tokio::time::sleep(DAY).await;
    assert!(world.take_asked().iter().all(|asked| asked.name == used));
}

#[tokio::test(start_paused = true)]
async fn the_number_is_bounded_the_least_recently_asked_goes_and_nothing_that_is_in_use() {
    let (world, store) = (World::default(), memory());
    let names: Vec<Name> =
        (0..5).map(|number| filled(&world, &format!("registry.example/team/app{number}"), 1)).collect();
    let samovar = asking(&world, &store, &[], OnDemandConfig { most: 3, ..config() });
    for name in &names[..3] {
        samovar.ask(name).unwrap();
        tokio::time::sleep(MINUTE * 2).await;
    }
    settle().await;
    assert_eq!(samovar.ask(&names[3]), Err(NotTaken::Full));
    for _ in 0..3 {
        tokio::time::sleep(HOUR / 2).await;
        // A reader of what is watched: it counts as a question.
        samovar.running.handle.read(&names[0], Reading::Tag(&tag("1.0")));
        samovar.running.handle.read(&names[2], Reading::Whole);
        settle().await;
    }
    assert_eq!(samovar.ask(&names[3]), Ok(()));
    settle().await;
    let watched: Vec<bool> = names.iter().map(|name| samovar.watches(name)).collect();
    assert_eq!(watched, [true, false, true, true, false]);
    assert_eq!(samovar.ask(&names[4]), Err(NotTaken::Full));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_names_that_do_not_exist_pushes_out_nothing_and_is_gone_in_an_hour() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 2);
    let samovar = asking(&world, &store, &[], OnDemandConfig { most: 50, ..config() });
    samovar.ask(&app).unwrap();
    samovar.running.complete(&app).await;
    settle().await;
    let mut turned_away = 0;
    for number in 0..2000 {
        let invented = name(&format!("registry.example/invented/app{number}"));
        turned_away += usize::from(samovar.ask(&invented).is_err());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(samovar.running.handle.watch_list().0.len() <= 50);
    }
    assert!(samovar.watches(&app));
    assert!((100..2000).contains(&turned_away), "{turned_away}");
    tokio::time::sleep(HOUR + MINUTE).await;
    assert_eq!(samovar.running.handle.watch_list().0.len(), 1);
}

// D13: a host that cannot be reached leaves a trace.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_listed_says_why_and_goes_when_nobody_goes_on_asking() {
    let (world, store) = (World::default(), memory());
    let app = name("registry.example/team/app");
    let failure = ErrorKind::Transport { message: "connection refused".to_owned() };
    world.set_failure("registry.example", Some(failure));
    let samovar = asking(&world, &store, &[], config());
    for _ in 0..5 {
        samovar.ask(&app).unwrap();
        tokio::time::sleep(HOUR / 2).await;
        let error = samovar.running.cache.repository_state(&app).await.unwrap_err();
        assert!(error.to_string().contains("connection refused"), "{error}");
        assert!(samovar.watches(&app));
    }
    tokio::time::sleep(HOUR).await;
    assert!(!samovar.watches(&app));
    world.take_asked();
    tokio::time::sleep(DAY).await;
    assert_eq!(world.take_asked(), []);
    // It comes back, and is tried at once.
    world.set_failure("registry.example", None);
    filled(&world, app.as_str(), 3);
    samovar.ask(&app).unwrap();
    let began = tokio::time::Instant::now();
    samovar.running.complete(&app).await;
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_with_what_was_watched_and_asks_for_no_manifest_again() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 5);
    let samovar = asking(&world, &store, &[], config());
    samovar.ask(&app).unwrap();
    samovar.running.complete(&app).await;
    settle().await;
    samovar.running.kill().await;
    tokio::time::sleep(DAY * 3).await;
    world.take_asked();
    let samovar = asking(&world, &store, &[], config());
    settle().await;
    assert!(samovar.watches(&app));
    assert_eq!(world.count(Operation::Manifest), 0);
    tokio::time::sleep(DAY * 4).await;
    assert!(!samovar.watches(&app), "the time without samovar counts");
}

#[tokio::test(start_paused = true)]
async fn what_the_configuration_names_is_kept_as_it_says() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 5);
    let samovar = asking(&world, &store, &[], config());
    samovar.ask(&app).unwrap();
    samovar.running.complete(&app).await;
    let mut only = watching(&[&app]);
    only.0.get_mut(&app).unwrap().tags = TagFilter::exactly(tag("1.3"));
    samovar.running.watch.send_replace(only);
    samovar.running.until(&app, |repository| repository.metadata.images.len() == 1).await;
    assert_eq!(samovar.running.handle.watch_list().0[&app].tags, TagFilter::exactly(tag("1.3")));
    // Nobody configures it any more: it is as it was asked for.
    samovar.running.watch.send_replace(WatchList::default());
    samovar.running.until(&app, |repository| repository.metadata.images.len() == 5).await;
}

#[tokio::test(start_paused = true)]
async fn replicas_share_what_is_asked_of_any_of_them() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let other = filled(&world, "registry.example/team/configured", 1);
    let app = filled(&world, "registry.example/team/app", 5);
    let replicas: Vec<Asking> = ["a", "b"]
        .into_iter()
        .map(|replica| {
            let store: Arc<dyn Client> = View::of(&server);
            asking_as(replica, &world, &store, &[&other], scope(OnDemandConfig { idle: DAY, ..config() }))
        })
        .collect();
    replicas[0].running.complete(&other).await;
    settle().await;
    world.take_asked();
    let began = tokio::time::Instant::now();
    // By the one that does not hold the lane, whichever that is.
    let elsewhere = |replica: &&Asking| {
        replica.running.handle.lanes()["registry.example"] != samovar::warmer::LaneStanding::Ours
    };
    let asked = replicas.iter().find(elsewhere).unwrap();
    asked.ask(&app).unwrap();
    let listed = async {
        while asked.running.cache.repository_state(&app).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(MINUTE, listed).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    settle().await;
    assert!(replicas.iter().all(|replica| replica.watches(&app)));
    assert_eq!(world.count(Operation::Manifest), 5, "fetched once");
    // Who reads at one keeps it at all.
    for round in 0..4 {
        asked.ask(&app).unwrap();
        tokio::time::sleep(DAY / 2).await;
        assert!(replicas.iter().all(|replica| replica.watches(&app)), "in round {round}");
    }
    tokio::time::sleep(DAY).await;
    assert!(!replicas.iter().any(|replica| replica.watches(&app)));
}

#[tokio::test(start_paused = true)]
async fn replicas_asked_at_the_same_time_keep_to_the_bound_together() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let config = || OnDemandConfig { most: 10, ..config() };
    let replicas: Vec<Asking> = ["a", "b", "c"]
        .into_iter()
        .map(|replica| {
            let store: Arc<dyn Client> = View::of(&server);
            asking_as(replica, &world, &store, &[], scope(config()))
        })
        .collect();
    settle().await;
    for number in 0..10 {
        for (position, replica) in replicas.iter().enumerate() {
            let app = filled(&world, &format!("registry.example/{position}/app{number}"), 1);
            let _ = replica.ask(&app);
        }
    }
    tokio::time::sleep(MINUTE).await;
    let lists: Vec<_> = replicas.iter().map(|replica| replica.running.handle.watch_list()).collect();
    assert_eq!(lists[0].0.len(), 10);
    assert!(lists.iter().all(|list| list.0.keys().eq(lists[0].0.keys())));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_forgets_the_list_or_is_down_loses_nothing_that_is_watched() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let apps = ["one", "two", "three"].map(|app| filled(&world, &format!("registry.example/team/{app}"), 2));
    let view = View::of(&server);
    let store: Arc<dyn Client> = view.clone();
    view.cut(true);
    let samovar = asking(&world, &store, &[], config());
    // Before it is known what was watched before.
    samovar.ask(&apps[0]).unwrap();
    tokio::time::sleep(MINUTE).await;
    view.cut(false);
    samovar.running.complete(&apps[0]).await;
    samovar.ask(&apps[1]).unwrap();
    samovar.running.complete(&apps[1]).await;
    settle().await;
    server.evict(Key::OnDemand).await;
    settle().await;
    assert!(samovar.watches(&apps[0]) && samovar.watches(&apps[1]));
    view.cut(true);
    samovar.ask(&apps[2]).unwrap();
    tokio::time::sleep(MINUTE).await;
    view.cut(false);
    samovar.running.complete(&apps[2]).await;
    settle().await;
    samovar.running.kill().await;
    let samovar = asking(&world, &store, &[], config());
    settle().await;
    assert!(apps.iter().all(|app| samovar.watches(app)));
    // Where entries have a time to live, it is given its whole time again though nobody asks for anything.
    let writes = server.writes_of(&Key::OnDemand);
    tokio::time::sleep(DAY * 2).await;
    assert!((1..=4).contains(&(server.writes_of(&Key::OnDemand) - writes)));
}

#[tokio::test(start_paused = true)]
async fn what_the_configuration_names_does_not_come_to_be_watched_on_demand_before_its_first_list() {
    let (world, store) = (World::default(), memory());
    let (app, matched) =
        (filled(&world, "registry.example/team/app", 2), filled(&world, "registry.example/group/app", 2));
    let pattern = RepositoryPattern::parse("registry.example/group/*", &Aliases::default()).unwrap().0;
    let named = Named::new([app.clone()], [pattern]);
    let samovar = asking_as("a", &world, &store, &[&app], OnDemandScope { named, ..scope(config()) });
    for name in [&app, &matched] {
        assert!(!samovar.watches(name), "not yet");
        assert_eq!(samovar.ask(name), Ok(()), "it is about to be");
    }
    samovar.running.complete(&app).await;
    tokio::time::sleep(HOUR).await;
    assert!(!samovar.on_demand.is_taken(&app) && !samovar.on_demand.is_taken(&matched));
    assert_eq!(samovar.running.handle.watched_by("on demand"), 0);
    assert_eq!(store.get(&Key::OnDemand).await.unwrap(), None);
    // What was asked about before the configuration named it.
    let other = name("registry.example/team/other");
    let entry =
        Entry::immutable(samovar::store::seal(br#"[["registry.example/team/other",1767225600,true]]"#));
    store.set(Key::OnDemand, entry).await.unwrap();
    samovar.running.kill().await;
    let named = Named::new([other.clone()], []);
    let samovar = asking_as("a", &world, &store, &[&other], OnDemandScope { named, ..scope(config()) });
    settle().await;
    assert!(samovar.watches(&other) && !samovar.on_demand.is_taken(&other));
    assert_eq!(samovar.running.handle.watched_by("on demand"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_another_source_names_is_let_go_unless_a_replica_needs_it_that_has_no_such_source() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 2);
    let start = |replica: &str| {
        let store: Arc<dyn Client> = View::of(&server);
        asking_as(replica, &world, &store, &[], scope(config()))
    };
    let (naming, other) = (start("a"), start("b"));
    settle().await;
    other.ask(&app).unwrap();
    other.running.complete(&app).await;
    naming.running.watch.send_replace(watching(&[&app]));
    for round in 0..8 {
        assert!(other.watches(&app), "in round {round}");
        other.ask(&app).unwrap();
        tokio::time::sleep(HOUR / 2).await;
    }
    // Only there it is asked about where it is named.
    other.running.kill().await;
    for _ in 0..8 {
        naming.ask(&app).unwrap();
        tokio::time::sleep(HOUR / 2).await;
    }
    assert!(naming.watches(&app) && !naming.on_demand.is_taken(&app));
    assert_eq!(naming.running.handle.watched_by("on demand"), 0);
}

#[tokio::test(start_paused = true)]
async fn only_where_it_is_written_out_what_is_allowed_credentials_are_used() {
    for log_in in [true, false] {
        let (world, store) = (World::default(), memory());
        let app = filled(&world, "registry.example/team/app", 1);
        let handle = start(&world, &store, &[]).handle;
        let keychain = keychain(Some("ci"), "registry.example/*");
        let config = OnDemandConfig { log_in, ..config() };
        let mut source = demanded(&store, &handle, scope(config), keychain);
        let on_demand = source.handle();
        let mut lists = source.watch_lists();
        assert_eq!(lists.next().await, Some(WatchList::default()));
        on_demand.ask(&app).unwrap();
        let list = lists.next().await.unwrap();
        let credentials = &list.0[&app].credentials;
        assert_eq!((credentials.is_anonymous(), credentials.is_ended()), (!log_in, !log_in));
    }
}
