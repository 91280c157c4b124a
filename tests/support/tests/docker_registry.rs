//! The real registry, filled by us and asked by skopeo.

use samovar_testing::{Content, DockerRegistry, Image, Index, LoggedRequest, Skopeo, media_type};
use serde_json::json;

#[tokio::test]
async fn skopeo_finds_what_was_pushed() {
    let registry = DockerRegistry::start().await;
    let skopeo = Skopeo::new();
    let image = |seed: &str| Image::new(seed).created("2024-01-02T03:04:05Z").label("key", seed);
    let docker = [image("a").docker(), image("a").docker().platform("linux/arm64/v8")];
    let oci = [image("b"), image("b").platform("linux/arm64/v8")];
    let docker_list = Index::of(&docker).docker();
    let oci_index = Index::of(&oci).attestation_child().annotation("k", "v");
    let pushed: [(&str, &dyn Content, &Image); 4] = [
        ("docker", &docker[0], &docker[0]),
        ("docker-list", &docker_list, &docker[0]),
        ("oci", &oci[0], &oci[0]),
        ("oci-index", &oci_index, &oci[0]),
    ];
    for (tag, content, image) in pushed {
        let digest = registry.push("team/app", tag, content).await;
        let reference = format!("{}/team/app:{tag}", registry.host());
        assert_eq!(skopeo.inspect_raw(&reference).await, content.manifest().bytes, "{tag}");
        let inspected = skopeo.inspect(&reference).await;
        assert_eq!(inspected["Digest"], digest, "{tag}");
        assert_eq!(inspected["Created"], "2024-01-02T03:04:05Z", "{tag}");
        let config: serde_json::Value =
            serde_json::from_slice(&image.config().bytes).expect("a config is JSON");
        assert_eq!(inspected["Labels"], config["config"]["Labels"], "{tag}");
        assert_eq!(skopeo.inspect_config(&reference).await["config"]["Labels"], inspected["Labels"], "{tag}");
    }
    let from = format!("docker://{}/team/app:oci-index", registry.host());
    let to = format!("docker://{}/team/copy:v1", registry.host());
    skopeo.copy(&from, &to).await;
    let copied = skopeo.inspect(&format!("{}/team/copy:v1", registry.host())).await;
    assert_eq!(copied["Digest"], oci_index.digest());
}

#[tokio::test]
async fn the_access_log_names_requests_of_others_only() {
    let mut registry = DockerRegistry::start().await;
    // This registry hides OCI images from clients that do not say that they accept them.
    let digest = registry.push("app", "v1", &Image::new("a").docker()).await;
    assert_eq!(registry.requests().await, []);

    let client = reqwest::Client::builder().user_agent("tester/1").build().expect("a client can be built");
    let url = format!("http://{}/v2/app", registry.host());
    client.get(format!("{url}/tags/list?n=5")).send().await.expect("an answer");
    client.head(format!("{url}/manifests/none")).send().await.expect("an answer");
    let logged = |method: &str, path: &str, status| LoggedRequest {
        method: method.to_owned(),
        path: path.to_owned(),
        status,
        user_agent: "tester/1".to_owned(),
    };
    let requests = registry.requests().await;
    assert_eq!(
        requests,
        [logged("GET", "/v2/app/tags/list?n=5", 200), logged("HEAD", "/v2/app/manifests/none", 404)]
    );
    assert!(requests[0].is_tags_list());
    assert!(requests[1].is_manifest_head());
    registry.clear_requests().await;
    assert_eq!(registry.requests().await, []);

    let host = registry.host().to_owned();
    registry.restart().await;
    assert_eq!(registry.host(), host);
    client.get(format!("{url}/manifests/{digest}")).send().await.expect("an answer");
    let requests = registry.requests().await;
    assert_eq!(requests, [logged("GET", &format!("/v2/app/manifests/{digest}"), 200)]);
    assert!(requests[0].is_manifest_get());
}

#[tokio::test]
async fn tags_and_manifests_can_be_removed_each_in_its_way() {
    let registry = DockerRegistry::start().await;
    let image = |tag: &str| Image::new(tag).docker();
    for tag in ["kept", "lost", "untagged", "deleted"] {
        registry.push("app", tag, &image(tag)).await;
    }
    registry.lose_manifest("app", &image("lost").digest());
    registry.remove_tag("app", "untagged");
    registry.delete_manifest("app", &image("deleted").digest()).await;

    let url = format!("http://{}/v2/app", registry.host());
    let answer = reqwest::get(format!("{url}/tags/list")).await.expect("an answer");
    let mut list: serde_json::Value = answer.json().await.expect("a list is JSON");
    let tags = list["tags"].as_array_mut().expect("there are tags");
    tags.sort_by_key(ToString::to_string);
    assert_eq!(*tags, [json!("kept"), json!("lost")]);
    let client = reqwest::Client::new();
    for (reference, status) in
        [("kept", 200), ("lost", 404), (image("untagged").digest().as_str(), 200), ("deleted", 404)]
    {
        let request =
            client.head(format!("{url}/manifests/{reference}")).header("accept", media_type::DOCKER_MANIFEST);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{reference}");
    }
}

#[tokio::test]
async fn the_htpasswd_variant_wants_its_password() {
    let registry = DockerRegistry::builder().htpasswd().start().await;
    let digest = registry.push("app", "v1", &Image::new("a")).await;
    let url = format!("http://{}/v2/app/tags/list", registry.host());
    let anonymous = reqwest::get(&url).await.expect("an answer");
    assert_eq!(anonymous.status().as_u16(), 401);
    let skopeo = Skopeo::new().credentials(DockerRegistry::USER, DockerRegistry::PASSWORD);
    let inspected = skopeo.inspect(&format!("{}/app:v1", registry.host())).await;
    assert_eq!(inspected["Digest"], digest);
}
