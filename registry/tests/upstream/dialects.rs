//! Well-known registries as they really behave: one test for every departure from the specification.

use std::time::Duration;

use samovar_registry::Tag;
use samovar_registry::credentials::Credentials;
use samovar_registry::upstream::{
    ErrorKind, ManifestSelector, Operation, TagList, UpstreamError, UpstreamFactory, Urgency,
};
use samovar_registry::{Digest, Secret};
use samovar_testing::Image;
use samovar_testing::fake::{Action, Dialect, Fault, RequestKind, dialects};

use crate::setup::{PASSWORD, REPOSITORY, Setup, alice, tag};

/// How many tags the repository of every test has: more than any dialect puts on one page.
const TAGS: usize = 1_050;

/// A registry that speaks so, with tags pushed in an order that is not theirs, and the tags in order.
async fn speaking(dialect: &Dialect) -> (Setup, Vec<String>) {
    let setup = Setup::new().await;
    setup.registry.speak(dialect);
    let image = Image::new("same");
    for number in (0..TAGS).rev() {
        setup.registry.push(REPOSITORY, &format!("v{number:04}"), &image);
    }
    (setup, (0..TAGS).map(|number| format!("v{number:04}")).collect())
}

fn aws() -> Credentials {
    Credentials::Basic {
        username: "AWS".to_owned(),
        password: Secret::new(dialects::ecr::PASSWORD),
        provenance: "the test".into(),
    }
}

async fn list(setup: &Setup, credentials: &Credentials) -> Result<TagList, UpstreamError> {
    setup.upstream_as(credentials).tags(Urgency::Background).await
}

fn texts(list: &TagList) -> Vec<&str> {
    list.tags.iter().map(Tag::as_str).collect()
}

#[tokio::test]
async fn every_list_arrives_whole_and_in_order_at_its_price() {
    // Requests for tags and for tokens. Every login costs one request for tags more: the one that is refused.
    for (dialect, credentials, tags, tokens) in [
        (dialects::acr::dialect(), Credentials::Anonymous, 3, 1),
        (dialects::artifactory::dialect(), Credentials::Anonymous, 3, 1),
        (dialects::artifactory::with_passwords("alice", PASSWORD), alice(), 3, 0),
        (dialects::chainguard::dialect(), Credentials::Anonymous, 3, 1),
        (dialects::codeberg::dialect(), Credentials::Anonymous, 3, 1),
        // Refused for its page size, then eleven pages as large as it likes.
        (dialects::corporate_proxy::dialect(), Credentials::Anonymous, 12, 0),
        (dialects::distribution::dialect(), Credentials::Anonymous, 1, 0),
        (dialects::docker_hub::dialect(), Credentials::Anonymous, 3, 1),
        (dialects::ecr::dialect(), aws(), 3, 0),
        (dialects::gar::dialect(), Credentials::Anonymous, 2, 1),
        (dialects::ghcr::dialect(), Credentials::Anonymous, 3, 1),
        (dialects::harbor::dialect(), Credentials::Anonymous, 3, 1),
        (dialects::quay::dialect(), Credentials::Anonymous, 12, 1),
        (dialects::quay::old_dialect(), Credentials::Anonymous, 22, 1),
        (dialects::zot::dialect(), Credentials::Anonymous, 2, 0),
    ] {
        let (setup, expected) = speaking(&dialect).await;
        let found =
            list(&setup, &credentials).await.unwrap_or_else(|error| panic!("{}: {error}", dialect.name));
        assert_eq!(texts(&found), expected, "{}", dialect.name);
        assert_eq!(found.invalid, 0, "{}", dialect.name);
        assert_eq!(setup.counts(), [tags, 0, 0, 0, tokens], "{}", dialect.name);

        // Once it is known how to log in, nothing is asked in vain; only what is wrong with the page size is learnt anew.
        setup.registry.clear_requests();
        list(&setup, &credentials).await.unwrap();
        let refused = usize::from(tokens > 0 || credentials != Credentials::Anonymous);
        assert_eq!(setup.counts(), [tags - refused, 0, 0, 0, 0], "{}", dialect.name);
    }
}

