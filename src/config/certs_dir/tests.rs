use std::fs;

use samovar_registry::upstream::Scheme;
use samovar_testing::Certificates;
use tempfile::TempDir;

use super::*;
use crate::config::{Config, ConfigError};

/// A directory with these files, by their paths.
fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let file = directory.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    directory
}

fn load(certs_dir: &TempDir, text: &str) -> Result<Config, ConfigError> {
    let file = certs_dir.path().join("samovar.toml");
    fs::write(&file, format!("store = 'memory:'\ncerts_dir = '{}'\n{text}", certs_dir.path().display()))
        .unwrap();
    Config::from_file(&file, &|_| None)
}

#[test]
fn hosts_by_their_directories() {
    for (name, host) in [
        ("docker.io", Some("docker.io")),
        ("registry-1.docker.io", Some("docker.io")),
        ("r.example:5000", Some("r.example:5000")),
        ("r.example_5000_", Some("r.example:5000")),
        ("[::1]:5000", Some("[::1]:5000")),
        ("[::1]_5000_", Some("[::1]:5000")),
        ("R.example", Some("r.example")),
        ("localhost", Some("localhost")),
        ("not a host", None),
        ("plain", None),
    ] {
        assert_eq!(host_of(name).as_deref(), host, "{name}");
    }
}

#[test]
fn a_hosts_file_says_where_to_ask() {
    let certificates = Certificates::make();
    let pem = |name: &str| fs::read_to_string(certificates.file(name)).unwrap();
    let both = pem("client.pem") + &pem("client.key");
    let directory = directory(&[
        (
            "docker.io/hosts.toml",
            r#"
            server = "https://registry-1.docker.io"

            [host."https://z.example"]
              capabilities = ["pull", "resolve"]
              ca = "ca.pem"
              client = "both.pem"
              unknown_key = 7

            [host."http://a.example:5000/v2/hub"]
              capabilities = ["pull"]
              override_path = true
              skip_verify = true
              ca = ["/etc/none/../none.pem"]
              dial_timeout = "2s"
              [host."http://a.example:5000/v2/hub".header]
                X-One = "1"
                X-Two = ["2", "3"]
            "#,
        ),
        ("docker.io/ca.pem", &pem("authority.pem")),
        ("docker.io/both.pem", &both),
    ]);
    let mut problems = Problems::default();
    let setting = Setting {
        value: directory.path().display().to_string(),
        origin: Origin::Variable("SAMOVAR_CERTS_DIR".to_owned()),
    };
    let read = read(&setting, &mut problems);
    assert!(problems.none_or(()).is_ok());
    assert_eq!(read.others, None);
    let hub = &read.hosts["docker.io"];
    assert_eq!(hub.server, None, "it is where Docker Hub is");
    assert_eq!(hub.connection.scheme.as_ref().unwrap().value, "https");
    // In the order of the file, not of the alphabet.
    let urls: Vec<_> = hub.mirrors.iter().map(|mirror| mirror.url.value.as_str()).collect();
    assert_eq!(urls, ["https://z.example", "http://a.example:5000/v2/hub"]);
    let [first, second] = &hub.mirrors[..] else { panic!("{hub:?}") };
    let below = |name: &str| directory.path().join("docker.io").join(name).display().to_string();
    assert_eq!(first.connection.ca_files[0].value, below("ca.pem"));
    assert_eq!(first.connection.client_cert_file.as_ref().unwrap().value, below("both.pem"));
    assert_eq!(first.connection.client_key_file.as_ref().unwrap().value, below("both.pem"));
    assert_eq!(second.connection.ca_files[0].value, "/etc/none/../none.pem");
    assert_eq!(second.connection.connect_timeout.as_ref().unwrap().value, "2s");
    let mut headers: Vec<_> =
        second.connection.headers.iter().map(|(name, value)| (&*name.value, &**value)).collect();
    headers.sort_unstable();
    assert_eq!(headers, [("X-One", "1"), ("X-Two", "2"), ("X-Two", "3")]);
}

