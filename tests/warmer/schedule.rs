//! When what is asked, and who goes first.

use super::*;

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
