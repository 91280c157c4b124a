//! Registries and build tools differ: pages, logins, and what tells when an image was built and for what.

mod common;

use common::{and, keys, samovar, wait_until_complete, watch};
use samovar_testing::fake::{Bearer, FakeRegistry, Paging, RequestKind, TagsOrder, dialects};
use samovar_testing::{Content as _, DockerRegistry, Image, Index, media_type};
use serde_json::json;

#[tokio::test]
async fn lists_are_read_to_the_end_in_every_form_of_pages() {
    for paging in [
        Paging::None,
        Paging::LastParameter,
        Paging::OpaqueToken,
        Paging::AbsoluteLink,
        Paging::RootRelativeLink,
        Paging::RelativeLink,
        Paging::SeveralLinks,
        Paging::LostPrefix,
        Paging::QuayNextPage,
        Paging::AbsoluteLinkWithToken,
    ] {
        for order in [TagsOrder::Sorted, TagsOrder::Registered, TagsOrder::Directory] {
            let registry = FakeRegistry::start().await;
            registry.paging(paging);
            registry.set_tags_order(order);
            registry.page_size(7);
            let image = Image::new("same");
            let mut tags: Vec<String> = (0..25).rev().map(|number| format!("v{number}")).collect();
            for tag in &tags {
                registry.push("team/app", tag, &image);
            }
            tags.sort_unstable();
            let name = format!("{}/team/app", registry.host());
            let server = samovar().serve(and(watch([&name]), ["--store", "memory:"])).await;
            let found = wait_until_complete(&server, &name).await;
            assert_eq!(found["tags"], json!(tags), "{paging:?} {order:?}");
            let pages = if paging == Paging::None { 1 } else { 4 };
            assert_eq!(
                registry.count(RequestKind::Tags),
                pages,
                "{paging:?} {order:?}: {:?}",
                registry.requests()
            );
        }
    }
}

#[tokio::test]
async fn every_well_known_registry_is_warmed() {
    for dialect in dialects::all() {
        let registry = FakeRegistry::start().await;
        registry.speak(&dialect);
        registry.page_size(2);
        let digests: Vec<String> = (0..5)
            .rev()
            .map(|number| registry.push("team/app", &format!("v{number}"), &Image::new(number.to_string())))
            .collect();
        let name = format!("{}/team/app", registry.host());
        let samovar = samovar();
        let login = json!({"username": "AWS", "password": dialects::ecr::PASSWORD});
        samovar.write_docker_config(&json!({"auths": {registry.host(): login}}).to_string());
        let server = samovar.serve(and(watch([&name]), ["--store", "memory:"])).await;
        let found = wait_until_complete(&server, &name).await;
        assert_eq!(found["tags"], json!(["v0", "v1", "v2", "v3", "v4"]), "{}", dialect.name);
        for (number, digest) in (0..5).rev().zip(&digests) {
            assert_eq!(found["images"][format!("v{number}")]["digest"], **digest, "{}", dialect.name);
        }
    }
}

#[tokio::test]
async fn labels_are_merged_and_the_first_source_wins() {
    let registry = FakeRegistry::start().await;
    let image = Image::new("labels")
        .label("everywhere", "config")
        .label("config", "1")
        .container_config_label("everywhere", "container_config")
        .container_config_label("container_config", "2")
        .container_config_label("below", "container_config")
        .annotation("everywhere", "annotation")
        .annotation("below", "annotation")
        .annotation("annotation", "3");
    registry.push("app", "image", &image);
    registry.push(
        "app",
        "index",
        &Index::of([&image]).annotation("index", "4").annotation("everywhere", "index"),
    );
    let name = format!("{}/app", registry.host());
    let server = samovar().serve(watch([&name])).await;
    let found = wait_until_complete(&server, &name).await;
    let mut expected = json!({
        "everywhere": "config",
        "config": "1",
        "container_config": "2",
        "below": "container_config",
        "annotation": "3",
    });
    assert_eq!(found["images"]["image"]["labels"], expected);
    expected["index"] = json!("4");
    assert_eq!(found["images"]["index"]["labels"], expected);
}

#[tokio::test]
async fn the_wanted_platform_tells_and_the_index_names() {
    let registry = FakeRegistry::start().await;
    let built = |platform: &str, created: &str| {
        Image::new("x").platform(platform).created(created).label("for", platform)
    };
    let amd64 = built("linux/amd64", "2024-01-01T00:00:00Z");
    let arm64 = built("linux/arm64/v8", "2024-02-02T00:00:00Z");
    let windows = built("windows/amd64", "2024-03-03T00:00:00Z");
    let index = Index::of([&windows, &arm64, &amd64]).attestation_child();
    let digest = registry.push("app", "all", &index);
    registry.push("app", "arm", &Index::of([&windows, &arm64]));
    registry.push("app", "windows", &windows);
    registry.push("app", "unnamed", &Index::of([]).child_without_platform(&amd64));
    let name = format!("{}/app", registry.host());

    let server = samovar().serve(watch([&name])).await;
    let found = wait_until_complete(&server, &name).await;
    let all = &found["images"]["all"];
    assert_eq!((&all["digest"], &all["image_id"]), (&json!(digest), &json!(amd64.config().digest)));
    assert_eq!(
        (&all["created_at"], &all["labels"]["for"]),
        (&json!("2024-01-01T00:00:00Z"), &json!("linux/amd64"))
    );
    assert_eq!(all["media_type"], media_type::OCI_INDEX);
    assert_eq!(
        all["platforms"],
        json!(["windows/amd64", "linux/arm64/v8", "linux/amd64"]),
        "no attestations"
    );
    assert_eq!(found["images"]["arm"]["image_id"], arm64.config().digest);
    assert_eq!(
        found["images"]["unnamed"]["image_id"],
        amd64.config().digest,
        "its configuration says for what"
    );
    assert_eq!(keys(&found["unavailable"]), ["windows"]);
    assert_eq!(found["unavailable"]["windows"]["state"], "excluded");
    drop(server);

    let server = samovar().serve(and(watch([&name]), ["--platform", "windows/amd64"])).await;
    let found = wait_until_complete(&server, &name).await;
    assert_eq!(found["images"]["all"]["image_id"], windows.config().digest);
    assert_eq!(found["images"]["windows"]["created_at"], "2024-03-03T00:00:00Z");
    assert_eq!(keys(&found["unavailable"]), ["unnamed"]);
}

