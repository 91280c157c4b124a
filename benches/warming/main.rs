//! What warming costs: seconds to warm up cold, against a registry that takes 50 ms for every answer; CPU time for each
//! 1,000 tags; memory.
//!
//! `cargo bench --bench warming` prints the tables of the README, in about half an hour; with `-- TEXT` only the rows whose
//! name contains that text (`memory`, `cpu`, `no limit`, `1 × 5000`). The registry is a process of its own, so that only
//! the warmer is measured; it and the store, in memory where not said otherwise, start empty for each row.

#![allow(clippy::print_stdout, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

#[path = "../common/mod.rs"]
mod common;
mod process;
mod registry;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::print_table;
use futures_util::stream::{self, BoxStream, StreamExt};
use process::{cpu_time, forget_peak, peak_resident, resident};
use registry::{Latency, RegistryProcess, Shape};
use samovar::metrics::Metrics;
use samovar::sources::{ImageSource, PollInterval, Watch, WatchList};
use samovar::store::{Client, Embedded, Memory};
use samovar::warmer::{Handle, Warmer, WarmerOptions};
use samovar_registry::upstream::{HttpOptions, HttpUpstreams, Limits, RequestObserver, RequestRecord};
use samovar_registry::{Clock, Name, SystemClock};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long the registry takes for an answer where that is not the question.
const LATENCY: Duration = Duration::from_millis(50);
/// Rates and bursts that limit nothing.
const NO_LIMIT: Limits = Limits { rate: 100_000.0, burst: 100_000, concurrency: 125 };
/// So often a quiet list is read in a row.
const QUIET_POLLS: u64 = 20;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if arguments.next().as_deref() == Some("--registry") {
        return runtime.block_on(registry::serve(arguments));
    }
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    runtime.block_on(async {
        if "cpu".contains(&filter) {
            cpu_for_1000_tags().await;
        }
        if "memory".contains(&filter) {
            memory().await;
        }
        time_to_warm_up(&filter).await;
    });
}

/// Counts requests.
#[derive(Debug, Default)]
struct Requests(AtomicU64);

impl RequestObserver for Requests {
    fn request(&self, _: &RequestRecord<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A list that never changes.
#[derive(Debug)]
struct Fixed(WatchList);

impl ImageSource for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn watch_lists(&mut self) -> BoxStream<'_, WatchList> {
        stream::once(std::future::ready(self.0.clone())).chain(stream::pending()).boxed()
    }
}

/// One samovar without doors, beside its registry.
struct Bench {
    registry: RegistryProcess,
    requests: Arc<Requests>,
    handle: Handle,
    names: Vec<Name>,
    tags: usize,
    running: tokio::task::JoinHandle<()>,
    shutdown: CancellationToken,
}

impl Bench {
    /// Starts to warm everything.
    fn start(shape: Shape, latency: Latency, limits: Limits, poll: PollInterval) -> Self {
        Self::start_over(Arc::new(Memory::default()), shape, latency, limits, poll)
    }

    fn start_over(
        store: Arc<dyn Client>,
        shape: Shape,
        latency: Latency,
        limits: Limits,
        poll: PollInterval,
    ) -> Self {
        let registry = RegistryProcess::start(shape, latency);
        let names = registry.names();
        let (warmer, requests) = warmer(store, &registry, limits, poll);
        let handle = warmer.handle();
        let shutdown = CancellationToken::new();
        let source = Fixed(watching(&names));
        let running = tokio::spawn(warmer.run(vec![Box::new(source)], shutdown.clone()));
        Self { registry, requests, handle, names, tags: shape.repositories * shape.tags, running, shutdown }
    }

    /// Waits until every repository is complete.
    async fn complete(&self) {
        let mut publications = self.handle.publications();
        let is_complete = || {
            let overview = self.handle.overview();
            self.names.iter().all(|name| overview.get(name).is_some_and(|known| known.complete))
        };
        while !is_complete() {
            // Lagging behind is no harm: it is looked at again.
            drop(tokio::time::timeout(Duration::from_secs(1), publications.recv()).await);
        }
    }

    async fn refresh_all(&self) {
        let tickets: Vec<_> =
            self.names.iter().map(|name| self.handle.refresh(name, None).expect("there is room")).collect();
        for ticket in tickets {
            ticket.done().await.expect("it is refreshed");
        }
    }

    fn requests(&self) -> u64 {
        self.requests.0.load(Ordering::Relaxed)
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.expect("it ends");
        drop(self.registry);
    }
}

fn watching(names: &[Name]) -> WatchList {
    WatchList(names.iter().map(|name| (name.clone(), Watch::default())).collect())
}

fn warmer(
    store: Arc<dyn Client>,
    registry: &RegistryProcess,
    limits: Limits,
    poll: PollInterval,
) -> (Warmer, Arc<Requests>) {
    let requests = Arc::new(Requests::default());
    let options =
        HttpOptions { limits, insecure_hosts: [registry.host().to_owned()].into(), ..HttpOptions::default() };
    let upstreams = HttpUpstreams::new(options, Arc::new(SystemClock), requests.clone()).expect("it is made");
    let usual = WarmerOptions::default();
    let fetches_per_repository = limits.concurrency.max(usual.fetches_per_repository);
    let options = WarmerOptions { poll_interval: poll, seed: Some(1), fetches_per_repository, ..usual };
    let metrics = Arc::new(Metrics::new());
    (Warmer::new(store, Arc::new(upstreams), Arc::new(SystemClock), metrics, options), requests)
}

