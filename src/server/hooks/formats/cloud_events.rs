//! `CloudEvents` of whoever tells of images: by the names that Argo CD Image Updater reads
//! (<https://argocd-image-updater.readthedocs.io/en/stable/configuration/webhook/>), those of samovar's own events, and
//! `CDEvents` of artifacts (<https://cdevents.dev/docs/>), which name them by package URLs.

use serde::Deserialize;
use serde_json::Value;

use super::cloud_event::{self, CloudEvent};
use super::{Delivery, ecr, is_digest};
use crate::server::hooks::hint::{Malformed, Told, host_of};

/// What the types of `CDEvents` of artifacts begin with.
const ARTIFACTS: &str = "dev.cdevents.artifact.";

/// What such events call things.
#[derive(Deserialize)]
struct Data {
    /// An image or a repository by its whole name.
    name: Option<String>,
    image: Option<String>,
    /// A repository in its registry.
    repository: Option<String>,
    #[serde(rename = "repositoryName")]
    repository_name: Option<String>,
    registry: Option<String>,
    #[serde(rename = "registryUrl")]
    registry_url: Option<String>,
    tag: Option<String>,
    #[serde(rename = "imageTag")]
    image_tag: Option<String>,
}

pub(super) fn decode(delivery: &Delivery<'_>, told: &mut Told<'_>) -> Result<(), Malformed> {
    cloud_event::decode(delivery)?.into_iter().try_for_each(|event| tell(event, told))
}

/// Tells of what one event says.
pub(super) fn tell(event: CloudEvent, told: &mut Told<'_>) -> Result<(), Malformed> {
    if ecr::is_of_ecr(&event.kind) {
        return ecr::tell_cloud_event(event, told);
    }
    let deleted = cloud_event::tells_of_an_end(&event.kind);
    if event.kind.starts_with(ARTIFACTS) {
        let subject = event.data.pointer("/subject/id").and_then(Value::as_str);
        match subject.and_then(PackageUrl::parse) {
            Some(PackageUrl { host, path, tag: Some(tag) }) => {
                told.image(host.as_deref(), &path, Some(&tag), deleted);
            }
            // By its digest alone.
            Some(_) => {}
            None => told.unreadable_one(),
        }
        return Ok(());
    }
    let data: Data = match event.data {
        Value::Object(_) => serde_json::from_value(event.data).map_err(Malformed::new)?,
        _ => return Ok(()),
    };
    let tag = data.tag.or(data.image_tag).filter(|tag| !is_digest(tag) && !tag.is_empty());
    match (data.image.or(data.name), data.repository.or(data.repository_name)) {
        (Some(image), _) => match tag {
            Some(tag) => told.reference(&format!("{image}:{tag}"), deleted),
            None => told.reference(&image, deleted),
        },
        (None, Some(repository)) => {
            match data.registry.or(data.registry_url).filter(|registry| !registry.is_empty()) {
                Some(registry) => told.image(Some(host_of(&registry)), &repository, tag.as_deref(), deleted),
                None => told.image(Some(DOCKER_HUB), &repository, tag.as_deref(), deleted),
            }
        }
        (None, None) => {}
    }
    Ok(())
}

/// What is meant where no registry is named.
const DOCKER_HUB: &str = "docker.io";

/// An image by its package URL: `pkg:oci/app@sha256:…?repository_url=host/team/app&tag=1.0`
/// (<https://github.com/package-url/purl-spec/blob/main/types-doc/oci-definition.md>).
struct PackageUrl {
    host: Option<String>,
    path: String,
    tag: Option<String>,
}

impl PackageUrl {
    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.strip_prefix("pkg:")?.split_once('/')?;
        let (rest, qualifiers) = rest.split_once('?').unwrap_or((rest, ""));
        let (path, version) =
            rest.split_once('@').map_or((rest, None), |(path, version)| (path, Some(version)));
        let mut of_repository = None;
        let mut tag = version.map(decoded).filter(|version| kind == "docker" && !is_digest(version));
        for (key, value) in qualifiers.split('&').filter_map(|qualifier| qualifier.split_once('=')) {
            match key {
                "repository_url" => of_repository = Some(decoded(value)),
                "tag" => tag = Some(decoded(value)),
                _ => {}
            }
        }
        let path = decoded(path);
        match (kind, of_repository) {
            // Host and path, also with the scheme that some write.
            ("oci", Some(url)) => {
                let named = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
                let (host, path) = named.split_once('/')?;
                Some(Self { host: Some(host.to_owned()), path: path.to_owned(), tag })
            }
            ("oci", None) => Some(Self { host: None, path, tag }),
            ("docker", url) => {
                Some(Self { host: Some(url.unwrap_or_else(|| DOCKER_HUB.to_owned())), path, tag })
            }
            _ => None,
        }
    }
}

/// Percent-decoded; what is no text then is left as it is, and no name.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let hexadecimal =
            |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match behind {
            [high, low, behind @ ..] if byte == b'%' => match (hexadecimal(*high), hexadecimal(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = behind;
                }
                _ => return text.to_owned(),
            },
            _ => {
                bytes.push(byte);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}
