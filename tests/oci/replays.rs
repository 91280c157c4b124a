//! What clients send that cannot be run here, request by request and header by header, with what each of them checks.

use samovar_testing::{Answer, Content as _};
use serde_json::{Value, json};

use super::{
    Warm, as_blob, assert_document, assert_error, common, filled, image, index, manifest, samovar, serve,
    warm, watching,
};

/// The digest, length and type that an answer to HEAD has to have, or clients fetch the whole or fail.
#[track_caller]
fn assert_resolves(answer: &Answer, digest: &str) {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("docker-content-digest"), Some(digest), "{answer:?}");
    for header in ["content-length", "content-type"] {
        assert!(answer.header(header).is_some_and(|value| !value.is_empty()), "{header}: {answer:?}");
    }
}

/// A list of tags as every client takes it.
#[track_caller]
fn tags(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let list = answer.json();
    assert!(list["name"].is_string());
    let tags: Vec<String> = serde_json::from_value(list["tags"].clone()).expect("never null");
    assert!(tags.is_sorted(), "{tags:?}");
    tags
}

/// Renovate, with `registryUrls` or `registryAliases` that put our host before the registry's.
#[tokio::test]
async fn renovate_reads_tags_digests_and_labels() {
    let warm = warm().await;
    let agent = ("user-agent", "Renovate/41.0.0 (https://github.com/renovatebot/renovate)");
    let accept = (
        "accept",
        "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, \
         application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json",
    );
    let ask = async |method: &str, path: &str| warm.server.ask(method, path, &[agent, accept]).await;
    // The list itself is the question whether a login is wanted.
    let listed = ask("GET", "/v2/up/team/app/tags/list?n=10000").await;
    assert_eq!(tags(&listed).len(), 4);
    assert_eq!((listed.header("link"), listed.header("www-authenticate")), (None, None));
    // Digest of an image.
    assert_resolves(&ask("HEAD", "/v2/up/team/app/manifests/2.0").await, &manifest(&index()).digest);
    // Labels: the base, the index, its first child, the child's configuration.
    assert_eq!(ask("GET", "/v2/").await.status, 200);
    let found = ask("GET", "/v2/up/team/app/manifests/2.0").await;
    assert_document(&found, &manifest(&index()));
    let child = found.json()["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let child = ask("GET", &format!("/v2/up/team/app/manifests/{child}")).await;
    let config = child.json()["config"]["digest"].as_str().unwrap().to_owned();
    let config = ask("GET", &format!("/v2/up/team/app/blobs/{config}")).await;
    assert_eq!((config.status, config.json()["os"].as_str()), (200, Some("linux")), "{config:?}");
    // One component alone is looked for under `library/` only where it does not exist.
    assert_error(&ask("GET", "/v2/up/app/tags/list?n=10000").await, 404, "NAME_UNKNOWN");
    warm.assert_registry_was_not_asked().await;
}

/// Argo CD Image Updater, with an `api_url` that is a virtual host of ours.
#[tokio::test]
async fn argo_cd_image_updater_reads_tags_manifests_and_configurations() {
    let registry = filled().await;
    let name = format!("{}/team/app", registry.host());
    let configuration = watching(&[registry.host()], std::slice::from_ref(&name));
    let configuration = format!("{configuration}[oci.virtual_hosts]\n'up.imgcache.svc' = 'up'\n");
    let server = serve(&samovar(), &configuration).await;
    common::wait_until_complete(&server, &name).await;
    registry.clear_requests().await;
    let warm = Warm { registry, server, name };
    // Four lines, none of them a list.
    let accept = [
        ("host", "up.imgcache.svc"),
        ("accept", "application/vnd.oci.image.manifest.v1+json"),
        ("accept", "application/vnd.docker.distribution.manifest.v2+json"),
        ("accept", "application/vnd.docker.distribution.manifest.list.v2+json"),
        ("accept", "application/vnd.oci.image.index.v1+json"),
    ];
    let ask = async |path: &str| warm.server.ask("GET", path, &accept).await;
    assert_eq!(ask("/v2/").await.status, 200);
    assert_eq!(tags(&ask("/v2/team/app/tags/list").await).len(), 4);
    for (tag, expected) in [("1.0", manifest(&image())), ("2.0", manifest(&index()))] {
        assert_document(&ask(&format!("/v2/team/app/manifests/{tag}")).await, &expected);
    }
    for child in index().children() {
        let answer = ask(&format!("/v2/team/app/manifests/{}", child.digest)).await;
        assert_document(&answer, &child);
        let config = answer.json()["config"]["digest"].as_str().unwrap().to_owned();
        let config = ask(&format!("/v2/team/app/blobs/{config}")).await;
        assert_eq!(config.status, 200, "{config:?}");
        assert!(config.json()["architecture"].is_string());
    }
    warm.assert_registry_was_not_asked().await;
    // Verification: referrers, then the tag that signatures used to be under, then what it holds.
    let digest = manifest(&index()).digest;
    let referrers = ask(&format!("/v2/team/app/referrers/{digest}")).await;
    assert_eq!((referrers.status, &referrers.json()["manifests"]), (200, &json!([])));
    let signature = ask(&format!("/v2/team/app/manifests/{}.sig", digest.replace(':', "-"))).await;
    assert_eq!(signature.status, 200, "{signature:?}");
    let layer: Value = signature.json()["layers"][0]["digest"].clone();
    assert_eq!(
        ask(&format!("/v2/team/app/blobs/{}", layer.as_str().unwrap())).await.text,
        r#"{"critical":{}}"#
    );
}

/// Flux's image reflector and all that is built on the same library.
#[tokio::test]
async fn image_reflector_lists_and_resolves() {
    let warm = warm().await;
    let ping = warm.server.ask("GET", "/v2/", &[("user-agent", "Go-http-client/1.1")]).await;
    assert_eq!(ping.status, 200);
    let agent = ("user-agent", "go-containerregistry/v0.20.6");
    let accept = (
        "accept",
        "application/vnd.docker.distribution.manifest.v1+json,application/vnd.docker.distribution.manifest.v1+prettyjws,\
         application/vnd.docker.distribution.manifest.v2+json,application/vnd.oci.image.manifest.v1+json,\
         application/vnd.docker.distribution.manifest.list.v2+json,application/vnd.oci.image.index.v1+json",
    );
    let (mut path, mut all) = ("/v2/up/team/app/tags/list?n=2".to_owned(), Vec::new());
    loop {
        let page = warm.server.ask("GET", &path, &[agent]).await;
        all.extend(tags(&page));
        let Some(link) = page.header("link") else { break };
        let (target, relation) = link.split_once("; ").unwrap();
        assert_eq!(relation, "rel=\"next\"");
        path = target.trim_matches(['<', '>']).to_owned();
        assert!(path.starts_with("/v2/up/team/app/tags/list?"), "relative to the root: {path}");
    }
    assert_eq!(all.len(), 4);
    let head = warm.server.ask("HEAD", "/v2/up/team/app/manifests/1.0", &[agent, accept]).await;
    assert_resolves(&head, &manifest(&image()).digest);
}

/// containerd, pointed at us by a `hosts.toml`: it asks as of the registry, and says which in `ns`.
#[tokio::test]
async fn containerd_resolves_and_goes_elsewhere_for_layers() {
    let warm = warm().await;
    let accept = (
        "accept",
        "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, \
         application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*",
    );
    let agent = ("user-agent", "containerd/1.6.20~ds1");
    let host = warm.registry.host().to_owned();
    let ask = async |method: &str, below: &str| {
        let answer =
            warm.server.ask(method, &format!("/v2/team/app/{below}?ns={host}"), &[agent, accept]).await;
        assert_eq!(answer.header("oci-namespace"), Some(host.as_str()), "{answer:?}");
        answer
    };
    let digest = manifest(&index()).digest;
    assert_resolves(&ask("HEAD", "manifests/2.0").await, &digest);
    let found = ask("GET", &format!("manifests/{digest}")).await;
    assert_document(&found, &manifest(&index()));
    let child = found.json()["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let child = ask("GET", &format!("manifests/{child}")).await.json();
    let of = |descriptor: &Value| descriptor["digest"].as_str().unwrap().to_owned();
    assert_eq!(ask("GET", &format!("blobs/{}", of(&child["config"]))).await.status, 200);
    // 404 sends it to the next host; 405 or 403 to HEAD would make it fetch the whole.
    assert_error(&ask("GET", &format!("blobs/{}", of(&child["layers"][0]))).await, 404, "BLOB_UNKNOWN");
    assert_error(&ask("GET", "manifests/none").await, 404, "MANIFEST_UNKNOWN");
}

/// regctl asks mirrors with the host that it would have asked itself, and takes referrers by the API.
#[tokio::test]
async fn regctl_asks_as_of_the_registry() {
    let warm = warm().await;
    let mut headers = vec![("user-agent", "regclient/regctl (v0.8.3)")];
    headers.extend(
        [
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.docker.distribution.manifest.list.v2+json",
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "application/vnd.docker.distribution.manifest.v1+json",
            "application/vnd.oci.artifact.manifest.v1+json",
        ]
        .map(|media_type| ("accept", media_type)),
    );
    let host = warm.registry.host();
    let ask = async |method: &str, path: &str| warm.server.ask(method, path, &headers).await;
    let digest = manifest(&index()).digest;
    for prefix in ["", &format!("{host}/")] {
        let path = |below: &str| format!("/v2/{prefix}team/app/{below}?ns={host}");
        assert_resolves(&ask("HEAD", &path("manifests/2.0")).await, &digest);
        assert_document(&ask("GET", &path("manifests/2.0")).await, &manifest(&index()));
        assert_eq!(tags(&ask("GET", &path("tags/list")).await).len(), 4);
        let referrers = ask("GET", &path(&format!("referrers/{digest}"))).await;
        assert_eq!(referrers.header("content-type"), Some("application/vnd.oci.image.index.v1+json"));
        let config = as_blob(image().config());
        assert_document(&ask("GET", &path(&format!("blobs/{}", config.digest))).await, &config);
    }
}
