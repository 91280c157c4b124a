//! A cluster of several nodes.

use samovar_registry::Secret;
use samovar_testing::{Proxy, RedisCluster};

use super::*;

async fn store_in(cluster: &RedisCluster) -> Redis {
    open(options(RedisTopology::Cluster(local(cluster.ports())))).await
}

#[tokio::test]
async fn keys_of_all_slots_are_written_and_read_together() {
    let cluster = RedisCluster::start().await;
    let store = store_in(&cluster).await;
    let written: Vec<usize> = (0..3000).filter(|number| number % 3 != 0).collect();
    store.set_many(written.iter().map(|number| (document(*number), value(*number))).collect()).await.unwrap();
    for node in 0..3 {
        let keys: usize = cluster.node(node).ask(&["DBSIZE"]).await.parse().unwrap();
        assert!(keys > 500, "node {node} has {keys}");
    }
    let keys: Vec<Key> = (0..3000).map(document).collect();
    for (number, found) in store.get_many(&keys).await.unwrap().into_iter().enumerate() {
        assert_eq!(found, (number % 3 != 0).then(|| value(number)), "{number}");
    }
    store.renew(keys.clone()).await.unwrap();
    assert_eq!(store.statistics().await.unwrap().entries, Some(2000));
    assert_eq!(store.statistics().await.unwrap().limit_bytes, None, "there is no limit");
    for number in 0..50 {
        let key = document(number);
        let current = store.get(&key).await.unwrap();
        assert!(!store.compare_and_set(key.clone(), Some(value(9999)), value(1)).await.unwrap());
        assert!(store.compare_and_set(key.clone(), current, value(7)).await.unwrap());
        assert_eq!(store.get(&key).await.unwrap(), Some(value(7)));
        let lane = Key::Lane(format!("{number}.example"));
        assert!(store.lease(&lane, "one", Duration::from_mins(1)).await.unwrap());
        assert!(!store.lease(&lane, "other", Duration::from_mins(1)).await.unwrap());
        store.lease(&lane, "one", Duration::ZERO).await.unwrap();
    }
    store.delete(keys).await.unwrap();
    for node in 0..3 {
        assert_eq!(cluster.node(node).ask(&["DBSIZE"]).await, "0");
    }
}

#[tokio::test]
async fn scripts_that_the_nodes_have_forgotten_are_sent_again() {
    let cluster = RedisCluster::start().await;
    let store = store_in(&cluster).await;
    for round in 0..30 {
        assert!(store.compare_and_set(document(round), None, value(round)).await.unwrap());
        for node in 0..3 {
            cluster.node(node).ask(&["SCRIPT", "FLUSH"]).await;
        }
    }
}

