//! A host that keeps failing.

use super::*;

fn failure() -> ErrorKind {
    ErrorKind::Unavailable { status: 502, message: None }
}

/// One request that fails. For how long the host is left alone, if that makes it so.
async fn failing(budget: &Arc<Budget>) -> Option<Duration> {
    acquire(budget, REGISTRY, BACKGROUND).await.unwrap().failed(&failure(), 1.0)
}

/// A host that has just tripped its breaker.
async fn tripped() -> Arc<Budget> {
    let budget = budget_of(limits(1000.0, 100, 10));
    for _ in 0..9 {
        assert_eq!(failing(&budget).await, None);
    }
    assert_eq!(failing(&budget).await, Some(seconds(5)));
    budget
}

#[tokio::test(start_paused = true)]
async fn ten_failures_in_a_row_trip_it_and_pauses_double_to_ten_minutes() {
    let budget = tripped().await;
    assert_eq!(budget.blocked_for(REGISTRY), Some(seconds(5)));
    let mut pauses = Vec::new();
    for _ in 0..9 {
        pauses.push(failing(&budget).await.unwrap().as_secs());
    }
    assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
    let snapshot = budget.snapshot();
    assert_eq!(snapshot.breaker, BreakerSnapshot { is_open: true, failures: 19 });
    assert_eq!(snapshot.blocked_by, Some(BlockReason::Failures));
    let reason = budget.held_back().unwrap();
    assert_eq!(reason.retry_after(), Some(seconds(600)));
    assert_eq!(
        reason.to_string(),
        "left alone for 600s after 19 failures in a row, the last: the registry answered 502"
    );
}

#[tokio::test(start_paused = true)]
async fn pauses_are_drawn_from_their_upper_half() {
    for (random, expected) in [(0.0, 2_500), (0.5, 3_750), (1.0, 5_000)] {
        let budget = budget_of(limits(1000.0, 100, 10));
        for _ in 0..9 {
            failing(&budget).await;
        }
        let permit = acquire(&budget, REGISTRY, BACKGROUND).await.unwrap();
        assert_eq!(permit.failed(&failure(), random), Some(Duration::from_millis(expected)));
    }
}

#[tokio::test(start_paused = true)]
async fn one_answer_among_the_failures_is_enough() {
    let budget = budget_of(limits(1000.0, 100, 10));
    for _ in 0..5 {
        for _ in 0..9 {
            assert_eq!(failing(&budget).await, None);
        }
        acquire(&budget, REGISTRY, BACKGROUND).await.unwrap().accepted();
    }
    // A limit is an answer too.
    for _ in 0..9 {
        failing(&budget).await;
    }
    acquire(&budget, REGISTRY, BACKGROUND).await.unwrap().hold_back(Some(seconds(1)), true);
    assert_eq!(failing(&budget).await, None);
}

#[tokio::test(start_paused = true)]
async fn one_probe_at_a_time_and_no_burst_when_it_is_answered() {
    let budget = tripped().await;
    let start = Instant::now();
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let budget = budget.clone();
            tokio::spawn(async move {
                let permit = acquire(&budget, REGISTRY, BACKGROUND).await.unwrap();
                let went = start.elapsed();
                tokio::time::sleep(seconds(2)).await;
                permit.accepted();
                went
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(6_500)).await;
    assert_eq!((budget.snapshot().in_flight, budget.snapshot().waiting), (1, 4), "one probe");
    let mut times = Vec::new();
    for task in waiting {
        times.push(task.await.unwrap().as_millis());
    }
    for (time, expected) in times.iter().zip([5_000, 7_001, 7_002, 7_003, 7_004]) {
        assert!(time.abs_diff(expected) <= 3, "{times:?}");
    }
    assert_eq!(budget.snapshot().breaker, BreakerSnapshot::default());
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_given_up_makes_room_for_another() {
    let budget = tripped().await;
    tokio::time::sleep(seconds(6)).await;
    let probe = acquire(&budget, REGISTRY, BACKGROUND).await.unwrap();
    assert!(!is_ready(acquire(&budget, REGISTRY, BACKGROUND)).await);
    drop(probe);
    assert!(is_ready(acquire(&budget, REGISTRY, BACKGROUND)).await);
}

#[tokio::test(start_paused = true)]
async fn what_was_under_way_when_it_tripped_does_not_make_the_pause_longer() {
    let budget = budget_of(limits(1000.0, 100, 20));
    let mut permits = Vec::new();
    for _ in 0..20 {
        permits.push(acquire(&budget, REGISTRY, BACKGROUND).await.unwrap());
    }
    let pauses = permits.iter().filter_map(|permit| permit.failed(&failure(), 1.0));
    assert_eq!(pauses.collect::<Vec<_>>(), [seconds(5)]);
    assert_eq!(budget.blocked_for(REGISTRY), Some(seconds(5)));
}

#[tokio::test(start_paused = true)]
async fn tokens_and_blobs_from_elsewhere_are_no_business_of_it() {
    let budget = tripped().await;
    for kind in [RequestKind::Token, RequestKind::Cdn] {
        let permit = acquire(&budget, kind, BACKGROUND).await.unwrap();
        assert_eq!(permit.failed(&failure(), 1.0), None);
        assert!(!permit.accepted(), "it says nothing of the registry");
    }
    assert!(budget.snapshot().breaker.is_open);
}

async fn asked_about(budget: &Arc<Budget>, repository: &str) -> Permit {
    let (identity, repository) = (anonymous(), repository.parse().unwrap());
    let draw = Draw { repository: Some(&repository), ..draw(REGISTRY, BACKGROUND, &identity) };
    budget.acquire(&draw).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_repository_for_which_a_host_answers_with_errors_does_not_trip_it() {
    let [bad, fine] = ["registry.example/team/bad", "registry.example/team/fine"];
    let budget = budget_of(limits(1000.0, 100, 10));
    asked_about(&budget, fine).await.accepted();
    for _ in 0..30 {
        assert_eq!(asked_about(&budget, bad).await.failed(&failure(), 1.0), None);
    }
    assert_eq!(asked_about(&budget, fine).await.failed(&failure(), 1.0), Some(seconds(5)), "it is the host");

    // Where there is no answer at all, it is no matter about what.
    let budget = budget_of(limits(1000.0, 100, 10));
    asked_about(&budget, fine).await.accepted();
    let cut = ErrorKind::Transport { message: "connection reset".to_owned() };
    let mut pauses = Vec::new();
    for _ in 0..10 {
        pauses.push(asked_about(&budget, bad).await.failed(&cut, 1.0));
    }
    assert_eq!(pauses[9], Some(seconds(5)), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn the_only_repository_of_a_host_speaks_for_it() {
    let budget = budget_of(limits(1000.0, 100, 10));
    let mut pauses = Vec::new();
    for _ in 0..10 {
        pauses.push(asked_about(&budget, "registry.example/team/app").await.failed(&failure(), 1.0));
    }
    assert_eq!(pauses[9], Some(seconds(5)), "{pauses:?}");
}
