//! What a refresh costs, in requests.

use super::*;

#[tokio::test(start_paused = true)]
async fn cold_it_costs_one_list_and_one_manifest_and_one_config_per_tag() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 50);
    let samovar = start(&world, &store, &[&app]);
    let repository = samovar.complete(&app).await;
    assert_eq!(repository.metadata.tags.len(), 50);
    let image = &repository.metadata.images[&tag("1.7")];
    assert_eq!(&image.labels["n"], "7");
    assert_eq!(image.created_at, Some("2024-05-06T07:08:09Z".parse().unwrap()));
    assert_eq!(image.first_seen, None, "it may be of any age");
    assert_eq!(world.count(Operation::Tags), 1);
    assert_eq!(world.count(Operation::Manifest), 50);
    assert_eq!(world.count(Operation::Config), 50);
    assert_eq!(world.count(Operation::Resolve), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_named_by_a_digest_is_fetched_once_for_all_who_need_it_at_the_same_time() {
    let (world, store) = (World::default(), memory());
    world.set_latency("registry.example", Duration::from_millis(100));
    let (amd, arm) = (Image::new("amd"), Image::new("arm").platform("linux/arm64"));
    let (other, index) = (Image::new("other").platform("linux/s390x"), Index::of([&amd, &arm]));
    let (first, second) = (name("registry.example/first"), name("registry.example/second"));
    for number in 0..10 {
        world.push(&first, &number.to_string(), &index);
        world.push(&second, &number.to_string(), &Index::of([&amd, &other]).attestation_child());
    }
    let samovar = start(&world, &store, &[&first, &second]);
    samovar.complete(&first).await;
    samovar.complete(&second).await;
    let manifests: Vec<String> = world
        .take_asked()
        .into_iter()
        .filter(|asked| matches!(asked.operation, Operation::Manifest | Operation::Config))
        .map(|asked| asked.what)
        .filter(|what| what.starts_with("sha256:"))
        .collect();
    assert_eq!(manifests.len(), 4, "two wanted children and their two configurations: {manifests:?}");
}

#[tokio::test(start_paused = true)]
async fn on_docker_hub_a_new_tag_costs_a_head_and_a_get_only_for_a_new_digest() {
    let (world, store) = (World::default(), memory());
    let alpine = name("alpine");
    let (old, new) = (Image::new("old"), Image::new("new"));
    for tag in ["3", "3.20", "3.20.1"] {
        world.push(&alpine, tag, &old);
    }
    world.push(&alpine, "latest", &new);
    let samovar =
        start_with(&world, &store, &[&alpine], WarmerOptions { fetches_per_repository: 1, ..options() });
    samovar.complete(&alpine).await;
    assert_eq!(world.count(Operation::Resolve), 4);
    assert_eq!(world.count(Operation::Manifest), 2);
    assert_eq!(world.count(Operation::Config), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_of_one_tag_costs_a_head_and_what_is_new_behind_it_and_lists_nothing() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 10);
    let mut samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    world.take_asked();
    let refresh = |text: &str| samovar.handle.refresh(&app, Some(tag(text))).unwrap().done();

    refresh("1.3").await.unwrap();
    let asked = world.take_asked();
    assert_eq!(asked.iter().map(|asked| asked.operation).collect::<Vec<_>>(), [Operation::Resolve]);

    let moved = world.push(&app, "1.3", &Image::new("moved"));
    refresh("1.3").await.unwrap();
    let asked: Vec<Operation> = world.take_asked().iter().map(|asked| asked.operation).collect();
    assert_eq!(asked, [Operation::Resolve, Operation::Manifest, Operation::Config]);
    assert_eq!(samovar.repository(&app).await.metadata.images[&tag("1.3")].digest, moved);

    world.push(&app, "new", &Image::new("new"));
    refresh("new").await.unwrap();
    let repository = samovar.repository(&app).await;
    assert!(repository.metadata.images[&tag("new")].first_seen.is_some());
    assert_eq!(world.count(Operation::Tags), 0);

    refresh("never-there").await.unwrap();
    assert!(!samovar.repository(&app).await.metadata.tags.contains(&tag("never-there")));
    let expected = [(ChangeKind::TagMoved, Some("1.3".into())), (ChangeKind::TagAdded, Some("new".into()))];
    assert_eq!(samovar.announced(), expected);
}

#[tokio::test(start_paused = true)]
async fn requests_for_the_same_thing_merge_while_they_wait() {
    let (world, store) = (World::default(), memory());
    world.set_latency("registry.example", Duration::from_secs(10));
    let app = filled(&world, "registry.example/team/app", 1);
    let samovar = start(&world, &store, &[&app]);
    // The first pass is under way; these wait for it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let tickets: Vec<_> = (0..20).map(|_| samovar.handle.refresh(&app, None).unwrap()).collect();
    for ticket in tickets {
        ticket.done().await.unwrap();
    }
    assert_eq!(world.count(Operation::Tags), 2);
    assert_eq!(world.count(Operation::Resolve), 1);
}

#[tokio::test(start_paused = true)]
async fn when_other_platforms_are_wanted_the_stored_documents_tell() {
    let (world, store) = (World::default(), memory());
    let app = name("registry.example/team/app");
    let (amd, arm) = (
        Image::new("amd").label("for", "amd64"),
        Image::new("arm").platform("linux/arm64").label("for", "arm64"),
    );
    world.push(&app, "both", &Index::of([&amd, &arm]));
    world.push(&app, "amd", &amd);
    let samovar = start(&world, &store, &[&app]);
    let repository = samovar.complete(&app).await;
    assert_eq!(&repository.metadata.images[&tag("both")].labels["for"], "amd64");
    samovar.stop().await;
    world.take_asked();
    let platforms = Platforms::new(vec!["linux/arm64".parse().unwrap()]).unwrap();
    let samovar = start_with(&world, &store, &[&app], WarmerOptions { platforms, ..options() });
    let repository = samovar.until(&app, |repository| repository.unavailable.len() == 1).await;
    assert!(repository.unavailable[&tag("amd")].reason.as_ref().unwrap().contains("no wanted platform"));
    let repository = samovar
        .until(&app, |repository| &repository.metadata.images[&tag("both")].labels["for"] == "arm64")
        .await;
    assert!(repository.complete);
    assert_eq!(world.count(Operation::Manifest) + world.count(Operation::Config), 0);
}

#[tokio::test(start_paused = true)]
async fn requests_for_tags_of_a_repository_that_was_never_listed_share_one_listing() {
    let (world, store) = (World::default(), memory());
    world.set_latency("registry.example", Duration::from_secs(1));
    let app = filled(&world, "registry.example/team/app", 30);
    let samovar = start(&world, &store, &[&app]);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let tickets: Vec<_> = (0..30)
        .map(|number| samovar.handle.refresh(&app, Some(tag(&format!("1.{number}")))).unwrap())
        .collect();
    for ticket in tickets {
        ticket.done().await.unwrap();
    }
    assert_eq!(samovar.complete(&app).await.metadata.images.len(), 30);
    assert_eq!(world.count(Operation::Tags), 1);
    assert!(world.count(Operation::Manifest) <= 60, "{}", world.count(Operation::Manifest));
}

#[tokio::test(start_paused = true)]
async fn an_image_that_looks_the_same_for_other_platforms_is_looked_at_once_and_then_confirmed_as_ever() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 5);
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    samovar.stop().await;
    let platforms =
        || Platforms::new(vec!["linux/amd64".parse().unwrap(), "linux/s390x".parse().unwrap()]).unwrap();
    let samovar = start_with(&world, &store, &[&app], WarmerOptions { platforms: platforms(), ..options() });
    tokio::time::sleep(MINUTE).await;
    let load = || samovar::cache::stored::load(&*store, &app, samovar::cache::stored::Pages::None);
    assert_eq!(load().await.unwrap().head.unwrap().platforms, platforms().to_string());
    let moved = world.push(&app, "1.0", &Image::new("moved"));
    let began = tokio::time::Instant::now();
    samovar.until(&app, |repository| repository.metadata.images[&tag("1.0")].digest == moved).await;
    assert!(began.elapsed() <= HOUR, "{:?}", began.elapsed());
    assert!(world.count(Operation::Tags) < 20, "no pass after another: {}", world.count(Operation::Tags));
}
