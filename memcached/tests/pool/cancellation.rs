//! The rule for clients: cancel at every await point, then read another key.

use futures_util::poll;
use samovar_memcached::Expiry;

use super::*;

const KEYS: usize = 50;
const ROUNDS: usize = 2500;

fn key(number: usize) -> String {
    format!("cancel|{number}")
}

fn value(number: usize) -> Bytes {
    bytes(format!("own value {number};").repeat(20 * (number + 1)))
}

/// Starts something, polls it `polls` times, with others getting their turn in between, and gives it up.
async fn cancelled(operation: impl Future<Output = ()>, polls: usize) -> bool {
    let mut operation = std::pin::pin!(operation);
    for _ in 0..polls {
        if poll!(operation.as_mut()).is_ready() {
            return false;
        }
        tokio::task::yield_now().await;
    }
    true
}

async fn survives_cancellation(pool: &Pool) {
    let keys: Vec<String> = (0..KEYS).map(key).collect();
    pool.set_many((0..KEYS).map(|number| (key(number), value(number))), Expiry::Never).await.unwrap();
    let mut given_up = 0;
    for round in 0..ROUNDS {
        let own = round % KEYS;
        let operation = async {
            match round % 7 {
                0 => drop(pool.get(key(own)).await),
                1 => drop(pool.get_many(&keys).await),
                2 => drop(pool.set(key(own), value(own), Expiry::Never).await),
                3 => {
                    if let Ok(Some(found)) = pool.get_versioned(key(own)).await {
                        drop(pool.compare_and_swap(key(own), found.token, value(own), Expiry::Never).await);
                    }
                }
                4 => {
                    let items = (0..KEYS).map(|number| (key(number), value(number)));
                    drop(pool.set_many(items, Expiry::Never).await);
                }
                5 => drop(pool.touch_many(&keys, Expiry::Never).await),
                _ => drop(pool.add(key(own), bytes("never stored"), Expiry::Never).await),
            }
        };
        given_up += usize::from(cancelled(operation, round % 12).await);
        let other = (own + 1 + round % 11) % KEYS;
        assert_eq!(pool.get(key(other)).await.unwrap(), Some(value(other)), "round {round}");
        if round % 50 == 0 {
            let found = pool.get_many(&keys).await.unwrap();
            assert!(found.into_iter().enumerate().all(|(number, found)| found == Some(value(number))));
        }
    }
    assert!(given_up > ROUNDS / 8, "only {given_up} were given up");
}

#[tokio::test]
async fn what_is_given_up_never_shows_in_another_call() {
    let (_server, pool) = one_server().await;
    survives_cancellation(&pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_with_several_servers_and_threads() {
    let (_servers, pool) = three_servers().await;
    survives_cancellation(&pool).await;
}
