//! What registries, stores and crashes can do, and what remains.

use super::hooked_store::{Access, Hooked, Hooks};
use super::*;

/// Can make a store fail: all writes, or those of heads alone, which is where a crash would strike.
#[derive(Debug, Default)]
struct Failing {
    fails: AtomicBool,
    heads_fail: AtomicBool,
}

impl Hooks for Failing {
    fn before(&self, access: Access, _: &[&Key]) -> Result<(), StoreError> {
        if access != Access::Read && self.fails.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable { message: "no space left".into() });
        }
        if access == Access::CompareAndSet && self.heads_fail.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable { message: "no heads today".into() });
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_warm_up_goes_on_without_asking_again_for_what_was_published() {
    let (world, store) = (World::default(), memory());
    world.set_latency("registry.example", Duration::from_millis(200));
    let app = filled(&world, "registry.example/team/app", 200);
    let samovar = start(&world, &store, &[&app]);
    samovar.until(&app, |repository| repository.metadata.images.len() > 80).await;
    samovar.kill().await;
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    let by_tag = world
        .take_asked()
        .into_iter()
        .filter(|asked| asked.operation == Operation::Manifest && !asked.what.starts_with("sha256:"));
    // Lost are at most the requests in flight and the answers of half a second: 2 × 16 + 2.5 × 16 / 2.
    let again = by_tag.count() - 200;
    assert!(again <= 60, "{again} manifests were asked for again");
}

// D1 of the ancestor's ledger: of 200 tags all were still asked about after the first 429.
#[tokio::test(start_paused = true)]
async fn a_rate_limited_host_is_left_alone_for_exactly_as_long_as_it_wants() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 200);
    let retry_after = HOUR * 3;
    world.set_latency("registry.example", Duration::from_secs(1));
    let samovar = start(&world, &store, &[&app]);
    samovar.until(&app, |repository| repository.metadata.images.len() >= 50).await;
    world.set_failure("registry.example", Some(ErrorKind::RateLimited { retry_after, message: None }));
    tokio::time::sleep(MINUTE).await;
    world.take_asked();
    tokio::time::sleep(HOUR * 2).await;
    assert_eq!(world.take_asked(), []);
    let served = samovar.repository(&app).await;
    assert!(served.metadata.images.len() >= 50 && !served.complete);
    assert!(
        served.unavailable.values().all(|unavailable| unavailable.attempts == 0),
        "the tags are not to blame"
    );
    world.set_failure("registry.example", None);
    let began = tokio::time::Instant::now();
    samovar.complete(&app).await;
    assert!(began.elapsed() <= HOUR + MINUTE);
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_days_takes_nothing_away_and_is_tried_no_less_than_hourly() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 30);
    let samovar = start(&world, &store, &[&app]);
    let before = samovar.complete(&app).await;
    world.set_failure("registry.example", Some(ErrorKind::Transport { message: "refused".into() }));
    tokio::time::sleep(HOUR).await;
    let failing = samovar.repository(&app).await;
    assert!(failing.generation > before.generation, "that it cannot be read means something");
    tokio::time::sleep(HOUR * 24 * 3).await;
    let during = samovar.repository(&app).await;
    assert_eq!(during.metadata.images.len(), 30);
    assert_eq!(during.generation, failing.generation, "but only once");
    assert!(during.last_error.is_some() && during.last_update < before.last_update.map(|time| time + HOUR));
    let tried = world.take_asked().len();
    assert!((70..250).contains(&tried), "{tried} requests in three days");
    world.set_failure("registry.example", None);
    let recovered = samovar.until(&app, |repository| repository.last_error.is_none()).await;
    assert!(recovered.complete);
}

