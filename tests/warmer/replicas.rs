//! Several samovars on one store: who asks, who takes over, what is lost when the store is.

use samovar_registry::Digest;
use samovar_registry::upstream::BudgetRecord;

use super::shared_store::{Server, View};
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);

/// One of several samovars.
pub(crate) fn replica(world: &World, view: &Arc<View>, name: &str, names: &[&Name]) -> Running {
    let options = WarmerOptions { replica: name.to_owned(), unleased_share: 0.25, ..options() };
    let store: Arc<dyn Client> = view.clone();
    start_with(world, &store, names, options)
}

fn standing(samovar: &Running, host: &str) -> LaneStanding {
    samovar.handle.lanes()[host]
}

/// Waits, for up to `limit`, until `condition`. Returns how long it took.
pub(crate) async fn within(limit: Duration, condition: impl Fn() -> bool) -> Duration {
    let began = tokio::time::Instant::now();
    while !condition() {
        assert!(began.elapsed() < limit, "it did not come within {limit:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn three_replicas_list_every_repository_once_an_interval_in_all_and_answer_the_same() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let names: Vec<Name> = (0..60)
        .map(|number| filled(&world, &format!("host{}.example/team/app{number}", number % 5), 3))
        .collect();
    let names: Vec<&Name> = names.iter().collect();
    let replicas: Vec<Running> =
        ["a", "b", "c"].map(|name| replica(&world, &View::of(&server), name, &names)).into_iter().collect();
    for name in &names {
        for replica in &replicas {
            replica.complete(name).await;
        }
    }
    tokio::time::sleep(MINUTE).await;
    world.take_asked();
    tokio::time::sleep(HOUR).await;
    let lists = world.count(Operation::Tags);
    // Every 5 minutes, give or take the jitter.
    assert!((600..=800).contains(&lists), "{lists} lists of 60 repositories in an hour");
    for name in &names {
        let mut answers = Vec::new();
        for replica in &replicas {
            let repository = replica.repository(name).await;
            answers.push((repository.generation, repository.metadata, repository.complete));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0] && answer.2), "{answers:?}");
        assert_eq!(answers[0].1.images.len(), 3);
    }
    for host in 0..5 {
        let host = format!("host{host}.example");
        let ours = replicas.iter().filter(|replica| standing(replica, &host) == LaneStanding::Ours).count();
        assert_eq!(ours, 1, "{host}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_a_host_over_knows_of_its_limits_first() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 3);
    let first = replica(&world, &View::of(&server), "a", &[&app]);
    first.complete(&app).await;
    let second = replica(&world, &View::of(&server), "b", &[&app]);
    let record: BudgetRecord = serde_json::from_str(r#"{"rate": 0.5}"#).unwrap();
    world.set_budget("registry.example", &record);
    tokio::time::sleep(MINUTE).await;
    world.take_restored("registry.example");
    first.kill().await;
    within(MINUTE, || standing(&second, "registry.example") == LaneStanding::Ours).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(world.take_restored("registry.example"), [record]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_replicas_hosts_are_taken_over_within_15_seconds_and_no_manifest_is_asked_for_again() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 20);
    let holder = replica(&world, &View::of(&server), "a", &[&app]);
    holder.complete(&app).await;
    let other = replica(&world, &View::of(&server), "b", &[&app]);
    within(MINUTE, || other.handle.overview().get(&app).is_some_and(|overview| overview.complete)).await;
    assert_eq!(standing(&other, "registry.example"), LaneStanding::Elsewhere);
    world.take_asked();
    holder.kill().await;
    let took = within(MINUTE, || standing(&other, "registry.example") == LaneStanding::Ours).await;
    assert!(took <= 15 * SECOND, "{took:?}");
    world.push(&app, "2.0", &Image::new("new"));
    other.until(&app, |repository| repository.complete && repository.metadata.images.len() == 21).await;
    assert_eq!(world.count(Operation::Manifest), 1, "only what is new");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_stops_gives_its_hosts_back_at_once() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 1);
    let holder = replica(&world, &View::of(&server), "a", &[&app]);
    holder.complete(&app).await;
    let other = replica(&world, &View::of(&server), "b", &[&app]);
    tokio::time::sleep(10 * SECOND).await;
    holder.stop().await;
    let took = within(MINUTE, || standing(&other, "registry.example") == LaneStanding::Ours).await;
    assert!(took <= 3 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_loses_its_lease_asks_nothing_more() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    world.set_latency("registry.example", 2 * SECOND);
    let app = filled(&world, "registry.example/team/app", 1000);
    let view = View::of(&server);
    let holder = replica(&world, &view, "a", &[&app]);
    holder.until(&app, |repository| repository.metadata.images.len() > 50).await;
    // Cut off in the middle of a long warm-up: its lease ends by its own clock, whoever has it then.
    view.cut(true);
    within(10 * SECOND, || standing(&holder, "registry.example") == LaneStanding::Elsewhere).await;
    world.take_asked();
    tokio::time::sleep(HOUR).await;
    assert_eq!(world.take_asked(), [], "it may not store what it would learn");
    // Another one goes on from what was stored.
    let other = replica(&world, &View::of(&server), "b", &[&app]);
    other.complete(&app).await;
    let asked = world.take_asked();
    let manifests = asked.iter().filter(|asked| asked.operation == Operation::Manifest).count();
    assert!(manifests < 950, "{manifests} of 1000 were asked for again");
    // The first one comes back, and finds that it is overtaken.
    view.cut(false);
    tokio::time::sleep(HOUR).await;
    for samovar in [&holder, &other] {
        let repository = samovar.repository(&app).await;
        assert!(repository.complete && repository.metadata.images.len() == 1000);
    }
    assert_eq!(holder.handle.unsaved_repositories(), 0);
}

#[tokio::test(start_paused = true)]
async fn when_nobody_can_tell_whose_the_lease_is_all_go_on_at_their_share_of_the_rate() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 2);
    let views = [View::of(&server), View::of(&server)];
    let replicas = [replica(&world, &views[0], "a", &[&app]), replica(&world, &views[1], "b", &[&app])];
    replicas[0].complete(&app).await;
    for view in &views {
        view.cut_leases(true);
    }
    for replica in &replicas {
        within(20 * SECOND, || standing(replica, "registry.example") == LaneStanding::Unleased).await;
    }
    assert!((world.share("registry.example") - 0.25).abs() < f64::EPSILON);
    world.push(&app, "2.0", &Image::new("new"));
    for replica in &replicas {
        replica.until(&app, |repository| repository.complete && repository.metadata.images.len() == 3).await;
    }
    for view in &views {
        view.cut_leases(false);
    }
    tokio::time::sleep(10 * SECOND).await;
    let ours = replicas.iter().filter(|replica| standing(replica, "registry.example") == LaneStanding::Ours);
    assert_eq!(ours.count(), 1);
    assert!((world.share("registry.example") - 1.0).abs() < f64::EPSILON);
}

#[tokio::test(start_paused = true)]
async fn replicas_that_both_think_the_lease_theirs_scan_twice_and_harm_nothing() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    world.set_latency("registry.example", Duration::from_millis(50));
    let app = filled(&world, "registry.example/team/app", 300);
    let replicas = ["a", "b"].map(|name| replica(&world, &View::without_leases(&server), name, &[&app]));
    let mut generations = Vec::new();
    for round in 0..20 {
        let tag = format!("2.{round}");
        world.push(&app, &tag, &Image::new(&tag));
        world.remove(&app, &format!("1.{round}"));
        let wanted = |repository: &ImageRepository| {
            repository.complete
                && repository.metadata.images.contains_key(&self::tag(&tag))
                && repository.metadata.tags.len() == 300
        };
        for replica in &replicas {
            let repository = replica.until(&app, wanted).await;
            assert_eq!(repository.metadata.images.len(), 300);
            generations.push(repository.generation);
        }
    }
    assert!(generations.is_sorted(), "{generations:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_learnt_while_the_store_is_down_is_not_learnt_twice() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    world.set_latency("registry.example", SECOND);
    let app = filled(&world, "registry.example/team/app", 400);
    let view = View::of(&server);
    let samovar = replica(&world, &view, "a", &[&app]);
    samovar.until(&app, |repository| repository.metadata.images.len() > 100).await;
    // After answers have come that are to be published with the next ones.
    tokio::time::sleep(Duration::from_millis(1700)).await;
    view.cut(true);
    within(MINUTE, || samovar.handle.unsaved_repositories() == 1).await;
    world.take_asked();
    tokio::time::sleep(HOUR).await;
    assert_eq!(world.take_asked(), [], "nothing is asked that cannot be stored");
    view.cut(false);
    let began = tokio::time::Instant::now();
    samovar.complete(&app).await;
    assert!(began.elapsed() < MINUTE, "{:?}", began.elapsed());
    let by_tag = world
        .take_asked()
        .into_iter()
        .filter(|asked| asked.operation == Operation::Manifest && !asked.what.starts_with("sha256:"));
    let again = by_tag.count();
    assert!(again <= 300, "{again} manifests after an outage that began with more than 100 known");
    within(MINUTE, || samovar.handle.unsaved_repositories() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_at_the_start_is_waited_for() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 5);
    let view = View::of(&server);
    view.cut(true);
    let samovar = replica(&world, &view, "a", &[&app]);
    tokio::time::sleep(HOUR).await;
    assert_eq!(world.take_asked(), []);
    view.cut(false);
    let began = tokio::time::Instant::now();
    samovar.complete(&app).await;
    assert!(began.elapsed() < 30 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_refresh_is_handed_on_to_the_replica_that_keeps_the_repository_warm() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 3);
    let holder = replica(&world, &View::of(&server), "a", &[&app]);
    holder.complete(&app).await;
    let other = replica(&world, &View::of(&server), "b", &[&app]);
    tokio::time::sleep(10 * SECOND).await;
    let moved = world.push(&app, "1.1", &Image::new("moved"));
    world.take_asked();
    let began = tokio::time::Instant::now();
    let ticket = other.handle.refresh(&app, Some(tag("1.1"))).unwrap();
    assert_eq!(ticket.done().await, Ok(()));
    assert!(began.elapsed() < 5 * SECOND, "{:?}", began.elapsed());
    assert_eq!(other.repository(&app).await.metadata.images[&tag("1.1")].digest, moved);
    assert_eq!(world.count(Operation::Resolve), 1, "asked once, by the one whose turn it is");
    // What goes wrong comes back as well.
    world.set_failure("registry.example", Some(ErrorKind::Unavailable { status: 503, message: None }));
    let failed = other.handle.refresh(&app, None).unwrap().done().await.unwrap_err();
    assert!(failed.contains("503"), "{failed}");
    // And a request whose holder dies is answered by whoever takes over.
    world.set_failure("registry.example", None);
    holder.kill().await;
    let ticket = other.handle.refresh(&app, None).unwrap();
    assert_eq!(ticket.done().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_is_handed_on_is_begun_within_a_second_with_its_cause() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 30);
    let mut holder = replica(&world, &View::of(&server), "a", &[&app]);
    holder.complete(&app).await;
    let other = replica(&world, &View::of(&server), "b", &[&app]);
    tokio::time::sleep(10 * SECOND).await;
    for number in 0..20 {
        // At any moment between two looks.
        tokio::time::sleep(Duration::from_millis(137)).await;
        let tag = tag(&format!("1.{number}"));
        world.push(&app, tag.as_str(), &Image::new(format!("moved {number}")));
        world.take_asked();
        let began = tokio::time::Instant::now();
        let ticket = other.handle.hint(&app, Some(tag.clone())).unwrap();
        within(SECOND, || world.count(Operation::Resolve) > 0).await;
        assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
        assert_eq!(ticket.done().await, Ok(()));
        let told = holder.changes.recv().await.unwrap();
        let change = told.change().unwrap();
        assert_eq!((change.tag.clone(), change.cause), (Some(tag), Cause::Webhook));
    }
}

#[tokio::test(start_paused = true)]
async fn however_many_requests_are_handed_on_at_once_none_is_lost() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 64);
    let views = [View::of(&server), View::of(&server)];
    let holder = replica(&world, &views[0], "a", &[&app]);
    holder.complete(&app).await;
    let other = replica(&world, &views[1], "b", &[&app]);
    tokio::time::sleep(10 * SECOND).await;
    for view in &views {
        view.set_latency(Duration::from_millis(2));
    }
    world.take_asked();
    let written = server.writes_of(&Key::Asked("registry.example".to_owned()));
    let tickets: Vec<_> =
        (0..64).map(|number| other.handle.hint(&app, Some(tag(&format!("1.{number}")))).unwrap()).collect();
    within(SECOND, || world.count(Operation::Resolve) == 64).await;
    for ticket in tickets {
        assert_eq!(ticket.done().await, Ok(()));
    }
    // They are written together, and so are the answers.
    tokio::time::sleep(2 * SECOND).await;
    let written = server.writes_of(&Key::Asked("registry.example".to_owned())) - written;
    assert!(written < 20, "{written} changes of one entry");
    // And what a store does not take at once is not lost either.
    views[1].fail_writes(true);
    let ticket = other.handle.hint(&app, Some(tag("1.1"))).unwrap();
    tokio::time::sleep(2 * SECOND).await;
    views[1].fail_writes(false);
    assert_eq!(ticket.done().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn who_watches_nothing_of_a_host_lets_others_speak_to_it() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let one = filled(&world, "registry.example/team/one", 3);
    let two = filled(&world, "registry.example/team/two", 3);
    let first = replica(&world, &View::of(&server), "a", &[&one]);
    first.complete(&one).await;
    let second = replica(&world, &View::of(&server), "b", &[&two]);
    tokio::time::sleep(MINUTE).await;
    assert_eq!(standing(&second, "registry.example"), LaneStanding::Elsewhere);
    let record: BudgetRecord = serde_json::from_str(r#"{"rate": 0.5}"#).unwrap();
    world.set_budget("registry.example", &record);
    world.take_restored("registry.example");
    first.watch.send(watching(&[])).unwrap();
    within(5 * SECOND, || standing(&second, "registry.example") == LaneStanding::Ours).await;
    assert_eq!(standing(&first, "registry.example"), LaneStanding::Elsewhere);
    second.complete(&two).await;
    assert_eq!(world.take_restored("registry.example"), [record], "what is known of its limits goes along");
    // Whoever watches something again waits for its turn like everybody.
    first.watch.send(watching(&[&one])).unwrap();
    tokio::time::sleep(MINUTE).await;
    assert_eq!(standing(&second, "registry.example"), LaneStanding::Ours);
    second.watch.send(watching(&[])).unwrap();
    within(5 * SECOND, || standing(&first, "registry.example") == LaneStanding::Ours).await;
    world.push(&one, "2.0", &Image::new("new"));
    first.until(&one, |repository| repository.metadata.images.len() == 4).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_over_after_a_long_stop_spreads_what_is_overdue() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let names: Vec<Name> =
        (0..100).map(|number| filled(&world, &format!("registry.example/app{number:02}"), 1)).collect();
    let names: Vec<&Name> = names.iter().collect();
    let samovar = replica(&world, &View::of(&server), "a", &names);
    for name in &names {
        samovar.complete(name).await;
    }
    samovar.kill().await;
    tokio::time::sleep(DAY).await;
    // It waits for the lease, and looks along meanwhile.
    let lease = Key::Lane("registry.example".to_owned());
    assert!(View::of(&server).lease(&lease, "c", 5 * SECOND).await.unwrap());
    let samovar = replica(&world, &View::of(&server), "b", &names);
    tokio::time::sleep(SECOND).await;
    assert_eq!(standing(&samovar, "registry.example"), LaneStanding::Elsewhere);
    within(MINUTE, || standing(&samovar, "registry.example") == LaneStanding::Ours).await;
    world.take_asked();
    tokio::time::sleep(10 * SECOND).await;
    let soon = world.count(Operation::Tags);
    assert!((8..=12).contains(&soon), "one a second: {soon}");
    tokio::time::sleep(100 * SECOND).await;
    // The first may have been listed before the counting began.
    assert!((99..=100).contains(&world.count(Operation::Tags)));
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_cannot_be_read_and_is_asked_for_keeps_no_other_from_its_turn() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let names: Vec<Name> =
        (0..12).map(|number| filled(&world, &format!("registry.example/app{number:02}"), 3)).collect();
    let names: Vec<&Name> = names.iter().collect();
    let view = View::without_leases(&server);
    let samovar = replica(&world, &view, "a", &names);
    for name in &names {
        samovar.complete(name).await;
    }
    view.fail_reads_of(Some(names[0]));
    let failed = samovar.handle.refresh(names[0], None).unwrap().done().await.unwrap_err();
    assert!(failed.contains("down"), "{failed}");
    for name in &names[1..] {
        world.push(name, "2.0", &Image::new("2.0"));
    }
    let began = tokio::time::Instant::now();
    for name in &names[1..] {
        samovar.until(name, |repository| repository.metadata.images.len() == 4).await;
    }
    assert!(began.elapsed() < 6 * MINUTE, "{:?}", began.elapsed());
    view.fail_reads_of(None);
    samovar.handle.refresh(names[0], None).unwrap().done().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn many_requests_are_handed_on_at_once_and_all_are_answered() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 150);
    let holder = replica(&world, &View::of(&server), "a", &[&app]);
    holder.complete(&app).await;
    let other = replica(&world, &View::of(&server), "b", &[&app]);
    tokio::time::sleep(10 * SECOND).await;
    let refresh = |samovar: &Running, number: usize| {
        samovar.handle.refresh(&app, Some(tag(&format!("1.{number}")))).unwrap()
    };
    let tickets: Vec<_> = (0..90).map(|number| refresh(&other, number)).collect();
    let own: Vec<_> = (90..150).map(|number| refresh(&holder, number)).collect();
    for ticket in tickets.into_iter().chain(own) {
        assert_eq!(ticket.done().await, Ok(()));
    }
    assert_eq!(holder.handle.waiting_requests() + other.handle.waiting_requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_replica_stops_at_once_whatever_it_has_taken_from_others() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 1);
    let holder = replica(&world, &View::of(&server), "a", &[&app]);
    holder.complete(&app).await;
    let other = replica(&world, &View::of(&server), "b", &[&app]);
    tokio::time::sleep(10 * SECOND).await;
    world.set_latency("registry.example", HOUR);
    let _ticket = other.handle.refresh(&app, None).unwrap();
    tokio::time::sleep(3 * SECOND).await;
    let began = tokio::time::Instant::now();
    holder.stop().await;
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    within(3 * SECOND, || standing(&other, "registry.example") == LaneStanding::Ours).await;
}

