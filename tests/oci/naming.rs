//! Five ways to say which registry is meant.

use serde_json::json;

use super::{
    Warm, assert_document, assert_error, common, filled, image, manifest, samovar, serve, warm, watching,
};

/// Asks for tags and a manifest at a path, with these headers.
async fn assert_reached(warm: &Warm, path: &str, query: &str, headers: &[(&str, &str)]) {
    let tags = warm.server.ask("GET", &format!("{path}/tags/list?n=1{query}"), headers).await;
    assert_eq!(tags.status, 200, "{path}: {tags:?}");
    assert_eq!(tags.json()["tags"], json!(["1.0"]));
    // The link leads back in the same way.
    let next = tags.header("link").and_then(|link| link.strip_prefix('<')?.strip_suffix(">; rel=\"next\""));
    let next = next.unwrap_or_else(|| panic!("no link: {tags:?}"));
    assert!(next.starts_with(&format!("{path}/tags/list?n=1&last=1.0")), "{next}");
    let second = warm.server.ask("GET", next, headers).await;
    assert_eq!(second.json()["tags"], json!(["1.0-docker"]), "{second:?}");
    let answer = warm.server.ask("GET", &format!("{path}/manifests/1.0?x{query}"), headers).await;
    assert_document(&answer, &manifest(&image()));
}

#[tokio::test]
async fn by_host_and_by_alias_in_the_path() {
    let warm = warm().await;
    let host = warm.registry.host();
    assert_reached(&warm, &format!("/v2/{host}/team/app"), "", &[]).await;
    assert_reached(&warm, "/v2/up/team/app", "", &[]).await;
    assert_reached(&warm, &format!("/v2/{}/team%2Fapp", host.replace(':', "%3A")), "", &[]).await;
    // The name is answered as it was asked for.
    let answer = warm.server.get("/v2/up/team/app/tags/list").await;
    assert_eq!(answer.json()["name"], "up/team/app");
    // Without a registry there is none: nothing is made up.
    assert_error(&warm.server.get("/v2/team/app/tags/list").await, 404, "NAME_UNKNOWN");
    warm.assert_registry_was_not_asked().await;
}

#[tokio::test]
async fn by_namespace_as_mirrors_are_asked() {
    let warm = warm().await;
    let host = warm.registry.host();
    let namespace = format!("&ns={host}");
    assert_reached(&warm, "/v2/team/app", &namespace, &[]).await;
    assert_reached(&warm, &format!("/v2/{host}/team/app"), &namespace, &[]).await;
    for path in [
        format!("/v2/?ns={host}"),
        format!("/v2/team/app/manifests/1.0?ns={host}"),
        format!("/v2/team/app/manifests/none?ns={host}"),
    ] {
        let answer = warm.server.get(&path).await;
        assert_eq!(answer.header("oci-namespace"), Some(host), "{answer:?}");
    }
    let other = warm.server.get("/v2/team/app/manifests/1.0?ns=registry-1.docker.io").await;
    assert_error(&other, 404, "NAME_UNKNOWN");
    assert_eq!(other.header("oci-namespace"), Some("registry-1.docker.io"));
    assert_eq!(warm.server.get("/v2/").await.header("oci-namespace"), None);
}

#[tokio::test]
async fn by_what_stands_before() {
    let warm = warm().await;
    let host = warm.registry.host();
    for before in [host.to_owned(), host.replace(':', "%3A"), "up".to_owned()] {
        assert_reached(&warm, &format!("/{before}/v2/team/app"), "", &[]).await;
        for base in [format!("/{before}/v2/"), format!("/{before}/v2")] {
            assert_eq!(warm.server.get(&base).await.status, 200, "{base}");
        }
    }
    assert_error(&warm.server.get("/nothing/v2/team/app/tags/list").await, 400, "NAME_INVALID");
    let listed = warm.server.get("/up/v2/_catalog").await;
    assert_eq!(listed.json(), json!({ "repositories": ["team/app"] }));
    // Two registries at once are none.
    let both = warm.server.get("/up/v2/team/app/manifests/1.0?ns=ghcr.io").await;
    assert_error(&both, 404, "NAME_UNKNOWN");
}

#[tokio::test]
async fn by_virtual_host_and_as_the_registry_itself_and_by_default() {
    let registry = filled().await;
    let name = format!("{}/team/app", registry.host());
    let configuration = watching(&[registry.host()], std::slice::from_ref(&name));
    let oci = format!(
        "[oci]\ndefault_upstream = '{0}'\nstand_in_for = ['up']\nvirtual_hosts = {{ 'cache.svc' = 'up', 'hub.svc:5000' = 'docker.io' }}\n",
        registry.host()
    );
    let server = serve(&samovar(), &format!("{configuration}{oci}")).await;
    common::wait_until_complete(&server, &name).await;
    let warm = Warm { registry, server, name };
    let host = warm.registry.host().to_owned();
    assert_reached(&warm, "/v2/team/app", "", &[]).await;
    for virtual_host in ["cache.svc", "CACHE.svc:8080", &host] {
        assert_reached(&warm, "/v2/team/app", "", &[("host", virtual_host)]).await;
    }
    let other = warm.server.ask("GET", "/v2/team/app/tags/list", &[("host", "hub.svc:5000")]).await;
    assert_error(&other, 404, "NAME_UNKNOWN");
    // A host that stands for nothing is not a name of this machine.
    let stranger = warm.server.ask("GET", "/v2/team/app/tags/list", &[("host", "other.svc")]).await;
    assert_eq!(stranger.status, 403, "{stranger:?}");
}
