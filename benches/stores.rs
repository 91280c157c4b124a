//! What the kinds of store cost, side by side in one run: single operations, and a repository of 5,000 tags.
//!
//! `cargo bench --bench stores` prints the tables of the README. It starts Debian's `memcached` and `redis-server` on
//! free ports. Absolute figures depend on the machine; the columns are to be compared with each other.

#![allow(clippy::print_stdout, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{BENCH_IMAGE, labelled_image, print_table, warm};
use jiff::Timestamp;
use samovar::cache::Cache;
use samovar::store::{
    Client, Embedded, Entry, Key, Memcached, MemcachedOptions, Memory, Redis, RedisOptions, RedisTopology,
};
use samovar_memcached::{Address, Options, Servers};
use samovar_registry::{Digest, SystemClock};
use samovar_testing::{Memcached as MemcachedServer, RedisServer};
use tokio::time::Instant;

/// As many tasks as ask at once.
const TASKS: usize = 16;
const KEYS: usize = 1000;
const VALUE_BYTES: usize = 2048;
const KEYS_TOGETHER: usize = 100;
/// How long each operation is measured.
const MEASURED_FOR: Duration = Duration::from_secs(3);
const TAGS: usize = 5000;

#[derive(Debug, Clone, Copy)]
enum Operation {
    Get,
    GetMany,
    Set,
}

/// Operations a second, and the time below which 99 of 100 stay.
struct Measured {
    per_second: f64,
    p99: Duration,
}

#[tokio::main]
async fn main() {
    let directory = tempfile::tempdir().expect("a directory");
    let memcached = MemcachedServer::start().await;
    let redis = RedisServer::start().await;
    let stores: Vec<(&str, Arc<dyn Client>)> = vec![
        ("memory", Arc::new(Memory::default())),
        (
            "embedded",
            Arc::new(
                Embedded::open(&directory.path().join("store"), Timestamp::UNIX_EPOCH).expect("it opens"),
            ),
        ),
        ("memcached", Arc::new(open_memcached(memcached.port()).await)),
        ("redis", Arc::new(open_redis(redis.port()).await)),
    ];

    let mut rows = Vec::new();
    for (kind, store) in &stores {
        fill(&**store).await;
        let mut row = vec![(*kind).to_owned()];
        for operation in [Operation::Get, Operation::GetMany, Operation::Set] {
            let measured = measure(store, operation).await;
            row.push(format!("{:.0}", measured.per_second));
            row.push(format!("{:.3} ms", measured.p99.as_secs_f64() * 1000.0));
        }
        rows.push(row);
    }
    println!("{TASKS} tasks, values of {VALUE_BYTES} bytes, {KEYS} keys:\n");
    print_table(&["store", "gets/s", "p99", "gets of 100/s", "p99", "sets/s", "p99"], &rows);

    let mut rows = Vec::new();
    for (kind, store) in &stores {
        let warmed = warm(store, "bench.example/team/app", TAGS, labelled_image).await;
        let cache = Cache::new(Arc::clone(store), Arc::new(SystemClock));
        let name = "bench.example/team/app".parse().expect("a name");
        let mut reads = Vec::new();
        for _ in 0..20 {
            let began = Instant::now();
            let repository = cache.repository_state(&name).await.expect("it is there");
            assert_eq!(repository.metadata.images.len(), TAGS);
            reads.push(began.elapsed());
        }
        reads.sort();
        rows.push(vec![
            (*kind).to_owned(),
            format!("{:.2} s", warmed.as_secs_f64()),
            format!("{:.1} ms", reads[reads.len() / 2].as_secs_f64() * 1000.0),
        ]);
    }
    println!("\nA repository of {TAGS} tags, each {BENCH_IMAGE}, from a registry that answers at once:\n");
    print_table(&["store", "warmed in", "read back in (median)"], &rows);
}

async fn open_memcached(port: u16) -> Memcached {
    let address = Address { host: "127.0.0.1".into(), port };
    let pool = Options::new(Servers::List(vec![address]));
    Memcached::open(MemcachedOptions { pool, prefix: "bench|".into() }).await.expect("it opens")
}

async fn open_redis(port: u16) -> Redis {
    let options = RedisOptions {
        topology: RedisTopology::Single("127.0.0.1".into(), port),
        tls: false,
        ca: None,
        username: None,
        password: None,
        database: 0,
        prefix: "bench|".into(),
        connect_timeout: Duration::from_secs(1),
        operation_timeout: Duration::from_secs(1),
    };
    Redis::open(options).await.expect("it opens")
}

fn key(number: usize) -> Key {
    Key::Document(Digest::sha256(&number.to_le_bytes()))
}

/// Half of it can be compressed, as is usual; the store does not try.
fn value() -> Entry {
    let bytes: Vec<u8> = (0..VALUE_BYTES).map(|at| if at % 2 == 0 { 0 } else { fastrand::u8(..) }).collect();
    Entry::immutable(bytes)
}

async fn fill(store: &dyn Client) {
    let entries = (0..KEYS).map(|number| (key(number), value())).collect();
    store.set_many(entries).await.expect("they are stored");
}

async fn measure(store: &Arc<dyn Client>, operation: Operation) -> Measured {
    let began = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut took = Vec::new();
                while began.elapsed() < MEASURED_FOR {
                    let one_began = Instant::now();
                    once(&*store, operation).await;
                    took.push(one_began.elapsed());
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.expect("no panic"));
    }
    let per_second = took.len() as f64 / began.elapsed().as_secs_f64();
    took.sort();
    Measured { per_second, p99: took[took.len() * 99 / 100] }
}

async fn once(store: &dyn Client, operation: Operation) {
    match operation {
        Operation::Get => {
            assert!(store.get(&key(fastrand::usize(..KEYS))).await.expect("an answer").is_some());
        }
        Operation::GetMany => {
            let keys: Vec<Key> = (0..KEYS_TOGETHER).map(|_| key(fastrand::usize(..KEYS))).collect();
            assert!(store.get_many(&keys).await.expect("an answer").iter().all(Option::is_some));
        }
        Operation::Set => store.set(key(fastrand::usize(..KEYS)), value()).await.expect("it is stored"),
    }
}
