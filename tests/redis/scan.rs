//! Listing what is stored.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use samovar_testing::{Proxy, RedisCluster, RedisServer};

use super::cluster::slot;
use super::*;

/// What a store lists, each key once: a server may list one twice.
async fn listed(store: &Redis) -> BTreeMap<Key, Entry> {
    store.scan().try_collect().await.unwrap()
}

fn entries(count: usize) -> BTreeMap<Key, Entry> {
    (0..count).map(|number| (document(number), value(number))).collect()
}

#[tokio::test]
async fn only_ours_are_listed_whatever_the_prefix() {
    let server = RedisServer::start().await;
    let prefix = r"*[x]?\".to_owned();
    let ours = open(RedisOptions { prefix: prefix.clone(), ..single(server.port()) }).await;
    // What the prefix would match if it were a pattern; and one that is its beginning.
    for theirs in [r"axb\", r"x?\", "*", ""] {
        let store = open(RedisOptions { prefix: theirs.to_owned(), ..single(server.port()) }).await;
        store.set_many((5000..5100).map(|number| (document(number), value(number))).collect()).await.unwrap();
    }
    for (key, value) in [("s2|head|a.example/b", "another layout"), ("nonsense", "no key at all")] {
        server.ask(&["SET", &format!("{prefix}{key}"), value]).await;
    }
    server.ask(&["RPUSH", &format!("{prefix}{}", document(7000)), "not a string"]).await;
    server.ask(&["SET", &format!("{prefix}{}", document(7001)), "short"]).await;
    assert_eq!(listed(&ours).await, BTreeMap::new());

    let expected = entries(1500);
    ours.set_many(expected.clone().into_iter().collect()).await.unwrap();
    ours.set(Key::Asked("a.example".into()), value(1)).await.unwrap();
    assert!(ours.lease(&Key::Lane("a.example".into()), "us", Duration::from_mins(1)).await.unwrap());
    assert_eq!(listed(&ours).await, expected);
}

#[tokio::test]
async fn a_cluster_lists_what_all_its_nodes_have() {
    let cluster = RedisCluster::start().await;
    let store = open(options(RedisTopology::Cluster(local(cluster.ports())))).await;
    assert_eq!(listed(&store).await, BTreeMap::new());
    let expected = entries(1500);
    store.set_many(expected.clone().into_iter().collect()).await.unwrap();
    assert!(store.lease(&Key::Lane("a.example".into()), "us", Duration::from_mins(1)).await.unwrap());
    assert_eq!(listed(&store).await, expected);
}

#[tokio::test]
async fn a_server_that_goes_away_ends_the_list_with_an_error() {
    let mut server = RedisServer::start().await;
    let store = store_of(&server).await;
    store.set_many(entries(1500).into_iter().collect()).await.unwrap();
    let mut list = store.scan();
    assert!(list.try_next().await.unwrap().is_some());
    server.kill();
    let rest: Result<Vec<_>, StoreError> = list.try_collect().await;
    assert!(matches!(rest, Err(StoreError::Unavailable { .. })), "{rest:?}");
}

/// Whether the rest of a list ends with an error: what a list would leave out must not look like the whole.
async fn ends_unavailable(
    list: impl futures_util::Stream<Item = Result<(Key, Entry), StoreError>>,
) -> String {
    let rest: Result<Vec<_>, StoreError> = list.try_collect().await;
    match rest {
        Err(StoreError::Unavailable { message }) => message,
        other => panic!("{:?}", other.map(|listed| listed.len())),
    }
}

#[tokio::test]
async fn a_list_is_not_continued_by_another_process() {
    let mut server = RedisServer::start().await;
    let store = store_of(&server).await;
    let all: Vec<_> = entries(5000).into_iter().collect();
    store.set_many(all.clone()).await.unwrap();
    let mut list = store.scan();
    assert!(list.try_next().await.unwrap().is_some());
    server.restart().await;
    until_it_works(&store).await;
    store.set_many(all).await.unwrap();
    ends_unavailable(list).await;
    assert!(listed(&store).await.len() > 5000, "the next one is whole");
}

