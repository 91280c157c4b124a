//! What a registry's failures become, what is tried again, and what the budget and the observer learn.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use samovar_registry::credentials::Credentials;
use samovar_registry::upstream::{
    ErrorClass, ErrorKind, HostOptions, HttpOptions, HttpSetupError, HttpUpstreams, Limits, Operation,
    Outcome, Quota, TagList, UpstreamFactory, Urgency,
};
use samovar_registry::{Name, SystemClock};
use samovar_testing::Image;
use samovar_testing::fake::{Action, FakeRegistry, Fault, RequestKind};
use tokio::time::Instant;

use crate::setup::{REPOSITORY, Setup, options, tag};

async fn with_one_tag() -> Setup {
    let setup = Setup::new().await;
    setup.registry.push(REPOSITORY, "v1", &Image::new("seed"));
    setup
}

async fn list(setup: &Setup) -> Result<TagList, ErrorKind> {
    setup.upstream().tags(Urgency::Background).await.map_err(|error| error.kind)
}

fn on_tags() -> Fault {
    Fault::on(RequestKind::Tags)
}

#[tokio::test]
async fn every_status_has_its_error() {
    let setup = with_one_tag().await;
    for (status, class, requests) in [
        (401, ErrorClass::Unauthorized, 1),
        (403, ErrorClass::Unauthorized, 1),
        (404, ErrorClass::NotFound, 1),
        (410, ErrorClass::Rejected, 1),
        (418, ErrorClass::Rejected, 1),
        (500, ErrorClass::Unavailable, 3),
        (501, ErrorClass::Unavailable, 1),
        (502, ErrorClass::Unavailable, 3),
        (503, ErrorClass::Unavailable, 3),
        (504, ErrorClass::Unavailable, 3),
        (304, ErrorClass::Protocol, 1),
        (307, ErrorClass::Protocol, 1),
    ] {
        setup.registry.clear_faults();
        setup.registry.clear_requests();
        setup.registry.fault(on_tags(), Action::status(status));
        let error = list(&setup).await.unwrap_err();
        assert_eq!(error.class(), class, "{status}: {error}");
        if status != 307 {
            // Whatever a redirect leads to, it was an answer.
            assert_eq!(setup.observed.requests().last().unwrap().1, Outcome::Failed(class), "{status}");
        }
        assert_eq!(setup.counts(), [requests, 0, 0, 0, 0], "{status}");
    }
}

#[tokio::test]
async fn the_registrys_words_are_cut_and_cleaned() {
    let setup = with_one_tag().await;
    let body = format!(
        r#"{{"errors":[{{"code":"DENIED","message":"no\u001b[31m access{}"}}]}}"#,
        " at all".repeat(200)
    );
    setup.registry.fault(on_tags(), Action::Status { code: 403, headers: Vec::new(), body });
    let ErrorKind::Denied { credentials, message: Some(message) } = list(&setup).await.unwrap_err() else {
        panic!("no message")
    };
    assert_eq!(credentials, "no credentials");
    assert!(
        message.starts_with("DENIED: no [31m access at all") && message.chars().count() == 300,
        "{message}"
    );
}

#[tokio::test]
async fn passing_failures_are_tried_once_more() {
    for action in
        [Action::status(500), Action::status(503), Action::CloseConnection, Action::CutBody { after: 5 }]
    {
        let setup = with_one_tag().await;
        setup.registry.fault(on_tags().times(1), action.clone());
        assert_eq!(list(&setup).await.unwrap().tags.len(), 1, "{action:?}");
        assert_eq!(setup.counts(), [2, 0, 0, 0, 0], "{action:?}");
    }
}

#[tokio::test]
async fn lasting_failures_are_not_tried_for_ever() {
    for (action, class) in [
        (Action::status(500), ErrorClass::Unavailable),
        (Action::CloseConnection, ErrorClass::Transport),
        (Action::CutBody { after: 5 }, ErrorClass::Transport),
    ] {
        let setup = with_one_tag().await;
        setup.registry.fault(on_tags(), action.clone());
        assert_eq!(list(&setup).await.unwrap_err().class(), class);
        assert_eq!(setup.counts(), [3, 0, 0, 0, 0], "a list is tried three times");
        let fault = Fault::on(RequestKind::ManifestHead);
        setup.registry.fault(fault, action);
        let resolved = setup.upstream().resolve(&tag("v1"), Urgency::Background).await;
        if class == ErrorClass::Unavailable {
            assert_eq!(resolved.unwrap_err().kind.class(), class);
            assert_eq!(setup.counts(), [3, 2, 0, 0, 0], "a tag is tried twice, and by its schedule later");
        }
    }
}

