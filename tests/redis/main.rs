//! What is special to the store in Redis, against real servers. What it has in common with the other stores is in
//! `store_conformance.rs`.

mod access;
mod cancellation;
mod cluster;
mod faults;
mod leases;
mod scan;
mod sentinel;
mod single;

use std::time::Duration;

use samovar::store::{Client as _, Entry, Key, Reader as _, Redis, RedisOptions, RedisTopology, StoreError};
use samovar_registry::Digest;
use samovar_testing::RedisServer;
use tokio::time::Instant;

/// How long something may take that must happen. Of no influence on tests that pass.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Both timeouts of the options together, and something for a busy machine.
const ONE_ANSWER: Duration = Duration::from_millis(2500);

fn options(topology: RedisTopology) -> RedisOptions {
    RedisOptions {
        topology,
        tls: false,
        ca: None,
        username: None,
        password: None,
        database: 0,
        prefix: "samovar|".to_owned(),
        connect_timeout: Duration::from_secs(1),
        operation_timeout: Duration::from_secs(1),
    }
}

fn single(port: u16) -> RedisOptions {
    options(RedisTopology::Single("127.0.0.1".to_owned(), port))
}

fn local(ports: Vec<u16>) -> Vec<(String, u16)> {
    ports.into_iter().map(|port| ("127.0.0.1".to_owned(), port)).collect()
}

async fn open(options: RedisOptions) -> Redis {
    Redis::open(options).await.expect("the options are right")
}

async fn store_of(server: &RedisServer) -> Redis {
    open(single(server.port())).await
}

fn document(number: usize) -> Key {
    Key::Document(Digest::sha256(&number.to_le_bytes()))
}

fn value(number: usize) -> Entry {
    Entry::immutable(format!("the value of {number}"))
}

/// Asks until the answer is neither an error nor wrong; panics, with the last one, where it never is. Every answer must
/// come in time.
async fn until<T: std::fmt::Debug, F: Future<Output = Result<T, StoreError>>>(
    what: &str,
    ask: impl Fn() -> F,
    is_so: impl Fn(&T) -> bool,
) -> T {
    let start = Instant::now();
    loop {
        let asked = Instant::now();
        let answer = ask().await;
        assert!(asked.elapsed() < ONE_ANSWER, "{what}: {answer:?} took {:?}", asked.elapsed());
        match answer {
            Ok(answer) if is_so(&answer) => return answer,
            answer => assert!(start.elapsed() < PATIENCE, "{what}: still {answer:?}"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Until the store stores and answers again.
async fn until_it_works(store: &Redis) {
    let key = Key::Head("works.example/again".parse().expect("a name"));
    let entry = Entry::immutable("it works");
    until("storing", || store.set(key.clone(), entry.clone()), |()| true).await;
    until("reading", || store.get(&key), |found| found.as_ref() == Some(&entry)).await;
}

/// Unavailable, and told so in time.
async fn is_unavailable<T: std::fmt::Debug>(asking: impl Future<Output = Result<T, StoreError>>) -> String {
    let start = Instant::now();
    let error = asking.await.expect_err("it is not there");
    assert!(start.elapsed() < ONE_ANSWER, "{error} took {:?}", start.elapsed());
    let StoreError::Unavailable { message } = error else { panic!("{error:?}") };
    message
}
