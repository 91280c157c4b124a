//! Stores whose server is elsewhere, when the server or the way to it fails.

use samovar::store::StoreError;
use samovar_testing::Proxy;
use tokio::time::Instant;

use super::promises::{document, entry};
use super::*;

/// Both timeouts, and something for a busy machine.
const ONE_ANSWER: Duration = Duration::from_secs(4);

async fn through(proxy: &Proxy, kind: &str) -> Arc<dyn Client> {
    match kind {
        "memcached" => Arc::new(memcached([proxy.port()]).await),
        _ => Arc::new(redis(RedisTopology::Single(LOCALHOST.into(), proxy.port())).await),
    }
}

/// Waits until the store takes a write and gives it back.
async fn until_it_works(store: &dyn Client) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let written = entry("works", 1);
        let worked = match store.set(document("works"), written.clone()).await {
            Ok(()) => store.get(&document("works")).await.is_ok_and(|found| found == Some(written)),
            Err(_) => false,
        };
        if worked {
            return;
        }
        assert!(Instant::now() < deadline, "it does not work again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Every operation fails, in bounded time, with words for people.
async fn nothing_works(store: &dyn Client) {
    let head = Key::Head("outage.example/a".parse().unwrap());
    let failures = [
        timed(store.get(&head)).await.err(),
        timed(store.set(head.clone(), entry("x", 1))).await.err(),
        timed(store.compare_and_set(head.clone(), None, entry("x", 1))).await.err(),
        timed(store.lease(&Key::Lane("outage.example".into()), "one", Duration::from_secs(9))).await.err(),
    ];
    for failure in failures {
        assert!(matches!(failure, Some(StoreError::Unavailable { .. })), "{failure:?}");
    }
}

async fn timed<T>(operation: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let outcome = operation.await;
    assert!(began.elapsed() < ONE_ANSWER, "it took {:?}", began.elapsed());
    outcome
}

async fn is_survived(server: String, kind: &str) {
    let proxy = Proxy::start(server).await;
    let store = through(&proxy, kind).await;
    until_it_works(&*store).await;

    // Connections that are cut, with requests on them.
    for _ in 0..20 {
        let asking = tokio::spawn({
            let store = Arc::clone(&store);
            async move {
                store.get_many(&(0..50).map(|number| document(&number.to_string())).collect::<Vec<_>>()).await
            }
        });
        proxy.cut();
        // An answer or an error; what matters is that it comes, and whose it is.
        if let Ok(found) = timed(asking).await.unwrap() {
            assert!(found.iter().all(Option::is_none), "nothing was written there");
        }
    }
    until_it_works(&*store).await;

    // A way that swallows everything.
    proxy.swallow(true);
    nothing_works(&*store).await;
    proxy.swallow(false);
    until_it_works(&*store).await;

    // A server that answers later than anybody waits: late answers go to nobody else.
    proxy.delay(Duration::ZERO, TIMEOUT * 2);
    assert!(timed(store.get(&document("works"))).await.is_err());
    proxy.delay(Duration::ZERO, Duration::ZERO);
    until_it_works(&*store).await;
    assert_eq!(store.get(&document("other")).await.unwrap(), None);

    // No server at all.
    proxy.refuse(true);
    proxy.cut();
    nothing_works(&*store).await;
    proxy.refuse(false);
    until_it_works(&*store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memcached_outages_are_survived() {
    let server = MemcachedServer::start().await;
    is_survived(server.host(), "memcached").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_outages_are_survived() {
    let server = RedisServer::start().await;
    is_survived(server.host(), "redis").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_costs_what_the_server_forgets_and_nothing_else() {
    let mut memcached_server = MemcachedServer::start().await;
    let mut redis_server = RedisServer::start().await;
    let stores: [Arc<dyn Client>; 2] = [
        Arc::new(memcached([memcached_server.port()]).await),
        Arc::new(redis(RedisTopology::Single(LOCALHOST.into(), redis_server.port())).await),
    ];
    let keys: Vec<Key> = (0..200).map(|number| document(&format!("restart {number}"))).collect();
    let value = |number: usize| entry(format!("value {number}"), 1);
    for store in &stores {
        store
            .set_many(keys.iter().cloned().enumerate().map(|(number, key)| (key, value(number))).collect())
            .await
            .unwrap();
    }
    let reading: Vec<_> = stores
        .iter()
        .map(|store| {
            let (store, keys) = (Arc::clone(store), keys.clone());
            tokio::spawn(async move {
                let mut answers = Vec::new();
                for _ in 0..200 {
                    answers.push(store.get_many(&keys).await);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                answers
            })
        })
        .collect();
    memcached_server.restart().await;
    redis_server.restart().await;
    for answers in reading {
        for found in answers.await.unwrap().into_iter().flatten() {
            for (number, found) in found.into_iter().enumerate() {
                assert!(found.is_none_or(|found| found == value(number)), "a value of another key");
            }
        }
    }
    for store in &stores {
        until_it_works(&**store).await;
        assert_eq!(
            store.get_many(&keys).await.unwrap(),
            vec![None; keys.len()],
            "{} keeps nothing on disk",
            store.kind()
        );
    }
}
