//! The pull and content discovery categories of the distribution specification's conformance requirements, each as a test, and
//! what clients rely on beside them. The registry is not asked for anything that is warm.

use samovar_testing::{Content as _, digest_of};
use serde_json::json;

use super::{
    as_blob, assert_document, assert_error, assert_headers, companion, image, index, manifest, signature,
    warm, warm_with,
};

const NOTHING: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

#[tokio::test]
async fn it_is_a_registry() {
    let warm = warm().await;
    for path in ["/v2/", "/v2"] {
        for method in ["GET", "HEAD"] {
            let answer = warm.server.ask(method, path, &[]).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"), "{answer:?}");
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!(answer.header("content-length"), Some("2"));
        }
    }
    let listed = warm.server.get("/v2/_catalog").await;
    assert_eq!(listed.json(), json!({ "repositories": [warm.name] }));
}

#[tokio::test]
async fn pull_manifests_by_tag_and_by_digest() {
    let warm = warm().await;
    let children = index().children();
    let by_tag = [
        ("1.0", manifest(&image())),
        ("1.0-docker", manifest(&image().docker())),
        ("2.0", manifest(&index())),
    ];
    for (tag, document) in &by_tag {
        assert_document(&warm.get(&format!("manifests/{tag}")).await, document);
        assert_headers(&warm.head(&format!("manifests/{tag}")).await, document);
    }
    let by_digest = by_tag.iter().map(|(_, document)| document).chain(&children);
    for document in by_digest {
        for digest in [document.digest.clone(), document.digest.replace(':', "%3A")] {
            let answer = warm.get(&format!("manifests/{digest}")).await;
            assert_document(&answer, document);
            assert!(
                answer.header("cache-control").is_some_and(|value| value.contains("immutable")),
                "{answer:?}"
            );
            let answer = warm.head(&format!("manifests/{digest}")).await;
            assert_headers(&answer, document);
            assert_eq!((answer.status, answer.text.as_str()), (200, ""));
        }
    }
    let tagged = warm.get(&format!("manifests/1.0@{}", by_tag[0].1.digest)).await;
    assert_document(&tagged, &by_tag[0].1);
    warm.assert_registry_was_not_asked().await;
}

#[tokio::test]
async fn a_tag_says_how_old_it_is_and_a_client_that_has_it_gets_nothing() {
    let warm = warm().await;
    let digest = manifest(&image()).digest;
    for reference in ["1.0", digest.as_str()] {
        let path = warm.path(&format!("manifests/{reference}"));
        for has in [format!("\"{digest}\""), digest.clone(), format!("\"x\", W/\"{digest}\"")] {
            let answer = warm.server.get_with(&path, &[("if-none-match", &has)]).await;
            assert_eq!((answer.status, answer.text.as_str()), (304, ""), "{answer:?}");
            assert_eq!(answer.header("etag"), Some(format!("\"{digest}\"").as_str()));
            assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
        }
        let answer = warm.server.get_with(&path, &[("if-none-match", "\"x\"")]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("warning"), None);
    }
    let age = |answer: &samovar_testing::Answer| answer.header("age").and_then(|age| age.parse::<u64>().ok());
    assert!(age(&warm.get("manifests/1.0").await).is_some_and(|age| age < 60));
    assert!(age(&warm.get("tags/list").await).is_some_and(|age| age < 60));
    assert_eq!(age(&warm.get(&format!("manifests/{digest}")).await), None, "a digest is of no time");
}

#[tokio::test]
async fn whatever_a_client_accepts_it_gets_what_there_is() {
    let warm = warm().await;
    let only = |media_type: &'static str| [("accept", media_type)];
    for accept in ["application/vnd.docker.distribution.manifest.v1+prettyjws", "text/plain", "*/*"] {
        let answer = warm.server.get_with(&warm.path("manifests/2.0"), &only(accept)).await;
        assert_document(&answer, &manifest(&index()));
    }
}

#[tokio::test]
async fn pull_configurations_whole_and_in_parts() {
    let warm = warm().await;
    let config = as_blob(image().config());
    assert_document(&warm.get(&format!("blobs/{}", config.digest)).await, &config);
    let head = warm.head(&format!("blobs/{}", config.digest)).await;
    assert_headers(&head, &config);
    assert_eq!((head.status, head.header("accept-ranges")), (200, Some("bytes")));
    // Of each child of an index.
    for child in index().blobs().into_iter().filter(|blob| blob.media_type.ends_with("config.v1+json")) {
        assert_document(&warm.get(&format!("blobs/{}", child.digest)).await, &as_blob(child));
    }
    let path = warm.path(&format!("blobs/{}", config.digest));
    let length = config.bytes.len();
    for (range, part) in [("bytes=0-9", 0..10), ("bytes=5-", 5..length), ("bytes=-4", length - 4..length)] {
        let answer = warm.server.get_with(&path, &[("range", range)]).await;
        assert_eq!((answer.status, answer.text.as_bytes()), (206, &config.bytes[part.clone()]), "{answer:?}");
        let place = format!("bytes {}-{}/{length}", part.start, part.end - 1);
        assert_eq!(answer.header("content-range"), Some(place.as_str()));
        assert_eq!(answer.header("content-length"), Some(part.len().to_string().as_str()));
    }
    let outside = warm.server.get_with(&path, &[("range", "bytes=100000-")]).await;
    assert_error(&outside, 416, "RANGE_INVALID");
    assert_eq!(outside.header("content-range"), Some(format!("bytes */{length}").as_str()));
    let has = warm.server.get_with(&path, &[("if-none-match", &format!("\"{}\"", config.digest))]).await;
    assert_eq!(has.status, 304);
    warm.assert_registry_was_not_asked().await;
}

