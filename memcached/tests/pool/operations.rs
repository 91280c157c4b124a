//! What every operation does while all is well.

use samovar_memcached::{Error, Expiry};

use super::*;

/// The largest item of a server by default.
const MEBIBYTE: usize = 1024 * 1024;

/// A number from the statistics of the only server.
async fn statistic(pool: &Pool, name: &str) -> u64 {
    let statistics = pool.statistics().await;
    let [(_, Ok(statistics))] = statistics.as_slice() else { panic!("{statistics:?}") };
    statistics[name].parse().unwrap()
}

#[tokio::test]
async fn values_come_back_byte_for_byte() {
    let (_servers, pool) = three_servers().await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let protocol_words = "\r\nEND\r\nVA 3 f0\r\n";
    let large = vec![7; 300 * 1024];
    for (number, value) in [vec![], every_byte, protocol_words.into(), large].into_iter().enumerate() {
        let key = format!("key {number}");
        assert_eq!(pool.get(&key).await.unwrap(), None);
        pool.set(&key, bytes(value.clone()), Expiry::Never).await.unwrap();
        assert_eq!(pool.get(&key).await.unwrap(), Some(bytes(value)));
        pool.set(&key, bytes("replaced"), Expiry::Never).await.unwrap();
        assert_eq!(pool.get(&key).await.unwrap(), Some(bytes("replaced")));
    }
}

#[tokio::test]
async fn add_stores_only_where_nothing_is() {
    let (_server, pool) = one_server().await;
    assert!(pool.add("key", bytes(""), Expiry::Never).await.unwrap());
    assert!(!pool.add("key", bytes("second"), Expiry::Never).await.unwrap());
    assert_eq!(pool.get("key").await.unwrap(), Some(bytes("")));
}

