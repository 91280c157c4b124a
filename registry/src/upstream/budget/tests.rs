use std::future::Future;

use tokio::task::JoinSet;

use super::*;

mod adaptive;
mod breaker;
mod properties;
mod quota;
mod restart;
mod week;

const BACKGROUND: Urgency = Urgency::Background;
const REGISTRY: RequestKind = RequestKind::Registry;

fn limits(rate: f64, burst: u32, concurrency: usize) -> Limits {
    Limits { rate, burst, concurrency }
}

fn terms(limits: Limits, counting: Counting) -> Terms {
    Terms { limits, counting, quota_reserve: 0.1 }
}

fn budget_of(limits: Limits) -> Arc<Budget> {
    Budget::new(terms(limits, Counting::Everything))
}

fn anonymous() -> Identity {
    Identity::from(Identity::ANONYMOUS)
}

async fn acquire(budget: &Arc<Budget>, kind: RequestKind, urgency: Urgency) -> Result<Permit, ErrorKind> {
    budget.acquire(&draw(kind, urgency, &anonymous())).await
}

fn draw(kind: RequestKind, urgency: Urgency, identity: &Identity) -> Draw<'_> {
    Draw { kind, urgency, identity, repository: None, is_manifest_get: false }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// When, in milliseconds from now, each of `count` requests that end at once may go.
async fn departures(budget: &Arc<Budget>, count: usize) -> Vec<u128> {
    let start = Instant::now();
    let mut departures = Vec::new();
    for _ in 0..count {
        drop(acquire(budget, REGISTRY, BACKGROUND).await.unwrap());
        departures.push(start.elapsed().as_millis());
    }
    departures
}

/// Lets the tasks that are ready run until none is, without moving the time.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

