//! `samovar store import FILE`: brings what was exported into the store.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::place::Place;
use super::progress::shown;
use super::transfer_failure;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputFormat};
use crate::store::ArchiveSummary;
use crate::upkeep::{self, Imported, Precedence, Progress, WholeArchive};

/// The arguments of `samovar store import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// A file that `samovar store export` wrote
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Take the file's repositories even where the store knows newer
    #[arg(long)]
    pub force: bool,
}

/// What is printed. The counts from `written` on, `repositories` aside, sum up to `entries`.
#[derive(Debug, Serialize)]
struct Summary {
    url: String,
    file: String,
    entries: u64,
    bytes: u64,
    repositories: u64,
    written: u64,
    unchanged: u64,
    kept: u64,
    not_understood: u64,
    torn: u64,
}

/// Checks the file, then imports it and prints what came of its entries. A file that is not whole changes nothing.
pub(super) async fn run(place: &Place, arguments: &ImportArgs, format: OutputFormat) -> Result<(), Failure> {
    let progress = Arc::new(Progress::default());
    let precedence = if arguments.force { Precedence::File } else { Precedence::Newer };
    let interrupted = "what is in the store is whole; import again to bring in the rest";
    let (summary, imported) = shown(&progress, interrupted, async {
        let archive = WholeArchive::open(&arguments.file, &progress).await;
        let archive = archive.map_err(|error| transfer_failure(&error))?;
        let store = place.open_or_begin().await?;
        let imported = upkeep::import(&*store, &archive, precedence, &progress).await;
        Ok((archive.summary(), imported.map_err(|error| transfer_failure(&error))?))
    })
    .await?;
    let summary = Summary::new(place, arguments, summary, imported);
    match format {
        OutputFormat::Table => output::data(&page(&summary)),
        OutputFormat::Json => output::json(&summary),
    }
}

impl Summary {
    fn new(place: &Place, arguments: &ImportArgs, archive: ArchiveSummary, imported: Imported) -> Self {
        Self {
            url: place.shown(),
            file: arguments.file.display().to_string(),
            entries: archive.entries,
            bytes: archive.bytes,
            repositories: imported.repositories,
            written: imported.written,
            unchanged: imported.unchanged,
            kept: imported.kept,
            not_understood: imported.not_understood,
            torn: imported.torn,
        }
    }
}

fn page(summary: &Summary) -> String {
    let count = |number: u64| HumanCount(number).to_string();
    let mut rows = vec![
        ("store", summary.url.clone()),
        (
            "file",
            format!("{} ({} entries, {})", summary.file, count(summary.entries), HumanBytes(summary.bytes)),
        ),
        (
            "written",
            format!("{} entries, {} repositories", count(summary.written), count(summary.repositories)),
        ),
        ("unchanged", count(summary.unchanged)),
        ("kept", format!("{} that are newer in the store", count(summary.kept))),
    ];
    if summary.not_understood > 0 {
        rows.push(("left out", format!("{} that this version does not know", count(summary.not_understood))));
    }
    if summary.torn > 0 {
        rows.push(("torn", format!("{} of repositories of which not all is there", count(summary.torn))));
    }
    output::pairs(rows)
}
