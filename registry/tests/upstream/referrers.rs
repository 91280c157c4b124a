//! What refers to a manifest: by the API, page by page; by the tag scheme where there is no API.

use samovar_registry::Digest;
use samovar_registry::credentials::Credentials;
use samovar_registry::upstream::{Document, ErrorKind, Manifest, Operation, UpstreamFactory, Urgency};
use samovar_testing::fake::{Action, Fault, RequestKind};
use samovar_testing::{Content as _, DockerRegistry, Image, Index, media_type};
use serde_json::{Value, json};

use crate::setup::{REPOSITORY, Setup, trusting};

const URGENCY: Urgency = Urgency::Asked;

fn subject() -> Digest {
    Digest::sha256(b"subject")
}

fn referrer(seed: &str, artifact_type: &str) -> Value {
    let digest = Digest::sha256(seed.as_bytes());
    json!({"mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": 1, "artifactType": artifact_type})
}

fn index(referrers: &[Value]) -> String {
    json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": referrers}).to_string()
}

/// An answer of the API.
fn page(referrers: &[Value], headers: &[(&str, &str)]) -> Action {
    let content_type = ("content-type", media_type::OCI_INDEX);
    let headers = headers.iter().chain([&content_type]);
    Action::Status {
        code: 200,
        headers: headers.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        body: index(referrers),
    }
}

async fn ask(setup: &Setup, artifact_type: Option<&str>) -> Result<Document, ErrorKind> {
    let answer = setup.upstream().referrers(&subject(), artifact_type, URGENCY).await;
    answer.map_err(|error| {
        assert_eq!(error.operation, Operation::Referrers);
        error.kind
    })
}

fn listed(document: &Document) -> Vec<Digest> {
    let Ok(Manifest::Index(index)) = Manifest::decode(document) else { panic!("{document:?}") };
    index.children.into_iter().map(|child| child.descriptor.digest).collect()
}

fn digests(seeds: &[&str]) -> Vec<Digest> {
    seeds.iter().map(|seed| Digest::sha256(seed.as_bytes())).collect()
}

#[tokio::test]
async fn the_api_is_read_page_by_page_whatever_host_its_links_name() {
    let setup = Setup::new().await;
    let next = [("link", "<https://elsewhere.example/v2/x?n=1&last=b>; rel=\"next\"")];
    let second = Fault::on(RequestKind::Other).query_containing("last=b");
    setup.registry.fault(second, page(&[referrer("c", "x/sig"), referrer("a", "x/sig")], &[]));
    let first = [referrer("a", "x/sig"), referrer("b", "x/sbom")];
    setup.registry.fault(Fault::on(RequestKind::Other), page(&first, &next));
    assert_eq!(listed(&ask(&setup, None).await.unwrap()), digests(&["a", "b", "c"]));
    let paths: Vec<String> = setup.registry.requests().into_iter().map(|asked| asked.path).collect();
    assert_eq!(paths, vec![format!("/v2/{REPOSITORY}/referrers/{}", subject()); 2]);
}

#[tokio::test]
async fn one_type_is_asked_for_and_chosen_where_the_registry_does_not() {
    let setup = Setup::new().await;
    let both = [referrer("a", "x/sig+json"), referrer("b", "x/sbom")];
    setup.registry.fault(Fault::on(RequestKind::Other).times(1), page(&both, &[]));
    let applied = [("oci-filters-applied", "artifactType")];
    setup.registry.fault(Fault::on(RequestKind::Other), page(&both[..1], &applied));
    for _ in 0..2 {
        assert_eq!(listed(&ask(&setup, Some("x/sig+json")).await.unwrap()), digests(&["a"]));
    }
    for asked in setup.registry.requests() {
        assert_eq!(asked.parameter("artifactType").as_deref(), Some("x/sig+json"), "{}", asked.query);
    }
}

