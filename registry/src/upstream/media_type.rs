//! Media types of manifests and image configurations, and what to make of answers that do not name one.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::json;

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
/// rather than that nothing is there.
pub(super) const ACCEPT_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     */*;q=0.1";

/// The fields that tell what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    media_type: Option<String>,
    schema_version: Option<u64>,
    manifests: Option<Vec<IgnoredAny>>,
    config: Option<IgnoredAny>,
}

/// The media type of a manifest: the header's, lower case and without parameters; where that says nothing, the
/// one that the document names, or else that of its shape.
pub(super) fn of_manifest(header: Option<&str>, document: &[u8]) -> String {
    let stated = header.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let says_nothing = matches!(stated.as_str(), "" | "application/json" | UNTYPED | "text/plain");
    if !says_nothing {
        return stated;
    }
    match json::object::<Shape>(document) {
        Ok(Shape { media_type: Some(named), .. }) if !named.is_empty() => named.to_ascii_lowercase(),
        Ok(Shape { manifests: Some(_), .. }) => OCI_INDEX.to_owned(),
        Ok(Shape { config: Some(_), .. }) => OCI_MANIFEST.to_owned(),
        Ok(Shape { schema_version: Some(1), .. }) => DOCKER_SCHEMA1.to_owned(),
        Ok(_) | Err(_) => stated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_decides_where_it_says_something() {
        let document = br#"{"mediaType":"application/vnd.oci.image.index.v1+json"}"#;
        for header in [
            DOCKER_MANIFEST,
            "Application/vnd.docker.distribution.manifest.v2+JSON; charset=utf-8",
            " application/vnd.docker.distribution.manifest.v2+json ;q=1",
        ] {
            assert_eq!(of_manifest(Some(header), document), DOCKER_MANIFEST);
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
                assert_eq!(of_manifest(header, document.as_bytes()), expected, "{header:?}");
            }
        }
        assert_eq!(of_manifest(Some("application/json"), b"{}"), "application/json");
        assert_eq!(of_manifest(Some("text/plain; charset=utf-8"), b"no"), "text/plain");
        assert_eq!(of_manifest(None, b""), "");
    }
}
