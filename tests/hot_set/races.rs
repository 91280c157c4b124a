//! Readers and writers at the same time: one reads for all, and nothing old is kept after something new was written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use samovar::cache::Coherent;
use samovar::store::Client;

use super::repository::{AMPLE, Repository, Setting};
use super::watched_store::{AfterWriting, Moment, SilentWriter};

#[tokio::test]
async fn many_who_ask_at_once_share_one_reading() {
    let app = Repository::new("registry.example/team/app", 200);
    let setting = Setting::with(&[&app]).await;
    let stop = setting.store.stop(0, Moment::After);
    let readers: Vec<_> = (0..50)
        .map(|_| {
            let (setting, app) = (setting.clone(), app.clone());
            tokio::spawn(async move { setting.read(&app).await })
        })
        .collect();
    stop.is_reached().await;
    tokio::task::yield_now().await;
    stop.let_go();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), 1);
    }
    assert_eq!(setting.store.calls(), 2);
}

#[tokio::test]
async fn when_the_one_who_reads_goes_away_another_goes_on() {
    let app = Repository::new("registry.example/team/app", 200);
    let setting = Setting::with(&[&app]).await;
    let stop = setting.store.stop(1, Moment::Before);
    let read = || {
        let (setting, app) = (setting.clone(), app.clone());
        tokio::spawn(async move { setting.read(&app).await })
    };
    let first = read();
    stop.is_reached().await;
    let others: Vec<_> = (0..10).map(|_| read()).collect();
    tokio::task::yield_now().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    for other in others {
        assert_eq!(other.await.unwrap(), 1);
    }
    assert_eq!(setting.store.calls(), 4, "two by the one that went away, two by the one in its place");
    assert_eq!(setting.hot.statistics().repositories, 1);
}

#[tokio::test]
async fn a_failure_is_shared_and_not_remembered() {
    let app = Repository::new("registry.example/team/app", 200);
    let setting = Setting::with(&[&app]).await;
    setting.store.set_failing(true);
    let stop = setting.store.stop(0, Moment::Before);
    let readers: Vec<_> = (0..5)
        .map(|_| {
            let (cache, name) = (setting.cache.clone(), app.name.clone());
            tokio::spawn(async move { cache.repository_state(&name).await })
        })
        .collect();
    stop.is_reached().await;
    tokio::task::yield_now().await;
    stop.let_go();
    for reader in readers {
        assert!(reader.await.unwrap().is_err());
    }
    assert_eq!(setting.store.calls(), 1);
    setting.store.set_failing(false);
    assert_eq!(setting.read(&app).await, 1);
}

#[tokio::test]
async fn a_reading_that_a_write_overtakes_is_not_kept_wherever_it_is() {
    let app = Repository::new("registry.example/team/app", 200);
    for was_hot in [false, true] {
        for (call, moment) in
            [(0, Moment::Before), (0, Moment::After), (1, Moment::Before), (1, Moment::After)]
        {
            let setting = Setting::with(&[&app]).await;
            let inner: Arc<dyn Client> = setting.store.inner.clone();
            let store = Coherent::new(inner, Arc::clone(&setting.hot));
            if was_hot {
                setting.read(&app).await;
                setting.hot.invalidate(&app.name);
            }
            let stop = setting.store.stop(call, moment);
            let early = {
                let (setting, app) = (setting.clone(), app.clone());
                tokio::spawn(async move { setting.read(&app).await })
            };
            stop.is_reached().await;
            store.set_many(app.moved("1.7").entries()).await.unwrap();
            let place = format!("call {call}, {moment:?}, hot before: {was_hot}");
            assert_eq!(
                setting.read(&app).await,
                2,
                "a reader that comes later does not wait for the early one; {place}"
            );
            stop.let_go();
            let early = early.await.unwrap();
            assert!(early == 1 || early == 2, "{place}");
            assert_eq!(setting.read(&app).await, 2, "{place}");
        }
    }
}

#[tokio::test]
async fn a_write_whose_future_is_dropped_may_have_been_made() {
    let app = Repository::new("registry.example/team/app", 20);
    let setting = Setting::with(&[&app]).await;
    setting.read(&app).await;
    let store: Arc<dyn Client> =
        Arc::new(SilentWriter { inner: Arc::clone(&setting.store.inner), then: AfterWriting::Hang });
    let store = Coherent::new(store, Arc::clone(&setting.hot));
    let next = app.moved("1.7");
    let write = store.set_many(next.entries());
    assert!(tokio::time::timeout(std::time::Duration::from_millis(20), write).await.is_err());
    assert_eq!(setting.read(&app).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_reading_that_a_write_overtakes_and_that_fails_says_nothing_of_the_store() {
    let app = Repository::new("registry.example/team/app", 20);
    let setting = Setting::with(&[&app]).await;
    let store = Coherent::new(setting.store.inner.clone(), Arc::clone(&setting.hot));
    setting.read(&app).await;
    setting.hot.invalidate(&app.name);
    let stop = setting.store.stop(0, Moment::Before);
    let early = {
        let (setting, app) = (setting.clone(), app.clone());
        tokio::spawn(async move { setting.read(&app).await })
    };
    stop.is_reached().await;
    store.set_many(app.moved("1.7").entries()).await.unwrap();
    setting.store.set_failing(true);
    stop.let_go();
    assert_eq!(early.await.unwrap(), 1);
    setting.store.set_failing(false);
    assert_eq!(setting.read(&app).await, 2, "what was written is read back at once");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whoever begins to read after a write has ended sees it, however readings and writes interleave.
    #[test]
    fn nobody_reads_what_is_older_than_the_last_write(
        yields in proptest::collection::vec(0_u8..6, 0..200),
        pauses in proptest::collection::vec(0_u8..8, 1..12),
        kept in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let app = Repository::new("registry.example/team/app", 3);
            let setting = Setting::new(if kept { AMPLE } else { 0 });
            app.write(&*setting.store.inner).await;
            *setting.store.yields.lock().unwrap() = yields;
            let written = Arc::new(AtomicU64::new(1));
            let readers: Vec<_> = (0..4)
                .map(|reader| {
                    let (setting, app, written) = (setting.clone(), app.clone(), Arc::clone(&written));
                    tokio::spawn(async move {
                        for _ in 0..20 + reader {
                            let at_least = written.load(Ordering::Relaxed);
                            let read = setting.read(&app).await;
                            assert!(read >= at_least, "read {read} after {at_least} was written");
                            tokio::task::yield_now().await;
                        }
                    })
                })
                .collect();
            let inner: Arc<dyn Client> = setting.store.inner.clone();
            let store = Coherent::new(inner, Arc::clone(&setting.hot));
            let mut current = app;
            for pause in pauses {
                for _ in 0..pause {
                    tokio::task::yield_now().await;
                }
                current = current.moved("1.2");
                store.set_many(current.entries()).await.unwrap();
                written.store(current.generation, Ordering::Relaxed);
            }
            for reader in readers {
                reader.await.unwrap();
            }
            assert_eq!(setting.read(&current).await, current.generation);
        });
    }
}
