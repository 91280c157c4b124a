//! What a budget knows survives its process; what a quota puts off is asked for when its turn comes.

use samovar_registry::upstream::BudgetRecord;

use super::*;

const HOST: &str = "registry.example";

pub(super) fn record(rate: f64) -> BudgetRecord {
    let text = serde_json::json!({
        "rate": rate,
        "blocked_until": "2026-01-01T03:00:00Z",
        "quotas": [{
            "identity": "alice", "limit": 100, "remaining": 7, "window_seconds": 21600, "ends": "2026-01-01T06:00:00Z",
        }],
    });
    serde_json::from_value(text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_limits_survives_a_restart_and_a_crash() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 3);
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    assert_eq!(world.take_restored(HOST), [BudgetRecord::default()], "nothing is known at first");
    // Stored by itself within seconds.
    world.set_budget(HOST, &record(20.0));
    tokio::time::sleep(Duration::from_secs(6)).await;
    samovar.kill().await;
    let samovar = start(&world, &store, &[&app]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.take_restored(HOST), [record(20.0)]);
    // Stored when it stops.
    world.set_budget(HOST, &record(10.0));
    samovar.stop().await;
    let samovar = start(&world, &store, &[&app]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.take_restored(HOST), [record(10.0)]);
    samovar.stop().await;
}

#[tokio::test(start_paused = true)]
async fn it_is_known_before_anything_is_asked_and_written_only_when_it_changes() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 3);
    let key = Key::Budget(HOST.to_owned());
    let value = samovar::cache::stored::encode(&record(5.0));
    store.set(key.clone(), Entry::immutable(value.clone())).await.unwrap();
    world.set_budget(HOST, &record(5.0));
    let samovar = start(&world, &store, &[&app]);
    while world.count(Operation::Tags) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(world.take_restored(HOST), [record(5.0)]);
    store.delete(vec![key.clone()]).await.unwrap();
    tokio::time::sleep(MINUTE).await;
    assert_eq!(store.get(&key).await.unwrap(), None, "nothing has changed");
    world.set_budget(HOST, &record(6.0));
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(store.get(&key).await.unwrap().is_some());
    samovar.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nonsense_in_its_place_is_no_knowledge() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 3);
    store.set(Key::Budget(HOST.to_owned()), Entry::immutable("nonsense")).await.unwrap();
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    assert_eq!(world.take_restored(HOST), [BudgetRecord::default()]);
}

#[tokio::test(start_paused = true)]
async fn manifests_that_a_quota_puts_off_come_one_by_one_and_nothing_else_waits() {
    let (world, store) = (World::default(), memory());
    let alpine = filled(&world, "docker.io/library/alpine", 60);
    let others: Vec<Name> =
        (0..20).map(|number| filled(&world, &format!("docker.io/library/other{number}"), 2)).collect();
    let mut watched: Vec<&Name> = others.iter().collect();
    watched.push(&alpine);
    let pace = Duration::from_mins(4);
    world.set_pace("docker.io", pace);
    let began = tokio::time::Instant::now();
    let mut samovar = start(&world, &store, &watched);
    tokio::time::sleep(HOUR).await;
    let lists = world.count(Operation::Tags);
    assert!(lists > 21 * 10, "every repository is listed every five minutes or so: {lists}");
    let asked = samovar.handle.refresh(&alpine, Some(tag("1.59"))).unwrap();
    asked.done().await.expect("who asks is served from the reserve");
    let count = 60 + 40;
    let all = async {
        for name in &watched {
            samovar.complete(name).await;
        }
    };
    tokio::time::timeout(pace * count * 2, all).await.expect("each has its turn");
    assert!(began.elapsed() > pace * (count - 10), "{:?}", began.elapsed());
    let heads = world.take_asked();
    let heads = heads.iter().filter(|asked| asked.operation == Operation::Resolve).count();
    // One to see that it is new, one when its turn has come; and confirmations of those that are known.
    assert!(heads < 100 * 6, "{heads}");
    assert!(
        samovar.announced().iter().all(|(kind, _)| *kind != ChangeKind::RepositoryFailed),
        "nothing has failed"
    );
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_left_alone_is_not_to_blame_its_tags() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 30);
    world.set_latency(HOST, Duration::from_secs(1));
    let samovar = start(&world, &store, &[&app]);
    samovar.until(&app, |repository| !repository.metadata.images.is_empty()).await;
    let failures = 10;
    let kind = ErrorKind::LeftAlone { retry_after: MINUTE * 5, failures, last: "502".to_owned() };
    world.set_failure(HOST, Some(kind));
    tokio::time::sleep(MINUTE).await;
    let during = samovar.repository(&app).await;
    assert!(during.unavailable.values().all(|unavailable| unavailable.attempts == 0), "{during:?}");
    world.set_failure(HOST, None);
    let began = tokio::time::Instant::now();
    samovar.complete(&app).await;
    assert!(began.elapsed() < MINUTE * 6, "{:?}", began.elapsed());
}
