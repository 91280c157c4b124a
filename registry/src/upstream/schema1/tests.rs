use proptest::prelude::*;
use samovar_testing::{Content as _, Schema1Image};
use serde_json::json;

use super::*;

fn image() -> Schema1Image {
    Schema1Image::new("seed").created("2015-06-01T02:03:04.5Z").label("a", "1").architecture("arm64")
}

#[test]
fn created_labels_platform_and_id_are_those_of_the_topmost_layer() {
    for image in [image(), image().unsigned()] {
        let manifest = Schema1Manifest::decode(&image.manifest().bytes).unwrap();
        assert_eq!(manifest.created, Some("2015-06-01T02:03:04.5Z".parse().unwrap()));
        assert_eq!(manifest.labels, BTreeMap::from([("a".to_owned(), "1".to_owned())]));
        assert_eq!(manifest.platform, Some("linux/arm64".parse().unwrap()));
        assert_eq!(manifest.image_id, Some(format!("sha256:{}", image.id()).parse().unwrap()));
    }
}

#[test]
fn the_digest_is_of_what_was_signed() {
    let signed = image().manifest();
    assert_eq!(payload(&signed.bytes), &image().payload()[..]);
    assert_eq!(Digest::sha256(&payload(&signed.bytes)).to_string(), signed.digest);
    assert_ne!(Digest::sha256(&signed.bytes).to_string(), signed.digest);
    assert_eq!(payload(&image().payload()), &image().payload()[..], "unsigned, all of it");
}

#[test]
fn nothing_outside_of_what_was_signed_is_read() {
    let signed = String::from_utf8(image().manifest().bytes.to_vec()).unwrap();
    let end = signed.rfind('}').unwrap();
    let forged = json!([{"v1Compatibility": json!({"created": "2026-01-01T00:00:00Z"}).to_string()}]);
    let forged = format!("{},\"history\":{forged}}}", &signed[..end]);
    assert_eq!(payload(forged.as_bytes()), &image().payload()[..]);
    let (right, forged) =
        (Schema1Manifest::decode(signed.as_bytes()), Schema1Manifest::decode(forged.as_bytes()));
    assert_eq!(right.unwrap(), forged.unwrap());
}

#[test]
fn only_what_says_that_it_is_of_schema_1_counts_as_signed() {
    let signed = |payload: &str| {
        let end = payload.rfind('}').unwrap();
        let tail = BASE64_URL.encode(&payload[end..]);
        let protected = BASE64_URL.encode(json!({"formatLength": end, "formatTail": tail}).to_string());
        format!("{},\"signatures\":[{{\"protected\":\"{protected}\"}}]}}", &payload[..end])
    };
    for (original, counts) in [
        (r#"{"schemaVersion":1,"fsLayers":[]}"#, true),
        (r#"{"schemaVersion":2,"fsLayers":[]}"#, false),
        (r#"{"fsLayers":[]}"#, false),
        (r#"{"schemaVersion":1,"schemaVersion":2}"#, false),
        (r#"{"schemaVersion":1,{}"#, false),
    ] {
        let forged = signed(original);
        let expected = if counts { original } else { &forged };
        assert_eq!(String::from_utf8_lossy(&payload(forged.as_bytes())), expected);
        let (digest, bytes) = (Digest::sha256(original.as_bytes()), forged.into_bytes().into());
        let media_type = crate::upstream::media_type::DOCKER_SCHEMA1_SIGNED.to_owned();
        let document = crate::upstream::Document { digest, media_type, bytes };
        assert_eq!(document.is_verified(), counts, "{original}");
    }
}

fn decode(v1: &serde_json::Value) -> Schema1Manifest {
    let document = json!({"architecture": "ppc64le", "history": [{"v1Compatibility": v1.to_string()}]});
    Schema1Manifest::decode(document.to_string().as_bytes()).unwrap()
}

#[test]
fn what_the_history_does_not_say() {
    let nothing = decode(&json!({}));
    assert_eq!((nothing.image_id, nothing.created, nothing.labels.len()), (None, None, 0));
    assert_eq!(nothing.platform, Some("linux/ppc64le".parse().unwrap()), "as the manifest says");
    let other = decode(&json!({"id": "short", "created": "yesterday", "architecture": "s390x"}));
    assert_eq!((other.image_id, other.created), (None, None));
    assert_eq!(other.platform, Some("linux/s390x".parse().unwrap()));
    let windows = decode(&json!({"os": "windows", "architecture": "amd64"}));
    assert_eq!(windows.platform, Some("windows/amd64".parse().unwrap()));
}

#[test]
fn what_cannot_be_decoded_is_an_error() {
    for text in [
        "",
        "[]",
        "{}",
        r#"{"schemaVersion":1}"#,
        r#"{"history":[]}"#,
        r#"{"history":null}"#,
        r#"{"history":[{}]}"#,
        r#"{"history":[{"v1Compatibility":{}}]}"#,
        r#"{"history":[{"v1Compatibility":""}]}"#,
        r#"{"history":[{"v1Compatibility":"[]"}]}"#,
        r#"{"history":[{"v1Compatibility":"{\"os\":1}"}]}"#,
    ] {
        let error = Schema1Manifest::decode(text.as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with("Docker schema 1 manifest cannot be decoded: "), "{error}");
    }
}

#[test]
fn signatures_that_are_none_leave_the_document_as_it_is() {
    let protected =
        |json: serde_json::Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json.to_string());
    for signature in [
        json!({}),
        json!({"protected": "*"}),
        json!({"protected": protected(json!([]))}),
        json!({"protected": protected(json!({"formatLength": -1, "formatTail": "Cn0"}))}),
        json!({"protected": protected(json!({"formatLength": u64::MAX, "formatTail": "Cn0"}))}),
        json!({"protected": protected(json!({"formatLength": 5, "formatTail": "*"}))}),
    ] {
        let document = json!({"history": [], "signatures": [signature]}).to_string();
        assert_eq!(payload(document.as_bytes()), document.as_bytes());
    }
}

proptest! {
    #[test]
    fn never_panics_and_no_payload_is_longer_than_what_came(
        length in any::<usize>(),
        tail in proptest::collection::vec(any::<u8>(), 0..40),
        history in any::<String>(),
    ) {
        let engine = base64::engine::general_purpose::URL_SAFE;
        let protected = json!({"formatLength": length % 400, "formatTail": engine.encode(&tail)}).to_string();
        let document = json!({
            "history": [{"v1Compatibility": history}],
            "signatures": [{"protected": engine.encode(protected)}],
        })
        .to_string();
        prop_assert!(payload(document.as_bytes()).len() <= document.len() + tail.len());
        let _ = Schema1Manifest::decode(document.as_bytes());
    }
}
