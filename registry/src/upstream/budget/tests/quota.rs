//! Quotas of identities.

use super::*;

const HOUR: Duration = Duration::from_hours(1);
const WINDOW: Duration = Duration::from_hours(6);

fn hub() -> Arc<Budget> {
    Budget::new(terms(limits(1000.0, 100, 10), Counting::ManifestGets))
}

fn alice() -> Identity {
    Identity::from("alice")
}

fn quota(limit: u64, remaining: u64) -> Quota {
    Quota { limit, remaining, window: Some(WINDOW), source: None }
}

fn pull(urgency: Urgency, identity: &Identity) -> Draw<'_> {
    Draw { kind: REGISTRY, urgency, identity, repository: None, is_manifest_get: true }
}

fn look(identity: &Identity) -> Draw<'_> {
    draw(REGISTRY, BACKGROUND, identity)
}

/// A request that is answered with this much left.
async fn told(budget: &Arc<Budget>, draw: Draw<'_>, quota: Quota) {
    budget.acquire(&draw).await.unwrap().note_quota(quota);
}

fn left(budget: &Budget, identity: &Identity) -> u64 {
    let quotas = budget.snapshot().quotas;
    quotas.iter().find(|quota| quota.identity == *identity).unwrap().quota.remaining
}

/// When a request may come back, or `None` if it went.
async fn put_off(budget: &Arc<Budget>, draw: Draw<'_>) -> Option<Duration> {
    match budget.acquire(&draw).await {
        Ok(_) => None,
        Err(ErrorKind::QuotaShort { retry_after, .. }) => Some(retry_after),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn before_the_first_answer_pulls_go_one_at_a_time() {
    let (budget, alice) = (hub(), alice());
    let first = budget.acquire(&pull(BACKGROUND, &alice)).await.unwrap();
    assert!(!is_ready(budget.acquire(&pull(Urgency::Asked, &alice))).await);
    assert!(is_ready(budget.acquire(&pull(BACKGROUND, &anonymous()))).await, "another identity");
    assert!(is_ready(budget.acquire(&look(&alice))).await, "this does not count");
    first.note_quota(quota(100, 99));
    assert!(is_ready(budget.acquire(&pull(BACKGROUND, &alice))).await);
}

#[tokio::test(start_paused = true)]
async fn no_headers_mean_no_limit() {
    let (budget, alice) = (hub(), alice());
    budget.acquire(&pull(BACKGROUND, &alice)).await.unwrap().note_no_quota();
    let mut permits = Vec::new();
    for _ in 0..10 {
        permits.push(budget.acquire(&pull(BACKGROUND, &alice)).await.unwrap());
    }
    assert_eq!(budget.snapshot().quotas, []);
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_is_counted_down_until_the_next_answer() {
    let (budget, alice) = (hub(), alice());
    told(&budget, look(&alice), quota(100, 80)).await;
    let pulls: Vec<_> = futures_util::future::join_all(
        (0..4).map(|_| async { budget.acquire(&pull(BACKGROUND, &alice)).await.unwrap() }),
    )
    .await;
    assert_eq!(left(&budget, &alice), 76);
    // The host had seen this one and perhaps none of the others.
    pulls[1].note_quota(quota(100, 79));
    assert_eq!(left(&budget, &alice), 76);
    // Somebody else behind the same address pulls as well.
    pulls[2].note_quota(quota(100, 60));
    assert_eq!(left(&budget, &alice), 57);
    drop(pulls);
    told(&budget, look(&alice), quota(100, 57)).await;
    assert_eq!(left(&budget, &alice), 57);
}

#[tokio::test(start_paused = true)]
async fn a_window_of_which_nothing_is_used_begins_with_the_next_pull() {
    let (budget, alice) = (hub(), alice());
    told(&budget, look(&alice), quota(2, 1)).await;
    tokio::time::sleep(5 * HOUR).await;
    // All of it came back; that a window has passed since then says nothing of what is used after it.
    told(&budget, look(&alice), quota(2, 2)).await;
    tokio::time::sleep(5 * HOUR).await;
    told(&budget, pull(Urgency::Asked, &alice), quota(2, 1)).await;
    told(&budget, pull(Urgency::Asked, &alice), quota(2, 0)).await;
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(put_off(&budget, pull(Urgency::Asked, &alice)).await, Some(4 * HOUR));
}

#[tokio::test(start_paused = true)]
async fn half_goes_at_once_the_rest_but_the_reserve_is_spread_and_the_reserve_is_for_those_who_ask() {
    let (budget, alice) = (hub(), alice());
    told(&budget, look(&alice), quota(100, 100)).await;
    let start = Instant::now();
    let mut remaining = 100;
    let mut times = Vec::new();
    let mut last = start;
    while start.elapsed() < WINDOW.saturating_sub(seconds(180)) {
        match budget.acquire(&pull(BACKGROUND, &alice)).await {
            Ok(permit) => {
                remaining -= 1;
                permit.note_quota(quota(100, remaining));
                times.push(start.elapsed());
                last = Instant::now();
            }
            Err(ErrorKind::QuotaShort { retry_after, .. }) => {
                tokio::time::sleep(retry_after.min(seconds(31))).await;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(times.len(), 90, "the reserve is kept");
    assert!(times[49] < seconds(1) && times[50] > seconds(400), "{times:?}");
    let gaps: Vec<u64> =
        times[50..].windows(2).map(|pair| pair[1].saturating_sub(pair[0]).as_secs()).collect();
    assert!(gaps.iter().all(|gap| (470..590).contains(gap)), "{gaps:?}");
    assert!(last - start > HOUR * 5, "spread to the end");
    for asked in 0..10 {
        let permit = budget.acquire(&pull(Urgency::Asked, &alice)).await;
        permit.unwrap_or_else(|error| panic!("{asked}: {error}")).note_quota(quota(100, 9 - asked));
    }
    let wait = put_off(&budget, pull(Urgency::Asked, &alice)).await.expect("nothing is left");
    assert!(wait <= seconds(180), "until the window ends: {wait:?}");
    assert_eq!(budget.blocked_for(REGISTRY), None, "everything else goes on");
    assert!(is_ready(budget.acquire(&look(&alice))).await);
}

#[tokio::test(start_paused = true)]
async fn never_more_at_once_than_is_left() {
    let (budget, alice) = (hub(), alice());
    for full in [quota(5, 5), quota(100, 5)] {
        told(&budget, look(&alice), full).await;
        let mut permits = Vec::new();
        for _ in 0..5 {
            permits.push(budget.acquire(&pull(Urgency::Asked, &alice)).await.unwrap());
        }
        assert!(!is_ready(budget.acquire(&pull(Urgency::Asked, &alice))).await);
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_window_is_over_one_request_finds_out() {
    let (budget, alice) = (hub(), alice());
    told(&budget, look(&alice), quota(100, 0)).await;
    assert_eq!(budget.snapshot().quotas[0].blocked_for, Some(WINDOW));
    assert_eq!(put_off(&budget, pull(Urgency::Asked, &alice)).await, Some(WINDOW));
    tokio::time::sleep(WINDOW.saturating_sub(seconds(1))).await;
    let waiting = tokio::spawn({
        let budget = budget.clone();
        async move { budget.acquire(&pull(BACKGROUND, &Identity::from("alice"))).await.unwrap() }
    });
    settle().await;
    assert!(!waiting.is_finished());
    tokio::time::sleep(seconds(2)).await;
    let probe = waiting.await.unwrap();
    assert!(!is_ready(budget.acquire(&pull(Urgency::Asked, &alice))).await);
    probe.note_quota(quota(100, 99));
    assert!(is_ready(budget.acquire(&pull(Urgency::Asked, &alice))).await);
    assert_eq!(budget.snapshot().quotas[0].resets_in, Some(WINDOW));
}

#[tokio::test(start_paused = true)]
async fn much_that_comes_back_at_once_is_a_new_window() {
    let (budget, alice) = (hub(), alice());
    told(&budget, look(&alice), quota(100, 20)).await;
    tokio::time::sleep(HOUR).await;
    told(&budget, look(&alice), quota(100, 25)).await;
    assert_eq!(
        budget.snapshot().quotas[0].resets_in,
        Some(WINDOW.saturating_sub(HOUR)),
        "a little slides back"
    );
    told(&budget, look(&alice), quota(100, 90)).await;
    assert_eq!(budget.snapshot().quotas[0].resets_in, Some(WINDOW));
}

#[tokio::test(start_paused = true)]
async fn a_pull_limit_stops_pulls_of_that_identity_alone() {
    let (budget, alice) = (hub(), alice());
    let permit = budget.acquire(&pull(BACKGROUND, &alice)).await.unwrap();
    permit.note_quota(quota(100, 0));
    assert_eq!(permit.use_up_quota(None), Some(WINDOW));
    drop(permit);
    assert!(put_off(&budget, pull(Urgency::Asked, &alice)).await.is_some());
    assert!(is_ready(budget.acquire(&look(&alice))).await);
    assert!(is_ready(budget.acquire(&pull(BACKGROUND, &anonymous()))).await);
    let snapshot = budget.snapshot();
    assert_eq!(snapshot.blocked_for, None);
    assert!((snapshot.rate - 1000.0).abs() < 1e-9, "it was not too fast");
}

#[tokio::test(start_paused = true)]
async fn a_pull_limit_without_a_quota_holds_pulls_back_for_longer_each_time() {
    let (budget, alice) = (hub(), alice());
    for expected in [30, 60, 120] {
        let permit = budget.acquire(&pull(BACKGROUND, &alice)).await.unwrap();
        assert_eq!(permit.use_up_quota(None), Some(seconds(expected)));
        drop(permit);
        let now = tokio::time::timeout(Duration::ZERO, budget.acquire(&pull(Urgency::Asked, &alice))).await;
        assert!(!matches!(now, Ok(Ok(_))));
        assert!(is_ready(budget.acquire(&look(&alice))).await);
        tokio::time::sleep(seconds(expected)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_would_wait_long_come_back_one_by_one() {
    let (budget, alice) = (hub(), alice());
    told(&budget, look(&alice), quota(100, 10)).await;
    let mut turns = Vec::new();
    for _ in 0..400 {
        turns.push(put_off(&budget, pull(BACKGROUND, &alice)).await.unwrap());
    }
    assert_eq!(turns[0], WINDOW, "what is left is the reserve");
    let pace = WINDOW / 90;
    for pair in turns.windows(2) {
        assert!(pair[1] == pair[0] + pace || pair[1] == HOUR * 24, "{pair:?}");
    }
    assert_eq!(turns[399], HOUR * 24, "no later than this");
}

#[tokio::test(start_paused = true)]
async fn where_everything_counts_everything_waits_and_another_identity_goes_on() {
    let (budget, alice) = (budget_of(limits(1000.0, 100, 10)), alice());
    told(&budget, look(&alice), quota(100, 0)).await;
    assert!(put_off(&budget, look(&alice)).await.is_some());
    assert!(is_ready(budget.acquire(&look(&anonymous()))).await);
    assert!(is_ready(budget.acquire(&draw(RequestKind::Token, BACKGROUND, &alice))).await);
}

#[tokio::test(start_paused = true)]
async fn a_quota_without_a_window_is_shown_and_not_believed() {
    let (budget, alice) = (budget_of(limits(1000.0, 100, 10)), alice());
    told(&budget, look(&alice), Quota { window: None, ..quota(100, 0) }).await;
    assert!(is_ready(budget.acquire(&look(&alice))).await);
    assert_eq!(budget.snapshot().quotas[0].blocked_for, None);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_without_quota_holds_nobody_up() {
    let (budget, alice) = (hub(), alice());
    // In 20 seconds its turn would come: it waits in the queue.
    told(&budget, look(&alice), quota(100, 0)).await;
    tokio::time::sleep(WINDOW.saturating_sub(seconds(20))).await;
    let waiting = tokio::spawn({
        let budget = budget.clone();
        async move { drop(budget.acquire(&pull(Urgency::Asked, &Identity::from("alice"))).await.unwrap()) }
    });
    settle().await;
    assert_eq!(budget.snapshot().waiting, 1);
    let start = Instant::now();
    for _ in 0..200 {
        drop(budget.acquire(&look(&alice)).await.unwrap());
        drop(budget.acquire(&pull(BACKGROUND, &anonymous())).await.unwrap());
    }
    assert!(start.elapsed() < seconds(1), "{:?}", start.elapsed());
    waiting.await.unwrap();
    assert!(start.elapsed() >= seconds(20));
}

#[tokio::test(start_paused = true)]
async fn no_more_identities_are_remembered_than_the_bound() {
    let budget = hub();
    for number in 0..MOST_IDENTITIES * 3 {
        let identity = Identity::from(format!("user-{number}").as_str());
        told(&budget, pull(BACKGROUND, &identity), quota(100, 50)).await;
        tokio::time::advance(seconds(1)).await;
    }
    let quotas = budget.snapshot().quotas;
    assert_eq!(quotas.len(), MOST_IDENTITIES);
    assert!(quotas.iter().any(|quota| quota.identity.as_str() == "user-191"), "the latest are kept");
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_goes_through_begins_the_pauses_anew() {
    let (budget, alice) = (hub(), alice());
    for _ in 0..3 {
        let limited = budget.acquire(&pull(BACKGROUND, &alice)).await.unwrap();
        assert_eq!(limited.use_up_quota(None), Some(seconds(30)));
        drop(limited);
        tokio::time::sleep(seconds(30)).await;
        budget.acquire(&look(&alice)).await.unwrap().accepted();
        budget.acquire(&pull(BACKGROUND, &alice)).await.unwrap().accepted();
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_came_before_the_first_announcement_are_counted_too() {
    let (budget, alice) = (budget_of(limits(1000.0, 100, 2)), alice());
    let first = budget.acquire(&look(&alice)).await.unwrap();
    let second = budget.acquire(&look(&alice)).await.unwrap();
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let budget = budget.clone();
            tokio::spawn(async move { budget.acquire(&look(&Identity::from("alice"))).await.map(drop) })
        })
        .collect();
    settle().await;
    first.note_quota(quota(100, 4));
    assert_eq!(left(&budget, &alice), 3, "the other one under way may count");
    drop((first, second));
    settle().await;
    assert_eq!((budget.snapshot().waiting, left(&budget, &alice)), (0, 3), "what is left is the reserve");
    for task in waiting {
        assert!(matches!(task.await.unwrap(), Err(ErrorKind::QuotaShort { .. })));
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_a_quota_go_on_where_only_pulls_turn_out_to_count() {
    let (budget, alice) = (budget_of(limits(1000.0, 100, 10)), alice());
    told(&budget, look(&alice), quota(100, 0)).await;
    tokio::time::sleep(WINDOW.saturating_sub(seconds(20))).await;
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let budget = budget.clone();
            tokio::spawn(async move { budget.acquire(&look(&Identity::from("alice"))).await.map(drop) })
        })
        .collect();
    settle().await;
    assert_eq!(budget.snapshot().waiting, 5);
    let source = Some("192.0.2.7".into());
    told(&budget, look(&anonymous()), Quota { source, ..quota(100, 50) }).await;
    tokio::time::sleep(seconds(1)).await;
    for task in waiting {
        assert!(task.is_finished());
        task.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn identities_that_are_counted_by_one_source_share_what_is_left() {
    let (budget, alice) = (hub(), alice());
    let by = |source: &str, remaining| Quota { source: Some(source.into()), ..quota(100, remaining) };
    let other = Identity::from("bob");
    told(&budget, look(&alice), by("192.0.2.7", 80)).await;
    told(&budget, look(&other), by("192.0.2.8", 70)).await;
    told(&budget, look(&anonymous()), by("192.0.2.7", 60)).await;
    assert_eq!((left(&budget, &alice), left(&budget, &anonymous()), left(&budget, &other)), (60, 60, 70));
    let _pull = budget.acquire(&pull(BACKGROUND, &anonymous())).await.unwrap();
    assert_eq!((left(&budget, &alice), left(&budget, &other)), (59, 70));
}
