//! Logging in: exactly as many requests as needed, and no secret where it does not belong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use samovar_registry::credentials::Credentials;
use samovar_registry::upstream::{
    ErrorKind, HostOptions, HttpOptions, Operation, TagList, Upstream, UpstreamError, UpstreamFactory,
    Urgency,
};
use samovar_testing::Image;
use samovar_testing::fake::{Action, Bearer, FakeRegistry, Fault, Recorded, RequestKind};

use crate::setup::{PASSWORD, REPOSITORY, Setup, alice, options, tag, trusting};

mod chains;
mod shared_tokens;
mod tokens_by_post;

async fn with_one_tag(options: HttpOptions) -> Setup {
    let setup = Setup::with(options).await;
    setup.registry.push(REPOSITORY, "v1", &Image::new("seed"));
    setup
}

async fn list(setup: &Setup, credentials: &Credentials) -> Result<TagList, UpstreamError> {
    setup.upstream_as(credentials).tags(Urgency::Background).await
}

fn authorizations(registry: &FakeRegistry) -> Vec<Option<String>> {
    registry.requests().into_iter().map(|request| request.authorization).collect()
}

fn of_kind(registry: &FakeRegistry, kind: RequestKind) -> Vec<Recorded> {
    registry.requests().into_iter().filter(|request| request.kind == kind).collect()
}

/// `alice` and her password, as Basic sends them.
const BASIC_ALICE: &str = "Basic YWxpY2U6b3BlbiBzZXNhbWU=";

#[tokio::test]
async fn a_registry_that_is_open_to_all_is_asked_once() {
    let setup = with_one_tag(options()).await;
    list(&setup, &alice()).await.unwrap();
    assert_eq!(setup.counts(), [1, 0, 0, 0, 0]);
    assert_eq!(authorizations(&setup.registry), [None], "nobody asked for the password");
}