#[tokio::test]
async fn a_list_is_not_continued_over_another_connection() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.host()).await;
    let store = open(single(proxy.port())).await;
    store.set_many(entries(1500).into_iter().collect()).await.unwrap();
    let mut list = store.scan();
    assert!(list.try_next().await.unwrap().is_some());
    proxy.cut_on_use();
    until_it_works(&store).await;
    ends_unavailable(list).await;
}

#[tokio::test]
async fn a_list_is_not_continued_by_another_process_in_a_cluster_either() {
    let mut cluster = RedisCluster::start().await;
    let store = open(options(RedisTopology::Cluster(local(cluster.ports())))).await;
    let all: Vec<_> = entries(5000).into_iter().collect();
    store.set_many(all.clone()).await.unwrap();
    let mut list = store.scan();
    assert!(list.try_next().await.unwrap().is_some());
    for node in 0..3 {
        cluster.node_mut(node).restart().await;
    }
    let refill = || store.set_many(all.clone());
    until("refilling", refill, |()| true).await;
    ends_unavailable(list).await;
}

#[tokio::test]
async fn a_primary_that_cannot_be_reached_is_not_left_out() {
    let mut cluster = RedisCluster::start().await;
    for node in 0..3 {
        cluster.node(node).ask(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]).await;
    }
    cluster.node_mut(2).kill();
    let store = open(options(RedisTopology::Cluster(local(cluster.ports())))).await;
    // Two thirds of the keys can be used.
    let key = (0..100).map(document).find(|key| slot(&format!("samovar|{key}")) < 16_384 / 3).unwrap();
    until("storing", || store.set(key.clone(), value(0)), |()| true).await;
    let message = ends_unavailable(store.scan()).await;
    assert!(message.contains(&cluster.node(2).host()), "{message}");
    match store.statistics().await {
        Ok(statistics) => assert_eq!(statistics, samovar::store::Statistics::default(), "not of two thirds"),
        Err(error) => assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}"),
    }
}

#[tokio::test]
async fn slots_without_a_primary_are_not_left_out() {
    let cluster = RedisCluster::start().await;
    for node in 0..3 {
        cluster.node(node).ask(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]).await;
    }
    let store = open(options(RedisTopology::Cluster(local(cluster.ports())))).await;
    store.set_many(entries(100).into_iter().collect()).await.unwrap();
    // The owner first: until it has let go, it tells the others again that the slot is its own.
    for node in [2, 0, 1] {
        cluster.node(node).ask(&["CLUSTER", "DELSLOTS", "16383"]).await;
    }
    let message = ends_unavailable(store.scan()).await;
    assert!(message.contains("have no primary"), "{message}");
}

#[tokio::test]
async fn slots_that_move_meanwhile_are_noticed() {
    let cluster = RedisCluster::start().await;
    let store = open(options(RedisTopology::Cluster(local(cluster.ports())))).await;
    store.set_many(entries(1500).into_iter().collect()).await.unwrap();
    let mut list = store.scan();
    assert!(list.try_next().await.unwrap().is_some());
    // A slot that holds none of the keys, so that it moves by itself.
    let used: std::collections::BTreeSet<u16> =
        (0..1500).map(|number| slot(&format!("samovar|{}", document(number)))).collect();
    let moved = (0..16_384 / 3).find(|slot| !used.contains(slot)).unwrap().to_string();
    let new_owner = cluster.node(1).ask(&["CLUSTER", "MYID"]).await;
    for node in [1, 0, 2] {
        cluster.node(node).ask(&["CLUSTER", "SETSLOT", &moved, "NODE", &new_owner]).await;
    }
    let message = ends_unavailable(list).await;
    assert!(message.contains("the cluster changed"), "{message}");
}

#[tokio::test]
async fn keys_of_others_that_are_no_text_are_passed_over() {
    let server = RedisServer::start().await;
    let store = open(RedisOptions { prefix: String::new(), ..single(server.port()) }).await;
    let expected = entries(10);
    store.set_many(expected.clone().into_iter().collect()).await.unwrap();
    server.ask(&["EVAL", r"return redis.call('SET', 's1|\255\254', 'not text')", "0"]).await;
    assert_eq!(server.ask(&["DBSIZE"]).await, "11");
    assert_eq!(listed(&store).await, expected);
}
