//! Reading everything, files of the format before, and looking at a store without touching it.

use std::path::Path;

use futures_util::TryStreamExt as _;
use samovar::store::{Client as _, Embedded, EmbeddedOptions, Entry, Key, StoreError};

use super::{Fixture, MIB, document, is_there, name, noise, repository};

#[tokio::test]
async fn everything_is_found_in_the_order_of_the_keys() {
    let fixture = Fixture::new();
    let store = fixture.open(1024 * MIB);
    assert_eq!(store.scan().try_collect::<Vec<_>>().await.unwrap(), []);
    let mut entries: Vec<(Key, Entry)> =
        (0..1500).map(|number| (document(number), noise(number, number * 7))).collect();
    for number in 0..20 {
        entries.extend(repository(&name(&format!("r{number}")), 6000));
    }
    store.set_many(entries.clone()).await.unwrap();
    store.set(Key::Asked("registry.example".into()), Entry::immutable("not learnt")).await.unwrap();
    entries.sort_by_key(|(key, _)| key.to_string());
    assert!(store.scan().try_collect::<Vec<_>>().await.unwrap() == entries, "not what was stored");
}

const OLD_META: redb::TableDefinition<'_, &str, u32> = redb::TableDefinition::new("meta");
const OLD_ENTRIES: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("entries");

/// A store as the first version left it: without totals.
fn write_store_of_format_1(path: &Path, entries: &[(Key, Entry)]) {
    std::fs::create_dir_all(path).unwrap();
    let database = redb::Database::create(path.join("samovar.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(OLD_META).unwrap().insert("format", 1).unwrap();
    let mut table = transaction.open_table(OLD_ENTRIES).unwrap();
    for (key, entry) in entries {
        let stored = [&i64::MIN.to_le_bytes(), &entry.value[..]].concat();
        table.insert(key.to_string().as_str(), stored.as_slice()).unwrap();
    }
    drop(table);
    transaction.commit().unwrap();
}

#[tokio::test]
async fn a_store_of_the_format_before_is_counted_once_and_goes_on() {
    let fixture = Fixture::new();
    let mut entries: Vec<(Key, Entry)> =
        (0..200).map(|number| (document(number), noise(number, number * 100))).collect();
    entries.extend(repository(&name("old"), 12_000));
    write_store_of_format_1(&fixture.path(), &entries);
    fixture.clock.set(10);
    let store = fixture.open(64 * MIB);
    assert_eq!(fixture.files(), ["lock", "samovar.redb"]);
    assert!(is_there(&store, &entries).await.iter().all(|there| *there));
    let statistics = store.statistics().await.unwrap();
    assert_eq!(statistics.entries, Some(206));
    let bytes: usize = entries.iter().map(|(key, entry)| key.to_string().len() + entry.value.len()).sum();
    assert_eq!(statistics.value_bytes, Some(bytes as u64));
    store.delete(entries.iter().map(|(key, _)| key.clone()).collect()).await.unwrap();
    drop(store);
    let statistics = fixture.open(64 * MIB).statistics().await.unwrap();
    assert_eq!((statistics.entries, statistics.value_bytes), (Some(0), Some(0)));
}

#[tokio::test]
async fn looking_at_a_store_makes_moves_and_evicts_nothing() {
    let fixture = Fixture::new();
    let open = || {
        Embedded::open_existing(&fixture.path(), EmbeddedOptions { limit_bytes: MIB }, fixture.clock.clone())
    };
    let error = open().unwrap_err().to_string();
    assert!(error.contains("there is no store"), "{error}");
    assert!(!fixture.path().exists());

    let store = fixture.open(64 * MIB);
    let entries: Vec<(Key, Entry)> =
        (0..100).map(|number| (document(number), noise(number, 60_000))).collect();
    store.set_many(entries.clone()).await.unwrap();
    assert!(matches!(open().unwrap_err(), StoreError::Locked { .. }));
    drop(store);
    let store = open().unwrap();
    store.compact().await.unwrap();
    assert!(is_there(&store, &entries).await.iter().all(|there| *there));
    assert_eq!(store.statistics().await.unwrap().evicted, Some(0));
    drop(store);

    std::fs::write(fixture.path().join("samovar.redb"), "no database").unwrap();
    open().unwrap_err();
    assert_eq!(fixture.files(), ["lock", "samovar.redb"]);
    let store = fixture.open(64 * MIB);
    let set_aside = store.set_aside();
    assert_eq!(set_aside.files, 1);
    assert!(set_aside.bytes > 0, "{set_aside:?}");
    assert_eq!(fixture.files(), ["lock", "samovar.redb", "samovar.redb.19700101T000000.000Z"]);
}
