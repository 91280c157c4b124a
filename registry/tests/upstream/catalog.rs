//! The list of a registry's repositories.

use samovar_registry::Name;
use samovar_registry::credentials::{CredentialChain, Credentials};
use samovar_registry::upstream::{
    Capabilities, Catalog, CatalogError, ConnectionOptions, ErrorKind, MirrorOptions, Operation, Outcome,
    UpstreamFactory, Urgency,
};
use samovar_testing::fake::{Action, Bearer, FakeRegistry, Fault, RequestKind};
use samovar_testing::{DockerRegistry, Image};

use crate::setup::{PASSWORD, Setup, alice, options, trusting};

async fn listed(setup: &Setup, credentials: impl Into<CredentialChain>) -> Result<Catalog, CatalogError> {
    setup.factory.catalog(&setup.registry.host(), &credentials.into(), Urgency::Background).await
}

fn push_repositories(registry: &FakeRegistry, count: usize) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|number| format!("team/app{number:03}")).collect();
    for name in &names {
        registry.push(name, "v1", &Image::new("same"));
    }
    names
}

fn paths(catalog: &Catalog) -> Vec<&str> {
    catalog.repositories.iter().map(Name::path).collect()
}

fn cannot_list(error: &CatalogError) -> Option<&ErrorKind> {
    match error {
        CatalogError::CannotList { kind, .. } => Some(kind),
        CatalogError::Failed { .. } => None,
    }
}

#[tokio::test]
async fn it_is_read_page_after_page_within_the_budget() {
    let setup = Setup::new().await;
    let pushed = push_repositories(&setup.registry, 25);
    setup.registry.list_repository("No/Name");
    setup.registry.catalog_page_size(7);
    let catalog = listed(&setup, Credentials::Anonymous).await.unwrap();
    assert_eq!((paths(&catalog), catalog.invalid), (pushed.iter().map(String::as_str).collect(), 1));
    let requests = setup.registry.requests();
    assert_eq!(setup.registry.count(RequestKind::Catalog), 4);
    assert_eq!((requests.len(), requests[0].query.as_str()), (4, "n=1000"));
    assert!(requests[1].query.contains("last="), "{}", requests[1].query);
    let sent = setup.observed.requests();
    assert_eq!(sent.len(), 4, "each drew on the budget: {sent:?}");
    assert!(
        sent.iter()
            .all(|(operation, outcome, _)| (*operation, *outcome) == (Operation::Catalog, Outcome::Ok))
    );
}

#[tokio::test]
async fn a_token_is_asked_for_that_opens_the_list() {
    let setup = Setup::new().await;
    push_repositories(&setup.registry, 3);
    setup.registry.require_bearer(Bearer::new().credentials("alice", PASSWORD));
    for _ in 0..2 {
        assert_eq!(listed(&setup, alice()).await.unwrap().repositories.len(), 3);
    }
    let scopes: Vec<_> = setup.registry.tokens().into_iter().flat_map(|token| token.scopes).collect();
    assert_eq!(scopes, ["registry:catalog:*"], "one token for both readings");
    // The login that was learnt serves repositories as well, with tokens of their own.
    setup
        .factory
        .upstream(&setup.name("team/app000"), &alice().into())
        .tags(Urgency::Background)
        .await
        .unwrap();
    let scopes: Vec<_> = setup.registry.tokens().into_iter().flat_map(|token| token.scopes).collect();
    assert_eq!(scopes, ["registry:catalog:*", "repository:team/app000:pull"]);
    let error = listed(&setup, Credentials::Anonymous).await.unwrap_err();
    assert!(matches!(cannot_list(&error), Some(ErrorKind::Unauthorized { .. })), "{error}");
}

#[tokio::test]
async fn who_does_not_list_says_so() {
    for status in [401, 403, 404, 405] {
        let setup = Setup::new().await;
        let refusal = Action::error(status, "UNSUPPORTED", "not here");
        setup.registry.fault(Fault::on(RequestKind::Catalog), refusal);
        let error = listed(&setup, Credentials::Anonymous).await.unwrap_err();
        assert_eq!(cannot_list(&error).and_then(ErrorKind::status), Some(status), "{error}");
        assert!(error.to_string().contains("does not list its repositories"), "{error}");
    }
}