#[tokio::test(start_paused = true)]
async fn documents_that_cannot_be_stored_keep_no_repository_from_being_complete() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 50);
    let view = View::of(&server);
    view.fail_documents();
    let samovar = replica(&world, &view, "a", &[&app]);
    assert_eq!(samovar.complete(&app).await.metadata.images.len(), 50);
    assert_eq!(world.count(Operation::Manifest), 50);
    world.take_asked();
    tokio::time::sleep(Duration::from_mins(30)).await;
    assert_eq!(world.count(Operation::Manifest), 0, "what is known is not asked for again");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_nothing_makes_nobody_ask_without_end() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let names: Vec<Name> =
        (0..10).map(|number| filled(&world, &format!("registry.example/team/app{number}"), 5)).collect();
    let names: Vec<&Name> = names.iter().collect();
    let view = View::of(&server);
    let samovar = replica(&world, &view, "a", &names);
    for name in &names {
        samovar.complete(name).await;
    }
    let other = replica(&world, &View::of(&server), "b", &names);
    tokio::time::sleep(10 * SECOND).await;
    view.fail_writes(true);
    // The leases are renewed all the same, and what others ask for is taken.
    let _ticket = other.handle.refresh(names[0], Some(tag("1.1"))).unwrap();
    tokio::time::sleep(10 * MINUTE).await;
    world.take_asked();
    tokio::time::sleep(2 * HOUR).await;
    let asked = world.take_asked();
    assert_eq!(asked, [], "{} requests whose answers cannot be stored", asked.len());
    view.fail_writes(false);
    world.push(names[3], "2.0", &Image::new("new"));
    samovar.until(names[3], |repository| repository.complete && repository.metadata.images.len() == 6).await;
}

