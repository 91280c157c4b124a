//! Ways to connect, against real servers: TLS with a private authority, client certificates, HTTP/2, IPv6, proxies,
//! tokens; with `skopeo` as the second opinion.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use samovar_registry::credentials::{CredentialChain, Credentials};
use samovar_registry::upstream::{
    ClientCertificate, ConnectionOptions, EnvironmentProxies, ErrorKind, HostOptions, HttpOptions,
    HttpUpstreams, ManifestSelector, Scheme, TlsOptions, UpstreamError, UpstreamFactory, Urgency,
};
use samovar_registry::{Name, Secret, SystemClock};
use samovar_testing::fake::{Action, FakeRegistry, Fault, RequestKind};
use samovar_testing::{
    Certificates, DockerRegistry, ForwardProxy, Image, Nginx, RegistryDoor, Skopeo, TokenServer,
};

use crate::setup::{REPOSITORY, options, tag};

const URGENCY: Urgency = Urgency::Background;

async fn with_an_image() -> (DockerRegistry, String) {
    let registry = DockerRegistry::start().await;
    let image = Image::new("seed").created("2024-01-02T03:04:05Z").label("k", "v");
    let digest = registry.push(REPOSITORY, "v1", &image).await;
    (registry, digest)
}

fn with_host(host: &str, connection: ConnectionOptions) -> HttpOptions {
    let own = HostOptions { connection, ..HostOptions::default() };
    HttpOptions { hosts: BTreeMap::from([(host.to_owned(), own)]), ..options() }
}

fn trusting(certificates: &Certificates) -> ConnectionOptions {
    let tls = TlsOptions { ca_files: vec![certificates.authority()], ..TlsOptions::default() };
    ConnectionOptions { tls, ..ConnectionOptions::default() }
}

fn factory(options: HttpOptions) -> HttpUpstreams {
    HttpUpstreams::new(options, Arc::new(SystemClock), Arc::new(())).unwrap()
}

/// Lists the tags and resolves the only one.
async fn ask(factory: &HttpUpstreams, host: &str, chain: &CredentialChain) -> Result<String, UpstreamError> {
    let name: Name = format!("{host}/{REPOSITORY}").parse().unwrap();
    let upstream = factory.upstream(&name, chain);
    assert_eq!(upstream.tags(URGENCY).await?.tags, [tag("v1")]);
    let digest = upstream.resolve(&tag("v1"), URGENCY).await?.expect("the registry says it");
    let document = upstream.manifest(ManifestSelector::Digest(&digest), URGENCY).await?;
    assert_eq!(document.digest, digest);
    Ok(digest.to_string())
}

async fn ask_anonymously(options: HttpOptions, host: &str) -> Result<String, UpstreamError> {
    ask(&factory(options), host, &CredentialChain::default()).await
}

fn failed(result: Result<String, UpstreamError>, with: &str) {
    let error = result.unwrap_err();
    let ErrorKind::Transport { message } = &error.kind else { panic!("{error}") };
    assert!(message.contains(with), "{message}");
}

#[tokio::test]
async fn tls_by_a_private_authority() {
    let (registry, digest) = with_an_image().await;
    let certificates = Certificates::make();
    let door = RegistryDoor::to(&registry).tls(&certificates).open().await;
    assert_eq!(
        ask_anonymously(with_host(door.host(), trusting(&certificates)), door.host()).await,
        Ok(digest.clone())
    );
    let for_all = HttpOptions { ca_files: vec![certificates.authority()], ..options() };
    assert_eq!(ask_anonymously(for_all, door.host()).await, Ok(digest.clone()));

    failed(ask_anonymously(options(), door.host()).await, "certificate");
    let others = Certificates::make();
    failed(ask_anonymously(with_host(door.host(), trusting(&others)), door.host()).await, "certificate");

    let tls = TlsOptions { skip_verify: true, ..TlsOptions::default() };
    let unverified = ConnectionOptions { tls, ..ConnectionOptions::default() };
    assert_eq!(ask_anonymously(with_host(door.host(), unverified), door.host()).await, Ok(digest.clone()));

    let image = format!("{}/{REPOSITORY}:v1", door.host());
    let seen = Skopeo::new().inspect(&image).await;
    assert_eq!(seen["Digest"], digest.as_str());
    assert_eq!(seen["Created"], "2024-01-02T03:04:05Z");
    assert_eq!(seen["Labels"]["k"], "v");
}

