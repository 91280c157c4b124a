//! The embedded store within its bounds: who has to go when space is short, compaction, totals, files of the format
//! before. What it shares with other engines is asked in `store_conformance.rs`, crashes in `embedded_crash.rs`.

mod compaction;
mod eviction;
#[cfg(target_os = "linux")]
mod failures;
mod files;
mod totals;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use samovar::store::{
    Client as _, ContentHash, Embedded, EmbeddedOptions, Entry, Key, Reader as _, Statistics,
};
use samovar_registry::{Clock, Digest, Name};

const MIB: u64 = 1024 * 1024;
/// Writes after which whatever the store does between writes must be done.
const ENOUGH_WRITES: usize = 3000;

/// Shows the hour that it is set to.
#[derive(Debug, Default)]
struct Hours(AtomicI64);

impl Hours {
    fn set(&self, hour: i64) {
        self.0.store(hour, Ordering::Relaxed);
    }
}

impl Clock for Hours {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::Relaxed) * 3600).unwrap()
    }
}

struct Fixture {
    directory: tempfile::TempDir,
    clock: Arc<Hours>,
}

impl Fixture {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), clock: Arc::default() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn open(&self, limit_bytes: u64) -> Embedded {
        Embedded::open_with(&self.path(), EmbeddedOptions { limit_bytes }, self.clock.clone()).unwrap()
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn document(number: usize) -> Key {
    Key::Document(Digest::sha256(&number.to_le_bytes()))
}

fn name(text: &str) -> Name {
    format!("bound.example/{text}").parse().unwrap()
}

/// Bytes that do not repeat, so that nobody is tempted to compress them.
fn noise(seed: usize, length: usize) -> Entry {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed as u64).fill(&mut bytes);
    Entry::immutable(bytes)
}

/// All that is stored of a repository: head, side record, two pages with side pages.
fn repository(name: &Name, bytes: usize) -> Vec<(Key, Entry)> {
    let page = |number: u8| Key::Page(name.clone(), ContentHash::of(&[number]));
    let keys = [
        Key::Head(name.clone()),
        Key::Side(name.clone()),
        page(0),
        page(1),
        Key::SidePage(name.clone(), 0),
        Key::SidePage(name.clone(), 1),
    ];
    let seed = name.as_str().len();
    keys.into_iter().enumerate().map(|(number, key)| (key, noise(seed + number, bytes / 6))).collect()
}

async fn is_there(store: &Embedded, entries: &[(Key, Entry)]) -> Vec<bool> {
    let mut there = Vec::new();
    for (key, entry) in entries {
        there.push(store.get(key).await.unwrap().as_ref() == Some(entry));
    }
    there
}

/// Writes one small entry again and again until the store, which keeps house between writes, is as wanted.
async fn write_until(store: &Embedded, wanted: impl AsyncFn(&Statistics) -> bool) {
    for _ in 0..ENOUGH_WRITES {
        if wanted(&store.statistics().await.unwrap()).await {
            return;
        }
        store.set(Key::Side(name("ticking")), Entry::immutable("tick")).await.unwrap();
    }
    panic!("after {ENOUGH_WRITES} writes: {:?}", store.statistics().await.unwrap());
}