#[tokio::test(start_paused = true)]
async fn a_head_whose_answer_gets_lost_loses_nothing_and_is_announced_once() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 100);
    let view = View::of(&server);
    let mut samovar = replica(&world, &view, "a", &[&app]);
    samovar.complete(&app).await;
    samovar.announced();
    for round in 0..5 {
        let new = format!("2.{round}");
        world.push(&app, &new, &Image::new(&new));
        view.lose_answers_to_heads(1 + round % 3);
        samovar
            .until(&app, |repository| {
                repository.complete && repository.metadata.images.contains_key(&tag(&new))
            })
            .await;
        tokio::time::sleep(MINUTE).await;
        assert_eq!(samovar.announced(), [(ChangeKind::TagAdded, Some(new))], "round {round}");
    }
    assert_eq!(samovar.repository(&app).await.metadata.images.len(), 105);
}

#[tokio::test(start_paused = true)]
async fn what_was_planned_by_a_clock_far_ahead_is_not_waited_for() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 3);
    let store: Arc<dyn Client> = View::without_leases(&server);
    let ahead = Arc::new(TokioClock::starting_at("2027-01-01T00:00:00Z".parse::<Timestamp>().unwrap()));
    let samovar = start_by(ahead, &world, &store, &[&app], options());
    samovar.complete(&app).await;
    samovar.stop().await;
    let samovar = start(&world, &store, &[&app]);
    world.take_asked();
    tokio::time::sleep(10 * MINUTE).await;
    assert!(world.count(Operation::Tags) >= 2, "{:?}", world.take_asked());
    assert_eq!(world.count(Operation::Resolve), 3, "each tag is confirmed");
    assert!(samovar.repository(&app).await.complete);
}

