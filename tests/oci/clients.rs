//! Real clients, unchanged.

use samovar_testing::{ContainerTool, Containerd, Content as _, Skopeo};

use super::{companion, image, index, manifest, signature, warm, warm_with};

#[tokio::test]
async fn skopeo_lists_and_inspects() {
    let (warm, skopeo) = (warm().await, Skopeo::new());
    let (ours, theirs) =
        (format!("{}/up/team/app", warm.server.host()), format!("{}/team/app", warm.registry.host()));
    let sig = companion(&manifest(&index()).digest, ".sig");
    assert_eq!(skopeo.list_tags(&ours).await, ["1.0", "1.0-docker", "2.0", &sig]);
    for tag in ["1.0", "1.0-docker", "2.0"] {
        let (ours, theirs) = (format!("{ours}:{tag}"), format!("{theirs}:{tag}"));
        let mut inspected = skopeo.inspect(&ours).await;
        let mut expected = skopeo.inspect(&theirs).await;
        // The one lists in order, the other does not; and each says what it was called.
        for description in [&mut inspected, &mut expected] {
            let description = description.as_object_mut().unwrap();
            description.remove("Name");
            description["RepoTags"].as_array_mut().unwrap().sort_by_key(ToString::to_string);
        }
        assert_eq!(inspected, expected, "{tag}");
        assert_eq!(skopeo.inspect_raw(&ours).await, skopeo.inspect_raw(&theirs).await, "{tag}");
        assert_eq!(skopeo.inspect_config(&ours).await, skopeo.inspect_config(&theirs).await, "{tag}");
    }
}

#[tokio::test]
async fn skopeo_copies_what_is_here_and_gets_layers_from_the_registry() {
    let (warm, skopeo) = (warm_with("layers = 'redirect'").await, Skopeo::new());
    let directory = tempfile::tempdir().unwrap();
    for (tag, content) in [("1.0", manifest(&image())), ("2.0", manifest(&index()))] {
        let target = directory.path().join(tag);
        skopeo.copy_to_directory(&format!("{}/up/team/app:{tag}", warm.server.host()), &target).await;
        assert_eq!(std::fs::read(target.join("manifest.json")).unwrap(), content.bytes, "{tag}");
    }
    let layer = &image().layers()[0];
    let hex = layer.digest.split_once(':').unwrap().1;
    assert_eq!(std::fs::read(directory.path().join("1.0").join(hex)).unwrap(), layer.bytes);
    // Nothing but layers came from the registry, and manifests for platforms that nobody had asked about.
    let requests = warm.registry.requests().await;
    assert!(requests.iter().all(|request| request.path.contains("/blobs/")), "{requests:?}");
}

#[tokio::test]
async fn skopeo_copies_a_signature_of_which_everything_is_small_enough_to_be_here() {
    let (warm, skopeo) = (warm().await, Skopeo::new());
    let directory = tempfile::tempdir().unwrap();
    let tag = companion(&manifest(&index()).digest, ".sig");
    skopeo.copy_to_directory(&format!("{}/up/team/app:{tag}", warm.server.host()), directory.path()).await;
    for blob in signature().blobs() {
        let hex = blob.digest.split_once(':').unwrap().1;
        assert_eq!(std::fs::read(directory.path().join(hex)).unwrap(), blob.bytes);
    }
}

/// A layer that a mirror does not have, these clients look for nowhere else: they have to be told where it is.
#[tokio::test]
async fn buildah_and_podman_pull_through_a_mirror() {
    let warm = warm_with("layers = 'redirect'").await;
    let (name, mirror) = (&warm.name, format!("{}/up", warm.server.host()));
    for tool in [ContainerTool::buildah(), ContainerTool::podman()] {
        for (tag, config) in [("1.0", image().config()), ("1.0-docker", image().docker().config())] {
            warm.registry.clear_requests().await;
            let id = tool
                .pull(&format!("{name}:{tag}"), &mirror)
                .await
                .unwrap_or_else(|messages| panic!("{messages}"));
            assert_eq!(format!("sha256:{id}"), config.digest, "{tool:?}");
            // The layer it had to get elsewhere, and nothing else, unless it had it already.
            let layer = &image().layers()[0].digest;
            for request in warm.registry.requests().await {
                assert!(request.path.ends_with(&format!("/blobs/{layer}")), "{request:?}");
            }
        }
    }
}

#[tokio::test]
async fn containerd_resolves_through_a_mirror_and_takes_layers_from_the_registry() {
    let warm = warm().await;
    let containerd = Containerd::start().await;
    let host = warm.registry.host();
    let hosts = format!(
        "server = \"http://{host}\"\n[host.\"{}\"]\n  capabilities = [\"pull\", \"resolve\"]\n",
        warm.server.url("")
    );
    let has = containerd.fetch(&format!("{}:1.0", warm.name), &hosts).await;
    let layer = &image().layers()[0].digest;
    for digest in [&manifest(&image()).digest, &image().config().digest, layer] {
        assert!(has.contains(digest), "{digest}: {has:?}");
    }
    let requests = warm.registry.requests().await;
    assert!(!requests.is_empty());
    assert!(requests.iter().all(|request| request.path.contains(&format!("/blobs/{layer}"))), "{requests:?}");
}
