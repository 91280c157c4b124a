//! What registries say of their limits, and what the budget makes of it.

use std::time::Duration;

use samovar_registry::credentials::Credentials;
use samovar_registry::upstream::{
    BlockReason, BudgetRecord, ErrorClass, ErrorKind, ManifestSelector, UpstreamFactory, Urgency,
};
use samovar_testing::Image;
use samovar_testing::fake::{Action, Fault, RequestKind, dialects};

use crate::setup::{REPOSITORY, Setup, alice, options, tag};

async fn with_one_tag() -> Setup {
    let setup = Setup::new().await;
    setup.registry.push(REPOSITORY, "v1", &Image::new("seed"));
    setup
}

async fn list(setup: &Setup) -> Result<(), ErrorKind> {
    setup.upstream().tags(Urgency::Background).await.map(drop).map_err(|error| error.kind)
}

async fn pull(setup: &Setup, credentials: &Credentials) -> Result<(), ErrorKind> {
    let upstream = setup.upstream_as(credentials);
    let pulled = upstream.manifest(ManifestSelector::Tag(&tag("v1")), Urgency::Asked).await;
    pulled.map(drop).map_err(|error| error.kind)
}

fn rate(setup: &Setup) -> f64 {
    let budget = setup.budget();
    budget.rate / budget.configured_rate
}

#[tokio::test]
async fn a_pause_in_words_is_obeyed() {
    for (body, seconds) in [
        ("toomanyrequests: retry-after: 23.722µs, allowed: 44000/minute", 1),
        ("toomanyrequests: retry-after: 1m30s, allowed: 44000/minute", 90),
    ] {
        let setup = with_one_tag().await;
        let action = Action::TooManyRequests { retry_after: None, body: body.to_owned() };
        setup.registry.fault(Fault::on(RequestKind::Tags), action);
        let ErrorKind::RateLimited { retry_after, message } = list(&setup).await.unwrap_err() else {
            panic!("{body}")
        };
        assert_eq!(retry_after, Duration::from_secs(seconds), "{body}");
        assert!(message.is_some_and(|message| message.starts_with("toomanyrequests")), "{body}");
        assert_eq!(setup.budget().blocked_by, Some(BlockReason::RateLimit));
    }
}

#[tokio::test]
async fn too_many_requests_are_too_many_in_whatever_status() {
    for code in [403, 500, 503] {
        let setup = with_one_tag().await;
        let action = Action::error(code, "TOOMANYREQUESTS", "slow down");
        setup.registry.fault(Fault::on(RequestKind::Tags), action);
        let error = list(&setup).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::RateLimited, "{code}: {error}");
        assert_eq!(setup.counts(), [1, 0, 0, 0, 0], "not tried again");
        assert!((rate(&setup) - 0.5).abs() < 1e-9, "half as fast");
    }
}

#[tokio::test]
async fn a_name_that_says_too_many_requests_is_a_name() {
    let setup = with_one_tag().await;
    let body = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no","detail":{"name":"toomanyrequests"}}]}"#;
    let action = Action::Status { code: 404, headers: Vec::new(), body: body.to_owned() };
    setup.registry.fault(Fault::on(RequestKind::Tags), action);
    assert_eq!(list(&setup).await.unwrap_err().class(), ErrorClass::NotFound);
    assert!((rate(&setup) - 1.0).abs() < 1e-9);
}

#[tokio::test]
async fn a_pull_limit_stops_the_pulls_of_one_identity_and_nothing_else() {
    let setup = with_one_tag().await;
    setup.registry.speak(&dialects::docker_hub::dialect());
    let headers = [("ratelimit-limit", "1;w=21600"), ("ratelimit-remaining", "0;w=21600")];
    let headers = headers.into_iter().chain([("docker-ratelimit-source", "192.0.2.7")]);
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let body =
        r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#;
    let action = Action::Status { code: 429, headers, body: body.to_owned() };
    setup.registry.fault(Fault::on(RequestKind::ManifestGet).times(1), action);

    let window = Duration::from_hours(6);
    let refused = pull(&setup, &Credentials::Anonymous).await.unwrap_err();
    let nearly = window.saturating_sub(Duration::from_mins(1));
    assert!(refused.retry_after().is_some_and(|wait| wait > nearly && wait <= window), "{refused}");
    let asked = setup.registry.count(RequestKind::ManifestGet);
    let again = pull(&setup, &Credentials::Anonymous).await.unwrap_err();
    assert!(again.to_string().contains("0 of 1 requests are left of our quota"), "{again}");
    assert_eq!(setup.registry.count(RequestKind::ManifestGet), asked, "it is not even asked");

    let budget = setup.budget();
    assert_eq!((budget.blocked_for, setup.factory.blocked_for(&setup.name(REPOSITORY))), (None, None));
    assert!((rate(&setup) - 1.0).abs() < 1e-9, "we were not too fast");
    let [quota] = &budget.quotas[..] else { panic!("{budget:?}") };
    assert_eq!((quota.identity.as_str(), quota.quota.remaining), ("anonymous", 0));
    assert_eq!(quota.quota.source.as_deref(), Some("192.0.2.7"));
    assert!(quota.blocked_for.is_some_and(|left| left > nearly));

    list(&setup).await.unwrap();
    pull(&setup, &alice()).await.unwrap();
}