#[tokio::test]
async fn a_refused_page_size_is_left_out() {
    let setup = Setup::new().await;
    push_repositories(&setup.registry, 3);
    let too_many = Fault::on(RequestKind::Catalog).query_containing("n=1000");
    setup.registry.fault(too_many, Action::error(400, "PAGINATION_NUMBER_INVALID", "too many"));
    assert_eq!(listed(&setup, Credentials::Anonymous).await.unwrap().repositories.len(), 3);
}

#[tokio::test]
async fn a_list_that_ends_half_way_is_no_list() {
    for action in [
        Action::status(404),
        Action::status(503),
        Action::body("application/json", r#"{"repositories":["a""#),
        Action::body("text/html", "<html>"),
        Action::CloseConnection,
        Action::EndlessBody,
    ] {
        let setup = Setup::new().await;
        push_repositories(&setup.registry, 10);
        setup.registry.catalog_page_size(4);
        setup.registry.fault(Fault::on(RequestKind::Catalog).query_containing("last="), action.clone());
        let error = listed(&setup, Credentials::Anonymous).await.unwrap_err();
        assert!(matches!(error, CatalogError::Failed { .. }), "{action:?}: {error}");
    }
}

#[tokio::test]
async fn a_list_without_an_end_is_an_error() {
    let setup = Setup::new().await;
    push_repositories(&setup.registry, 10);
    setup.registry.catalog_page_size(4);
    let next = format!("{}/v2/_catalog?n=4", setup.registry.url());
    setup.registry.fault(Fault::on(RequestKind::Catalog), Action::LinkTo(next));
    let error = listed(&setup, Credentials::Anonymous).await.unwrap_err();
    assert!(error.to_string().contains("brings no new repository"), "{error}");
    assert_eq!(setup.registry.count(RequestKind::Catalog), 2);
}

#[tokio::test]
async fn mirrors_are_not_asked_and_what_stands_in_the_registrys_place_is() {
    let mirror = FakeRegistry::start().await;
    push_repositories(&mirror, 2);
    let registry = FakeRegistry::start().await;
    push_repositories(&registry, 5);
    let at_mirror = MirrorOptions {
        url: mirror.url().parse().unwrap(),
        capabilities: Capabilities::ALL,
        override_path: false,
        connection: ConnectionOptions::default(),
    };
    for (as_server, expected) in [(false, 5), (true, 2)] {
        let mut options = options();
        options.insecure_hosts.insert(registry.host());
        let own = options.hosts.entry(registry.host()).or_default();
        if as_server {
            own.server = Some(at_mirror.clone());
        } else {
            own.mirrors = vec![at_mirror.clone()];
        }
        let setup = Setup::at(
            FakeRegistry::start().await,
            options,
            std::sync::Arc::new(samovar_registry::SystemClock),
        );
        let listed =
            setup.factory.catalog(&registry.host(), &CredentialChain::default(), Urgency::Background).await;
        let listed = listed.unwrap();
        assert_eq!(listed.repositories.len(), expected);
        assert!(listed.repositories.iter().all(|name| name.host() == registry.host()));
    }
}

#[tokio::test]
async fn docker_registry_lists_what_was_pushed() {
    let registry = DockerRegistry::start().await;
    let setup = Setup::with(trusting([registry.host().to_owned()])).await;
    let nobody = CredentialChain::default();
    let list = || setup.factory.catalog(registry.host(), &nobody, Urgency::Background);
    assert_eq!(list().await.unwrap(), Catalog::default());
    for name in ["team/b", "team/a", "other"] {
        registry.push(name, "v1", &Image::new("same")).await;
    }
    assert_eq!(paths(&list().await.unwrap()), ["other", "team/a", "team/b"]);
}
