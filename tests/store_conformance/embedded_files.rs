//! The files of the embedded store: what is opened, what is moved aside.

use std::path::Path;

use redb::ReadableDatabase as _;
use samovar::store::{Reader as _, StoreError};

use super::promises::{document, entry};
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
