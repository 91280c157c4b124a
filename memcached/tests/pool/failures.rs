//! Servers that die, hang, lose connections and come back.

use samovar_memcached::{Error, Expiry, Outcome};
use samovar_testing::Proxy;

use super::*;

const KEYS: usize = 90;

fn key(number: usize) -> String {
    format!("failure|{number}")
}

fn value(number: usize) -> Bytes {
    bytes(format!("value {number}"))
}

async fn fill(pool: &Pool) {
    pool.set_many((0..KEYS).map(|number| (key(number), value(number))), Expiry::Never).await.unwrap();
}

/// Reads all keys and checks that none has another's value. Gives which were found.
async fn found(pool: &Pool) -> Vec<bool> {
    let keys: Vec<String> = (0..KEYS).map(key).collect();
    let found = pool.get_many(&keys).await.unwrap();
    found
        .into_iter()
        .enumerate()
        .map(|(number, found)| {
            assert!(found.is_none() || found == Some(value(number)), "{number}: {found:?}");
            found.is_some()
        })
        .collect()
}

/// For each key, whether it is kept by the server called `name`.
async fn kept_by(pool: &Pool, name: &str) -> Vec<bool> {
    let keys: Vec<String> = (0..KEYS).map(key).collect();
    let outcomes = pool.look_up(&keys).await;
    let is_of = |error: &Error| matches!(error, Error::Unavailable { server, .. } if server == name);
    outcomes.iter().map(|outcome| matches!(outcome, Outcome::SetAside(error) if is_of(error))).collect()
}

fn count(which: &[bool]) -> usize {
    which.iter().filter(|is| **is).count()
}

#[tokio::test]
async fn a_restarted_server_is_used_again() {
    let (mut server, pool) = one_server().await;
    for _ in 0..3 {
        until("it takes values", async || pool.set("key", bytes("value"), Expiry::Never).await.ok()).await;
        assert_eq!(pool.get("key").await.unwrap(), Some(bytes("value")));
        server.restart().await;
        let after = until("it answers", async || pool.get("key").await.ok()).await;
        assert_eq!(after, None, "it forgets everything");
    }
}

#[tokio::test]
async fn a_killed_servers_keys_miss_and_others_answer() {
    let (mut servers, pool) = three_servers().await;
    fill(&pool).await;
    assert_eq!(count(&found(&pool).await), KEYS);
    servers[1].kill();
    let rest = found(&pool).await;
    let lost = kept_by(&pool, &servers[1].host()).await;
    assert_eq!(rest, lost.iter().map(|lost| !lost).collect::<Vec<_>>());
    assert!((KEYS / 6..KEYS / 2).contains(&count(&lost)), "{} of {KEYS}", count(&lost));

    let state = |pool: &Pool| pool.servers().iter().filter(|server| server.set_aside.is_some()).count();
    assert_eq!(state(&pool), 1);
    let (mut written, mut refused) = (0, 0);
    for (number, lost) in lost.iter().enumerate() {
        match pool.set(key(number), value(number), Expiry::Never).await {
            Ok(()) if !lost => written += 1,
            Err(Error::Unavailable { server, .. }) if *lost && server == servers[1].host() => refused += 1,
            other => panic!("{number}: {other:?}"),
        }
    }
    assert_eq!((written, refused), (KEYS - count(&lost), count(&lost)));
    assert!(
        pool.set_many((0..KEYS).map(|number| (key(number), value(number))), Expiry::Never).await.is_err()
    );

    servers[1].restart().await;
    until("it is back", async || (state(&pool) == 0).then_some(())).await;
    fill(&pool).await;
    assert_eq!(count(&found(&pool).await), KEYS);
}

#[tokio::test]
async fn where_no_server_lives_reading_is_an_error() {
    let (mut servers, pool) = three_servers().await;
    fill(&pool).await;
    for server in &mut servers {
        server.kill();
    }
    let keys: Vec<String> = (0..KEYS).map(key).collect();
    let Err(Error::Unavailable { server, .. }) = pool.get_many(&keys).await else { panic!("nobody answers") };
    assert!(servers.iter().any(|dead| dead.host() == server));
    assert!(pool.servers().iter().all(|server| server.set_aside.is_some()));
    assert!(pool.get("key").await.is_err());
    assert!(pool.get_versioned("key").await.is_err());
    assert!(pool.acquire_lease("lane", "me", PATIENCE).await.is_err());
}

