//! Hosts that hang, at each stage, and that they hold up nobody else.

use std::collections::BTreeSet;
use std::time::Duration;

use samovar_registry::credentials::Credentials;
use samovar_registry::upstream::{
    ErrorKind, HttpOptions, Stage, TagList, UpstreamError, UpstreamFactory, Urgency,
};
use samovar_testing::Image;
use samovar_testing::fake::{Action, Fault, RequestKind, SilentHost};
use tokio::time::Instant;

use crate::setup::{REPOSITORY, Setup, options};

const SHORT: Duration = Duration::from_millis(150);
/// For stages that must not be the ones that strike.
const LONG: Duration = Duration::from_mins(5);

fn patient() -> HttpOptions {
    HttpOptions {
        connect_timeout: LONG,
        header_timeout: LONG,
        body_timeout: LONG,
        total_timeout: LONG,
        ..options()
    }
}

async fn with_one_tag(options: HttpOptions) -> Setup {
    let setup = Setup::with(options).await;
    setup.registry.push(REPOSITORY, "v1", &Image::new("seed"));
    setup
}

async fn list(setup: &Setup) -> Result<TagList, UpstreamError> {
    setup.upstream().tags(Urgency::Background).await
}

fn struck(error: &UpstreamError, stage: Stage) {
    assert_eq!(error.kind, ErrorKind::Timeout { stage, limit: SHORT }, "{error}");
}

#[tokio::test]
async fn before_the_header() {
    let setup = with_one_tag(HttpOptions { header_timeout: SHORT, ..patient() }).await;
    setup.registry.fault(Fault::on(RequestKind::Tags), Action::HangBeforeHeader);
    struck(&list(&setup).await.unwrap_err(), Stage::Header);
    assert_eq!(setup.counts(), [1, 0, 0, 0, 0], "not tried again");
}

#[tokio::test]
async fn in_the_body() {
    let setup = with_one_tag(HttpOptions { body_timeout: SHORT, ..patient() }).await;
    setup.registry.fault(Fault::on(RequestKind::Tags), Action::HangInBody { after: 5 });
    struck(&list(&setup).await.unwrap_err(), Stage::Body);
    assert_eq!(setup.counts(), [1, 0, 0, 0, 0]);
}

#[tokio::test]
async fn over_the_whole() {
    let setup = with_one_tag(HttpOptions { total_timeout: SHORT, ..patient() }).await;
    for action in [Action::HangBeforeHeader, Action::HangInBody { after: 5 }] {
        setup.registry.clear_faults();
        setup.registry.fault(Fault::on(RequestKind::Tags), action);
        struck(&list(&setup).await.unwrap_err(), Stage::Total);
    }
}

#[tokio::test]
async fn while_connecting() {
    let silent = SilentHost::start().await;
    let setup = Setup::with(HttpOptions { connect_timeout: SHORT, ..patient() }).await;
    let name = format!("{}/{REPOSITORY}", silent.host()).parse().unwrap();
    let upstream = setup.factory.upstream(&name, &Credentials::Anonymous.into());
    let error = upstream.tags(Urgency::Background).await.unwrap_err();
    struck(&error, Stage::Connect);
    assert_eq!(silent.connections(), 1);
}

// D22 of the ancestor's ledger: waiting for the limiter was charged to the request, which failed without being sent.
#[tokio::test]
async fn waiting_for_the_budget_is_not_charged() {
    let setup = with_one_tag(HttpOptions { total_timeout: SHORT, ..patient() }).await;
    setup.registry.fault(Fault::on(RequestKind::Tags).times(1), Action::too_many_requests(1));
    list(&setup).await.unwrap_err();
    list(&setup).await.unwrap();
}

#[tokio::test]
async fn a_silent_host_does_not_delay_another() {
    let silent = SilentHost::start().await;
    let insecure_hosts = BTreeSet::from([silent.host()]);
    let setup = with_one_tag(HttpOptions { connect_timeout: SHORT, insecure_hosts, ..patient() }).await;
    let stuck: Vec<_> = (0..30)
        .map(|number| {
            let name = format!("{}/{REPOSITORY}-{number}", silent.host()).parse().unwrap();
            let upstream = setup.factory.upstream(&name, &Credentials::Anonymous.into());
            tokio::spawn(async move { upstream.tags(Urgency::Asked).await })
        })
        .collect();
    silent.wait_for_connections(1).await;
    let start = Instant::now();
    for _ in 0..20 {
        list(&setup).await.unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(stuck.iter().all(|task| !task.is_finished()));
    stuck.iter().for_each(tokio::task::JoinHandle::abort);
}
