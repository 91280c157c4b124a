//! Compaction: the file shrinks, and nothing else changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use samovar::store::{Client as _, Embedded, Entry, Key, Reader as _};

use super::{Fixture, MIB, document, is_there, name, noise, write_until};

/// Asks everybody, over and over, until told to stop; each reader and writer has keys of its own.
async fn use_it(store: Arc<Embedded>, own: usize, stop: Arc<AtomicBool>) -> BTreeMap<usize, usize> {
    let mut random = fastrand::Rng::with_seed(own as u64);
    let key = |number: usize| Key::SidePage(name(&format!("user{own}")), number.try_into().unwrap());
    let mut written = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        let number = random.usize(..200);
        match random.u8(..4) {
            0 | 1 => {
                let seed = random.usize(..1000);
                store.set(key(number), noise(seed, 3000)).await.unwrap();
                written.insert(number, seed);
            }
            2 => {
                store.delete(vec![key(number)]).await.unwrap();
                written.remove(&number);
            }
            _ => {
                let expected = written.get(&number).map(|seed| noise(*seed, 3000));
                assert_eq!(store.get(&key(number)).await.unwrap(), expected);
            }
        }
    }
    written
}

/// Makes a store of some 100 MiB of which hardly anything stays, while four tasks read and write.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn compaction_in_the_background_shrinks_the_file_and_loses_nothing() {
    let fixture = Fixture::new();
    let store = Arc::new(fixture.open(1024 * MIB));
    let stop = Arc::new(AtomicBool::new(false));
    let users: Vec<_> =
        (0..4).map(|own| tokio::spawn(use_it(Arc::clone(&store), own, Arc::clone(&stop)))).collect();
    let keys: Vec<Key> = (0..800).map(document).collect();
    let entry = |number: usize| (keys[number].clone(), noise(number, 120_000));
    for first in (0..keys.len()).step_by(20) {
        store.set_many((first..first + 20).map(entry).collect()).await.unwrap();
    }
    let large = store.statistics().await.unwrap().used_bytes.unwrap();
    assert!(large > 100 * MIB, "{large}");
    let (stay, go): (Vec<usize>, Vec<usize>) = (0..keys.len()).partition(|number| number % 20 == 7);
    for numbers in go.chunks(20) {
        store.delete(numbers.iter().map(|number| keys[*number].clone()).collect()).await.unwrap();
    }
    store.set(Key::Side(name("ticking")), Entry::immutable("tick")).await.unwrap();
    write_until(&store, async |statistics| statistics.used_bytes < Some(64 * MIB)).await;
    stop.store(true, Ordering::Relaxed);
    let mut entries = stay.len() + 1;
    for (own, user) in users.into_iter().enumerate() {
        let written = user.await.unwrap();
        entries += written.len();
        for (number, seed) in written {
            let key = Key::SidePage(name(&format!("user{own}")), number.try_into().unwrap());
            assert_eq!(store.get(&key).await.unwrap(), Some(noise(seed, 3000)));
        }
    }
    for number in stay {
        assert_eq!(store.get(&keys[number]).await.unwrap(), Some(noise(number, 120_000)));
    }
    let statistics = store.statistics().await.unwrap();
    assert_eq!(statistics.entries, Some(entries as u64));
    drop(store);
    assert_eq!(fixture.files(), ["lock", "samovar.redb"]);
    let reopened = fixture.open(1024 * MIB).statistics().await.unwrap();
    assert_eq!((reopened.entries, reopened.value_bytes), (statistics.entries, statistics.value_bytes));
}

#[tokio::test]
async fn a_store_is_compacted_when_somebody_asks() {
    let fixture = Fixture::new();
    let store = fixture.open(64 * MIB);
    let entries: Vec<(Key, Entry)> =
        (0..2000).map(|number| (document(number), noise(number, 3000))).collect();
    store.set_many(entries.clone()).await.unwrap();
    store.delete(entries[200..].iter().map(|(key, _)| key.clone()).collect()).await.unwrap();
    let (one, other) = tokio::join!(store.compact(), store.compact());
    let (one, other) = (one.unwrap(), other.unwrap());
    assert!(one.before > 6 * MIB && one.after < 2 * MIB, "{one:?}");
    assert_eq!(one.before, other.before.max(one.before), "{other:?}");
    assert_eq!(is_there(&store, &entries[..200]).await, vec![true; 200]);
    let statistics = store.statistics().await.unwrap();
    assert_eq!(statistics.used_bytes, Some(other.after.min(one.after)));
    assert_eq!(statistics.entries, Some(200));
}

#[tokio::test]
async fn when_documents_were_read_is_known_after_compaction_and_reopening() {
    let fixture = Fixture::new();
    let store = fixture.open(8 * MIB);
    for number in 0..100 {
        fixture.clock.set(number);
        let number = usize::try_from(number).unwrap();
        store.set(document(number), noise(number, 28_000)).await.unwrap();
    }
    fixture.clock.set(200);
    for number in 0..50 {
        store.get(&document(number)).await.unwrap().unwrap();
    }
    store.set(Key::Side(name("ticking")), Entry::immutable("tick")).await.unwrap();
    store.compact().await.unwrap();
    drop(store);
    let store = fixture.open(3 * MIB);
    write_until(&store, async |statistics| statistics.evicted >= Some(20)).await;
    let there = store.get_many(&(0..100).map(document).collect::<Vec<_>>()).await.unwrap();
    let gone: Vec<usize> = (0..100).filter(|number| there[*number].is_none()).collect();
    assert_eq!(gone, (50..50 + gone.len()).collect::<Vec<_>>(), "in the order in which they were last read");
}

#[tokio::test]
async fn what_a_crashed_compaction_left_behind_is_removed() {
    let fixture = Fixture::new();
    let store = fixture.open(64 * MIB);
    store.set(document(1), noise(1, 100)).await.unwrap();
    drop(store);
    let leftover = fixture.path().join("samovar.redb.replacement");
    std::fs::copy(fixture.path().join("samovar.redb"), &leftover).unwrap();
    let store = fixture.open(64 * MIB);
    assert_eq!(fixture.files(), ["lock", "samovar.redb"]);
    assert_eq!(store.get(&document(1)).await.unwrap(), Some(noise(1, 100)));
    std::fs::write(&leftover, "half a file").unwrap();
    store.compact().await.unwrap();
    assert_eq!(fixture.files(), ["lock", "samovar.redb"]);
    assert_eq!(store.get(&document(1)).await.unwrap(), Some(noise(1, 100)));
}

#[tokio::test]
async fn a_store_closed_while_it_is_compacted_is_as_it_was() {
    let fixture = Fixture::new();
    let store = Arc::new(fixture.open(1024 * MIB));
    let entries: Vec<(Key, Entry)> =
        (0..300).map(|number| (document(number), noise(number, 60_000))).collect();
    store.set_many(entries.clone()).await.unwrap();
    let mut compacting = Box::pin(store.compact());
    assert!(futures_util::poll!(compacting.as_mut()).is_pending());
    drop(compacting);
    drop(store);
    assert_eq!(fixture.files(), ["lock", "samovar.redb"]);
    assert_eq!(is_there(&fixture.open(1024 * MIB), &entries).await, vec![true; 300]);
}
