use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::upstream::ImageConfig;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const SIGNATURE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

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
        "layers": [{"mediaType": LAYER, "digest": digest("l"), "size": 30}, {"size": 5}],
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
    let history = json!([{"v1Compatibility": "{}"}]);
    for media_type in [DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED] {
        let old = decode(media_type, &json!({"schemaVersion": 1, "history": history}));
        assert!(matches!(old, Ok(Manifest::Schema1(_))), "{old:?}");
    }
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

/// What becomes of an image's configuration with these layers.
fn with_layers(media_type: &str, layers: &serde_json::Value) -> Result<ImageManifest, DecodeError> {
    let config = json!({"mediaType": OCI_CONFIG, "digest": digest("c"), "size": 7});
    let content = json!({"schemaVersion": 2, "config": config, "layers": layers});
    match decode(media_type, &content)? {
        Manifest::Image(image) => Ok(image),
        other => panic!("{other:?}"),
    }
}

#[test]
fn layers_tell_an_image_from_what_only_borrows_its_configuration() {
    let signature = with_layers(OCI_MANIFEST, &json!([{"mediaType": SIGNATURE, "size": 1}])).unwrap();
    assert!(!signature.is_image());
    assert_eq!(signature.description(), format!("a cosign signature ({SIGNATURE})"));

    for layer in [
        LAYER,
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd+encrypted",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ] {
        let layers = json!([{"mediaType": SIGNATURE, "size": 1}, {"mediaType": layer, "size": 1}]);
        assert!(with_layers(OCI_MANIFEST, &layers).unwrap().is_image(), "{layer}");
    }
    assert!(with_layers(OCI_MANIFEST, &json!([])).unwrap().is_image());
    assert!(with_layers(DOCKER_MANIFEST, &json!([{"size": 1}])).unwrap().is_image());
    assert!(!with_layers(OCI_MANIFEST, &json!([{"size": 1}])).unwrap().is_image());
}

#[test]
fn what_an_artifact_is_called() {
    let chart = "application/vnd.cncf.helm.config.v1+json";
    assert_eq!(image(OCI_MANIFEST, chart).description(), format!("a Helm chart ({chart})"));
    let empty = "application/vnd.oci.empty.v1+json";
    for (artifact_type, config_type, layer_type, expected) in [
        ("application/vnd.example.sbom", chart, "", "application/vnd.example.sbom"),
        ("application/spdx+json", empty, "", "an SBOM (SPDX) (application/spdx+json)"),
        ("", empty, "text/spdx", "an SBOM (SPDX) (text/spdx)"),
        ("", OCI_CONFIG, SIGNATURE, "a cosign signature (application/vnd.dev.cosign.simplesigning.v1+json)"),
        ("", empty, LAYER, "an artifact of no stated type"),
    ] {
        let content = json!({
            "artifactType": artifact_type,
            "config": {"mediaType": config_type, "digest": digest("c"), "size": 1},
            "layers": [{"mediaType": layer_type, "size": 1}],
        });
        let artifact = decode(OCI_MANIFEST, &content).unwrap();
        assert_eq!(artifact.foreign().as_deref(), Some(expected), "{content}");
    }
    let index = json!({"manifests": [], "artifactType": "application/vnd.docker.compose.project"});
    let Ok(Manifest::Index(index)) = decode(OCI_INDEX, &index) else { panic!("not an index") };
    let compose = "a Docker Compose project (application/vnd.docker.compose.project)";
    assert_eq!(index.description().as_deref(), Some(compose));
}

#[test]
fn types_are_bounded_and_well_formed() {
    let long = format!("application/{}", "x".repeat(300));
    for bad in [long.as_str(), "not a type", "a/b\u{1b}[31m"] {
        let config = json!({"mediaType": bad, "digest": digest("c"), "size": 1});
        let good = json!({"mediaType": OCI_CONFIG, "digest": digest("c"), "size": 1});
        for (media_type, content) in [
            (OCI_MANIFEST, json!({"config": config, "layers": []})),
            (OCI_MANIFEST, json!({"config": good, "layers": [], "artifactType": bad})),
            (OCI_MANIFEST, json!({"config": good, "layers": [{"mediaType": bad, "size": 1}]})),
            (OCI_INDEX, json!({"manifests": [config]})),
            (OCI_INDEX, json!({"manifests": [], "artifactType": bad})),
        ] {
            let error = decode(media_type, &content).unwrap_err();
            assert_eq!(error.reason, "it names a media type that is none");
        }
        let Ok(Manifest::Unknown { media_type }) = decode(bad, &json!({})) else { panic!("known") };
        assert!(media_type.chars().count() <= 300 && !media_type.contains('\u{1b}'));
    }
}

