//! Weeks at Docker Hub: a model of how it counts, and a budget that never asks it for more.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

pub(super) const LIMIT: u64 = 100;
pub(super) const WINDOW: Duration = Duration::from_hours(6);
const REPOSITORIES: u64 = 300;
/// From a request to its being counted, and from there to the answer.
const WAY: Duration = Duration::from_millis(40);

/// How the windows of a quota follow one another.
#[derive(Debug, Clone, Copy)]
pub(super) enum Windows {
    /// All begin at multiples of their length, this long after midnight.
    Fixed { offset: Duration },
    /// Each pull counts for the length of the window.
    Sliding,
}

/// Docker Hub, as one identity meets it.
#[derive(Debug)]
pub(super) struct Hub {
    windows: Windows,
    limit: u64,
    began: Instant,
    pulls: Mutex<Vec<Instant>>,
    refused: AtomicUsize,
}

impl Hub {
    pub(super) fn new(windows: Windows, limit: u64) -> Arc<Self> {
        // Long enough ago that there is a window before the first.
        let began = Instant::now();
        Arc::new(Self { windows, limit, began, pulls: Mutex::default(), refused: AtomicUsize::new(0) })
    }

    pub(super) fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn pulls(&self) -> Vec<Instant> {
        self.pulls.lock().unwrap().clone()
    }

    fn remaining(&self, pulls: &[Instant], now: Instant) -> u64 {
        let counted = match self.windows {
            Windows::Sliding => pulls.iter().rev().take_while(|at| now - **at < WINDOW).count(),
            Windows::Fixed { offset } => {
                let number = |at: Instant| {
                    (at - self.began + WINDOW).saturating_sub(offset).as_secs() / WINDOW.as_secs()
                };
                pulls.iter().rev().take_while(|at| number(**at) == number(now)).count()
            }
        };
        self.limit.saturating_sub(counted as u64)
    }

    /// Answers one request, as far as it concerns the quota.
    pub(super) async fn answer(&self, permit: &Permit, is_pull: bool, way: Duration) {
        tokio::time::sleep(way).await;
        let remaining = {
            let (mut pulls, now) = (self.pulls.lock().unwrap(), Instant::now());
            if is_pull && self.remaining(&pulls, now) == 0 {
                self.refused.fetch_add(1, Ordering::Relaxed);
            } else if is_pull {
                pulls.push(now);
            }
            self.remaining(&pulls, now)
        };
        tokio::time::sleep(way).await;
        permit.note_quota(Quota { limit: self.limit, remaining, window: Some(WINDOW), source: None });
        permit.accepted();
    }

    /// Pulls, coming back whenever it is told to.
    async fn pulled(&self, budget: &Arc<Budget>, urgency: Urgency) {
        loop {
            match self.pull_once(budget, urgency).await {
                None => return,
                Some(retry_after) => tokio::time::sleep(retry_after).await,
            }
        }
    }

    async fn pull_once(&self, budget: &Arc<Budget>, urgency: Urgency) -> Option<Duration> {
        let identity = anonymous();
        let draw =
            Draw { kind: REGISTRY, urgency, identity: &identity, repository: None, is_manifest_get: true };
        match budget.acquire(&draw).await {
            Ok(permit) => {
                if urgency == BACKGROUND {
                    let left = self.remaining(&self.pulls(), Instant::now());
                    assert!(left > LIMIT / 10, "the reserve is kept: {left}");
                }
                self.answer(&permit, true, WAY).await;
                None
            }
            Err(error) => Some(error.retry_after().expect("only the quota is short")),
        }
    }

    async fn looked(&self, budget: &Arc<Budget>) {
        let permit = acquire(budget, REGISTRY, BACKGROUND).await.unwrap();
        self.answer(&permit, false, WAY).await;
    }
}

/// A repository: looked at twice an hour, with a new tag every nine hours, which is three times what the quota allows.
async fn repository(hub: Arc<Hub>, budget: Arc<Budget>, number: u64) {
    tokio::time::sleep(seconds(number * 6)).await;
    for round in number.. {
        hub.looked(&budget).await;
        if round % 18 == 0 {
            hub.pulled(&budget, BACKGROUND).await;
        }
        tokio::time::sleep(seconds(1_800)).await;
    }
}

async fn a_week_at(windows: Windows) {
    let hub = Hub::new(windows, LIMIT);
    let terms = terms(Limits::default().for_host("docker.io"), Counting::ManifestGets);
    let budget = Budget::new(terms);
    let mut tasks = JoinSet::new();
    for number in 0..REPOSITORIES {
        tasks.spawn(repository(hub.clone(), budget.clone(), number));
    }
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    // Somebody asks every 40 minutes: 9 times in each window.
    while start.elapsed() < Duration::from_hours(24 * 7) {
        tokio::time::sleep(seconds(2_400)).await;
        let asked = Instant::now();
        assert_eq!(hub.pull_once(&budget, Urgency::Asked).await, None, "after {:?}", start.elapsed());
        slowest = slowest.max(asked.elapsed());
    }
    tasks.shutdown().await;
    assert_eq!(hub.refused(), 0, "never a request over quota");
    assert!(slowest < seconds(15), "whoever asks is not kept waiting: {slowest:?}");
    let pulls = hub.pulls().len();
    assert!((1_300..=2_800).contains(&pulls), "{pulls} pulls in 28 windows of 100: it is made use of");
}

#[tokio::test(start_paused = true)]
async fn a_week_with_windows_that_slide() {
    a_week_at(Windows::Sliding).await;
}

#[tokio::test(start_paused = true)]
async fn a_week_with_windows_that_begin_at_their_own_times() {
    a_week_at(Windows::Fixed { offset: seconds(7_000) }).await;
}
