//! Leases, in the server's own time.

use std::sync::Arc;

use samovar_testing::RedisServer;

use super::*;

fn lane() -> Key {
    Key::Lane("registry.example:5000".into())
}

#[tokio::test]
async fn a_lease_ends_by_itself_and_not_before() {
    const TTL: Duration = Duration::from_millis(300);
    let server = RedisServer::start().await;
    let (one, other) = (store_of(&server).await, store_of(&server).await);
    let taken = Instant::now();
    assert!(one.lease(&lane(), "one", TTL).await.unwrap());
    assert!(!other.lease(&lane(), "other", TTL).await.unwrap());
    until("taking over", async || other.lease(&lane(), "other", TTL).await, |has_it| *has_it).await;
    assert!(taken.elapsed() >= TTL, "after {:?}", taken.elapsed());
    assert!(!one.lease(&lane(), "one", TTL).await.unwrap(), "it is the other's now");
}

#[tokio::test]
async fn only_its_holder_renews_a_lease() {
    let server = RedisServer::start().await;
    let store = store_of(&server).await;
    let key = format!("samovar|{}", lane());
    assert!(store.lease(&lane(), "one", Duration::from_secs(10)).await.unwrap());
    assert!(!store.lease(&lane(), "other", Duration::from_secs(1000)).await.unwrap());
    let left: i64 = server.ask(&["PTTL", &key]).await.parse().unwrap();
    assert!(left <= 10_000, "{left}");
    assert!(store.lease(&lane(), "one", Duration::from_secs(100)).await.unwrap());
    let left: i64 = server.ask(&["PTTL", &key]).await.parse().unwrap();
    assert!((90_000..=100_000).contains(&left), "{left}");
    assert_eq!(server.ask(&["GET", &key]).await, "one");
}

#[tokio::test]
async fn only_its_holder_gives_a_lease_back() {
    const TTL: Duration = Duration::from_secs(100);
    let server = RedisServer::start().await;
    let store = store_of(&server).await;
    assert!(!store.lease(&lane(), "one", Duration::ZERO).await.unwrap(), "there is none");
    assert!(store.lease(&lane(), "one", TTL).await.unwrap());
    assert!(!store.lease(&lane(), "other", Duration::ZERO).await.unwrap());
    assert!(!store.lease(&lane(), "other", TTL).await.unwrap(), "it is still the one's");
    assert!(!store.lease(&lane(), "one", Duration::ZERO).await.unwrap());
    assert!(store.lease(&lane(), "other", TTL).await.unwrap());
}

#[tokio::test]
async fn the_shortest_lease_is_a_millisecond() {
    let server = RedisServer::start().await;
    let store = store_of(&server).await;
    assert!(store.lease(&lane(), "one", Duration::from_nanos(1)).await.unwrap());
    until("ending", async || store.lease(&lane(), "other", Duration::from_secs(9)).await, |has_it| *has_it)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_ask_one_gets_it() {
    let server = RedisServer::start().await;
    for round in 0..20 {
        let lane = Key::Lane(format!("{round}.example"));
        let mut asking = Vec::new();
        for holder in 0..10 {
            let store = Arc::new(store_of(&server).await);
            let lane = lane.clone();
            asking.push(tokio::spawn(async move {
                store.lease(&lane, &format!("holder {holder}"), Duration::from_mins(1)).await.unwrap()
            }));
        }
        let mut holders = 0;
        for asking in asking {
            holders += usize::from(asking.await.unwrap());
        }
        assert_eq!(holders, 1, "round {round}");
    }
}
