//! `samovar store stats`: what the store holds and how much room it takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::place::Place;
use super::progress::shown;
use super::store_failure;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputFormat};
use crate::store::{Client, Statistics};
use crate::upkeep::{self, Census, Kind, Progress, Tally};

/// The arguments of `samovar store stats`.
#[derive(Debug, Clone, Args)]
pub struct StatsArgs {
    /// Read every entry and count by kind; an embedded store is always counted
    #[arg(long)]
    pub detail: bool,
}

/// What is printed. What the store cannot tell is left out.
#[derive(Debug, Serialize)]
struct Stats {
    url: String,
    kind: &'static str,
    #[serde(flatten)]
    holds: Statistics,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Detail>,
}

#[derive(Debug, Serialize)]
struct Detail {
    repositories: u64,
    complete: u64,
    tags: u64,
    images: u64,
    record_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    record_bytes_per_tag: Option<f64>,
    document_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    document_bytes_per_tag: Option<f64>,
    kinds: BTreeMap<Kind, Tally>,
}

/// Asks the store what it knows of itself, and counts where that was asked for or costs little.
pub(super) async fn run(place: &Place, arguments: &StatsArgs, format: OutputFormat) -> Result<(), Failure> {
    let store = place.open_existing().await?;
    let progress = Progress::default();
    let counted = arguments.detail || store.kind() == "embedded";
    let stats = shown(&progress, "nothing was changed", async {
        let statistics = store.statistics().await.map_err(|error| store_failure(&error))?;
        let census = if counted {
            Some(upkeep::count(&*store, &progress).await.map_err(|error| store_failure(&error))?)
        } else {
            None
        };
        Ok(Stats::new(place, &store, statistics, census))
    });
    let stats = stats.await?;
    match format {
        OutputFormat::Table => output::data(&page(&stats)),
        OutputFormat::Json => output::json(&stats),
    }
}

impl Stats {
    fn new(place: &Place, store: &Arc<dyn Client>, statistics: Statistics, census: Option<Census>) -> Self {
        let detail = census.map(Detail::from);
        let (url, kind) = (place.shown(), store.kind());
        Self { url, kind, holds: statistics, detail }
    }
}

impl From<Census> for Detail {
    fn from(census: Census) -> Self {
        let (records, documents) = (census.records().bytes, census.documents().bytes);
        let per_tag = |bytes: u64| (census.tags > 0).then(|| bytes as f64 / census.tags as f64);
        Self {
            repositories: census.repositories,
            complete: census.complete,
            tags: census.tags,
            images: census.images,
            record_bytes: records,
            record_bytes_per_tag: per_tag(records),
            document_bytes: documents,
            document_bytes_per_tag: per_tag(documents),
            kinds: census.kinds,
        }
    }
}

fn page(stats: &Stats) -> String {
    let count = |number: Option<u64>| number.map(|number| HumanCount(number).to_string());
    let bytes = |number: Option<u64>| number.map(|number| HumanBytes(number).to_string());
    let known = [
        ("store", Some(format!("{} ({})", stats.url, stats.kind))),
        ("entries", count(stats.holds.entries)),
        ("stored", bytes(stats.holds.value_bytes)),
        ("used", bytes(stats.holds.used_bytes)),
        ("limit", bytes(stats.holds.limit_bytes)),
        ("evicted", count(stats.holds.evicted)),
    ];
    let mut rows: Vec<(&str, String)> =
        known.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let Some(detail) = &stats.detail else {
        return output::pairs(rows);
    };
    rows.extend([
        ("repositories", format!("{} ({} complete)", HumanCount(detail.repositories), detail.complete)),
        ("tags", format!("{} ({} with an image)", HumanCount(detail.tags), HumanCount(detail.images))),
        ("records", with_share(detail.record_bytes, detail.record_bytes_per_tag)),
        ("documents", with_share(detail.document_bytes, detail.document_bytes_per_tag)),
    ]);
    let kinds = detail.kinds.iter().map(|(kind, tally)| {
        [kind.plural().to_owned(), HumanCount(tally.entries).to_string(), HumanBytes(tally.bytes).to_string()]
    });
    format!("{}\n\n{}", output::pairs(rows), output::columns(["KIND", "ENTRIES", "BYTES"], kinds))
}

fn with_share(bytes: u64, per_tag: Option<f64>) -> String {
    let share = per_tag.map(|per_tag| format!(", {per_tag:.0} bytes a tag")).unwrap_or_default();
    format!("{}{share}", HumanBytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_what_is_known() {
        let detail = Detail {
            repositories: 2,
            complete: 1,
            tags: 1_000,
            images: 990,
            record_bytes: 123_000,
            record_bytes_per_tag: Some(123.0),
            document_bytes: 0,
            document_bytes_per_tag: None,
            kinds: [(Kind::Head, Tally { entries: 2, bytes: 2_048 })].into(),
        };
        let stats = Stats {
            url: "embedded:/var/lib/samovar/store".into(),
            kind: "embedded",
            holds: Statistics {
                entries: Some(1_234),
                used_bytes: Some(3 << 20),
                limit_bytes: Some(8 << 30),
                ..Statistics::default()
            },
            detail: Some(detail),
        };
        let expected = "\
store         embedded:/var/lib/samovar/store (embedded)
entries       1,234
used          3.00 MiB
limit         8.00 GiB
repositories  2 (1 complete)
tags          1,000 (990 with an image)
records       120.12 KiB, 123 bytes a tag
documents     0 B

KIND   ENTRIES  BYTES
heads  2        2.00 KiB";
        assert_eq!(page(&stats), expected);
    }
}
