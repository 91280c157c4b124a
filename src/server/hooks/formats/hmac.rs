//! samovar's own form, for whoever can make a signed request: `{"image": "registry.example/team/app:1.2"}`, or a list of
//! `images`; `deleted` says that they are gone. `CloudEvents` are taken as well, such as those of another samovar.

use serde::Deserialize;

use super::{Delivery, cloud_event, cloud_events};
use crate::server::hooks::hint::{Malformed, Told, bounded, object};

#[derive(Deserialize)]
struct Payload {
    image: Option<String>,
    #[serde(default, deserialize_with = "bounded")]
    images: Vec<String>,
    #[serde(default)]
    deleted: bool,
}

pub(super) fn decode(delivery: &Delivery<'_>, told: &mut Told<'_>) -> Result<(), Malformed> {
    if cloud_event::is_meant_by(delivery) {
        return cloud_events::decode(delivery, told);
    }
    let Payload { image, images, deleted } = object(delivery.body)?;
    if image.is_none() && images.is_empty() {
        return Err(Malformed::new("image or images is missing"));
    }
    image.iter().chain(&images).for_each(|image| told.reference(image, deleted));
    Ok(())
}
