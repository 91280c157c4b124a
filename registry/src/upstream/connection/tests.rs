use http::HeaderValue;
use samovar_testing::Certificates;

use super::*;

fn problem(tls: &TlsOptions) -> (TlsSetting, PathBuf, String) {
    let error = tls.check().unwrap_err();
    (error.setting, error.path, error.reason)
}

#[test]
fn files_that_can_be_used() {
    let certificates = Certificates::make();
    let client = ClientCertificate {
        certificate_file: certificates.file("client.pem"),
        key_file: certificates.file("client.key"),
    };
    let tls = TlsOptions {
        ca_files: vec![certificates.authority()],
        client_certificate: Some(client),
        skip_verify: false,
    };
    tls.check().unwrap();
    TlsOptions::default().check().unwrap();
}

#[test]
fn files_that_cannot_are_named() {
    let certificates = Certificates::make();
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let empty = write("empty.pem", "");
    let broken = write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let large = write("large.pem", &"x".repeat(1_100_000));
    let missing = directory.path().join("missing.pem");
    for (path, expected) in [
        (&empty, "there is no certificate in it"),
        (&broken, ""),
        (&large, "larger than 1048576 bytes"),
        (&missing, "cannot be read: No such file"),
    ] {
        let (setting, named, reason) = problem(&TlsOptions {
            ca_files: vec![certificates.authority(), path.clone()],
            ..Default::default()
        });
        assert_eq!((setting, &named), (TlsSetting::CaFile, path));
        assert!(reason.starts_with(expected), "{path:?}: {reason}");
    }
    let client = |certificate_file: &Path, key_file: &Path| TlsOptions {
        client_certificate: Some(ClientCertificate {
            certificate_file: certificate_file.to_owned(),
            key_file: key_file.to_owned(),
        }),
        ..TlsOptions::default()
    };
    let (certificate, other_key) = (certificates.file("client.pem"), certificates.file("server.key"));
    for (certificate_file, key_file, expected) in [
        (&certificate, &other_key, TlsSetting::ClientKey),
        (&certificate, &missing, TlsSetting::ClientKey),
        (&certificate, &certificate, TlsSetting::ClientKey),
        (&missing, &other_key, TlsSetting::ClientCertificate),
        (&empty, &other_key, TlsSetting::ClientCertificate),
    ] {
        let (setting, path, reason) = problem(&client(certificate_file, key_file));
        let named = if expected == TlsSetting::ClientKey { key_file } else { certificate_file };
        assert_eq!((setting, &path), (expected, named), "{reason}");
    }
}

#[test]
fn what_is_said_above_counts() {
    let header = |name: &'static str, value: &'static str| {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static(value))])
    };
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let below = ConnectionOptions {
        scheme: Some(Scheme::Http),
        tls: TlsOptions {
            ca_files: vec!["below.pem".into(), "both.pem".into()],
            client_certificate: None,
            skip_verify: true,
        },
        proxy: Some(ProxyChoice::Direct),
        headers: header("x-a", "below"),
        timeouts: TimeoutOptions { connect: seconds(1), body: seconds(2), ..Default::default() },
    };
    assert_eq!(ConnectionOptions::default().over(&below), below);
    let above = ConnectionOptions {
        scheme: Some(Scheme::Https),
        tls: TlsOptions { ca_files: vec!["both.pem".into()], ..Default::default() },
        proxy: None,
        headers: header("x-a", "above"),
        timeouts: TimeoutOptions { connect: seconds(3), ..Default::default() },
    };
    let both = above.over(&below);
    assert_eq!(both.scheme, Some(Scheme::Https));
    assert_eq!(both.tls.ca_files, [PathBuf::from("both.pem"), "below.pem".into()]);
    assert!(both.tls.skip_verify);
    assert_eq!(both.proxy, Some(ProxyChoice::Direct));
    assert_eq!(both.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["above"]);
    assert_eq!((both.timeouts.connect, both.timeouts.body), (seconds(3), seconds(2)));
}