#[tokio::test]
async fn after_429_the_host_is_left_alone_for_as_long_as_it_asked() {
    let setup = with_one_tag().await;
    setup.registry.fault(on_tags().times(1), Action::too_many_requests(1));
    let start = Instant::now();
    let message = Some("too many requests".to_owned());
    let error = list(&setup).await.unwrap_err();
    assert_eq!(error, ErrorKind::RateLimited { retry_after: Duration::from_secs(1), message });
    assert_eq!(setup.counts(), [1, 0, 0, 0, 0], "not tried again");
    assert!(setup.factory.blocked_for(&setup.name(REPOSITORY)).is_some());
    list(&setup).await.unwrap();
    let requests = setup.registry.requests();
    let gap = requests[1].at - requests[0].at;
    assert!(gap >= Duration::from_millis(990), "{gap:?}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn without_a_time_429_means_half_a_minute() {
    let setup = with_one_tag().await;
    setup.registry.fault(on_tags(), Action::TooManyRequests { retry_after: None, body: String::new() });
    let error = list(&setup).await.unwrap_err();
    assert_eq!(error, ErrorKind::RateLimited { retry_after: Duration::from_secs(30), message: None });
}

#[tokio::test]
async fn a_service_that_says_when_to_come_back_is_not_asked_earlier() {
    let setup = with_one_tag().await;
    let headers = vec![("retry-after".to_owned(), "120".to_owned())];
    setup.registry.fault(on_tags(), Action::Status { code: 503, headers, body: String::new() });
    assert_eq!(list(&setup).await.unwrap_err().class(), ErrorClass::Unavailable);
    assert_eq!(setup.counts(), [1, 0, 0, 0, 0]);
    assert!(setup.budget().blocked_for.unwrap() > Duration::from_secs(100));
}

#[tokio::test]
async fn the_quota_is_seen() {
    let setup = with_one_tag().await;
    setup.registry.add_header("ratelimit-limit", "100;w=21600");
    setup.registry.add_header("ratelimit-remaining", "76;w=21600");
    list(&setup).await.unwrap();
    let quota = Quota { limit: 100, remaining: 76, window: Some(Duration::from_hours(6)), source: None };
    assert_eq!(setup.budget().quota, Some(quota));
}

#[tokio::test]
async fn no_more_at_once_than_allowed() {
    let limits = Limits { rate: 10_000.0, burst: 1_000, concurrency: 3 };
    let setup = Setup::with(HttpOptions { limits, ..options() }).await;
    let tags: Vec<_> = (0..12).map(|number| tag(&format!("v{number}"))).collect();
    for tag in &tags {
        setup.registry.push(REPOSITORY, tag.as_str(), &Image::new("same"));
    }
    setup.registry.fault(Fault::on(RequestKind::ManifestHead), Action::Delay(Duration::from_millis(20)));
    let upstream = setup.upstream();
    let resolved = join_all(tags.iter().map(|tag| upstream.resolve(tag, Urgency::Background))).await;
    assert!(resolved.iter().all(Result::is_ok));
    assert_eq!(setup.registry.max_concurrency(), 3);
    assert_eq!((setup.budget().in_flight, setup.budget().waiting), (0, 0));
}

#[tokio::test]
async fn the_observer_is_told_of_every_request() {
    let setup = with_one_tag().await;
    setup.registry.fault(on_tags().times(1), Action::status(500));
    list(&setup).await.unwrap();
    let [(first, failed, 0), (second, ok, bytes)] = setup.observed.requests()[..] else {
        panic!("{:?}", setup.observed.requests())
    };
    assert_eq!((first, second), (Operation::Tags, Operation::Tags));
    assert_eq!((failed, ok), (Outcome::Failed(ErrorClass::Unavailable), Outcome::Ok));
    assert_eq!(usize::try_from(bytes), Ok(r#"{"name":"team/app","tags":["v1"]}"#.len()));
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_any_more_is_given_up() {
    let setup = with_one_tag().await;
    setup.registry.fault(on_tags(), Action::HangBeforeHeader);
    let upstream = setup.upstream();
    let asking = tokio::spawn(async move { upstream.tags(Urgency::Background).await });
    setup.registry.wait_for(RequestKind::Tags, 1).await;
    assert_eq!(setup.budget().in_flight, 1);
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    assert_eq!((setup.budget().in_flight, setup.budget().waiting), (0, 0));
    assert_eq!(setup.observed.requests(), [(Operation::Tags, Outcome::Cancelled, 0)]);
}

#[tokio::test]
async fn plain_http_is_spoken_to_insecure_hosts_only() {
    let setup = Setup::around(FakeRegistry::start().await, options());
    setup.registry.push(REPOSITORY, "v1", &Image::new("seed"));
    assert_eq!(list(&setup).await.unwrap_err().class(), ErrorClass::Transport);
    assert_eq!(setup.registry.requests().len(), 0);
}

#[tokio::test]
async fn a_host_that_is_down() {
    let mut setup = with_one_tag().await;
    setup.registry.stop().await;
    let error = list(&setup).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Transport);
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(!error.to_string().contains("http://"), "{error}");
}

#[tokio::test]
async fn metadata_services_are_never_connected_to() {
    let insecure_hosts = BTreeSet::from(["169.254.169.254".to_owned(), "[fd00:ec2::254]".to_owned()]);
    let options = HttpOptions { insecure_hosts, ..options() };
    let factory = HttpUpstreams::new(options, Arc::new(SystemClock), Arc::new(())).unwrap();
    for name in ["169.254.169.254/latest", "100.100.100.200/latest", "[fd00:ec2::254]/latest"] {
        let name: Name = name.parse().unwrap();
        let upstream = factory.upstream(&name, &Credentials::Anonymous.into());
        let error = upstream.tags(Urgency::Asked).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Refused { .. }), "{error}");
    }
}

#[test]
fn limits_that_let_nothing_through_are_refused() {
    let none = Limits { rate: 0.0, ..Limits::default() };
    let error = |options| HttpUpstreams::new(options, Arc::new(SystemClock), Arc::new(())).unwrap_err();
    let all = error(HttpOptions { limits: none, ..HttpOptions::default() });
    assert_eq!(all.to_string(), "invalid limits for all hosts: the rate must be a number above zero");
    let mut options = HttpOptions::default();
    options
        .hosts
        .insert("docker.io".to_owned(), HostOptions { limits: Some(none), ..HostOptions::default() });
    let HttpSetupError::Limits { host, .. } = error(options) else { panic!("not the limits") };
    assert_eq!(host.as_deref(), Some("docker.io"));
}
