//! `samovar store export FILE`: everything in the store, in one file.

use std::path::PathBuf;

use clap::Args;
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::place::Place;
use super::progress::shown;
use super::transfer_failure;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputFormat};
use crate::upkeep::{self, Exported, Progress};

/// The arguments of `samovar store export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// The file to write
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Replace the file where it exists
    #[arg(long)]
    pub force: bool,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Summary {
    url: String,
    file: String,
    entries: u64,
    bytes: u64,
    left_out: u64,
    torn: u64,
    unchecked: u64,
}

/// Exports and prints how much there was. Fails, with the file in its place, where repositories are not whole in it.
pub(super) async fn run(place: &Place, arguments: &ExportArgs, format: OutputFormat) -> Result<(), Failure> {
    let store = place.open_existing().await?;
    let progress = Progress::default();
    let exported = shown(&progress, "no file was written", async {
        let exported = upkeep::export(&*store, &arguments.file, arguments.force, &progress).await;
        exported.map_err(|error| transfer_failure(&error))
    });
    let exported = exported.await?;
    let summary = Summary {
        url: place.shown(),
        file: arguments.file.display().to_string(),
        entries: exported.entries,
        bytes: exported.bytes,
        left_out: exported.left_out,
        torn: exported.torn,
        unchecked: exported.unchecked,
    };
    match format {
        OutputFormat::Table => output::data(&page(&summary))?,
        OutputFormat::Json => output::json(&summary)?,
    }
    let Exported { torn, unchecked, .. } = exported;
    if torn == 0 && unchecked == 0 {
        return Ok(());
    }
    let not_checked =
        if unchecked > 0 { format!(", and {unchecked} were not checked") } else { String::new() };
    let failure =
        Failure::failed(format!("the file was written, but {torn} repositories are torn{not_checked}"));
    Err(failure
        .with_hint("an import leaves torn repositories out; let a server mend the store, and export again"))
}

fn page(summary: &Summary) -> String {
    let mut rows = vec![
        ("store", summary.url.clone()),
        ("file", summary.file.clone()),
        ("entries", HumanCount(summary.entries).to_string()),
        ("size", HumanBytes(summary.bytes).to_string()),
    ];
    if summary.left_out > 0 {
        rows.push(("left out", format!("{} too large to be samovar's", HumanCount(summary.left_out))));
    }
    if summary.torn > 0 {
        rows.push(("torn", format!("{} repositories of which not all is there", HumanCount(summary.torn))));
    }
    output::pairs(rows)
}
