use std::collections::{BTreeMap, BTreeSet};

use samovar_testing::fake::{Action, Bearer, FakeRegistry, Fault, RequestKind as FakeKind};
use samovar_testing::{Certificates, DockerRegistry, Image, RegistryDoor};

use super::super::{ClientCertificate, HostOptions, Limits};
use super::*;
use crate::SystemClock;

const PUBLIC: &str = "93.184.216.34:443";

fn options(insecure: &[String]) -> HttpOptions {
    HttpOptions { insecure_hosts: insecure.iter().cloned().collect(), ..HttpOptions::default() }
}

fn transport(options: HttpOptions) -> Transport {
    Transport::new(options, Arc::new(SystemClock), Arc::new(())).unwrap()
}

fn endpoint(host: &str, transport: &Transport) -> Endpoint {
    Endpoint::of_registry(Host::new(host, &transport.options), &transport.options)
}

fn request<'a>(endpoint: &'a Endpoint, kind: RequestKind, url: &str) -> Request<'a> {
    Request {
        endpoint,
        operation: Operation::Config,
        kind,
        urgency: Urgency::Asked,
        repository: None,
        identity: Identity::from(Identity::ANONYMOUS),
        method: Method::GET,
        url: Url::parse(url).unwrap(),
        accept: None,
        condition: None,
        authorization: None,
        form: None,
        max_body: 1_024 * 1_024,
        is_probe: false,
    }
}

async fn token_service() -> (FakeRegistry, String, String) {
    let service = FakeRegistry::start().await;
    service.require_bearer(Bearer::new());
    let port = service.host().rsplit_once(':').unwrap().1.to_owned();
    let url = |host: &str| format!("http://{host}:{port}/token?service=fake-registry");
    let urls = (url("127.0.0.1"), url("localhost"));
    (service, urls.0, urls.1)
}

fn insecure_loopback(service: &FakeRegistry) -> HttpOptions {
    options(&[service.host(), service.host().replace("127.0.0.1", "localhost")])
}

#[tokio::test]
async fn a_registry_at_a_public_address_sends_nobody_to_private_ones() {
    let (service, literal, named) = token_service().await;
    let transport = transport(insecure_loopback(&service));
    let endpoint = endpoint("r.example", &transport);
    endpoint.host.has_answered(Scheme::Https, Some(PUBLIC.parse().unwrap()));
    for url in [&literal, &named] {
        let failure = transport.exchange(&request(&endpoint, RequestKind::Token, url)).await.unwrap_err();
        let ErrorKind::Refused { message } = &failure.kind else { panic!("{failure:?}") };
        assert!(message.contains("is a private address"), "{message}");
    }
    assert_eq!(service.requests().len(), 0);

    // A registry that stands at a private address itself may.
    endpoint.host.has_answered(Scheme::Https, Some("10.0.0.5:443".parse().unwrap()));
    for url in [&literal, &named] {
        transport.exchange(&request(&endpoint, RequestKind::Token, url)).await.unwrap();
    }
    assert_eq!(service.requests().len(), 2);
}

#[tokio::test]
async fn the_configuration_may_name_a_private_token_service() {
    let (service, literal, _) = token_service().await;
    let own = HostOptions { token_hosts: BTreeSet::from([service.host()]), ..HostOptions::default() };
    let hosts = BTreeMap::from([("r.example".to_owned(), own)]);
    let transport = transport(HttpOptions { hosts, ..insecure_loopback(&service) });
    for (name, is_allowed) in [("r.example", true), ("other.example", false)] {
        let endpoint = endpoint(name, &transport);
        let result = transport.exchange(&request(&endpoint, RequestKind::Token, &literal)).await;
        assert_eq!(result.is_ok(), is_allowed, "{name}");
    }
}

#[tokio::test]
async fn redirects_of_a_public_registry_stay_in_public() {
    let transport = transport(HttpOptions::default());
    let endpoint = endpoint("r.example", &transport);
    let request = request(&endpoint, RequestKind::Registry, "https://r.example/v2/a/blobs/x");
    let hop = |kind, is_at_origin| Hop {
        url: Url::parse("https://10.0.0.5/x").unwrap(),
        kind,
        authorization: None,
        carries_form: false,
        is_at_origin,
    };
    endpoint.host.has_answered(Scheme::Https, Some(PUBLIC.parse().unwrap()));
    let elsewhere = hop(RequestKind::Cdn, false);
    assert_eq!(transport.reach(&request, &elsewhere), Reach::Public);
    let failure = transport.send(&request, &elsewhere, false).await.map(|_| ()).unwrap_err();
    assert!(matches!(failure.kind, ErrorKind::Refused { .. }), "{failure:?}");
    // What images name may stand anywhere: the configuration allows it.
    assert_eq!(transport.reach(&request, &hop(RequestKind::Registry, true)), Reach::Everywhere);
}

