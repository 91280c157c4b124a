//! Manifests, indexes and configurations: exact bytes, checked digests, bounded sizes.

use samovar_registry::Digest;
use samovar_registry::credentials::Credentials;
use samovar_registry::upstream::{
    Document, ErrorKind, ImageConfig, MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, Manifest, ManifestSelector,
    UpstreamFactory, Urgency,
};
use samovar_testing::fake::{Action, Fault, RequestKind};
use samovar_testing::{Content, Image, Index, Schema1Image};

use crate::setup::{REPOSITORY, Setup, tag};

const URGENCY: Urgency = Urgency::Asked;

fn image() -> Image {
    Image::new("seed").created("2024-01-02T03:04:05Z").label("a", "1").platform("linux/arm64/v8")
}

fn digest(text: &str) -> Digest {
    text.parse().unwrap()
}

async fn by_tag(setup: &Setup, name: &str) -> Result<Document, ErrorKind> {
    let tag = tag(name);
    setup.upstream().manifest(ManifestSelector::Tag(&tag), URGENCY).await.map_err(|error| error.kind)
}

async fn by_digest(setup: &Setup, digest: &Digest) -> Result<Document, ErrorKind> {
    setup.upstream().manifest(ManifestSelector::Digest(digest), URGENCY).await.map_err(|error| error.kind)
}

#[tokio::test]
async fn documents_of_every_type_as_they_are() {
    let setup = Setup::new().await;
    let image = image();
    let other = Image::new("other").platform("linux/amd64");
    let contents: [(&str, &dyn Content); 4] = [
        ("oci", &image.clone().oci()),
        ("docker", &image.clone().docker()),
        ("index", &Index::of([&image, &other]).oci().attestation_child()),
        ("list", &Index::of([&image, &other]).docker()),
    ];
    for (name, content) in contents {
        let pushed = digest(&setup.registry.push(REPOSITORY, name, content));
        assert_eq!(setup.upstream().resolve(&tag(name), URGENCY).await.unwrap(), Some(pushed.clone()));
        let document = by_tag(&setup, name).await.unwrap();
        let expected = content.manifest();
        assert_eq!(document.bytes, expected.bytes);
        assert_eq!((&document.digest, document.media_type.as_str()), (&pushed, expected.media_type.as_str()));
        assert_eq!(by_digest(&setup, &pushed).await.unwrap(), document);

        match Manifest::decode(&document).unwrap() {
            Manifest::Image(manifest) => {
                assert!(manifest.is_image());
                assert_eq!(manifest.total_size(), image.size());
                let config = setup.upstream().config(&manifest.config.digest, URGENCY).await.unwrap();
                let config = ImageConfig::decode(&config).unwrap();
                assert_eq!(config.created, Some("2024-01-02T03:04:05Z".parse().unwrap()));
                assert_eq!(config.labels["a"], "1");
                assert_eq!(config.platform().unwrap().to_string(), "linux/arm64/v8");
            }
            Manifest::Index(index) => {
                let children: Vec<_> =
                    index.children.iter().filter(|child| !child.is_attestation()).collect();
                assert_eq!(children.len(), 2);
                assert_eq!(children[1].platform, Some("linux/amd64".parse().unwrap()));
                assert_eq!(index.children.len(), if name == "index" { 3 } else { 2 });
            }
            unexpected => panic!("{unexpected:?}"),
        }
    }
    assert_eq!(setup.counts(), [0, 4, 8, 2, 0]);
}

#[tokio::test]
async fn all_types_are_accepted_always() {
    let setup = Setup::new().await;
    setup.registry.push(REPOSITORY, "v1", &image());
    setup.upstream().resolve(&tag("v1"), URGENCY).await.unwrap();
    by_tag(&setup, "v1").await.unwrap();
    for request in setup.registry.requests() {
        let accept = request.headers["accept"].to_str().unwrap().to_owned();
        for media_type in [
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.docker.distribution.manifest.list.v2+json",
        ] {
            assert!(accept.split(", ").any(|accepted| accepted == media_type), "{accept}");
        }
        assert!(request.headers["user-agent"].to_str().unwrap().starts_with("samovar/"));
    }
}

