//! What is memcached's own; what every engine promises is tested with all of them.

use jiff::Timestamp;
use samovar_memcached::{Address, Servers};
use samovar_registry::{Digest, Name};
use samovar_testing::Memcached as TestServer;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::*;
use crate::store::ContentHash;

/// How long something that is sure to happen is waited for. Of no influence on tests that pass.
const PATIENCE: Duration = Duration::from_secs(30);

async fn store(servers: &[TestServer], prefix: &str) -> Memcached {
    let address = |server: &TestServer| Address { host: "127.0.0.1".into(), port: server.port() };
    let pool = Options::new(Servers::List(servers.iter().map(address).collect()));
    Memcached::open(MemcachedOptions { pool, prefix: prefix.into() }).await.unwrap()
}

fn name(number: usize) -> Name {
    format!("registry.example/team/app-{number}").parse().unwrap()
}

fn document(number: usize) -> Key {
    Key::Document(Digest::sha256(&number.to_le_bytes()))
}

fn entry(text: &str, millisecond: i64) -> Entry {
    let refresh_at = Some(Timestamp::from_millisecond(millisecond).unwrap());
    Entry { value: text.to_owned().into(), refresh_at }
}

async fn until<T>(mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(wanted) = attempt().await {
            return wanted;
        }
        assert!(start.elapsed() < PATIENCE, "not after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What the server answers to one line.
async fn ask(server: &TestServer, line: &str) -> String {
    let mut stream = BufReader::new(TcpStream::connect(server.host()).await.unwrap());
    stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_line(&mut answer).await.unwrap();
    answer.trim_end().to_owned()
}

#[tokio::test]
async fn entries_live_for_thirty_days_and_are_renewed() {
    let servers = [TestServer::start().await];
    let store = store(&servers, "p:").await;
    let key = document(1);
    let stored = format!("p:{key}");
    let seconds_left = async || -> i64 {
        let answer = ask(&servers[0], &format!("mg {stored} t")).await;
        answer.strip_prefix("HD t").unwrap_or_else(|| panic!("{answer}")).parse().unwrap()
    };
    let month = 30 * 24 * 60 * 60;
    let whole = month - 60..=month;
    let (absent, here) = (None, Some(entry("swapped", 1)));
    assert!(store.compare_and_set(key.clone(), absent, entry("added", 1)).await.unwrap());
    assert!(whole.contains(&seconds_left().await));
    store.set(key.clone(), entry("set", 1)).await.unwrap();
    assert!(whole.contains(&seconds_left().await));
    let swapped = entry("swapped", 1);
    assert!(store.compare_and_set(key.clone(), Some(entry("set", 1)), swapped).await.unwrap());
    assert!(whole.contains(&seconds_left().await));
    store.set_many(vec![(key.clone(), entry("swapped", 1))]).await.unwrap();
    assert!(whole.contains(&seconds_left().await));

    assert_eq!(ask(&servers[0], &format!("touch {stored} 1000")).await, "TOUCHED");
    assert!(seconds_left().await <= 1000);
    store.renew(vec![key.clone(), document(2)]).await.unwrap();
    assert!(whole.contains(&seconds_left().await));
    assert_eq!(store.get(&key).await.unwrap(), here);
    assert_eq!(store.time_to_live(), Some(Duration::from_secs(month.unsigned_abs())));
}

#[tokio::test]
async fn what_is_no_entry_is_not_there_and_may_be_replaced() {
    let servers = [TestServer::start().await];
    let store = store(&servers, "").await;
    let key = Key::Head(name(1));
    let strange = format!("set {key} 0 0 3\r\nabc");
    assert_eq!(ask(&servers[0], &strange).await, "STORED");
    assert_eq!(store.get(&key).await.unwrap(), None);
    assert!(store.compare_and_set(key.clone(), None, entry("new", 1)).await.unwrap());
    assert_eq!(store.get(&key).await.unwrap(), Some(entry("new", 1)));
}

#[tokio::test]
async fn a_scan_gives_every_entry_of_ours_and_no_lease() {
    let servers = [TestServer::start().await, TestServer::start().await, TestServer::start().await];
    let (store, other) = (store(&servers, "one:").await, store(&servers, "two:").await);
    let long: Name = format!("registry.example/{}", "x".repeat(238)).parse().unwrap();
    let mut expected: Vec<(Key, Entry)> =
        (0..200).map(|number| (document(number), entry(&format!("value {number}"), 1))).collect();
    expected.extend((0..200).map(|number| (Key::Side(name(number)), Entry::immutable("side"))));
    expected.push((Key::SidePage(long, 3), Entry::immutable("of a key that is too long")));
    store.set_many(expected.clone()).await.unwrap();
    other.set(document(1), entry("another's", 1)).await.unwrap();
    store.set(Key::Asked("registry.example".into()), Entry::immutable("asked")).await.unwrap();
    assert!(store.lease(&Key::Lane("registry.example".into()), "me", PATIENCE).await.unwrap());

    let mut scanned: Vec<(Key, Entry)> = store.scan().try_collect().await.unwrap();
    scanned.sort_by(|(one, _), (other, _)| one.cmp(other));
    expected.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert_eq!(scanned, expected);
    assert_eq!(other.scan().try_collect::<Vec<_>>().await.unwrap(), [(document(1), entry("another's", 1))]);
    assert_eq!(store.get(&document(1)).await.unwrap(), Some(entry("value 1", 1)), "prefixes keep them apart");
}

#[tokio::test]
async fn a_dead_server_does_not_look_like_an_empty_one() {
    let mut servers = [TestServer::start().await, TestServer::start().await, TestServer::start().await];
    let store = store(&servers, "").await;
    let documents: Vec<Key> = (0..60).map(document).collect();
    let hash = ContentHash::of(b"value");
    let kinds: [&dyn Fn(usize) -> Key; 5] = [
        &|number| Key::Head(name(number)),
        &|number| Key::Page(name(number), hash),
        &|number| Key::Directory(name(number), hash),
        &|number| Key::Side(name(number)),
        &|number| Key::SidePage(name(number), 0),
    ];
    let kinds: Vec<Vec<Key>> = kinds.iter().map(|kind| (0..60).map(kind).collect()).collect();
    let items = kinds.iter().flatten().chain(&documents).map(|key| (key.clone(), Entry::immutable("value")));
    store.set_many(items.collect()).await.unwrap();
    servers[1].kill();
    let dead = servers[1].host();

    let found = store.get_many(&documents).await.unwrap();
    let missing = found.iter().filter(|found| found.is_none()).count();
    assert!((1..60).contains(&missing), "documents may miss: {missing} of 60");
    let mut unknown = Vec::new();
    for keys in &kinds {
        let before = unknown.len();
        for key in keys {
            match store.get(key).await {
                Ok(found) => assert!(found.is_some(), "{key}"),
                Err(StoreError::Unavailable { message }) => {
                    assert!(message.contains(&dead), "{message}");
                    unknown.push(key.clone());
                }
                Err(error) => panic!("{error}"),
            }
        }
        let unknown = unknown.len() - before;
        assert!((1..60).contains(&unknown), "{unknown} of 60 such as {}", keys[0]);
        assert!(matches!(store.get_many(keys).await, Err(StoreError::Unavailable { .. })));
    }
    let scanned: Result<Vec<_>, _> = store.scan().try_collect().await;
    assert!(scanned.is_err(), "what is scanned is not all there is");
    assert!(store.statistics().await.unwrap().entries.is_some(), "the others tell");

    servers[1].restart().await;
    let found = until(async || store.get_many(&unknown).await.ok()).await;
    assert!(found.iter().all(Option::is_none), "it forgets everything");
}

#[tokio::test]
async fn without_any_server_nothing_is_known() {
    let mut servers = [TestServer::start().await];
    let store = store(&servers, "").await;
    store.set(document(1), entry("value", 1)).await.unwrap();
    servers[0].kill();
    let unavailable = |error: StoreError| matches!(error, StoreError::Unavailable { .. });
    let key = document(1);
    assert!(unavailable(store.get(&key).await.unwrap_err()));
    assert!(unavailable(store.set(key.clone(), entry("value", 2)).await.unwrap_err()));
    assert!(unavailable(store.set_many(vec![(key.clone(), entry("value", 2))]).await.unwrap_err()));
    assert!(unavailable(store.compare_and_set(key.clone(), None, entry("value", 2)).await.unwrap_err()));
    assert!(unavailable(store.delete(vec![key.clone()]).await.unwrap_err()));
    assert!(unavailable(store.renew(vec![key]).await.unwrap_err()));
    assert!(unavailable(store.lease(&Key::Lane("h".into()), "me", PATIENCE).await.unwrap_err()));
    assert!(unavailable(store.statistics().await.unwrap_err()));
}

#[tokio::test]
async fn a_lease_excludes_others_until_it_ends_or_is_given_back() {
    let servers = [TestServer::start().await];
    let store = store(&servers, "").await;
    let lane = Key::Lane("registry.example".into());
    let lease = |holder: &'static str, ttl| store.lease(&lane, holder, ttl);
    let second = Duration::from_secs(1);
    assert!(lease("one", second).await.unwrap());
    assert!(!lease("other", PATIENCE).await.unwrap());
    assert!(lease("one", second).await.unwrap(), "its holder renews it");
    until(async || lease("other", PATIENCE).await.unwrap().then_some(())).await;
    assert!(!lease("one", PATIENCE).await.unwrap());
    assert!(!lease("one", Duration::ZERO).await.unwrap(), "only its holder gives it back");
    assert!(!lease("one", PATIENCE).await.unwrap());
    assert!(!lease("other", Duration::ZERO).await.unwrap(), "what is given back is not had");
    assert!(lease("one", PATIENCE).await.unwrap());
}

#[tokio::test]
async fn errors_say_what_kind_they_are() {
    let servers = [TestServer::start().await];
    let store = store(&servers, "").await;
    let large = Entry::immutable(vec![0; 2_000_000]);
    assert!(matches!(store.set(document(1), large).await, Err(StoreError::Full { .. })));

    let address = Address { host: "no-such-host.invalid".into(), port: 11211 };
    let pool = Options::new(Servers::List(vec![address]));
    let opened = Memcached::open(MemcachedOptions { pool, prefix: String::new() }).await;
    let Err(StoreError::Unavailable { message }) = opened else { panic!("{opened:?}") };
    assert!(message.contains("no-such-host.invalid"), "{message}");
}

#[tokio::test]
async fn statistics_are_summed_over_the_servers() {
    let servers = [TestServer::start().await, TestServer::start().await];
    let store = store(&servers, "").await;
    store.set_many((0..50).map(|number| (document(number), entry("value", 1))).collect()).await.unwrap();
    let statistics = store.statistics().await.unwrap();
    assert_eq!(statistics.entries, Some(50));
    assert_eq!(statistics.limit_bytes, Some(2 * 64 * 1024 * 1024));
    assert_eq!(statistics.evicted, Some(0));
    assert!(statistics.used_bytes.is_some_and(|bytes| bytes > 50 * 80));
}
