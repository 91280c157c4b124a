//! Repositories that come, go and change; and very large ones.

use super::*;

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
async fn what_was_refused_is_tried_again_as_soon_as_the_credentials_change() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 3);
    let refusal = ErrorKind::Unauthorized { credentials: "no credentials".to_owned(), message: None };
    world.set_failure("registry.example", Some(refusal));
    let samovar = start(&world, &store, &[&app]);
    tokio::time::sleep(HOUR * 12).await;
    world.set_failure("registry.example", None);
    world.take_asked();
    samovar.watch.send_replace(watching(&[&app]));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.take_asked(), [], "the same credentials change nothing");

    let mut list = watching(&[&app]);
    let (password, provenance) = (Secret::new("new"), "config.json".into());
    let login = Credentials::Basic { username: "samovar".to_owned(), password, provenance };
    list.0.get_mut(&app).unwrap().credentials = login.into();
    let began = tokio::time::Instant::now();
    samovar.watch.send_replace(list);
    samovar.complete(&app).await;
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