#[tokio::test]
async fn every_image_is_found_and_checked() {
    for dialect in dialects::all().into_iter().chain([dialects::corporate_proxy::without_digests()]) {
        let (setup, _) = speaking(&dialect).await;
        let credentials =
            if dialect.name == dialects::ecr::dialect().name { aws() } else { Credentials::Anonymous };
        let image = Image::new("another");
        let digest: Digest = setup.registry.push(REPOSITORY, "latest", &image).parse().unwrap();
        let upstream = setup.upstream_as(&credentials);
        let resolved = upstream.resolve(&tag("latest"), Urgency::Background).await.unwrap();
        let is_silent = dialect.name == dialects::corporate_proxy::dialect().name;
        assert_eq!(resolved, (!is_silent).then(|| digest.clone()), "{}", dialect.name);
        let latest = tag("latest");
        for selector in [ManifestSelector::Tag(&latest), ManifestSelector::Digest(&digest)] {
            let document = upstream.manifest(selector, Urgency::Background).await.unwrap();
            assert_eq!((&document.digest, document.is_verified()), (&digest, true), "{}", dialect.name);
        }
    }
}

#[tokio::test]
async fn the_newest_tags_of_github_are_on_the_last_page() {
    let (setup, _) = speaking(&dialects::ghcr::dialect()).await;
    setup.registry.push(REPOSITORY, "a-new-one", &Image::new("new"));
    let found = list(&setup, &Credentials::Anonymous).await.unwrap();
    assert_eq!(found.tags[0], tag("a-new-one"), "it came last and is sorted first");
    assert_eq!(found.tags.len(), TAGS + 1);
}

#[tokio::test]
async fn github_refuses_a_wrong_login_without_a_word_about_the_right_one() {
    let (setup, _) = speaking(&dialects::ghcr::dialect()).await;
    let error = list(&setup, &alice()).await.unwrap_err();
    assert_eq!(error.operation, Operation::Token);
    assert!(matches!(error.kind, ErrorKind::Unauthorized { .. }), "{error}");
    assert!(error.to_string().contains("DENIED"), "{error}");
    // That says nothing of those who come without a login.
    list(&setup, &Credentials::Anonymous).await.unwrap();
    // A token that has run out is refused so, too.
    setup.registry.expire_tokens();
    list(&setup, &Credentials::Anonymous).await.unwrap();
}

#[tokio::test]
async fn github_has_no_token_for_what_is_not_there() {
    let (setup, _) = speaking(&dialects::ghcr::dialect()).await;
    setup.registry.fault(Fault::on(RequestKind::Token), dialects::ghcr::no_token());
    let error = list(&setup, &Credentials::Anonymous).await.unwrap_err();
    assert_eq!(error.operation, Operation::Token);
    assert!(matches!(error.kind, ErrorKind::Unauthorized { .. }), "{error}");
}

#[tokio::test]
async fn every_kind_of_429_holds_us_back() {
    let [asked, chosen] = [Duration::from_mins(1), Duration::from_secs(30)];
    for (name, refusal, pause, said) in [
        ("Docker Hub, pulls", dialects::docker_hub::pull_limit(), chosen, "pull rate limit"),
        ("Docker Hub, abuse", dialects::docker_hub::abuse_limit(), asked, "429 Too Many Requests"),
        (
            "Docker Hub, bare line ends",
            dialects::docker_hub::abuse_limit_with_bare_line_ends(),
            asked,
            "429 Too Many Requests",
        ),
        ("GHCR", dialects::ghcr::rate_limit(), Duration::from_secs(1), "allowed: 44000/minute"),
        ("Quay", dialects::quay::rate_limit(), chosen, "Too many requests"),
    ] {
        let (setup, _) = speaking(&dialects::zot::dialect()).await;
        setup.registry.fault(Fault::on(RequestKind::Tags), refusal);
        let error = list(&setup, &Credentials::Anonymous).await.unwrap_err();
        let ErrorKind::RateLimited { retry_after, message } = &error.kind else { panic!("{name}: {error}") };
        assert_eq!(*retry_after, pause, "{name}");
        assert!(message.as_deref().is_some_and(|message| message.contains(said)), "{name}: {error}");
        assert!(setup.factory.blocked_for(&setup.name(REPOSITORY)).is_some(), "{name}");
        assert_eq!(setup.counts(), [1, 0, 0, 0, 0], "{name}");
    }
}

#[tokio::test]
async fn docker_hub_says_what_is_left_with_head_too_and_counts_only_get() {
    let (setup, _) = speaking(&dialects::docker_hub::dialect()).await;
    let upstream = setup.upstream();
    let left = |setup: &Setup| setup.budget().quota.map(|quota| (quota.remaining, quota.limit, quota.window));
    upstream.tags(Urgency::Background).await.unwrap();
    assert_eq!(left(&setup), None, "lists do not say");
    let window = Some(Duration::from_hours(6));
    upstream.resolve(&tag("v0001"), Urgency::Background).await.unwrap();
    assert_eq!(left(&setup), Some((100, 100, window)));
    upstream.manifest(ManifestSelector::Tag(&tag("v0001")), Urgency::Background).await.unwrap();
    assert_eq!(left(&setup), Some((99, 100, window)));
}

