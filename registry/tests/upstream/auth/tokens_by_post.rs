//! Tokens by POST: identity tokens, passwords where GET is not served; and tokens that need no asking.

use futures_util::future::join_all;
use samovar_registry::Secret;
use samovar_registry::credentials::Credentials;
use samovar_registry::upstream::{ErrorKind, Operation, UpstreamFactory, Urgency};
use samovar_testing::Image;
use samovar_testing::fake::{Action, Bearer, FakeRegistry, Fault, Recorded, RequestKind};

use super::{list, of_kind, with_one_tag};
use crate::setup::{PASSWORD, REPOSITORY, Setup, alice, options, trusting};

const IDENTITY_TOKEN: &str = "refresh/me+please";

fn identity() -> Credentials {
    Credentials::IdentityToken { token: Secret::new(IDENTITY_TOKEN), provenance: "the test".into() }
}

async fn requiring(bearer: Bearer) -> Setup {
    let setup = with_one_tag(options()).await;
    setup.registry.require_bearer(bearer);
    setup
}

fn token_requests(registry: &FakeRegistry) -> Vec<Recorded> {
    of_kind(registry, RequestKind::Token)
}

fn methods(registry: &FakeRegistry) -> Vec<String> {
    token_requests(registry).into_iter().map(|request| request.method).collect()
}

async fn list_another(setup: &Setup, repository: &str, credentials: &Credentials) {
    setup.registry.push(repository, "v1", &Image::new("seed"));
    let upstream = setup.factory.upstream(&setup.name(repository), &credentials.clone().into());
    upstream.tags(Urgency::Background).await.unwrap();
}

#[tokio::test]
async fn an_identity_token_is_exchanged_by_post() {
    let setup = requiring(Bearer::new().identity_token(IDENTITY_TOKEN, "alice")).await;
    list(&setup, &identity()).await.unwrap();
    list(&setup, &identity()).await.unwrap();
    assert_eq!(setup.counts(), [3, 0, 0, 0, 1]);
    let request = &token_requests(&setup.registry)[0];
    let field = |name| request.field(name).unwrap_or_default();
    assert_eq!((request.method.as_str(), request.query.as_str()), ("POST", ""));
    assert_eq!(request.headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(request.authorization, None);
    assert_eq!(field("grant_type"), "refresh_token");
    assert_eq!(field("refresh_token"), IDENTITY_TOKEN);
    assert_eq!((field("service"), field("client_id")), ("fake-registry".to_owned(), "samovar".to_owned()));
    assert_eq!(field("scope"), "repository:team/app:pull");
}

#[tokio::test]
async fn an_identity_token_that_is_refused_is_named_and_not_shown() {
    let setup = requiring(Bearer::new().identity_token("another one", "alice")).await;
    let error = list(&setup, &identity()).await.unwrap_err();
    let ErrorKind::Unauthorized { credentials, .. } = &error.kind else { panic!("{error}") };
    assert_eq!(credentials, "the identity token from the test");
    assert!(!format!("{error} {error:?}").contains(IDENTITY_TOKEN));
    // It is left alone for a while.
    list(&setup, &identity()).await.unwrap_err();
    assert_eq!(setup.registry.count(RequestKind::Token), 1);
}

#[tokio::test]
async fn an_identity_token_goes_nowhere_outside_the_trust_boundary() {
    let elsewhere = FakeRegistry::start().await;
    let setup = with_one_tag(trusting([elsewhere.host()])).await;
    setup.registry.require_bearer(Bearer::new().realm_of(&elsewhere));
    let error = list(&setup, &identity()).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Refused { .. }), "{error}");
    assert_eq!(elsewhere.requests().len(), 0);
}

#[tokio::test]
async fn an_identity_token_that_is_replaced_is_used_from_then_on() {
    let bearer = Bearer::new().identity_token(IDENTITY_TOKEN, "alice").rotating_identity_tokens();
    let setup = requiring(bearer).await;
    list(&setup, &identity()).await.unwrap();
    list_another(&setup, "team/other", &identity()).await;
    let sent: Vec<_> =
        token_requests(&setup.registry).iter().filter_map(|request| request.field("refresh_token")).collect();
    assert_eq!(sent, [IDENTITY_TOKEN, "identity-1"]);
    // Each is good once: they must not be sent at the same time.
    let identity = identity();
    let repositories: Vec<_> = (0..10).map(|number| format!("team/app{number}")).collect();
    join_all(repositories.iter().map(|repository| list_another(&setup, repository, &identity))).await;
    assert_eq!(setup.registry.count(RequestKind::Token), 12);
    assert!(token_requests(&setup.registry).iter().all(|request| request.status == Some(200)));
}

#[tokio::test]
async fn who_asks_before_the_first_replacement_is_known_asks_again_with_it() {
    let bearer = Bearer::new().identity_token(IDENTITY_TOKEN, "alice").rotating_identity_tokens();
    let setup = requiring(bearer).await;
    // How to log in becomes known without a token.
    list(&setup, &Credentials::Anonymous).await.unwrap_err();
    let identity = identity();
    let repositories: Vec<_> = (0..5).map(|number| format!("team/app{number}")).collect();
    join_all(repositories.iter().map(|repository| list_another(&setup, repository, &identity))).await;
}

