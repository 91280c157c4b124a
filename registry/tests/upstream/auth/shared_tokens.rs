//! One anonymous token for all that is public, where the registry allows it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use samovar_registry::credentials::Credentials;
use samovar_registry::upstream::{
    ErrorKind, HostOptions, HttpOptions, TagList, UpstreamError, UpstreamFactory, Urgency,
};
use samovar_testing::Image;
use samovar_testing::fake::{Action, Bearer, FakeRegistry, Fault, RequestKind, dialects};

use crate::setup::{Setup, alice, options};

const REPOSITORIES: usize = 20;

/// A registry of which the configuration says that one token is good for all of its repositories.
async fn sharing() -> Setup {
    let registry = FakeRegistry::start().await;
    for number in 0..REPOSITORIES {
        registry.push(&repository(number), "v1", &Image::new("seed"));
    }
    let own = HostOptions { shared_anonymous_token: Some(true), ..HostOptions::default() };
    let insecure_hosts = [registry.host()].into();
    let hosts = BTreeMap::from([(registry.host(), own)]);
    Setup::around(registry, HttpOptions { hosts, insecure_hosts, ..options() })
}

fn repository(number: usize) -> String {
    format!("team/app{number}")
}

async fn list(setup: &Setup, number: usize) -> Result<TagList, UpstreamError> {
    let name = setup.name(&repository(number));
    setup.factory.upstream(&name, &Credentials::Anonymous.into()).tags(Urgency::Background).await
}

#[tokio::test]
async fn one_token_opens_all_that_is_public() {
    let setup = sharing().await;
    setup.registry.speak(&dialects::ghcr::dialect());
    let lists = join_all((0..REPOSITORIES).map(|number| list(&setup, number))).await;
    assert!(lists.iter().all(Result::is_ok), "{lists:?}");
    for number in 0..REPOSITORIES {
        list(&setup, number).await.unwrap();
    }
    assert_eq!(setup.registry.count(RequestKind::Token), 1);
    assert_eq!(setup.registry.tokens()[0].uses, 2 * REPOSITORIES);
    // Who logs in has tokens of their own.
    setup.registry.require_bearer(Bearer::new().service("ghcr.io").unbound());
    for number in 0..2 {
        let upstream = setup.factory.upstream(&setup.name(&repository(number)), &alice().into());
        upstream.tags(Urgency::Background).await.unwrap();
    }
    assert_eq!(setup.registry.count(RequestKind::Token), 3);
}

#[tokio::test]
async fn what_is_private_costs_the_others_nothing() {
    let setup = sharing().await;
    setup.registry.speak(&dialects::ghcr::dialect());
    list(&setup, 0).await.unwrap();
    setup.registry.make_private(&repository(1), "alice", 401);
    setup.registry.fault(Fault::on(RequestKind::Token), dialects::ghcr::no_token());
    for _ in 0..2 {
        setup.registry.clear_requests();
        let error = list(&setup, 1).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Unauthorized { .. }), "{error}");
        assert_eq!(setup.registry.count(RequestKind::Token), 1, "one of its own is asked for, and refused");
        list(&setup, 0).await.unwrap();
        assert_eq!(setup.registry.count(RequestKind::Token), 1, "the shared one is still there");
    }
}

#[tokio::test]
async fn what_is_private_does_not_keep_the_others_from_their_first_token() {
    let setup = sharing().await;
    setup.registry.speak(&dialects::ghcr::dialect());
    // Whoever asks first is refused; the others wait for the same token.
    setup.registry.fault(Fault::on(RequestKind::Token).query_containing("app0"), dialects::ghcr::no_token());
    list(&setup, 0).await.unwrap_err();
    let lists = join_all((0..5).map(|number| list(&setup, number))).await;
    assert!(lists[0].is_err());
    assert!(lists[1..].iter().all(Result::is_ok), "{lists:?}");
    // Refused twice, and one for the others.
    assert_eq!(setup.registry.count(RequestKind::Token), 3);
}

#[tokio::test]
async fn a_token_that_is_being_replaced_is_still_another_ones() {
    let setup = sharing().await;
    setup.registry.require_bearer(Bearer::new().unbound().expires_in(Some(100)));
    list(&setup, 0).await.unwrap();
    // Into its last quarter.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(80)).await;
    tokio::time::resume();
    let refused = Fault::on(RequestKind::Tags).repository(repository(1)).times(1);
    setup.registry.fault(refused, Action::status(403));
    list(&setup, 1).await.unwrap();
    // The next one for all, and one of its own.
    setup.registry.wait_for(RequestKind::Token, 3).await;
}

#[tokio::test]
async fn where_it_turns_out_that_tokens_are_not_shared_each_repository_gets_its_own() {
    let setup = sharing().await;
    setup.registry.require_bearer(Bearer::new());
    for _ in 0..2 {
        for number in 0..REPOSITORIES {
            list(&setup, number).await.unwrap();
        }
    }
    // The first asks without a token, the second with the first one's; from then on nobody errs. Only the first one's
    // was kept for all.
    assert_eq!(setup.counts(), [2 * REPOSITORIES + 2, 0, 0, 0, REPOSITORIES + 1]);
}

#[tokio::test]
async fn it_is_not_tried_where_nobody_says_so() {
    let setup = Setup::new().await;
    setup.registry.require_bearer(Bearer::new().unbound());
    for number in 0..2 {
        setup.registry.push(&repository(number), "v1", &Image::new("seed"));
        list(&setup, number).await.unwrap();
    }
    assert_eq!(setup.registry.count(RequestKind::Token), 2);
}
