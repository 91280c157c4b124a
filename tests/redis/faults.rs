//! Servers that end, hang, are slow, or are no Redis.

use std::sync::Arc;

use samovar_testing::fake::SilentHost;
use samovar_testing::{Memcached, Proxy, RedisServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

#[tokio::test]
async fn a_server_that_is_down_at_first_is_used_when_it_is_there() {
    let mut server = RedisServer::start().await;
    server.kill();
    let store = store_of(&server).await;
    let message = is_unavailable(store.get(&document(0))).await;
    assert!(message.contains(&server.host()) && message.contains("connection refused"), "{message}");
    server.restart().await;
    until_it_works(&store).await;
}

#[tokio::test]
async fn while_a_server_is_down_nobody_waits_and_few_attempts_are_made() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.host()).await;
    let store = open(single(proxy.port())).await;
    until_it_works(&store).await;
    proxy.refuse(true);
    proxy.cut();
    let start = Instant::now();
    let mut calls = 0_u32;
    while start.elapsed() < Duration::from_secs(1) {
        is_unavailable(store.get(&document(0))).await;
        calls += 1;
    }
    assert!(calls > 1000, "only {calls} calls failed in a second: they wait for something");
    proxy.refuse(false);
    until_it_works(&store).await;
    assert_eq!(proxy.connections(), 2, "one before, one after");
}

#[tokio::test]
async fn a_restart_in_the_middle_costs_reads_and_writes_nothing() {
    let mut server = RedisServer::start().await;
    let store = store_of(&server).await;
    for round in 0..5 {
        store.set(document(round), value(round)).await.unwrap();
        server.restart().await;
        assert_eq!(store.get_many(&[document(round)]).await.unwrap(), [None], "it forgets");
        server.restart().await;
        store.set_many(vec![(document(round), value(round))]).await.unwrap();
        server.restart().await;
        until("comparing", || store.compare_and_set(document(round), None, value(round)), |_| true).await;
        assert_eq!(store.get(&document(round)).await.unwrap(), Some(value(round)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_never_give_a_wrong_answer() {
    const CALLERS: usize = 8;
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.host()).await;
    let store = Arc::new(open(single(proxy.port())).await);
    store.set_many((0..100).map(|number| (document(number), value(number))).collect()).await.unwrap();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut answers = 0_usize;
                let start = Instant::now();
                while start.elapsed() < Duration::from_secs(2) {
                    let number = (answers * CALLERS + caller) % 100;
                    match store.get(&document(number)).await {
                        Ok(found) => assert_eq!(found, Some(value(number))),
                        Err(error) => assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}"),
                    }
                    let written = store.set(document(1000 + caller), value(caller)).await;
                    assert!(matches!(written, Ok(()) | Err(StoreError::Unavailable { .. })), "{written:?}");
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    let cutting = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(30)).await;
            proxy.cut();
        }
    });
    for caller in callers {
        assert!(caller.await.unwrap() > 10);
    }
    cutting.abort();
}

#[tokio::test]
async fn a_slow_server_is_given_up_and_used_again_when_it_is_quick() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.host()).await;
    let store = open(single(proxy.port())).await;
    store.set(document(0), value(0)).await.unwrap();
    proxy.delay(Duration::ZERO, Duration::from_millis(300));
    assert_eq!(store.get(&document(0)).await.unwrap(), Some(value(0)), "not as slow as that");
    proxy.delay(Duration::ZERO, Duration::from_secs(20));
    is_unavailable(store.get(&document(0))).await;
    is_unavailable(store.set(document(1), value(1))).await;
    proxy.delay(Duration::ZERO, Duration::ZERO);
    until("reading", async || store.get(&document(0)).await, |found| *found == Some(value(0))).await;
}

#[tokio::test]
async fn a_hung_server_is_told_in_time() {
    let server = RedisServer::start().await;
    let store = store_of(&server).await;
    store.set(document(0), value(0)).await.unwrap();
    server.pause();
    let keys: Vec<Key> = (0..1000).map(document).collect();
    let entries = keys.iter().map(|key| (key.clone(), value(1))).collect();
    let lane = Key::Lane("lane.example".into());
    tokio::join!(
        is_unavailable(store.get(&keys[0])),
        is_unavailable(store.get_many(&keys)),
        is_unavailable(store.set_many(entries)),
        is_unavailable(store.compare_and_set(document(0), None, value(1))),
        is_unavailable(store.lease(&lane, "us", Duration::from_secs(9))),
        is_unavailable(store.statistics()),
    );
    is_unavailable(store.get(&keys[0])).await;
    server.resume();
    until_it_works(&store).await;
}

/// A server that says `greeting` to everybody, and then `answer` to whatever it gets.
async fn server_saying(greeting: &'static str, answer: &'static str) -> (u16, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut buffer = [0; 4096];
                let _ = stream.write_all(greeting.as_bytes()).await;
                while matches!(stream.read(&mut buffer).await, Ok(1..)) {
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    (port, task)
}

#[tokio::test]
async fn what_is_no_redis_is_told_from_what_is_down() {
    let http = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    for (greeting, answer) in [
        ("", http),
        ("", "garbage\r\n"),
        ("", "\0\u{1}\u{2}\u{3}"),
        ("220 mail.example ESMTP\r\n", "500 what?\r\n"),
        ("SSH-2.0-OpenSSH_9.2\r\n", ""),
        // Everything that this one says is in the protocol; only no answer to the question.
        ("", "+OK\r\n+OK\r\n"),
    ] {
        let (port, task) = server_saying(greeting, answer).await;
        let store = open(single(port)).await;
        let start = Instant::now();
        let error = store.get_many(&[document(0)]).await.unwrap_err();
        assert!(matches!(error, StoreError::Protocol { .. }), "{greeting:?} {answer:?}: {error:?}");
        assert!(start.elapsed() < ONE_ANSWER);
        task.abort();
    }
    let memcached = Memcached::start().await;
    let error = open(single(memcached.port())).await.get(&document(0)).await.unwrap_err();
    assert!(matches!(error, StoreError::Protocol { .. }), "{error:?}");

    let silent = SilentHost::start().await;
    let port = silent.host().rsplit_once(':').unwrap().1.parse().unwrap();
    is_unavailable(open(single(port)).await.get(&document(0))).await;
}

#[tokio::test]
async fn host_names_without_an_address_are_refused_at_once() {
    let unknown = || ("no-such-host.invalid".to_owned(), 6379);
    let service = "warm".to_owned();
    for topology in [
        RedisTopology::Single(unknown().0, unknown().1),
        RedisTopology::Cluster(vec![unknown()]),
        RedisTopology::Sentinel { sentinels: vec![unknown()], service: service.clone() },
    ] {
        let message = is_unavailable(Redis::open(options(topology))).await;
        assert!(message.contains("no-such-host.invalid"), "{message}");
    }
    // One that has an address is enough.
    let sentinels = vec![unknown(), ("127.0.0.1".to_owned(), 1)];
    open(options(RedisTopology::Sentinel { sentinels, service })).await;
}
