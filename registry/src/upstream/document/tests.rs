use serde_json::json;

use super::*;

fn digest(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

fn document(media_type: &str, content: &serde_json::Value) -> Document {
    let bytes = serde_json::to_vec(content).unwrap();
    Document { digest: Digest::sha256(&bytes), media_type: media_type.to_owned(), bytes: bytes.into() }
}

fn decode(media_type: &str, content: &serde_json::Value) -> Result<Manifest, DecodeError> {
    Manifest::decode(&document(media_type, content))
}

fn image(media_type: &str, config_type: &str) -> ImageManifest {
    let content = json!({
        "schemaVersion": 2,
        "config": {"mediaType": config_type, "digest": digest("c"), "size": 7},
        "layers": [{"mediaType": "x", "digest": digest("l"), "size": 30}, {"size": 5}],
        "annotations": {"a": "b", "number": 1, "none": null},
    });
    let Manifest::Image(image) = decode(media_type, &content).unwrap() else { panic!("not an image") };
    image
}

#[test]
fn images() {
    for media_type in [OCI_MANIFEST, DOCKER_MANIFEST] {
        let image = image(media_type, OCI_CONFIG);
        let config = Descriptor { media_type: OCI_CONFIG.to_owned(), digest: digest("c"), size: 7 };
        assert_eq!((image.config.clone(), image.layers_size, image.total_size()), (config, 35, 42));
        assert_eq!(image.annotations, BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        assert!(image.is_image() && image.artifact_type.is_none());
    }
}

#[test]
fn artifacts_are_no_images() {
    assert!(image(DOCKER_MANIFEST, DOCKER_CONFIG).is_image());
    assert!(image(DOCKER_MANIFEST, UNTYPED).is_image());
    for config_type in
        ["application/vnd.oci.empty.v1+json", "application/vnd.cncf.helm.config.v1+json", UNTYPED, ""]
    {
        assert!(!image(OCI_MANIFEST, config_type).is_image(), "{config_type}");
    }
}

#[test]
fn indexes_and_their_children() {
    let content = json!({
        "schemaVersion": 2,
        "manifests": [
            {"mediaType": OCI_MANIFEST, "digest": digest("1"), "size": 1,
             "platform": {"os": "linux", "architecture": "arm", "variant": "v7", "os.version": "1"}},
            {"mediaType": OCI_MANIFEST, "digest": digest("2"), "size": 2,
             "platform": {"os": "unknown", "architecture": "unknown"},
             "annotations": {REFERENCE_TYPE: "attestation-manifest"}},
            {"mediaType": OCI_MANIFEST, "digest": digest("3"), "size": 3, "platform": {"os": "linux", "architecture": "amd64", "variant": ""},
             "annotations": {REFERENCE_TYPE: "attestation-manifest"}},
            {"digest": digest("4"), "size": 4, "platform": null, "annotations": null},
            {"digest": digest("5"), "size": 5, "platform": {}},
            {"digest": digest("6"), "size": 6, "platform": {"os": "unknown", "architecture": "unknown"}},
        ],
        "annotations": {"k": "v"},
    });
    for media_type in [OCI_INDEX, DOCKER_LIST] {
        let Manifest::Index(index) = decode(media_type, &content).unwrap() else { panic!("not an index") };
        let platforms: Vec<_> =
            index.children.iter().map(|child| child.platform.as_ref().map(ToString::to_string)).collect();
        let expected = [
            Some("linux/arm/v7"),
            Some("unknown/unknown"),
            Some("linux/amd64"),
            None,
            None,
            Some("unknown/unknown"),
        ];
        assert_eq!(platforms, expected.map(|platform| platform.map(str::to_owned)));
        let attestations: Vec<_> = index.children.iter().map(Child::is_attestation).collect();
        assert_eq!(attestations, [false, true, true, false, false, true]);
        assert_eq!(index.children[3].descriptor.size, 4);
        assert_eq!(index.annotations["k"], "v");
    }
}

#[test]
fn other_documents() {
    assert_eq!(decode(DOCKER_SCHEMA1, &json!({})), Ok(Manifest::Schema1));
    assert_eq!(decode(DOCKER_SCHEMA1_SIGNED, &json!({})), Ok(Manifest::Schema1));
    let unknown = decode("application/vnd.oci.artifact.manifest.v1+json", &json!({}));
    assert!(matches!(unknown, Ok(Manifest::Unknown { media_type }) if media_type.contains("artifact")));
}

#[test]
fn what_cannot_be_decoded_is_an_error() {
    let config = json!({"digest": digest("c"), "size": 1});
    for (media_type, content) in [
        (OCI_MANIFEST, json!({})),
        (OCI_MANIFEST, json!([])),
        (OCI_MANIFEST, json!({"config": config})),
        (OCI_MANIFEST, json!({"config": {"digest": "sha256:short", "size": 1}, "layers": []})),
        (OCI_MANIFEST, json!({"config": {"digest": digest("c"), "size": -1}, "layers": []})),
        (OCI_MANIFEST, json!({"config": config, "layers": [{"size": "big"}]})),
        (OCI_MANIFEST, json!({"config": config, "layers": [], "manifests": []})),
        (OCI_INDEX, json!({})),
        (OCI_INDEX, json!({"manifests": null})),
        (OCI_INDEX, json!({"manifests": [{"size": 1}]})),
        (DOCKER_LIST, json!({"manifests": [], "config": config})),
        (DOCKER_LIST, json!({"manifests": [], "layers": []})),
    ] {
        let error = decode(media_type, &content).unwrap_err();
        assert!(error.to_string().contains("cannot be decoded: "), "{error}");
    }
}

#[test]
fn sizes_do_not_overflow() {
    let content = json!({
        "config": {"mediaType": OCI_CONFIG, "digest": digest("c"), "size": u64::MAX},
        "layers": [{"size": u64::MAX}, {"size": 1}],
    });
    let Ok(Manifest::Image(image)) = decode(OCI_MANIFEST, &content) else { panic!("not an image") };
    assert_eq!((image.layers_size, image.total_size()), (u64::MAX, u64::MAX));
}