#[tokio::test]
async fn compare_and_swap_stores_only_over_the_version_it_knows() {
    let (_server, pool) = one_server().await;
    assert_eq!(pool.get_versioned("key").await.unwrap(), None);
    pool.set("key", bytes("first"), Expiry::Never).await.unwrap();
    let first = pool.get_versioned("key").await.unwrap().unwrap();
    assert_eq!(first.value, "first");
    let swap = |token, value: &'static str| pool.compare_and_swap("key", token, value.into(), Expiry::Never);
    assert!(swap(first.token, "second").await.unwrap());
    assert!(!swap(first.token, "third").await.unwrap(), "it has changed");
    assert_eq!(pool.get("key").await.unwrap(), Some(bytes("second")));

    // The same bytes stored again are another version.
    let second = pool.get_versioned("key").await.unwrap().unwrap();
    pool.set("key", bytes("second"), Expiry::Never).await.unwrap();
    assert!(!swap(second.token, "third").await.unwrap());
    let third = pool.get_versioned("key").await.unwrap().unwrap();
    assert!(!pool.compare_and_delete("key", second.token).await.unwrap());
    assert!(pool.compare_and_delete("key", third.token).await.unwrap());
    assert!(!swap(third.token, "fourth").await.unwrap(), "it is gone");
    assert_eq!(pool.get("key").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_swappers_each_counts_once() {
    const TASKS: usize = 8;
    const TIMES: usize = 50;
    let (_servers, pool) = three_servers().await;
    pool.set("count", bytes("0"), Expiry::Never).await.unwrap();
    let count_up = |pool: Pool| async move {
        for _ in 0..TIMES {
            loop {
                let current = pool.get_versioned("count").await.unwrap().unwrap();
                let number: usize = std::str::from_utf8(&current.value).unwrap().parse().unwrap();
                let next = bytes((number + 1).to_string());
                if pool.compare_and_swap("count", current.token, next, Expiry::Never).await.unwrap() {
                    break;
                }
            }
        }
    };
    let tasks: Vec<_> = (0..TASKS).map(|_| tokio::spawn(count_up(pool.clone()))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(pool.get("count").await.unwrap(), Some(bytes((TASKS * TIMES).to_string())));
}

#[tokio::test]
async fn deleting_and_touching_say_whether_something_was_there() {
    let (_server, pool) = one_server().await;
    pool.set("key", bytes("value"), Expiry::Never).await.unwrap();
    assert!(pool.touch("key", Expiry::Never).await.unwrap());
    assert!(pool.delete("key").await.unwrap());
    assert!(!pool.delete("key").await.unwrap());
    assert!(!pool.touch("key", Expiry::Never).await.unwrap());
}

#[tokio::test]
async fn hits_stand_among_misses_in_the_order_asked() {
    let (_servers, pool) = three_servers().await;
    let keys: Vec<String> = (0..2500).map(|number| format!("many|{number}")).collect();
    let even = keys.iter().enumerate().filter(|(number, _)| number % 2 == 0);
    let items: Vec<_> = even.map(|(number, key)| (key, bytes(format!("value {number}")))).collect();
    pool.set_many(items, Expiry::Never).await.unwrap();
    let expected = |number: usize| number.is_multiple_of(2).then(|| bytes(format!("value {number}")));
    let found = pool.get_many(&keys).await.unwrap();
    assert_eq!(found, (0..2500).map(expected).collect::<Vec<_>>());
    for number in [0, 1, 2, 3] {
        assert_eq!(pool.get(&keys[number]).await.unwrap(), expected(number));
    }

    pool.touch_many(&keys, Expiry::Never).await.unwrap();
    pool.delete_many(&keys[..1000]).await.unwrap();
    let found = pool.get_many(&keys).await.unwrap();
    assert!(found[..1000].iter().all(Option::is_none));
    assert_eq!(found[1000..], (1000..2500).map(expected).collect::<Vec<_>>());
    let nothing: [&str; 0] = [];
    assert_eq!(pool.get_many(&nothing).await.unwrap(), []);
    pool.delete_many(&nothing).await.unwrap();
}

#[tokio::test]
async fn every_server_has_a_share() {
    let (servers, pool) = three_servers().await;
    let items = (0..900).map(|number| (format!("share|{number}"), bytes("x")));
    pool.set_many(items, Expiry::Never).await.unwrap();
    for server in &servers {
        let alone = Pool::open(options([server.port()])).await.unwrap();
        let items = statistic(&alone, "curr_items").await;
        assert!((200..400).contains(&items), "{items} of 900");
    }
}

#[tokio::test]
async fn many_large_values_are_read_and_written_at_once() {
    let (_servers, pool) = three_servers().await;
    let value = |number: u8| bytes(vec![number; 200 * 1024]);
    let keys: Vec<String> = (0..100).map(|number| format!("large|{number}")).collect();
    pool.set_many(keys.iter().zip((0..100).map(value)), Expiry::Never).await.unwrap();
    let found = pool.get_many(&keys).await.unwrap();
    assert!(found.into_iter().zip(0..100).all(|(found, number)| found == Some(value(number))));
}

#[tokio::test]
async fn a_value_that_is_too_large_is_refused_and_others_are_not() {
    let (server, pool) = one_server().await;
    let name = server.host();
    let refused = Err(Error::TooLarge { server: name.clone(), bytes: MEBIBYTE });
    assert_eq!(pool.set("large", bytes(vec![1; MEBIBYTE]), Expiry::Never).await, refused);
    let fitting = bytes(vec![1; MEBIBYTE - 1024]);
    pool.set("large", fitting.clone(), Expiry::Never).await.unwrap();
    assert_eq!(pool.get("large").await.unwrap(), Some(fitting));

    let sizes = [10, MEBIBYTE, 20, MEBIBYTE, 30];
    let items =
        sizes.iter().enumerate().map(|(number, size)| (format!("mixed|{number}"), bytes(vec![2; *size])));
    assert_eq!(pool.set_many(items, Expiry::Never).await, refused);
    let keys: Vec<String> = (0..sizes.len()).map(|number| format!("mixed|{number}")).collect();
    let found = pool.get_many(&keys).await.unwrap();
    let found: Vec<Option<usize>> = found.into_iter().map(|value| value.map(|value| value.len())).collect();
    assert_eq!(found, [Some(10), None, Some(20), None, Some(30)]);
    assert_eq!(pool.servers()[0].set_aside, None);
}

#[tokio::test]
async fn a_server_that_evicts_nothing_runs_out_of_memory() {
    let server = Memcached::start_with(["-M", "-m", "2"]).await;
    let pool = Pool::open(options([server.port()])).await.unwrap();
    let fill = async || {
        for number in 0..100 {
            pool.set(format!("fill|{number}"), bytes(vec![0; 100 * 1024]), Expiry::Never).await?;
        }
        Ok(())
    };
    assert_eq!(fill().await, Err(Error::OutOfMemory { server: server.host() }));
    let items = (0..10).map(|number| (format!("more|{number}"), bytes(vec![0; 100 * 1024])));
    assert_eq!(pool.set_many(items, Expiry::Never).await, Err(Error::OutOfMemory { server: server.host() }));
    assert!(pool.get("fill|0").await.unwrap().is_some(), "what is there stays readable");
}

#[tokio::test]
async fn what_expires_goes_and_what_is_touched_stays() {
    let (_server, pool) = one_server().await;
    let second = Expiry::After(Duration::from_millis(100));
    pool.set("short", bytes("value"), second).await.unwrap();
    pool.set("touched", bytes("value"), second).await.unwrap();
    pool.touch_many(&["touched", "nothing"], Expiry::After(Duration::from_hours(1))).await.unwrap();
    until("it expires", async || pool.get("short").await.unwrap().is_none().then_some(())).await;
    assert_eq!(pool.get("touched").await.unwrap(), Some(bytes("value")));

    assert!(pool.touch("touched", second).await.unwrap());
    until("it expires", async || pool.get("touched").await.unwrap().is_none().then_some(())).await;
}

#[tokio::test]
async fn times_past_thirty_days_are_not_taken_for_dates_of_1970() {
    let (_server, pool) = one_server().await;
    let month = Duration::from_hours(30 * 24);
    for (number, time) in
        [month, month + Duration::from_secs(1), 12 * month, 13 * month, Duration::MAX].into_iter().enumerate()
    {
        let key = format!("long|{number}");
        pool.set(&key, bytes("value"), Expiry::After(time)).await.unwrap();
        assert_eq!(pool.get(&key).await.unwrap(), Some(bytes("value")), "{time:?}");
        assert!(pool.touch(&key, Expiry::After(time)).await.unwrap());
        assert_eq!(pool.get(&key).await.unwrap(), Some(bytes("value")), "{time:?}");
    }
}

#[tokio::test]
async fn versions_and_statistics_of_every_server() {
    let (servers, pool) = three_servers().await;
    pool.set("key", bytes("value"), Expiry::Never).await.unwrap();
    let mut names: Vec<String> = servers.iter().map(Memcached::host).collect();
    names.sort();
    let versions = pool.versions().await;
    assert_eq!(versions.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), names);
    assert!(versions.iter().all(|(_, version)| version.as_ref().unwrap().starts_with("1.")));
    let statistics = pool.statistics().await;
    let items = statistics.iter().map(|(_, all)| all.as_ref().unwrap()["curr_items"].parse::<u64>().unwrap());
    assert_eq!(items.sum::<u64>(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_share_few_connections() {
    let (_server, pool) = one_server().await;
    pool.set("key", bytes("value"), Expiry::Never).await.unwrap();
    let read = |pool: Pool| async move {
        for _ in 0..20 {
            assert_eq!(pool.get("key").await.unwrap(), Some(bytes("value")));
        }
    };
    let tasks: Vec<_> = (0..200).map(|_| tokio::spawn(read(pool.clone()))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    let connections = statistic(&pool, "total_connections").await;
    // One was for the version and one is for the statistics; a server counts its own listener too.
    assert!(connections <= 16 + 3, "{connections}");
}