#[tokio::test(start_paused = true)]
async fn nothing_watched_expires_however_long_the_registry_is_down() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = name("registry.example/team/app");
    for number in 0..10 {
        let images = ["linux/amd64", "linux/arm64"]
            .map(|platform| Image::new(format!("{number} {platform}")).platform(platform));
        world.push(&app, &format!("1.{number}"), &Index::of(&images));
    }
    let left = filled(&world, "registry.example/team/left", 10);
    // Alone: renewing a lease every other second for a hundred days would be all that this test does.
    let samovar = replica(&world, &View::without_leases(&server), "a", &[&app, &left]);
    samovar.complete(&app).await;
    samovar.complete(&left).await;
    tokio::time::sleep(MINUTE).await;
    let before = server.keys().await;
    samovar.watch.send(watching(&[&app])).unwrap();
    tokio::time::sleep(DAY * 5).await;
    world.set_failure("registry.example", Some(ErrorKind::Unavailable { status: 503, message: None }));
    tokio::time::sleep(DAY * 100).await;
    let repository = samovar.repository(&app).await;
    assert_eq!(repository.metadata.images.len(), 10);
    let after = server.keys().await;
    let of_left = |key: &&Key| key.repository() == Some(&left);
    assert_eq!(after.iter().filter(of_left).count(), 0, "nobody watches it");
    let documents = |keys: &[Key]| keys.iter().filter(|key| key.is_document()).count();
    // Ten indexes, twenty manifests, twenty configurations; of the other repository ten and ten.
    assert_eq!((documents(&before), documents(&after)), (70, 50));
}

