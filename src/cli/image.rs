//! `samovar image IMAGE`: everything known of one image.

use clap::Args;
use samovar_registry::ImageInfo;

use super::client::{ServerClient, reference_argument};
use super::failure::Failure;
use super::output::{self, OutputFormat};

/// The arguments of `samovar image`.
#[derive(Debug, Clone, Args)]
pub struct ImageArgs {
    /// The image by tag or by digest, such as alpine:3.20
    pub image: String,
}

/// Asks for the image and prints what is known of it.
pub(super) async fn run(
    args: &ImageArgs,
    server: &ServerClient,
    format: OutputFormat,
) -> Result<(), Failure> {
    let reference = reference_argument(&args.image)?;
    if reference.tag().is_none() && reference.digest().is_none() {
        let image = &args.image;
        return Err(Failure::usage(format!("{image:?} names a repository, an image was expected"))
            .with_hint(format!("write a tag or a digest, `samovar image {image}:latest`"))
            .with_hint(format!("for all its tags: `samovar tags {image}`")));
    }
    let answer = server.get("images", Some(&args.image)).await?;
    super::not_fetched_if_accepted(&answer, &args.image)?;
    if format == OutputFormat::Json {
        return output::data(&answer.body);
    }
    output::data(&table(&answer.decode()?))
}

/// One line for each thing that is known, labels last.
pub(super) fn table(image: &ImageInfo) -> String {
    let mut rows = vec![("id", image.id.to_string()), ("digest", image.digest.to_string())];
    let known = [
        ("image id", image.image_id.as_ref().map(ToString::to_string)),
        ("media type", Some(image.media_type.clone())),
        ("size", image.size.map(|bytes| format!("{bytes} bytes"))),
        ("created", image.created_at.map(output::time)),
        ("platforms", (!image.platforms.is_empty()).then(|| image.platforms.join(","))),
        ("first seen", image.first_seen.map(output::time)),
        ("last fetched", image.last_fetched.map(output::time)),
    ];
    rows.extend(known.into_iter().filter_map(|(name, value)| Some((name, value?))));
    rows.extend(image.labels.iter().map(|(key, value)| ("label", format!("{key}={value}"))));
    output::pairs(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_listed_and_nothing_else() {
        let image: ImageInfo = serde_json::from_str(
            r#"{
                "id": "ghcr.io/team/app:1.0",
                "digest": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "media_type": "application/vnd.oci.image.manifest.v1+json",
                "size": 4096,
                "labels": {"b": "2", "a": "x\u001b[2J"},
                "platforms": ["linux/amd64"]
            }"#,
        )
        .unwrap();
        let expected = "\
id          ghcr.io/team/app:1.0
digest      sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
media type  application/vnd.oci.image.manifest.v1+json
size        4096 bytes
platforms   linux/amd64
label       a=x\\u{1b}[2J
label       b=2";
        assert_eq!(table(&image), expected);
    }
}
