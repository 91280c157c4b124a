//! Mirrors: asked first, never trusted with what is the registry's, never in the way of an answer.

use std::collections::BTreeMap;

use samovar_registry::Digest;
use samovar_registry::credentials::CredentialChain;
use samovar_registry::upstream::{
    Capabilities, ConnectionOptions, ErrorKind, HostOptions, HttpOptions, Listing, ManifestSelector,
    MirrorOptions, Upstream, UpstreamFactory, Urgency,
};
use samovar_testing::fake::{Action, Bearer, FakeRegistry, Fault, RequestKind};
use samovar_testing::{Document, Image, media_type};

use crate::setup::{PASSWORD, REPOSITORY, Setup, alice, options, tag};

const URGENCY: Urgency = Urgency::Background;

fn mirror(url: &str) -> MirrorOptions {
    MirrorOptions {
        url: url.parse().unwrap(),
        capabilities: Capabilities::ALL,
        override_path: false,
        connection: ConnectionOptions::default(),
    }
}

/// A registry with one image, and a client that knows mirrors of it.
async fn mirrored_by(mirrors: Vec<MirrorOptions>) -> Setup {
    let registry = FakeRegistry::start().await;
    registry.push(REPOSITORY, "v1", &Image::new("seed"));
    let own = HostOptions { mirrors, ..HostOptions::default() };
    let mut options = HttpOptions { hosts: BTreeMap::from([(registry.host(), own)]), ..options() };
    options.insecure_hosts.insert(registry.host());
    Setup::around(registry, options)
}

/// A mirror that knows one tag more.
async fn a_mirror() -> FakeRegistry {
    let mirror = FakeRegistry::start().await;
    for tag in ["v1", "v2"] {
        mirror.push(REPOSITORY, tag, &Image::new("seed"));
    }
    mirror
}

async fn tags(upstream: &dyn Upstream) -> usize {
    upstream.tags(URGENCY).await.unwrap().tags.len()
}

#[tokio::test]
async fn a_mirror_is_asked_in_place_of_the_registry_and_told_which() {
    let mirror_registry = a_mirror().await;
    let setup = mirrored_by(vec![mirror(&mirror_registry.url())]).await;
    let upstream = setup.upstream();
    assert_eq!(tags(&*upstream).await, 2);
    let digest = upstream.resolve(&tag("v1"), URGENCY).await.unwrap().unwrap();
    for selector in [ManifestSelector::Tag(&tag("v1")), ManifestSelector::Digest(&digest)] {
        assert_eq!(upstream.manifest(selector, URGENCY).await.unwrap().digest, digest);
    }
    let config = Image::new("seed").config();
    assert_eq!(upstream.config(&config.digest.parse().unwrap(), URGENCY).await.unwrap(), config.bytes);

    assert_eq!(setup.registry.requests().len(), 0);
    let namespace = format!("ns={}", setup.registry.host()).replace(':', "%3A");
    for request in mirror_registry.requests() {
        assert!(request.query.split('&').any(|pair| pair == namespace), "{request:?}");
    }
    assert_eq!(mirror_registry.requests().len(), 5);
}

#[tokio::test]
async fn whatever_is_wrong_with_a_mirror_the_registry_answers() {
    let faults = [
        Action::status(401),
        Action::status(403),
        Action::status(404),
        Action::status(500),
        Action::too_many_requests(3600),
        Action::CloseConnection,
        Action::CutBody { after: 3 },
        Action::body("text/html", "<html>welcome</html>"),
        Action::RedirectTo("http://169.254.169.254/latest".to_owned()),
    ];
    for fault in faults {
        let mirror_registry = a_mirror().await;
        let setup = mirrored_by(vec![mirror(&mirror_registry.url())]).await;
        mirror_registry.fault(Fault::on(RequestKind::Tags), fault.clone());
        assert_eq!(tags(&*setup.upstream()).await, 1, "{fault:?}");
        assert!(mirror_registry.count(RequestKind::Tags) > 0, "{fault:?}");
        assert_eq!(setup.counts(), [1, 0, 0, 0, 0], "{fault:?}");
    }
}

