//! How the rate follows what a host says.

use super::*;

/// The host limits one request for so long, by the end of which everything else is over.
async fn limited(budget: &Arc<Budget>, pause: Duration) {
    let permit = acquire(budget, REGISTRY, BACKGROUND).await.unwrap();
    permit.hold_back(Some(pause), true);
    drop(permit);
    tokio::time::sleep(pause).await;
}

fn rate(budget: &Budget) -> f64 {
    budget.snapshot().rate
}

#[track_caller]
fn assert_rate(budget: &Budget, expected: f64) {
    assert!((rate(budget) - expected).abs() < 1e-9, "{} instead of {expected}", rate(budget));
}

/// Asks every second for so long, and is answered at once.
async fn asked_for(budget: &Arc<Budget>, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        acquire(budget, REGISTRY, BACKGROUND).await.unwrap().accepted();
        tokio::time::sleep_until(Instant::now() + seconds(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_recovery_curve() {
    let budget = budget_of(limits(40.0, 10, 10));
    limited(&budget, seconds(60)).await;
    assert_rate(&budget, 20.0);
    limited(&budget, seconds(60)).await;
    limited(&budget, seconds(60)).await;
    assert_rate(&budget, 5.0);
    // The end of the pause was now. Thirty clean seconds for each step.
    asked_for(&budget, seconds(29)).await;
    assert_rate(&budget, 5.0);
    let mut curve = Vec::new();
    for _ in 0..7 {
        asked_for(&budget, seconds(30)).await;
        curve.push(rate(&budget));
    }
    let expected = [7.5, 11.25, 16.875, 25.3125, 37.968_75, 40.0, 40.0];
    assert!(curve.iter().zip(expected).all(|(rate, expected)| (rate - expected).abs() < 1e-9), "{curve:?}");
    assert!((budget.snapshot().configured_rate - 40.0).abs() < 1e-9);
}

#[tokio::test(start_paused = true)]
async fn a_limit_within_the_cool_down_begins_it_anew() {
    let budget = budget_of(limits(40.0, 10, 10));
    limited(&budget, seconds(1)).await;
    asked_for(&budget, seconds(25)).await;
    limited(&budget, seconds(1)).await;
    asked_for(&budget, seconds(29)).await;
    assert_rate(&budget, 10.0);
    asked_for(&budget, seconds(2)).await;
    assert_rate(&budget, 15.0);
}

#[tokio::test(start_paused = true)]
async fn silence_is_no_sign_of_health() {
    let budget = budget_of(limits(40.0, 10, 10));
    limited(&budget, seconds(1)).await;
    tokio::time::sleep(seconds(3_600)).await;
    assert_rate(&budget, 20.0);
    acquire(&budget, REGISTRY, BACKGROUND).await.unwrap().accepted();
    assert_rate(&budget, 30.0);
}

#[tokio::test(start_paused = true)]
async fn requests_that_were_under_way_together_halve_the_rate_once() {
    let budget = budget_of(limits(1000.0, 10, 10));
    let mut permits = Vec::new();
    for _ in 0..5 {
        permits.push(acquire(&budget, REGISTRY, BACKGROUND).await.unwrap());
    }
    for permit in permits {
        permit.hold_back(Some(seconds(1)), true);
    }
    assert_rate(&budget, 500.0);
    let late = acquire(&budget, REGISTRY, BACKGROUND).await.unwrap();
    let later = acquire(&budget, REGISTRY, BACKGROUND).await.unwrap();
    late.hold_back(Some(seconds(1)), true);
    drop(late);
    acquire(&budget, REGISTRY, BACKGROUND).await.unwrap().accepted();
    // It was sent before the second limit.
    later.hold_back(Some(seconds(1)), true);
    assert_rate(&budget, 250.0);
}

#[tokio::test(start_paused = true)]
async fn the_rate_has_a_floor_unless_less_is_configured() {
    for (configured, floor) in [(50.0, 0.1), (0.02, 0.02)] {
        let budget = budget_of(limits(configured, 1, 1));
        for _ in 0..20 {
            limited(&budget, seconds(1)).await;
        }
        assert_rate(&budget, floor);
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_registrys_own_limits_make_it_slower() {
    let budget = budget_of(limits(40.0, 10, 10));
    for kind in [RequestKind::Token, RequestKind::Cdn] {
        acquire(&budget, kind, BACKGROUND).await.unwrap().hold_back(Some(seconds(1)), true);
    }
    // It is overloaded, which is not our doing.
    acquire(&budget, REGISTRY, BACKGROUND).await.unwrap().hold_back(Some(seconds(1)), false);
    assert_rate(&budget, 40.0);
}

#[tokio::test(start_paused = true)]
async fn nothing_bursts_while_the_rate_recovers() {
    let budget = budget_of(limits(40.0, 10, 10));
    limited(&budget, seconds(1)).await;
    tokio::time::sleep(seconds(10)).await;
    let times = departures(&budget, 3).await;
    for (time, expected) in times.iter().zip([0, 50, 100]) {
        assert!(time.abs_diff(expected) <= 3, "{times:?}");
    }
    // All in good time: it bursts again when it has recovered.
    for _ in 0..2 {
        tokio::time::sleep(seconds(31)).await;
        acquire(&budget, REGISTRY, BACKGROUND).await.unwrap().accepted();
    }
    assert_rate(&budget, 40.0);
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(departures(&budget, 10).await, [0; 10]);
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_any_length_is_obeyed_exactly() {
    for asked in [Duration::from_micros(23), seconds(1), seconds(60), seconds(3_600)] {
        let budget = budget_of(limits(40.0, 10, 10));
        let permit = acquire(&budget, REGISTRY, BACKGROUND).await.unwrap();
        let pause = permit.hold_back(Some(asked), true);
        assert_eq!(pause, asked.max(seconds(1)));
        drop(permit);
        let times = departures(&budget, 2).await;
        let end = pause.as_millis();
        assert!(times[0].abs_diff(end + 50) <= 3 && times[1].abs_diff(end + 100) <= 3, "{times:?}");
    }
}
