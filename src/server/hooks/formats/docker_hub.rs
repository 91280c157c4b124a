//! Docker Hub: <https://docs.docker.com/docker-hub/repos/manage/webhooks/>. Its `callback_url` is never called: whoever
//! knows the receiver's path would choose whom we call.

use serde::Deserialize;

use crate::server::hooks::formats::Delivery;
use crate::server::hooks::hint::{Malformed, Told, object};

const HOST: &str = "docker.io";

#[derive(Deserialize)]
struct Payload {
    push_data: Option<PushData>,
    repository: Option<Repository>,
}

#[derive(Deserialize)]
struct PushData {
    tag: Option<String>,
}

#[derive(Deserialize)]
struct Repository {
    repo_name: Option<String>,
}

pub(super) fn decode(delivery: &Delivery<'_>, told: &mut Told<'_>) -> Result<(), Malformed> {
    let Payload { push_data, repository } = object(delivery.body)?;
    let tag = push_data.and_then(|push_data| push_data.tag);
    if let (Some(tag), Some(Repository { repo_name: Some(name) })) = (tag, repository) {
        told.image(Some(HOST), &name, Some(&tag), false);
    }
    Ok(())
}