#[tokio::test]
async fn a_password_is_sent_once_asked_for_and_at_once_from_then_on() {
    let setup = with_one_tag(options()).await;
    setup.registry.require_basic("alice", PASSWORD);
    list(&setup, &alice()).await.unwrap();
    list(&setup, &alice()).await.unwrap();
    assert_eq!(setup.counts(), [3, 0, 0, 0, 0]);
    let basic = || Some(BASIC_ALICE.to_owned());
    assert_eq!(authorizations(&setup.registry), [None, basic(), basic()]);
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_and_not_shown() {
    let setup = with_one_tag(options()).await;
    setup.registry.require_basic("alice", "another password");
    let error = list(&setup, &alice()).await.unwrap_err();
    let ErrorKind::Unauthorized { credentials, message } = &error.kind else { panic!("{error}") };
    assert_eq!(credentials, r#"user "alice" from the test"#);
    assert_eq!(message.as_deref(), Some("UNAUTHORIZED: authentication required"));
    assert!(!format!("{error} {error:?}").contains(PASSWORD));
    assert_eq!(setup.counts(), [2, 0, 0, 0, 0]);

    let error = list(&setup, &Credentials::Anonymous).await.unwrap_err();
    assert!(error.to_string().contains("unauthorised with no credentials"), "{error}");
    assert_eq!(setup.counts(), [3, 0, 0, 0, 0]);
}

#[tokio::test]
async fn a_wrong_password_is_not_tried_at_the_registry_for_every_repository() {
    let setup = with_one_tag(options()).await;
    setup.registry.push("team/other", "v1", &Image::new("seed"));
    setup.registry.require_basic("alice", "another password");
    let first = list(&setup, &alice()).await.unwrap_err();
    assert_eq!(setup.counts(), [2, 0, 0, 0, 0]);
    let other = setup.factory.upstream(&setup.name("team/other"), &alice().into());
    let error = other.tags(Urgency::Background).await.unwrap_err();
    assert_eq!((error.operation, &error.kind), (Operation::Tags, &first.kind));
    assert_eq!(setup.counts(), [2, 0, 0, 0, 0], "nobody is asked");
}

/// Ten repositories.
fn several(setup: &Setup) -> Vec<Arc<dyn Upstream>> {
    let upstream = |number| {
        let repository = format!("team/app{number}");
        setup.registry.push(&repository, "v1", &Image::new("seed"));
        setup.factory.upstream(&setup.name(&repository), &alice().into())
    };
    (0..10).map(upstream).collect()
}

/// The requests that carried the password, by Basic or to the token service.
fn logins(registry: &FakeRegistry) -> usize {
    authorizations(registry).iter().filter(|sent| sent.as_deref() == Some(BASIC_ALICE)).count()
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_by_many_who_ask_at_once() {
    for bearer in [None, Some(Bearer::new().credentials("alice", "another password"))] {
        let setup = with_one_tag(options()).await;
        match bearer {
            Some(bearer) => setup.registry.require_bearer(bearer),
            None => setup.registry.require_basic("alice", "another password"),
        }
        let upstreams = several(&setup);
        let lists = join_all(upstreams.iter().map(|upstream| upstream.tags(Urgency::Background))).await;
        for error in lists.into_iter().map(Result::unwrap_err) {
            let ErrorKind::Unauthorized { credentials, .. } = &error.kind else { panic!("{error}") };
            assert_eq!(credentials, r#"user "alice" from the test"#);
        }
        assert_eq!(logins(&setup.registry), 1);
    }
}

#[tokio::test]
async fn a_right_password_is_good_for_many_who_ask_at_once() {
    for bearer in [None, Some(Bearer::new().credentials("alice", PASSWORD))] {
        let setup = with_one_tag(options()).await;
        match bearer {
            Some(bearer) => setup.registry.require_bearer(bearer),
            None => setup.registry.require_basic("alice", PASSWORD),
        }
        let upstreams = several(&setup);
        let lists = join_all(upstreams.iter().map(|upstream| upstream.tags(Urgency::Background))).await;
        assert!(lists.iter().all(Result::is_ok), "{lists:?}");
        assert_eq!(logins(&setup.registry), 10);
    }
}

#[tokio::test]
async fn a_password_that_is_not_accepted_any_more_is_tried_for_three_repositories() {
    let setup = with_one_tag(options()).await;
    setup.registry.require_basic("alice", PASSWORD);
    let upstreams = several(&setup);
    for upstream in &upstreams {
        upstream.tags(Urgency::Background).await.unwrap();
    }
    setup.registry.require_basic("alice", "another password");
    setup.registry.clear_requests();
    for (upstream, requests) in upstreams.iter().zip([1, 2, 3, 3, 3]) {
        upstream.tags(Urgency::Background).await.unwrap_err();
        assert_eq!(setup.counts(), [requests, 0, 0, 0, 0]);
    }
}

#[tokio::test]
async fn a_token_service_that_does_not_accept_a_password_any_more_hears_it_three_times() {
    let setup = with_one_tag(options()).await;
    setup.registry.require_bearer(Bearer::new().credentials("alice", PASSWORD));
    let upstreams = several(&setup);
    upstreams[9].tags(Urgency::Background).await.unwrap();
    setup.registry.require_bearer(Bearer::new().credentials("alice", "another password"));
    setup.registry.clear_requests();
    for (upstream, logged_in) in upstreams.iter().zip([1, 2, 3, 3, 3]) {
        upstream.tags(Urgency::Background).await.unwrap_err();
        assert_eq!(logins(&setup.registry), logged_in);
    }
    upstreams[9].tags(Urgency::Background).await.unwrap();
    assert_eq!(logins(&setup.registry), 3, "the token that is there is good");
}

#[tokio::test]
async fn a_realm_need_not_be_ascii() {
    let setup = with_one_tag(options()).await;
    setup.registry.require_basic("alice", PASSWORD);
    setup.registry.wrong_challenge("Basic realm=\"caf\u{e9}\"");
    list(&setup, &alice()).await.unwrap();
}

#[tokio::test]
async fn a_token_is_fetched_once_and_used_from_then_on() {
    let bearers = [
        Bearer::new(),
        Bearer::new().token_field("access_token"),
        Bearer::new().expires_in(None),
        Bearer::new().service("a service, with = and & in it"),
    ];
    for bearer in bearers {
        let setup = with_one_tag(options()).await;
        setup.registry.require_bearer(bearer);
        list(&setup, &Credentials::Anonymous).await.unwrap();
        assert_eq!(setup.counts(), [2, 0, 0, 0, 1]);
        list(&setup, &Credentials::Anonymous).await.unwrap();
        assert_eq!(setup.counts(), [3, 0, 0, 0, 1]);
        let token = &of_kind(&setup.registry, RequestKind::Token)[0];
        assert_eq!(token.parameter("scope").as_deref(), Some("repository:team/app:pull"));
        assert_eq!((token.parameter("account"), &token.authorization), (None, &None));
    }
}

#[tokio::test]
async fn the_password_goes_to_the_token_service_and_not_to_the_registry() {
    let setup = with_one_tag(options()).await;
    setup.registry.require_bearer(Bearer::new().credentials("alice", PASSWORD));
    list(&setup, &alice()).await.unwrap();
    let token = &of_kind(&setup.registry, RequestKind::Token)[0];
    assert_eq!(token.authorization.as_deref(), Some(BASIC_ALICE));
    assert_eq!(token.parameter("account").as_deref(), Some("alice"));
    let tags = of_kind(&setup.registry, RequestKind::Tags);
    assert!(tags.iter().all(|request| request.authorization.as_deref() != Some(BASIC_ALICE)));

    let error = list(&setup, &Credentials::Anonymous).await.unwrap_err();
    assert_eq!(error.operation, Operation::Token);
    assert!(matches!(error.kind, ErrorKind::Unauthorized { .. }), "{error}");
}

#[tokio::test]
async fn one_token_for_many_who_ask_at_once() {
    let setup = with_one_tag(options()).await;
    // Different tags: who asks for the same thing shares the request too.
    let tags: Vec<_> = (0..20).map(|number| tag(&format!("v{number}"))).collect();
    for tag in &tags {
        setup.registry.push(REPOSITORY, tag.as_str(), &Image::new("same"));
    }
    setup.registry.require_bearer(Bearer::new());
    setup.registry.fault(Fault::on(RequestKind::Token), Action::Delay(std::time::Duration::from_millis(50)));
    let upstream = setup.upstream();
    let resolved = join_all(tags.iter().map(|tag| upstream.resolve(tag, Urgency::Background))).await;
    assert!(resolved.iter().all(Result::is_ok));
    assert_eq!(setup.registry.count(RequestKind::Token), 1);
    assert_eq!(setup.registry.tokens()[0].uses, 20);
}

#[tokio::test]
async fn tokens_are_kept_apart_by_repository_and_identity() {
    let setup = with_one_tag(options()).await;
    setup.registry.push("team/other", "v1", &Image::new("seed"));
    setup.registry.require_bearer(Bearer::new());
    list(&setup, &Credentials::Anonymous).await.unwrap();
    list(&setup, &alice()).await.unwrap();
    let other = setup.factory.upstream(&setup.name("team/other"), &Credentials::Anonymous.into());
    other.tags(Urgency::Background).await.unwrap();
    // The way to log in was learnt once, by the first request.
    assert_eq!(setup.counts(), [4, 0, 0, 0, 3]);
    let tokens = setup.registry.tokens();
    let scopes: Vec<_> = tokens.iter().flat_map(|token| token.scopes.clone()).collect();
    assert_eq!(
        scopes,
        ["repository:team/app:pull", "repository:team/app:pull", "repository:team/other:pull"]
    );
}

#[tokio::test]
async fn a_token_that_has_run_out_is_replaced_once() {
    let setup = with_one_tag(options()).await;
    setup.registry.require_bearer(Bearer::new());
    list(&setup, &Credentials::Anonymous).await.unwrap();
    setup.registry.expire_tokens();
    setup.registry.clear_requests();
    list(&setup, &Credentials::Anonymous).await.unwrap();
    assert_eq!(setup.counts(), [2, 0, 0, 0, 1]);
}

#[tokio::test]
async fn tokens_that_are_never_accepted_end_in_unauthorised() {
    let issuer = FakeRegistry::start().await;
    issuer.require_bearer(Bearer::new());
    let setup = with_one_tag(trusting([issuer.host()])).await;
    setup.registry.require_bearer(Bearer::new().realm_url(format!("{}/token", issuer.url())));
    let error = list(&setup, &Credentials::Anonymous).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Unauthorized { .. }), "{error}");
    assert_eq!(setup.counts(), [2, 0, 0, 0, 0]);
    assert_eq!(issuer.count(RequestKind::Token), 1);
    // One refusal of the kept token, one of a fresh one.
    list(&setup, &Credentials::Anonymous).await.unwrap_err();
    assert_eq!(setup.counts(), [4, 0, 0, 0, 0]);
    assert_eq!(issuer.count(RequestKind::Token), 2);
}

#[tokio::test]
async fn a_realm_outside_the_trust_boundary_gets_no_secret() {
    let elsewhere = FakeRegistry::start().await;
    let setup = with_one_tag(trusting([elsewhere.host()])).await;
    setup.registry.require_bearer(Bearer::new().realm_of(&elsewhere));
    let error = list(&setup, &alice()).await.unwrap_err();
    let ErrorKind::Refused { message } = &error.kind else { panic!("{error}") };
    assert!(message.contains(&setup.registry.host()) && message.contains(&elsewhere.url()), "{message}");
    assert_eq!(elsewhere.requests().len(), 0);

    list(&setup, &Credentials::Anonymous).await.unwrap();
    assert_eq!(authorizations(&elsewhere), [None]);
}

#[tokio::test]
async fn a_realm_that_the_configuration_allows_gets_it() {
    let elsewhere = FakeRegistry::start().await;
    let registry = FakeRegistry::start().await;
    registry.push(REPOSITORY, "v1", &Image::new("seed"));
    registry.require_bearer(Bearer::new().realm_of(&elsewhere).credentials("alice", PASSWORD));
    let own = HostOptions { token_hosts: BTreeSet::from([elsewhere.host()]), ..HostOptions::default() };
    let hosts = BTreeMap::from([(registry.host(), own)]);
    let insecure = trusting([registry.host(), elsewhere.host()]);
    let setup = Setup::around(registry, HttpOptions { hosts, ..insecure });
    list(&setup, &alice()).await.unwrap();
    assert_eq!(authorizations(&elsewhere), [Some(BASIC_ALICE.to_owned())]);
}

#[tokio::test]
async fn a_login_that_changes_is_learnt_anew() {
    let setup = with_one_tag(options()).await;
    setup.registry.require_bearer(Bearer::new());
    list(&setup, &alice()).await.unwrap();
    setup.registry.require_basic("alice", PASSWORD);
    setup.registry.clear_requests();
    list(&setup, &alice()).await.unwrap();
    // With the kept token, with a fresh one, with the password.
    assert_eq!(setup.counts(), [3, 0, 0, 0, 1]);
}

#[tokio::test]
async fn a_token_service_that_has_moved_is_found_again() {
    let mut old = FakeRegistry::start().await;
    let setup = with_one_tag(trusting([old.host()])).await;
    setup.registry.require_bearer(Bearer::new().realm_of(&old).service("old"));
    list(&setup, &Credentials::Anonymous).await.unwrap();
    old.stop().await;
    setup.registry.require_bearer(Bearer::new());
    setup.registry.expire_tokens();
    let error = list(&setup, &Credentials::Anonymous).await.unwrap_err();
    assert_eq!(error.operation, Operation::Token);
    assert!(matches!(error.kind, ErrorKind::Transport { .. }), "{error}");
    list(&setup, &Credentials::Anonymous).await.unwrap();
}

#[tokio::test]
async fn challenges_that_ask_for_nothing_we_speak() {
    for challenge in
        ["Negotiate", "Bearer", "Bearer realm=", "Digest realm=\"x\"", "\"\"\"", "Bearer realm=\"mailto:x\""]
    {
        let setup = with_one_tag(options()).await;
        setup.registry.require_bearer(Bearer::new());
        setup.registry.wrong_challenge(challenge);
        let error = list(&setup, &alice()).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Unauthorized { .. }), "{challenge}: {error}");
        assert_eq!(setup.counts(), [1, 0, 0, 0, 0], "{challenge}");
    }
}

