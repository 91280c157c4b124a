//! `samovar tags IMAGE`: every tag of a repository and what is known of it.

use clap::Args;
use samovar_registry::ImageInfo;

use super::answers::{RepositoryAnswer, UnavailableTag};
use super::client::{ServerClient, repository_argument};
use super::failure::Failure;
use super::output::{self, OutputFormat};

/// The arguments of `samovar tags`.
#[derive(Debug, Clone, Args)]
pub struct TagsArgs {
    /// The image repository, such as alpine or ghcr.io/team/app
    pub image: String,
}

/// Asks for the repository and prints its tags.
pub(super) async fn run(args: &TagsArgs, server: &ServerClient, format: OutputFormat) -> Result<(), Failure> {
    repository_argument(&args.image)?;
    let answer = server.get("repositories", Some(&args.image)).await?;
    super::not_fetched_if_accepted(&answer, &args.image)?;
    if format == OutputFormat::Json {
        return output::data(&answer.body);
    }
    let repository: RepositoryAnswer = answer.decode()?;
    output::data(&table(&repository))?;
    for remark in remarks(&repository) {
        output::note(&remark);
    }
    Ok(())
}

fn table(repository: &RepositoryAnswer) -> String {
    let rows = repository.tags.iter().map(|tag| {
        match (repository.images.get(tag), repository.unavailable.get(tag)) {
            (Some(image), _) => image_row(tag, image),
            (None, Some(unavailable)) => unavailable_row(tag, &described(unavailable)),
            (None, None) => unavailable_row(tag, "pending"),
        }
    });
    output::columns(["TAG", "DIGEST", "CREATED", "PLATFORMS", "STATE"], rows)
}

fn image_row(tag: &str, image: &ImageInfo) -> [String; 5] {
    let platforms = if image.platforms.is_empty() { "-".to_owned() } else { image.platforms.join(",") };
    [
        tag.to_owned(),
        output::short_digest(&image.digest),
        output::optional_time(image.created_at),
        platforms,
        "ok".to_owned(),
    ]
}

fn unavailable_row(tag: &str, state: &str) -> [String; 5] {
    [tag.to_owned(), "-".to_owned(), "-".to_owned(), "-".to_owned(), state.to_owned()]
}

/// The state, its reason, and what is done about it: `failed: timed out (3 attempts, next at …)`.
pub(super) fn described(tag: &UnavailableTag) -> String {
    let reason = tag.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let attempts = tag.attempts.filter(|&attempts| attempts > 0).map(|attempts| match attempts {
        1 => "1 attempt".to_owned(),
        _ => format!("{attempts} attempts"),
    });
    let next = tag.next_attempt.map(|at| format!("next at {}", output::time(at)));
    let details: Vec<String> = attempts.into_iter().chain(next).collect();
    let details = if details.is_empty() { String::new() } else { format!(" ({})", details.join(", ")) };
    format!("{}{reason}{details}", tag.state)
}

/// What a reader of the table should know besides.
fn remarks(repository: &RepositoryAnswer) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(error) = &repository.last_error {
        let (at, message) = (output::time(error.at), output::printable(&error.message));
        let age = repository.last_update.map(|update| format!("; this list is of {}", output::time(update)));
        remarks
            .push(format!("warning: the last refresh failed at {at}: {message}{}", age.unwrap_or_default()));
    }
    if !repository.complete {
        remarks.push(format!(
            "warning: {} is not complete yet: some tags are pending or failed, or the list was not read to its end",
            output::printable(&repository.name)
        ));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{
        "name": "docker.io/library/alpine",
        "tags": ["3.20", "3.21", "edge", "new", "old"],
        "images": {
            "3.20": {
                "id": "docker.io/library/alpine:3.20",
                "digest": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "media_type": "application/vnd.oci.image.index.v1+json",
                "created_at": "2026-11-20T06:51:00.5Z",
                "labels": {},
                "platforms": ["linux/amd64", "linux/arm64/v8"],
                "a_field_of_tomorrow": 1
            }
        },
        "unavailable": {
            "3.21": {"state": "failed", "reason": "timed out", "since": "2026-11-20T06:00:00Z", "attempts": 3,
                     "next_attempt": "2026-11-20T07:00:00Z"},
            "edge": {"state": "excluded", "reason": "no wanted\nplatform"},
            "new": {"state": "pending", "attempts": 0}
        },
        "complete": false,
        "generation": 17,
        "last_update": "2026-11-20T05:00:00Z",
        "last_error": {"message": "rate limited for 30s", "at": "2026-11-20T06:50:00Z"}
    }"#;

    #[test]
    fn every_tag_has_a_row_whatever_its_state() {
        let repository: RepositoryAnswer = serde_json::from_str(ANSWER).unwrap();
        let expected = "\
TAG   DIGEST               CREATED               PLATFORMS                   STATE
3.20  sha256:e3b0c44298fc  2026-11-20T06:51:00Z  linux/amd64,linux/arm64/v8  ok
3.21  -                    -                     -                           failed: timed out (3 attempts, next at 2026-11-20T07:00:00Z)
edge  -                    -                     -                           excluded: no wanted\\nplatform
new   -                    -                     -                           pending
old   -                    -                     -                           pending";
        assert_eq!(table(&repository), expected);
    }

    #[test]
    fn what_is_stale_or_incomplete_is_said() {
        let mut repository: RepositoryAnswer = serde_json::from_str(ANSWER).unwrap();
        let said = remarks(&repository);
        assert_eq!(
            said[0],
            "warning: the last refresh failed at 2026-11-20T06:50:00Z: rate limited for 30s; \
             this list is of 2026-11-20T05:00:00Z"
        );
        assert!(said[1].starts_with("warning: docker.io/library/alpine is not complete yet"), "{said:?}");
        repository.last_error = None;
        repository.complete = true;
        assert!(remarks(&repository).is_empty());
    }
}
