//! A store that fails, hangs, or has lost something does not take away what is in memory.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use samovar::cache::load::{Missing, MissingObserver};
use samovar::cache::stored::Denied;
use samovar::cache::{CacheError, Coherent};
use samovar::store::{Client, Entry, Key, StoreError};
use samovar_registry::Registry as _;
use tokio_util::sync::CancellationToken;

use super::repository::{Repository, Setting, start};
use super::watched_store::{AfterWriting, SilentWriter};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn while_the_store_fails_what_is_hot_is_answered_and_what_is_cold_is_not() {
    let app = Repository::new("registry.example/team/app", 200);
    let stale = Repository::new("registry.example/team/stale", 200);
    let cold = Repository::new("registry.example/team/cold", 200);
    let setting = Setting::with(&[&app, &stale, &cold]).await;
    setting.read(&app).await;
    setting.read(&stale).await;
    let shutdown = CancellationToken::new();
    let _running = shutdown.clone().drop_guard();
    let (hot, store) = (Arc::clone(&setting.hot), Arc::clone(&setting.store));
    tokio::spawn(async move { hot.run(&store, shutdown).await });
    tokio::time::sleep(SECOND / 2).await;

    stale.moved("1.7").write(&*setting.store.inner).await;
    setting.hot.invalidate(&stale.name);
    setting.store.set_failing(true);
    let age = setting.cache.repository_state(&stale.name).await.unwrap();
    assert_eq!((age.generation, age.last_update), (1, Some(start())), "as it was, with its age");
    tokio::time::sleep(SECOND).await;
    assert!(!setting.hot.is_checked());
    assert!(setting.hot.statistics().error.is_some());
    setting.store.calls();
    for _ in 0..10 {
        assert_eq!((setting.read(&app).await, setting.read(&stale).await), (1, 1));
        setting.cache.image(&stale.reference("1.7")).await.unwrap();
        setting.cache.summary(&stale.name).await.unwrap();
    }
    assert!(setting.store.calls() <= 10, "a store that fails is not asked for every answer");
    let refused = setting.cache.repository_state(&cold.name).await;
    assert!(matches!(refused, Err(CacheError::Store(StoreError::Unavailable { .. }))), "{refused:?}");
    assert!(setting.cache.summary(&cold.name).await.is_err());

    setting.store.set_failing(false);
    tokio::time::sleep(SECOND).await;
    assert!(setting.hot.is_checked());
    assert_eq!(setting.hot.statistics().error, None);
    assert_eq!((setting.read(&stale).await, setting.read(&cold).await), (2, 1), "it recovers by itself");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_not_waited_for() {
    let app = Repository::new("registry.example/team/app", 200);
    let setting = Setting::with(&[&app]).await;
    setting.read(&app).await;
    setting.hot.invalidate(&app.name);
    setting.store.hangs.store(true, Ordering::Relaxed);
    let before = tokio::time::Instant::now();
    for _ in 0..100 {
        assert_eq!(setting.read(&app).await, 1);
    }
    assert!(before.elapsed() <= SECOND, "waited for once");
    tokio::time::advance(5 * SECOND).await;
    setting.store.hangs.store(false, Ordering::Relaxed);
    app.moved("1.7").write(&*setting.store.inner).await;
    assert_eq!(setting.read(&app).await, 2, "and tried again later, also if nobody compares");
}

#[tokio::test]
async fn a_write_that_fails_may_have_been_made() {
    let app = Repository::new("registry.example/team/app", 20);
    let setting = Setting::with(&[&app]).await;
    setting.read(&app).await;
    let store: Arc<dyn Client> =
        Arc::new(SilentWriter { inner: Arc::clone(&setting.store.inner), then: AfterWriting::Fail });
    let store = Coherent::new(store, Arc::clone(&setting.hot));
    assert!(store.set_many(app.moved("1.7").entries()).await.is_err());
    assert_eq!(setting.read(&app).await, 2);
}

#[tokio::test(start_paused = true)]
async fn an_evicted_head_or_page_does_not_take_away_what_is_hot() {
    let app = Repository::new("registry.example/team/app", 200);
    let setting = Setting::with(&[&app]).await;
    setting.read(&app).await;
    let shutdown = CancellationToken::new();
    let _running = shutdown.clone().drop_guard();
    let (hot, store) = (Arc::clone(&setting.hot), Arc::clone(&setting.store));
    tokio::spawn(async move { hot.run(&store, shutdown).await });

    let everything: Vec<Key> = app.entries().into_iter().map(|(key, _)| key).collect();
    for lost in [vec![app.head()], vec![Key::Side(app.name.clone())], everything] {
        setting.store.inner.delete(lost).await.unwrap();
        tokio::time::sleep(2 * SECOND).await;
        let repository = setting.cache.repository_state(&app.name).await.unwrap();
        assert_eq!((repository.generation, repository.metadata.images.len()), (1, 200));
        assert_eq!(repository.last_update, Some(start()));
    }
    setting.store.calls();
    setting.read(&app).await;
    assert_eq!(setting.store.calls(), 0, "what is lost is not looked for with every answer");

    // The warmer brings it back, one page short at first.
    let next = app.moved("1.7");
    let mut entries = next.entries();
    let new_page =
        |key: &Key| matches!(key, Key::Page(..)) && !app.entries().iter().any(|(old, _)| old == key);
    let page = entries.remove(entries.iter().position(|(key, _)| new_page(key)).expect("it has moved"));
    setting.store.inner.set_many(entries).await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(setting.read(&app).await, 1, "nothing less than before");
    setting.store.inner.set_many(vec![page]).await.unwrap();
    tokio::time::sleep(6 * SECOND).await;
    assert_eq!(setting.read(&app).await, 2);
}

#[tokio::test]
async fn what_is_missing_is_counted_once_where_it_is_found() {
    let app = Repository::new("registry.example/team/app", 1000);
    let setting = Setting::with(&[&app]).await;
    let pages: Vec<Key> =
        app.entries().into_iter().map(|(key, _)| key).filter(|key| matches!(key, Key::Page(..))).collect();
    let found = Arc::new(Found::default());
    let cache = setting.cache.clone().with_missing_observer(found.clone());
    setting.store.inner.delete(vec![pages[0].clone(), Key::SidePage(app.name.clone(), 1)]).await.unwrap();
    setting.store.inner.set(pages[2].clone(), Entry::immutable("damaged")).await.unwrap();
    setting.store.inner.set(Key::Side(app.name.clone()), Entry::immutable("damaged")).await.unwrap();

    let torn = cache.repository_state(&app.name).await;
    assert!(matches!(torn, Err(CacheError::Torn { .. })), "{torn:?}");
    let mut counted = std::mem::take(&mut *found.0.lock().unwrap());
    counted.sort_unstable_by_key(|what| what.as_str());
    assert_eq!(counted, [Missing::Page, Missing::SidePage, Missing::Undecodable, Missing::Undecodable]);
    assert_eq!(setting.store.calls(), 3, "the head has not changed: what is missing is lost");
    assert_eq!(setting.hot.statistics().repositories, 0, "half a repository is not kept");
}

#[derive(Debug, Default)]
struct Found(Mutex<Vec<Missing>>);

impl MissingObserver for Found {
    fn missing(&self, what: Missing) {
        self.0.lock().unwrap().push(what);
    }
}

#[tokio::test]
async fn a_lost_side_page_does_not_take_away_when_its_tags_were_confirmed() {
    let app = Repository::new("registry.example/team/app", 20);
    let setting = Setting::with(&[&app]).await;
    setting.read(&app).await;
    setting.store.inner.delete(vec![Key::SidePage(app.name.clone(), 0)]).await.unwrap();
    setting.hot.invalidate(&app.name);
    let repository = setting.cache.repository_state(&app.name).await.unwrap();
    assert!(repository.metadata.images.values().all(|image| image.last_fetched == Some(start())));
}

#[tokio::test(start_paused = true)]
async fn a_lost_side_record_does_not_make_what_is_withheld_served_again() {
    let mut app = Repository::new("registry.example/team/app", 20);
    app.side.denied = Some(Denied { since: start(), until: start() });
    app.side.last_error = Some(app.last_error(0));
    let setting = Setting::with(&[&app]).await;
    assert_eq!(setting.read(&app).await, 1);
    tokio::time::advance(25 * 3600 * SECOND).await;
    setting.store.inner.delete(vec![Key::Side(app.name.clone())]).await.unwrap();
    setting.hot.invalidate(&app.name);
    let withheld = setting.cache.repository_state(&app.name).await;
    assert!(matches!(withheld, Err(CacheError::NeverListed { last_error: Some(_), .. })), "{withheld:?}");
    assert_eq!(setting.cache.summary(&app.name).await.unwrap().tag_count, 0);
    setting.hot.invalidate(&app.name);
    assert_eq!(
        setting.cache.summary(&app.name).await.unwrap().tag_count,
        0,
        "nor while it is not read again"
    );

    // Whoever has it not in memory cannot know.
    let found = Arc::new(Found::default());
    let cold =
        samovar::cache::Cache::new(Arc::clone(&setting.store), Arc::new(samovar_registry::SystemClock))
            .with_missing_observer(found.clone());
    let torn = [
        cold.repository_state(&app.name).await.err(),
        cold.generation(&app.name).await.err(),
        cold.image(&app.reference("1.7")).await.err(),
    ];
    for torn in torn {
        assert!(matches!(torn, Some(CacheError::Torn { .. })), "{torn:?}");
    }
    assert_eq!(*found.0.lock().unwrap(), [Missing::Side; 3]);
    let summary = cold.summary(&app.name).await.unwrap();
    assert_eq!((summary.tag_count, summary.complete), (20, false), "incomplete, and not empty");
}

#[tokio::test]
async fn without_its_side_record_a_repository_is_not_kept() {
    let app = Repository::new("registry.example/team/app", 20);
    let setting = Setting::with(&[&app]).await;
    let side = Key::Side(app.name.clone());
    let entry = app.entries().into_iter().find(|(key, _)| *key == side).expect("it has one");
    setting.store.inner.delete(vec![side]).await.unwrap();
    let torn = setting.cache.repository_state(&app.name).await;
    assert!(matches!(torn, Err(CacheError::Torn { .. })), "{torn:?}");
    assert_eq!(setting.hot.statistics().repositories, 0);
    setting.store.inner.set_many(vec![entry]).await.unwrap();
    assert_eq!(setting.read(&app).await, 1);
}
