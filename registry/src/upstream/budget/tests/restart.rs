//! What survives a restart.

use super::*;

const WINDOW: Duration = Duration::from_hours(6);

fn clock() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn quota(remaining: u64) -> Quota {
    Quota { limit: 100, remaining, window: Some(WINDOW), source: Some("192.0.2.7".into()) }
}

fn hub() -> Arc<Budget> {
    Budget::new(terms(limits(40.0, 10, 10), Counting::ManifestGets))
}

/// As it is written and read.
fn stored(record: &BudgetRecord) -> BudgetRecord {
    serde_json::from_slice(&serde_json::to_vec(record).unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn rate_pause_and_quota_survive() {
    let before = hub();
    let permit = acquire(&before, REGISTRY, BACKGROUND).await.unwrap();
    permit.note_quota(quota(60));
    permit.hold_back(Some(seconds(600)), true);
    drop(permit);
    let record = stored(&before.record(clock()));

    // A minute later, by the clock on the wall.
    let after = hub();
    after.restore(&record, clock() + seconds(60));
    let snapshot = after.snapshot();
    assert!((snapshot.rate - 20.0).abs() < 1e-9);
    assert_eq!(snapshot.blocked_for, Some(seconds(540)));
    let [kept] = &snapshot.quotas[..] else { panic!("{snapshot:?}") };
    assert_eq!((&kept.quota, kept.resets_in), (&quota(60), Some(WINDOW.saturating_sub(seconds(60)))));
    let times = departures(&after, 2).await;
    for (time, expected) in times.iter().zip([540_050, 540_100]) {
        assert!(time.abs_diff(expected) <= 3, "{times:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_over_is_over() {
    let before = hub();
    let permit = acquire(&before, REGISTRY, BACKGROUND).await.unwrap();
    permit.note_quota(quota(0));
    permit.hold_back(Some(seconds(600)), false);
    drop(permit);
    let after = hub();
    after.restore(&stored(&before.record(clock())), clock() + Duration::from_hours(7));
    let snapshot = after.snapshot();
    assert_eq!((snapshot.blocked_for, snapshot.quotas), (None, Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_knows_nothing_has_nothing_to_keep() {
    let budget = hub();
    assert!(budget.record(clock()).is_empty());
    acquire(&budget, REGISTRY, BACKGROUND).await.unwrap().accepted();
    assert!(budget.record(clock()).is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_more_cautious_counts() {
    let (one, other) = (hub(), hub());
    acquire(&one, REGISTRY, BACKGROUND).await.unwrap().note_quota(quota(30));
    let permit = acquire(&other, REGISTRY, BACKGROUND).await.unwrap();
    permit.note_quota(quota(50));
    permit.hold_back(Some(seconds(100)), true);
    let (of_one, of_other) = (one.record(clock()), other.record(clock()));
    one.restore(&of_other, clock());
    other.restore(&of_one, clock());
    for budget in [one, other] {
        let snapshot = budget.snapshot();
        assert_eq!(snapshot.quotas[0].quota.remaining, 30);
        assert_eq!(snapshot.blocked_for, Some(seconds(100)));
        assert!((snapshot.rate - 20.0).abs() < 1e-9);
    }
}

#[tokio::test(start_paused = true)]
async fn times_and_numbers_that_cannot_be_are_not_believed() {
    for wrong in [
        r#"{"blocked_until":"2027-01-01T00:00:00Z"}"#,
        r#"{"rate":1e999}"#,
        r#"{"rate":null}"#,
        r#"{"quotas":[{"identity":"a","limit":1,"remaining":0,"window_seconds":21600,"ends":"2028-01-01T00:00:00Z"}]}"#,
        r#"{"quotas":[{"identity":"a","limit":1,"remaining":0,"window_seconds":0,"ends":"2026-01-01T01:00:00Z"}]}"#,
    ] {
        let budget = hub();
        if let Ok(record) = serde_json::from_str(wrong) {
            budget.restore(&record, clock());
        }
        assert!(budget.record(clock()).is_empty(), "{wrong}");
    }
    let slow = hub();
    slow.restore(&serde_json::from_str(r#"{"rate":-5.0}"#).unwrap(), clock());
    assert!((slow.snapshot().rate - 0.1).abs() < 1e-9, "never below the floor");
}

#[tokio::test(start_paused = true)]
async fn no_more_identities_are_kept_than_the_bound() {
    let budget = hub();
    for number in 0..MOST_IDENTITIES {
        let identity = Identity::from(format!("user-{number}").as_str());
        budget.acquire(&draw(REGISTRY, BACKGROUND, &identity)).await.unwrap().note_quota(quota(50));
    }
    assert!(serde_json::to_vec(&budget.record(clock())).unwrap().len() < 8 * 1024);
    let after = hub();
    after.restore(&budget.record(clock()), clock());
    assert_eq!(after.snapshot().quotas.len(), 32);
}

#[tokio::test(start_paused = true)]
async fn what_counts_survives() {
    let elsewhere = || budget_of(limits(40.0, 10, 10));
    let before = elsewhere();
    acquire(&before, REGISTRY, BACKGROUND).await.unwrap().note_quota(quota(0));
    let after = elsewhere();
    after.restore(&stored(&before.record(clock())), clock());
    assert!(is_ready(acquire(&after, REGISTRY, BACKGROUND)).await, "lists and HEAD go on");
    let identity = anonymous();
    let pull = Draw { is_manifest_get: true, ..draw(REGISTRY, BACKGROUND, &identity) };
    assert!(matches!(after.acquire(&pull).await, Err(ErrorKind::QuotaShort { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_record_is_the_same_however_the_clocks_are_read() {
    let budget = hub();
    let permit = acquire(&budget, REGISTRY, BACKGROUND).await.unwrap();
    permit.note_quota(quota(60));
    permit.hold_back(Some(seconds(600)), false);
    drop(permit);
    let record = budget.record(clock());
    for nanoseconds in [-1_000, 0, 1_000] {
        let clock = clock() + jiff::SignedDuration::from_nanos(nanoseconds);
        assert_eq!(budget.record(clock), record);
        let after = hub();
        after.restore(&record, clock);
        assert_eq!(after.record(clock), record);
    }
}
