use std::collections::BTreeMap;

use super::super::{Capabilities, ClientCertificate, HostOptions};
use super::*;

fn options(host: &str, connection: ConnectionOptions) -> HttpOptions {
    let own = HostOptions { connection, ..HostOptions::default() };
    HttpOptions { hosts: BTreeMap::from([(host.to_owned(), own)]), ..HttpOptions::default() }
}

fn registry(host: &str, options: &HttpOptions) -> Endpoint {
    Endpoint::of_registry(Host::new(host, options), options)
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

#[test]
fn where_a_registry_is_asked() {
    let options = HttpOptions::default();
    for (host, expected) in [
        ("docker.io", "https://registry-1.docker.io/v2/a/b/tags/list?n=1"),
        ("r.example:5000", "https://r.example:5000/v2/a/b/tags/list?n=1"),
        ("[::1]:5000", "https://[::1]:5000/v2/a/b/tags/list?n=1"),
    ] {
        let url = registry(host, &options).url(Scheme::Https, "a/b", "tags/list", Some("n=1")).unwrap();
        assert_eq!(url.as_str(), expected);
    }
}

#[test]
fn which_schemes_are_spoken() {
    let mut options =
        options("r.example", ConnectionOptions { scheme: Some(Scheme::Http), ..Default::default() });
    options.insecure_hosts = ["r.example".to_owned(), "near.example:5000".to_owned()].into();
    for (host, expected) in [
        ("r.example", Schemes::Only(Scheme::Http)),
        ("near.example:5000", Schemes::HttpsThenHttp),
        ("far.example", Schemes::Only(Scheme::Https)),
    ] {
        assert_eq!(registry(host, &options).schemes, expected, "{host}");
    }
}

#[test]
fn the_own_origin() {
    let mut options = HttpOptions::default();
    let far = registry("r.example", &options);
    assert!(far.is_origin_of(&url("https://r.example/token")));
    for other in
        ["http://r.example/", "https://r.example:8443/", "https://x.r.example/", "http://r.example:443/"]
    {
        assert!(!far.is_origin_of(&url(other)), "{other}");
    }
    options.insecure_hosts = ["r.example:5000".to_owned()].into();
    let near = registry("r.example:5000", &options);
    assert!(
        near.is_origin_of(&url("https://r.example:5000/"))
            && near.is_origin_of(&url("http://r.example:5000/"))
    );
}

#[test]
fn headers_and_certificates_are_only_for_those_who_mean_the_host() {
    let headers = HeaderMap::from_iter([(http::header::COOKIE, "sesame".parse().unwrap())]);
    let certificate = ClientCertificate { certificate_file: "c.pem".into(), key_file: "c.key".into() };
    let tls =
        TlsOptions { skip_verify: true, client_certificate: Some(certificate), ..TlsOptions::default() };
    let options = options("r.example", ConnectionOptions { tls, headers, ..Default::default() });
    let own = registry("r.example", &options).connection;
    assert!(
        own.tls.skip_verify && own.headers.contains_key("cookie") && own.tls.client_certificate.is_some()
    );
    let sent_there = Connection::of_url(&url("https://r.example/x"), &options);
    assert!(sent_there.tls.skip_verify && sent_there.headers.is_empty());
    assert_eq!(sent_there.tls.client_certificate, None);
    let realm = Connection::of_realm(&url("https://r.example/x"), &options);
    assert!(realm.headers.is_empty() && realm.tls.client_certificate.is_some());
    let elsewhere = Connection::of_url(&url("https://r.example:8443/x"), &options);
    assert!(!elsewhere.tls.skip_verify);
}

#[test]
fn repositories_as_mirrors_name_them() {
    let options = HttpOptions::default();
    for (at, override_path, expected) in [
        ("https://m.example", false, "a/b"),
        ("https://m.example/prefix", false, "a/b"),
        ("https://m.example/prefix", true, "a/b"),
        ("https://m.example/v2", true, "a/b"),
        ("https://m.example/v2/hub", true, "hub/a/b"),
        ("https://m.example/artifactory/v2/docker/hub/", true, "docker/hub/a/b"),
        ("https://m.example/v2/hub", false, "a/b"),
    ] {
        let mirror = MirrorOptions {
            url: at.parse().unwrap(),
            capabilities: Capabilities::ALL,
            override_path,
            connection: ConnectionOptions::default(),
        };
        let mirror = Endpoint::of_mirror(Host::new("m.example", &options), &mirror, "r.example", &options);
        assert_eq!(mirror.repository("a/b"), expected, "{at} {override_path}");
    }
    assert_eq!(registry("r.example", &options).repository("a/b"), "a/b");
}
