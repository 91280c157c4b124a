//! Who has to go when space is short.

use std::sync::Arc;

use samovar::store::{Client as _, ContentHash, Entry, Key, Reader as _, StoreError};
use samovar_registry::Name;

use super::{Fixture, MIB, document, is_there, name, noise, repository, write_until};

#[tokio::test]
async fn documents_go_first_and_of_them_those_that_were_not_read_for_longest() {
    let fixture = Fixture::new();
    let store = fixture.open(8 * MIB);
    let kept = repository(&name("kept"), 200_000);
    store.set_many(kept.clone()).await.unwrap();
    let documents: Vec<(Key, Entry)> =
        (0..100).map(|number| (document(number), noise(number, 28_000))).collect();
    store.set_many(documents.clone()).await.unwrap();
    // Every other one is read later on; the readings are noted with the next write.
    fixture.clock.set(5);
    for (key, _) in documents.iter().step_by(2) {
        store.get(key).await.unwrap().unwrap();
    }
    store.set(Key::Side(name("ticking")), Entry::immutable("tick")).await.unwrap();
    assert_eq!(store.statistics().await.unwrap().evicted, Some(0));

    fixture.clock.set(6);
    let mut newer = Vec::new();
    for numbers in [100..150, 150..200, 200..230] {
        let more: Vec<_> = numbers.map(|number| (document(number), noise(number, 28_000))).collect();
        store.set_many(more.clone()).await.unwrap();
        newer.extend(more);
    }
    write_until(&store, async |statistics| statistics.evicted > Some(20)).await;
    let there = is_there(&store, &documents).await;
    let read: Vec<bool> = there.iter().copied().step_by(2).collect();
    let unread: Vec<bool> = there.iter().copied().skip(1).step_by(2).collect();
    assert!(!unread.contains(&true) || !read.contains(&false), "read: {read:?}, unread: {unread:?}");
    assert!(unread.contains(&false));
    assert!(is_there(&store, &newer).await.iter().all(|there| *there), "what is new is read last");
    assert!(is_there(&store, &kept).await.iter().all(|there| *there), "no more than documents had to go");
}

#[tokio::test]
async fn then_goes_what_nobody_watches_and_what_is_watched_is_never_lost() {
    let fixture = Fixture::new();
    let store = fixture.open(8 * MIB);
    let repositories: Vec<(Name, Vec<(Key, Entry)>)> = (0..24)
        .map(|number| name(&format!("team/app{number}")))
        .map(|name| (name.clone(), repository(&name, 140_000)))
        .collect();
    let all = repositories.iter().flat_map(|(_, entries)| entries.clone());
    store.set_many(all.collect()).await.unwrap();
    let extra = name("extra");
    let mut written = Vec::new();
    // Nobody has said what is watched: nothing may go, and the limit is the end.
    let refused = loop {
        let entry =
            (Key::SidePage(extra.clone(), written.len().try_into().unwrap()), noise(written.len(), 60_000));
        match store.set_many(vec![entry.clone()]).await {
            Ok(()) => written.push(entry),
            Err(error) => break error,
        }
    };
    let StoreError::Full { message } = &refused else { panic!("{refused}") };
    assert!(message.contains("8 MiB") && message.contains("--store-limit"), "{message}");
    for (name, entries) in &repositories {
        assert!(is_there(&store, entries).await.iter().all(|there| *there), "{name}");
    }
    // Documents are left out in silence, the rest can still be replaced, compared and removed.
    let evicted = store.statistics().await.unwrap().evicted.unwrap();
    store.set(document(1), noise(1, 100_000)).await.unwrap();
    assert_eq!(store.get(&document(1)).await.unwrap(), None);
    assert_eq!(store.statistics().await.unwrap().evicted, Some(evicted + 1));
    let (key, entry) = written.pop().unwrap();
    store.set(key.clone(), noise(99, 60_000)).await.unwrap();
    assert!(store.compare_and_set(key.clone(), Some(noise(99, 60_000)), entry).await.unwrap());
    let one_too_many = Key::Page(extra.clone(), ContentHash::of(b"one too many"));
    let error = store.compare_and_set(one_too_many, None, noise(100, 60_000)).await.unwrap_err();
    assert_eq!(error, refused);
    store.delete(vec![key.clone()]).await.unwrap();
    store.set(key, noise(101, 60_000)).await.unwrap();

    // Now it is known: every other one is watched, and so is what was written last.
    let watched = |name: &Name| name.path() == "extra" || name.path().ends_with(['0', '2', '4', '6', '8']);
    store.protect(Arc::new(watched));
    // There is room again, for documents too.
    write_until(&store, async |_| {
        store.set(document(2), noise(2, 10_000)).await.unwrap();
        store.get(&document(2)).await.unwrap().is_some()
    })
    .await;
    for (name, entries) in repositories.iter().filter(|(name, _)| watched(name)) {
        assert!(is_there(&store, entries).await.iter().all(|there| *there), "{name}");
    }
    assert!(is_there(&store, &written).await.iter().all(|there| *there));
    let mut gone = 0;
    for (name, entries) in repositories.iter().filter(|(name, _)| !watched(name)) {
        let there = is_there(&store, entries).await;
        gone += usize::from(!there[0]);
        assert!(
            there[0] || !there.contains(&true),
            "its head goes first, and nothing stays behind: {name} {there:?}"
        );
    }
    assert!((1..repositories.len() / 2).contains(&gone), "no more than had to go: {gone}");
}

