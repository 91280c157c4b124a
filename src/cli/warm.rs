//! `samovar warm IMAGE…`: fills the store once.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::time::Instant;

use super::assembly::Assembly;
use super::failure::Failure;
use super::output::{self, OutputFormat};
use super::sources;
use crate::config::{Config, Environment, SharedArgs};
use crate::metrics::Metrics;
use crate::store::Key;
use crate::warmer::{Handle, WarmedOnce};

/// How often the bar moves.
const BAR_EVERY: Duration = Duration::from_millis(100);
/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The arguments of `samovar warm`.
#[derive(Debug, Clone, Args)]
pub struct WarmArgs {
    /// The image repositories, or single tags of them
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,

    /// What `serve` has as well.
    #[command(flatten)]
    pub shared: SharedArgs,
}

/// What was done, in numbers.
#[derive(Debug, Serialize)]
struct Summary {
    repositories: usize,
    complete: usize,
    tags: usize,
    images: usize,
    unavailable: usize,
    requests: u64,
    bytes: u64,
    seconds: f64,
    problems: Vec<ProblemRow>,
}

#[derive(Debug, Serialize)]
struct ProblemRow {
    name: String,
    problem: String,
}

/// Warms, showing how far it is, and sums up at the end. Fails if a repository could not be read to the end.
pub async fn run(
    arguments: &WarmArgs,
    environment: Environment<'_>,
    format: OutputFormat,
) -> Result<(), Failure> {
    let config = Config::for_warm(&arguments.images, &arguments.shared, environment)?;
    let assembly = Assembly::new(&config).await?;
    let mut source = sources::configured(&config, &assembly);
    let Assembly { metrics, store, warmer, .. } = assembly;
    // Once, rather than for every repository.
    let any_key = Key::Lane("ready".to_owned());
    store.get(&any_key).await.map_err(|error| Failure::failed(format!("{}: {error}", config.store)))?;
    let handle = warmer.handle();
    let started = Instant::now();
    let showing = tokio::spawn(show_progress(handle, Arc::clone(&metrics), config.watch.len()));
    let warmed = tokio::select! {
        warmed = warmer.warm_once(source.watch_list().await) => warmed,
        _ = tokio::signal::ctrl_c() => return Err(Failure::failed("interrupted; what was learnt so far is stored")),
    };
    showing.abort();
    // Ended by the abort: the bar is gone before the summary is printed.
    let _ = showing.await;
    let summary = summary(&warmed, &metrics, started.elapsed());
    match format {
        OutputFormat::Json => {
            let json = serde_json::to_string(&summary).map_err(|error| Failure::failed(error.to_string()))?;
            output::data(&json)?;
        }
        OutputFormat::Table => output::data(&table(&summary))?,
    }
    if summary.problems.is_empty() {
        return Ok(());
    }
    let problems =
        summary.problems.iter().map(|row| format!("{}: {}", row.name, output::printable(&row.problem)));
    Err(Failure::failed(problems.collect::<Vec<_>>().join("\n       ")))
}

/// A bar on a terminal, lines elsewhere.
async fn show_progress(handle: Handle, metrics: Arc<Metrics>, repositories: usize) {
    let terminal = std::io::stderr().is_terminal();
    let bar = if terminal { ProgressBar::new(0) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} tags  {msg}  {eta} left") {
        bar.set_style(style);
    }
    let mut ticks = tokio::time::interval(if terminal { BAR_EVERY } else { LINE_EVERY });
    // The first tick is at once: there is nothing to tell yet.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let overview = handle.overview();
        let (listed, total, pending) = overview.values().filter(|repository| repository.listed).fold(
            (0, 0, 0),
            |(listed, total, pending), repository| {
                (listed + 1, total + repository.counts.total(), pending + repository.counts.pending)
            },
        );
        let (requests, bytes) = metrics.upstream_totals();
        let message =
            format!("{listed}/{repositories} repositories, {requests} requests, {}", HumanBytes(bytes));
        if terminal {
            bar.set_length(total as u64);
            bar.set_position((total - pending) as u64);
            bar.set_message(message);
        } else {
            output::note(&format!("{}/{total} tags, {message}", total - pending));
        }
    }
}

fn summary(warmed: &[WarmedOnce], metrics: &Metrics, took: Duration) -> Summary {
    let (requests, bytes) = metrics.upstream_totals();
    let sum = |count: fn(&WarmedOnce) -> usize| warmed.iter().map(count).sum();
    let mut problems: Vec<ProblemRow> = warmed
        .iter()
        .filter_map(|repository| {
            let problem = repository.problem.clone()?;
            Some(ProblemRow { name: repository.name.to_string(), problem })
        })
        .collect();
    problems.sort_by(|one, other| one.name.cmp(&other.name));
    Summary {
        repositories: warmed.len(),
        complete: sum(|repository| usize::from(repository.overview.complete)),
        tags: sum(|repository| repository.overview.counts.total()),
        images: sum(|repository| repository.overview.counts.ok),
        unavailable: sum(|repository| repository.overview.counts.total() - repository.overview.counts.ok),
        requests,
        bytes,
        seconds: took.as_secs_f64(),
        problems,
    }
}

fn table(summary: &Summary) -> String {
    output::pairs([
        ("repositories", format!("{} ({} complete)", summary.repositories, summary.complete)),
        ("tags", summary.tags.to_string()),
        ("images", format!("{} ({} tags unavailable)", summary.images, summary.unavailable)),
        ("requests", summary.requests.to_string()),
        ("received", HumanBytes(summary.bytes).to_string()),
        ("time", format!("{:.1}s", summary.seconds)),
    ])
}