#[tokio::test]
async fn a_server_that_was_never_there_is_an_error_and_used_when_it_comes() {
    let mut server = Memcached::start().await;
    server.kill();
    let pool = Pool::open(options([server.port()])).await.unwrap();
    let Err(Error::Unavailable { server: name, message }) = pool.get("key").await else {
        panic!("nobody is there")
    };
    assert_eq!(name, server.host());
    assert!(message.contains("refused"), "{message}");
    server.restart().await;
    until("it answers", async || pool.get("key").await.ok()).await;
}

#[tokio::test]
async fn a_hanging_server_costs_one_timeout_and_others_nothing() {
    let servers = [Memcached::start().await, Memcached::start().await, Memcached::start().await];
    let mut options = options(servers.iter().map(Memcached::port));
    options.operation_timeout = Duration::from_millis(300);
    let pool = Pool::open(options).await.unwrap();
    fill(&pool).await;
    servers[2].pause();
    let start = Instant::now();
    let first = found(&pool).await;
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert!((1..KEYS).contains(&count(&first)));
    // Twenty timeouts would take twice as long as is allowed.
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(found(&pool).await, first);
    }
    assert!(start.elapsed() < 10 * Duration::from_millis(300), "{:?}", start.elapsed());
    servers[2].resume();
    until("it answers again", async || (count(&found(&pool).await) == KEYS).then_some(())).await;
}

#[tokio::test]
async fn a_pool_begun_with_a_hanging_server_answers_for_the_others() {
    let servers = [Memcached::start().await, Memcached::start().await];
    servers[0].pause();
    let mut options = options(servers.iter().map(Memcached::port));
    options.operation_timeout = Duration::from_millis(200);
    let pool = Pool::open(options).await.unwrap();
    let items: Vec<_> = (0..KEYS).map(|number| (key(number), value(number))).collect();
    assert!(pool.set_many(items, Expiry::Never).await.is_err());
    assert!((1..KEYS).contains(&count(&found(&pool).await)));
}

#[tokio::test]
async fn cut_connections_are_made_again_at_once() {
    let server = Memcached::start().await;
    let proxy = Proxy::start(server.host()).await;
    let pool = Pool::open(options([proxy.port()])).await.unwrap();
    fill(&pool).await;
    for round in 0..100 {
        proxy.cut();
        assert_eq!(count(&found(&pool).await), KEYS, "round {round}");
        proxy.cut();
        pool.set(key(0), value(0), Expiry::Never).await.unwrap();
        assert_eq!(pool.get(key(1)).await.unwrap(), Some(value(1)));
    }
    assert_eq!(pool.servers()[0].set_aside, None);
}

#[tokio::test]
async fn connections_that_end_all_at_once_are_not_found_out_one_by_one() {
    let server = Memcached::start().await;
    let proxy = Proxy::start(server.host()).await;
    let pool = Pool::open(options([proxy.port()])).await.unwrap();
    fill(&pool).await;
    for round in 0..20 {
        // Slow enough that all reads need a connection of their own.
        proxy.delay(Duration::from_millis(20), Duration::ZERO);
        let reads = (0..16).map(|number| pool.get(key(number)));
        let reads = futures_util::future::join_all(reads).await;
        assert!(reads.into_iter().enumerate().all(|(number, read)| read.unwrap() == Some(value(number))));
        proxy.delay(Duration::ZERO, Duration::ZERO);
        proxy.cut_on_use();
        assert_eq!(pool.get(key(0)).await.unwrap(), Some(value(0)), "round {round}");
    }
    assert_eq!(pool.servers()[0].set_aside, None);
}

/// Connections are cut while many tasks use them: nobody sees another's value, and what may have happened twice is said.
#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_in_the_middle_mix_nothing_up() {
    let server = Memcached::start().await;
    let proxy = Proxy::start(server.host()).await;
    let pool = Pool::open(options([proxy.port()])).await.unwrap();
    fill(&pool).await;
    let work = |task: usize, pool: Pool| async move {
        for round in 0..200 {
            let number = (task * 31 + round) % KEYS;
            match round % 3 {
                0 => {
                    if let Ok(found) = pool.get(key(number)).await {
                        assert_eq!(found, Some(value(number)));
                    }
                }
                1 => drop(pool.set(key(number), value(number), Expiry::Never).await),
                _ => {
                    if let Ok(Some(found)) = pool.get_versioned(key(number)).await {
                        assert_eq!(found.value, value(number));
                        let swapped = pool
                            .compare_and_swap(key(number), found.token, value(number), Expiry::Never)
                            .await;
                        let expected = matches!(
                            swapped,
                            Ok(_) | Err(Error::Interrupted { .. } | Error::Unavailable { .. })
                        );
                        assert!(expected, "{swapped:?}");
                    }
                }
            }
        }
    };
    let tasks: Vec<_> = (0..8).map(|task| tokio::spawn(work(task, pool.clone()))).collect();
    while !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
        proxy.cut();
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    until("it answers", async || pool.get("key").await.ok()).await;
    assert_eq!(count(&found(&pool).await), KEYS);
}