#[tokio::test]
async fn documents_stay_as_long_as_what_cannot_go_leaves_them_room() {
    let fixture = Fixture::new();
    let store = fixture.open(8 * MIB);
    // 100 entries of 64 KiB: between the marks of 75 % and 85 %, so that no eviction ever reaches the lower one.
    let large = (0..100).map(|number| (Key::SidePage(name("large"), number), noise(1, 60_000)));
    store.set_many(large.collect()).await.unwrap();
    store.set(Key::Side(name("ticking")), Entry::immutable("tick")).await.unwrap();
    let mut number = 0;
    while store.statistics().await.unwrap().evicted == Some(0) {
        store.set(document(number), noise(number, 12_000)).await.unwrap();
        number += 1;
    }
    assert!(number > 15, "{number}");
    write_until(&store, async |statistics| statistics.entries < Some(106)).await;
    let before = store.statistics().await.unwrap().entries.unwrap();
    for number in 0..10 {
        store.set(document(number), noise(number, 12_000)).await.unwrap();
        store.set(Key::Side(name("ticking")), Entry::immutable("tick")).await.unwrap();
    }
    assert_eq!(store.statistics().await.unwrap().entries, Some(before + 10));
}

#[tokio::test]
async fn a_store_stays_below_its_limit_on_the_disk_however_much_is_written() {
    const LIMIT: u64 = 24 * MIB;
    let fixture = Fixture::new();
    let store = fixture.open(LIMIT);
    let mut random = fastrand::Rng::with_seed(3);
    let mut most_used = 0;
    for batch in 0..80 {
        fixture.clock.set(batch / 5);
        let entries = (0..24).map(|_| {
            let number = random.usize(..);
            (document(number), noise(number, random.usize(200..140_000)))
        });
        store.set_many(entries.collect()).await.unwrap();
        let statistics = store.statistics().await.unwrap();
        most_used = most_used.max(statistics.used_bytes.unwrap());
        assert_eq!(statistics.limit_bytes, Some(LIMIT));
    }
    assert!(most_used > LIMIT / 2 && most_used <= LIMIT, "{most_used}");
    let statistics = store.statistics().await.unwrap();
    assert!(statistics.evicted > Some(1000), "{statistics:?}");
    assert!(statistics.entries > Some(100), "{statistics:?}");
}

#[tokio::test]
async fn a_limit_that_was_lowered_is_kept_from_the_start() {
    let fixture = Fixture::new();
    let store = fixture.open(64 * MIB);
    let documents = (0..200).map(|number| (document(number), noise(number, 60_000)));
    store.set_many(documents.collect()).await.unwrap();
    drop(store);
    let store = fixture.open(8 * MIB);
    write_until(&store, async |statistics| statistics.value_bytes <= Some(8 * MIB)).await;
    let statistics = store.statistics().await.unwrap();
    assert_eq!(statistics.entries.unwrap() + statistics.evicted.unwrap(), 200 + 1, "the ticking");
}
