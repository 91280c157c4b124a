//! What is hot is answered without the store; what comes and goes, and by which rules.

use std::time::Duration;

use samovar::cache::stored::{Denied, Side};
use samovar::cache::{CacheError, MOST_HOT};
use samovar::store::{Client as _, Entry, Key};
use samovar_registry::Registry as _;

use super::repository::{AMPLE, Repository, Setting, image, start};

#[tokio::test]
async fn what_was_read_is_answered_without_the_store() {
    let app = Repository::new("registry.example/team/app", 300);
    let setting = Setting::with(&[&app]).await;
    assert_eq!(setting.read(&app).await, 1);
    assert_eq!(setting.store.calls(), 2, "head and side record, then pages");

    let repository = setting.cache.repository_state(&app.name).await.unwrap();
    assert_eq!((repository.metadata.tags.len(), repository.metadata.images.len()), (300, 300));
    assert_eq!(setting.cache.generation(&app.name).await.unwrap(), 1);
    let summary = setting.cache.summary(&app.name).await.unwrap();
    assert_eq!((summary.tag_count, summary.last_update), (300, Some(start())));
    let by_tag = setting.cache.image(&app.reference("1.7")).await.unwrap();
    assert_eq!(by_tag, repository.metadata.images["1.7"]);
    let digest = image(7).digest;
    let by_digest = setting.cache.image(&format!("{}@{digest}", app.name).parse().unwrap()).await.unwrap();
    assert_eq!((by_digest.digest, by_digest.size), (digest, Some(7)));
    let missing = setting.cache.image(&app.reference("2.0")).await;
    assert!(matches!(missing, Err(CacheError::NoSuchImage { .. })), "{missing:?}");
    assert_eq!(setting.store.calls(), 0);
    let statistics = setting.hot.statistics();
    assert_eq!((statistics.repositories, statistics.misses, statistics.hits), (1, 1, 5));
}

#[tokio::test]
async fn one_tag_of_a_cold_repository_costs_one_page_and_the_next_one_brings_it_in() {
    let app = Repository::new("registry.example/team/app", 1000);
    let setting = Setting::with(&[&app]).await;
    setting.cache.image(&app.reference("1.7")).await.unwrap();
    let keys = setting.store.keys();
    assert_eq!(keys.iter().filter(|key| matches!(key, Key::Page(..))).count(), 1);
    assert_eq!((keys.len(), setting.store.calls()), (4, 2));
    setting.cache.image(&app.reference("1.8")).await.unwrap();
    assert_eq!(setting.store.calls(), 2);
    setting.cache.image(&app.reference("1.9")).await.unwrap();
    assert_eq!(setting.store.calls(), 0);
}

#[tokio::test]
async fn a_large_repository_does_not_come_in_for_single_tags() {
    let app = Repository::new("registry.example/team/app", 6000);
    let setting = Setting::with(&[&app]).await;
    for number in 0..4 {
        setting.cache.image(&app.reference(&format!("1.{number}"))).await.unwrap();
        assert_eq!((setting.store.keys().len(), setting.store.calls()), (4, 2));
    }
    setting.cache.generation(&app.name).await.unwrap();
    assert_eq!(setting.store.calls(), 1);
}

#[tokio::test]
async fn unknown_names_are_not_kept_and_repositories_never_listed_are() {
    let setting = Setting::new(AMPLE);
    let app = Repository::new("registry.example/team/app", 3);
    for _ in 0..2 {
        let unknown = setting.cache.repository_state(&app.name).await;
        assert!(matches!(unknown, Err(CacheError::NotWatched { .. })), "{unknown:?}");
    }
    assert_eq!(setting.hot.statistics().repositories, 0);
    let side = samovar::cache::stored::encode(&Side::default());
    setting.store.inner.set(Key::Side(app.name.clone()), Entry::immutable(side)).await.unwrap();
    for _ in 0..2 {
        let never = setting.cache.repository_state(&app.name).await;
        assert!(matches!(never, Err(CacheError::NeverListed { .. })), "{never:?}");
    }
    assert_eq!(setting.hot.statistics().repositories, 1);
}