#[tokio::test]
async fn a_choice_of_logins_and_a_realm_by_its_path() {
    let setup = with_one_tag(options()).await;
    setup.registry.require_bearer(Bearer::new());
    let challenge =
        r#"Negotiate, Basic realm="a, \"b\"", Bearer realm="/token",service="fake-registry",scope="*""#;
    setup.registry.wrong_challenge(challenge);
    list(&setup, &Credentials::Anonymous).await.unwrap();
    assert_eq!(setup.counts(), [2, 0, 0, 0, 1]);
}

#[tokio::test]
async fn failures_of_the_token_service() {
    let failing = async |action: Action, times: usize| {
        let setup = with_one_tag(options()).await;
        setup.registry.require_bearer(Bearer::new());
        setup.registry.fault(Fault::on(RequestKind::Token).times(times), action);
        let result = list(&setup, &Credentials::Anonymous).await;
        (setup, result.map_err(|error| (error.operation, error.kind)))
    };
    let (setup, result) = failing(Action::status(503), 1).await;
    assert!(result.is_ok());
    assert_eq!(setup.counts(), [2, 0, 0, 0, 2]);

    for (action, is_expected) in [
        (
            Action::status(500),
            (|kind| matches!(kind, ErrorKind::Unavailable { .. })) as fn(&ErrorKind) -> bool,
        ),
        (Action::status(403), |kind| matches!(kind, ErrorKind::Denied { .. })),
        // A token service that is not there says nothing of the repository.
        (Action::status(404), |kind| matches!(kind, ErrorKind::Rejected { status: 404, .. })),
        (Action::body("application/json", "{}"), |kind| matches!(kind, ErrorKind::Protocol { .. })),
        (Action::EndlessBody, |kind| matches!(kind, ErrorKind::TooLarge { .. })),
    ] {
        let (_, result) = failing(action, 2).await;
        let (operation, kind) = result.unwrap_err();
        assert_eq!(operation, Operation::Token);
        assert!(is_expected(&kind), "{kind}");
    }

    let (setup, result) = failing(Action::too_many_requests(60), 1).await;
    let (operation, kind) = result.unwrap_err();
    assert_eq!(operation, Operation::Token);
    let message = Some("too many requests".to_owned());
    assert_eq!(kind, ErrorKind::RateLimited { retry_after: std::time::Duration::from_mins(1), message });
    assert_eq!(setup.counts(), [1, 0, 0, 0, 1]);
    assert!(setup.budget().token_blocked_for.is_some());
    assert_eq!(
        setup.factory.blocked_for(&setup.name(REPOSITORY)),
        None,
        "the registry itself is not held back"
    );
}

