//! GitHub: `package` and `registry_package`,
//! <https://docs.github.com/en/webhooks/webhook-events-and-payloads#registry_package>.

use serde::Deserialize;

use crate::server::hooks::formats::{Delivery, tag_behind};
use crate::server::hooks::hint::{Malformed, Told, object};

const HOST: &str = "ghcr.io";

#[derive(Deserialize)]
struct Payload {
    action: Option<String>,
    package: Option<Package>,
    registry_package: Option<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: Option<String>,
    namespace: Option<String>,
    #[serde(rename = "package_type")]
    kind: Option<String>,
    ecosystem: Option<String>,
    owner: Option<Owner>,
    #[serde(rename = "package_version")]
    version: Option<Version>,
}

#[derive(Deserialize)]
struct Owner {
    login: Option<String>,
}

#[derive(Deserialize)]
struct Version {
    package_url: Option<String>,
    container_metadata: Option<ContainerMetadata>,
}

#[derive(Deserialize)]
struct ContainerMetadata {
    tag: Option<ContainerTag>,
}

#[derive(Deserialize)]
struct ContainerTag {
    name: Option<String>,
}

/// A version without a tag changes none. Owners are spelt as they spell themselves, images in lower case.
pub(super) fn decode(delivery: &Delivery<'_>, told: &mut Told<'_>) -> Result<(), Malformed> {
    if !matches!(delivery.header("x-github-event"), Some("package" | "registry_package")) {
        return Ok(());
    }
    let Payload { action, package, registry_package } = object(delivery.body)?;
    let package = package.or(registry_package);
    let (Some("published" | "updated"), Some(package)) = (action.as_deref(), package) else { return Ok(()) };
    let is_image =
        package.kind.or(package.ecosystem).is_some_and(|kind| kind.eq_ignore_ascii_case("container"));
    let Some(version) = package.version.filter(|_| is_image) else { return Ok(()) };
    let named = version.container_metadata.and_then(|metadata| metadata.tag?.name);
    let tag =
        named.filter(|tag| !tag.is_empty()).or_else(|| tag_behind(&version.package_url?).map(str::to_owned));
    let Some(tag) = tag else { return Ok(()) };
    let owner = package.namespace.filter(|owner| !owner.is_empty()).or_else(|| package.owner?.login);
    match (owner, package.name) {
        (Some(owner), Some(name)) => {
            let path = format!("{owner}/{name}").to_ascii_lowercase();
            told.image(Some(HOST), &path, Some(&tag), false);
        }
        _ => told.unreadable_one(),
    }
    Ok(())
}
