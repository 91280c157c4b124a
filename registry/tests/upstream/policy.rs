//! Hosts that may not be asked, whoever names them.

use std::collections::BTreeMap;

use samovar_registry::Glob;
use samovar_registry::credentials::CredentialChain;
use samovar_registry::upstream::{
    ErrorKind, HostOptions, HostPolicy, HttpOptions, UpstreamError, UpstreamFactory, Urgency,
};
use samovar_testing::Image;
use samovar_testing::fake::{Action, FakeRegistry, Fault, RequestKind};

use crate::setup::{REPOSITORY, Setup, alice, trusting};

fn denying(glob: &str, options: HttpOptions) -> HttpOptions {
    let deny = [Glob::new(glob).unwrap()].into_iter().collect();
    HttpOptions { policy: HostPolicy { deny, ..HostPolicy::default() }, ..options }
}

fn refused<T: std::fmt::Debug>(result: Result<T, UpstreamError>, expected: &str) {
    let error = result.unwrap_err();
    let ErrorKind::Refused { message } = &error.kind else { panic!("{error}") };
    assert!(message.ends_with(expected), "{message}");
}

#[tokio::test]
async fn a_registry_that_is_not_allowed_is_not_asked() {
    let allow = [Glob::new("ghcr.io").unwrap()].into_iter().collect();
    let policy = HostPolicy { allow, ..HostPolicy::default() };
    let setup = Setup::with(HttpOptions { policy, ..trusting([]) }).await;
    refused(setup.upstream().tags(Urgency::Asked).await, "is not among allow_hosts");
    let setup = Setup::with(denying("127.0.0.1", trusting([]))).await;
    refused(setup.upstream().tags(Urgency::Asked).await, "is denied by deny_hosts");
    assert_eq!(setup.registry.requests().len(), 0);
}

#[tokio::test]
async fn nobody_is_sent_to_a_denied_host() {
    let elsewhere = FakeRegistry::start().await;
    let named = elsewhere.host().replace("127.0.0.1", "localhost");
    let registry = FakeRegistry::start().await;
    let mut options = denying("localhost", trusting([registry.host(), named.clone()]));
    let token_hosts = [named.clone()].into();
    options.hosts =
        BTreeMap::from([(registry.host(), HostOptions { token_hosts, ..HostOptions::default() })]);
    let setup = Setup::around(registry, options);
    setup.registry.push(REPOSITORY, "v1", &Image::new("seed"));
    let digest = Image::new("seed").config().digest;

    setup.registry.fault(Fault::on(RequestKind::Blob), Action::RedirectTo(format!("http://{named}/x")));
    let config = setup.upstream().config(&digest.parse().unwrap(), Urgency::Asked).await;
    refused(config, "is denied by deny_hosts");

    setup.registry.require_basic("alice", "unused");
    setup.registry.wrong_challenge(&format!(r#"Bearer realm="http://{named}/token""#));
    let upstream = setup.factory.upstream(&setup.name("team/other"), &CredentialChain::from(alice()));
    refused(upstream.tags(Urgency::Asked).await, "is denied by deny_hosts");
    assert_eq!(elsewhere.requests().len(), 0);
}
