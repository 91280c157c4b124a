//! `samovar store compact`: gives room that an embedded store no longer needs back to the disk.

use indicatif::HumanBytes;
use serde::Serialize;

use super::place::Place;
use super::progress::shown;
use super::store_failure;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputFormat};
use crate::upkeep::Progress;

/// What is printed.
#[derive(Debug, Serialize)]
struct Compacted {
    url: String,
    before_bytes: u64,
    after_bytes: u64,
}

/// Compacts and prints how large the file was and is. Only an embedded store has a file of its own.
pub(super) async fn run(place: &Place, format: OutputFormat) -> Result<(), Failure> {
    let Some(store) = place.open_embedded()? else {
        let failure = Failure::usage(format!("{} looks after its own room", place.shown()));
        return Err(failure.with_hint("only an embedded store is compacted by samovar"));
    };
    let progress = Progress::default();
    let interrupted = "the store is as it was, or compacted";
    let compaction =
        shown(&progress, interrupted, async { store.compact().await.map_err(|error| store_failure(&error)) });
    let compaction = compaction.await?;
    let compacted =
        Compacted { url: place.shown(), before_bytes: compaction.before, after_bytes: compaction.after };
    match format {
        OutputFormat::Table => output::data(&page(&compacted)),
        OutputFormat::Json => output::json(&compacted),
    }
}

fn page(compacted: &Compacted) -> String {
    output::pairs([
        ("store", compacted.url.clone()),
        ("before", HumanBytes(compacted.before_bytes).to_string()),
        ("after", HumanBytes(compacted.after_bytes).to_string()),
    ])
}