#[tokio::test]
async fn one_page_is_passed_on_as_it_is() {
    let setup = Setup::new().await;
    setup.registry.fault(Fault::on(RequestKind::Other), page(&[referrer("a", "x/sig")], &[]));
    let document = ask(&setup, None).await.unwrap();
    assert_eq!(document.bytes, index(&[referrer("a", "x/sig")]));
    assert_eq!((document.media_type.as_str(), document.is_verified()), (media_type::OCI_INDEX, true));
}

#[tokio::test]
async fn without_an_api_the_tag_tells() {
    let setup = Setup::new().await;
    for status in [404, 400, 405, 501] {
        setup.registry.clear_faults();
        setup.registry.fault(Fault::on(RequestKind::Other), Action::status(status));
        let empty = ask(&setup, None).await.unwrap();
        assert!(listed(&empty).is_empty(), "nobody has ever attached anything");
    }
    let kept = samovar_testing::Document::new(
        media_type::OCI_INDEX,
        index(&[referrer("a", "x/sig"), referrer("b", "x/sbom")]),
    );
    setup.registry.push(REPOSITORY, &format!("sha256-{}", subject().hex()), &kept);
    assert_eq!(ask(&setup, None).await.unwrap().bytes, kept.bytes);
    assert_eq!(listed(&ask(&setup, Some("x/sbom")).await.unwrap()), digests(&["b"]));

    let longer = Digest::sha512(b"subject");
    setup.registry.push(REPOSITORY, &format!("sha512-{}", &longer.hex()[..64]), &kept);
    assert_eq!(setup.upstream().referrers(&longer, None, URGENCY).await.unwrap().bytes, kept.bytes);
}

#[tokio::test]
async fn bad_answers_are_errors_and_not_an_absence_of_referrers() {
    let setup = Setup::new().await;
    let endless = [("link", "<?last=a>; rel=next")];
    for (action, expected) in [
        (Action::body("text/html", "<html>sign in</html>"), "not a manifest"),
        (Action::body(media_type::OCI_INDEX, "{}"), "not an index of referrers"),
        (Action::body(media_type::OCI_MANIFEST, r#"{"config":{}}"#), "not an index of referrers"),
        (page(&[referrer("a", "x")], &endless), "brings no new referrer"),
        (page(&[referrer("a", "x")], &[("link", "<nowhere>; rel=next")]), "without a query"),
        (Action::error(403, "DENIED", "not for you"), "not for you"),
    ] {
        setup.registry.clear_faults();
        setup.registry.fault(Fault::on(RequestKind::Other), action);
        let error = ask(&setup, None).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
    setup.registry.clear_faults();
    let tag = format!("sha256-{}", subject().hex());
    setup.registry.push(REPOSITORY, &tag, &Image::new("no index"));
    assert!(matches!(ask(&setup, None).await, Err(ErrorKind::Protocol { .. })));
    setup.registry.fault(Fault::on(RequestKind::ManifestGet), Action::WrongDigestHeader);
    assert!(matches!(ask(&setup, None).await, Err(ErrorKind::DigestMismatch { .. })));
}

#[tokio::test]
async fn debians_docker_registry_knows_the_tag_scheme_only() {
    let registry = DockerRegistry::start().await;
    let setup = Setup::with(trusting([registry.host().to_owned()])).await;
    let image = Image::new("a");
    registry.push("team/app", "v1", &image).await;
    let name = format!("{}/team/app", registry.host()).parse().unwrap();
    let upstream = setup.factory.upstream(&name, &Credentials::Anonymous.into());
    let digest: Digest = image.digest().parse().unwrap();
    assert!(listed(&upstream.referrers(&digest, None, URGENCY).await.unwrap()).is_empty());

    let signature = Image::new("s").layer_media_type("application/vnd.dev.cosign.simplesigning.v1+json");
    let referrers = Index::of([]).child_without_platform(&signature);
    registry.push("team/app", &image.digest().replace(':', "-"), &referrers).await;
    let document = upstream.referrers(&digest, None, URGENCY).await.unwrap();
    assert_eq!(document.bytes, referrers.manifest().bytes);
    assert_eq!(listed(&document), [signature.digest().parse().unwrap()]);
}
