//! What is simulated: how much of everything, five registries with what is wrong with each, and when replicas stop.

use std::time::Duration;

use super::law::{Limits, Quota};
use super::life::{Life, NewRepository};
use super::registry::{Outage, Registry, Traits, Trouble};

pub(crate) const MINUTE: Duration = Duration::from_mins(1);
pub(crate) const HOUR: Duration = Duration::from_hours(1);
pub(crate) const DAY: Duration = Duration::from_hours(24);

/// The registries that always answer, in some way.
pub(crate) const HEALTHY: [&str; 3] = ["docker.io", "plain.example", "limiting.example"];

/// How much is simulated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) days: u32,
    pub(crate) repositories: usize,
    pub(crate) tags: usize,
    /// Whether the registries that fail and hang are there.
    pub(crate) with_sick: bool,
    /// Whether how often half of the repositories are listed is learnt; else all are every five minutes.
    pub(crate) learns: bool,
}

/// What happens to replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Another replica starts, beside the one that works.
    Joins,
    /// The one that has been there for longest is killed.
    IsKilled,
    /// All stop, as they do when they are told to.
    AllStop,
    /// One starts.
    Starts,
}

impl Scenario {
    pub(crate) fn length(&self) -> Duration {
        DAY * self.days
    }

    /// The registries as they are at the beginning, and what will become of them.
    pub(crate) fn world(&self) -> (Vec<Registry>, Life) {
        let mut registries = Vec::new();
        let mut life = Life::default();
        for (number, (traits, share)) in all_traits().into_iter().enumerate() {
            if !self.with_sick && !HEALTHY.contains(&traits.host) {
                continue;
            }
            let mut registry = Registry::new(traits, self.seed.wrapping_add(number as u64));
            registry.outages = self.outages(registry.traits.host);
            registries.push(registry);
            let last = registries.len() - 1;
            self.fill(&mut registries, &mut life, last, number, share);
        }
        (registries, life)
    }

    /// Repositories of which few are large and many are small.
    fn fill(&self, registries: &mut [Registry], life: &mut Life, host: usize, number: usize, share: f64) {
        const SMALLEST: usize = 5;
        const LARGEST: usize = 5_000;
        let repositories = (self.repositories / 5).max(1);
        let tags = real(self.tags) * share;
        let whole: f64 = (1..=repositories).map(|rank| 1.0 / real(rank)).sum();
        for rank in 1..=repositories {
            let part = tags / (real(rank) * whole);
            let repository = NewRepository {
                path: &format!("team{}/app{rank}", number + 1),
                tags: rounded(part).clamp(SMALLEST, LARGEST),
                identity: (number * 10_000 + rank) as u64,
                seed: self.seed,
            };
            life.add(registries, host, &repository);
        }
    }

    fn outages(&self, host: &str) -> Vec<Outage> {
        let mut random = fastrand::Rng::with_seed(self.seed ^ 0x5eed);
        match host {
            // A day of refusals, from the second day on.
            "limiting.example" if self.days >= 3 => {
                vec![Outage { from: DAY, to: 2 * DAY, trouble: Trouble::Refuses }]
            }
            "hanging.example" => {
                let mut outages = Vec::new();
                let mut from = 4 * HOUR;
                while from < self.length() {
                    let to = from + MINUTE * random.u32(10..=8 * 60);
                    outages.push(Outage { from, to, trouble: Trouble::Hangs });
                    from = to + HOUR * random.u32(6..=36);
                }
                outages
            }
            _ => Vec::new(),
        }
    }

    /// What happens to replicas when.
    pub(crate) fn turns(&self) -> Vec<(Duration, Turn)> {
        let mut random = fastrand::Rng::with_seed(self.seed ^ 0x7e91);
        let mut turns = vec![(Duration::ZERO, Turn::Starts)];
        let mut at = HOUR * random.u32(10..=20) + MINUTE * random.u32(0..60);
        for number in 0.. {
            if at + DAY / 2 > self.length() {
                break;
            }
            if number % 3 == 1 {
                let down =
                    *random.choice(&[Duration::from_secs(3), 10 * MINUTE, 3 * HOUR]).unwrap_or(&MINUTE);
                turns.push((at, Turn::AllStop));
                turns.push((at + down, Turn::Starts));
            } else {
                turns.push((at, Turn::Joins));
                turns.push((at + 20 * MINUTE, Turn::IsKilled));
            }
            at += HOUR * random.u32(20..=40) + Duration::from_secs(random.u64(0..3_600));
        }
        turns
    }
}

/// The registries, each with its share of all tags.
fn all_traits() -> Vec<(Traits, f64)> {
    let usual = Traits {
        host: "plain.example",
        address: "plain.example",
        token_address: None,
        blob_address: None,
        limits: Limits { rate: 50.0, burst: 10.0, concurrency: 10 },
        quota: None,
        bears: None,
        validates: true,
        fails: 0.0,
        latency: (20, 80),
    };
    let hub = Traits {
        host: "docker.io",
        address: "registry-1.docker.io",
        token_address: Some("auth.docker.io"),
        blob_address: Some("blobs.docker.io"),
        limits: Limits { rate: 10.0, burst: 10.0, concurrency: 6 },
        quota: Some(Quota { limit: 100, window: 6 * HOUR }),
        validates: false,
        ..usual.clone()
    };
    let limiting = Traits {
        host: "limiting.example",
        address: "limiting.example",
        bears: Some((10.0, 20.0)),
        validates: false,
        ..usual.clone()
    };
    let failing = Traits {
        host: "failing.example",
        address: "failing.example",
        token_address: Some("token.failing.example"),
        fails: 0.05,
        ..usual.clone()
    };
    let hanging =
        Traits { host: "hanging.example", address: "hanging.example", latency: (100, 400), ..usual.clone() };
    vec![(hub, 0.015), (usual, 0.4), (limiting, 0.2), (failing, 0.2), (hanging, 0.185)]
}

fn real(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of tags")]
fn rounded(number: f64) -> usize {
    number.round() as usize
}