#[tokio::test]
async fn the_replacement_is_not_lost_with_the_one_who_asked() {
    let bearer = Bearer::new().identity_token(IDENTITY_TOKEN, "alice").rotating_identity_tokens();
    let setup = requiring(bearer).await;
    setup
        .registry
        .fault(Fault::on(RequestKind::Token).times(1), Action::Delay(std::time::Duration::from_millis(50)));
    let identity = identity();
    tokio::select! {
        _ = list(&setup, &identity) => panic!("the token service takes its time"),
        () = setup.registry.wait_for(RequestKind::Token, 1) => {}
    }
    list(&setup, &identity).await.unwrap();
}

#[tokio::test]
async fn when_the_replacement_is_refused_the_configured_one_gets_another_chance() {
    let rotating = |token| Bearer::new().identity_token(token, "alice").rotating_identity_tokens();
    let setup = requiring(rotating(IDENTITY_TOKEN)).await;
    list(&setup, &identity()).await.unwrap();
    // The service has forgotten what it gave out.
    setup.registry.require_bearer(rotating(IDENTITY_TOKEN));
    setup.registry.expire_tokens();
    list(&setup, &identity()).await.unwrap_err();
    list(&setup, &identity()).await.unwrap();
}

#[tokio::test]
async fn a_password_goes_by_post_where_get_is_not_served() {
    for status in [404, 405] {
        let setup = requiring(Bearer::new().credentials("alice", PASSWORD).without("GET", status)).await;
        list(&setup, &alice()).await.unwrap();
        assert_eq!(methods(&setup.registry), ["GET", "POST"]);
        let request = &token_requests(&setup.registry)[1];
        let field = |name| request.field(name).unwrap_or_default();
        assert_eq!((field("grant_type").as_str(), field("username").as_str()), ("password", "alice"));
        assert_eq!((field("password").as_str(), &request.authorization), (PASSWORD, &None));
        // From then on by POST at once.
        list_another(&setup, "team/other", &alice()).await;
        assert_eq!(methods(&setup.registry), ["GET", "POST", "POST"]);
        // Until it is not served any more.
        setup.registry.require_bearer(Bearer::new().credentials("alice", PASSWORD).without("POST", status));
        list_another(&setup, "team/third", &alice()).await;
        list_another(&setup, "team/fourth", &alice()).await;
        assert_eq!(methods(&setup.registry), ["GET", "POST", "POST", "POST", "GET", "GET"]);
    }
}

#[tokio::test]
async fn where_neither_is_served_nothing_is_said_of_the_password() {
    let bearer = Bearer::new().credentials("alice", PASSWORD).without("GET", 404).without("POST", 405);
    let setup = requiring(bearer).await;
    let error = list(&setup, &alice()).await.unwrap_err();
    assert_eq!(error.operation, Operation::Token);
    assert!(matches!(error.kind, ErrorKind::Rejected { status: 404, .. }), "{error}");
    let error = list(&setup, &identity()).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Rejected { status: 405, .. }), "{error}");
}

#[tokio::test]
async fn what_is_posted_follows_no_redirect_to_another_origin() {
    let elsewhere = FakeRegistry::start().await;
    let setup = with_one_tag(trusting([elsewhere.host()])).await;
    setup.registry.require_bearer(Bearer::new().identity_token(IDENTITY_TOKEN, "alice"));
    let target = format!("{}/token", elsewhere.url());
    for status in [302, 307, 308] {
        let action = Action::Status {
            code: status,
            headers: vec![("location".to_owned(), target.clone())],
            body: String::new(),
        };
        setup.registry.fault(Fault::on(RequestKind::Token).times(1), action);
        let error = list(&setup, &identity()).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Refused { .. }), "{status}: {error}");
        assert_eq!(elsewhere.requests().len(), 0, "{status}");
    }
    // At home it is sent again as it was.
    let action = Action::Status {
        code: 307,
        headers: vec![("location".to_owned(), "/token?again".to_owned())],
        body: String::new(),
    };
    setup.registry.fault(Fault::on(RequestKind::Token).times(1), action);
    setup.registry.clear_requests();
    list(&setup, &identity()).await.unwrap();
    let forms: Vec<_> = token_requests(&setup.registry).into_iter().map(|request| request.form).collect();
    assert_eq!(forms.len(), 2);
    assert_eq!(forms[0], forms[1]);
}

#[tokio::test]
async fn a_registry_token_is_presented_without_asking_for_another() {
    let setup = requiring(Bearer::new().credentials("alice", PASSWORD)).await;
    let given = |token: String| Credentials::RegistryToken {
        token: Secret::new(token),
        provenance: "the test".into(),
    };
    let good = given(setup.registry.hand_out_token(REPOSITORY, "alice"));
    list(&setup, &good).await.unwrap();
    list(&setup, &good).await.unwrap();
    assert_eq!(setup.counts(), [3, 0, 0, 0, 0]);

    let error = list(&setup, &given("out-of-date".to_owned())).await.unwrap_err();
    let ErrorKind::Unauthorized { credentials, .. } = &error.kind else { panic!("{error}") };
    assert_eq!(credentials, "the registry token from the test");
    assert_eq!(setup.counts(), [4, 0, 0, 0, 0]);
}