#[tokio::test]
async fn mirrors_are_asked_in_order_and_the_registrys_own_refusal_is_the_last_word() {
    let (first, second) = (FakeRegistry::start().await, a_mirror().await);
    let setup = mirrored_by(vec![mirror(&first.url()), mirror(&second.url())]).await;
    assert_eq!(tags(&*setup.upstream()).await, 2);
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
    let nowhere = setup.factory.upstream(&setup.name("no/such"), &CredentialChain::default());
    let error = nowhere.tags(URGENCY).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::NotFound { .. }), "{error}");
    assert_eq!(error.repository, setup.name("no/such"));
    assert_eq!((first.requests().len(), second.requests().len()), (2, 2));
}

#[tokio::test]
async fn a_mirror_that_lists_nothing_is_passed_over() {
    let empty = FakeRegistry::start().await;
    let nothing = Action::body("application/json", r#"{"name":"team/app","tags":null}"#);
    empty.fault(Fault::on(RequestKind::Tags), nothing.clone());
    let second = a_mirror().await;
    let setup = mirrored_by(vec![mirror(&empty.url()), mirror(&second.url())]).await;
    assert_eq!(tags(&*setup.upstream()).await, 2);
    second.fault(Fault::on(RequestKind::Tags), nothing.clone());
    assert_eq!(tags(&*setup.upstream()).await, 1);
    // The registry itself is believed, and its word is not taken for a mirror's the next time.
    setup.registry.fault(Fault::on(RequestKind::Tags), nothing);
    let Listing::Whole(list, state) = setup.upstream().list(None, URGENCY).await.unwrap() else { panic!() };
    assert!(list.tags.is_empty());
    setup.registry.clear_faults();
    let listing = setup.upstream().list(Some(&state), URGENCY).await.unwrap();
    assert!(matches!(listing, Listing::Whole(..)), "{listing:?}");
}

#[tokio::test]
async fn that_nothing_refers_to_a_manifest_is_for_the_registry_to_say() {
    let ignorant = FakeRegistry::start().await;
    let setup = mirrored_by(vec![mirror(&ignorant.url())]).await;
    let subject = Digest::sha256(b"subject");
    let index = r#"{"schemaVersion":2,"manifests":[]}"#.to_owned();
    let kept = Document::new(media_type::OCI_INDEX, format!("{index} "));
    setup.registry.push(REPOSITORY, &format!("sha256-{}", subject.hex()), &kept);
    let found = setup.upstream().referrers(&subject, None, URGENCY).await.unwrap();
    assert_eq!(found.bytes, kept.bytes, "the mirror knows neither the question nor the tag");
    assert_eq!(ignorant.requests().len(), 2);
    let other = Digest::sha256(b"other");
    setup
        .upstream()
        .referrers(&other, None, URGENCY)
        .await
        .expect("the registry may say that there are none");
}

#[tokio::test]
async fn tokens_are_asked_for_by_the_names_of_the_mirror() {
    let mirror_registry = FakeRegistry::start().await;
    mirror_registry.push(&format!("hub/{REPOSITORY}"), "v2", &Image::new("seed"));
    mirror_registry.push(&format!("hub/{REPOSITORY}"), "v3", &Image::new("seed"));
    mirror_registry.require_bearer(Bearer::new());
    let below = format!("{}/v2/hub", mirror_registry.url());
    let setup = mirrored_by(vec![MirrorOptions { override_path: true, ..mirror(&below) }]).await;
    assert_eq!(tags(&*setup.upstream()).await, 2);
    let asked = mirror_registry.requests();
    let token = asked.iter().find(|request| request.kind == RequestKind::Token).unwrap();
    assert_eq!(token.parameter("scope").unwrap(), format!("repository:hub/{REPOSITORY}:pull"));
}

#[tokio::test]
async fn a_mirror_for_pulling_is_asked_by_digest_only() {
    let mirror_registry = a_mirror().await;
    let pulls = Capabilities { pull: true, resolve: false };
    let options = MirrorOptions { capabilities: pulls, ..mirror(&mirror_registry.url()) };
    let setup = mirrored_by(vec![options]).await;
    let upstream = setup.upstream();
    assert_eq!(tags(&*upstream).await, 1);
    let digest = upstream.resolve(&tag("v1"), URGENCY).await.unwrap().unwrap();
    upstream.manifest(ManifestSelector::Tag(&tag("v1")), URGENCY).await.unwrap();
    assert_eq!(mirror_registry.requests().len(), 0);
    upstream.manifest(ManifestSelector::Digest(&digest), URGENCY).await.unwrap();
    upstream.config(&Image::new("seed").config().digest.parse().unwrap(), URGENCY).await.unwrap();
    assert_eq!(mirror_registry.requests().len(), 2);
    assert_eq!(setup.counts(), [1, 1, 1, 0, 0]);
}

#[tokio::test]
async fn what_a_mirror_serves_is_checked() {
    let mirror_registry = a_mirror().await;
    mirror_registry.fault(Fault::on(RequestKind::Blob), Action::WrongBytes);
    let setup = mirrored_by(vec![mirror(&mirror_registry.url())]).await;
    let config = Image::new("seed").config();
    let bytes = setup.upstream().config(&config.digest.parse().unwrap(), URGENCY).await.unwrap();
    assert_eq!(bytes, config.bytes);
    assert_eq!((mirror_registry.count(RequestKind::Blob), setup.registry.count(RequestKind::Blob)), (1, 1));
}

#[tokio::test]
async fn a_mirror_never_sees_the_registrys_credentials() {
    let mirror_registry = a_mirror().await;
    mirror_registry.require_basic("alice", PASSWORD);
    let setup = mirrored_by(vec![mirror(&mirror_registry.url())]).await;
    setup.registry.require_basic("alice", PASSWORD);
    let upstream = setup.upstream_as(&alice());
    assert_eq!(tags(&*upstream).await, 1);
    assert!(mirror_registry.requests().iter().all(|request| request.authorization.is_none()));
    assert!(setup.registry.requests().last().unwrap().authorization.is_some());
}

#[tokio::test]
async fn a_mirror_that_cannot_be_reached_is_left_alone_for_a_while() {
    let mirror_registry = a_mirror().await;
    mirror_registry.fault(Fault::on(RequestKind::Tags), Action::CloseConnection);
    let setup = mirrored_by(vec![mirror(&mirror_registry.url())]).await;
    tags(&*setup.upstream()).await;
    let asked = mirror_registry.requests().len();
    assert!(asked > 0);
    for _ in 0..5 {
        tags(&*setup.upstream()).await;
    }
    assert_eq!(mirror_registry.requests().len(), asked);
}

#[tokio::test]
async fn a_mirror_that_limits_us_is_not_waited_for() {
    let mirror_registry = a_mirror().await;
    mirror_registry.fault(Fault::on(RequestKind::Tags), Action::too_many_requests(3600));
    let setup = mirrored_by(vec![mirror(&mirror_registry.url())]).await;
    for _ in 0..3 {
        assert_eq!(tags(&*setup.upstream()).await, 1);
    }
    assert_eq!(mirror_registry.requests().len(), 1);
    assert_eq!(setup.factory.blocked_for(&setup.name(REPOSITORY)), None);
}

#[tokio::test]
async fn paths_of_mirrors() {
    let mirror_registry = FakeRegistry::start().await;
    let at = |path: &str| mirror(&format!("{}{path}", mirror_registry.url()));
    let overridden = MirrorOptions { override_path: true, ..at("/v2/proxy") };
    let setup = mirrored_by(vec![at("/prefix"), overridden]).await;
    tags(&*setup.upstream()).await;
    let paths: Vec<_> = mirror_registry.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/prefix/v2/team/app/tags/list", "/v2/proxy/team/app/tags/list"]);
}

#[tokio::test]
async fn another_server_can_be_asked_in_place_of_the_registry() {
    let server = a_mirror().await;
    let registry = FakeRegistry::start().await;
    let own = HostOptions { server: Some(mirror(&server.url())), ..HostOptions::default() };
    let hosts = BTreeMap::from([(registry.host(), own)]);
    let setup = Setup::around(registry, HttpOptions { hosts, ..options() });
    assert_eq!(tags(&*setup.upstream_as(&alice())).await, 2);
    server.require_basic("alice", PASSWORD);
    setup.upstream_as(&alice()).tags(URGENCY).await.unwrap_err();
    assert!(server.requests().iter().all(|request| request.authorization.is_none()));
    assert_eq!(setup.registry.requests().len(), 0);
}
