//! Which tags are fetched at all, and which of them first.

use samovar::sources::TagPattern;

use super::*;

fn watched_with(app: &Name, tags: TagFilter) -> WatchList {
    WatchList([(app.clone(), Watch { tags, ..Watch::default() })].into())
}

fn newest(count: usize) -> TagFilter {
    TagFilter::matching(None, Vec::new(), Some(count))
}

fn fetched(repository: &ImageRepository) -> Vec<String> {
    repository.metadata.images.keys().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn only_the_newest_looking_are_fetched_and_the_others_cost_nothing() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 12);
    world.push(&app, "nightly-20240102", &Image::new("nightly"));
    let mut samovar = start(&world, &store, &[]);
    samovar.watch.send_replace(watched_with(&app, newest(3)));
    let repository = samovar.complete(&app).await;
    assert_eq!(fetched(&repository), ["1.10", "1.11", "1.9"]);
    assert_eq!(repository.metadata.tags.len(), 13, "all are listed");
    let left_out = &repository.unavailable[&tag("1.8")];
    assert_eq!(left_out.reason.as_deref(), Some("not among the 3 newest-looking"));
    assert_eq!(world.count(Operation::Manifest), 3);
    samovar.handle.refresh(&app, Some(tag("1.8"))).unwrap().done().await.unwrap();
    samovar.handle.refresh(&app, None).unwrap().done().await.unwrap();
    assert_eq!(world.count(Operation::Manifest), 3, "not even when somebody asks");
    samovar.announced();

    // A newer one pushes out the oldest-looking of them, and gives way to it when it is gone.
    world.push(&app, "1.12", &Image::new("1.12"));
    let repository =
        samovar.until(&app, |repository| repository.metadata.images.contains_key(&tag("1.12"))).await;
    assert_eq!(fetched(&repository), ["1.10", "1.11", "1.12"]);
    world.remove(&app, "1.12");
    samovar.until(&app, |repository| repository.metadata.images.contains_key(&tag("1.9"))).await;
    assert_eq!(world.count(Operation::Manifest), 5);

    // A request for one that is not listed yet takes it in if it would be among them.
    world.push(&app, "1.13", &Image::new("1.13"));
    samovar.handle.refresh(&app, Some(tag("1.13"))).unwrap().done().await.unwrap();
    assert!(samovar.repository(&app).await.metadata.images.contains_key(&tag("1.13")));
    world.push(&app, "1.1.1", &Image::new("1.1.1"));
    samovar.handle.refresh(&app, Some(tag("1.1.1"))).unwrap().done().await.unwrap();
    assert_eq!(world.count(Operation::Manifest), 6);
    let repository = samovar.until(&app, |repository| repository.metadata.images.len() == 3).await;
    assert_eq!(fetched(&repository), ["1.10", "1.11", "1.13"]);
}

#[tokio::test(start_paused = true)]
async fn another_number_takes_effect_at_once() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 6);
    let samovar = start(&world, &store, &[]);
    samovar.watch.send_replace(watched_with(&app, newest(2)));
    samovar.complete(&app).await;
    let began = tokio::time::Instant::now();
    let patterns: Vec<TagPattern> = vec!["regex:1\\.[0-3]".parse().unwrap()];
    samovar.watch.send_replace(watched_with(&app, TagFilter::matching(Some(patterns), Vec::new(), Some(3))));
    let repository = samovar
        .until(&app, |repository| fetched(repository) == ["1.1", "1.2", "1.3"] && repository.complete)
        .await;
    assert!(began.elapsed() < Duration::from_secs(1));
    let reason = |text: &str| repository.unavailable[&tag(text)].reason.clone().unwrap();
    assert_eq!(reason("1.0"), "not among the 3 newest-looking");
    assert_eq!(reason("1.5"), "not among the watched tags");
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_that_is_cut_off_has_what_is_likeliest_to_matter() {
    let (world, store) = (World::default(), memory());
    world.set_latency("registry.example", Duration::from_secs(1));
    let app = filled(&world, "registry.example/team/app", 200);
    world.push(&app, "latest", &Image::new("latest"));
    let options = WarmerOptions { fetches_per_repository: 4, ..options() };
    let samovar = start_with(&world, &store, &[&app], options);
    tokio::time::sleep(Duration::from_millis(500)).await;
    samovar.handle.read(&app, Reading::Tag(&tag("1.3")));
    samovar.until(&app, |repository| repository.metadata.images.len() >= 40).await;
    samovar.kill().await;
    let asked = world.take_asked().into_iter().filter(|asked| asked.operation == Operation::Manifest);
    let asked: Vec<String> = asked.map(|asked| asked.what).collect();
    let newest = (4..200).rev().map(|number| format!("1.{number}"));
    let likeliest = ["1.3", "latest"].map(str::to_owned).into_iter().chain(newest);
    assert_eq!(asked, likeliest.take(asked.len()).collect::<Vec<_>>());
    assert!((40..60).contains(&asked.len()), "{}", asked.len());
}
