//! A primary that sentinels name.

use samovar_registry::Secret;
use samovar_testing::{RedisSentinel, RedisServer};

use super::*;

fn options_for(redis: &RedisSentinel) -> RedisOptions {
    let sentinels = local(redis.sentinel_ports());
    options(RedisTopology::Sentinel { sentinels, service: redis.service().to_owned() })
}

#[tokio::test]
async fn a_killed_primary_is_replaced_by_its_replica() {
    let password = "for the servers only";
    let mut redis = RedisSentinel::start_with_password(Some(password)).await;
    let options = RedisOptions { password: Some(Secret::new(password)), database: 2, ..options_for(&redis) };
    let store = open(options).await;
    store.set(document(0), value(0)).await.unwrap();
    assert_eq!(redis.first_primary().ask(&["-n", "2", "DBSIZE"]).await, "1");
    redis.first_primary().ask(&["WAIT", "1", "10000"]).await;
    redis.first_primary_mut().kill();
    until_it_works(&store).await;
    assert_eq!(store.get(&document(0)).await.unwrap(), Some(value(0)), "it was replicated");
    assert_eq!(redis.first_replica().ask(&["-n", "2", "DBSIZE"]).await, "2");
}

#[tokio::test]
async fn sentinels_with_a_password_are_asked_for_no_database() {
    let password = "for all of them";
    let redis = RedisSentinel::start_secured(password).await;
    let options = RedisOptions { password: Some(Secret::new(password)), database: 2, ..options_for(&redis) };
    let store = open(options).await;
    store.set(document(0), value(0)).await.unwrap();
    assert_eq!(redis.first_primary().ask(&["-n", "2", "DBSIZE"]).await, "1");
}

#[tokio::test]
async fn a_primary_that_is_sent_back_is_left_at_once() {
    let redis = RedisSentinel::start().await;
    let store = open(options_for(&redis)).await;
    store.set(document(0), value(0)).await.unwrap();
    redis.exchange().await;
    store.set(document(1), value(1)).await.unwrap();
    assert!(store.compare_and_set(document(1), Some(value(1)), value(2)).await.unwrap());
    let stored = format!("samovar|{}", document(1));
    assert_ne!(redis.first_replica().ask(&["GET", &stored]).await, "", "it went to the new primary");
}

#[tokio::test]
async fn sentinels_that_are_gone_or_hang_are_passed_over() {
    let mut redis = RedisSentinel::start().await;
    redis.sentinel_mut(0).kill();
    redis.sentinel(1).pause();
    let store = open(options_for(&redis)).await;
    let start = Instant::now();
    store.set(document(0), value(0)).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "it waited for those for {:?}", start.elapsed());
    redis.sentinel(1).resume();
}

#[tokio::test]
async fn what_is_no_sentinel_or_knows_no_such_primary_is_told() {
    let redis = RedisSentinel::start().await;
    let sentinels = local(redis.sentinel_ports());
    let store = open(options(RedisTopology::Sentinel { sentinels, service: "cold".to_owned() })).await;
    let error = store.get(&document(0)).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Protocol { .. }) && error.to_string().contains("`cold`"),
        "{error:?}"
    );

    let server = RedisServer::start().await;
    let sentinels = local(vec![server.port()]);
    let store = open(options(RedisTopology::Sentinel { sentinels, service: "warm".to_owned() })).await;
    let error = store.get(&document(0)).await.unwrap_err();
    assert!(matches!(error, StoreError::Protocol { .. }), "{error:?}");
}
