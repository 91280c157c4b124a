//! Days of scanning in seconds: the number of open descriptors stays what it was. A program of its own, so that nobody
//! else opens any.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use samovar_registry::credentials::CredentialChain;
use samovar_registry::upstream::{HttpOptions, HttpUpstreams, Limits, Upstream, UpstreamFactory, Urgency};
use samovar_registry::{Name, SystemClock};
use samovar_testing::Image;
use samovar_testing::fake::{Action, FakeRegistry, Fault, RequestKind, SilentHost};

const SCANS: usize = 10_000;
const AT_ONCE: usize = 8;
/// Of each kind of failure, and how many in a row: fewer than make a host be left alone, with what is tried again.
const ROUNDS: usize = 8;
const FAILURES: usize = 3;
/// What may be open besides: connections that are kept for the next request, at both of their ends.
const KEPT: usize = 4 * AT_ONCE;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("this is Linux").count()
}

async fn scan(upstream: &dyn Upstream, times: usize) -> usize {
    let scans = stream::iter(0..times).map(|_| upstream.tags(Urgency::Asked)).buffer_unordered(AT_ONCE);
    scans.filter(|result| std::future::ready(result.is_ok())).count().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_scans_leave_no_socket_behind() {
    let registry = FakeRegistry::start().await;
    registry.push("team/app", "v1", &Image::new("seed"));
    let silent = SilentHost::start().await;
    let limits = Limits { rate: 1_000_000.0, burst: 100_000, concurrency: AT_ONCE };
    let insecure_hosts = BTreeSet::from([registry.host()]);
    let patient = HttpOptions { limits, insecure_hosts, ..HttpOptions::default() };
    let short = Duration::from_millis(20);
    let hasty =
        HttpOptions { connect_timeout: short, header_timeout: short, body_timeout: short, ..patient.clone() };
    let hasty_options = hasty.clone();
    let [patient, hasty] = [patient, hasty]
        .map(|options| HttpUpstreams::new(options, Arc::new(SystemClock), Arc::new(())).unwrap());
    let upstream = |factory: &HttpUpstreams, host: &str| {
        let name: Name = format!("{host}/team/app").parse().unwrap();
        factory.upstream(&name, &CredentialChain::default())
    };
    let good = upstream(&patient, &registry.host());
    assert_eq!(scan(&*good, 100).await, 100);
    registry.clear_requests();
    let at_first = descriptors();

    let hasty_upstream = upstream(&hasty, &registry.host());
    let mut most = 0;
    let mut scanned = async |upstream: &dyn Upstream, times: usize| {
        let succeeded = scan(upstream, times).await;
        registry.clear_requests();
        most = most.max(descriptors());
        succeeded
    };
    for action in [
        Action::CloseConnection,
        Action::CutBody { after: 3 },
        Action::HangBeforeHeader,
        Action::HangInBody { after: 3 },
        Action::status(404),
    ] {
        for _ in 0..ROUNDS {
            registry.fault(Fault::on(RequestKind::Tags), action.clone());
            assert_eq!(scanned(&*hasty_upstream, FAILURES).await, 0, "{action:?}");
            registry.clear_faults();
            // It is not left alone, because it answers in between.
            while scanned(&*hasty_upstream, 1).await == 0 {}
        }
    }
    for _ in 0..ROUNDS {
        let factory = HttpUpstreams::new(hasty_options.clone(), Arc::new(SystemClock), Arc::new(())).unwrap();
        // Nobody speaks TLS there, or anything.
        let deaf = upstream(&factory, &registry.host().replace("127.0.0.1", "localhost"));
        assert_eq!(scanned(&*deaf, FAILURES).await, 0);
        assert_eq!(scanned(&*upstream(&factory, &silent.host()), FAILURES).await, 0);
    }
    let silent_ends = silent.connections();
    for _ in 0..SCANS / 500 {
        assert_eq!(scanned(&*good, 500).await, 500);
    }
    drop(silent);
    // Its own ends stay open as long as it lives.
    assert!(most <= at_first + KEPT + silent_ends, "{at_first} descriptors at first, up to {most} later");
    assert_eq!(scan(&*good, 100).await, 100);
    let at_last = descriptors();
    assert!(at_last <= at_first + KEPT, "{at_first} descriptors at first, {at_last} at last");
}
