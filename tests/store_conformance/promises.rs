//! What every store promises, each promise a function that any store can be put to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use samovar::store::{Client, ContentHash, Entry, Key, MAX_DECODED_BYTES};
use samovar_registry::{Digest, Name};
use tokio::time::Instant;

use super::PATIENCE;

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn document(seed: &str) -> Key {
    Key::Document(Digest::sha256(seed.as_bytes()))
}

pub(crate) fn entry(value: impl Into<bytes::Bytes>, millisecond: i64) -> Entry {
    Entry { value: value.into(), refresh_at: Some(Timestamp::from_millisecond(millisecond).unwrap()) }
}

async fn bytes_and_deadlines_come_back(store: &dyn Client) {
    let every_byte: Vec<u8> = (0..=255).collect();
    let entries = [
        entry(every_byte, 1_795_159_018_925),
        entry("", 0),
        entry(vec![0; 200_000], -1),
        Entry::immutable("no deadline"),
    ];
    for (number, entry) in entries.iter().enumerate() {
        store.set(document(&number.to_string()), entry.clone()).await.unwrap();
    }
    for (number, entry) in entries.iter().enumerate() {
        assert_eq!(store.get(&document(&number.to_string())).await.unwrap().as_ref(), Some(entry));
    }
    let replaced = entry("replaced", 5);
    store.set(document("0"), replaced.clone()).await.unwrap();
    assert_eq!(store.get(&document("0")).await.unwrap(), Some(replaced));
}

async fn misses_stand_among_hits_in_the_order_asked(store: &dyn Client) {
    let keys: Vec<Key> = (0..100).map(|number| document(&format!("many {number}"))).collect();
    let even = keys.iter().enumerate().filter(|(number, _)| number % 2 == 0);
    let entries = even.map(|(number, key)| (key.clone(), entry(format!("value {number}"), 7))).collect();
    store.set_many(entries).await.unwrap();
    let found = store.get_many(&keys).await.unwrap();
    assert_eq!(found.len(), keys.len());
    for (number, found) in found.into_iter().enumerate() {
        let expected = (number % 2 == 0).then(|| entry(format!("value {number}"), 7));
        assert_eq!(found, expected);
    }
    assert_eq!(store.get_many(&[]).await.unwrap(), []);
}

async fn different_keys_never_meet(store: &dyn Client) {
    // Names that run into one another when keys are put together carelessly.
    let names = ["a.example/b", "a.example/b/c", "a.example/b-c", "a.example:1/b", "[::1]:5000/b"];
    let long = format!("a.example/{}", "x".repeat(240));
    let keys: Vec<Key> = names
        .iter()
        .copied()
        .chain([long.as_str()])
        .flat_map(|text| {
            let name = name(text);
            [
                Key::Head(name.clone()),
                Key::Side(name.clone()),
                Key::SidePage(name.clone(), 0),
                Key::SidePage(name, 10),
            ]
        })
        .collect();
    for (number, key) in keys.iter().enumerate() {
        store.set(key.clone(), Entry::immutable(number.to_string())).await.unwrap();
    }
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(store.get(key).await.unwrap(), Some(Entry::immutable(number.to_string())), "{key}");
    }
}

async fn deleted_keys_are_gone_and_deleting_nothing_is_fine(store: &dyn Client) {
    let (one, other) = (document("one"), document("other"));
    store.set(one.clone(), Entry::immutable("1")).await.unwrap();
    store.set(other.clone(), Entry::immutable("2")).await.unwrap();
    store.delete(vec![one.clone(), document("never there")]).await.unwrap();
    assert_eq!(store.get(&one).await.unwrap(), None);
    assert_eq!(store.get(&other).await.unwrap(), Some(Entry::immutable("2")));
    store.delete(Vec::new()).await.unwrap();
}

async fn compare_and_set_sets_only_what_is_as_expected(store: &dyn Client) {
    let key = Key::Head(name("cas.example/a"));
    let (first, second, third) = (entry("first", 1), entry("second", 2), entry("third", 3));
    let set = |expected: Option<&Entry>, new: &Entry| {
        store.compare_and_set(key.clone(), expected.cloned(), new.clone())
    };
    assert!(!set(Some(&first), &second).await.unwrap(), "nothing is there");
    assert!(set(None, &first).await.unwrap());
    assert!(!set(None, &second).await.unwrap(), "something is there");
    assert!(set(Some(&first), &second).await.unwrap());
    assert!(!set(Some(&first), &third).await.unwrap(), "it has changed");
    assert!(!set(Some(&entry("second", 9)), &third).await.unwrap(), "the deadline counts");
    assert_eq!(store.get(&key).await.unwrap(), Some(second));
}

