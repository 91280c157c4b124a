//! Several credentials for one repository: tried in order, and the first that works sticks.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use samovar_registry::credentials::{
    Candidate, CredentialChain, CredentialError, CredentialProvider, Credentials,
};
use samovar_registry::upstream::{ErrorKind, TagList, UpstreamError, UpstreamFactory, Urgency};
use samovar_registry::{Name, Secret};
use samovar_testing::fake::{Action, Bearer, FakeRegistry, Fault, RequestKind};

use super::{authorizations, with_one_tag};
use crate::setup::{PASSWORD, REPOSITORY, Setup, alice, options, tag, trusting};

fn user(name: &str, password: &str) -> Credentials {
    let provenance = format!("{name}'s entry").into();
    Credentials::Basic { username: name.to_owned(), password: Secret::new(password), provenance }
}

fn chain<const N: usize>(candidates: [Credentials; N]) -> CredentialChain {
    CredentialChain::new(candidates.into_iter().map(Candidate::Fixed).collect())
}

async fn list_with(setup: &Setup, chain: &CredentialChain) -> Result<TagList, UpstreamError> {
    setup.factory.upstream(&setup.name(REPOSITORY), chain).tags(Urgency::Background).await
}

/// The words of a provider that is in order.
const HAS_NONE: &str = "it has none";

/// Gives these in turn, the last one for good, and the next one only once the one before was refused.
#[derive(Debug)]
struct Providing {
    given: Mutex<Vec<Result<Credentials, &'static str>>>,
    refused: Mutex<Vec<Credentials>>,
}

impl Providing {
    fn candidate(given: Vec<Result<Credentials, &'static str>>) -> (Arc<Self>, Candidate) {
        let providing = Arc::new(Self { given: Mutex::new(given), refused: Mutex::default() });
        (providing.clone(), Candidate::Provided(providing))
    }

    fn refused(&self) -> usize {
        self.refused.lock().unwrap().len()
    }
}

#[async_trait]
impl CredentialProvider for Providing {
    fn provenance(&self) -> &'static str {
        "the cloud"
    }

    async fn credentials(&self, _name: &Name) -> Result<Credentials, CredentialError> {
        let given = self.given.lock().unwrap()[0].clone();
        given.map_err(|message| CredentialError {
            provenance: self.provenance().into(),
            message: message.to_owned(),
            is_none: message == HAS_NONE,
        })
    }

    fn refused(&self, credentials: &Credentials) {
        self.refused.lock().unwrap().push(credentials.clone());
        let mut given = self.given.lock().unwrap();
        if given.len() > 1 {
            drop(given.remove(0));
        }
    }
}

/// Never answers.
#[derive(Debug)]
struct Silent;

#[async_trait]
impl CredentialProvider for Silent {
    fn provenance(&self) -> &'static str {
        "the cloud"
    }

    async fn credentials(&self, _name: &Name) -> Result<Credentials, CredentialError> {
        std::future::pending().await
    }

    fn refused(&self, _credentials: &Credentials) {}
}

#[tokio::test]
async fn the_first_that_works_sticks() {
    let setup = with_one_tag(options()).await;
    setup.registry.require_basic("alice", PASSWORD);
    let chain = chain([user("bob", "guess"), alice(), Credentials::Anonymous]);
    list_with(&setup, &chain).await.unwrap();
    // Without a login, as Bob, as Alice.
    assert_eq!(setup.counts(), [3, 0, 0, 0, 0]);
    for _ in 0..3 {
        list_with(&setup, &chain).await.unwrap();
    }
    assert_eq!(setup.counts(), [6, 0, 0, 0, 0], "Bob is not tried again");
}

#[tokio::test]
async fn when_what_sticks_is_refused_all_are_tried_again_once() {
    let setup = with_one_tag(options()).await;
    setup.registry.require_basic("alice", PASSWORD);
    let chain = chain([alice(), user("bob", "secret")]);
    list_with(&setup, &chain).await.unwrap();
    for (user, password) in [("bob", "secret"), ("alice", PASSWORD)] {
        setup.registry.require_basic(user, password);
        setup.registry.clear_requests();
        list_with(&setup, &chain).await.unwrap();
        assert_eq!(setup.counts(), [2, 0, 0, 0, 0], "the one that worked, the other one");
    }

    setup.registry.require_basic("carol", "secret");
    for _ in 0..2 {
        setup.registry.clear_requests();
        list_with(&setup, &chain).await.unwrap_err();
        assert_eq!(setup.counts(), [2, 0, 0, 0, 0], "each once");
    }
}