#[tokio::test]
async fn a_client_certificate_is_not_shown_on_behalf_of_another_registry() {
    let certificates = Certificates::make();
    let certificate = ClientCertificate {
        certificate_file: certificates.file("client.pem"),
        key_file: certificates.file("client.key"),
    };
    let tls = TlsOptions { client_certificate: Some(certificate), ..TlsOptions::default() };
    let connection = ConnectionOptions { tls, ..ConnectionOptions::default() };
    let with =
        |token_hosts| HostOptions { connection: connection.clone(), token_hosts, ..Default::default() };
    let hosts = [
        ("a.quay.io", with(BTreeSet::from(["tokens.example".to_owned()]))),
        ("auth.quay.io", with(BTreeSet::new())),
        ("tokens.example", with(BTreeSet::new())),
        ("b.example", with(BTreeSet::new())),
    ];
    let hosts = hosts.map(|(host, own)| (host.to_owned(), own)).into();
    let transport = transport(HttpOptions { hosts, ..HttpOptions::default() });
    let endpoint = endpoint("a.quay.io", &transport);
    let is_shown = |kind, is_at_origin, url: &str| {
        let request = request(&endpoint, kind, url);
        let url = request.url.clone();
        let hop = Hop { url, kind, authorization: None, carries_form: false, is_at_origin };
        transport.connection(&request, &hop).tls.client_certificate.is_some()
    };
    for (kind, is_at_origin, url, expected) in [
        (RequestKind::Registry, true, "https://a.quay.io/v2/", true),
        (RequestKind::Token, true, "https://a.quay.io/token", true),
        (RequestKind::Token, true, "https://auth.quay.io/token", true),
        (RequestKind::Token, true, "https://tokens.example/token", true),
        (RequestKind::Token, true, "https://b.example/token", false),
        (RequestKind::Token, false, "https://auth.quay.io/token", false),
        (RequestKind::Cdn, false, "https://b.example/v2/", false),
        (RequestKind::Cdn, false, "https://a.quay.io/v2/", false),
    ] {
        assert_eq!(is_shown(kind, is_at_origin, url), expected, "{kind:?} {is_at_origin} {url}");
    }
}

#[tokio::test]
async fn where_a_registry_answers_from_is_noted() {
    let registry = FakeRegistry::start().await;
    let transport = transport(options(&[registry.host()]));
    let endpoint = endpoint(&registry.host(), &transport);
    assert!(!endpoint.host.is_private());
    let url = format!("{}/v2/a/tags/list", registry.url());
    transport.exchange(&request(&endpoint, RequestKind::Registry, &url)).await.unwrap();
    assert!(endpoint.host.is_private());
    assert_eq!(endpoint.host.scheme(), Some(Scheme::Http));
}

#[tokio::test]
async fn a_redirect_to_a_dead_host_does_not_make_the_registry_unreachable() {
    let registry = FakeRegistry::start().await;
    let mut cdn = FakeRegistry::start().await;
    let transport = transport(options(&[registry.host(), cdn.host()]));
    cdn.stop().await;
    registry.push("a", "v1", &Image::new("seed"));
    registry.fault(Fault::on(FakeKind::Blob), Action::RedirectTo(format!("{}/x", cdn.url())));
    let endpoint = endpoint(&registry.host(), &transport);
    let url = format!("{}/v2/a/blobs/{}", registry.url(), Image::new("seed").config().digest);
    let probe = Request { is_probe: true, ..request(&endpoint, RequestKind::Registry, &url) };
    let failure = transport.exchange(&probe).await.unwrap_err();
    assert!(matches!(failure.kind, ErrorKind::Transport { .. }), "{failure:?}");
    assert!(!failure.while_connecting);
    assert_eq!(failure.hop, RequestKind::Cdn);

    let url = format!("{}/x", cdn.url());
    let failure = transport.exchange(&request(&endpoint, RequestKind::Registry, &url)).await.unwrap_err();
    assert!(failure.while_connecting);
}

#[tokio::test]
async fn time_in_the_queue_is_not_time_under_way() {
    let registry = FakeRegistry::start().await;
    let limits = Limits { rate: 4.0, burst: 1, concurrency: 1 };
    let transport = transport(HttpOptions { limits, ..options(&[registry.host()]) });
    let endpoint = endpoint(&registry.host(), &transport);
    let url = format!("{}/v2/", registry.url());
    let request = request(&endpoint, RequestKind::Registry, &url);
    transport.exchange(&request).await.unwrap();
    let queued = Instant::now();
    let answer = transport.exchange(&request).await.unwrap();
    let waited = answer.sent_at - queued;
    assert!(waited >= Duration::from_millis(150), "{waited:?}");
    assert!(waited + answer.spent <= queued.elapsed(), "{:?}", answer.spent);
}

