use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::upstream::Manifest;

fn referrer(seed: &str, artifact_type: &str) -> Value {
    json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": Digest::sha256(seed.as_bytes()),
        "size": 7,
        "artifactType": artifact_type,
        "annotations": {"org.example.unknown": "kept"},
        "vendor": [1],
    })
}

fn index(referrers: &[Value]) -> Bytes {
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": referrers}).to_string().into()
}

fn manifests(document: &Document) -> Vec<Value> {
    let Value::Object(mut index) = serde_json::from_slice(&document.bytes).unwrap() else {
        panic!("no object")
    };
    let Value::Array(manifests) = index.remove("manifests").unwrap() else { panic!("no array") };
    manifests
}

#[test]
fn one_page_is_kept_as_it_is_and_several_become_one() {
    let (one, two) =
        (index(&[referrer("a", "x/sig")]), index(&[referrer("b", "x/sbom"), referrer("a", "x/sig")]));
    let mut found = Found::default();
    found.accept(OCI_INDEX, one.clone(), None).unwrap();
    assert_eq!(Found::into_document(found).bytes, one);

    let mut found = Found::default();
    found.accept(OCI_INDEX, one, None).unwrap();
    found.accept(OCI_INDEX, two, None).unwrap();
    let document = found.into_document();
    assert_eq!(
        manifests(&document),
        [referrer("a", "x/sig"), referrer("b", "x/sbom")],
        "each once, in order"
    );
    assert!(document.is_verified());
    assert!(matches!(Manifest::decode(&document), Ok(Manifest::Index(index)) if index.children.len() == 2));
}

#[test]
fn what_the_registry_did_not_choose_we_do() {
    let page = index(&[referrer("a", "x/sig"), referrer("b", "x/sbom")]);
    let mut found = Found::default();
    found.accept(OCI_INDEX, page, Some("x/sbom")).unwrap();
    assert_eq!(manifests(&found.into_document()), [referrer("b", "x/sbom")]);
}

#[test]
fn nothing_is_an_empty_index() {
    let document = Found::default().into_document();
    assert!(manifests(&document).is_empty());
    assert!(matches!(Manifest::decode(&document), Ok(Manifest::Index(index)) if index.children.is_empty()));
}

#[test]
fn what_is_no_index_of_referrers_is_an_error() {
    let good = referrer("a", "x");
    for (media_type, document) in [
        (OCI_INDEX, json!({})),
        (OCI_INDEX, json!([])),
        (OCI_INDEX, json!({"manifests": null})),
        (OCI_INDEX, json!({"manifests": ["x"]})),
        (OCI_INDEX, json!({"manifests": [[]]})),
        (OCI_INDEX, json!({"manifests": [{"digest": "sha256:x", "size": 1}]})),
        (OCI_INDEX, json!({"manifests": [{"digest": good["digest"]}]})),
        (OCI_INDEX, json!({"manifests": [good], "config": {}})),
        (OCI_INDEX, json!({"manifests": [good], "layers": []})),
        ("application/vnd.oci.image.manifest.v1+json", json!({"manifests": [good]})),
    ] {
        let error = Found::default().accept(media_type, document.to_string().into(), None).unwrap_err();
        assert!(error.to_string().contains("not an index of referrers"), "{document}: {error}");
    }
}

#[test]
fn referrers_and_their_bytes_are_bounded() {
    let page = |range: std::ops::Range<usize>| {
        let referrers: Vec<Value> =
            range.map(|number| json!({"digest": Digest::sha256(&number.to_le_bytes()), "size": 1})).collect();
        index(&referrers)
    };
    let mut found = Found::default();
    found.accept(OCI_INDEX, page(0..MAX_REFERRERS), None).unwrap();
    let error = found.accept(OCI_INDEX, page(0..MAX_REFERRERS + 1), None).unwrap_err();
    assert_eq!(error.to_string(), "bad answer: more than 10000 referrers");

    let filler = format!(r#"{{"manifests":[],"filler":"{}"}}"#, "x".repeat(3 * 1024 * 1024));
    let mut found = Found::default();
    found.accept(OCI_INDEX, filler.clone().into(), None).unwrap();
    let error = found.accept(OCI_INDEX, filler.into(), None).unwrap_err();
    assert_eq!(error, ErrorKind::TooLarge { limit: MAX_MANIFEST_BYTES });
}

proptest! {
    #[test]
    fn never_panics_and_what_is_taken_decodes(body in any::<String>(), digests in proptest::collection::vec(any::<u8>(), 0..5)) {
        let _ = Found::default().accept(OCI_INDEX, body.into(), None);
        let referrers: Vec<Value> = digests.iter().map(|seed| referrer(&seed.to_string(), "x")).collect();
        let mut found = Found::default();
        found.accept(OCI_INDEX, index(&referrers), None).unwrap();
        prop_assert!(Manifest::decode(&found.into_document()).is_ok());
    }
}
