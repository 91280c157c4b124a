//! The command line: one file per command, and what they share.
//!
//! Data goes to standard output, everything else to standard error. The exit codes are 0 for success and those of
//! [`ExitStatus`]. The asking commands speak HTTP to a running server and know nothing of its store.

mod answers;
mod assembly;
pub mod check_config;
mod client;
mod events;
mod failure;
mod history;
mod host_settings;
mod image;
mod latest;
mod open_store;
pub mod output;
mod refresh;
pub mod serve;
mod sources;
mod status;
pub mod store;
mod tags;
#[cfg(test)]
mod tests;
pub mod token;
pub mod warm;

use clap::{Args, Parser, Subcommand, ValueEnum};
use reqwest::StatusCode;

pub use check_config::CheckConfigArgs;
pub use client::{Answer, ServerClient, ServerIdentity};
pub use events::EventsArgs;
pub use failure::{ExitStatus, Failure};
pub use history::HistoryArgs;
pub use image::ImageArgs;
pub use latest::LatestArgs;
pub use output::OutputFormat;
pub use refresh::RefreshArgs;
pub use store::StoreArgs;
pub use tags::TagsArgs;
pub use token::TokenArgs;
pub use warm::WarmArgs;

use std::path::PathBuf;

use samovar_registry::Secret;

use crate::config::{ServeArgs, process_environment};

/// The metadata of container images, kept warm.
#[derive(Debug, Clone, Parser)]
#[command(name = "samovar", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// What every command has.
    #[command(flatten)]
    pub global: GlobalArgs,
}

/// Where the help lists the flags of [`GlobalArgs`].
const HEADING: &str = "Options of every command";

/// The flags that every command has.
#[expect(clippy::doc_markdown, reason = "the text is the help that a terminal shows")]
#[derive(Debug, Clone, Args)]
pub struct GlobalArgs {
    /// The running server to ask
    #[arg(
        long,
        global = true,
        help_heading = HEADING,
        value_name = "URL",
        env = "SAMOVAR_SERVER",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8080"
    )]
    pub server: String,

    /// Send the token in this file to the server [default: $SAMOVAR_TOKEN] [env: SAMOVAR_TOKEN_FILE]
    #[arg(
        long,
        global = true,
        help_heading = HEADING,
        value_name = "FILE",
        env = "SAMOVAR_TOKEN_FILE",
        hide_env = true
    )]
    pub token_file: Option<PathBuf>,

    /// Trust the authorities in this file too when the server is asked over TLS [env: SAMOVAR_CA_FILE]
    #[arg(
        long,
        global = true,
        help_heading = HEADING,
        value_name = "FILE",
        env = "SAMOVAR_CA_FILE",
        hide_env = true
    )]
    pub ca_file: Option<PathBuf>,

    /// How to print data
    #[arg(
        long,
        global = true,
        help_heading = HEADING,
        value_enum,
        value_name = "FORMAT",
        env = "SAMOVAR_OUTPUT",
        default_value = "table"
    )]
    pub output: OutputFormat,

    /// How to write logs, to standard error; SAMOVAR_LOG says which
    #[arg(
        long,
        global = true,
        help_heading = HEADING,
        value_enum,
        value_name = "FORMAT",
        env = "SAMOVAR_LOG_FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// An object a line.
    Json,
}

/// The commands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Keep image repositories warm and answer questions about them
    Serve(Box<ServeArgs>),
    /// Fill the store once, without a server
    Warm(Box<WarmArgs>),
    /// Say whether a configuration file is valid, and what it means
    CheckConfig(CheckConfigArgs),
    /// Make a token, and the entry by which a server knows it
    Token(TokenArgs),
    /// Look after the store itself, without a server
    Store(StoreArgs),
    /// What asks a running server.
    #[command(flatten)]
    Ask(Question),
}

/// The commands that ask a running server.
#[derive(Debug, Clone, Subcommand)]
pub enum Question {
    /// List the tags of an image repository
    Tags(TagsArgs),
    /// Show what is known of one image
    Image(ImageArgs),
    /// Choose the best tags of an image repository
    Latest(Box<LatestArgs>),
    /// Tell what happened to an image repository or one of its tags
    History(HistoryArgs),
    /// Tell what changes, as it changes
    Events(EventsArgs),
    /// Look at the registry now
    Refresh(RefreshArgs),
    /// Show how the server and the registries behind it are doing
    Status,
}

impl Question {
    /// Asks the server and prints the answer.
    pub async fn run(&self, global: &GlobalArgs) -> Result<(), Failure> {
        let identity = ServerIdentity { token: token(global)?, ca_file: global.ca_file.clone() };
        let server = ServerClient::with(&global.server, &identity)?;
        let format = global.output;
        match self {
            Self::Tags(args) => tags::run(args, &server, format).await,
            Self::Image(args) => image::run(args, &server, format).await,
            Self::Latest(args) => latest::run(args, &server, format).await,
            Self::History(args) => history::run(args, &server, format).await,
            Self::Events(args) => events::run(args, &server, format).await,
            Self::Refresh(args) => refresh::run(args, &server, format).await,
            Self::Status => status::run(&server, format).await,
        }
    }
}

/// What the server is to know us by.
fn token(global: &GlobalArgs) -> Result<Option<Secret>, Failure> {
    let text = match &global.token_file {
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            Failure::usage(format!("cannot read the token in {}: {error}", path.display()))
        })?,
        None => match process_environment("SAMOVAR_TOKEN") {
            Some(text) => text,
            None => return Ok(None),
        },
    };
    let token = text.trim();
    if global.token_file.is_some() && token.is_empty() {
        return Err(Failure::usage("the file of the token is empty"));
    }
    Ok((!token.is_empty()).then(|| Secret::new(token)))
}

/// Where the server covers a name on demand, it accepts the question and has no answer yet.
fn not_fetched_if_accepted(answer: &Answer, image: &str) -> Result<(), Failure> {
    if answer.status != StatusCode::ACCEPTED {
        return Ok(());
    }
    Err(Failure::not_found(format!("{image} is not fetched yet, the server has begun"))
        .with_hint(format!("ask again soon, or wait for it: `samovar refresh {image}`")))
}
