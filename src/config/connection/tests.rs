use std::path::Path;
use std::time::Duration;

use samovar_registry::upstream::{ProxyChoice, Scheme};
use samovar_testing::Certificates;

use crate::config::{Config, ConfigError};

fn load(text: &str) -> Result<Config, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("samovar.toml");
    std::fs::write(&file, format!("store = 'memory:'\n{text}")).unwrap();
    Config::from_file(&file, &|_| None)
}

fn refused(text: &str) -> String {
    let error = load(text).map(|_| ()).unwrap_err();
    let [problem] = error.problems() else { panic!("{text}: {error}") };
    let problem = problem.to_string();
    let at = problem.find("samovar.toml").unwrap_or_else(|| panic!("{problem}"));
    problem[at..].to_owned()
}

#[test]
fn everything_about_connecting() {
    let certificates = Certificates::make();
    let file = |name: &str| certificates.file(name).display().to_string();
    let (authority, certificate, key) = (file("authority.pem"), file("client.pem"), file("client.key"));
    let config = load(&format!(
        r#"
        [upstream]
        ca_file = "{authority}"

        [hosts."R.example:443"]
        scheme = "http"
        ca_file = "{authority}"
        client_cert_file = "{certificate}"
        client_key_file = "{key}"
        skip_verify = true
        proxy = "http://alice:sesame@proxy.example"
        headers = {{ X-Gate = "sesame", cookie = "a=b" }}
        connect_timeout = "1s"
        header_timeout = "2s"
        body_timeout = "3s"
        total_timeout = "4s"
        list_timeout = "5s"
        mirrors = [
            "https://m.example",
            {{ url = "http://10.0.0.5:5000/p", capabilities = ["pull", "push"], override_path = true, ca_file = "{authority}" }},
        ]
        "#
    ))
    .unwrap();
    assert_eq!(config.upstream.ca_file.as_deref(), Some(Path::new(&authority)));
    let own = &config.hosts["r.example"];
    let connection = &own.connection;
    assert_eq!(connection.scheme, Some(Scheme::Http));
    assert_eq!(connection.tls.ca_files, [Path::new(&authority)]);
    assert_eq!(connection.tls.client_certificate.as_ref().unwrap().key_file, Path::new(&key));
    assert!(connection.tls.skip_verify);
    assert!(matches!(&connection.proxy, Some(ProxyChoice::Through(_))));
    assert_eq!(connection.headers["x-gate"], "sesame");
    assert_eq!(connection.headers["cookie"], "a=b");
    let timeouts = connection.timeouts;
    let seconds = [timeouts.connect, timeouts.header, timeouts.body, timeouts.total, timeouts.list];
    assert_eq!(seconds, [1, 2, 3, 4, 5].map(|seconds| Some(Duration::from_secs(seconds))));
    let [first, second] = &own.mirrors[..] else { panic!("{own:?}") };
    assert_eq!((first.url.host(), second.url.host()), ("m.example", "10.0.0.5:5000"));
    assert!(first.capabilities.resolve && !second.capabilities.resolve && second.capabilities.pull);
    assert!(!first.override_path && second.override_path);
    assert_eq!(second.connection.tls.ca_files.len(), 1);
    assert!(!format!("{config:?}").contains("sesame"), "{config:?}");
}

