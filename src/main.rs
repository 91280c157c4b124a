//! The `samovar` program: arguments → configuration → run.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use samovar::cli::{self, Cli, Command, Failure, LogFormat};
use samovar::config::process_environment;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How long the end waits for calls of the system that nothing can cut short: a file, or the resolver, may hang.
const LONGEST_END: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::failed(format!("cannot start: {error}")).report(),
    };
    let code = match runtime.block_on(run(&cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    };
    runtime.shutdown_timeout(LONGEST_END);
    code
}

async fn run(cli: &Cli) -> Result<(), Failure> {
    match &cli.command {
        Command::Serve(arguments) => {
            start_logging(cli.global.log_format, "info")?;
            cli::serve::run(arguments, &process_environment).await
        }
        Command::Warm(arguments) => {
            start_logging(cli.global.log_format, "error")?;
            cli::warm::run(arguments, &process_environment, cli.global.output).await
        }
        Command::CheckConfig(arguments) => {
            cli::check_config::run(arguments, &process_environment, cli.global.output)
        }
        Command::Token(arguments) => cli::token::run(arguments, cli.global.output),
        Command::Store(arguments) => {
            start_logging(cli.global.log_format, "warn")?;
            cli::store::run(arguments, &process_environment, cli.global.output).await
        }
        Command::Ask(question) => question.run(&cli.global).await,
    }
}

/// Says by itself what our own error says as well.
const TOLD_TWICE: &str = "rustls_platform_verifier=off";
/// Quotes what servers say, which may be a password sent back. What it has to say, our own errors say.
const NEVER_TOLD: &str = "redis=off";

/// The clouds' libraries quote what they send and receive, tokens included, at the levels below `info`: those are never told,
/// whatever the filter says.
fn may_be_told(metadata: &tracing::Metadata<'_>) -> bool {
    let is_of_cloud = ["aws_", "azure_", "typespec", "google_cloud"];
    let is_of_cloud = is_of_cloud.iter().any(|prefix| metadata.target().starts_with(prefix));
    !is_of_cloud || *metadata.level() <= LevelFilter::INFO
}

/// Logs go to standard error, at `level` unless `SAMOVAR_LOG` says otherwise.
fn start_logging(format: LogFormat, level: &str) -> Result<(), Failure> {
    let filter = process_environment("SAMOVAR_LOG").filter(|filter| !filter.is_empty());
    let filter = EnvFilter::builder()
        .parse(format!("{},{NEVER_TOLD}", filter.unwrap_or_else(|| format!("{level},{TOLD_TWICE}"))))
        .map_err(|error| Failure::usage(format!("SAMOVAR_LOG: {error}")))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let told = filter_fn(may_be_told);
    match format {
        LogFormat::Text => subscriber.with_ansi(std::io::stderr().is_terminal()).finish().with(told).init(),
        LogFormat::Json => subscriber.json().flatten_event(true).finish().with(told).init(),
    }
    Ok(())
}