#[tokio::test]
async fn a_slow_server_is_waited_for_within_the_timeout() {
    let server = Memcached::start().await;
    let proxy = Proxy::start(server.host()).await;
    let mut options = options([proxy.port()]);
    options.operation_timeout = Duration::from_millis(500);
    let pool = Pool::open(options).await.unwrap();
    fill(&pool).await;
    proxy.delay(Duration::from_millis(20), Duration::from_millis(30));
    let start = Instant::now();
    assert_eq!(count(&found(&pool).await), KEYS);
    assert!(start.elapsed() >= Duration::from_millis(50));
    proxy.delay(Duration::from_secs(10), Duration::ZERO);
    let late = pool.get(key(0)).await;
    let Err(Error::Unavailable { message, .. }) = late else { panic!("{late:?}") };
    assert_eq!(message, "no answer within 500ms");
}

#[tokio::test]
async fn what_was_sent_and_not_answered_is_said_to_be_unknown() {
    let server = Memcached::start().await;
    let proxy = Proxy::start(server.host()).await;
    let mut options = options([proxy.port()]);
    options.operation_timeout = Duration::from_millis(200);
    let pool = Pool::open(options).await.unwrap();
    pool.set("key", bytes("first"), Expiry::Never).await.unwrap();
    let first = pool.get_versioned("key").await.unwrap().unwrap();
    // The server gets the request, and we not the answer.
    proxy.delay(Duration::ZERO, Duration::from_secs(10));
    let swapped = pool.compare_and_swap("key", first.token, bytes("second"), Expiry::Never).await;
    assert!(matches!(swapped, Err(Error::Interrupted { .. })), "{swapped:?}");
    let direct = Pool::open(super::options([server.port()])).await.unwrap();
    assert_eq!(direct.get("key").await.unwrap(), Some(bytes("second")), "it was carried out");
}

#[tokio::test]
async fn what_must_not_be_done_twice_is_not_sent_again_when_its_connection_ends() {
    let server = Memcached::start().await;
    let proxy = Proxy::start(server.host()).await;
    let pool = Pool::open(options([proxy.port()])).await.unwrap();
    let direct = pool_of(std::slice::from_ref(&server)).await;
    pool.set("key", bytes("first"), Expiry::Never).await.unwrap();
    let first = pool.get_versioned("key").await.unwrap().unwrap();
    proxy.delay(Duration::ZERO, Duration::from_secs(10));
    let swap = pool.compare_and_swap("key", first.token, bytes("second"), Expiry::Never);
    let cut_when_carried_out = async {
        until("it is carried out", async || {
            (direct.get("key").await.unwrap() == Some(bytes("second"))).then_some(())
        })
        .await;
        proxy.delay(Duration::ZERO, Duration::ZERO);
        proxy.cut();
    };
    let (swapped, ()) = tokio::join!(swap, cut_when_carried_out);
    assert!(matches!(swapped, Err(Error::Interrupted { .. })), "{swapped:?}");
    assert_eq!(pool.get("key").await.unwrap(), Some(bytes("second")), "only the connection was lost");
}

#[tokio::test]
async fn a_server_that_is_set_aside_is_left_alone() {
    let server = Memcached::start().await;
    let proxy = Proxy::start(server.host()).await;
    let pool = Pool::open(options([proxy.port()])).await.unwrap();
    fill(&pool).await;
    proxy.refuse(true);
    proxy.cut();
    assert!(pool.get(key(0)).await.is_err());
    proxy.refuse(false);
    let before = proxy.connections();
    for _ in 0..1000 {
        assert!(pool.get(key(0)).await.is_err());
    }
    assert_eq!(proxy.connections(), before, "nobody connects during the pause");
    until("it is tried again", async || pool.get(key(0)).await.ok()).await;
    assert_eq!(proxy.connections(), before + 2, "once to try it, and once to read");
}