#[tokio::test]
async fn a_digest_that_is_not_announced_is_computed() {
    let setup = Setup::new().await;
    let pushed = digest(&setup.registry.push(REPOSITORY, "v1", &image()));
    for kind in [RequestKind::ManifestHead, RequestKind::ManifestGet] {
        setup.registry.fault(Fault::on(kind), Action::NoDigestHeader);
    }
    assert_eq!(setup.upstream().resolve(&tag("v1"), URGENCY).await.unwrap(), None);
    assert_eq!(by_tag(&setup, "v1").await.unwrap().digest, pushed);
    assert_eq!(by_digest(&setup, &pushed).await.unwrap().digest, pushed);
}

#[tokio::test]
async fn a_registry_that_does_not_answer_head_does_not_say() {
    for status in [403, 405] {
        let setup = Setup::new().await;
        setup.registry.push(REPOSITORY, "v1", &image());
        setup.registry.fault(Fault::on(RequestKind::ManifestHead), Action::status(status));
        assert_eq!(setup.upstream().resolve(&tag("v1"), URGENCY).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_tag_without_a_manifest_is_not_found() {
    let setup = Setup::new().await;
    let pushed = setup.registry.push(REPOSITORY, "v1", &image());
    setup.registry.remove_manifest(REPOSITORY, &pushed);
    let error = setup.upstream().resolve(&tag("v1"), URGENCY).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound { message: None });
    let message = Some("MANIFEST_UNKNOWN: manifest unknown".to_owned());
    assert_eq!(by_tag(&setup, "v1").await.unwrap_err(), ErrorKind::NotFound { message });
}

#[tokio::test]
async fn bytes_that_are_not_what_the_digest_names_are_refused() {
    let setup = Setup::new().await;
    let pushed = digest(&setup.registry.push(REPOSITORY, "v1", &image()));
    let config = digest(&image().config().digest);
    let is_mismatch = |error: ErrorKind, named: &Digest| {
        let ErrorKind::DigestMismatch { expected, actual } = error else { panic!("{error}") };
        assert_ne!(expected, actual);
        assert_eq!(expected, *named);
    };

    setup.registry.fault(Fault::on(RequestKind::ManifestGet), Action::WrongBytes);
    setup.registry.fault(Fault::on(RequestKind::Blob), Action::WrongBytes);
    is_mismatch(by_tag(&setup, "v1").await.unwrap_err(), &pushed);
    is_mismatch(by_digest(&setup, &pushed).await.unwrap_err(), &pushed);
    is_mismatch(setup.upstream().config(&config, URGENCY).await.unwrap_err().kind, &config);

    setup.registry.clear_faults();
    setup.registry.fault(Fault::on(RequestKind::ManifestGet), Action::WrongDigestHeader);
    let announced = Digest::sha256(b"something else");
    is_mismatch(by_tag(&setup, "v1").await.unwrap_err(), &announced);
    is_mismatch(by_digest(&setup, &pushed).await.unwrap_err(), &announced);

    setup.registry.clear_faults();
    let other = Action::body("application/vnd.oci.image.manifest.v1+json", "{}");
    setup.registry.fault(Fault::on(RequestKind::ManifestGet), other);
    is_mismatch(by_digest(&setup, &pushed).await.unwrap_err(), &pushed);
}

#[tokio::test]
async fn a_type_that_says_nothing_is_taken_from_the_document() {
    let setup = Setup::new().await;
    setup.registry.push(REPOSITORY, "v1", &image());
    let manifest = image().docker().manifest();
    for content_type in ["application/json; charset=utf-8", "text/plain", "application/octet-stream"] {
        setup.registry.clear_faults();
        let action = Action::body(content_type, manifest.bytes.clone());
        setup.registry.fault(Fault::on(RequestKind::ManifestGet), action);
        assert_eq!(by_tag(&setup, "v1").await.unwrap().media_type, manifest.media_type);
    }
    let with_parameters = Action::body(format!("{}; charset=utf-8", manifest.media_type), "{}");
    setup.registry.clear_faults();
    setup.registry.fault(Fault::on(RequestKind::ManifestGet), with_parameters);
    let document = by_tag(&setup, "v1").await.unwrap();
    assert_eq!(document.media_type, manifest.media_type);
    assert!(Manifest::decode(&document).is_err(), "what has come intact may still make no sense");
}

#[tokio::test]
async fn a_document_that_is_not_what_its_type_says_is_refused() {
    let setup = Setup::new().await;
    let pushed = digest(&setup.registry.push(REPOSITORY, "v1", &image()));
    let body = image().manifest().bytes;
    let action = Action::body("application/vnd.example.manifest.v1+json", body);
    setup.registry.fault(Fault::on(RequestKind::ManifestGet), action);
    for error in [by_tag(&setup, "v1").await.unwrap_err(), by_digest(&setup, &pushed).await.unwrap_err()] {
        let expected = "bad answer: not a manifest: the document is not what its Content-Type says";
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn documents_have_bounds() {
    let setup = Setup::new().await;
    setup.registry.push(REPOSITORY, "v1", &image());
    let config = digest(&image().config().digest);
    let filler = |bytes: u64| format!("{{{}}}", " ".repeat(usize::try_from(bytes).unwrap() - 2));

    let type_name = "application/vnd.oci.image.manifest.v1+json";
    let fault = || Fault::on(RequestKind::ManifestGet).times(1);
    setup.registry.fault(fault(), Action::body(type_name, filler(MAX_MANIFEST_BYTES)));
    setup.registry.fault(fault(), Action::body(type_name, filler(MAX_MANIFEST_BYTES + 1)));
    setup.registry.fault(fault(), Action::EndlessBody);
    assert_eq!(by_tag(&setup, "v1").await.unwrap().bytes.len() as u64, MAX_MANIFEST_BYTES);
    let too_large = ErrorKind::TooLarge { limit: MAX_MANIFEST_BYTES };
    assert_eq!(by_tag(&setup, "v1").await.unwrap_err(), too_large);
    assert_eq!(by_tag(&setup, "v1").await.unwrap_err(), too_large);

    setup.registry.fault(Fault::on(RequestKind::Blob), Action::EndlessBody);
    let error = setup.upstream().config(&config, URGENCY).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge { limit: MAX_CONFIG_BYTES });
    assert_eq!(setup.counts(), [0, 0, 3, 1, 0]);
}

#[tokio::test]
async fn an_answer_that_is_no_manifest_is_a_failure() {
    let setup = Setup::new().await;
    setup.registry.push(REPOSITORY, "v1", &image());
    for (content_type, body) in [
        ("text/html; charset=utf-8", "<html>Sign in</html>"),
        ("text/html", "{}"),
        ("application/json", r#"{"errors":[{"code":"DENIED","message":"no"}]}"#),
        ("text/plain", "no"),
        ("application/vnd.oci.image.manifest.v1+json", "not JSON"),
        ("application/vnd.oci.image.manifest.v1 json", "{}"),
    ] {
        setup.registry.clear_faults();
        let action = Action::body(content_type, body);
        setup.registry.fault(Fault::on(RequestKind::ManifestGet), action);
        let error = by_tag(&setup, "v1").await.unwrap_err();
        assert!(matches!(error, ErrorKind::Protocol { .. }), "{body}: {error}");
    }
    setup.registry.clear_faults();
    let vendors = "application/vnd.example.manifest.v1+json";
    setup.registry.fault(Fault::on(RequestKind::ManifestGet), Action::body(vendors, "{}"));
    let document = by_tag(&setup, "v1").await.unwrap();
    assert_eq!(Manifest::decode(&document), Ok(Manifest::Unknown { media_type: vendors.to_owned() }));
}

#[tokio::test]
async fn schema_1_has_the_digest_of_what_was_signed() {
    let setup = Setup::new().await;
    let old = Schema1Image::new("seed").created("2015-06-01T02:03:04Z").label("a", "1");
    for image in [old.clone(), old.unsigned()] {
        setup.registry.clear_faults();
        let pushed = digest(&setup.registry.push(REPOSITORY, "v1", &image));
        for announced in [true, false] {
            let document = by_tag(&setup, "v1").await.unwrap();
            assert_eq!(
                (&document.digest, &document.bytes),
                (&pushed, &image.manifest().bytes),
                "{announced}"
            );
            assert!(document.is_verified());
            assert_eq!(by_digest(&setup, &pushed).await.unwrap(), document);
            let Ok(Manifest::Schema1(manifest)) = Manifest::decode(&document) else { panic!("{document:?}") };
            assert_eq!(manifest.created, Some("2015-06-01T02:03:04Z".parse().unwrap()));
            assert_eq!(manifest.labels["a"], "1");
            setup.registry.fault(Fault::on(RequestKind::ManifestGet), Action::NoDigestHeader);
        }
        setup.registry.clear_faults();
        for wrong in [Action::WrongDigestHeader, Action::WrongBytes] {
            setup.registry.fault(Fault::on(RequestKind::ManifestGet).times(1), wrong);
            let error = by_tag(&setup, "v1").await.unwrap_err();
            assert!(matches!(error, ErrorKind::DigestMismatch { .. }), "{error}");
        }
    }
}

#[tokio::test]
async fn sha512_is_announced_asked_for_and_checked_like_sha256() {
    let setup = Setup::new().await;
    let manifest = image().manifest();
    let named = Digest::sha512(&manifest.bytes);
    let manifest = samovar_testing::Document { digest: named.to_string(), ..manifest };
    setup.registry.push(REPOSITORY, "v1", &manifest);
    assert_eq!(setup.upstream().resolve(&tag("v1"), URGENCY).await.unwrap(), Some(named.clone()));
    let document = by_tag(&setup, "v1").await.unwrap();
    assert_eq!((&document.digest, &document.bytes), (&named, &manifest.bytes));
    assert_eq!(by_digest(&setup, &named).await.unwrap(), document);
    setup.registry.fault(Fault::on(RequestKind::ManifestGet), Action::WrongBytes);
    let ErrorKind::DigestMismatch { expected, actual } = by_digest(&setup, &named).await.unwrap_err() else {
        panic!("other bytes are not what the digest names")
    };
    assert_eq!((expected, actual.algorithm()), (named, "sha512"));
}

#[tokio::test]
async fn only_docker_hub_counts_gets() {
    let setup = Setup::new().await;
    assert!(!setup.upstream().counts_manifest_gets());
    let hub = setup.factory.upstream(&"alpine".parse().unwrap(), &Credentials::Anonymous.into());
    assert!(hub.counts_manifest_gets());
}

#[tokio::test]
async fn whether_a_repository_has_a_manifest_is_asked_by_head_and_by_get_only_where_that_is_refused() {
    let setup = Setup::new().await;
    let pushed = digest(&setup.registry.push_digest_only(REPOSITORY, &image()));
    let confirm = async |digest: &Digest| {
        let confirmed = setup.upstream().confirm(digest, URGENCY).await;
        confirmed.map_err(|error| error.kind)
    };
    assert_eq!(confirm(&pushed).await, Ok(()));
    assert!(matches!(confirm(&Digest::sha256(b"none")).await, Err(ErrorKind::NotFound { .. })));
    assert_eq!(setup.counts(), [0, 2, 0, 0, 0]);
    for refusal in [403, 405] {
        setup.registry.fault(Fault::on(RequestKind::ManifestHead), Action::status(refusal));
        assert_eq!(confirm(&pushed).await, Ok(()), "{refusal}");
        assert!(matches!(confirm(&Digest::sha256(b"none")).await, Err(ErrorKind::NotFound { .. })));
        setup.registry.clear_faults();
    }
    setup.registry.fault(Fault::on(RequestKind::ManifestHead), Action::status(500));
    assert!(matches!(confirm(&pushed).await, Err(ErrorKind::Unavailable { status: 500, .. })));
}