async fn is_ready(future: impl Future) -> bool {
    tokio::time::timeout(Duration::ZERO, future).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_burst_then_the_rate() {
    let budget = budget_of(limits(10.0, 3, 100));
    let times = departures(&budget, 6).await;
    assert_eq!(times[..3], [0, 0, 0]);
    for (gap, at) in times[3..].iter().zip([100, 200, 300]) {
        assert!(gap.abs_diff(at) <= 3, "{times:?}");
    }

    tokio::time::advance(seconds(60)).await;
    assert_eq!(departures(&budget, 3).await, [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn the_rate_holds_over_many_requests() {
    let budget = budget_of(limits(50.0, 10, 10));
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..510 {
        let budget = budget.clone();
        tasks.spawn(async move { drop(acquire(&budget, REGISTRY, BACKGROUND).await.unwrap()) });
    }
    tasks.join_all().await;
    let elapsed = start.elapsed();
    assert!(elapsed >= seconds(10) && elapsed < seconds(11), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn concurrency_is_bounded_and_a_slot_is_handed_on() {
    let budget = budget_of(limits(1000.0, 100, 2));
    let first = acquire(&budget, REGISTRY, BACKGROUND).await.unwrap();
    let _second = acquire(&budget, REGISTRY, BACKGROUND).await.unwrap();
    let third = tokio::spawn({
        let budget = budget.clone();
        async move { acquire(&budget, REGISTRY, BACKGROUND).await.unwrap() }
    });
    tokio::time::sleep(seconds(5)).await;
    assert!(!third.is_finished());
    assert_eq!((budget.snapshot().in_flight, budget.snapshot().waiting), (2, 1));
    drop(first);
    let _third = third.await.unwrap();
    assert_eq!((budget.snapshot().in_flight, budget.snapshot().waiting), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn who_asked_goes_before_background_and_each_in_order() {
    let budget = budget_of(limits(1.0, 1, 1));
    let held = acquire(&budget, REGISTRY, BACKGROUND).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for (label, urgency) in [
        ("b1", BACKGROUND),
        ("b2", BACKGROUND),
        ("a1", Urgency::Asked),
        ("b3", BACKGROUND),
        ("a2", Urgency::Asked),
    ] {
        let (budget, order) = (budget.clone(), order.clone());
        tasks.spawn(async move {
            let _permit = acquire(&budget, REGISTRY, urgency).await.unwrap();
            order.lock().unwrap().push(label);
        });
        settle().await;
    }
    drop(held);
    tasks.join_all().await;
    assert_eq!(*order.lock().unwrap(), ["a1", "a2", "b1", "b2", "b3"]);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_what_is_asked_for_leaves_each_eighth_permit_to_whoever_waits_for_longest() {
    let budget = budget_of(limits(10.0, 1, 1));
    let held = acquire(&budget, REGISTRY, BACKGROUND).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for number in 0..105 {
        let urgency = if number < 5 { BACKGROUND } else { Urgency::Asked };
        let (budget, order) = (budget.clone(), order.clone());
        tasks.spawn(async move {
            let _permit = acquire(&budget, REGISTRY, urgency).await.unwrap();
            order.lock().unwrap().push(urgency);
        });
        settle().await;
    }
    drop(held);
    tasks.join_all().await;
    let order = order.lock().unwrap();
    let background: Vec<usize> = (0..105).filter(|position| order[*position] == BACKGROUND).collect();
    assert_eq!(background, [7, 15, 23, 31, 39]);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_gives_up_hands_its_turn_on() {
    let budget = budget_of(limits(1.0, 1, 1));
    let held = acquire(&budget, REGISTRY, BACKGROUND).await.unwrap();
    let waiter = |urgency| {
        let budget = budget.clone();
        tokio::spawn(async move { drop(acquire(&budget, REGISTRY, urgency).await.unwrap()) })
    };
    let first = waiter(Urgency::Asked);
    settle().await;
    let second = waiter(BACKGROUND);
    settle().await;
    drop(held);
    // The first has been called, but not run: it goes away with the call in its hands.
    first.abort();
    second.await.unwrap();
    assert!(first.await.unwrap_err().is_cancelled());
    assert_eq!((budget.snapshot().in_flight, budget.snapshot().waiting), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_pause_lasts_exactly_as_long_as_asked_and_nothing_bursts_after_it() {
    let budget = budget_of(limits(10.0, 5, 10));
    let permit = acquire(&budget, REGISTRY, BACKGROUND).await.unwrap();
    assert_eq!(permit.hold_back(Some(seconds(60)), true), seconds(60));
    drop(permit);
    assert_eq!(budget.blocked_for(REGISTRY), Some(seconds(60)));

    // At half the rate: a request every fifth of a second.
    let times = departures(&budget, 3).await;
    for (time, expected) in times.iter().zip([60_200, 60_400, 60_600]) {
        assert!(time.abs_diff(expected) <= 3, "{times:?}");
    }
    assert_eq!(budget.blocked_for(REGISTRY), None);
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_one_kind_does_not_stop_the_others() {
    let budget = budget_of(limits(10.0, 5, 10));
    let cdn = acquire(&budget, RequestKind::Cdn, BACKGROUND).await.unwrap();
    cdn.hold_back(Some(seconds(4)), true);
    let held = tokio::spawn({
        let budget = budget.clone();
        async move {
            drop(acquire(&budget, RequestKind::Cdn, Urgency::Asked).await.unwrap());
            Instant::now()
        }
    });
    settle().await;
    let start = Instant::now();
    departures(&budget, 5).await;
    assert!(start.elapsed() < seconds(1));
    let snapshot = budget.snapshot();
    assert_eq!((snapshot.blocked_for, snapshot.token_blocked_for), (None, None));
    assert!(snapshot.cdn_blocked_for.is_some());
    let went = held.await.unwrap() - start;
    assert!(went >= seconds(4) && went < seconds(5), "{went:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_begins_while_waiters_wait_for_a_slot_still_ends() {
    let budget = budget_of(limits(100.0, 5, 1));
    let permit = acquire(&budget, REGISTRY, BACKGROUND).await.unwrap();
    let waiter = tokio::spawn({
        let budget = budget.clone();
        async move { drop(acquire(&budget, REGISTRY, BACKGROUND).await.unwrap()) }
    });
    settle().await;
    permit.hold_back(Some(seconds(7)), true);
    drop(permit);
    let start = Instant::now();
    waiter.await.unwrap();
    assert!(start.elapsed() >= seconds(7) && start.elapsed() < seconds(8));
}

#[tokio::test(start_paused = true)]
async fn unasked_pauses_double_per_episode_not_per_answer() {
    let budget = budget_of(limits(1000.0, 100, 10));
    let three = async || {
        let mut permits = Vec::new();
        for _ in 0..3 {
            permits.push(acquire(&budget, REGISTRY, BACKGROUND).await.unwrap());
        }
        permits
    };
    for expected in [30, 60, 120] {
        let permits = three().await;
        for permit in &permits {
            assert_eq!(permit.hold_back(None, true), seconds(expected));
        }
        // One that was under way when the pause began says nothing about what comes after it.
        permits[2].accepted();
    }
    let after = acquire(&budget, REGISTRY, BACKGROUND).await.unwrap();
    after.accepted();
    assert_eq!(acquire(&budget, REGISTRY, BACKGROUND).await.unwrap().hold_back(None, true), seconds(30));
}

#[tokio::test(start_paused = true)]
async fn a_shorter_pause_does_not_cut_a_longer_one() {
    let budget = budget_of(Limits::default());
    let (one, two) =
        tokio::join!(acquire(&budget, REGISTRY, BACKGROUND), acquire(&budget, REGISTRY, BACKGROUND));
    assert_eq!(one.unwrap().hold_back(Some(seconds(100)), true), seconds(100));
    assert_eq!(two.unwrap().hold_back(Some(seconds(5)), true), seconds(100));
}

#[tokio::test(start_paused = true)]
async fn at_rest_only_when_nothing_would_be_lost() {
    let budget = budget_of(limits(10.0, 2, 10));
    assert!(budget.is_at_rest());
    let permit = acquire(&budget, REGISTRY, BACKGROUND).await.unwrap();
    assert!(!budget.is_at_rest());
    drop(permit);
    assert!(!budget.is_at_rest(), "the bucket is not full yet");
    tokio::time::advance(seconds(1)).await;
    assert!(budget.is_at_rest());
    acquire(&budget, REGISTRY, BACKGROUND).await.unwrap().hold_back(Some(seconds(9)), true);
    tokio::time::advance(seconds(8)).await;
    assert!(!budget.is_at_rest());
}

#[tokio::test(start_paused = true)]
async fn the_quota_announced_last_is_shown() {
    let budget = budget_of(Limits::default());
    let permit = acquire(&budget, REGISTRY, BACKGROUND).await.unwrap();
    let quota = Quota { limit: 100, remaining: 76, window: Some(seconds(21_600)), source: None };
    permit.note_quota(quota.clone());
    permit.accepted();
    assert_eq!(budget.snapshot().quota, Some(quota));
}

#[tokio::test(start_paused = true)]
async fn a_ready_budget_is_had_without_waiting() {
    let budget = budget_of(limits(1.0, 1, 1));
    assert!(is_ready(acquire(&budget, REGISTRY, BACKGROUND)).await);
    assert!(!is_ready(acquire(&budget, REGISTRY, BACKGROUND)).await);
    assert_eq!(budget.snapshot().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn the_queue_has_an_end() {
    let budget = budget_of(limits(1.0, 1, 1));
    let _held = acquire(&budget, REGISTRY, BACKGROUND).await.unwrap();
    let identity = anonymous();
    let waiters: Vec<_> = (0..MAX_WAITING)
        .map(|_| Waiter::join(&budget, &draw(REGISTRY, BACKGROUND, &identity)).unwrap())
        .collect();
    let refused = acquire(&budget, RequestKind::Cdn, Urgency::Asked).await.unwrap_err();
    assert!(matches!(refused, ErrorKind::Refused { .. }), "{refused}");
    drop(waiters);
    assert_eq!(budget.snapshot().waiting, 0);
}

#[test]
fn limits_that_would_never_let_anything_go_are_refused() {
    assert_eq!(Limits::default().check(), Ok(()));
    for wrong in [
        limits(0.0, 1, 1),
        limits(-1.0, 1, 1),
        limits(f64::NAN, 1, 1),
        limits(f64::INFINITY, 1, 1),
        limits(1.0, 0, 1),
        limits(1.0, 1, 0),
    ] {
        assert!(wrong.check().is_err(), "{wrong:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_out_a_long_pause_of_a_cdn_or_a_token_service() {
    for kind in [RequestKind::Cdn, RequestKind::Token] {
        let budget = budget_of(limits(1000.0, 10, 1));
        let first = acquire(&budget, kind, BACKGROUND).await.unwrap();
        let queued: Vec<_> = (0..3)
            .map(|_| {
                let budget = budget.clone();
                tokio::spawn(async move { acquire(&budget, kind, BACKGROUND).await.map(drop) })
            })
            .collect();
        settle().await;
        first.hold_back(Some(seconds(86_400)), true);
        drop(first);
        let start = Instant::now();
        for task in queued {
            let error = task.await.unwrap().unwrap_err();
            assert_eq!(error, ErrorKind::RateLimited { retry_after: seconds(86_400), message: None });
        }
        assert!(acquire(&budget, kind, Urgency::Asked).await.is_err());
        assert_eq!((start.elapsed(), budget.snapshot().waiting), (Duration::ZERO, 0));
        drop(acquire(&budget, REGISTRY, BACKGROUND).await.unwrap());
        tokio::time::advance(seconds(86_396)).await;
        drop(acquire(&budget, kind, BACKGROUND).await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_share_of_the_rate_until_it_is_whole_again() {
    let budget = budget_of(limits(10.0, 1, 100));
    drop(acquire(&budget, REGISTRY, BACKGROUND).await.unwrap());
    budget.set_share(0.25);
    assert!((budget.snapshot().rate - 2.5).abs() < 1e-9);
    assert!(!budget.is_at_rest(), "forgetting it would forget the share");
    let times = departures(&budget, 3).await;
    for (at, expected) in times.iter().zip([400, 800, 1200]) {
        assert!(at.abs_diff(expected) <= 3, "{times:?}");
    }
    let waiting = tokio::spawn({
        let budget = budget.clone();
        async move { departures(&budget, 1).await }
    });
    settle().await;
    budget.set_share(1.0);
    let times = waiting.await.unwrap();
    assert!(times[0].abs_diff(100) <= 3, "whoever waits goes by the new rate: {times:?}");
}
