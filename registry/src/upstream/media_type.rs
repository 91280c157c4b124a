//! Media types of manifests and image configurations, and what to make of answers that do not name one.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::json::{self, IfText};

pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(super) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(super) const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
pub(super) const DOCKER_SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
pub(super) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// What very old builders called an image configuration, in Docker manifests only.
pub(super) const UNTYPED: &str = "application/octet-stream";

/// What we accept as a manifest. Always all of it: a registry that misses a type rewrites the answer to another
/// document, with another digest. Other types are welcome as a last resort: then we see that it is no image
/// rather than that nothing is there. So is Docker schema 1, which registries serve that have nothing else; asked for
/// by name, some would make one of a later manifest.
pub(super) const ACCEPT_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     */*;q=0.1";

/// Longest media type, in bytes (RFC 6838 section 4.2 allows 127 on either side of the slash).
const MAX_MEDIA_TYPE_LENGTH: usize = 255;

/// What the layers of images have in common: OCI's with the non-distributable and encrypted ones, Docker's with the
/// foreign ones.
const IMAGE_LAYERS: [&str; 2] = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];

/// Says a header of one type, and the document that came with it of another.
const CONTRADICTION: &str = "not a manifest: the document is not what its Content-Type says";

/// The fields that tell what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    media_type: Option<IfText<String>>,
    manifests: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    fs_layers: Option<IgnoredAny>,
}

impl Shape {
    /// What the document says it is, lower case.
    fn named(&self) -> Option<String> {
        let Some(IfText(Some(named))) = &self.media_type else { return None };
        (!named.is_empty()).then(|| named.to_ascii_lowercase())
    }

    /// The types that a document of this shape may have where it names none, the likeliest first; none where any may be.
    fn types(&self) -> &'static [&'static str] {
        match self {
            Self { manifests: Some(_), .. } => &[OCI_INDEX, DOCKER_LIST],
            Self { config: Some(_), .. } | Self { layers: Some(_), .. } => &[OCI_MANIFEST, DOCKER_MANIFEST],
            Self { fs_layers: Some(_), .. } => &[DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED],
            _ => &[],
        }
    }

    /// Whether the document may be of this type.
    fn may_be(&self, media_type: &str) -> bool {
        match self.named() {
            Some(named) => named == media_type || is_schema1(&named) && is_schema1(media_type),
            None => self.types().is_empty() || self.types().contains(&media_type),
        }
    }
}

/// Whether this is a type and a subtype (RFC 6838 section 4.2), of a length that may be shown and stored.
pub(super) fn is_well_formed(media_type: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    media_type.len() <= MAX_MEDIA_TYPE_LENGTH
        && media_type.split_once('/').is_some_and(|(main, sub)| is_name(main) && is_name(sub))
}

/// Whether a layer of this type is part of an image's file system.
pub(super) fn is_image_layer(media_type: &str) -> bool {
    IMAGE_LAYERS.iter().any(|beginning| media_type.starts_with(beginning))
}

/// Whether this is a Docker schema 1 manifest, signed or not.
pub(super) fn is_schema1(media_type: &str) -> bool {
    matches!(media_type, DOCKER_SCHEMA1 | DOCKER_SCHEMA1_SIGNED)
}

/// The media type of a manifest: the header's, lower case and without parameters; where that says nothing, the
/// one that the document names, or else that of its shape. A header that contradicts these is an error: the digest is of
/// the document alone, so that whatever else was believed of it would hold for every repository that has it. An answer that is not a manifest of whatever kind, such
/// as a page for browsers or a list of errors, is told by what is wrong with it.
pub(super) fn of_manifest(header: Option<&str>, document: &[u8]) -> Result<String, &'static str> {
    let Ok(shape) = json::object::<Shape>(document) else {
        return Err("not a manifest: not a JSON object");
    };
    let stated = header.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let says_nothing = matches!(stated.as_str(), "" | "application/json" | UNTYPED | "text/plain");
    let media_type = if !says_nothing {
        if !shape.may_be(&stated) {
            return Err(CONTRADICTION);
        }
        stated
    } else if let Some(named) = shape.named() {
        named
    } else if let Some(likeliest) = shape.types().first() {
        (*likeliest).to_owned()
    } else {
        return Err("not a manifest: neither its type nor its shape is that of one");
    };
    // Manifests of all kinds have vendors' types; pages, errors and data have others.
    if media_type.starts_with("application/vnd.") && is_well_formed(&media_type) {
        return Ok(media_type);
    }
    Err("not a manifest: its type is not that of one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_decides_where_it_says_something() {
        let document = br#"{"config":{},"layers":[]}"#;
        for header in [
            DOCKER_MANIFEST,
            "Application/vnd.docker.distribution.manifest.v2+JSON; charset=utf-8",
            " application/vnd.docker.distribution.manifest.v2+json ;q=1",
        ] {
            assert_eq!(of_manifest(Some(header), document).unwrap(), DOCKER_MANIFEST);
        }
    }

    #[test]
    fn a_header_that_contradicts_the_document_is_refused() {
        let named = |media_type: &str| format!(r#"{{"mediaType":"{media_type}","config":{{}}}}"#);
        for (document, possible) in [
            (named(OCI_INDEX), &[OCI_INDEX][..]),
            (named(DOCKER_MANIFEST), &[DOCKER_MANIFEST]),
            (named(DOCKER_SCHEMA1), &[DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED]),
            (r#"{"manifests":[],"config":{}}"#.to_owned(), &[OCI_INDEX, DOCKER_LIST]),
            (r#"{"config":{}}"#.to_owned(), &[OCI_MANIFEST, DOCKER_MANIFEST]),
            (r#"{"mediaType":"","layers":[]}"#.to_owned(), &[OCI_MANIFEST, DOCKER_MANIFEST]),
            (r#"{"fsLayers":[]}"#.to_owned(), &[DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED]),
        ] {
            for header in [
                OCI_INDEX,
                DOCKER_LIST,
                OCI_MANIFEST,
                DOCKER_MANIFEST,
                DOCKER_SCHEMA1,
                DOCKER_SCHEMA1_SIGNED,
                "application/vnd.example.thing.v1+json",
            ] {
                let expected =
                    if possible.contains(&header) { Ok(header.to_owned()) } else { Err(CONTRADICTION) };
                assert_eq!(of_manifest(Some(header), document.as_bytes()), expected, "{document} {header}");
            }
        }
    }

    #[test]
    fn else_the_document_does() {
        for header in
            [None, Some(""), Some("application/json; charset=utf-8"), Some("text/plain"), Some(UNTYPED)]
        {
            for (document, expected) in [
                (
                    r#"{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","manifests":[]}"#,
                    DOCKER_MANIFEST,
                ),
                (r#"{"schemaVersion":2,"manifests":[]}"#, OCI_INDEX),
                (r#"{"schemaVersion":2,"config":{},"layers":[]}"#, OCI_MANIFEST),
                (r#"{"schemaVersion":1,"fsLayers":[]}"#, DOCKER_SCHEMA1),
            ] {
                assert_eq!(of_manifest(header, document.as_bytes()).unwrap(), expected, "{header:?}");
            }
        }
    }

    #[test]
    fn types_of_vendors_that_we_do_not_know_are_left_as_they_are() {
        let vendors = "application/vnd.example.thing.v1+json";
        assert_eq!(of_manifest(Some(vendors), b"{}").unwrap(), vendors);
        let document = format!(r#"{{"mediaType":"{vendors}","errors":1}}"#);
        assert_eq!(of_manifest(Some("application/json"), document.as_bytes()).unwrap(), vendors);
    }

    #[test]
    fn what_is_no_manifest() {
        let long = format!("application/vnd.{}", "x".repeat(MAX_MEDIA_TYPE_LENGTH));
        for (header, document) in [
            (Some("text/html"), "<html>sign in</html>"),
            (Some("text/html; charset=utf-8"), r#"{"manifests":[]}"#),
            (Some("application/json"), r#"{"errors":[{"code":"DENIED"}]}"#),
            (Some("application/json"), r#"{"mediaType":"text/html"}"#),
            (Some("application/json"), r#"{"mediaType":"application/vnd.a b"}"#),
            (Some("application/json"), r#"{"mediaType":7,"schemaVersion":2}"#),
            (Some("application/problem+json"), "{}"),
            (Some("text/plain; charset=utf-8"), "no"),
            (Some(&long), "{}"),
            (Some(OCI_MANIFEST), ""),
            (Some(OCI_MANIFEST), "[]"),
            (Some(OCI_MANIFEST), r#"{"config":"#),
            (None, "{}"),
        ] {
            assert!(of_manifest(header, document.as_bytes()).is_err(), "{header:?} {document}");
        }
    }

    #[test]
    fn well_formed_types() {
        for good in [OCI_MANIFEST, DOCKER_SCHEMA1_SIGNED, "text/x", "application/vnd.a.b_c-d+json"] {
            assert!(is_well_formed(good), "{good}");
        }
        let longest = format!("a/{}", "x".repeat(MAX_MEDIA_TYPE_LENGTH - 2));
        assert!(is_well_formed(&longest) && !is_well_formed(&format!("{longest}x")));
        for bad in ["", "a", "a/", "/b", "a/b/c", "a/b; c=d", "a/b\n", "a/é", "a /b", "*/*"] {
            assert!(!is_well_formed(bad), "{bad:?}");
        }
    }
}
