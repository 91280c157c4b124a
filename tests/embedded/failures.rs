//! What fails: writing where there is no room, a file that says something else than its totals, a mark of damage.
//!
//! A full disk is a limit on the length of files, which a process of its own gets: this test program, started again for
//! the one test with a directory to work in.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use samovar::store::{Client as _, Embedded, EmbeddedOptions, Entry, Key, Reader as _, StoreError};
use samovar_registry::SystemClock;

use super::{Fixture, MIB, document, is_there, name, noise, repository};

/// Tells this program, started again, that it is to fill the store in this directory.
const FILL_STORE_IN: &str = "TEST_FILLS_STORE_IN";
/// Several times what the engine keeps in memory.
const LONGEST_FILE_BYTES: u64 = 48 * MIB;
const LONG_ENOUGH: Duration = Duration::from_mins(1);

#[tokio::test]
async fn what_is_stored_is_served_after_a_write_has_failed_and_writing_goes_on_with_room() {
    if let Some(directory) = std::env::var_os(FILL_STORE_IN) {
        return fill_and_go_on(Path::new(&directory)).await;
    }
    let fixture = Fixture::new();
    // Without the trap the system would end the process for what is to fail.
    let limited = format!("trap '' XFSZ; exec prlimit --fsize={LONGEST_FILE_BYTES}:unlimited \"$0\" \"$@\"");
    let test = "failures::what_is_stored_is_served_after_a_write_has_failed_and_writing_goes_on_with_room";
    let output = Command::new("sh")
        .args(["-c", &limited])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(FILL_STORE_IN, fixture.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert_eq!(fixture.files(), ["lock", "samovar.redb"]);
}

async fn fill_and_go_on(directory: &Path) {
    let options = EmbeddedOptions { limit_bytes: 1024 * MIB };
    let store = Embedded::open_with(directory, options, Arc::new(SystemClock)).unwrap();
    let mut stored = Vec::new();
    let failed = loop {
        assert!(stored.len() < 10_000, "nothing fails");
        let entry = (document(stored.len()), noise(stored.len(), 60_000));
        if store.set(entry.0.clone(), entry.1.clone()).await.is_err() {
            break entry;
        }
        stored.push(entry);
    };
    assert!(stored.len() > 400, "{}", stored.len());
    let keys: Vec<Key> = stored.iter().map(|(key, _)| key.clone()).collect();
    // Whoever reads while it is opened again gets an error at once.
    let found = tokio::time::timeout(LONG_ENOUGH, async {
        loop {
            match store.get_many(&keys).await {
                Ok(found) => break found,
                Err(StoreError::Unavailable { .. }) => tokio::task::yield_now().await,
                Err(other) => panic!("{other}"),
            }
        }
    });
    let found = found.await.expect("it is opened again");
    assert!(found.into_iter().zip(&stored).all(|(found, (_, entry))| found.as_ref() == Some(entry)));

    let process = std::process::id().to_string();
    let lifted = Command::new("prlimit").args(["--pid", &process, "--fsize=unlimited"]).status().unwrap();
    assert!(lifted.success());
    store.set(failed.0.clone(), failed.1.clone()).await.unwrap();
    assert_eq!(store.get(&failed.0).await.unwrap(), Some(failed.1));
}

#[tokio::test]
async fn a_lock_that_cannot_be_written_locks() {
    let fixture = Fixture::new();
    std::fs::create_dir_all(fixture.path()).unwrap();
    // What goes through a pipe has no length that could be set.
    let lock = fixture.path().join("lock");
    assert!(Command::new("mkfifo").arg(&lock).status().unwrap().success());
    let store = fixture.open(64 * MIB);
    store.set(document(1), Entry::immutable("stored")).await.unwrap();
}

#[tokio::test]
async fn totals_that_promise_what_is_not_there_do_not_keep_the_store_busy() {
    let fixture = Fixture::new();
    let store = fixture.open(64 * MIB);
    let entries: Vec<(Key, Entry)> =
        (0..100).map(|number| (document(number), noise(number, 30_000))).collect();
    store.set_many(entries.clone()).await.unwrap();
    drop(store);
    let by_age = redb::TableDefinition::<'_, (u32, &[u8]), ()>::new("documents_by_age");
    let database = redb::Database::open(fixture.path().join("samovar.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut rows = 0;
    transaction
        .open_table(by_age)
        .unwrap()
        .retain(|_, ()| {
            rows += 1;
            false
        })
        .unwrap();
    assert_eq!(rows, 100);
    transaction.commit().unwrap();
    drop(database);
    let store = fixture.open(MIB);
    let compacted = tokio::time::timeout(LONG_ENOUGH, store.compact()).await;
    compacted.expect("compaction gets its turn").unwrap();
    assert!(is_there(&store, &entries).await.iter().all(|there| *there));
}

#[tokio::test]
async fn what_nobody_watches_goes_as_soon_as_that_is_known() {
    let fixture = Fixture::new();
    let store = fixture.open(64 * MIB);
    let unwatched = repository(&name("unwatched"), 900_000);
    store.set_many(unwatched.clone()).await.unwrap();
    drop(store);
    // Nothing may go when it is opened, and nothing is written.
    let store = fixture.open(MIB);
    store.protect(Arc::new(|_| false));
    // Done after what may go has gone.
    store.compact().await.unwrap();
    assert!(is_there(&store, &unwatched).await.iter().all(|there| !there));
}

#[tokio::test]
async fn a_compacted_store_is_not_damaged_any_more() {
    let fixture = Fixture::new();
    let store = fixture.open(64 * MIB);
    store.set(document(1), Entry::immutable("stored")).await.unwrap();
    std::fs::write(fixture.path().join("samovar.redb.damaged"), "as the engine leaves it").unwrap();
    store.compact().await.unwrap();
    assert_eq!(fixture.files(), ["lock", "samovar.redb"]);
    drop(store);
    assert!(fixture.open(64 * MIB).get(&document(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn it_says_that_it_is_full_until_something_has_room() {
    let fixture = Fixture::new();
    let store = fixture.open(MIB);
    let is_full = async || store.statistics().await.unwrap().full;
    let (small, large) = (Entry::immutable("small"), noise(1, 2_000_000));
    store.set(Key::Side(name("a")), small.clone()).await.unwrap();
    assert!(!is_full().await);
    let error = store.set(Key::Side(name("b")), large).await.unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(is_full().await);
    store.set(Key::Side(name("b")), small).await.unwrap();
    assert!(!is_full().await);
}