#[tokio::test]
async fn what_works_is_another_matter_for_another_repository_and_for_other_credentials() {
    let setup = with_one_tag(options()).await;
    setup.registry.push("team/other", "v1", &samovar_testing::Image::new("seed"));
    let bearer = Bearer::new().credentials("alice", PASSWORD).credentials("bob", "secret");
    setup.registry.require_bearer(bearer);
    setup.registry.make_private(REPOSITORY, "alice", 403);
    setup.registry.make_private("team/other", "bob", 403);
    let both = chain([user("bob", "secret"), alice()]);
    list_with(&setup, &both).await.unwrap();
    let other = setup.factory.upstream(&setup.name("team/other"), &both);
    setup.registry.clear_requests();
    other.tags(Urgency::Background).await.unwrap();
    assert_eq!(setup.counts(), [1, 0, 0, 0, 1], "Bob's token, and it works");
    let error = list_with(&setup, &chain([user("bob", "secret")])).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Denied { .. }), "{error}");
}

#[tokio::test]
async fn of_those_who_are_refused_the_secret_is_named() {
    for refusal in [401, 403] {
        let setup = with_one_tag(options()).await;
        let bearer = Bearer::new().credentials("alice", "another password").refusing_with(refusal);
        setup.registry.require_bearer(bearer);
        let error = list_with(&setup, &chain([alice(), Credentials::Anonymous])).await.unwrap_err();
        let (ErrorKind::Unauthorized { credentials, .. } | ErrorKind::Denied { credentials, .. }) =
            &error.kind
        else {
            panic!("{error}")
        };
        assert_eq!(credentials, r#"user "alice" from the test"#);
        assert_eq!(setup.registry.count(RequestKind::Token), 2, "{error}");
    }
}

#[tokio::test]
async fn a_refused_password_leaves_what_is_public_in_reach_and_is_not_tried_for_every_repository() {
    let setup = with_one_tag(options()).await;
    setup.registry.push("team/other", "v1", &samovar_testing::Image::new("seed"));
    setup.registry.require_bearer(Bearer::new().credentials("alice", "another password").or_anonymous());
    let chain = chain([alice(), Credentials::Anonymous]);
    list_with(&setup, &chain).await.unwrap();
    assert_eq!(setup.counts(), [2, 0, 0, 0, 2]);
    let other = setup.factory.upstream(&setup.name("team/other"), &chain);
    other.tags(Urgency::Background).await.unwrap();
    assert_eq!(setup.counts(), [3, 0, 0, 0, 3], "only an anonymous token");
}

#[tokio::test]
async fn what_is_private_may_hide_behind_404() {
    let setup = with_one_tag(options()).await;
    let bearer = Bearer::new().credentials("alice", PASSWORD).credentials("bob", "secret").or_anonymous();
    setup.registry.require_bearer(bearer);
    setup.registry.make_private(REPOSITORY, "alice", 404);
    let bob = user("bob", "secret");
    list_with(&setup, &chain([bob.clone(), Credentials::Anonymous, alice()])).await.unwrap();

    let nobody_knows = chain([bob, Credentials::Anonymous]);
    let error = list_with(&setup, &nobody_knows).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn not_found_is_believed_of_what_has_worked() {
    let setup = with_one_tag(options()).await;
    setup.registry.require_basic("alice", PASSWORD);
    let chain = chain([user("bob", "guess"), alice()]);
    let upstream = setup.factory.upstream(&setup.name(REPOSITORY), &chain);
    upstream.tags(Urgency::Background).await.unwrap();
    setup.registry.clear_requests();
    let error = upstream.resolve(&tag("v2"), Urgency::Background).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::NotFound { .. }), "{error}");
    assert_eq!(setup.counts(), [0, 1, 0, 0, 0]);
}

#[tokio::test]
async fn a_refused_secret_tells_more_than_not_found_without_it() {
    let setup = with_one_tag(options()).await;
    setup.registry.require_bearer(Bearer::new().credentials("alice", "another password").or_anonymous());
    setup.registry.make_private(REPOSITORY, "alice", 404);
    let error = list_with(&setup, &chain([alice(), Credentials::Anonymous])).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Unauthorized { .. }), "{error}");
}

#[tokio::test]
async fn a_failure_that_is_no_refusal_ends_the_search() {
    let setup = with_one_tag(options()).await;
    setup.registry.require_bearer(Bearer::new().without("GET", 500));
    let error = list_with(&setup, &chain([alice(), Credentials::Anonymous])).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Unavailable { status: 500, .. }), "{error}");
    let tokens = setup.registry.requests().into_iter().filter(|request| request.kind == RequestKind::Token);
    assert!(tokens.into_iter().all(|request| request.authorization.is_some()), "nobody else was tried");
}