#[tokio::test(start_paused = true)]
async fn whatever_is_evicted_comes_back_and_no_tag_is_ever_said_to_be_gone() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 300);
    let samovar = replica(&world, &View::of(&server), "a", &[&app]);
    let complete = samovar.complete(&app).await;
    let mut random = fastrand::Rng::with_seed(11);
    let mut generation = complete.generation;
    for _ in 0..60 {
        for _ in 0..random.usize(1..=3) {
            let keys = server.keys().await;
            server.evict(keys[random.usize(..keys.len())].clone()).await;
        }
        let deadline = tokio::time::Instant::now() + HOUR;
        loop {
            match samovar.cache.repository_state(&app).await {
                Ok(repository) => {
                    assert!(repository.generation >= generation);
                    generation = repository.generation;
                    assert_eq!(repository.metadata.tags.len(), 300, "no tag is missing");
                    if repository.complete {
                        assert_eq!(digests(&repository), digests(&complete));
                        break;
                    }
                }
                Err(
                    CacheError::NeverListed { .. } | CacheError::NotWatched { .. } | CacheError::Torn { .. },
                ) => {}
                Err(error) => panic!("{error}"),
            }
            assert!(tokio::time::Instant::now() < deadline, "it does not come back");
            tokio::time::sleep(SECOND).await;
        }
    }
}

/// What every tag points at.
fn digests(repository: &ImageRepository) -> Vec<(Tag, Digest)> {
    let images = repository.metadata.images.iter();
    images.map(|(tag, image)| (tag.clone(), image.digest.clone())).collect()
}