#[tokio::test]
async fn other_platforms_are_looked_at_after_a_restart_that_wants_them() {
    let registry = FakeRegistry::start().await;
    let [linux, windows] =
        ["linux/amd64", "windows/amd64"].map(|platform| Image::new("x").platform(platform));
    registry.push("app", "v1", &Index::of([&linux, &windows]));
    let name = format!("{}/app", registry.host());
    let samovar = samovar();
    let server = samovar.serve(watch([&name])).await;
    let found = wait_until_complete(&server, &name).await;
    assert_eq!(found["images"]["v1"]["image_id"], linux.config().digest);
    drop(server);
    let server = samovar.serve(and(watch([&name]), ["--platform", "windows/amd64"])).await;
    let wanted = |found: &serde_json::Value| found["images"]["v1"]["image_id"] == windows.config().digest;
    common::wait_for_repository(&server, &name, wanted).await;
}

#[tokio::test]
async fn what_is_no_image_is_excluded_and_says_what_it_is() {
    let registry = FakeRegistry::start().await;
    registry.push(
        "app",
        "chart",
        &Image::new("c").config_media_type("application/vnd.cncf.helm.config.v1+json"),
    );
    let artifact = Image::new("a")
        .artifact_type("application/vnd.example.sbom")
        .config_media_type("application/vnd.oci.empty.v1+json")
        .config_bytes("{}");
    registry.push("app", "sbom", &artifact);
    let signature = Image::new("s").layer_media_type("application/vnd.dev.cosign.simplesigning.v1+json");
    let signed = Image::new("1").digest().replace("sha256:", "sha256-");
    registry.push("app", &format!("{signed}.sig"), &signature);
    registry.push("app", "signature", &signature);
    registry.push("app", "v1", &Image::new("1"));
    let name = format!("{}/app", registry.host());
    let server = samovar().serve(watch([&name])).await;
    let found = wait_until_complete(&server, &name).await;
    assert_eq!(keys(&found["images"]), ["v1"]);
    let companion = format!("{signed}.sig");
    assert_eq!(keys(&found["unavailable"]), ["chart", "sbom", companion.as_str(), "signature"]);
    for (tag, said) in [
        ("chart", "a Helm chart (application/vnd.cncf.helm.config.v1+json)"),
        ("sbom", "application/vnd.example.sbom"),
        ("signature", "a cosign signature"),
        (&companion, "a cosign signature, by its name"),
    ] {
        let unavailable = &found["unavailable"][tag];
        assert_eq!(unavailable["state"], "excluded", "{tag}: {unavailable}");
        assert!(
            unavailable["reason"].as_str().is_some_and(|reason| reason.contains(said)),
            "{tag}: {unavailable}"
        );
    }
    assert_eq!(registry.count(RequestKind::Blob), 1, "only the image's: {:?}", registry.requests());
    assert_eq!(registry.count(RequestKind::ManifestGet), 4, "none for what its name tells");
}

#[tokio::test]
async fn a_real_registry_with_passwords_is_warmed() {
    let registry = DockerRegistry::builder().htpasswd().start().await;
    let digest = registry.push("team/app", "v1", &Image::new("1")).await;
    let name = format!("{}/team/app", registry.host());
    for auth in [
        json!({"username": DockerRegistry::USER, "password": DockerRegistry::PASSWORD}),
        // The same in the form that `docker login` writes.
        json!({"auth": "c2Ftb3ZhcjpsZXQtaXQtc3RlZXA="}),
    ] {
        let samovar = samovar();
        samovar.write_docker_config(&json!({"auths": {registry.host(): auth}}).to_string());
        let server = samovar.serve(watch([&name])).await;
        let found = wait_until_complete(&server, &name).await;
        assert_eq!(found["images"]["v1"]["digest"], digest);
    }
    let stranger = samovar().serve(watch([&name])).await;
    let refused = |answer: &samovar_testing::Answer| answer.json()["last_error"].is_object();
    let answer = stranger.wait_until(&common::repository_path(&name), refused, common::PATIENCE).await;
    assert_eq!(answer.status, 503, "{answer:?}");
}

#[tokio::test]
async fn tokens_come_in_several_forms() {
    for bearer in [
        Bearer::new(),
        Bearer::new().token_field("access_token"),
        Bearer::new().expires_in(None),
        Bearer::new().service("a service with spaces & more"),
    ] {
        let registry = FakeRegistry::start().await;
        registry.require_bearer(bearer.clone());
        let digest = registry.push("a/b/c", "v1", &Image::new("1"));
        let name = format!("{}/a/b/c", registry.host());
        let server = samovar().serve(watch([&name])).await;
        let found = wait_until_complete(&server, &name).await;
        assert_eq!(found["images"]["v1"]["digest"], digest, "{bearer:?}");
        assert_eq!(registry.tokens().len(), 1, "{bearer:?}");
    }
}