/// Names that lead elsewhere each time they are looked up.
#[derive(Debug)]
struct Turns(std::sync::Mutex<Vec<&'static str>>);

#[async_trait::async_trait]
impl Lookup for Turns {
    async fn addresses(&self, _: &str) -> std::io::Result<Vec<std::net::SocketAddr>> {
        let next = self.0.lock().unwrap().pop().expect("nobody asks so often");
        Ok(vec![std::net::SocketAddr::new(next.parse().unwrap(), 0)])
    }
}

/// A transport for which every name leads to these addresses, in turn.
fn resolving(options: HttpOptions, addresses: &[&'static str]) -> Transport {
    let turns = Turns(std::sync::Mutex::new(addresses.iter().rev().copied().collect()));
    Transport::with_lookup(options, Arc::new(SystemClock), Arc::new(()), Arc::new(turns)).unwrap()
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_a_moment_later_gains_nothing() {
    let registry = FakeRegistry::start().await;
    registry.add_header("connection", "close");
    let named = registry.host().replace("127.0.0.1", "rebinding.example");
    let url = format!("http://{named}/v2/");
    let metadata = ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "64:ff9b::a9fe:a9fe"];
    for forbidden in metadata {
        registry.clear_requests();
        let transport =
            resolving(options(std::slice::from_ref(&named)), &["127.0.0.1", forbidden, "127.0.0.1"]);
        let endpoint = endpoint(&named, &transport);
        let request = request(&endpoint, RequestKind::Registry, &url);
        transport.exchange(&request).await.unwrap();
        let failure = transport.exchange(&request).await.unwrap_err();
        let ErrorKind::Refused { message } = &failure.kind else { panic!("{failure:?}") };
        assert!(message.starts_with("rebinding.example is a link-local"), "{message}");
        transport.exchange(&request).await.unwrap();
        assert_eq!(registry.requests().len(), 2, "{forbidden}");
    }
}

#[tokio::test]
async fn a_public_registry_cannot_rebind_a_name_to_a_private_address() {
    let (service, _, _) = token_service().await;
    let named = service.host().replace("127.0.0.1", "rebinding.example");
    let short =
        HttpOptions { connect_timeout: Duration::from_millis(50), ..options(std::slice::from_ref(&named)) };
    // Nobody is at the first one, which is for documentation.
    let transport = resolving(short, &["192.0.2.1", "127.0.0.1", "::1", "10.0.0.1"]);
    let endpoint = endpoint("r.example", &transport);
    endpoint.host.has_answered(Scheme::Https, Some(PUBLIC.parse().unwrap()));
    let url = format!("http://{named}/token");
    let request = request(&endpoint, RequestKind::Token, &url);
    let failure = transport.exchange(&request).await.unwrap_err();
    assert!(failure.while_connecting && !matches!(failure.kind, ErrorKind::Refused { .. }), "{failure:?}");
    for _ in 0..3 {
        let failure = transport.exchange(&request).await.unwrap_err();
        let ErrorKind::Refused { message } = &failure.kind else { panic!("{failure:?}") };
        assert!(message.starts_with("rebinding.example is a private address"), "{message}");
    }
    assert_eq!(service.requests().len(), 0);
}

/// Every name leads to both addresses of this machine.
#[derive(Debug)]
struct BothFamilies;

#[async_trait::async_trait]
impl Lookup for BothFamilies {
    async fn addresses(&self, _: &str) -> std::io::Result<Vec<std::net::SocketAddr>> {
        Ok(["[::1]:0", "127.0.0.1:0"].map(|address| address.parse().unwrap()).into())
    }
}

#[tokio::test]
async fn whichever_address_of_a_name_answers() {
    let registry = DockerRegistry::start().await;
    let door = RegistryDoor::to(&registry).ipv6().open().await;
    for listening in [registry.host(), door.host()] {
        let (_, port) = listening.rsplit_once(':').unwrap();
        let named = format!("r.example:{port}");
        let options = options(std::slice::from_ref(&named));
        let transport =
            Transport::with_lookup(options, Arc::new(SystemClock), Arc::new(()), Arc::new(BothFamilies))
                .unwrap();
        let endpoint = endpoint(&named, &transport);
        let request = request(&endpoint, RequestKind::Registry, &format!("http://{named}/v2/"));
        assert_eq!(transport.exchange(&request).await.unwrap().status, StatusCode::OK, "{listening}");
    }
}
