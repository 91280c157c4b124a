//! Gitea and Forgejo: events of packages, <https://docs.gitea.com/usage/webhooks>.

use serde::Deserialize;

use crate::server::hooks::formats::{Delivery, is_digest};
use crate::server::hooks::hint::{Malformed, Told, host_of, object};

#[derive(Deserialize)]
struct Payload {
    action: Option<String>,
    package: Option<Package>,
}

#[derive(Deserialize)]
struct Package {
    r#type: Option<String>,
    name: Option<String>,
    version: Option<String>,
    html_url: Option<String>,
    owner: Option<Owner>,
}

#[derive(Deserialize)]
struct Owner {
    login: Option<String>,
    username: Option<String>,
}

/// A manifest that is pushed by its digest is a version too, and changes no tag.
pub(super) fn decode(delivery: &Delivery<'_>, told: &mut Told<'_>) -> Result<(), Malformed> {
    let event = ["x-gitea-event", "x-forgejo-event"].into_iter().find_map(|name| delivery.header(name));
    if event != Some("package") {
        return Ok(());
    }
    let Payload { action, package } = object(delivery.body)?;
    let deleted = match action.as_deref() {
        Some("created" | "updated") => false,
        Some("deleted") => true,
        _ => return Ok(()),
    };
    let Some(package) = package.filter(|package| package.r#type.as_deref() == Some("container")) else {
        return Ok(());
    };
    let tag = package.version.filter(|version| !is_digest(version) && !version.is_empty());
    if tag.is_none() && !deleted {
        return Ok(());
    }
    match (package.owner.and_then(|owner| owner.login.or(owner.username)), package.name) {
        (Some(owner), Some(name)) => {
            let path = format!("{owner}/{name}").to_ascii_lowercase();
            told.image(package.html_url.as_deref().map(host_of), &path, tag.as_deref(), deleted);
        }
        _ => told.unreadable_one(),
    }
    Ok(())
}