#[tokio::test]
async fn a_wrong_password_is_not_tried_at_the_token_service_for_every_repository() {
    let setup = with_one_tag(options()).await;
    setup.registry.push("team/other", "v1", &Image::new("seed"));
    setup.registry.require_bearer(Bearer::new().credentials("alice", "another password"));
    let first = list(&setup, &alice()).await.unwrap_err();
    assert!(matches!(first.kind, ErrorKind::Unauthorized { .. }), "{first}");
    assert_eq!(setup.counts(), [1, 0, 0, 0, 1]);
    for repository in [REPOSITORY, "team/other"] {
        let upstream = setup.factory.upstream(&setup.name(repository), &alice().into());
        let error = upstream.tags(Urgency::Background).await.unwrap_err();
        assert_eq!((error.operation, &error.kind), (Operation::Token, &first.kind));
    }
    assert_eq!(setup.counts(), [1, 0, 0, 0, 1], "nobody is asked");
    // Another identity is another matter.
    list(&setup, &Credentials::Anonymous).await.unwrap_err();
    assert_eq!(setup.registry.count(RequestKind::Token), 2);
}

/// 401 from the registry to who has a token, with a challenge that asks for this scope.
fn wants(setup: &Setup, scope: &str) -> Action {
    let url = setup.registry.url();
    let challenge = format!(r#"Bearer realm="{url}/token",service="fake-registry",scope="{scope}""#);
    Action::Status {
        code: 401,
        headers: vec![("www-authenticate".to_owned(), challenge)],
        body: String::new(),
    }
}

fn scopes(registry: &FakeRegistry) -> Vec<String> {
    registry.tokens().into_iter().flat_map(|token| token.scopes).collect()
}

#[tokio::test]
async fn a_token_is_asked_for_what_the_registry_wants_besides_pulling() {
    for lists_before in [0, 1] {
        let setup = with_one_tag(options()).await;
        setup.registry.require_bearer(Bearer::new());
        for _ in 0..lists_before {
            list(&setup, &Credentials::Anonymous).await.unwrap();
        }
        let scope = "repository:team/app:metadata_read";
        setup.registry.fault(Fault::on(RequestKind::Tags).times(1), wants(&setup, scope));
        list(&setup, &Credentials::Anonymous).await.unwrap();
        let expected = ["repository:team/app:pull", "repository:team/app:metadata_read,pull"];
        assert_eq!(scopes(&setup.registry), expected);
        assert_eq!(setup.counts(), [3 + lists_before, 0, 0, 0, 2]);
        // The next repository of this host is asked for with what was learnt.
        setup.registry.push("team/other", "v1", &Image::new("seed"));
        let other = setup.factory.upstream(&setup.name("team/other"), &Credentials::Anonymous.into());
        other.tags(Urgency::Background).await.unwrap();
        assert_eq!(scopes(&setup.registry)[2], "repository:team/other:metadata_read,pull");
        assert_eq!(setup.counts(), [4 + lists_before, 0, 0, 0, 3]);
        // What it asks for later comes on top.
        let scope = "repository:team/app:list";
        setup.registry.fault(Fault::on(RequestKind::Tags).times(1), wants(&setup, scope));
        list(&setup, &Credentials::Anonymous).await.unwrap();
        assert_eq!(scopes(&setup.registry)[3], "repository:team/app:list,metadata_read,pull");
    }
}

#[tokio::test]
async fn a_scope_that_is_not_ours_is_not_asked_for() {
    for scope in
        ["repository:team/other:metadata_read", "repository:team/app:push", "registry:catalog:*", "*"]
    {
        let setup = with_one_tag(options()).await;
        setup.registry.require_bearer(Bearer::new());
        setup.registry.fault(Fault::on(RequestKind::Tags), wants(&setup, scope));
        let error = list(&setup, &Credentials::Anonymous).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Unauthorized { .. }), "{error}");
        assert_eq!(scopes(&setup.registry), ["repository:team/app:pull"], "{scope}");
    }
}

