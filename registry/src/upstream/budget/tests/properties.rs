//! Whatever comes: never over rate and burst, never over the ceiling on concurrency, never over a quota.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::super::order::ONE_PERMIT_IN;
use super::week::{Hub, WINDOW, Windows};
use super::*;

/// One request: when it comes, how urgent it is, whether it is a pull, how long its answer takes.
#[derive(Debug, Clone)]
struct Coming {
    at: Duration,
    urgency: Urgency,
    is_pull: bool,
    way: Duration,
}

fn coming(longest: u64) -> impl Strategy<Value = Coming> {
    (0..longest, any::<bool>(), any::<bool>(), 0_u64..20_000).prop_map(|(at, is_asked, is_pull, way)| {
        Coming {
            at: Duration::from_millis(at),
            urgency: if is_asked { Urgency::Asked } else { BACKGROUND },
            is_pull,
            way: Duration::from_millis(way),
        }
    })
}

fn in_paused_time<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(test)
}

/// When each request went and ended.
async fn all_sent(budget: &Arc<Budget>, hub: &Arc<Hub>, coming: Vec<Coming>) -> Vec<(Instant, Instant)> {
    let mut tasks = JoinSet::new();
    for Coming { at, urgency, is_pull, way } in coming {
        let (budget, hub) = (budget.clone(), hub.clone());
        tasks.spawn(async move {
            tokio::time::sleep(at).await;
            let identity = anonymous();
            let draw = Draw { is_manifest_get: is_pull, ..draw(REGISTRY, urgency, &identity) };
            let permit = budget.acquire(&draw).await.ok()?;
            let went = Instant::now();
            hub.answer(&permit, is_pull, way).await;
            drop(permit);
            Some((went, Instant::now()))
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn never_over_rate_or_concurrency(
        rate in 0.5_f64..50.0,
        burst in 1_u32..10,
        concurrency in 1_usize..6,
        coming in proptest::collection::vec(coming(60_000), 1..80),
    ) {
        let mut sent = in_paused_time(async {
            let budget = budget_of(limits(rate, burst, concurrency));
            let hub = Hub::new(Windows::Sliding, 1_000_000);
            let count = coming.len();
            let sent = all_sent(&budget, &hub, coming).await;
            assert_eq!(sent.len(), count, "nothing is thrown away");
            assert_eq!((budget.snapshot().in_flight, budget.snapshot().waiting), (0, 0));
            sent
        });
        sent.sort();
        for (first, (from, _)) in sent.iter().enumerate() {
            for (count, (to, _)) in (1_u32..).zip(&sent[first..]) {
                let allowed = f64::from(burst) + (*to - *from).as_secs_f64() * rate;
                prop_assert!(f64::from(count) <= allowed + 1e-6, "{count} in {:?}", *to - *from);
            }
            let under_way = sent.iter().filter(|(went, ended)| went <= from && ended > from).count();
            prop_assert!(under_way <= concurrency);
        }
    }

    #[test]
    fn whatever_is_asked_for_nobody_else_waits_for_more_than_a_bounded_number_of_permits(
        background in proptest::collection::vec(0_u64..10_000, 1..6),
        asked in proptest::collection::vec(0_u64..40_000, 100..400),
        concurrency in 1_usize..4,
    ) {
        let went = in_paused_time(async {
            let budget = budget_of(limits(5.0, 1, concurrency));
            let (arrivals, went) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
            let mut tasks = JoinSet::new();
            let background = background.into_iter().map(|at| (at, BACKGROUND));
            for (at, urgency) in background.chain(asked.into_iter().map(|at| (at, Urgency::Asked))) {
                let (budget, arrivals, went) = (budget.clone(), arrivals.clone(), went.clone());
                tasks.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(at)).await;
                    let arrival = arrivals.fetch_add(1, Ordering::Relaxed);
                    let permit = acquire(&budget, REGISTRY, urgency).await.unwrap();
                    went.lock().unwrap().push((arrival, urgency));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    if arrival % 50 == 49 {
                        // Everybody has to be called again after a pause.
                        permit.hold_back(Some(Duration::from_millis(500)), true);
                    }
                    drop(permit);
                });
            }
            tasks.join_all().await;
            Arc::into_inner(went).unwrap().into_inner().unwrap()
        });
        let one_in = usize::try_from(ONE_PERMIT_IN).unwrap();
        for (position, (arrival, _)) in went.iter().enumerate().filter(|(_, (_, urgency))| *urgency == BACKGROUND) {
            let came_later = went[..position].iter().filter(|(other, _)| other > arrival).count();
            let came_before = went.iter().filter(|(other, urgency)| other < arrival && *urgency == BACKGROUND);
            let allowed = (came_before.count() + 1) * (one_in - 1);
            prop_assert!(came_later <= allowed, "{came_later} of {allowed} went before it");
        }
    }

    #[test]
    fn never_over_quota(
        limit in 1_u64..40,
        offset in 0_u64..WINDOW.as_secs(),
        slides in any::<bool>(),
        coming in proptest::collection::vec(coming(24 * 3_600_000), 1..200),
    ) {
        let windows = if slides { Windows::Sliding } else { Windows::Fixed { offset: seconds(offset) } };
        in_paused_time(async {
            let hub = Hub::new(windows, limit);
            let budget = Budget::new(terms(limits(50.0, 10, 10), Counting::ManifestGets));
            let pulls = coming.iter().filter(|coming| coming.is_pull).count();
            all_sent(&budget, &hub, coming).await;
            assert_eq!(hub.refused(), 0, "{:?}", hub.pulls());
            assert!(pulls == 0 || !hub.pulls().is_empty(), "it is made use of");
        });
    }
}
