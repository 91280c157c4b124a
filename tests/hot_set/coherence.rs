//! What others write is seen within about a second; what this process writes, at once.

use std::sync::Arc;
use std::time::Duration;

use samovar::cache::Coherent;
use samovar::store::{Client, Entry, Key};
use tokio::sync::broadcast::error::TryRecvError;
use tokio_util::sync::CancellationToken;

use super::repository::{Repository, Setting, start};

/// Compares with the store in the background, until the guard is dropped.
fn checking(setting: &Setting) -> tokio_util::sync::DropGuard {
    let shutdown = CancellationToken::new();
    let (hot, store, stop) = (Arc::clone(&setting.hot), Arc::clone(&setting.store), shutdown.clone());
    tokio::spawn(async move { hot.run(&store, stop).await });
    shutdown.drop_guard()
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn all_hot_repositories_are_compared_in_one_round_trip_a_second() {
    let repositories: Vec<Repository> =
        (0..500).map(|number| Repository::new(&format!("registry.example/app/{number}"), 2)).collect();
    let setting = Setting::new(super::repository::AMPLE);
    for repository in &repositories {
        repository.write(&*setting.store.inner).await;
        setting.read(repository).await;
    }
    assert!(!setting.hot.is_checked());
    let _running = checking(&setting);
    tokio::time::sleep(SECOND / 2).await;
    setting.store.calls();
    setting.store.keys();
    for _ in 0..5 {
        tokio::time::sleep(SECOND).await;
        assert_eq!((setting.store.calls(), setting.store.keys().len()), (1, 1000));
    }
    assert!(setting.hot.is_checked());
    assert_eq!(setting.hot.statistics().last_checked, Some(start() + 5 * SECOND));
    let more = Repository::new("registry.example/app/more", 2);
    more.write(&*setting.store.inner).await;
    setting.read(&more).await;
    setting.store.calls();
    tokio::time::sleep(SECOND).await;
    assert_eq!(setting.store.calls(), 2, "a thousand keys in each");
}

#[tokio::test(start_paused = true)]
async fn with_nothing_hot_the_store_is_left_alone() {
    let setting = Setting::new(0);
    let _running = checking(&setting);
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(setting.store.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_another_process_wrote_is_served_within_a_second() {
    let app = Repository::new("registry.example/team/app", 200);
    let other = Repository::new("registry.example/team/other", 200);
    let setting = Setting::with(&[&app, &other]).await;
    setting.read(&app).await;
    setting.read(&other).await;
    let _running = checking(&setting);
    let mut changed = setting.hot.changed();
    tokio::time::sleep(SECOND / 2).await;

    app.moved("1.7").write(&*setting.store.inner).await;
    assert_eq!(setting.read(&app).await, 1, "not noticed yet");
    tokio::time::timeout(SECOND, changed.recv()).await.unwrap().unwrap();
    assert_eq!(setting.read(&app).await, 2);
    assert_eq!(changed.try_recv(), Err(TryRecvError::Empty), "told once, and of no other");
    setting.store.calls();
    assert_eq!((setting.read(&app).await, setting.read(&other).await), (2, 1));
    assert_eq!(setting.store.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_confirmation_by_another_process_is_seen_but_is_no_change() {
    let app = Repository::new("registry.example/team/app", 200);
    let setting = Setting::with(&[&app]).await;
    setting.read(&app).await;
    let _running = checking(&setting);
    let mut changed = setting.hot.changed();
    let confirmed = app.confirmed();
    confirmed.write(&*setting.store.inner).await;
    tokio::time::sleep(SECOND).await;
    let repository = setting.cache.repository_state(&app.name).await.unwrap();
    assert_eq!(repository.last_update, confirmed.side.last_update);
    assert_eq!(changed.try_recv(), Err(TryRecvError::Empty));
}

#[tokio::test]
async fn whoever_writes_through_the_wrapper_reads_it_back() {
    let app = Repository::new("registry.example/team/app", 200);
    let setting = Setting::with(&[&app]).await;
    let store: Arc<dyn Client> = setting.store.inner.clone();
    let store = Coherent::new(store, Arc::clone(&setting.hot));
    setting.read(&app).await;

    let mut now = app.moved("1.7");
    let mut entries = now.entries();
    let (head, entry) = entries.pop().expect("the head comes last");
    store.set_many(entries).await.unwrap();
    let expected = store.get_entry(&head).await;
    assert!(store.compare_and_set(head.clone(), expected.clone(), entry).await.unwrap());
    assert_eq!(setting.read(&app).await, 2);
    assert!(!store.compare_and_set(head, expected, Entry::immutable("late")).await.unwrap());

    now = now.confirmed();
    let side = samovar::cache::stored::encode(&now.side);
    store.set(Key::Side(app.name.clone()), Entry::immutable(side)).await.unwrap();
    let repository = setting.cache.repository_state(&app.name).await.unwrap();
    assert_eq!(repository.last_update, now.side.last_update);

    for (key, entry) in now.entries().into_iter().filter(|(key, _)| matches!(key, Key::SidePage(..))) {
        store.set(key, entry).await.unwrap();
    }
    let repository = setting.cache.repository_state(&app.name).await.unwrap();
    assert!(repository.metadata.images.values().all(|image| image.last_fetched == now.side.last_update));

    setting.store.calls();
    store.set(Key::Lane("registry.example".into()), Entry::immutable("x")).await.unwrap();
    setting.read(&app).await;
    assert_eq!(setting.store.calls(), 0, "that was no write to the repository");
}

#[tokio::test]
async fn a_repository_that_is_removed_is_not_kept_alive_by_memory() {
    let app = Repository::new("registry.example/team/app", 20);
    let setting = Setting::with(&[&app]).await;
    let store: Arc<dyn Client> = setting.store.inner.clone();
    let store = Coherent::new(store, Arc::clone(&setting.hot));
    setting.read(&app).await;
    store.delete(vec![app.head()]).await.unwrap();
    let removed = setting.cache.repository_state(&app.name).await;
    assert!(matches!(removed, Err(samovar::cache::CacheError::NeverListed { .. })), "{removed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_another_process_removed_goes_within_a_second() {
    let app = Repository::new("registry.example/team/app", 20);
    let setting = Setting::with(&[&app]).await;
    setting.read(&app).await;
    let _running = checking(&setting);
    let side = Entry::immutable(samovar::cache::stored::encode(&app.gone()));
    setting.store.inner.set(Key::Side(app.name.clone()), side).await.unwrap();
    setting.store.inner.delete(vec![app.head()]).await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(setting.hot.statistics().repositories, 0);
    let removed = setting.cache.repository_state(&app.name).await;
    assert!(matches!(removed, Err(samovar::cache::CacheError::NeverListed { .. })), "{removed:?}");
}

/// `Reader::get`, unwrapped.
trait GetEntry {
    async fn get_entry(&self, key: &Key) -> Option<Entry>;
}

impl GetEntry for Coherent {
    async fn get_entry(&self, key: &Key) -> Option<Entry> {
        samovar::store::Reader::get(self, key).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_repository_that_is_not_hot_is_told_too() {
    let app = Repository::new("registry.example/team/app", 20);
    let setting = Setting::new(0);
    app.write(&*setting.store.inner).await;
    let _running = checking(&setting);
    let mut changed = setting.hot.changed();
    let attention = setting.hot.attend(&app.name);
    assert_eq!(setting.cache.generation(&app.name).await.unwrap(), 1);
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(
        changed.recv().await.unwrap(),
        app.name,
        "it might have changed before it was first looked at"
    );
    assert_eq!(changed.try_recv(), Err(TryRecvError::Empty));

    app.moved("1.7").write(&*setting.store.inner).await;
    assert_eq!(tokio::time::timeout(SECOND, changed.recv()).await.unwrap().unwrap(), app.name);
    assert_eq!(setting.cache.generation(&app.name).await.unwrap(), 2);
    setting.store.inner.delete(vec![app.head()]).await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(changed.try_recv(), Err(TryRecvError::Empty), "lost is not changed");

    drop(attention);
    setting.store.calls();
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(setting.store.calls(), 0, "nobody waits any more");
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_again_when_a_change_could_not_be_read() {
    let app = Repository::new("registry.example/team/app", 20);
    let setting = Setting::with(&[&app]).await;
    setting.read(&app).await;
    let _running = checking(&setting);
    let mut changed = setting.hot.changed();
    let _attention = setting.hot.attend(&app.name);
    tokio::time::sleep(SECOND / 2).await;
    app.moved("1.7").write(&*setting.store.inner).await;
    changed.recv().await.unwrap();
    setting.store.set_failing(true);
    assert_eq!(setting.read(&app).await, 1);
    tokio::time::sleep(3 * SECOND).await;
    assert_eq!(changed.try_recv(), Err(TryRecvError::Empty));
    setting.store.set_failing(false);
    tokio::time::timeout(2 * SECOND, changed.recv()).await.unwrap().unwrap();
    assert_eq!(setting.read(&app).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_also_after_a_confirmation_that_nobody_has_read() {
    let app = Repository::new("registry.example/team/app", 20);
    let setting = Setting::with(&[&app]).await;
    setting.read(&app).await;
    let _running = checking(&setting);
    let mut changed = setting.hot.changed();
    let confirmed = app.confirmed();
    confirmed.write(&*setting.store.inner).await;
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(changed.try_recv(), Err(TryRecvError::Empty));
    let moved = confirmed.moved("1.7");
    moved.write(&*setting.store.inner).await;
    tokio::time::sleep(3 * SECOND).await;
    assert_eq!(changed.try_recv(), Ok(app.name.clone()));
    assert_eq!(changed.try_recv(), Err(TryRecvError::Empty), "once");
    moved.moved("1.7").write(&*setting.store.inner).await;
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(changed.try_recv(), Ok(app.name.clone()), "nor does this one hide the next");
    setting.store.inner.delete(vec![app.head()]).await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(changed.try_recv(), Err(TryRecvError::Empty), "lost is not changed");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_does_not_hide_what_changes_on_the_others() {
    let repositories: Vec<Repository> =
        (0..30).map(|number| Repository::new(&format!("registry.example/app/{number}"), 2)).collect();
    let setting = Setting::with(&repositories.iter().collect::<Vec<_>>()).await;
    for repository in &repositories {
        setting.read(repository).await;
    }
    // Two in three cannot be read.
    let down = repositories.iter().enumerate().filter(|(number, _)| number % 3 != 0);
    setting.store.out_of_reach.lock().unwrap().extend(down.map(|(_, repository)| repository.head()));
    let _running = checking(&setting);
    let mut changed = setting.hot.changed();
    tokio::time::sleep(SECOND / 2).await;
    assert!(!setting.hot.is_checked(), "part of it is not");
    for number in [0, 15, 27, 28] {
        repositories[number].moved("1.1").write(&*setting.store.inner).await;
    }
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(tokio::time::timeout(SECOND, changed.recv()).await.unwrap().unwrap());
    }
    told.sort();
    assert_eq!(told, [0, 15, 27].map(|number: usize| repositories[number].name.clone()));
    for (number, generation) in [(0, 2), (15, 2), (27, 2), (28, 1)] {
        assert_eq!(setting.read(&repositories[number]).await, generation, "repository {number}");
    }

    setting.store.out_of_reach.lock().unwrap().clear();
    let told = tokio::time::timeout(2 * SECOND, changed.recv()).await.unwrap().unwrap();
    assert_eq!(told, repositories[28].name);
    tokio::time::sleep(SECOND).await;
    assert!(setting.hot.is_checked());
    assert_eq!(setting.read(&repositories[28]).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_as_a_whole_is_not_asked_about_each_repository() {
    let repositories: Vec<Repository> =
        (0..100).map(|number| Repository::new(&format!("registry.example/app/{number}"), 2)).collect();
    let setting = Setting::with(&repositories.iter().collect::<Vec<_>>()).await;
    for repository in &repositories {
        setting.read(repository).await;
    }
    setting.store.set_failing(true);
    let _running = checking(&setting);
    tokio::time::sleep(SECOND / 2).await;
    assert!(setting.hot.statistics().error.is_some());
    setting.store.calls();
    setting.store.keys();
    let mut asked = std::collections::HashSet::new();
    for _ in 0..10 {
        tokio::time::sleep(SECOND).await;
        assert!(setting.store.calls() <= 17, "a few, and not a hundred");
        asked.extend(setting.store.keys().into_iter().skip(200));
    }
    assert!(asked.len() >= 2 * 80, "not always the same few: {}", asked.len());
}