/// All of so many keys are written, and read back, within the patience of the tests.
async fn all_keys_work(store: &Redis, count: usize, generation: usize) {
    let keys: Vec<Key> = (0..count).map(document).collect();
    let entries = || keys.iter().map(|key| (key.clone(), value(generation))).collect::<Vec<_>>();
    let all = || async {
        store.set_many(entries()).await?;
        store.get_many(&keys).await
    };
    let is_so = |found: &Vec<Option<Entry>>| found.iter().all(|found| *found == Some(value(generation)));
    let start = Instant::now();
    loop {
        match all().await {
            Ok(found) if is_so(&found) => return,
            answer => assert!(start.elapsed() < PATIENCE, "{:?}", answer.map(|found| found.len())),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[tokio::test]
async fn a_killed_primary_is_replaced_by_its_replica() {
    let mut cluster = RedisCluster::start_with_replicas(1).await;
    let store = store_in(&cluster).await;
    all_keys_work(&store, 300, 1).await;
    cluster.node_mut(0).kill();
    all_keys_work(&store, 300, 2).await;
    assert!(cluster.node(3).ask(&["ROLE"]).await.starts_with("master"));
    // It comes back as a replica of its successor, which changes nothing.
    cluster.node_mut(0).restart().await;
    all_keys_work(&store, 300, 3).await;
}

#[tokio::test]
async fn a_hung_primary_is_replaced_by_its_replica_while_other_nodes_answer() {
    let cluster = RedisCluster::start_with_replicas(1).await;
    let store = store_in(&cluster).await;
    all_keys_work(&store, 300, 1).await;
    let on_a_sound_node =
        (1000..2000).map(document).find(|key| slot(&format!("samovar|{key}")) > 16_384 / 2).unwrap();
    cluster.node(0).pause();
    let (mut answers, mut failures) = (0, 0);
    let asking_others = async {
        loop {
            match store.get(&on_a_sound_node).await {
                Ok(_) => answers += 1,
                // While the library looks for the successor, it lets everybody wait.
                Err(_) => failures += 1,
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = asking_others => {}
        () = all_keys_work(&store, 300, 2) => {}
    }
    assert!(answers > failures, "{answers} answers, {failures} failures");
    cluster.node(0).resume();
    all_keys_work(&store, 300, 3).await;
}

/// The slot of a key without braces, as the cluster specification says: CRC-16 (XMODEM) modulo the number of slots.
pub(super) fn slot(key: &str) -> u16 {
    let crc = key.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % 16_384
}

#[tokio::test]
async fn tls_and_password_are_used_with_all_nodes() {
    let cluster = RedisCluster::start_secured("correct-horse").await;
    let node = ("localhost".to_owned(), cluster.ports()[1]);
    let store = open(RedisOptions {
        tls: true,
        ca: cluster.node(0).certificate_authority(),
        password: Some(Secret::new("correct-horse")),
        ..options(RedisTopology::Cluster(vec![node]))
    })
    .await;
    all_keys_work(&store, 300, 1).await;
}

/// Puts a proxy before a node, and waits until the others send everybody there.
async fn proxy_before(cluster: &RedisCluster, node: usize) -> Proxy {
    let proxy = Proxy::start(cluster.node(node).host()).await;
    let port = proxy.port().to_string();
    cluster.node(node).ask(&["CONFIG", "SET", "cluster-announce-port", &port]).await;
    let start = Instant::now();
    for observer in 0..3 {
        while !cluster.node(observer).ask(&["CLUSTER", "SLOTS"]).await.lines().any(|line| line == port) {
            assert!(start.elapsed() < PATIENCE, "node {observer} does not learn of the proxy");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    proxy
}

#[tokio::test]
async fn a_compare_and_set_that_is_repeated_is_still_ours() {
    let cluster = RedisCluster::start().await;
    let proxy = proxy_before(&cluster, 0).await;
    let store = open(options(RedisTopology::Cluster(local(cluster.ports()[1..].to_vec())))).await;
    let mut keys = (0..).map(document).filter(|key| slot(&format!("samovar|{key}")) < 16_384 / 3);
    let mut repeated = 0;
    for round in 0..5 {
        let key = keys.next().unwrap();
        let stored = format!("samovar|{key}");
        // Also has the node keep the script.
        assert!(store.compare_and_set(key.clone(), None, value(0)).await.unwrap());
        let before = cluster.node(0).ask(&["GET", &stored]).await;
        proxy.delay(Duration::ZERO, Duration::from_secs(20));
        let comparing = store.compare_and_set(key.clone(), Some(value(0)), value(1));
        let losing_the_answer = async {
            let start = Instant::now();
            while cluster.node(0).ask(&["GET", &stored]).await == before {
                assert!(start.elapsed() < PATIENCE, "it never comes");
                tokio::time::sleep(LOOK_EVERY).await;
            }
            proxy.delay(Duration::ZERO, Duration::ZERO);
            proxy.cut();
        };
        let (is_ours, ()) = tokio::join!(comparing, losing_the_answer);
        // Where it is not repeated in time, nobody knows.
        if let Ok(is_ours) = is_ours {
            assert!(is_ours, "round {round}");
            repeated += 1;
        }
        assert_eq!(until("reading", || store.get(&key), |_| true).await, Some(value(1)));
    }
    assert!(repeated > 0, "it was never repeated in time");
}

#[tokio::test]
async fn an_equal_entry_of_somebody_else_is_not_ours() {
    let cluster = RedisCluster::start().await;
    let (store, other) = (store_in(&cluster).await, store_in(&cluster).await);
    for number in 0..50 {
        let key = document(number);
        let (one, two) = tokio::join!(
            store.compare_and_set(key.clone(), None, value(number)),
            other.compare_and_set(key.clone(), None, value(number)),
        );
        assert_ne!(one.unwrap(), two.unwrap(), "one of them was faster");
        other.set(key.clone(), value(number)).await.unwrap();
        assert!(!store.compare_and_set(key, None, value(number)).await.unwrap());
    }
}

#[tokio::test]
async fn one_node_that_answers_is_enough_to_find_the_others() {
    let cluster = RedisCluster::start().await;
    let mut nodes = local(vec![1, cluster.ports()[2]]);
    nodes.push(("no-such-host.invalid".to_owned(), 6379));
    let store = open(options(RedisTopology::Cluster(nodes))).await;
    all_keys_work(&store, 100, 1).await;
}

#[tokio::test]
async fn nodes_and_clusters_are_not_mistaken_for_one_another() {
    let cluster = RedisCluster::start().await;
    let as_single = open(single(cluster.ports()[0])).await;
    let keys: Vec<Key> = (0..100).map(document).collect();
    let error = as_single.get_many(&keys).await.unwrap_err();
    assert!(matches!(error, StoreError::Protocol { .. }), "{error:?}");
    let mut errors = 0;
    for key in &keys {
        if let Err(error) = as_single.get(key).await {
            assert!(error.to_string().contains("redis-cluster://"), "{error}");
            errors += 1;
        }
    }
    assert!(errors > 30, "two thirds of the keys are other nodes'");

    let alone = samovar_testing::RedisServer::start().await;
    let as_cluster = open(options(RedisTopology::Cluster(local(vec![alone.port()])))).await;
    let error = as_cluster.get(&keys[0]).await.unwrap_err();
    assert!(matches!(error, StoreError::Protocol { .. }), "{error:?}");
}

#[tokio::test]
async fn a_wrong_password_is_told_in_a_cluster_too() {
    let server = samovar_testing::RedisServer::builder().password("right").start().await;
    let topology = RedisTopology::Cluster(local(vec![1, server.port()]));
    let store = open(RedisOptions { password: Some(Secret::new("hunter2")), ..options(topology) }).await;
    let error = store.get(&document(0)).await.unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn a_cluster_that_is_down_is_told_in_time_and_used_when_it_is_back() {
    let mut cluster = RedisCluster::start().await;
    let store = store_in(&cluster).await;
    all_keys_work(&store, 100, 1).await;
    for node in 0..3 {
        cluster.node_mut(node).kill();
    }
    for _ in 0..5 {
        is_unavailable(store.get(&document(0))).await;
    }
    for node in 0..3 {
        cluster.node_mut(node).restart().await;
    }
    all_keys_work(&store, 100, 2).await;
}
