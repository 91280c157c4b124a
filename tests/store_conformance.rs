//! What every engine of the store promises, asked of each of them by the same functions.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use samovar::store::{Client, Embedded, Entry, Key, Memory, Reader as _};
use samovar_registry::{Digest, Name};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn document(seed: &str) -> Key {
    Key::Document(Digest::sha256(seed.as_bytes()))
}

fn entry(value: impl Into<bytes::Bytes>, millisecond: i64) -> Entry {
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

async fn a_lease_excludes_others_until_it_ends(store: &dyn Client) {
    const TTL: Duration = Duration::from_secs(15);
    let lane = Key::Lane("lease.example".into());
    let lease = |holder: &'static str, ttl| store.lease(&lane, holder, ttl);
    assert!(lease("one", TTL).await.unwrap());
    assert!(!lease("other", TTL).await.unwrap());
    tokio::time::advance(TTL / 2).await;
    assert!(lease("one", TTL).await.unwrap(), "its holder renews it");
    tokio::time::advance(TTL / 2 + Duration::from_secs(1)).await;
    assert!(!lease("other", TTL).await.unwrap(), "it was renewed");
    tokio::time::advance(TTL).await;
    assert!(lease("other", TTL).await.unwrap(), "it has ended");
    assert!(!lease("one", Duration::ZERO).await.unwrap(), "only its holder gives it back");
    assert!(!lease("one", TTL).await.unwrap());
    lease("other", Duration::ZERO).await.unwrap();
    assert!(lease("one", TTL).await.unwrap());
}

async fn conforms(store: Arc<dyn Client>) {
    bytes_and_deadlines_come_back(&*store).await;
    misses_stand_among_hits_in_the_order_asked(&*store).await;
    different_keys_never_meet(&*store).await;
    deleted_keys_are_gone_and_deleting_nothing_is_fine(&*store).await;
    compare_and_set_sets_only_what_is_as_expected(&*store).await;
    a_cancelled_call_never_shows_in_another(&*store).await;
    of_many_writers_each_compare_and_set_counts_once(store).await;
}

fn embedded(directory: &tempfile::TempDir) -> Embedded {
    Embedded::open(&directory.path().join("store"), Timestamp::UNIX_EPOCH).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_conforms() {
    conforms(Arc::new(Memory::default())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_conforms() {
    let directory = tempfile::tempdir().unwrap();
    conforms(Arc::new(embedded(&directory))).await;
}

#[tokio::test(start_paused = true)]
async fn leases_exclude() {
    a_lease_excludes_others_until_it_ends(&Memory::default()).await;
    let directory = tempfile::tempdir().unwrap();
    a_lease_excludes_others_until_it_ends(&embedded(&directory)).await;
}

mod embedded_store {
    use std::path::Path;

    use redb::ReadableDatabase as _;
    use samovar::store::{Reader as _, StoreError};

    use super::*;

    fn files(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn what_was_written_is_there_after_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let store = embedded(&directory);
        store.set(document("a"), entry("kept", 42)).await.unwrap();
        drop(store);
        assert_eq!(embedded(&directory).get(&document("a")).await.unwrap(), Some(entry("kept", 42)));
    }

    #[tokio::test]
    async fn a_second_opener_is_told_who_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let _store = embedded(&directory);
        let error = Embedded::open(&directory.path().join("store"), Timestamp::UNIX_EPOCH).unwrap_err();
        let StoreError::Locked { holder, .. } = error else { panic!("{error}") };
        assert!(holder.contains(&format!("process {}", std::process::id())), "{holder}");
    }

    /// Opens a store whose file was replaced by `content`: it must be moved aside, unchanged, and a fresh one begun.
    async fn is_moved_aside(content: &[u8]) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        drop(embedded(&directory));
        std::fs::write(path.join("samovar.redb"), content).unwrap();
        let store = embedded(&directory);
        assert_eq!(store.get(&document("a")).await.unwrap(), None);
        store.set(document("a"), Entry::immutable("fresh")).await.unwrap();
        assert_eq!(store.get(&document("a")).await.unwrap(), Some(Entry::immutable("fresh")));
        let kept = path.join("samovar.redb.19700101T000000.000Z");
        assert_eq!(std::fs::read(kept).unwrap(), content, "{:?}", files(&path));
    }

    #[tokio::test]
    async fn a_file_that_is_no_store_is_moved_aside_and_kept() {
        is_moved_aside(b"this is not a database").await;
        is_moved_aside(&vec![0; 1 << 16]).await;
    }

    #[tokio::test]
    async fn a_store_cut_short_is_moved_aside_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = embedded(&directory);
        for number in 0..200 {
            store.set(document(&number.to_string()), Entry::immutable(vec![7; 10_000])).await.unwrap();
        }
        drop(store);
        let whole = std::fs::read(directory.path().join("store/samovar.redb")).unwrap();
        is_moved_aside(&whole[..whole.len() / 3]).await;
        is_moved_aside(&whole[..1000]).await;
    }

    #[tokio::test]
    async fn a_store_of_another_version_is_moved_aside_and_kept() {
        let meta: redb::TableDefinition<'_, &str, u32> = redb::TableDefinition::new("meta");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        drop(embedded(&directory));
        let database = redb::Database::create(path.join("samovar.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(meta).unwrap().insert("format", 99).unwrap();
        transaction.commit().unwrap();
        drop(database);
        drop(embedded(&directory));
        let kept = redb::Database::open(path.join("samovar.redb.19700101T000000.000Z")).unwrap();
        let format = kept.begin_read().unwrap().open_table(meta).unwrap().get("format").unwrap();
        assert_eq!(format.map(|format| format.value()), Some(99));
    }

    #[tokio::test]
    async fn damage_in_the_middle_costs_the_store_but_never_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let store = embedded(&directory);
        let keys: Vec<Key> = (0..300).map(|number| document(&number.to_string())).collect();
        for key in &keys {
            store.set(key.clone(), Entry::immutable(vec![7; 2000])).await.unwrap();
        }
        drop(store);
        let file = path.join("samovar.redb");
        let mut bytes = std::fs::read(&file).unwrap();
        let (from, to) = (8192, bytes.len() - bytes.len() / 8);
        for byte in &mut bytes[from..to] {
            *byte = byte.wrapping_mul(31).wrapping_add(17);
        }
        std::fs::write(&file, &bytes).unwrap();
        // Either it is seen at once, or while reading; then the next start begins afresh.
        let store = embedded(&directory);
        for key in &keys {
            let _ = store.get(key).await;
        }
        let _ = store.set(keys[0].clone(), Entry::immutable("new")).await;
        drop(store);
        let store = embedded(&directory);
        store.set(keys[0].clone(), Entry::immutable("new")).await.unwrap();
        assert_eq!(store.get(&keys[0]).await.unwrap(), Some(Entry::immutable("new")));
        assert!(files(&path).iter().any(|name| name.starts_with("samovar.redb.1970")), "{:?}", files(&path));
    }
}