#[tokio::test]
async fn a_provider_that_has_none_is_passed_over_and_named_if_nothing_works() {
    let setup = with_one_tag(options()).await;
    let (_, provided) = Providing::candidate(vec![Err("the metadata service did not answer")]);
    let chain = CredentialChain::new(vec![provided, Candidate::Fixed(Credentials::Anonymous)]);
    list_with(&setup, &chain).await.unwrap();

    setup.registry.require_basic("alice", PASSWORD);
    let error = list_with(&setup, &chain).await.unwrap_err();
    let expected = "unauthorised with no credentials from the cloud: the metadata service did not answer";
    assert_eq!(error.kind.to_string(), expected);
}

#[tokio::test]
async fn a_provider_that_has_none_tells_less_than_not_found_and_one_that_fails_more() {
    for (words, is_told) in [(HAS_NONE, false), ("the metadata service did not answer", true)] {
        let setup = with_one_tag(options()).await;
        let (_, provided) = Providing::candidate(vec![Err(words)]);
        let chain = CredentialChain::new(vec![provided, Candidate::Fixed(Credentials::Anonymous)]);
        let upstream = setup.factory.upstream(&setup.name(REPOSITORY), &chain);
        let error = upstream.resolve(&tag("v2"), Urgency::Background).await.unwrap_err();
        assert_eq!(matches!(error.kind, ErrorKind::Unauthorized { .. }), is_told, "{error}");
        assert_eq!(matches!(error.kind, ErrorKind::NotFound { .. }), !is_told, "{error}");

        setup.registry.require_basic("alice", PASSWORD);
        let error = upstream.tags(Urgency::Background).await.unwrap_err();
        assert!(error.to_string().contains(words), "it tells more than that nobody was let in: {error}");
    }
}

#[tokio::test]
async fn only_what_was_asked_for_shows_that_credentials_work() {
    for status in [400, 503] {
        let setup = with_one_tag(options()).await;
        let bearer = Bearer::new().credentials("alice", PASSWORD).credentials("bob", "secret");
        setup.registry.require_bearer(bearer);
        setup.registry.make_private(REPOSITORY, "alice", 404);
        let chain = chain([user("bob", "secret"), alice()]);
        setup.registry.fault(Fault::on(RequestKind::Tags), Action::status(status));
        let error = list_with(&setup, &chain).await.unwrap_err();
        assert_eq!(error.kind.status(), Some(status), "{error}");
        setup.registry.clear_faults();
        // Bob gets 404.
        list_with(&setup, &chain).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_does_not_answer_is_not_waited_for() {
    let registry = FakeRegistry::start().await;
    let setup = Setup::around(registry, options());
    let chain = CredentialChain::new(vec![Candidate::Provided(Arc::new(Silent))]);
    let began = tokio::time::Instant::now();
    let error = list_with(&setup, &chain).await.unwrap_err();
    assert_eq!(began.elapsed().as_secs(), 30);
    assert!(error.to_string().contains("nothing came within 30 s"), "{error}");
}

#[tokio::test]
async fn a_provider_gets_one_chance_to_give_others() {
    let setup = with_one_tag(options()).await;
    setup.registry.require_basic("alice", PASSWORD);
    let (providing, provided) = Providing::candidate(vec![Ok(user("alice", "old")), Ok(alice())]);
    let chain = CredentialChain::new(vec![provided]);
    list_with(&setup, &chain).await.unwrap();
    assert_eq!(setup.counts(), [3, 0, 0, 0, 0]);
    assert_eq!(providing.refused(), 1);
    list_with(&setup, &chain).await.unwrap();
    assert_eq!(setup.counts(), [4, 0, 0, 0, 0]);

    setup.registry.require_basic("alice", "what the cloud does not know");
    let error = list_with(&setup, &chain).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Unauthorized { .. }), "{error}");
    assert_eq!(setup.counts(), [5, 0, 0, 0, 0], "the same are not tried twice");
}

#[tokio::test]
async fn a_secret_that_must_not_be_sent_is_passed_over() {
    let elsewhere = FakeRegistry::start().await;
    let setup = with_one_tag(trusting([elsewhere.host()])).await;
    setup.registry.require_bearer(Bearer::new().realm_of(&elsewhere));
    let chain = chain([alice(), Credentials::Anonymous]);
    list_with(&setup, &chain).await.unwrap();
    assert_eq!(authorizations(&elsewhere), [None]);

    setup.registry.make_private(REPOSITORY, "alice", 403);
    let error = list_with(&setup, &chain).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Refused { .. }), "{error}");
}
