//! One server.

use samovar::store::Statistics;
use samovar_testing::{Proxy, RedisServer};

use super::*;

const THIRTY_DAYS: i64 = 30 * 24 * 60 * 60 * 1000;

async fn milliseconds_left(server: &RedisServer, key: &Key) -> i64 {
    server.ask(&["PTTL", &format!("samovar|{key}")]).await.parse().expect("a number")
}

#[tokio::test]
async fn what_is_written_stays_for_thirty_days_and_longer_when_renewed() {
    let server = RedisServer::start().await;
    let store = store_of(&server).await;
    store.set(document(0), value(0)).await.unwrap();
    store.set_many((1..4).map(|number| (document(number), value(number))).collect()).await.unwrap();
    assert!(store.compare_and_set(document(4), None, value(4)).await.unwrap());
    let keys: Vec<Key> = (0..5).map(document).collect();
    for key in &keys {
        let left = milliseconds_left(&server, key).await;
        assert!((THIRTY_DAYS - 60_000..=THIRTY_DAYS).contains(&left), "{left}");
        server.ask(&["PEXPIRE", &format!("samovar|{key}"), "100000"]).await;
    }
    let missing = document(99);
    store.renew(keys.iter().chain([&missing]).cloned().collect()).await.unwrap();
    for key in &keys {
        let left = milliseconds_left(&server, key).await;
        assert!((THIRTY_DAYS - 60_000..=THIRTY_DAYS).contains(&left), "{left}");
    }
    assert_eq!(milliseconds_left(&server, &missing).await, -2, "renewing makes nothing");
    assert_eq!(store.time_to_live(), Some(Duration::from_millis(THIRTY_DAYS.unsigned_abs())));
    assert!(store.is_shared());
    assert_eq!(store.kind(), "redis");
}

#[tokio::test]
async fn many_entries_go_in_bounded_batches_and_come_back_in_order() {
    let server = RedisServer::start().await;
    let store = store_of(&server).await;
    // Some of them fill a batch alone.
    let entry = |number: usize| match number % 100 {
        0 => Entry::immutable(vec![u8::try_from(number / 100).unwrap(); 300 * 1024]),
        _ => value(number),
    };
    store.set_many((0..2000).map(|number| (document(number), entry(number))).collect()).await.unwrap();
    let asked: Vec<usize> = (0..2200).rev().collect();
    let keys: Vec<Key> = asked.iter().map(|number| document(*number)).collect();
    let found = store.get_many(&keys).await.unwrap();
    for (number, found) in asked.into_iter().zip(found) {
        assert_eq!(found, (number < 2000).then(|| entry(number)), "{number}");
    }
    store.delete(keys).await.unwrap();
    assert_eq!(server.ask(&["DBSIZE"]).await, "0");
}

#[tokio::test]
async fn scripts_that_the_server_has_forgotten_are_sent_again() {
    let server = RedisServer::start().await;
    let store = store_of(&server).await;
    let lane = Key::Lane("lane.example".into());
    let ttl = Duration::from_mins(1);
    let mut current = None;
    for round in 0..3 {
        let next = value(round);
        assert!(store.compare_and_set(document(0), current.clone(), next.clone()).await.unwrap());
        server.ask(&["SCRIPT", "FLUSH"]).await;
        assert!(!store.compare_and_set(document(0), current, value(99)).await.unwrap());
        server.ask(&["SCRIPT", "FLUSH"]).await;
        assert!(store.lease(&lane, "us", ttl).await.unwrap());
        server.ask(&["SCRIPT", "FLUSH"]).await;
        assert!(!store.lease(&lane, "us", Duration::ZERO).await.unwrap());
        current = Some(next);
    }
    assert_eq!(store.get(&document(0)).await.unwrap(), current);
}

#[tokio::test]
async fn what_is_no_entry_is_not_there_and_not_in_the_way() {
    let server = RedisServer::start().await;
    let store = store_of(&server).await;
    server.ask(&["SET", &format!("samovar|{}", document(0)), "short"]).await;
    assert_eq!(store.get(&document(0)).await.unwrap(), None);
    assert_eq!(store.get_many(&[document(0)]).await.unwrap(), [None]);
    assert!(!store.compare_and_set(document(0), Some(value(1)), value(2)).await.unwrap());
    assert!(store.compare_and_set(document(0), None, value(1)).await.unwrap());
    assert_eq!(store.get(&document(0)).await.unwrap(), Some(value(1)));
}

#[tokio::test]
async fn a_prefix_keeps_stores_apart() {
    let server = RedisServer::start().await;
    let ours = store_of(&server).await;
    let theirs = open(RedisOptions { prefix: String::new(), ..single(server.port()) }).await;
    ours.set(document(0), value(0)).await.unwrap();
    assert_eq!(theirs.get(&document(0)).await.unwrap(), None);
    theirs.set(document(0), value(1)).await.unwrap();
    assert_eq!(ours.get(&document(0)).await.unwrap(), Some(value(0)));
}

#[tokio::test]
async fn a_server_that_is_full_says_so() {
    let server = RedisServer::builder().setting("maxmemory", "4mb").start().await;
    let store = store_of(&server).await;
    let large = |number: u8| Entry::immutable(vec![number; 200 * 1024]);
    let mut full = None;
    for number in 0..40 {
        if let Err(error) = store.set(document(number.into()), large(number)).await {
            full = Some(error);
            break;
        }
    }
    let is_full = |error: StoreError| assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    is_full(full.expect("40 values of 200 KiB do not fit"));
    is_full(store.set_many(vec![(document(100), large(1)), (document(101), large(1))]).await.unwrap_err());
    is_full(store.compare_and_set(document(102), None, large(1)).await.unwrap_err());
    assert_eq!(store.get(&document(0)).await.unwrap(), Some(large(0)), "reading goes on");

    let statistics = store.statistics().await.unwrap();
    assert_eq!(statistics.limit_bytes, Some(4 * 1024 * 1024));
    assert!(statistics.used_bytes > Some(3 * 1024 * 1024), "{statistics:?}");
    store.delete((0..40).map(document).collect()).await.unwrap();
    store.set(document(100), large(1)).await.unwrap();
}

#[tokio::test]
async fn evictions_are_counted() {
    let server = RedisServer::builder()
        .setting("maxmemory", "4mb")
        .setting("maxmemory-policy", "allkeys-lru")
        .start()
        .await;
    let store = store_of(&server).await;
    for number in 0..40 {
        store.set(document(number), Entry::immutable(vec![7; 200 * 1024])).await.unwrap();
    }
    let Statistics { entries, evicted, .. } = store.statistics().await.unwrap();
    assert!(evicted > Some(10), "{evicted:?}");
    assert_eq!(entries.zip(evicted).map(|(entries, evicted)| entries + evicted), Some(40));
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_share_one_connection() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.host()).await;
    let store = std::sync::Arc::new(open(single(proxy.port())).await);
    let callers: Vec<_> = (0..50)
        .map(|number| {
            let store = std::sync::Arc::clone(&store);
            tokio::spawn(async move {
                for round in 0..20 {
                    let key = document(number * 100 + round);
                    store.set(key.clone(), value(round)).await.unwrap();
                    assert_eq!(store.get(&key).await.unwrap(), Some(value(round)));
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(proxy.connections(), 1);
}
