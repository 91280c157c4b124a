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

// D9: what is asked for ahead of the schedule ignores every deadline, however the name is spelt.
#[tokio::test(start_paused = true)]
async fn a_hint_finds_a_move_that_was_not_due_for_long_by_any_spelling_and_says_that_it_was_one() {
    let (world, store) = (World::default(), memory());
    let alpine = filled(&world, "docker.io/library/alpine", 3);
    let mut samovar = start(&world, &store, &[&alpine]);
    samovar.complete(&alpine).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    for (round, spelling) in
        ["alpine", "index.docker.io/library/alpine", "registry-1.docker.io/library/alpine"]
            .into_iter()
            .enumerate()
    {
        let moved = world.push(&alpine, "1.1", &Image::new(format!("moved {round}")));
        world.take_asked();
        let began = tokio::time::Instant::now();
        samovar.handle.hint(&name(spelling), Some(tag("1.1"))).unwrap().done().await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO, "nothing takes time here, and nothing is waited for");
        assert_eq!(samovar.repository(&alpine).await.metadata.images[&tag("1.1")].digest, moved);
        assert_eq!((world.count(Operation::Resolve), world.count(Operation::Tags)), (1, 0), "{spelling}");
        let told = samovar.changes.try_recv().unwrap();
        let change = told.change().unwrap();
        assert_eq!((change.kind, change.cause), (ChangeKind::TagMoved, Cause::Webhook));
    }
    world.push(&alpine, "1.2", &Image::new("moved as well"));
    samovar.handle.refresh(&name("alpine"), None).unwrap().done().await.unwrap();
    let told = samovar.changes.try_recv().unwrap();
    let change = told.change().unwrap();
    assert_eq!((change.tag.clone(), change.cause), (Some(tag("1.2")), Cause::Request));
}

// D14: asking never blocks, and what cannot be taken is refused at once. D15: the same repository by several spellings
// is one, and is scanned once.
#[tokio::test(start_paused = true)]
async fn the_same_thing_asked_for_by_many_is_done_once_and_too_much_is_refused_at_once() {
    let (world, store) = (World::default(), memory());
    world.set_latency("docker.io", Duration::from_secs(1));
    let alpine = filled(&world, "docker.io/library/alpine", 3);
    let many: Vec<Name> = (0..1100).map(|number| name(&format!("team/app{number}"))).collect();
    let mut watched: Vec<&Name> = many.iter().collect();
    watched.push(&alpine);
    let samovar = start(&world, &store, &watched);
    samovar.complete(&alpine).await;
    tokio::time::sleep(MINUTE).await;
    world.take_asked();
    let spellings =
        ["alpine", "docker.io/alpine", "index.docker.io/library/alpine", "docker.io/library/alpine"];
    let tickets: Vec<_> = (0..400)
        .map(|number| samovar.handle.refresh(&name(spellings[number % spellings.len()]), None).unwrap())
        .collect();
    for ticket in tickets {
        assert_eq!(ticket.done().await, Ok(()));
    }
    let of_alpine = world.take_asked().into_iter().filter(|asked| asked.name == alpine);
    assert_eq!(of_alpine.filter(|asked| asked.operation == Operation::Tags).count(), 1);
    let answers: Vec<_> = many.iter().map(|name| samovar.handle.refresh(name, None).map(drop)).collect();
    let refused = answers.iter().filter(|answer| **answer == Err(RequestRefused::Busy)).count();
    assert_eq!(refused, 850, "of 1,100 of one host, none of which has begun");
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(samovar.handle.waiting_requests() < 250);
    samovar.handle.refresh(&alpine, None).unwrap().done().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_a_long_stop_what_is_overdue_is_spread_and_what_is_new_is_not() {
    let (world, store) = (World::default(), memory());
    let known: Vec<Name> =
        (0..400).map(|number| filled(&world, &format!("registry.example/known/app{number:03}"), 1)).collect();
    let watched: Vec<&Name> = known.iter().collect();
    let samovar = start(&world, &store, &watched);
    for name in &known {
        samovar.complete(name).await;
    }
    samovar.stop().await;
    tokio::time::sleep(HOUR * 24).await;
    let new = filled(&world, "registry.example/zz/new", 1);
    let mut watched = watched;
    watched.push(&new);
    world.take_asked();
    let began = tokio::time::Instant::now();
    let samovar = start(&world, &store, &watched);
    samovar.complete(&new).await;
    assert_eq!(began.elapsed(), Duration::ZERO, "what was never seen is warmed at once");
    let mut listed = Vec::new();
    for _ in 0..10 {
        let asked = world.take_asked();
        let lists = asked.iter().filter(|asked| asked.operation == Operation::Tags && asked.name != new);
        listed.push(lists.count());
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    // One every 750 ms.
    assert!(listed[0] == 1 && listed[1..].iter().all(|count| (38..=42).contains(count)), "{listed:?}");
    samovar.stop().await;
    // A few are done within seconds.
    tokio::time::sleep(HOUR * 24).await;
    let samovar = start(&world, &store, &[&known[0], &known[1], &known[2]]);
    world.take_asked();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(world.count(Operation::Tags), 3);
    samovar.stop().await;
    // What stopped for a moment is not overdue.
    tokio::time::sleep(Duration::from_mins(6)).await;
    let samovar = start(&world, &store, &[&known[0], &known[1], &known[2]]);
    world.take_asked();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(world.count(Operation::Tags), 3, "all at once");
    samovar.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_queue_says_who_waits_for_what_and_for_how_long() {
    let (world, store) = (World::default(), memory());
    let names: Vec<Name> =
        (0..20).map(|number| filled(&world, &format!("registry.example/app{number:02}"), 1)).collect();
    world.set_latency("registry.example", HOUR);
    let samovar = start(&world, &store, &names.iter().collect::<Vec<_>>());
    tokio::time::sleep(MINUTE).await;
    let queue = samovar.handle.queues()["registry.example"];
    assert_eq!(Class::ALL.map(|class| queue.of(class)), [0, 12, 0, 0]);
    assert_eq!((queue.scheduled, queue.longest_wait), (0, MINUTE));
    let _ticket = samovar.handle.refresh(&names[19], None).unwrap();
    tokio::time::sleep(MINUTE).await;
    let queue = samovar.handle.queues()["registry.example"];
    // It has the place of one that was being listed, which waits again.
    assert_eq!(Class::ALL.map(|class| queue.of(class)), [0, 12, 0, 0]);
    world.set_latency("registry.example", Duration::ZERO);
    tokio::time::sleep(HOUR * 2).await;
    let queue = samovar.handle.queues()["registry.example"];
    assert_eq!((queue.waiting(), queue.scheduled), (0, 20));
}
