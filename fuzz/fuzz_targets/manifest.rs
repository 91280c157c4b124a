//! Manifests and indexes: the `Content-Type` in the first line, the document in the rest.

#![no_main]

use libfuzzer_sys::fuzz_target;
use samovar_fuzz::{assert_presentable, first_line, within};
use samovar_registry::Digest;
use samovar_registry::fuzzing;
use samovar_registry::upstream::{Descriptor, Document, Manifest};

fn check_descriptor(descriptor: &Descriptor) {
    assert!(descriptor.media_type.len() <= 255);
    assert_eq!(descriptor.digest.to_string().parse().as_ref(), Ok(&descriptor.digest));
}

fuzz_target!(|data: &[u8]| {
    let (content_type, bytes) = first_line(data);
    let content_type = str::from_utf8(content_type).ok().filter(|text| !text.is_empty());
    within(64, data.len(), || {
        let Ok(media_type) = fuzzing::media_type_of_manifest(content_type, bytes) else { return };
        assert!(media_type.len() <= 255 && media_type.is_ascii());
        let document = Document { digest: Digest::sha256(bytes), media_type, bytes: bytes.to_vec().into() };
        match Manifest::decode(&document) {
            Ok(Manifest::Image(image)) => {
                check_descriptor(&image.config);
                assert!(image.description().len() <= 320);
                assert!(image.total_size() >= image.layers_size);
            }
            Ok(Manifest::Index(index)) => {
                assert!(index.children.len() <= 1_000);
                for child in &index.children {
                    check_descriptor(&child.descriptor);
                    if let Some(platform) = &child.platform {
                        assert_eq!(platform.to_string().parse().as_ref(), Ok(platform));
                    }
                }
            }
            Ok(Manifest::Schema1(manifest)) => {
                if let Some(id) = &manifest.image_id {
                    assert_eq!(id.algorithm(), "sha256");
                }
                assert!(document.is_verified());
            }
            Ok(Manifest::Unknown { media_type }) => assert_presentable(&media_type),
            Err(error) => assert_presentable(&error.to_string()),
        }
    });
});
