//! `samovar latest IMAGE`: the best tags of a repository by a policy.

use clap::{ArgGroup, Args};

use super::answers::{LatestAnswer, LatestTag};
use super::client::{ServerClient, repository_argument};
use super::failure::Failure;
use super::output::{self, OutputFormat};
use super::tags::described;

/// Tags that are said to be left out, or to be missing; more are counted.
const MOST_NAMED: usize = 5;

/// The arguments of `samovar latest`. The server reads their values, as it does those of `GET /api/v1/latest`.
#[expect(clippy::doc_markdown, reason = "the text is the help that a terminal shows")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("order").required(true))]
pub struct LatestArgs {
    /// The image repository, such as alpine or ghcr.io/team/app
    pub image: String,

    /// The highest version in a range, such as ^1.2, ~1.2.3, 1.x or ">=1.0 <2.0"
    #[arg(long, value_name = "RANGE", group = "order")]
    pub semver: Option<String>,

    /// The last tag in alphabetical order (asc), or the first (desc)
    #[arg(long, value_name = "asc|desc", group = "order")]
    pub alphabetical: Option<String>,

    /// The greatest number (asc), or the least (desc)
    #[arg(long, value_name = "asc|desc", group = "order")]
    pub numerical: Option<String>,

    /// The newest by when the image was built, the tag was pushed, or first seen
    #[arg(long, value_name = "created|pushed|first_seen", group = "order")]
    pub newest: Option<String>,

    /// With --semver: only versions as SemVer defines them, without a v before them
    #[arg(long, requires = "semver")]
    pub strict: bool,

    /// With --semver: no versions that leave parts open, such as 1.2
    #[arg(long, requires = "semver")]
    pub no_partial: bool,

    /// With --semver: pre-releases too, also where the range names none
    #[arg(long, requires = "semver")]
    pub prerelease: bool,

    /// Only tags in which this regular expression matches; may be given several times
    #[arg(long, value_name = "REGEX", allow_hyphen_values = true)]
    pub filter: Vec<String>,

    /// No tags in which this regular expression matches; may be given several times
    #[arg(long, value_name = "REGEX", allow_hyphen_values = true)]
    pub exclude: Vec<String>,

    /// What of a tag is compared, by the groups of the first filter, such as $1 or ${name}
    #[arg(long, value_name = "TEMPLATE", requires = "filter")]
    pub extract: Option<String>,

    /// Only images that offer this platform, such as linux/arm64; may be given several times
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Vec<String>,

    /// Only images with this label: key, key=value, key!=value or !key; may be given several times
    #[arg(long, value_name = "SELECTOR")]
    pub label: Vec<String>,

    /// Only images that have been there for so long, such as 7d
    #[arg(long, value_name = "DURATION")]
    pub min_age: Option<String>,

    /// What the age is counted from: first_seen (unless given), pushed or created
    #[arg(long, value_name = "TIME", requires = "min_age")]
    pub min_age_by: Option<String>,

    /// How many of the best tags
    #[arg(long, value_name = "N")]
    pub limit: Option<String>,

    /// Give no answer that could change when more is known
    #[arg(long)]
    pub require_complete: bool,
}

impl LatestArgs {
    /// As the server takes them.
    fn parameters(&self) -> Vec<(&'static str, &str)> {
        let one = [
            ("semver", &self.semver),
            ("alphabetical", &self.alphabetical),
            ("numerical", &self.numerical),
            ("newest", &self.newest),
            ("extract", &self.extract),
            ("min_age", &self.min_age),
            ("min_age_by", &self.min_age_by),
            ("limit", &self.limit),
        ];
        let several = [
            ("filter", &self.filter),
            ("exclude", &self.exclude),
            ("platform", &self.platform),
            ("label", &self.label),
        ];
        let flags = [
            ("strict", self.strict, "true"),
            ("partial", self.no_partial, "false"),
            ("prerelease", self.prerelease, "true"),
            ("require_complete", self.require_complete, "true"),
        ];
        let one = one.into_iter().filter_map(|(parameter, value)| Some((parameter, value.as_deref()?)));
        let several = several
            .into_iter()
            .flat_map(|(parameter, values)| values.iter().map(move |value| (parameter, value.as_str())));
        let flags = flags.into_iter().filter(|(_, is_set, _)| *is_set);
        let flags = flags.map(|(parameter, _, value)| (parameter, value));
        one.chain(several).chain(flags).collect()
    }
}

