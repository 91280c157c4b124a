//! `samovar refresh IMAGE[:TAG]`: looks at the registry now rather than when it is due.

use std::ops::RangeInclusive;
use std::time::Duration;

use clap::Args;
use reqwest::StatusCode;

use super::answers::RepositoryAnswer;
use super::client::{ServerClient, reference_argument};
use super::failure::Failure;
use super::image;
use super::output::{self, OutputFormat};
use crate::config::{parse_duration, shown_duration};

/// How long a command may wait.
const WAITS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(1);

/// The arguments of `samovar refresh`.
#[derive(Debug, Clone, Args)]
pub struct RefreshArgs {
    /// The image repository, or one tag of it
    #[arg(value_name = "IMAGE[:TAG]")]
    pub image: String,

    /// Wait this long for the result; 0s only asks
    #[arg(long, value_name = "DURATION", env = "SAMOVAR_WAIT", default_value = "30s", value_parser = wait)]
    pub wait: Duration,
}

fn wait(text: &str) -> Result<Duration, String> {
    parse_duration(text, WAITS)
}

/// Asks for the refresh, waits for it and prints the fresh state.
pub(super) async fn run(
    args: &RefreshArgs,
    server: &ServerClient,
    format: OutputFormat,
) -> Result<(), Failure> {
    let reference = reference_argument(&args.image)?;
    if reference.digest().is_some() {
        return Err(Failure::usage(format!("{:?} names a digest, which never changes", args.image))
            .with_hint("refresh the repository or a tag"));
    }
    let answer = server.refresh(&args.image, args.wait).await?;
    if answer.status == StatusCode::ACCEPTED {
        return accepted(args);
    }
    if format == OutputFormat::Json {
        return output::data(&answer.body);
    }
    if reference.tag().is_some() {
        return output::data(&image::table(&answer.decode()?));
    }
    output::data(&summary(&answer.decode()?))
}

/// The refresh is under way. Whoever did not want to wait has what they asked for.
fn accepted(args: &RefreshArgs) -> Result<(), Failure> {
    if args.wait.is_zero() {
        output::note(&format!("{} will be refreshed", args.image));
        return Ok(());
    }
    let waited = shown_duration(args.wait);
    Err(Failure::not_found(format!("{} is not refreshed after {waited}, it goes on", args.image))
        .with_hint("wait longer with --wait, or look at `samovar status`"))
}

fn summary(repository: &RepositoryAnswer) -> String {
    let completeness = if repository.complete { "complete" } else { "not complete" };
    let last_error = repository.last_error.as_ref().map(|error| {
        format!(", last error at {}: {}", output::time(error.at), output::printable(&error.message))
    });
    format!(
        "{}: {} tags, {} images, {} unavailable, {completeness}{}",
        output::printable(&repository.name),
        repository.tags.len(),
        repository.images.len(),
        repository.unavailable.len(),
        last_error.unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::ExitStatus;

    fn arguments(wait: Duration) -> RefreshArgs {
        RefreshArgs { image: "alpine".into(), wait }
    }

    #[test]
    fn not_done_in_time_is_not_fetched_yet() {
        let failure = accepted(&arguments(Duration::from_secs(90))).unwrap_err();
        assert_eq!(failure.status, ExitStatus::NotFound);
        assert_eq!(failure.message, "alpine is not refreshed after 1m30s, it goes on");
        assert!(accepted(&arguments(Duration::ZERO)).is_ok());
    }

    #[test]
    fn the_summary_counts() {
        let repository: RepositoryAnswer = serde_json::from_str(
            r#"{"name": "docker.io/library/alpine", "tags": ["1", "2"], "images": {}, "complete": true,
                "unavailable": {"1": {"state": "pending"}, "2": {"state": "failed"}},
                "last_error": {"message": "not found", "at": "2026-11-20T06:50:00Z"}}"#,
        )
        .unwrap();
        assert_eq!(
            summary(&repository),
            "docker.io/library/alpine: 2 tags, 0 images, 2 unavailable, complete, \
             last error at 2026-11-20T06:50:00Z: not found"
        );
    }
}