#[tokio::test]
async fn client_certificates() {
    let (registry, digest) = with_an_image().await;
    let certificates = Arc::new(Certificates::make());
    let nginx = Nginx::in_front_of(registry.host(), &certificates).wants_client_certificate().start().await;
    let host = nginx.host();
    let own = |certificates: &Certificates| ClientCertificate {
        certificate_file: certificates.file("client.pem"),
        key_file: certificates.file("client.key"),
    };
    let mut connection = trusting(&certificates);
    connection.tls.client_certificate = Some(own(&certificates));
    assert_eq!(ask_anonymously(with_host(&host, connection.clone()), &host).await, Ok(digest));

    let others = Certificates::make();
    connection.tls.client_certificate = Some(own(&others));
    for connection in [connection, trusting(&certificates)] {
        let error = ask_anonymously(with_host(&host, connection), &host).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Rejected { status: 400, .. }), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_does_not_open_another_registry_with_its_certificate() {
    let (registry, digest) = with_an_image().await;
    let certificates = Arc::new(Certificates::make());
    let nginx = Nginx::in_front_of(registry.host(), &certificates).wants_client_certificate().start().await;
    let mut connection = trusting(&certificates);
    connection.tls.client_certificate = Some(ClientCertificate {
        certificate_file: certificates.file("client.pem"),
        key_file: certificates.file("client.key"),
    });
    let sly = FakeRegistry::start().await;
    let elsewhere = format!("https://{}/v2/{REPOSITORY}/manifests/v1", nginx.host());
    sly.fault(Fault::on(RequestKind::ManifestGet), Action::RedirectTo(elsewhere));
    let mut options = with_host(&nginx.host(), connection);
    options.insecure_hosts.insert(sly.host());
    assert_eq!(ask_anonymously(options.clone(), &nginx.host()).await, Ok(digest));
    let name: Name = format!("{}/{REPOSITORY}", sly.host()).parse().unwrap();
    let upstream = factory(options).upstream(&name, &CredentialChain::default());
    let error = upstream.manifest(ManifestSelector::Tag(&tag("v1")), URGENCY).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Rejected { status: 400, .. }), "{error}");
}

#[tokio::test]
async fn http_2_where_it_is_offered() {
    let (registry, digest) = with_an_image().await;
    let certificates = Arc::new(Certificates::make());
    let nginx = Nginx::in_front_of(registry.host(), &certificates);
    for (nginx, protocol) in [(nginx.clone().http2(), "HTTP/2.0"), (nginx, "HTTP/1.1")] {
        let nginx = nginx.start().await;
        let options = with_host(&nginx.host(), trusting(&certificates));
        assert_eq!(ask_anonymously(options, &nginx.host()).await, Ok(digest.clone()));
        assert_eq!(nginx.protocols(3).await, [protocol; 3]);
    }
}

#[tokio::test]
async fn ipv6() {
    let (registry, digest) = with_an_image().await;
    let door = RegistryDoor::to(&registry).ipv6().open().await;
    assert!(door.host().starts_with("[::1]:"), "{}", door.host());
    let plain = || ConnectionOptions { scheme: Some(Scheme::Http), ..ConnectionOptions::default() };
    assert_eq!(ask_anonymously(with_host(door.host(), plain()), door.host()).await, Ok(digest.clone()));
}

#[tokio::test]
async fn tokens_of_a_server_that_the_configuration_names() {
    let (registry, digest) = with_an_image().await;
    let tokens = TokenServer::start("alice", "open sesame").await;
    let door = RegistryDoor::to(&registry).tokens_of(&tokens).open().await;
    let alice: CredentialChain = Credentials::Basic {
        username: "alice".to_owned(),
        password: Secret::new("open sesame"),
        provenance: "the test".into(),
    }
    .into();
    let insecure_hosts = BTreeSet::from([door.host().to_owned(), tokens.host().to_owned()]);
    let own = |token_hosts| HostOptions { token_hosts, ..HostOptions::default() };
    let with_token_hosts = |token_hosts| HttpOptions {
        hosts: BTreeMap::from([(door.host().to_owned(), own(token_hosts))]),
        insecure_hosts: insecure_hosts.clone(),
        ..options()
    };

    // Another host than the registry's, and nobody has said that it may be trusted.
    let error = ask(&factory(with_token_hosts(BTreeSet::new())), door.host(), &alice).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Refused { .. }), "{error}");
    assert!(tokens.requests().iter().all(|request| request.authorization.is_none()));

    let named = with_token_hosts(BTreeSet::from([tokens.host().to_owned()]));
    let factory = factory(named);
    assert_eq!(ask(&factory, door.host(), &alice).await, Ok(digest.clone()));
    let given = tokens.requests().iter().filter(|request| request.is_known).count();
    assert_eq!(given, 1, "one token for all requests: {:?}", tokens.requests());
    let error = ask(&factory, door.host(), &CredentialChain::default()).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Unauthorized { .. }), "{error}");

    let image = format!("{}/{REPOSITORY}:v1", door.host());
    let seen = Skopeo::new().credentials("alice", "open sesame").inspect(&image).await;
    assert_eq!(seen["Digest"], digest.as_str());
}

