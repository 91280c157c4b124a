//! Sonatype Nexus: webhooks of a repository's components,
//! <https://help.sonatype.com/en/webhooks.html>. They do not say of which registry.

use serde::Deserialize;

use crate::server::hooks::formats::Delivery;
use crate::server::hooks::hint::{Malformed, Told, object};

#[derive(Deserialize)]
struct Payload {
    action: Option<String>,
    component: Option<Component>,
}

#[derive(Deserialize)]
struct Component {
    format: Option<String>,
    name: Option<String>,
    version: Option<String>,
}

/// Each repository has a port of its own, or, where the configuration gives a prefix, a path.
pub(super) fn decode(delivery: &Delivery<'_>, told: &mut Told<'_>) -> Result<(), Malformed> {
    if delivery.header("x-nexus-webhook-id") != Some("rm:repository:component") {
        return Ok(());
    }
    let Payload { action, component } = object(delivery.body)?;
    let deleted = match action.as_deref() {
        Some("CREATED" | "UPDATED") => false,
        Some("DELETED") => true,
        _ => return Ok(()),
    };
    match component {
        Some(Component { format: Some(format), .. }) if format != "docker" => {}
        Some(Component { name: Some(name), version: Some(version), .. }) => {
            let path = told.prefixed(None, &name);
            told.image(None, &path, Some(&version), deleted);
        }
        _ => told.unreadable_one(),
    }
    Ok(())
}
