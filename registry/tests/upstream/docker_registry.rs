//! The same client against Debian's `docker-registry`.

use samovar_registry::credentials::{CredentialChain, Credentials};
use samovar_registry::upstream::{
    Document, ErrorKind, ImageConfig, Manifest, ManifestSelector, Operation, Upstream, UpstreamFactory,
    Urgency,
};
use samovar_registry::{Name, Secret, Tag};
use samovar_testing::{Content, DockerRegistry, Image, Index, Skopeo, media_type};

use crate::setup::{Setup, tag, trusting};

const URGENCY: Urgency = Urgency::Background;

fn name(registry: &DockerRegistry, repository: &str) -> Name {
    format!("{}/{repository}", registry.host()).parse().unwrap()
}

async fn document(upstream: &dyn Upstream, tag: &Tag) -> Document {
    upstream.manifest(ManifestSelector::Tag(tag), URGENCY).await.unwrap()
}

#[tokio::test]
async fn what_was_pushed_is_found() {
    let registry = DockerRegistry::start().await;
    let setup = Setup::with(trusting([registry.host().to_owned()])).await;
    let images = [Image::new("a"), Image::new("a").platform("linux/arm64/v8")]
        .map(|image| image.created("2024-01-02T03:04:05Z").label("k", "v"));
    let contents: [(&str, &dyn Content); 4] = [
        ("docker", &images[0].clone().docker()),
        ("index", &Index::of(&images).attestation_child()),
        ("list", &Index::of(&images.clone().map(Image::docker)).docker()),
        ("oci", &images[0]),
    ];
    for (tag, content) in contents {
        registry.push("team/app", tag, content).await;
    }

    let upstream = setup.factory.upstream(&name(&registry, "team/app"), &Credentials::Anonymous.into());
    let list = upstream.tags(URGENCY).await.unwrap();
    assert_eq!(list.tags.iter().map(Tag::as_str).collect::<Vec<_>>(), contents.map(|(tag, _)| tag));
    for (text, content) in contents {
        let pushed = content.manifest();
        let document = document(&*upstream, &tag(text)).await;
        assert_eq!((document.bytes.clone(), document.media_type.clone()), (pushed.bytes, pushed.media_type));
        assert_eq!(upstream.resolve(&tag(text), URGENCY).await.unwrap(), Some(document.digest.clone()));
        if let Manifest::Image(manifest) = Manifest::decode(&document).unwrap() {
            let config = upstream.config(&manifest.config.digest, URGENCY).await.unwrap();
            let config = ImageConfig::decode(&config).unwrap();
            assert_eq!(config.created, Some("2024-01-02T03:04:05Z".parse().unwrap()));
            assert_eq!(config.labels["k"], "v");
        }
    }
    // One list; HEAD and GET per tag; one configuration per image: nothing else, no pings.
    assert_eq!(registry.requests().await.len(), 1 + 2 * contents.len() + 2);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let registry = DockerRegistry::start().await;
    let setup = Setup::with(trusting([registry.host().to_owned()])).await;
    let digest = registry.push("team/app", "v1", &Image::new("a")).await;
    registry.lose_manifest("team/app", &digest);
    let upstream = setup.factory.upstream(&name(&registry, "team/app"), &Credentials::Anonymous.into());
    assert_eq!(upstream.tags(URGENCY).await.unwrap().tags, [tag("v1")]);
    let error = upstream.resolve(&tag("v1"), URGENCY).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::NotFound { .. }), "{error}");

    let nothing = setup.factory.upstream(&name(&registry, "no/such"), &Credentials::Anonymous.into());
    let error = nothing.tags(URGENCY).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::NotFound { .. }), "{error}");
    assert_eq!(error.operation, Operation::Tags);
}

#[tokio::test]
async fn schema_1_is_read_as_skopeo_reads_it() {
    let registry = DockerRegistry::start().await;
    let setup = Setup::with(trusting([registry.host().to_owned()])).await;
    let image = Image::new("a").docker().created("2024-01-02T03:04:05Z").label("k", "v");
    // Without a history nothing can be converted.
    let mut config: serde_json::Value = serde_json::from_slice(&image.config().bytes).unwrap();
    config["history"] = serde_json::json!([{"created": "2024-01-02T03:04:05Z", "created_by": "the test"}]);
    registry.push("team/app", "v2", &image.config_bytes(config.to_string())).await;
    let skopeo = Skopeo::new();
    let reference = |tag: &str| format!("{}/team/app:{tag}", registry.host());
    let [from, to] = ["v2", "v1"].map(|tag| format!("docker://{}", reference(tag)));
    skopeo.copy_as_schema1(&from, &to).await;

    let upstream = setup.factory.upstream(&name(&registry, "team/app"), &Credentials::Anonymous.into());
    let document = document(&*upstream, &tag("v1")).await;
    assert_eq!(document.media_type, media_type::DOCKER_SCHEMA1_SIGNED);
    assert_eq!(upstream.resolve(&tag("v1"), URGENCY).await.unwrap(), Some(document.digest.clone()));
    // The registry signs anew each time; the digest is of what it signs.
    let by_digest = upstream.manifest(ManifestSelector::Digest(&document.digest), URGENCY).await.unwrap();
    assert_ne!(by_digest.bytes, document.bytes);
    assert_eq!(by_digest.digest, document.digest);
    assert_eq!(Manifest::decode(&by_digest), Manifest::decode(&document));

    let Ok(Manifest::Schema1(manifest)) = Manifest::decode(&document) else { panic!("{document:?}") };
    let inspected = skopeo.inspect(&reference("v1")).await;
    assert_eq!(inspected["Digest"], document.digest.to_string());
    assert_eq!(inspected["Created"], manifest.created.unwrap().to_string());
    assert_eq!(inspected["Labels"], serde_json::json!(manifest.labels));
    assert_eq!(inspected["Labels"], serde_json::json!({"k": "v"}));
    let platform = manifest.platform.unwrap().to_string();
    assert_eq!(
        platform,
        format!("{}/{}", inspected["Os"].as_str().unwrap(), inspected["Architecture"].as_str().unwrap())
    );
    assert!(manifest.image_id.is_some());
}

#[tokio::test]
async fn a_password_opens_it() {
    let registry = DockerRegistry::builder().htpasswd().start().await;
    let setup = Setup::with(trusting([registry.host().to_owned()])).await;
    registry.push("team/app", "v1", &Image::new("a")).await;
    let name = name(&registry, "team/app");
    let credentials = |password: &str| {
        CredentialChain::from(Credentials::Basic {
            username: DockerRegistry::USER.to_owned(),
            password: Secret::new(password),
            provenance: "the test".into(),
        })
    };
    let right = setup.factory.upstream(&name, &credentials(DockerRegistry::PASSWORD));
    assert_eq!(right.tags(URGENCY).await.unwrap().tags, [tag("v1")]);
    for wrong in [credentials("wrong"), CredentialChain::default()] {
        let error = setup.factory.upstream(&name, &wrong).tags(URGENCY).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Unauthorized { .. }), "{error}");
    }
}