#[tokio::test]
async fn an_abuse_limit_stops_everything() {
    let setup = with_one_tag().await;
    setup.registry.speak(&dialects::docker_hub::dialect());
    pull(&setup, &Credentials::Anonymous).await.unwrap();
    setup.registry.fault(Fault::on(RequestKind::ManifestHead), dialects::docker_hub::abuse_limit());
    setup.upstream().resolve(&tag("v1"), Urgency::Background).await.unwrap_err();
    let budget = setup.budget();
    assert!(budget.blocked_for.is_some_and(|left| left > Duration::from_secs(50)));
    assert!((rate(&setup) - 0.5).abs() < 1e-9);
    assert_eq!(budget.quotas[0].blocked_for, None, "the quota has nothing to do with it");
}

#[tokio::test]
async fn a_host_that_keeps_failing_is_left_alone_and_another_goes_on() {
    let (failing, fine) = (with_one_tag().await, with_one_tag().await);
    failing.registry.fault(Fault::on(RequestKind::ManifestHead), Action::status(502));
    let upstream = failing.upstream();
    for _ in 0..5 {
        upstream.resolve(&tag("v1"), Urgency::Background).await.unwrap_err();
    }
    assert_eq!(failing.counts(), [0, 10, 0, 0, 0]);
    let budget = failing.budget();
    assert!(budget.breaker.is_open && budget.blocked_by == Some(BlockReason::Failures), "{budget:?}");
    let why = failing.factory.held_back(&failing.name(REPOSITORY)).unwrap();
    assert!(
        why.to_string().contains("after 10 failures in a row, the last: the registry answered 502"),
        "{why}"
    );
    assert_eq!(why.class(), ErrorClass::Unavailable);
    list(&fine).await.unwrap();
    assert!(!fine.budget().breaker.is_open);
}

#[tokio::test]
async fn what_is_known_of_limits_goes_to_whoever_comes_next() {
    let before = with_one_tag().await;
    before.registry.speak(&dialects::docker_hub::dialect());
    pull(&before, &alice()).await.unwrap();
    before.registry.fault(Fault::on(RequestKind::Tags).times(1), Action::too_many_requests(300));
    list(&before).await.unwrap_err();
    let host = before.registry.host();
    let record = before.factory.budget_record(&host).unwrap();
    let stored = serde_json::to_string(&record).unwrap();
    assert!(!stored.contains(crate::setup::PASSWORD), "{stored}");
    let record: BudgetRecord = serde_json::from_str(&stored).unwrap();

    let after = Setup::around(before.registry, options());
    after.factory.restore_budget(&host, &record);
    let budget = after.budget();
    assert!(budget.blocked_for.is_some_and(|left| left > Duration::from_secs(290)), "{budget:?}");
    assert!((rate(&after) - 0.5).abs() < 1e-9);
    let [quota] = &budget.quotas[..] else { panic!("{budget:?}") };
    assert_eq!((quota.identity.as_str(), quota.quota.remaining), ("alice", 99));
}

#[tokio::test]
async fn only_what_says_that_pulls_are_used_up_is_a_pull_limit() {
    let left = [("ratelimit-limit", "5000;w=21600"), ("ratelimit-remaining", "4000;w=21600")];
    let pulls = "You have reached your pull rate limit.";
    for (headers, message, is_of_pulls) in [
        (&left[..], pulls, false),
        (&[][..], "too many failed login attempts for username or IP address", false),
        (&[][..], "slow down", false),
        (&[][..], pulls, true),
    ] {
        let setup = with_one_tag().await;
        setup.registry.speak(&dialects::docker_hub::dialect());
        pull(&setup, &Credentials::Anonymous).await.unwrap();
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let body = format!(r#"{{"errors":[{{"code":"TOOMANYREQUESTS","message":"{message}"}}]}}"#);
        let action = Action::Status { code: 429, headers: headers.collect(), body };
        setup.registry.fault(Fault::on(RequestKind::ManifestGet).times(1), action);
        let refused = pull(&setup, &Credentials::Anonymous).await.unwrap_err();
        assert_eq!(matches!(refused, ErrorKind::QuotaShort { .. }), is_of_pulls, "{message}: {refused}");
        assert_eq!(setup.budget().blocked_for.is_none(), is_of_pulls, "{message}");
    }
}

#[tokio::test]
async fn where_no_quota_is_known_too_many_requests_hold_the_host_back() {
    let setup = with_one_tag().await;
    pull(&setup, &Credentials::Anonymous).await.unwrap();
    setup.registry.fault(Fault::on(RequestKind::ManifestGet).times(1), dialects::docker_hub::pull_limit());
    let refused = pull(&setup, &Credentials::Anonymous).await.unwrap_err();
    assert!(matches!(refused, ErrorKind::RateLimited { .. }), "{refused}");
    assert!(setup.budget().blocked_for.is_some());
}