#[tokio::test]
async fn proxies_by_name_and_password() {
    let (registry, digest) = with_an_image().await;
    let certificates = Certificates::make();
    let door = RegistryDoor::to(&registry).tls(&certificates).open().await;
    let (plain, secure) = ("registry.example:80", "localhost:443");
    // Only the proxy knows these names, or where they lead.
    let proxy = ForwardProxy::start_for(
        "proxy user",
        "open:sesame",
        &[(plain, registry.host()), (secure, door.host())],
    )
    .await;
    let url = |login: &str| format!("http://{login}@{}", proxy.host()).parse().unwrap();
    let right = || url("proxy%20user:open%3Asesame");

    let mut connection = trusting(&certificates);
    connection.proxy = Some(samovar_registry::upstream::ProxyChoice::Through(right()));
    let own = HostOptions { connection, ..HostOptions::default() };
    let hosts = BTreeMap::from([("localhost".to_owned(), own)]);
    let through_own = HttpOptions { hosts, ..options() };
    assert_eq!(ask_anonymously(through_own, "localhost").await, Ok(digest.clone()));
    assert!(
        proxy.requests().iter().all(|request| request == "CONNECT localhost:443"),
        "{:?}",
        proxy.requests()
    );

    let plainly = ConnectionOptions { scheme: Some(Scheme::Http), ..ConnectionOptions::default() };
    let environment =
        |login| EnvironmentProxies { http: Some(login), https: None, no_proxy: "other.example".to_owned() };
    let through_all =
        HttpOptions { proxies: environment(right()), ..with_host("registry.example:80", plainly) };
    assert_eq!(ask_anonymously(through_all.clone(), "registry.example:80").await, Ok(digest.clone()));
    assert!(proxy.requests().iter().any(|request| request.starts_with("GET http://registry.example/v2/")));

    let wrong = HttpOptions { proxies: environment(url("proxy%20user:wrong")), ..through_all.clone() };
    let error = ask_anonymously(wrong, "registry.example:80").await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Rejected { status: 407, .. }), "{error}");
    assert!(!format!("{error} {through_all:?}").contains("sesame"));
    let excepted = EnvironmentProxies { no_proxy: "registry.example".to_owned(), ..environment(right()) };
    let asked = proxy.requests().len();
    let directly = HttpOptions { proxies: excepted, ..through_all };
    assert!(ask_anonymously(directly, "registry.example:80").await.is_err(), "nobody else knows the name");
    assert_eq!(proxy.requests().len(), asked);
}

#[tokio::test]
async fn headers_go_to_their_own_origin_only() {
    let (registry, cdn) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let digest = Image::new("seed").config().digest;
    registry.push(REPOSITORY, "v1", &Image::new("seed"));
    cdn.push(REPOSITORY, "v1", &Image::new("seed"));
    let blob = format!("{}/v2/{REPOSITORY}/blobs/{digest}", cdn.url());
    registry.fault(Fault::on(RequestKind::Blob), Action::RedirectTo(blob));
    registry.require_bearer(samovar_testing::fake::Bearer::new());

    let mut secret = HeaderValue::from_static("open sesame");
    secret.set_sensitive(true);
    let headers = HeaderMap::from_iter([(http::HeaderName::from_static("x-gate"), secret)]);
    let own = HostOptions {
        connection: ConnectionOptions { scheme: Some(Scheme::Http), headers, ..ConnectionOptions::default() },
        ..HostOptions::default()
    };
    // The other host has headers as well: for those who mean it, not for who is sent there.
    let hosts = BTreeMap::from([(registry.host(), own.clone()), (cdn.host(), own)]);
    let options = HttpOptions { hosts, ..options() };
    assert!(!format!("{options:?}").contains("sesame"));
    let name: Name = format!("{}/{REPOSITORY}", registry.host()).parse().unwrap();
    let upstream = factory(options).upstream(&name, &CredentialChain::default());
    upstream.config(&digest.parse().unwrap(), URGENCY).await.unwrap();

    let requests = registry.requests();
    assert!(requests.iter().any(|request| request.kind == RequestKind::Token), "{requests:?}");
    assert!(requests.iter().all(|request| request.headers["x-gate"] == "open sesame"));
    let requests = cdn.requests();
    assert_eq!(requests.len(), 1);
    assert!(!requests[0].headers.contains_key("x-gate"));
}

#[tokio::test]
async fn files_that_cannot_be_used_are_found_at_the_start() {
    let tls = TlsOptions { ca_files: vec!["/no/such/ca.pem".into()], ..TlsOptions::default() };
    let connection = ConnectionOptions { tls, ..ConnectionOptions::default() };
    let options = with_host("r.example", connection);
    let error = HttpUpstreams::new(options, Arc::new(SystemClock), Arc::new(())).unwrap_err().to_string();
    assert!(
        error.starts_with("invalid TLS settings for r.example: /no/such/ca.pem: cannot be read"),
        "{error}"
    );
}
