//! What is different for single hosts, in words that show no secret.

use samovar_registry::upstream::{Capabilities, ConnectionOptions, MirrorOptions, Scheme, TimeoutOptions};
use serde_json::{Map, Value};

use super::output;
use crate::config::{Config, HostConfig, shown_duration};

/// What stands for the hosts that have no settings of their own.
const OTHERS: &str = "all others";

/// A table of hosts and their settings, if there are any.
pub(super) fn table(config: &Config) -> Option<String> {
    let rows: Vec<_> = described(config).collect();
    let rows = rows.into_iter().flat_map(|(host, settings)| {
        let hosts = std::iter::once(host.to_owned()).chain(std::iter::repeat(String::new()));
        hosts.zip(settings).map(|(host, setting)| [host, setting]).collect::<Vec<_>>()
    });
    let rows: Vec<_> = rows.collect();
    (!rows.is_empty()).then(|| output::columns(["HOST", "SETTINGS"], rows))
}

/// The same by host.
pub(super) fn summary(config: &Config) -> Value {
    let hosts = described(config).map(|(host, settings)| (host.to_owned(), Value::from(settings)));
    Value::Object(hosts.collect::<Map<_, _>>())
}

/// The hosts whose TLS is not verified.
pub(super) fn unverified(config: &Config) -> Vec<String> {
    let hosts = config.hosts.iter().map(|(host, own)| (host.as_str(), own));
    let mut unverified = Vec::new();
    for (host, own) in hosts.chain([(OTHERS, &config.other_hosts)]) {
        if own.connection.tls.skip_verify {
            unverified.push(host.to_owned());
        }
        for mirror in own.mirrors.iter().chain(&own.server) {
            if mirror.connection.tls.skip_verify {
                unverified.push(mirror.url.host().to_owned());
            }
        }
    }
    unverified.sort_unstable();
    unverified.dedup();
    unverified
}

fn described(config: &Config) -> impl Iterator<Item = (&str, Vec<String>)> {
    let hosts = config.hosts.iter().map(|(host, own)| (host.as_str(), own));
    let all = hosts.chain([(OTHERS, &config.other_hosts)]);
    all.map(|(host, own)| (host, settings(own))).filter(|(_, settings)| !settings.is_empty())
}

fn settings(own: &HostConfig) -> Vec<String> {
    let mut settings = Vec::new();
    settings.extend(own.rate.map(|rate| format!("{rate} requests a second")));
    settings.extend(own.burst.map(|burst| format!("bursts of {burst}")));
    settings.extend(own.concurrency.map(|concurrency| format!("{concurrency} at a time")));
    settings.extend(connection(&own.connection));
    settings.extend(own.token_hosts.iter().map(|host| format!("tokens from {host}")));
    settings.extend(own.mirrors.iter().map(|one| format!("mirror {}", mirror(one))));
    settings.extend(own.server.iter().map(|one| format!("asked at {}", mirror(one))));
    settings
}

fn connection(options: &ConnectionOptions) -> Vec<String> {
    let mut settings = Vec::new();
    settings.extend(options.scheme.map(|scheme| match scheme {
        Scheme::Https => "https only".to_owned(),
        Scheme::Http => "plain http".to_owned(),
    }));
    if options.tls.skip_verify {
        settings.push("TLS NOT VERIFIED".to_owned());
    }
    settings.extend(options.tls.ca_files.iter().map(|file| format!("authorities {}", file.display())));
    settings.extend(
        options
            .tls
            .client_certificate
            .iter()
            .map(|client| format!("client certificate {}", client.certificate_file.display())),
    );
    settings.extend(options.proxy.iter().map(|proxy| format!("proxy {proxy}")));
    settings.extend(options.headers.keys().map(|name| format!("header {name}: …")));
    let TimeoutOptions { connect, header, body, total, list } = options.timeouts;
    let timeouts =
        [("connect", connect), ("header", header), ("body", body), ("total", total), ("list", list)];
    settings.extend(timeouts.into_iter().filter_map(|(name, timeout)| {
        let timeout = timeout?;
        Some(format!("{name} timeout {}", shown_duration(timeout)))
    }));
    settings
}

fn mirror(mirror: &MirrorOptions) -> String {
    let Capabilities { pull, resolve } = mirror.capabilities;
    let mut words = vec![mirror.url.to_string()];
    if mirror.override_path {
        words.push("path as it is".to_owned());
    }
    if !(pull && resolve) {
        words.push(
            if pull {
                "by digest only"
            } else if resolve {
                "tags only"
            } else {
                "never asked"
            }
            .to_owned(),
        );
    }
    words.extend(connection(&mirror.connection));
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("samovar.toml");
        std::fs::write(&file, format!("store = 'memory:'\n{text}")).unwrap();
        Config::from_file(&file, &|_| None).unwrap()
    }

    #[test]
    fn nothing_is_shown_where_nothing_is_different() {
        let config = config("");
        assert_eq!(table(&config), None);
        assert_eq!(summary(&config), serde_json::json!({}));
        assert!(unverified(&config).is_empty());
    }

    #[test]
    fn settings_are_shown_without_secrets() {
        let config = config(
            r#"
            [hosts."r.example"]
            rps = 2
            scheme = "https"
            skip_verify = true
            proxy = "http://alice:sesame@proxy.example:3128"
            headers = { X-Gate = "sesame" }
            header_timeout = "1m"
            mirrors = ["https://m.example", { url = "http://10.0.0.5:5000/p", capabilities = ["pull"], skip_verify = true }]
            "#,
        );
        let table = table(&config).unwrap();
        let expected = "\
HOST       SETTINGS
r.example  2 requests a second
           https only
           TLS NOT VERIFIED
           proxy http://…@proxy.example:3128
           header x-gate: …
           header timeout 1m
           mirror https://m.example
           mirror http://10.0.0.5:5000/p, by digest only, TLS NOT VERIFIED";
        assert_eq!(table, expected);
        assert!(!format!("{} {config:?}", summary(&config)).contains("sesame"));
        assert_eq!(unverified(&config), ["10.0.0.5:5000", "r.example"]);
    }
}