#[test]
fn what_is_refused_names_its_key_and_shows_no_secret() {
    let certificates = Certificates::make();
    let file = |name: &str| certificates.file(name).display().to_string();
    let (certificate, key, other) = (file("client.pem"), file("client.key"), file("server.key"));
    let many = vec!["'https://m.example'"; 17].join(",");
    for (text, expected) in [
        (
            "upstream.ca_file = '/no/ca.pem'",
            "samovar.toml:2: key upstream.ca_file: /no/ca.pem: cannot be read",
        ),
        (
            "hosts.'a.io'.ca_file = '/no/ca.pem'",
            "samovar.toml:2: key hosts.\"a.io\".ca_file: /no/ca.pem: cannot be ",
        ),
        (
            &format!("hosts.'a.io'.client_cert_file = '{certificate}'"),
            "samovar.toml:2: key hosts.\"a.io\".client_cert_file: a certificate needs its key: client_key_file",
        ),
        (
            &format!("hosts.'a.io'.client_key_file = '{key}'"),
            "samovar.toml:2: key hosts.\"a.io\".client_key_file: a key needs its certificate: client_cert_file",
        ),
        (
            &format!("[hosts.'a.io']\nclient_cert_file = '{certificate}'\nclient_key_file = '{other}'"),
            &format!("samovar.toml:4: key hosts.\"a.io\".client_key_file: {other}: "),
        ),
        (
            "hosts.'a.io'.proxy = 'ftp://alice:sesame@p.example'",
            "samovar.toml:2: key hosts.\"a.io\".proxy: a proxy is spoken to by http:// or https://; \"none\" asks directly",
        ),
        (
            "hosts.'a.io'.scheme = 'gopher'",
            "samovar.toml:2: key hosts.\"a.io\".scheme: \"gopher\" is not a scheme",
        ),
        (
            "hosts.'a.io'.skip_verify = 'yes'",
            "samovar.toml:2: key hosts.\"a.io\".skip_verify: expected true or false",
        ),
        (
            "hosts.'a.io'.headers = {Host = 'sesame'}",
            "samovar.toml:2: key hosts.\"a.io\".headers.Host: the header host is not to be set",
        ),
        (
            "hosts.'a.io'.headers = {'a b' = 'sesame'}",
            "samovar.toml:2: key hosts.\"a.io\".headers.\"a b\": \"a b\" is not the name of a header",
        ),
        (
            "hosts.'a.io'.headers = {X-A = \"sesame\\n\"}",
            "samovar.toml:2: key hosts.\"a.io\".headers.X-A: its value has characters that cannot be sent",
        ),
        (
            "hosts.'a.io'.mirrors = ['https://alice:sesame@m.example']",
            "samovar.toml:2: key hosts.\"a.io\".mirrors[0]: not a mirror's URL such as ",
        ),
        (
            "hosts.'a.io'.mirrors = [{url = 'https://m.example', capabilities = ['list']}]",
            "samovar.toml:2: key hosts.\"a.io\".mirrors[0].capabilities[0]: \"list\" is no capability",
        ),
        (
            "hosts.'a.io'.mirrors = [{override_path = true}]",
            "samovar.toml:2: key hosts.\"a.io\".mirrors[0]: the key url is missing",
        ),
        (
            &format!("hosts.'a.io'.mirrors = [{many}]"),
            "samovar.toml:2: key hosts.\"a.io\".mirrors[16]: more than 16 mirrors",
        ),
        (
            "hosts.'a.io'.list_timeout = '2h'",
            "samovar.toml:2: key hosts.\"a.io\".list_timeout: \"2h\" is out of bounds",
        ),
        (
            "deny_hosts = ['*.evil.example']\nwatch = ['a.evil.example/x']",
            "samovar.toml:3: key watch[0]: its host a.evil.example is denied by deny_hosts",
        ),
        (
            "allow_hosts = ['ghcr.io']\nwatch = ['alpine']",
            "samovar.toml:3: key watch[0]: its host docker.io is not among allow_hosts",
        ),
        (
            "deny_hosts = ['10.*']\nhosts.'a.io'.mirrors = ['http://10.0.0.5:5000']",
            "samovar.toml:3: key hosts.\"a.io\".mirrors[0]: its host 10.0.0.5:5000 is denied by deny_hosts",
        ),
    ] {
        let problem = refused(text);
        assert!(problem.starts_with(expected), "{text}: {problem}");
        assert!(!problem.contains("sesame"), "{problem}");
    }
}

#[test]
fn hosts_that_may_be_asked() {
    let config =
        load("allow_hosts = ['*.example']\ndeny_hosts = ['no.example']\nwatch = ['a.example/x']").unwrap();
    assert!(config.host_policy.allows("a.example"));
    assert!(!config.host_policy.allows("no.example") && !config.host_policy.allows("docker.io"));
}