/// One repository after another, each as fast as it goes.
async fn one_after_another(shape: Shape, limits: Limits) -> Duration {
    let registry = RegistryProcess::start(shape, Latency::Each(LATENCY));
    let names = registry.names();
    let began = Instant::now();
    for name in names {
        let (single, _) = warmer(Arc::new(Memory::default()), &registry, limits, PollInterval::default());
        let warmed = single.warm_once(watching(&[name])).await;
        assert!(warmed.iter().all(|repository| repository.problem.is_none()), "{warmed:?}");
    }
    began.elapsed()
}

async fn time_to_warm_up(filter: &str) {
    let shapes =
        [(20, 50), (100, 100), (1, 5000), (100, 2)].map(|(repositories, tags)| Shape { repositories, tags });
    let limits = [
        ("no limit, 125 at once", NO_LIMIT),
        ("no limit, 10 at once", Limits { concurrency: 10, ..NO_LIMIT }),
        ("200 a second, 125 at once", Limits { rate: 200.0, burst: 10, concurrency: 125 }),
        ("50 a second", Limits { rate: 50.0, ..Limits::default() }),
    ];
    let mut rows = Vec::new();
    for shape in shapes {
        for (name, limits) in limits {
            let shape_name = format!("{} × {}", shape.repositories, shape.tags);
            if !format!("{shape_name}, {name}").contains(filter) {
                continue;
            }
            let began = Instant::now();
            let bench = Bench::start(shape, Latency::Each(LATENCY), limits, PollInterval::default());
            bench.complete().await;
            let took = began.elapsed().as_secs_f64();
            let requests = bench.requests() as f64;
            bench.stop().await;
            // A single repository is its own turn.
            let in_turn = match shape.repositories {
                1 => None,
                _ => Some(one_after_another(shape, limits).await.as_secs_f64()),
            };
            let by_rate = requests / limits.rate + 4.0 * LATENCY.as_secs_f64();
            let by_latency = requests * LATENCY.as_secs_f64() / limits.concurrency as f64;
            let ideal = by_rate.max(by_latency);
            rows.push(vec![
                shape_name,
                name.to_owned(),
                format!("{requests}"),
                format!("{took:.1}"),
                format!("{:.2}", took / ideal),
                in_turn.map_or_else(|| "–".to_owned(), |in_turn| format!("{:.1}", in_turn / took)),
            ]);
        }
    }
    if rows.is_empty() {
        return;
    }
    println!("\nCold, {} ms for every answer:\n", LATENCY.as_millis());
    print_table(
        &["repositories × tags", "limit", "requests", "seconds", "of the ideal", "times as fast as in turn"],
        &rows,
    );
}

async fn cpu_for_1000_tags() {
    let shapes = [(20, 50), (100, 100), (1, 5000)].map(|(repositories, tags)| Shape { repositories, tags });
    let mut rows = Vec::new();
    for shape in shapes {
        rows.push(cpu_for_1000_tags_of(shape).await);
    }
    println!("\nCPU time for 1,000 tags:\n");
    print_table(
        &["repositories × tags", "nothing due, one poll", "every tag confirmed by HEAD", "cold"],
        &rows,
    );
}

async fn cpu_for_1000_tags_of(shape: Shape) -> Vec<String> {
    let often = PollInterval::fixed(Duration::from_secs(1));
    let bench = Bench::start(shape, Latency::None, NO_LIMIT, often);
    let thousands = bench.tags as f64 / 1000.0;
    let began = cpu_time();
    bench.complete().await;
    let cold = cpu_time().saturating_sub(began).as_secs_f64() / thousands;

    // What the first poll reads anew is not what a quiet one costs.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (quiet_from, began) = (bench.requests(), cpu_time());
    while bench.requests() - quiet_from < QUIET_POLLS * shape.repositories as u64 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let polls = (bench.requests() - quiet_from) as f64 / shape.repositories as f64;
    let quiet = cpu_time().saturating_sub(began).as_secs_f64() / thousands / polls;

    let began = cpu_time();
    bench.refresh_all().await;
    let confirmed = cpu_time().saturating_sub(began).as_secs_f64() / thousands;
    bench.stop().await;
    let milliseconds = |seconds: f64| format!("{:.1} ms", seconds * 1000.0);
    vec![
        format!("{} × {}", shape.repositories, shape.tags),
        milliseconds(quiet),
        milliseconds(confirmed),
        milliseconds(cold),
    ]
}

async fn memory() {
    let shape = Shape { repositories: 1, tags: 50_000 };
    let directory = tempfile::tempdir().expect("a directory");
    let store = Embedded::open(&directory.path().join("store"), SystemClock.now()).expect("it opens");
    let before = resident();
    forget_peak();
    let bench = Bench::start_over(Arc::new(store), shape, Latency::None, NO_LIMIT, PollInterval::default());
    bench.complete().await;
    let (peak, after) = (peak_resident(), resident());
    bench.stop().await;
    let mebibytes = |bytes: u64| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
    println!(
        "\nMemory while one repository of 50,000 tags is warmed into an embedded store, beyond the idle process:\n"
    );
    print_table(
        &["idle", "at most, beyond idle", "afterwards, beyond idle"],
        &[vec![
            mebibytes(before),
            mebibytes(peak.saturating_sub(before)),
            mebibytes(after.saturating_sub(before)),
        ]],
    );
}
