//! What readers ask for: over restarts and replicas, and who is told.

use samovar::store::seal;
use samovar_registry::Clock as _;

use super::replicas::replica;
use super::shared_store::{Server, View};
use super::*;

fn last_asked(samovar: &Running, name: &Name) -> Option<Timestamp> {
    samovar.handle.demand(name).last_asked()
}

#[tokio::test(start_paused = true)]
async fn what_was_read_is_known_after_a_restart() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 3);
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    assert_eq!(last_asked(&samovar, &app), None, "samovar's own reading is nobody's");
    samovar.handle.read(&app, Reading::Tag(&tag("1.1")));
    tokio::time::sleep(MINUTE * 3).await;
    samovar.handle.read(&app, Reading::Whole);
    let before = samovar.handle.demand(&app);
    assert!(before.last_read(&tag("1.1")).unwrap() < before.read_at.unwrap());
    samovar.stop().await;
    let samovar = start(&world, &store, &[&app]);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(samovar.handle.demand(&app), before);
    samovar.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_loses_an_hour_of_readings_at_most_and_a_repository_is_written_once_an_hour() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 3);
    let samovar = replica(&world, &View::of(&server), "a", &[&app]);
    samovar.complete(&app).await;
    let before = server.writes_of(&Key::Demand(app.clone()));
    for _ in 0..24 * 60 {
        samovar.handle.read(&app, Reading::Whole);
        tokio::time::sleep(MINUTE).await;
    }
    let writes = server.writes_of(&Key::Demand(app.clone())) - before;
    assert!((23..=25).contains(&writes), "{writes} writes in a day");
    let known = last_asked(&samovar, &app).unwrap();
    samovar.kill().await;
    let samovar = replica(&world, &View::of(&server), "b", &[&app]);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let lost = last_asked(&samovar, &app).unwrap().duration_until(known);
    assert!(lost.as_secs() <= 3600 + 60, "{lost}");
}

#[tokio::test(start_paused = true)]
async fn replicas_tell_one_another_what_is_read() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 3);
    let views = ["a", "b"].map(|_| View::of(&server));
    let replicas = [replica(&world, &views[0], "a", &[&app]), replica(&world, &views[1], "b", &[&app])];
    replicas[0].complete(&app).await;
    replicas[0].handle.read(&app, Reading::Tag(&tag("1.0")));
    replicas[1].handle.read(&app, Reading::Tag(&tag("1.1")));
    // While the store cannot be reached nothing is told, and nothing is lost.
    for view in &views {
        view.cut(true);
    }
    tokio::time::sleep(HOUR).await;
    for view in &views {
        view.cut(false);
    }
    tokio::time::sleep(MINUTE * 15).await;
    for replica in &replicas {
        let demand = replica.handle.demand(&app);
        assert!(demand.last_read(&tag("1.0")).is_some() && demand.last_read(&tag("1.1")).is_some());
        assert_eq!((demand.read_at, demand.tags.len()), (None, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_decode_or_lies_ahead_is_found_out_again() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 1);
    let other = filled(&world, "registry.example/team/other", 1);
    let ahead = br#"{"read_at":"2099-01-01T00:00:00Z","tags":{"1.0":"2099-01-01T00:00:00Z"}}"#;
    store.set(Key::Demand(app.clone()), Entry::immutable("garbage")).await.unwrap();
    store.set(Key::Demand(other.clone()), Entry::immutable(seal(ahead))).await.unwrap();
    let samovar = start(&world, &store, &[&app, &other]);
    samovar.complete(&app).await;
    samovar.complete(&other).await;
    assert_eq!(last_asked(&samovar, &app), None);
    assert!(last_asked(&samovar, &other).unwrap() <= clock().now());
    samovar.handle.read(&app, Reading::Whole);
    samovar.stop().await;
    let samovar = start(&world, &store, &[&app]);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(last_asked(&samovar, &app).is_some());
    samovar.kill().await;
}

#[tokio::test(start_paused = true)]
async fn what_leaves_the_watch_list_is_forgotten_here_and_comes_back_from_the_store() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 1);
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    samovar.handle.read(&app, Reading::Whole);
    // One that is not watched, and does not come to be.
    samovar.handle.read(&name("registry.example/team/never"), Reading::Whole);
    tokio::time::sleep(HOUR * 2).await;
    assert_eq!(last_asked(&samovar, &name("registry.example/team/never")), None);
    let known = last_asked(&samovar, &app);
    samovar.watch.send_replace(WatchList::default());
    tokio::time::sleep(MINUTE).await;
    assert_eq!(last_asked(&samovar, &app), None);
    samovar.watch.send_replace(watching(&[&app]));
    tokio::time::sleep(MINUTE).await;
    assert_eq!(last_asked(&samovar, &app), known);
    samovar.stop().await;
}