#[test]
fn servers_certificates_and_what_wins() {
    let certificates = Certificates::make();
    let pem = |name: &str| fs::read_to_string(certificates.file(name)).unwrap();
    let directory = directory(&[
        ("_default/hosts.toml", "[host.\"https://all.example\"]\n"),
        ("r.example_5000_/hosts.toml", "server = 'http://r.example:5000'\nskip_verify = true\n"),
        ("moved.example/hosts.toml", "server = 'new.example/path'\nheader = {X-Gate = 'sesame'}\n"),
        ("docker.example/ca.crt", &pem("authority.pem")),
        ("docker.example/other.crt", &pem("authority.pem")),
        ("docker.example/client.cert", &pem("client.pem")),
        ("docker.example/client.key", &pem("client.key")),
        ("docker.example/alone.cert", &pem("client.pem")),
        (".hidden/hosts.toml", "not TOML"),
        ("not a host/hosts.toml", "not read either"),
    ]);
    let config = load(
        &directory,
        "[hosts.'r.example:5000']\nrps = 1\nmirrors = ['https://own.example']\n[hosts.'limited.example']\nrps = 2\n",
    )
    .unwrap_or_else(|error| panic!("{error}"));

    let own = &config.hosts["r.example:5000"];
    assert_eq!((own.rate, own.connection.scheme), (Some(1.0), Some(Scheme::Http)));
    assert!(own.connection.tls.skip_verify);
    let hosts = |mirrors: &[samovar_registry::upstream::MirrorOptions]| {
        mirrors.iter().map(|mirror| mirror.url.host().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(hosts(&own.mirrors), ["own.example"]);
    assert_eq!(hosts(&config.other_hosts.mirrors), ["all.example"]);
    assert_eq!(hosts(&config.hosts["limited.example"].mirrors), ["all.example"]);

    let moved = &config.hosts["moved.example"];
    assert_eq!(moved.server.as_ref().unwrap().url.to_string(), "https://new.example/path");
    assert!(moved.server.as_ref().unwrap().connection.headers.contains_key("x-gate"));
    assert!(moved.connection.headers.is_empty());

    let docker = &config.hosts["docker.example"].connection.tls;
    assert_eq!(docker.ca_files.len(), 2);
    assert!(docker.client_certificate.as_ref().unwrap().key_file.ends_with("docker.example/client.key"));
    assert_eq!(config.hosts.len(), 4);
}

#[test]
fn what_cannot_be_used_is_refused_with_its_place() {
    for (path, text, expected) in [
        ("r.example/hosts.toml", "server = 5", "r.example/hosts.toml:1: key server: expected a string"),
        ("r.example/hosts.toml", "server = ", "r.example/hosts.toml:1: not TOML"),
        (
            "r.example/hosts.toml",
            "\n[host.'https://m.example']\nca = 'missing.pem'",
            "r.example/hosts.toml:3: key host.\"https://m.example\".ca: ",
        ),
        (
            "r.example/hosts.toml",
            "[host.'ftp://m.example']",
            "r.example/hosts.toml:1: key host.\"ftp://m.example\": not a mirror's URL",
        ),
        ("r.example/ca.crt", "nonsense", "r.example/ca.crt: "),
    ] {
        let directory = directory(&[(path, text)]);
        let error = load(&directory, "").map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let nowhere = directory(&[]);
    let error = load(&nowhere, "").map(|config| config.hosts.len());
    assert_eq!(error.unwrap(), 0);
    let file = nowhere.path().join("x.toml");
    fs::write(&file, "store = 'memory:'\ncerts_dir = '/no/such/directory'").unwrap();
    let error = Config::from_file(&file, &|_| None).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("key certs_dir: cannot read the directory /no/such/directory"), "{error}");
}
