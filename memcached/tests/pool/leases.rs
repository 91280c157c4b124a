//! Leases against a real server and its clock.

use super::*;

const LONG: Duration = Duration::from_hours(1);

#[tokio::test]
async fn a_lease_excludes_others_until_its_holder_gives_it_back() {
    let (_server, pool) = one_server().await;
    assert!(pool.acquire_lease("lane", "one", LONG).await.unwrap());
    assert!(!pool.acquire_lease("lane", "other", LONG).await.unwrap());
    assert!(pool.acquire_lease("lane", "one", LONG).await.unwrap(), "its holder has it");
    assert!(pool.renew_lease("lane", "one", LONG).await.unwrap());
    assert!(!pool.renew_lease("lane", "other", LONG).await.unwrap());
    assert!(!pool.release_lease("lane", "other").await.unwrap(), "only its holder gives it back");
    assert!(!pool.acquire_lease("lane", "other", LONG).await.unwrap());
    assert!(pool.release_lease("lane", "one").await.unwrap());
    assert!(!pool.release_lease("lane", "one").await.unwrap());
    assert!(!pool.renew_lease("lane", "one", LONG).await.unwrap(), "what is given back is not renewed");
    assert!(pool.acquire_lease("lane", "other", LONG).await.unwrap());
}

/// Taken at different moments of the server's second, since it counts by ticks.
#[tokio::test]
async fn leases_last_as_long_as_promised_and_end() {
    let (_server, pool) = one_server().await;
    let time_to_live = Duration::from_secs(1);
    let mut moments = tokio::time::interval(Duration::from_millis(100));
    let mut taken = Vec::new();
    for number in 0..10 {
        moments.tick().await;
        let lane = format!("lane {number}");
        let start = Instant::now();
        assert!(pool.acquire_lease(&lane, "one", time_to_live).await.unwrap());
        taken.push((lane, start));
    }
    let lasts = taken.iter().map(async |(lane, start)| {
        let lasted = until("the lease ends", async || {
            pool.acquire_lease(lane, "other", LONG).await.unwrap().then(|| start.elapsed())
        })
        .await;
        assert!(lasted >= time_to_live, "{lane} ended after {lasted:?}");
        assert!(!pool.renew_lease(lane, "one", LONG).await.unwrap(), "it is another's now");
        assert!(!pool.release_lease(lane, "one").await.unwrap());
    });
    futures_util::future::join_all(lasts).await;
}

#[tokio::test]
async fn a_renewed_lease_does_not_end() {
    let (_server, pool) = one_server().await;
    assert!(pool.acquire_lease("lane", "one", Duration::from_secs(1)).await.unwrap());
    assert!(pool.renew_lease("lane", "one", LONG).await.unwrap());
    pool.acquire_lease("shorter", "one", Duration::from_secs(3)).await.unwrap();
    until("a lease that is as long as the first one was ends", async || {
        pool.acquire_lease("shorter", "other", LONG).await.unwrap().then_some(())
    })
    .await;
    assert!(!pool.acquire_lease("lane", "other", LONG).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_ask_at_once_one_has_it() {
    let (_servers, pool) = three_servers().await;
    for round in 0..50 {
        let ask = |holder: usize, pool: Pool| async move {
            pool.acquire_lease(format!("lane {round}"), &holder.to_string(), LONG).await.unwrap()
        };
        let tasks: Vec<_> = (0..8).map(|holder| tokio::spawn(ask(holder, pool.clone()))).collect();
        let mut holders = 0;
        for task in tasks {
            holders += usize::from(task.await.unwrap());
        }
        assert_eq!(holders, 1);
    }
}
