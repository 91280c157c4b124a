//! Redirects: followed, without the login once they leave the origin.

use std::time::Duration;

use bytes::Bytes;
use samovar_registry::upstream::{ErrorKind, UpstreamError, UpstreamFactory, Urgency};
use samovar_testing::Image;
use samovar_testing::fake::{Action, Bearer, FakeRegistry, Fault, RequestKind};

use crate::setup::{PASSWORD, REPOSITORY, Setup, alice, trusting};

/// A registry that wants a login and redirects blobs to a CDN.
async fn with_cdn() -> (Setup, FakeRegistry) {
    let cdn = FakeRegistry::start().await;
    let setup = Setup::with(trusting([cdn.host()])).await;
    setup.registry.push(REPOSITORY, "v1", &Image::new("seed"));
    setup.registry.require_bearer(Bearer::new().credentials("alice", PASSWORD));
    cdn.push("blobs", "v1", &Image::new("seed"));
    let url = format!("{}/v2/blobs/blobs/{}", cdn.url(), Image::new("seed").config().digest);
    setup.registry.fault(Fault::on(RequestKind::Blob), Action::RedirectTo(url));
    (setup, cdn)
}

async fn config(setup: &Setup) -> Result<Bytes, UpstreamError> {
    let digest = Image::new("seed").config().digest.parse().unwrap();
    setup.upstream_as(&alice()).config(&digest, Urgency::Background).await
}

#[tokio::test]
async fn another_host_is_followed_to_without_the_login() {
    let (setup, cdn) = with_cdn().await;
    assert_eq!(config(&setup).await.unwrap(), Image::new("seed").config().bytes);
    let requests = cdn.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].authorization, None);
    let from = setup.registry.requests();
    assert!(from.last().unwrap().authorization.as_ref().unwrap().starts_with("Bearer "));
    // The hop counts for its registry.
    assert_eq!(setup.observed.requests().len(), 4);
}

#[tokio::test]
async fn the_same_origin_keeps_the_login() {
    let setup = Setup::new().await;
    setup.registry.push(REPOSITORY, "v1", &Image::new("seed"));
    setup.registry.require_basic("alice", PASSWORD);
    let location = format!("/v2/{REPOSITORY}/blobs/{}", Image::new("seed").config().digest);
    setup.registry.fault(Fault::on(RequestKind::Blob).times(1), Action::RedirectTo(location));
    config(&setup).await.unwrap();
    let logins: Vec<_> =
        setup.registry.requests().iter().map(|request| request.authorization.is_some()).collect();
    assert_eq!(logins, [false, true, true]);
}

#[tokio::test]
async fn bytes_from_elsewhere_are_checked_too() {
    let (setup, cdn) = with_cdn().await;
    cdn.fault(Fault::on(RequestKind::Blob), Action::WrongBytes);
    let error = config(&setup).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::DigestMismatch { .. }), "{error}");
}

#[tokio::test]
async fn endless_redirects_end() {
    let setup = Setup::new().await;
    setup.registry.push(REPOSITORY, "v1", &Image::new("seed"));
    let digest = Image::new("seed").config().digest;
    let location = format!("/v2/{REPOSITORY}/blobs/{digest}");
    setup.registry.fault(Fault::on(RequestKind::Blob), Action::RedirectTo(location));
    let error = config(&setup).await.unwrap_err();
    assert!(error.to_string().ends_with("bad answer: more than 5 redirects"), "{error}");
    assert_eq!(setup.counts(), [0, 0, 0, 6, 0]);
}

#[tokio::test]
async fn a_refusal_elsewhere_is_not_the_registrys() {
    for status in [401, 403] {
        let (setup, cdn) = with_cdn().await;
        cdn.fault(Fault::on(RequestKind::Blob), Action::status(status));
        let error = config(&setup).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Rejected { status, message: None });
        assert_eq!(cdn.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_cdn_that_has_enough_holds_back_only_what_goes_there() {
    let (setup, cdn) = with_cdn().await;
    cdn.fault(Fault::on(RequestKind::Blob), Action::too_many_requests(3600));
    let error = config(&setup).await.unwrap_err();
    let ErrorKind::RateLimited { retry_after, .. } = error.kind else { panic!("{error}") };
    assert_eq!(retry_after, Duration::from_hours(1));
    assert_eq!(setup.factory.blocked_for(&setup.name(REPOSITORY)), None);
    assert!(setup.budget().cdn_blocked_for.is_some());
    setup.upstream_as(&alice()).tags(Urgency::Background).await.unwrap();
    assert_eq!(cdn.requests().len(), 1);

    // Who is sent there again learns it at once, rather than wait for an hour.
    let again =
        tokio::time::timeout(Duration::from_secs(5), config(&setup)).await.expect("an answer at once");
    assert!(matches!(again.unwrap_err().kind, ErrorKind::RateLimited { .. }));
    assert_eq!(cdn.requests().len(), 1);
}

#[tokio::test]
async fn a_cdn_that_says_when_to_come_back_is_not_tried_again_at_once() {
    let (setup, cdn) = with_cdn().await;
    let headers = vec![("retry-after".to_owned(), "120".to_owned())];
    let unavailable = Action::Status { code: 503, headers, body: String::new() };
    cdn.fault(Fault::on(RequestKind::Blob), unavailable);
    let error = config(&setup).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable { status: 503, message: None });
    assert_eq!(cdn.requests().len(), 1);
    // Without a login, then with one: not a third time.
    assert_eq!(setup.registry.count(RequestKind::Blob), 2);
}

#[tokio::test]
async fn plain_http_is_followed_to_insecure_hosts_only() {
    let registry = FakeRegistry::start().await;
    let cdn = FakeRegistry::start().await;
    registry.push(REPOSITORY, "v1", &Image::new("seed"));
    registry.fault(Fault::on(RequestKind::Blob), Action::RedirectTo(format!("{}/x", cdn.url())));
    let insecure = trusting([registry.host()]);
    let setup = Setup::around(registry, insecure);
    let error = config(&setup).await.unwrap_err();
    let message = format!("{} is plain http and not named insecure", cdn.url());
    assert_eq!(error.kind, ErrorKind::Refused { message });
    assert_eq!(cdn.requests().len(), 0);
}

#[tokio::test]
async fn nowhere_to_go() {
    for location in ["ftp://127.0.0.1/x", "http://", "http://169.254.169.254/latest/meta-data"] {
        let setup = Setup::new().await;
        setup.registry.push(REPOSITORY, "v1", &Image::new("seed"));
        setup.registry.fault(Fault::on(RequestKind::Blob), Action::RedirectTo(location.to_owned()));
        let error = config(&setup).await.unwrap_err();
        let is_expected = if location.contains("169.254") {
            matches!(error.kind, ErrorKind::Refused { .. })
        } else {
            matches!(error.kind, ErrorKind::Protocol { .. })
        };
        assert!(is_expected, "{location}: {error}");
    }
}