#[tokio::test]
async fn a_login_that_gets_no_token_any_more_is_questioned_once() {
    for status in [401, 403] {
        let old = FakeRegistry::start().await;
        let setup = with_one_tag(trusting([old.host()])).await;
        setup.registry.require_bearer(Bearer::new().realm_of(&old).service("old"));
        list(&setup, &Credentials::Anonymous).await.unwrap();
        old.expire_tokens();
        old.fault(Fault::on(RequestKind::Token), Action::status(status));
        old.clear_requests();
        setup.registry.clear_requests();

        // As it is still the same login, what the token service said stands.
        let error = list(&setup, &Credentials::Anonymous).await.unwrap_err();
        assert_eq!(error.operation, Operation::Token, "{error}");
        assert_eq!(error.kind.class(), samovar_registry::upstream::ErrorClass::Unauthorized);
        assert_eq!((setup.registry.requests().len(), old.requests().len()), (2, 1));

        // The registry has moved to another token service.
        setup.registry.require_bearer(Bearer::new());
        list(&setup, &Credentials::Anonymous).await.unwrap();
        assert_eq!(old.requests().len(), 2);
        // Nobody needs a login any more.
        setup.registry.require_bearer(Bearer::new().realm_of(&old).service("old"));
        setup.registry.expire_tokens();
        list(&setup, &Credentials::Anonymous).await.unwrap_err();
        setup.registry.require_nothing();
        list(&setup, &Credentials::Anonymous).await.unwrap();
        let asked_in_vain = old.requests().len();
        list(&setup, &Credentials::Anonymous).await.unwrap();
        assert_eq!(old.requests().len(), asked_in_vain);
    }
}
