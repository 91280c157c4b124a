//! `samovar store …`: what operators do to the store itself, without a server.

mod compact;
mod export;
mod import;
mod place;
mod progress;
mod stats;
#[cfg(test)]
mod tests;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub use export::ExportArgs;
pub use import::ImportArgs;
pub use stats::StatsArgs;

use self::place::Place;
use super::failure::Failure;
use super::output::OutputFormat;
use crate::config::{Config, Environment};
use crate::store::StoreError;
use crate::upkeep::TransferError;

/// The arguments of `samovar store`.
#[expect(clippy::doc_markdown, reason = "the text is the help that a terminal shows")]
#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: StoreCommand,

    /// Read settings from this TOML file; flags and variables come first [env: SAMOVAR_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The store, as `serve` takes it [default: embedded, in the state or data directory] [env: SAMOVAR_STORE]
    #[arg(long, global = true, value_name = "URL")]
    pub store: Option<String>,
}

/// What can be done to a store.
#[derive(Debug, Clone, Subcommand)]
pub enum StoreCommand {
    /// Show what the store holds and how much room it takes
    Stats(StatsArgs),
    /// Check that everything in the store is what it should be; changes nothing
    Verify,
    /// Give room that an embedded store no longer needs back to the disk
    Compact,
    /// Write everything in the store into a file
    Export(ExportArgs),
    /// Bring what a file holds into the store; what is newer there stays
    Import(ImportArgs),
}

/// Runs the command. A server that has an embedded store open must be stopped first.
pub async fn run(
    arguments: &StoreArgs,
    environment: Environment<'_>,
    format: OutputFormat,
) -> Result<(), Failure> {
    let config = Config::for_store(arguments.store.as_deref(), arguments.config.as_deref(), environment)?;
    let place = Place::new(config)?;
    match &arguments.command {
        StoreCommand::Stats(arguments) => stats::run(&place, arguments, format).await,
        StoreCommand::Verify => verify::run(&place, format).await,
        StoreCommand::Compact => compact::run(&place, format).await,
        StoreCommand::Export(arguments) => export::run(&place, arguments, format).await,
        StoreCommand::Import(arguments) => import::run(&place, arguments, format).await,
    }
}

/// A failure of the store, with what to do about it.
fn store_failure(error: &StoreError) -> Failure {
    let failure = Failure::failed(error.to_string());
    match error {
        StoreError::Locked { .. } => failure.with_hint("stop the server, or ask it (`samovar status`)"),
        StoreError::Full { .. } => failure.with_hint("raise --store-limit, or choose a store with more room"),
        _ => failure,
    }
}

fn transfer_failure(error: &TransferError) -> Failure {
    match error {
        TransferError::Store(error) => store_failure(error),
        TransferError::Exists { .. } => {
            Failure::failed(error.to_string()).with_hint("choose another name, or replace it with --force")
        }
        TransferError::Changed { .. } => {
            let failure = Failure::failed(error.to_string());
            failure.with_hint("what is in the store is whole; import again when nobody writes to the file")
        }
        TransferError::NoFile { .. } | TransferError::Read { .. } | TransferError::Write { .. } => {
            Failure::failed(error.to_string())
        }
    }
}