#[tokio::test(start_paused = true)]
async fn what_a_registry_refuses_for_a_day_is_no_longer_served() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 3);
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    let denied = ErrorKind::Denied { credentials: "no credentials".into(), message: None };
    world.set_failure("registry.example", Some(denied));
    tokio::time::sleep(HOUR * 23).await;
    assert_eq!(samovar.repository(&app).await.metadata.images.len(), 3);
    tokio::time::sleep(HOUR * 2).await;
    let refused = samovar.cache.repository_state(&app).await;
    assert!(matches!(refused, Err(CacheError::NeverListed { last_error: Some(_), .. })), "{refused:?}");
    world.set_failure("registry.example", None);
    samovar.complete(&app).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_written_is_survived() {
    let world = World::default();
    let failing = Arc::<Hooked<Failing>>::default();
    let store: Arc<dyn Client> = failing.clone();
    let app = filled(&world, "registry.example/team/app", 30);
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    failing.hooks.fails.store(true, Ordering::Relaxed);
    world.push(&app, "2.0", &Image::new("2.0"));
    tokio::time::sleep(HOUR * 3).await;
    assert_eq!(samovar.repository(&app).await.metadata.images.len(), 30, "what is stored is served");
    failing.hooks.fails.store(false, Ordering::Relaxed);
    samovar.until(&app, |repository| repository.complete && repository.metadata.images.len() == 31).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_the_head_is_written_leaves_nothing_that_claims_to_be_newer_than_it() {
    let world = World::default();
    let failing = Arc::<Hooked<Failing>>::default();
    let store: Arc<dyn Client> = failing.clone();
    let app = filled(&world, "registry.example/team/app", 30);
    // The first listing never gets its head.
    failing.hooks.heads_fail.store(true, Ordering::Relaxed);
    let samovar = start(&world, &store, &[&app]);
    tokio::time::sleep(MINUTE).await;
    samovar.kill().await;
    failing.hooks.heads_fail.store(false, Ordering::Relaxed);
    let began = tokio::time::Instant::now();
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // A tag moves, is seen to have moved, and the head that says so is never written.
    tokio::time::sleep(HOUR / 2).await;
    let moved = world.push(&app, "1.0", &Image::new("moved"));
    failing.hooks.heads_fail.store(true, Ordering::Relaxed);
    samovar.handle.refresh(&app, Some(tag("1.0"))).unwrap().done().await.unwrap_err();
    samovar.kill().await;
    failing.hooks.heads_fail.store(false, Ordering::Relaxed);
    let samovar = start(&world, &store, &[&app]);
    let began = tokio::time::Instant::now();
    samovar.until(&app, |repository| repository.metadata.images[&tag("1.0")].digest == moved).await;
    assert!(began.elapsed() <= HOUR, "no later than if it had not been seen: {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_page_lost_from_the_store_comes_back_by_itself() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 200);
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    let head = samovar::cache::stored::load(&*store, &app, samovar::cache::stored::Pages::None)
        .await
        .unwrap()
        .head
        .unwrap();
    store.delete(vec![Key::Page(app.clone(), head.pages[0].hash)]).await.unwrap();
    assert!(matches!(samovar.cache.repository_state(&app).await, Err(CacheError::Torn { .. })));
    let repository = samovar.until(&app, |repository| repository.metadata.images.len() == 200).await;
    assert!(repository.complete);
}

// D6 of the ancestor's ledger: what did not decode was skipped, or kept its repository as it was, until it expired.
#[tokio::test(start_paused = true)]
async fn what_does_not_decode_is_found_out_again() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 200);
    let samovar = start(&world, &store, &[&app]);
    let good = samovar.complete(&app).await;
    let loaded =
        samovar::cache::stored::load(&*store, &app, samovar::cache::stored::Pages::None).await.unwrap();
    let page = loaded.head.unwrap().pages[0].hash;
    let keys = [
        Key::Page(app.clone(), page),
        Key::SidePage(app.clone(), 0),
        Key::Side(app.clone()),
        Key::Head(app.clone()),
    ];
    for key in keys {
        store.set(key.clone(), Entry::immutable("nothing that decodes")).await.unwrap();
        tokio::time::sleep(HOUR).await;
        let again = samovar.complete(&app).await;
        assert_eq!(again.metadata.tags, good.metadata.tags, "{key}");
        assert_eq!(again.metadata.images.len(), 200, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_cannot_be_read_does_not_keep_known_tags_from_being_confirmed() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 3);
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    world.set_list_failure(Some(ErrorKind::Unavailable { status: 500, message: None }));
    let moved = world.push(&app, "1.0", &Image::new("moved"));
    let repository =
        samovar.until(&app, |repository| repository.metadata.images[&tag("1.0")].digest == moved).await;
    assert!(repository.last_error.is_some());
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_out_a_pause_that_somebody_else_has_caused() {
    let (world, store) = (World::default(), memory());
    world.set_latency("registry.example", Duration::from_secs(1));
    let (one, other) =
        (filled(&world, "registry.example/one", 200), filled(&world, "registry.example/two", 5));
    let samovar = start(&world, &store, &[&one, &other]);
    samovar.complete(&other).await;
    samovar.until(&one, |repository| repository.metadata.images.len() > 20).await;
    world.hold_back("registry.example", HOUR * 6);
    let began = tokio::time::Instant::now();
    let asked = samovar.handle.refresh(&other, None).unwrap();
    let tag_asked = samovar.handle.refresh(&other, Some(tag("1.0"))).unwrap();
    assert!(asked.done().await.unwrap_err().contains("rate limited"));
    assert!(tag_asked.done().await.unwrap_err().contains("rate limited"));
    assert!(began.elapsed() < MINUTE, "{:?}", began.elapsed());
    let during = samovar.until(&other, |repository| repository.last_error.is_some()).await;
    assert_eq!(during.metadata.images.len(), 5);
    samovar.complete(&one).await;
    assert!(began.elapsed() < HOUR * 6 + MINUTE * 3, "{:?}", began.elapsed());
}
