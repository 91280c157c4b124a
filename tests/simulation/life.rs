//! What happens in the registries while nobody looks: releases, floating tags that follow them, nightly builds, deletions.
//! Every repository has random numbers of its own, so that its life does not depend on which others there are.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::images::Image;
use super::registry::Registry;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// What goes on in a repository by itself.
#[derive(Debug, Clone, Copy)]
enum Process {
    /// A new version comes, and the floating tags follow it.
    Releases { mean: Duration },
    /// A tag is built anew.
    Builds { tag: &'static str, mean: Duration },
    /// The oldest version goes.
    Deletions { mean: Duration },
    /// A version is built anew under the same name.
    Mistakes { mean: Duration },
}

impl Process {
    fn mean(self) -> Duration {
        match self {
            Self::Releases { mean }
            | Self::Builds { mean, .. }
            | Self::Deletions { mean }
            | Self::Mistakes { mean } => mean,
        }
    }
}

#[derive(Debug)]
struct Repository {
    host: usize,
    path: String,
    random: fastrand::Rng,
    next_image: u64,
    next_version: usize,
    versions: VecDeque<String>,
}

/// A repository that is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewRepository<'a> {
    pub(crate) path: &'a str,
    pub(crate) tags: usize,
    pub(crate) identity: u64,
    pub(crate) seed: u64,
}

/// The lives of all repositories.
#[derive(Debug, Default)]
pub(crate) struct Life {
    repositories: Vec<Repository>,
    coming: BTreeMap<(Duration, u64), (usize, Process)>,
    events: u64,
}

impl Life {
    /// A repository with so many tags, in the `host`th registry; its contents and its life follow from the seed and its
    /// identity, which no other has.
    pub(crate) fn add(&mut self, registries: &mut [Registry], host: usize, repository: &NewRepository<'_>) {
        let NewRepository { path, tags, identity, seed } = *repository;
        let number = self.repositories.len();
        let mut repository = Repository {
            host,
            path: path.to_owned(),
            random: fastrand::Rng::with_seed(seed ^ identity.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            // Far enough from those of all others.
            next_image: (identity + 1) << 24,
            next_version: 0,
            versions: VecDeque::new(),
        };
        let registry = &mut registries[host];
        let floating: &[&str] = if tags >= 8 { &["latest", "main", "nightly"] } else { &["latest"] };
        for _ in floating.len()..tags {
            repository.release(registry, Duration::ZERO, false);
        }
        for tag in floating {
            repository.build(registry, Duration::ZERO, tag);
        }
        let processes: &[Process] = match repository.random.u8(0..10) {
            // Most repositories are at rest.
            0..6 => &[],
            6..8 => &[
                Process::Releases { mean: Duration::from_hours(48) },
                Process::Mistakes { mean: Duration::from_hours(24 * 14) },
            ],
            8 => &[
                Process::Releases { mean: DAY },
                Process::Builds { tag: "nightly", mean: DAY },
                Process::Deletions { mean: Duration::from_hours(48) },
            ],
            _ => &[
                Process::Releases { mean: Duration::from_hours(6) },
                Process::Builds { tag: "main", mean: HOUR },
                Process::Deletions { mean: Duration::from_hours(12) },
            ],
        };
        self.repositories.push(repository);
        for process in processes {
            self.plan(Duration::ZERO, number, *process);
        }
    }

    fn plan(&mut self, now: Duration, number: usize, process: Process) {
        let random = &mut self.repositories[number].random;
        // As long between two as in a Poisson process.
        let wait = process.mean().mul_f64(-(1.0 - random.f64()).ln());
        self.events += 1;
        self.coming.insert((now + wait + Duration::from_secs(1), self.events), (number, process));
    }

    /// When something happens next.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.coming.first_key_value().map(|((at, _), _)| *at)
    }

    /// Lets happen what has come.
    pub(crate) fn live(&mut self, now: Duration, registries: &mut [Registry]) {
        while let Some(entry) = self.coming.first_entry().filter(|entry| entry.key().0 <= now) {
            let (number, process) = entry.remove();
            let repository = &mut self.repositories[number];
            let registry = &mut registries[repository.host];
            match process {
                Process::Releases { .. } => repository.release(registry, now, true),
                Process::Builds { tag, .. } => repository.build(registry, now, tag),
                Process::Deletions { .. } => repository.delete_oldest(registry, now),
                Process::Mistakes { .. } => {
                    let chosen = repository.random.usize(..repository.versions.len().max(1));
                    if let Some(version) = repository.versions.get(chosen).cloned() {
                        repository.build(registry, now, &version);
                    }
                }
            }
            self.plan(now, number, process);
        }
    }
}

impl Repository {
    fn image(&mut self) -> Image {
        self.next_image += 1;
        Image(self.next_image)
    }

    fn release(&mut self, registry: &mut Registry, now: Duration, moves_latest: bool) {
        let number = self.next_version;
        self.next_version += 1;
        let version = format!("{}.{}.{}", number / 100, number / 10 % 10, number % 10);
        let image = self.image();
        registry.set(now, &self.path, &version, Some(image));
        self.versions.push_back(version);
        if moves_latest {
            registry.set(now, &self.path, "latest", Some(image));
        }
    }

    fn build(&mut self, registry: &mut Registry, now: Duration, tag: &str) {
        let image = self.image();
        registry.set(now, &self.path, tag, Some(image));
    }

    fn delete_oldest(&mut self, registry: &mut Registry, now: Duration) {
        // Never so many that it would be taken for a mistake of the registry's.
        if self.versions.len() > 8
            && let Some(version) = self.versions.pop_front()
        {
            registry.set(now, &self.path, &version, None);
        }
    }
}