/// Asks for the best tags and prints them, the very best first.
pub(super) async fn run(
    args: &LatestArgs,
    server: &ServerClient,
    format: OutputFormat,
) -> Result<(), Failure> {
    repository_argument(&args.image)?;
    let answer = server.get_with("latest", Some(&args.image), &args.parameters()).await?;
    super::not_fetched_if_accepted(&answer, &args.image)?;
    let latest: LatestAnswer = answer.decode()?;
    if latest.tags.is_empty() {
        return Err(none(&latest));
    }
    if format == OutputFormat::Json {
        return output::data(&answer.body);
    }
    output::data(&table(&latest.tags))?;
    for remark in remarks(&latest) {
        output::note(&remark);
    }
    Ok(())
}

fn table(tags: &[LatestTag]) -> String {
    let rows = tags.iter().map(|tag| {
        let platforms = if tag.platforms.is_empty() { "-".to_owned() } else { tag.platforms.join(",") };
        [
            tag.tag.clone(),
            tag.digest.as_ref().map_or_else(|| "-".to_owned(), output::short_digest),
            output::optional_time(tag.created_at),
            platforms,
            tag.unavailable.as_ref().map_or_else(|| "ok".to_owned(), described),
        ]
    });
    output::columns(["TAG", "DIGEST", "CREATED", "PLATFORMS", "STATE"], rows)
}

/// What a reader of the table should know besides.
fn remarks(latest: &LatestAnswer) -> Vec<String> {
    let incomplete = (!latest.complete).then(|| {
        "warning: the answer may be another one when more is known; --require-complete refuses such an answer".to_owned()
    });
    incomplete.into_iter().chain(left_out(latest).map(|left_out| format!("left out: {left_out}"))).collect()
}

fn none(latest: &LatestAnswer) -> Failure {
    let failure = Failure::not_found(format!("no tag of {} fits", latest.name));
    match left_out(latest) {
        Some(left_out) => failure.with_hint(format!("left out: {left_out}")),
        None => failure.with_hint(format!("all its tags: `samovar tags {}`", latest.name)),
    }
}

/// Some of the tags that were left out with why, and how many there are besides.
fn left_out(latest: &LatestAnswer) -> Option<String> {
    let LatestAnswer { left_out, left_out_more, .. } = latest;
    if left_out.is_empty() {
        return None;
    }
    let shown =
        left_out.iter().take(MOST_NAMED).map(|(tag, why)| format!("{tag} ({})", output::printable(why)));
    let shown: Vec<String> = shown.collect();
    match left_out.len() - shown.len() + left_out_more {
        0 => Some(shown.join(", ")),
        more => Some(format!("{} and {more} more", shown.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> LatestAnswer {
        serde_json::from_str(
            r#"{
                "name": "ghcr.io/team/app", "matched": 3, "complete": false,
                "tags": [
                    {"tag": "1.3.0", "id": "ghcr.io/team/app:1.3.0",
                     "unavailable": {"state": "failed", "reason": "timed out", "since": "2026-11-20T06:51:00Z", "attempts": 3}},
                    {"tag": "1.2.0", "id": "ghcr.io/team/app:1.2.0", "labels": {}, "media_type": "x",
                     "digest": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                     "created_at": "2026-11-20T06:51:00.5Z", "platforms": ["linux/amd64", "linux/arm64"]}
                ],
                "left_out": {"1.4.0": "too-young: until 2026-11-21T00:00:00Z"},
                "left_out_more": 2
            }"#,
        )
        .unwrap()
    }

    #[test]
    fn the_best_stand_first_with_what_is_known_of_them() {
        let expected = "\
TAG    DIGEST               CREATED               PLATFORMS                STATE
1.3.0  -                    -                     -                        failed: timed out (3 attempts)
1.2.0  sha256:e3b0c44298fc  2026-11-20T06:51:00Z  linux/amd64,linux/arm64  ok";
        assert_eq!(table(&answer().tags), expected);
        let remarks = remarks(&answer());
        assert!(remarks[0].starts_with("warning: the answer may be another one"), "{remarks:?}");
        assert_eq!(remarks[1], "left out: 1.4.0 (too-young: until 2026-11-21T00:00:00Z) and 2 more");
    }

    #[test]
    fn where_nothing_fits_it_says_why() {
        let failure = none(&answer());
        assert_eq!((failure.status.code(), failure.message.as_str()), (3, "no tag of ghcr.io/team/app fits"));
        assert!(failure.hints[0].starts_with("left out: 1.4.0 (too-young"), "{failure:?}");
        let nothing = LatestAnswer { left_out: [].into(), ..answer() };
        assert_eq!(none(&nothing).hints, ["all its tags: `samovar tags ghcr.io/team/app`"]);
    }
}