#[tokio::test]
async fn what_was_read_longest_ago_goes_first() {
    let repositories: Vec<Repository> =
        (0..4).map(|number| Repository::new(&format!("registry.example/app/{number}"), 100)).collect();
    let measured = Setting::with(&[&repositories[0]]).await;
    measured.read(&repositories[0]).await;
    let one = measured.hot.statistics().bytes;

    let setting = Setting::new(one * 3 + one / 2);
    for repository in &repositories {
        repository.write(&*setting.store.inner).await;
    }
    for read in [0, 1, 2, 0, 3] {
        setting.read(&repositories[read]).await;
    }
    let statistics = setting.hot.statistics();
    assert_eq!((statistics.repositories, statistics.evictions), (3, 1));
    assert!(statistics.bytes <= statistics.limit_bytes);
    setting.store.calls();
    for (read, calls) in [(0, 0), (2, 0), (3, 0), (1, 2)] {
        setting.read(&repositories[read]).await;
        assert_eq!(setting.store.calls(), calls, "repository {read}");
    }
}

#[tokio::test]
async fn a_summary_is_no_reason_to_stay() {
    let repositories = ["a", "b", "c"].map(|path| Repository::new(&format!("registry.example/{path}"), 100));
    let measured = Setting::with(&[&repositories[0]]).await;
    measured.read(&repositories[0]).await;
    let setting = Setting::new(measured.hot.statistics().bytes * 5 / 2);
    for repository in &repositories {
        repository.write(&*setting.store.inner).await;
    }
    setting.read(&repositories[0]).await;
    setting.read(&repositories[1]).await;
    setting.cache.summary(&repositories[0].name).await.unwrap();
    setting.read(&repositories[2]).await;
    setting.store.calls();
    setting.read(&repositories[1]).await;
    assert_eq!(setting.store.calls(), 0);
    setting.read(&repositories[0]).await;
    assert_eq!(setting.store.calls(), 2, "it was read longest ago");
}

#[tokio::test]
async fn what_takes_up_more_than_half_of_the_budget_is_not_kept() {
    let app = Repository::new("registry.example/team/app", 200);
    let measured = Setting::with(&[&app]).await;
    measured.read(&app).await;
    let bytes = measured.hot.statistics().bytes;
    for (limit, kept) in [(bytes * 2, 1), (bytes * 2 - 2, 0), (0, 0)] {
        let setting = Setting::new(limit);
        app.write(&*setting.store.inner).await;
        setting.read(&app).await;
        let statistics = setting.hot.statistics();
        assert_eq!((statistics.repositories, statistics.evictions), (kept, 1 - kept as u64), "limit {limit}");
        assert_eq!(statistics.bytes, bytes * kept);
        // Nor does it come in again and again because single tags are asked for.
        setting.store.keys();
        for _ in 0..3 {
            setting.cache.image(&app.reference("1.7")).await.unwrap();
        }
        assert_eq!(setting.store.keys().len(), (1 - kept) * 3 * 4, "limit {limit}");
    }
}

#[tokio::test]
async fn no_more_repositories_than_the_bound_are_kept() {
    let setting = Setting::new(AMPLE);
    for number in 0..=MOST_HOT {
        let repository = Repository::new(&format!("registry.example/app/{number}"), 1);
        repository.write(&*setting.store.inner).await;
        setting.read(&repository).await;
    }
    let statistics = setting.hot.statistics();
    assert_eq!((statistics.repositories, statistics.evictions), (MOST_HOT, 1));
}

#[tokio::test(start_paused = true)]
async fn what_must_no_longer_be_served_is_withheld_when_its_time_comes() {
    let mut app = Repository::new("registry.example/team/app", 10);
    app.side.denied = Some(Denied { since: start(), until: start() });
    app.side.last_error = Some(app.last_error(0));
    let setting = Setting::with(&[&app]).await;
    setting.read(&app).await;
    tokio::time::advance(Duration::from_hours(24)).await;
    assert_eq!(setting.read(&app).await, 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    let withheld = setting.cache.repository_state(&app.name).await;
    assert!(matches!(withheld, Err(CacheError::NeverListed { .. })), "{withheld:?}");
    assert_eq!(setting.store.calls(), 2, "told from memory");
}