async fn of_many_writers_each_compare_and_set_counts_once(store: Arc<dyn Client>) {
    const WRITERS: usize = 8;
    const TIMES: usize = 20;
    let key = Key::Head(name("count.example/a"));
    let count_up = |store: Arc<dyn Client>, key: Key| async move {
        for _ in 0..TIMES {
            loop {
                let current = store.get(&key).await.unwrap();
                let number: usize = current
                    .as_ref()
                    .map_or(0, |entry| std::str::from_utf8(&entry.value).unwrap().parse().unwrap());
                let next = Entry::immutable((number + 1).to_string());
                if store.compare_and_set(key.clone(), current, next).await.unwrap() {
                    break;
                }
            }
        }
    };
    let writers: Vec<_> =
        (0..WRITERS).map(|_| tokio::spawn(count_up(Arc::clone(&store), key.clone()))).collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let total = (WRITERS * TIMES).to_string();
    assert_eq!(store.get(&key).await.unwrap(), Some(Entry::immutable(total)));
}

/// A future dropped at any await point leaves the store answering, with each key's own value.
async fn a_cancelled_call_never_shows_in_another(store: &dyn Client) {
    let keys: Vec<Key> = (0..50).map(|number| document(&format!("cancel {number}"))).collect();
    let value = |number: usize| Entry::immutable(format!("own value {number}").repeat(50));
    for (number, key) in keys.iter().enumerate() {
        store.set(key.clone(), value(number)).await.unwrap();
    }
    for round in 0..200 {
        let cancelled = async {
            match round % 3 {
                0 => drop(store.get_many(&keys).await),
                1 => drop(store.set(keys[0].clone(), value(0)).await),
                _ => drop(store.compare_and_set(keys[1].clone(), Some(value(1)), value(1)).await),
            }
        };
        let polls = round % 4;
        let mut cancelled = std::pin::pin!(cancelled);
        for _ in 0..polls {
            if futures_util::poll!(cancelled.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let other = round % keys.len();
        assert_eq!(store.get(&keys[other]).await.unwrap(), Some(value(other)), "round {round}");
    }
}

/// The largest value that is written, and what a server of a megabyte an item can still take. What is larger may be
/// refused, but is never cut, and harms nothing else.
async fn large_values_come_back_whole_or_are_refused(store: &dyn Client) {
    let filled =
        |bytes: usize| entry((0..bytes).map(|at| u8::try_from(at % 253).unwrap()).collect::<Vec<u8>>(), 3);
    for bytes in [MAX_DECODED_BYTES + 2, 1_000_000] {
        let large = filled(bytes);
        store.set(document("large"), large.clone()).await.unwrap();
        assert_eq!(store.get(&document("large")).await.unwrap(), Some(large), "{bytes} bytes");
    }
    let neighbours = [document("small one"), document("small other")];
    for bytes in [1024 * 1024, 1024 * 1024 + 1, 2 * 1024 * 1024] {
        let larger = filled(bytes);
        let entries = vec![
            (neighbours[0].clone(), entry("small", 1)),
            (document("larger"), larger.clone()),
            (neighbours[1].clone(), entry("small", 2)),
        ];
        if store.set_many(entries).await.is_ok() {
            assert_eq!(store.get(&document("larger")).await.unwrap(), Some(larger), "{bytes} bytes");
        } else {
            assert_eq!(
                store.get(&document("larger")).await.unwrap(),
                None,
                "{bytes} bytes: refused as a whole"
            );
        }
        store.delete(vec![document("larger")]).await.unwrap();
        store.set(neighbours[0].clone(), entry("small", 3)).await.unwrap();
        assert_eq!(store.get(&neighbours[0]).await.unwrap(), Some(entry("small", 3)));
    }
}

/// Names and hosts as long, and lanes as strange, as they can be.
async fn hostile_keys_are_keys_like_others(store: &dyn Client) {
    let longest = format!("registry.example/{}", "x".repeat(255 - "registry.example/".len()));
    let long = name(&longest);
    let page = ContentHash::of(b"page");
    let sha512 = Digest::sha512(b"document");
    let keys = [
        Key::Head(long.clone()),
        Key::Page(long.clone(), page),
        Key::Directory(long.clone(), page),
        Key::SidePage(long, u32::MAX),
        Key::Document(sha512.clone()),
        Key::DocumentPart(sha512, u32::MAX),
        Key::Head(name("[2001:db8::1]:5000/a/b/c/d")),
    ];
    for (number, key) in keys.iter().enumerate() {
        store.set(key.clone(), entry(number.to_string(), 1)).await.unwrap();
    }
    for (number, found) in store.get_many(&keys).await.unwrap().into_iter().enumerate() {
        assert_eq!(found, Some(entry(number.to_string(), 1)), "{}", keys[number]);
    }
    let ttl = Duration::from_secs(5);
    for host in ["", " ", "a b", "a\r\nflush_all\r\n", "\0", "日本", &"h".repeat(1000)] {
        let lane = Key::Lane(host.to_owned());
        assert!(store.lease(&lane, "one", ttl).await.unwrap(), "{host:?}");
        assert!(!store.lease(&lane, "other", ttl).await.unwrap(), "{host:?}");
    }
    assert_eq!(store.get(&keys[0]).await.unwrap(), Some(entry("0", 1)));
}

async fn what_is_renewed_is_unchanged_and_what_is_not_there_stays_away(store: &dyn Client) {
    let (there, away) = (document("renewed"), document("never written"));
    store.set(there.clone(), entry("renewed", 9)).await.unwrap();
    store.renew(vec![there.clone(), away.clone()]).await.unwrap();
    store.renew(Vec::new()).await.unwrap();
    let found = store.get_many(&[there, away]).await.unwrap();
    assert_eq!(found, [Some(entry("renewed", 9)), None]);
    let long_enough = store.time_to_live().is_none_or(|ttl| ttl >= Duration::from_hours(24 * 30));
    assert!(long_enough, "{:?}", store.time_to_live());
}

/// Everything that was learnt is listed once; what coordinates replicas is not.
async fn a_scan_finds_every_entry(store: &dyn Client) {
    let before: BTreeMap<Key, Entry> = store.scan().try_collect().await.unwrap();
    let more: BTreeMap<Key, Entry> =
        (0..700)
            .map(|number| (document(&format!("scanned {number}")), entry(number.to_string(), number)))
            .chain((0..300).map(|number| {
                (Key::SidePage(name("r.example/scanned"), number), entry("side", number.into()))
            }))
            .collect();
    store.set_many(more.clone().into_iter().collect()).await.unwrap();
    store.lease(&Key::Lane("scanned.example".into()), "one", Duration::from_mins(1)).await.unwrap();
    store.set(Key::Asked("scanned.example".into()), Entry::immutable("please")).await.unwrap();
    let found: Vec<(Key, Entry)> = store.scan().try_collect().await.unwrap();
    let once: BTreeMap<Key, Entry> = found.iter().cloned().collect();
    assert_eq!(once.len(), found.len(), "each once");
    let expected: BTreeMap<Key, Entry> = before.into_iter().chain(more).collect();
    assert_eq!(once, expected);
    let mut keys: Vec<Key> = store.scan_repositories().try_collect().await.unwrap();
    keys.sort();
    let of_repositories = expected.into_keys().filter(|key| key.repository().is_some());
    assert_eq!(keys, of_repositories.collect::<Vec<_>>());
    assert!(!keys.is_empty(), "there is something to find");
    let statistics = store.statistics().await.unwrap();
    assert!(statistics.entries.is_none_or(|entries| entries >= 700), "{statistics:?}");
}

/// In real time, as servers count it: whole seconds, with some.
async fn a_lease_excludes_others_and_ends(store: &dyn Client) {
    let lane = Key::Lane("ends.example".into());
    let long = Duration::from_mins(1);
    assert!(store.lease(&lane, "one", Duration::from_secs(1)).await.unwrap());
    let deadline = Instant::now() + PATIENCE;
    while !store.lease(&lane, "other", long).await.unwrap() {
        assert!(Instant::now() < deadline, "it does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!store.lease(&lane, "one", long).await.unwrap(), "the other has it now");
    assert!(store.lease(&lane, "other", long).await.unwrap(), "its holder renews it");
    assert!(!store.lease(&lane, "one", Duration::ZERO).await.unwrap(), "only its holder gives it back");
    assert!(!store.lease(&lane, "one", long).await.unwrap());
    store.lease(&lane, "other", Duration::ZERO).await.unwrap();
    assert!(store.lease(&lane, "one", long).await.unwrap());
}

async fn of_many_who_want_a_lease_one_gets_it(store: Arc<dyn Client>) {
    let lane = Key::Lane("contended.example".into());
    let tries: Vec<_> = (0..16)
        .map(|number| {
            let (store, lane) = (Arc::clone(&store), lane.clone());
            tokio::spawn(async move {
                store.lease(&lane, &format!("replica {number}"), Duration::from_mins(1)).await.unwrap()
            })
        })
        .collect();
    let mut granted = 0;
    for lease in tries {
        granted += usize::from(lease.await.unwrap());
    }
    assert_eq!(granted, 1);
}

/// All of them.
pub(crate) async fn are_kept_by(store: Arc<dyn Client>) {
    bytes_and_deadlines_come_back(&*store).await;
    misses_stand_among_hits_in_the_order_asked(&*store).await;
    different_keys_never_meet(&*store).await;
    deleted_keys_are_gone_and_deleting_nothing_is_fine(&*store).await;
    compare_and_set_sets_only_what_is_as_expected(&*store).await;
    a_cancelled_call_never_shows_in_another(&*store).await;
    large_values_come_back_whole_or_are_refused(&*store).await;
    hostile_keys_are_keys_like_others(&*store).await;
    what_is_renewed_is_unchanged_and_what_is_not_there_stays_away(&*store).await;
    a_scan_finds_every_entry(&*store).await;
    a_lease_excludes_others_and_ends(&*store).await;
    of_many_who_want_a_lease_one_gets_it(Arc::clone(&store)).await;
    of_many_writers_each_compare_and_set_counts_once(store).await;
}
