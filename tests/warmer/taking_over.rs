//! What must not get lost when a host goes over to another replica, or a samovar starts anew.

use super::replicas::{replica, within};
use super::shared_store::{Server, View};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn what_was_to_be_mended_elsewhere_is_mended_by_whoever_takes_over() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 20);
    let holder = replica(&world, &View::of(&server), "a", &[&app]);
    holder.complete(&app).await;
    let other = replica(&world, &View::of(&server), "b", &[&app]);
    tokio::time::sleep(10 * SECOND).await;
    holder.kill().await;
    let is_page = |key: &Key| matches!(key, Key::Page(name, _) if *name == app);
    let page = server.keys().await.into_iter().find(is_page).unwrap();
    server.evict(page).await;
    assert!(matches!(other.cache.repository_state(&app).await, Err(CacheError::Torn { .. })));
    other.handle.mend(&app);
    let began = tokio::time::Instant::now();
    other.complete(&app).await;
    // 15 seconds to take over; its list is due in some minutes.
    assert!(began.elapsed() < MINUTE, "{:?}", began.elapsed());
    assert_eq!(other.handle.waiting_requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_to_be_handed_on_ends_with_the_watch() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 80);
    let holder = replica(&world, &View::of(&server), "a", &[&app]);
    holder.complete(&app).await;
    let view = View::of(&server);
    let other = replica(&world, &view, "b", &[&app]);
    tokio::time::sleep(10 * SECOND).await;
    view.fail_writes(true);
    let tickets: Vec<_> =
        (0..80).map(|number| other.handle.hint(&app, Some(tag(&format!("1.{number}")))).unwrap()).collect();
    tokio::time::sleep(SECOND).await;
    other.watch.send(watching(&[])).unwrap();
    let began = tokio::time::Instant::now();
    let mut answers = Vec::new();
    for ticket in tickets {
        answers.push(ticket.done().await.unwrap_err().to_string());
    }
    // As many as may be on their way are waited for as long as an answer may take, and the rest not at all.
    assert!(began.elapsed() < 2 * MINUTE, "{:?}", began.elapsed());
    let (on_their_way, waiting) = answers.split_at(64);
    assert!(on_their_way.iter().all(|answer| answer.contains("did not answer")), "{on_their_way:?}");
    assert!(waiting.iter().all(|answer| answer == "the repository is no longer watched"), "{waiting:?}");
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_listed_is_tried_again_at_a_start_also_in_a_shared_store() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 3);
    let samovar = replica(&world, &View::of(&server), "a", &[&app]);
    samovar.complete(&app).await;
    world.set_list_failure(Some(ErrorKind::Unavailable { status: 503, message: None }));
    tokio::time::sleep(12 * HOUR).await;
    world.take_asked();
    while world.count(Operation::Tags) == 0 {
        tokio::time::sleep(SECOND).await;
    }
    // It has just failed once more, and would be tried again in an hour.
    samovar.stop().await;
    world.set_list_failure(None);
    world.take_asked();
    let samovar = replica(&world, &View::of(&server), "b", &[&app]);
    within(10 * SECOND, || world.count(Operation::Tags) == 1).await;
    assert_eq!(samovar.handle.lanes()["registry.example"], LaneStanding::Ours);
}

#[tokio::test(start_paused = true)]
async fn after_a_lost_head_changes_are_told_whatever_clock_has_written_it() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 3);
    let store: Arc<dyn Client> = View::without_leases(&server);
    let ahead = Arc::new(TokioClock::starting_at("2027-01-01T00:00:00Z".parse::<Timestamp>().unwrap()));
    let samovar = start_by(ahead, &world, &store, &[&app], options());
    let before = samovar.complete(&app).await.generation;
    samovar.stop().await;
    let mut samovar = start(&world, &store, &[&app]);
    tokio::time::sleep(MINUTE).await;
    server.evict(Key::Head(app.clone())).await;
    samovar.handle.refresh(&app, None).unwrap().done().await.unwrap();
    let repository = samovar.complete(&app).await;
    assert!(repository.generation > before, "{} after {before}", repository.generation);
    samovar.announced();
    world.push(&app, "2.0", &Image::new("new"));
    samovar.handle.refresh(&app, None).unwrap().done().await.unwrap();
    assert_eq!(samovar.announced(), [(ChangeKind::TagAdded, Some("2.0".to_owned()))]);
}