#[test]
fn platforms_in_words_that_are_none_are_none() {
    for (os, architecture) in [("LINUX", "amd64"), ("linux/arm", "v7"), ("linux", &*"x".repeat(1_000))] {
        let platform = json!({"os": os, "architecture": architecture});
        let content = json!({"manifests": [{"digest": digest("1"), "size": 1, "platform": platform}]});
        let Ok(Manifest::Index(index)) = decode(OCI_INDEX, &content) else { panic!("not an index") };
        assert_eq!(index.children[0].platform, None, "{os}");
    }
}

#[test]
fn children_are_bounded() {
    let index = |count: usize| {
        let child = json!({"digest": digest("1"), "size": 1});
        decode(OCI_INDEX, &json!({"manifests": vec![child; count]}))
    };
    assert!(index(MAX_CHILDREN).is_ok());
    let error = index(MAX_CHILDREN + 1).unwrap_err();
    assert!(error.to_string().ends_with("it lists more than 1000 manifests"), "{error}");
}

/// Every type that is decoded, and one that is not.
const TYPES: [&str; 7] = [
    OCI_MANIFEST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    DOCKER_LIST,
    DOCKER_SCHEMA1,
    DOCKER_SCHEMA1_SIGNED,
    "application/vnd.example.thing.v1+json",
];

/// Decodes the bytes as everything that they may be taken for.
fn decode_as_everything(bytes: &[u8]) {
    let (digest, bytes) = (Digest::sha256(b""), bytes::Bytes::copy_from_slice(bytes));
    for media_type in TYPES {
        let media_type = media_type.to_owned();
        let document = Document { digest: digest.clone(), media_type, bytes: bytes.clone() };
        let _ = Manifest::decode(&document);
        let _ = document.is_verified();
    }
    let _ = ImageConfig::decode(&bytes);
    let _ = media_type::of_manifest(None, &bytes);
}

#[test]
fn documents_made_to_cost_much_do_not() {
    const SIZE: usize = 64 * 1024;
    let much = |text: &str| text.repeat(SIZE / text.len());
    let (arrays, objects) = (much("["), much("{\"a\":"));
    decode_as_everything(arrays.as_bytes());
    decode_as_everything(objects.as_bytes());
    for field in
        ["manifests", "config", "layers", "annotations", "history", "signatures", "unknown", "created"]
    {
        for nested in [&arrays, &objects, &much("9"), &format!("\"{}", much("\\u0000"))] {
            decode_as_everything(format!("{{\"{field}\":{nested}").as_bytes());
        }
        let again = much(&format!("\"{field}\":null,"));
        decode_as_everything(format!("{{{again}\"{field}\":1}}").as_bytes());
        decode_as_everything(format!("{{\"{field}\":[{}0]}}", much("0,")).as_bytes());
        decode_as_everything(format!("{{\"{field}\":[{}{{}}]}}", much("{},")).as_bytes());
    }
}

proptest! {
    #[test]
    fn nothing_that_can_be_sent_makes_a_decoder_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        text in any::<String>(),
        number in any::<f64>(),
        cut in 0_usize..500,
    ) {
        decode_as_everything(&bytes);
        let valid = json!({
            "config": {"mediaType": OCI_CONFIG, "digest": digest(&text), "size": 1, "Labels": {&text: &text}},
            "layers": [{"mediaType": &text, "size": number}],
            "manifests": [{"digest": digest("1"), "size": 1, "platform": {"os": &text, "architecture": &text}}],
            "history": [{"v1Compatibility": &text}],
            "annotations": {&text: &text, "n": number},
        })
        .to_string();
        decode_as_everything(valid.as_bytes());
        decode_as_everything(&valid.as_bytes()[..cut.min(valid.len())]);
    }
}