#[tokio::test]
async fn layers_are_not_here() {
    let warm = warm().await;
    let layer = &image().layers()[0];
    assert_error(&warm.get(&format!("blobs/{}", layer.digest)).await, 404, "BLOB_UNKNOWN");
    assert_eq!(warm.head(&format!("blobs/{}", layer.digest)).await.status, 404);
    warm.assert_registry_was_not_asked().await;
}

#[tokio::test]
async fn or_layers_are_said_to_be_at_the_registry() {
    let warm = warm_with("layers = 'redirect'").await;
    let layer = &image().layers()[0];
    let answer = warm.server.ask("GET", &warm.path(&format!("blobs/{}", layer.digest)), &[]).await;
    let address = format!("http://{}/v2/team/app/blobs/{}", warm.registry.host(), layer.digest);
    assert_eq!((answer.status, answer.header("location")), (307, Some(address.as_str())), "{answer:?}");
    // Configurations are here.
    let config = as_blob(image().config());
    assert_document(&warm.get(&format!("blobs/{}", config.digest)).await, &config);
}

#[tokio::test]
async fn what_does_not_exist_is_said_not_to() {
    let warm = warm().await;
    for (below, code) in [
        ("manifests/none", "MANIFEST_UNKNOWN"),
        (&format!("manifests/{NOTHING}"), "MANIFEST_UNKNOWN"),
        // As conformance tests ask for what cannot be.
        ("manifests/.INVALID_MANIFEST_NAME", "MANIFEST_UNKNOWN"),
        (&format!("blobs/{NOTHING}"), "BLOB_UNKNOWN"),
    ] {
        assert_error(&warm.get(below).await, 404, code);
        assert_eq!(warm.head(below).await.status, 404, "{below}");
    }
    let elsewhere = format!("/v2/{}/team/other", warm.registry.host());
    for below in ["tags/list", "manifests/1.0", &format!("blobs/{NOTHING}"), &format!("referrers/{NOTHING}")]
    {
        assert_error(&warm.server.get(&format!("{elsewhere}/{below}")).await, 404, "NAME_UNKNOWN");
    }
    for nothing in ["/v2/some/path/else", "/v2/_oci/ext/discover"] {
        assert_error(&warm.server.get(nothing).await, 404, "UNSUPPORTED");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_what_is_wrong() {
    let warm = warm().await;
    for (path, code) in [
        (warm.path("manifests/sha256:totally-wrong"), "DIGEST_INVALID"),
        (warm.path("blobs/sha256:totally-wrong"), "DIGEST_INVALID"),
        (warm.path("blobs/none"), "DIGEST_INVALID"),
        (warm.path("referrers/sha256:ab"), "DIGEST_INVALID"),
        (warm.path("tags/list?n=-1"), "PAGINATION_NUMBER_INVALID"),
        (warm.path("tags/list?n=ten"), "PAGINATION_NUMBER_INVALID"),
        (format!("/v2/{}/TEAM/app/tags/list", warm.registry.host()), "NAME_INVALID"),
        (format!("/v2/{}//app/tags/list", warm.registry.host()), "NAME_INVALID"),
        ("/v2/docker.io/team%/tags/list".to_owned(), "NAME_INVALID"),
        ("/v2/team/app/tags/list?ns=not%20a%20host".to_owned(), "NAME_INVALID"),
        ("/v2/team/app/tags/list?ns=%ff".to_owned(), "NAME_INVALID"),
    ] {
        assert_error(&warm.server.get(&path).await, 400, code);
    }
    // What is refused before the door is refused in the same words.
    let rebound = warm.server.ask("GET", "/v2/", &[("host", "evil.example")]).await;
    assert_eq!(
        (rebound.status, rebound.json()["errors"][0]["code"].as_str()),
        (403, Some("DENIED")),
        "{rebound:?}"
    );
}

#[tokio::test]
async fn nothing_can_be_written() {
    let warm = warm().await;
    let digest = manifest(&image()).digest;
    for (method, below) in [
        ("POST", "blobs/uploads/".to_owned()),
        ("PATCH", "blobs/uploads/1".to_owned()),
        ("PUT", "blobs/uploads/1?digest=x".to_owned()),
        ("PUT", "manifests/1.0".to_owned()),
        ("DELETE", "manifests/1.0".to_owned()),
        ("DELETE", format!("manifests/{digest}")),
        ("DELETE", format!("blobs/{digest}")),
    ] {
        let answer = warm.server.ask(method, &warm.path(&below), &[]).await;
        assert_error(&answer, 405, "UNSUPPORTED");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{method} {below}");
    }
}

#[tokio::test]
async fn list_tags_in_order_and_in_pages() {
    let warm = warm().await;
    let sig = companion(&manifest(&index()).digest, ".sig");
    let all = ["1.0", "1.0-docker", "2.0", &sig];
    let answer = warm.get("tags/list").await;
    assert_eq!(answer.json(), json!({ "name": warm.name, "tags": all }));
    assert_eq!((answer.header("content-type"), answer.header("link")), (Some("application/json"), None));
    let page = async |query: &str| {
        let answer = warm.get(&format!("tags/list{query}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        (answer.json()["tags"].clone(), answer.header("link").map(str::to_owned))
    };
    let link = |last: &str| Some(format!("</v2/{}/tags/list?n=2&last={last}>; rel=\"next\"", warm.name));
    assert_eq!(page("?n=2").await, (json!(all[..2]), link("1.0-docker")));
    assert_eq!(page("?n=2&last=1.0-docker").await, (json!(all[2..]), None));
    assert_eq!(page("?n=4").await, (json!(all), None));
    assert_eq!(page("?n=10000").await, (json!(all), None));
    assert_eq!(page("?n=1000000").await, (json!(all), None));
    assert_eq!(page("?n=0").await, (json!([]), None));
    assert_eq!(page("?last=1.5").await, (json!(all[2..]), None));
    assert_eq!(page("?last=zzz").await, (json!([]), None));
    // What is sent along by who stands in between changes nothing.
    assert_eq!(page("?n=4&_=1&client=x").await, (json!(all), None));
    let etag = answer.header("etag").unwrap();
    let unchanged = warm.server.get_with(&warm.path("tags/list"), &[("if-none-match", etag)]).await;
    assert_eq!(unchanged.status, 304);
    warm.assert_registry_was_not_asked().await;
}

/// The registry behind it has no API for referrers: clients keep them under a tag.
#[tokio::test]
async fn list_referrers_with_and_without_a_type() {
    let warm = warm().await;
    let (subject, signature) = (manifest(&image()).digest, manifest(&signature()));
    let empty = warm.get(&format!("referrers/{NOTHING}")).await;
    assert_eq!(empty.status, 200, "{empty:?}");
    assert_eq!(empty.header("content-type"), Some("application/vnd.oci.image.index.v1+json"));
    assert_eq!(
        empty.json(),
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []})
    );

    let descriptor = json!({
        "mediaType": signature.media_type,
        "digest": signature.digest,
        "size": signature.bytes.len(),
        "artifactType": "application/vnd.example.signature",
    });
    let list = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [descriptor]});
    let list = samovar_testing::Document::new("application/vnd.oci.image.index.v1+json", list.to_string());
    warm.registry.push("team/app", &companion(&subject, ""), &list).await;
    warm.registry.clear_requests().await;
    let all = warm.get(&format!("referrers/{subject}")).await;
    assert_eq!((all.status, all.text.as_bytes()), (200, &list.bytes[..]), "{all:?}");
    assert_eq!(all.header("oci-filters-applied"), None);
    assert!(all.header("age").is_some());
    let of_type = |artifact_type: &str| format!("referrers/{subject}?artifactType={artifact_type}");
    let chosen = warm.get(&of_type("application/vnd.example.signature")).await;
    assert_eq!(chosen.json()["manifests"], json!([descriptor]));
    assert_eq!(chosen.header("oci-filters-applied"), Some("artifactType"));
    let none = warm.get(&of_type("application/vnd.example.sbom")).await;
    assert_eq!(none.json()["manifests"], json!([]));
    // One question to the API and one by tag, for all of it.
    assert_eq!(warm.registry.requests().await.len(), 2, "{:?}", warm.registry.requests().await);
    // And what was listed may be read, with its small blobs.
    let answer = warm.get(&format!("manifests/{}", signature.digest)).await;
    assert_document(&answer, &signature);
}

#[tokio::test]
async fn what_is_kept_beside_images_is_fetched_when_it_is_asked_for() {
    let warm = warm().await;
    let signature = signature();
    let tag = companion(&manifest(&index()).digest, ".sig");
    for _ in 0..2 {
        assert_document(&warm.get(&format!("manifests/{tag}")).await, &manifest(&signature));
        for blob in signature.blobs() {
            assert_document(&warm.get(&format!("blobs/{}", blob.digest)).await, &as_blob(blob));
        }
    }
    let requests = warm.registry.requests().await;
    assert_eq!(requests.len(), 1 + signature.blobs().len(), "each of it once: {requests:?}");
}

#[tokio::test]
async fn what_was_served_is_what_was_promised() {
    let warm = warm().await;
    for below in ["manifests/1.0", "manifests/1.0-docker", "manifests/2.0"] {
        let answer = warm.get(below).await;
        assert_eq!(answer.header("docker-content-digest"), Some(digest_of(answer.text.as_bytes()).as_str()));
    }
}
