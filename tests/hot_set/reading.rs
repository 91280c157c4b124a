//! What a second reading takes over from the first.

use std::sync::Arc;

use samovar::cache::Cache;
use samovar::store::{Client as _, Key, MAX_DECODED_BYTES, Memcached, MemcachedOptions};
use samovar_memcached::{Address, Options, Servers};
use samovar_registry::{Registry as _, TokioClock};
use samovar_testing::Memcached as MemcachedServer;

use super::repository::{Repository, Setting, image, start, tag};

/// How many keys of each kind were asked for: fronts (heads and side records), directories, pages, side pages.
fn asked(keys: &[Key]) -> [usize; 4] {
    let mut counts = [0; 4];
    for key in keys {
        counts[match key {
            Key::Head(_) | Key::Side(_) => 0,
            Key::Directory(..) => 1,
            Key::Page(..) => 2,
            Key::SidePage(..) => 3,
            _ => panic!("{key} is nothing that a reader asks for"),
        }] += 1;
    }
    counts
}

#[tokio::test]
async fn only_new_pages_are_read_again() {
    let app = Repository::new("registry.example/team/app", 1000);
    let setting = Setting::with(&[&app]).await;
    setting.read(&app).await;
    let [_, _, pages, side_pages] = asked(&setting.store.keys());
    assert!(pages > 8 && pages == side_pages, "{pages} pages");

    let moved = app.moved("1.500");
    moved.write(&*setting.store.inner).await;
    setting.hot.invalidate(&app.name);
    assert_eq!(setting.read(&app).await, 2);
    assert_eq!(asked(&setting.store.keys()), [2, 0, 1, pages]);
    let before = super::repository::image(500).digest;
    let repository = setting.cache.repository_state(&app.name).await.unwrap();
    let unlike: Vec<_> =
        repository.metadata.images.iter().filter(|(_, image)| image.size >= Some(1000)).collect();
    assert_eq!((unlike.len(), unlike[0].0), (1, &tag("1.500")));
    assert_ne!(unlike[0].1.digest, before);

    let confirmed = moved.confirmed();
    confirmed.write(&*setting.store.inner).await;
    setting.hot.invalidate(&app.name);
    setting.store.keys();
    let repository = setting.cache.repository_state(&app.name).await.unwrap();
    assert_eq!(asked(&setting.store.keys()), [2, 0, 0, pages], "nothing but side records has changed");
    assert_eq!(repository.last_update, confirmed.side.last_update);
    assert_ne!(repository.last_update, Some(start()));
    for image in repository.metadata.images.values() {
        assert_eq!(image.last_fetched, confirmed.side.last_update);
    }
}

#[tokio::test]
async fn a_repository_with_a_directory_is_read_in_three_round_trips_and_again_by_its_differences() {
    let mut app = Repository::new("registry.example/team/app", 70_000);
    let setting = Setting::with(&[&app]).await;
    assert_eq!(setting.read(&app).await, 1);
    assert_eq!(setting.store.calls(), 3);
    let [_, directories, pages, side_pages] = asked(&setting.store.keys());
    assert!(directories >= 2 && pages > 1000 && pages == side_pages, "{directories} parts, {pages} pages");

    app = app.moved("1.69999");
    app.write(&*setting.store.inner).await;
    setting.hot.invalidate(&app.name);
    let repository = setting.cache.repository_state(&app.name).await.unwrap();
    assert_eq!((repository.generation, repository.metadata.tags.len()), (2, 70_000));
    assert_eq!(setting.store.calls(), 3);
    assert_eq!(asked(&setting.store.keys()), [2, 1, 1, pages]);
    assert_eq!(repository.metadata.images["1.69999"].size, Some(1_069_999));
}

#[tokio::test]
async fn tags_that_come_and_go_are_told_apart_from_pages_that_stay() {
    let app = Repository::new("registry.example/team/app", 700);
    let setting = Setting::with(&[&app]).await;
    setting.read(&app).await;
    let mut next = app.moved("1.3");
    for number in (0..700).step_by(3) {
        next.tags.remove(&tag(&format!("1.{number}")));
    }
    for number in 700..900 {
        next.tags.insert(tag(&format!("1.{number}")), number);
    }
    next.write(&*setting.store.inner).await;
    setting.hot.invalidate(&app.name);
    let repository = setting.cache.repository_state(&app.name).await.unwrap();
    let expected: Vec<_> = next.tags.keys().cloned().collect();
    assert_eq!(repository.metadata.tags, expected);
    let sizes = repository.metadata.images.iter().map(|(tag, image)| (tag.clone(), image.size.unwrap()));
    assert!(sizes.eq(next.tags), "every tag has its own image");
}

/// Nothing of the largest repositories is too large for a memcached as it comes: items of 1 MiB, 64 MiB of memory.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_thousand_tags_lie_in_a_memcached_as_it_comes() {
    let server = MemcachedServer::start().await;
    let servers = Servers::List(vec![Address { host: "127.0.0.1".into(), port: server.port() }]);
    let options = MemcachedOptions { pool: Options::new(servers), prefix: "samovar|".into() };
    let store = Arc::new(Memcached::open(options).await.unwrap());
    let repository = Repository::new("registry.example/team/large", 50_000);
    for entries in repository.entries().chunks(100) {
        assert!(entries.iter().all(|(_, entry)| entry.value.len() <= MAX_DECODED_BYTES + 64));
        store.set_many(entries.to_vec()).await.unwrap();
    }
    let cache = Cache::new(store, Arc::new(TokioClock::starting_at(start())));
    let read = cache.repository_state(&repository.name).await.unwrap();
    assert_eq!((read.metadata.tags.len(), read.metadata.images.len()), (50_000, 50_000));
    assert!(read.complete && read.unavailable.is_empty());
    let one = cache.image(&repository.reference("1.49999")).await.unwrap();
    assert_eq!(one.digest, image(49_999).digest);
}
