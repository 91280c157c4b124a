//! A store that answers, but takes longer than anybody waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use samovar::cache::Coherent;
use samovar::store::Client;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::repository::{Repository, Setting};

const SECOND: Duration = Duration::from_secs(1);

/// Longer than anybody waits for, and not so long that the comparison gives up.
const SLOW: Duration = Duration::from_secs(3);

fn set_delay(setting: &Setting, delay: Duration) {
    *setting.store.delay.lock().unwrap() = delay;
}

/// Compares with the store in the background, until the guard is dropped.
fn checking(setting: &Setting) -> tokio_util::sync::DropGuard {
    let shutdown = CancellationToken::new();
    let (hot, store, stop) = (Arc::clone(&setting.hot), Arc::clone(&setting.store), shutdown.clone());
    tokio::spawn(async move { hot.run(&store, stop).await });
    shutdown.drop_guard()
}

#[tokio::test(start_paused = true)]
async fn what_always_takes_long_to_read_comes_up_to_date_behind_the_answers() {
    let app = Repository::new("registry.example/team/app", 200);
    let setting = Setting::with(&[&app]).await;
    setting.read(&app).await;
    set_delay(&setting, SLOW);
    let _running = checking(&setting);
    app.moved("1.7").write(&*setting.store.inner).await;
    setting.hot.invalidate(&app.name);

    let began = Instant::now();
    assert_eq!(setting.read(&app).await, 1);
    assert!(began.elapsed() <= SECOND, "nobody waits for it");
    while setting.read(&app).await == 1 {
        assert!(began.elapsed() <= 3 * SLOW, "head, then pages: it takes twice as long as a round trip");
        tokio::time::sleep(SECOND / 10).await;
    }
    setting.store.keys();
    assert_eq!(setting.read(&app).await, 2);
    assert!(setting.store.keys().is_empty(), "it is as in the store");
    assert!(setting.store.under_way() <= 1, "all that goes on is the comparison");
}

#[tokio::test(start_paused = true)]
async fn what_is_written_faster_than_it_can_be_read_is_followed_at_a_distance() {
    let app = Repository::new("registry.example/team/app", 200);
    let setting = Setting::with(&[&app]).await;
    let store = Coherent::new(setting.store.inner.clone(), Arc::clone(&setting.hot));
    setting.read(&app).await;
    set_delay(&setting, SLOW);
    let _running = checking(&setting);
    let (mut current, mut read) = (app.clone(), 1);
    for _ in 0..60 {
        current = current.moved("1.7");
        store.set_many(current.entries()).await.unwrap();
        let before = read;
        read = setting.read(&app).await;
        assert!(read >= before, "{read} after {before}");
        tokio::time::sleep(SECOND / 2).await;
    }
    assert!(read > 20, "{read} of 61");
}

#[tokio::test(start_paused = true)]
async fn no_more_than_a_few_readings_go_on_behind_the_answers() {
    let repositories: Vec<Repository> =
        (0..30).map(|number| Repository::new(&format!("registry.example/app/{number}"), 2)).collect();
    let setting = Setting::with(&repositories.iter().collect::<Vec<_>>()).await;
    for repository in &repositories {
        setting.read(repository).await;
        setting.hot.invalidate(&repository.name);
    }
    setting.store.hangs.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        for repository in &repositories {
            assert_eq!(setting.read(repository).await, 1);
        }
    }
    assert_eq!(setting.store.under_way(), 8);
    tokio::time::sleep(61 * SECOND).await;
    assert_eq!(setting.store.under_way(), 0, "none for ever");

    setting.read(&repositories[0]).await;
    assert_eq!(setting.store.under_way(), 1);
    let Setting { store, hot, cache } = setting;
    drop((hot, cache));
    tokio::time::sleep(SECOND).await;
    assert_eq!(store.under_way(), 0, "nor longer than what it is for");
}
