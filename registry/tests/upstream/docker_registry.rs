//! The same client against Debian's `docker-registry`.

use samovar_registry::credentials::{CredentialChain, Credentials};
use samovar_registry::upstream::{
    Document, ErrorKind, ImageConfig, Manifest, ManifestSelector, Operation, Upstream, UpstreamFactory,
    Urgency,
};
use samovar_registry::{Name, Secret, Tag};
use samovar_testing::{Content, DockerRegistry, Image, Index};

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