#[tokio::test]
async fn what_is_not_there_is_said_in_many_ways() {
    let is_not_found = |kind: &ErrorKind| matches!(kind, ErrorKind::NotFound { .. });
    let is_denied = |kind: &ErrorKind| matches!(kind, ErrorKind::Denied { .. });
    for (dialect, is_expected) in [
        (dialects::zot::dialect(), is_not_found as fn(&ErrorKind) -> bool),
        (dialects::corporate_proxy::dialect(), is_denied),
    ] {
        let setup = Setup::new().await;
        setup.registry.speak(&dialect);
        let error = list(&setup, &Credentials::Anonymous).await.unwrap_err();
        assert!(is_expected(&error.kind), "{}: {error}", dialect.name);
    }

    let (setup, _) = speaking(&dialects::zot::dialect()).await;
    setup.registry.fault(Fault::on(RequestKind::Tags), dialects::ecr::no_public_list());
    let error = list(&setup, &Credentials::Anonymous).await.unwrap_err();
    assert!(is_not_found(&error.kind), "{error}");
}

#[tokio::test]
async fn a_page_that_zot_has_lost_is_not_taken_for_the_end() {
    let (setup, expected) = speaking(&dialects::zot::dialect()).await;
    // The tag that ended the first page is removed before the second is asked for.
    let link = format!("/v2/{REPOSITORY}/tags/list?n=1000&last=removed");
    setup.registry.fault(Fault::on(RequestKind::Tags).times(1), Action::LinkTo(link));
    let error = list(&setup, &Credentials::Anonymous).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Protocol { .. }), "{error}");
    setup.registry.clear_faults();
    assert_eq!(texts(&list(&setup, &Credentials::Anonymous).await.unwrap()), expected);
}

#[tokio::test]
async fn no_tags_are_null_or_none() {
    for dialect in [dialects::distribution::dialect(), dialects::zot::dialect()] {
        let setup = Setup::new().await;
        setup.registry.speak(&dialect);
        setup.registry.push_digest_only(REPOSITORY, &Image::new("untagged"));
        assert_eq!(
            list(&setup, &Credentials::Anonymous).await.unwrap(),
            TagList::default(),
            "{}",
            dialect.name
        );
    }
}

#[tokio::test]
async fn harbor_lists_twice_what_it_and_its_upstream_have() {
    let (setup, expected) = speaking(&dialects::harbor::dialect()).await;
    setup.registry.list_extra(REPOSITORY, "v0000");
    let found = list(&setup, &Credentials::Anonymous).await.unwrap();
    assert_eq!((texts(&found), found.invalid), (expected.iter().map(String::as_str).collect(), 0));
}

#[tokio::test]
async fn one_token_of_azure_is_for_tags_and_images() {
    let (setup, _) = speaking(&dialects::acr::dialect()).await;
    let upstream = setup.upstream();
    upstream.tags(Urgency::Background).await.unwrap();
    upstream.resolve(&tag("v0001"), Urgency::Background).await.unwrap();
    assert_eq!(setup.counts(), [3, 1, 0, 0, 1]);
    let scopes: Vec<_> = setup.registry.tokens().into_iter().flat_map(|token| token.scopes).collect();
    assert_eq!(scopes, ["repository:team/app:metadata_read,pull"]);
}

#[tokio::test]
async fn a_challenge_of_several_is_taken_by_what_we_have() {
    for dialect in [dialects::codeberg::dialect(), dialects::artifactory::dialect()] {
        let (setup, _) = speaking(&dialect).await;
        list(&setup, &alice()).await.unwrap();
        let token = setup.registry.requests().into_iter().find(|request| request.kind == RequestKind::Token);
        let authorization = token.and_then(|request| request.authorization);
        assert!(authorization.is_some_and(|value| value.starts_with("Basic ")), "{}", dialect.name);
        let tags = setup.registry.requests().into_iter().filter(|request| request.kind == RequestKind::Tags);
        assert!(
            tags.filter_map(|request| request.authorization).all(|value| value.starts_with("Bearer ")),
            "{}: the password stays with the token service",
            dialect.name
        );
    }
}
