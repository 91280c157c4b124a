//! Calls that are dropped at any moment never show in another.

use samovar_testing::{RedisCluster, RedisServer};

use super::*;

const KEYS: usize = 50;

fn long_value(number: usize) -> Entry {
    Entry::immutable(format!("own value {number}").repeat(50))
}

/// Drops calls of every kind after a number of polls, and reads another key each time.
async fn drop_calls(store: &Redis, rounds: usize) {
    let keys: Vec<Key> = (0..KEYS).map(document).collect();
    let all = || keys.iter().enumerate().map(|(number, key)| (key.clone(), long_value(number))).collect();
    store.set_many(all()).await.unwrap();
    let lane = Key::Lane("lane.example".into());
    let mut dropped = 0;
    for round in 0..rounds {
        let one = round % KEYS;
        let call = async {
            match round % 6 {
                0 => drop(store.get(&keys[one]).await.unwrap()),
                1 => drop(store.get_many(&keys).await.unwrap()),
                2 => store.set(keys[one].clone(), long_value(one)).await.unwrap(),
                3 => store.set_many(all()).await.unwrap(),
                4 => {
                    let same = long_value(one);
                    store
                        .compare_and_set(keys[one].clone(), Some(same.clone()), same)
                        .await
                        .map(drop)
                        .unwrap();
                }
                _ => drop(store.lease(&lane, "us", Duration::from_secs(9)).await.unwrap()),
            }
        };
        let mut call = std::pin::pin!(call);
        let mut is_done = false;
        for _ in 0..round / 6 % 8 {
            is_done = futures_util::poll!(call.as_mut()).is_ready();
            if is_done {
                break;
            }
            tokio::task::yield_now().await;
        }
        dropped += usize::from(!is_done);
        let other = (round * 7 + 3) % KEYS;
        assert_eq!(store.get(&keys[other]).await.unwrap(), Some(long_value(other)), "round {round}");
    }
    assert!(dropped > rounds / 8, "only {dropped} calls were dropped");
    let found = store.get_many(&keys).await.unwrap();
    for (number, found) in found.into_iter().enumerate() {
        assert_eq!(found, Some(long_value(number)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_calls_never_show_on_one_server() {
    let server = RedisServer::start().await;
    drop_calls(&store_of(&server).await, 3000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_calls_never_show_in_a_cluster() {
    let cluster = RedisCluster::start().await;
    drop_calls(&open(options(RedisTopology::Cluster(local(cluster.ports())))).await, 1200).await;
}

#[tokio::test]
async fn who_stops_waiting_for_a_connection_stops_nobody_else() {
    let server = RedisServer::start().await;
    let store = store_of(&server).await;
    let key = document(0);
    let mut first = Box::pin(store.get(&key));
    assert!(futures_util::poll!(first.as_mut()).is_pending());
    let second = store.get(&key);
    drop(first);
    assert_eq!(second.await.unwrap(), None);
}
