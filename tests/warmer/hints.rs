//! What webhooks make samovar look at: no more than what they name, and at once.

use super::replicas::replica;
use super::shared_store::{Server, View};
use super::*;

/// What was asked of the registry since the last time.
fn operations(world: &World) -> Vec<Operation> {
    world.take_asked().into_iter().map(|asked| asked.operation).collect()
}

async fn hinted(samovar: &Running, name: &Name, hinted: Option<&str>) {
    samovar.handle.hint(name, hinted.map(tag)).unwrap().done().await.unwrap();
}

// D9: a webhook for a tag that has moved is of use though the tag was confirmed a moment ago.
#[tokio::test(start_paused = true)]
async fn a_tag_that_has_moved_is_visible_one_head_later() {
    let (world, store) = (World::default(), memory());
    let latency = Duration::from_millis(40);
    world.set_latency("registry.example", latency);
    let app = filled(&world, "registry.example/team/app", 50);
    let mut samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    samovar.announced();
    world.take_asked();

    // To an image that another tag points at already: the HEAD is all.
    let known = world.digest(&app, "1.7").unwrap();
    world.push_tag(&app, "1.3", &known);
    let began = tokio::time::Instant::now();
    hinted(&samovar, &app, Some("1.3")).await;
    let took = began.elapsed();
    assert_eq!(operations(&world), [Operation::Resolve]);
    assert!(took < latency + Duration::from_millis(100), "{took:?}");
    assert_eq!(samovar.repository(&app).await.metadata.images[&tag("1.3")].digest, known);
    assert_eq!(samovar.announced(), [(ChangeKind::TagMoved, Some("1.3".to_owned()))]);

    // To a new one: its manifest and configuration as well.
    let moved = world.push(&app, "1.3", &Image::new("moved"));
    let began = tokio::time::Instant::now();
    hinted(&samovar, &app, Some("1.3")).await;
    let took = began.elapsed();
    assert_eq!(operations(&world), [Operation::Resolve, Operation::Manifest, Operation::Config]);
    assert!(took < latency * 3 + Duration::from_millis(100), "{took:?}");
    assert_eq!(samovar.repository(&app).await.metadata.images[&tag("1.3")].digest, moved);

    // One that no list has told of.
    world.push(&app, "2.0", &Image::new("new"));
    hinted(&samovar, &app, Some("2.0")).await;
    assert_eq!(operations(&world), [Operation::Manifest, Operation::Config]);
    assert!(samovar.repository(&app).await.metadata.tags.contains(&tag("2.0")));
    let told = samovar.announced();
    assert_eq!(told.last(), Some(&(ChangeKind::TagAdded, Some("2.0".to_owned()))));

    // And again, as a sender would that has not heard us: nothing is new.
    hinted(&samovar, &app, Some("2.0")).await;
    assert_eq!(operations(&world), [Operation::Resolve]);
    assert_eq!(samovar.announced(), []);
}

#[tokio::test(start_paused = true)]
async fn what_is_said_to_be_gone_costs_a_list_and_a_head_and_no_other_tag() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 50);
    let mut samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    samovar.announced();
    world.remove(&app, "1.3");
    world.take_asked();
    let gone = samovar.handle.hint(&app, Some(tag("1.3"))).unwrap();
    let list = samovar.handle.hint_list(&app).unwrap();
    gone.done().await.unwrap();
    list.done().await.unwrap();
    let asked = world.take_asked();
    let lists = asked.iter().filter(|asked| asked.operation == Operation::Tags).count();
    assert_eq!(lists, 1);
    assert!(asked.iter().all(|asked| asked.operation == Operation::Tags || asked.what == "1.3"), "{asked:?}");
    assert!(!samovar.repository(&app).await.metadata.tags.contains(&tag("1.3")));
    assert_eq!(samovar.announced(), [(ChangeKind::TagRemoved, Some("1.3".to_owned()))]);

    // What was not gone stays.
    world.take_asked();
    samovar.handle.hint_list(&app).unwrap().done().await.unwrap();
    assert_eq!(operations(&world), [Operation::Tags]);
    assert_eq!(samovar.repository(&app).await.metadata.tags.len(), 49);
    assert_eq!(samovar.announced(), []);
}

#[tokio::test(start_paused = true)]
async fn hints_of_a_list_merge_with_one_another_and_with_no_wider_request() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 5);
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    world.take_asked();
    let tickets: Vec<_> = (0..100).map(|_| samovar.handle.hint_list(&app).unwrap()).collect();
    let refresh = samovar.handle.refresh(&app, None).unwrap();
    refresh.done().await.unwrap();
    for ticket in tickets {
        ticket.done().await.unwrap();
    }
    let asked = operations(&world);
    let lists = asked.iter().filter(|operation| **operation == Operation::Tags).count();
    let heads = asked.iter().filter(|operation| **operation == Operation::Resolve).count();
    assert!(lists <= 2 && heads == 5, "whoever asks for all gets all: {asked:?}");
    let unwatched = name("registry.example/team/other");
    assert_eq!(samovar.handle.hint_list(&unwatched).map(drop), Err(RequestRefused::NotWatched));
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_webhooks_feed_is_listed_more_rarely() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 5);
    let fed = filled(&world, "other.example/team/fed", 5);
    let options = WarmerOptions { poll_interval: PollInterval::default(), ..options() };
    let samovar = start_with(&world, &store, &[&app, &fed], options);
    samovar.complete(&app).await;
    samovar.complete(&fed).await;
    for day in 0..4 {
        world.push(&fed, "1.0", &Image::new(format!("day {day}")));
        hinted(&samovar, &fed, Some("1.0")).await;
        tokio::time::sleep(HOUR * 24).await;
    }
    world.take_asked();
    tokio::time::sleep(HOUR * 24).await;
    let asked = world.take_asked();
    let lists = |of: &Name| {
        asked.iter().filter(|asked| asked.operation == Operation::Tags && asked.name == *of).count()
    };
    let (polled, told) = (lists(&app), lists(&fed));
    assert!((22..=28).contains(&polled) && (3..=6).contains(&told), "{polled} and {told} lists in a day");
}

#[tokio::test(start_paused = true)]
async fn a_hint_that_reaches_a_replica_without_the_lane_is_handed_on() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 5);
    let views = ["a", "b"].map(|_| View::of(&server));
    let replicas = [replica(&world, &views[0], "a", &[&app]), replica(&world, &views[1], "b", &[&app])];
    replicas[0].complete(&app).await;
    replicas[1].complete(&app).await;
    world.remove(&app, "1.3");
    world.push(&app, "1.4", &Image::new("moved"));
    world.take_asked();
    for replica in &replicas {
        replica.handle.hint(&app, Some(tag("1.4"))).unwrap().done().await.unwrap();
        replica.handle.hint_list(&app).unwrap().done().await.unwrap();
    }
    let asked = operations(&world);
    let heads = asked.iter().filter(|operation| **operation == Operation::Resolve).count();
    let lists = asked.iter().filter(|operation| **operation == Operation::Tags).count();
    assert_eq!((heads, lists), (2, 2), "one for each hint, whoever got it: {asked:?}");
}
