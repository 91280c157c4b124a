//! `samovar history IMAGE`: what happened to a repository, or to one of its tags.

use clap::Args;
use samovar_registry::Digest;

use super::answers::{EventAnswer, HistoryAnswer};
use super::client::{ServerClient, reference_argument};
use super::failure::Failure;
use super::output::{self, OutputFormat};

/// The arguments of `samovar history`.
#[derive(Debug, Clone, Args)]
pub struct HistoryArgs {
    /// The image repository, or one tag of it, such as alpine or alpine:3.20
    pub image: String,

    /// Only what was seen from this time on (2026-11-20T06:51:00Z), or what came after the change of this id
    #[arg(long, value_name = "TIME|ID")]
    pub since: Option<String>,
}

/// Asks for the history and prints it, the latest last.
pub(super) async fn run(
    args: &HistoryArgs,
    server: &ServerClient,
    format: OutputFormat,
) -> Result<(), Failure> {
    let (name, tag) = repository_and_tag(&args.image)?;
    let query = [("tag", tag), ("since", args.since.as_deref())];
    let query: Vec<(&str, &str)> =
        query.into_iter().filter_map(|(parameter, value)| Some((parameter, value?))).collect();
    let answer = server.get_with("history", Some(name), &query).await?;
    super::not_fetched_if_accepted(&answer, &args.image)?;
    if format == OutputFormat::Json {
        return output::data(&answer.body);
    }
    let history: HistoryAnswer = answer.decode()?;
    output::data(&table(&history.events))?;
    if history.events.is_empty() {
        output::note("nothing has changed that is still remembered");
    }
    Ok(())
}

/// What was typed, apart: the server knows what stands for the name, also where it is an alias.
fn repository_and_tag(image: &str) -> Result<(&str, Option<&str>), Failure> {
    let reference = reference_argument(image)?;
    if reference.digest().is_some() {
        return Err(Failure::usage(format!("{image:?} names a digest, to which nothing ever happens"))
            .with_hint("name a repository, or a tag of it"));
    }
    let split = image.rsplit_once(':').filter(|_| reference.tag().is_some());
    Ok(split.map_or((image, None), |(name, tag)| (name, Some(tag))))
}

fn table(events: &[EventAnswer]) -> String {
    let rows = events.iter().map(|event| {
        let shown = |digest: Option<&Digest>| digest.map_or_else(|| "-".to_owned(), output::short_digest);
        [
            output::time(event.at),
            event.kind.clone(),
            event.tag.clone().unwrap_or_else(|| "-".to_owned()),
            shown(event.old.as_ref()),
            shown(event.new.as_ref()),
            event.cause.clone(),
        ]
    });
    output::columns(["SEEN", "CHANGE", "TAG", "OLD", "NEW", "CAUSE"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_has_a_row_the_latest_last() {
        let answer: HistoryAnswer = serde_json::from_str(
            r#"{"events": [
                {"id": "17.0", "type": "tag.moved", "tag": "3.20",
                 "old": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                 "new": "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
                 "at": "2026-11-20T06:51:00.5Z", "cause": "poll"},
                {"id": "18.1", "type": "repository.failed", "at": "2026-11-20T07:00:00Z", "cause": "webhook",
                 "a_field_of_tomorrow": 1}
            ]}"#,
        )
        .unwrap();
        let expected = "\
SEEN                  CHANGE             TAG   OLD                  NEW                  CAUSE
2026-11-20T06:51:00Z  tag.moved          3.20  sha256:e3b0c44298fc  sha256:2c26b46b68ff  poll
2026-11-20T07:00:00Z  repository.failed  -     -                    -                    webhook";
        assert_eq!(table(&answer.events), expected);
    }

    #[test]
    fn a_tag_is_told_from_a_port() {
        for (typed, apart) in [
            ("alpine", ("alpine", None)),
            ("alpine:3.20", ("alpine", Some("3.20"))),
            ("registry.example:5000/app", ("registry.example:5000/app", None)),
            ("registry.example:5000/app:1.0", ("registry.example:5000/app", Some("1.0"))),
        ] {
            assert_eq!(repository_and_tag(typed).unwrap(), apart);
        }
        let digest = format!("alpine@sha256:{}", "0".repeat(64));
        assert!(repository_and_tag(&digest).is_err());
        assert!(repository_and_tag("no image").is_err());
    }
}
