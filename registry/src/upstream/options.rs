//! How the client over HTTP behaves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::budget::{Limits, Terms};
use super::connection::ConnectionOptions;
use super::endpoint::Schemes;
use super::host::Scheme;
use super::listing::{HintSource, ListingChoice};
use super::mirror::MirrorOptions;
use super::policy::HostPolicy;
use super::presets;
use super::proxy::EnvironmentProxies;
use crate::canonical_host;

/// Where Docker Hub gives its own list of tags.
const DOCKER_HUB_LISTS: &str = "hub.docker.com";

/// How the client over HTTP behaves. The defaults suit a registry on the internet.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpOptions {
    /// For connecting, TLS included. 5 s.
    pub connect_timeout: Duration,
    /// From sending a request to the header of the answer, connecting included. 30 s.
    pub header_timeout: Duration,
    /// How long the body of an answer may bring nothing. 30 s.
    pub body_timeout: Duration,
    /// For one request from sending to the last byte; each redirect hop and each retry counts anew. 120 s.
    pub total_timeout: Duration,
    /// For one list of tags, over the time spent on its requests without waiting for the budget. 15 min.
    pub list_timeout: Duration,
    /// What may be asked of each host: 50 requests a second, bursts of 10, 10 at a time; less of well-known registries, see
    /// [`Limits::for_host`].
    pub limits: Limits,
    /// The part of a quota on requests, from 0 to 1, that is kept for those who asked. A tenth.
    pub quota_reserve: f64,
    /// What is different for single hosts, by canonical host (`docker.io`, `registry.example:5000`).
    pub hosts: BTreeMap<String, HostOptions>,
    /// What holds for the registries that `hosts` does not name.
    pub other_hosts: HostOptions,
    /// PEM files of certificate authorities that are trusted besides the system's, for all hosts.
    pub ca_files: Vec<PathBuf>,
    /// Through which proxies hosts are reached that do not say it themselves. None: the process's environment is for
    /// whoever makes these options to read.
    pub proxies: EnvironmentProxies,
    /// Which hosts may be asked at all. All of them.
    pub policy: HostPolicy,
    /// Hosts with which plain http and unverified TLS are allowed: `host:port` for that port, `host` for the ports
    /// 443 and 80 and for no other, since `host:443` is written `host` in canonical form. IPv6 in brackets.
    pub insecure_hosts: BTreeSet<String>,
    /// The `User-Agent`.
    pub user_agent: String,
    /// Makes the pauses between tries repeatable; random where absent.
    pub seed: Option<u64>,
}

/// What is different for one host. What is `None` or empty is as for all hosts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostOptions {
    /// What may be asked of it, whatever is known of it.
    pub limits: Option<Limits>,
    /// The part of a quota that is kept for those who asked.
    pub quota_reserve: Option<f64>,
    /// Further hosts (written as in [`HttpOptions::insecure_hosts`]) whose token service may be sent the registry's
    /// credentials; they may stand at private addresses.
    pub token_hosts: BTreeSet<String>,
    /// How to connect to it.
    pub connection: ConnectionOptions,
    /// Its mirrors, in the order in which they are asked. They are never sent the registry's credentials.
    pub mirrors: Vec<MirrorOptions>,
    /// What is asked in place of the registry itself, after the mirrors and under the same conditions as they.
    pub server: Option<MirrorOptions>,
    /// Whether one anonymous token is good for all its public repositories. `None`: as is known of it; so it is of
    /// `ghcr.io`.
    pub shared_anonymous_token: Option<bool>,
    /// Which list of tags it is asked for, besides that of the distribution protocol.
    pub listing: ListingChoice,
    /// The host, canonical, that gives Docker Hub's own list of tags in place of `hub.docker.com`.
    pub own_list_host: Option<String>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            total_timeout: Duration::from_mins(2),
            list_timeout: Duration::from_mins(15),
            limits: Limits::default(),
            quota_reserve: 0.1,
            hosts: BTreeMap::new(),
            other_hosts: HostOptions::default(),
            ca_files: Vec::new(),
            proxies: EnvironmentProxies::default(),
            policy: HostPolicy::default(),
            insecure_hosts: BTreeSet::new(),
            user_agent: concat!("samovar/", env!("CARGO_PKG_VERSION")).to_owned(),
            seed: None,
        }
    }
}

/// Hosts whose anonymous tokens open all that is public, whatever repository they were asked for: observed by those who
/// watch many images there (issue 2262 of Watchtower).
const SHARING_ANONYMOUS_TOKENS: [&str; 1] = ["ghcr.io"];

impl HttpOptions {
    /// Whether one anonymous token is good for all public repositories of a canonical host.
    pub(super) fn shares_anonymous_tokens(&self, host: &str) -> bool {
        let configured = self.hosts.get(host).and_then(|host| host.shared_anonymous_token);
        configured.unwrap_or_else(|| SHARING_ANONYMOUS_TOKENS.contains(&host))
    }

    /// What the budget of a canonical host is made from.
    pub(super) fn terms_of(&self, host: &str) -> Terms {
        let own = self.host(host);
        Terms {
            limits: own.limits.unwrap_or_else(|| self.limits.for_host(host)),
            counting: presets::counting(host),
            quota_reserve: own.quota_reserve.unwrap_or(self.quota_reserve),
        }
    }

    /// The host beside a canonical one that gives its own list of tags.
    pub(super) fn own_list_host(&self, host: &str) -> Option<&str> {
        let is_elsewhere = self.host(host).listing.source(host) == Some(HintSource::DockerHub);
        let named = || self.host(host).own_list_host.as_deref();
        is_elsewhere.then(|| named().unwrap_or(DOCKER_HUB_LISTS))
    }

    /// What is different for the registry at a canonical host.
    pub(super) fn host(&self, host: &str) -> &HostOptions {
        self.hosts.get(host).unwrap_or(&self.other_hosts)
    }

    /// What is different for the host of a URL, if it has settings of its own.
    pub(super) fn host_of_url(&self, url: &Url) -> Option<&HostOptions> {
        let (host, port) = (url.host_str()?, url.port_or_known_default()?);
        self.hosts.get(&canonical_host(&format!("{host}:{port}")).ok()?)
    }

    /// The schemes that are spoken to a host and port whose settings do not say it.
    pub(super) fn schemes_of(&self, authority: &str) -> Schemes {
        let is_insecure = Url::parse(&format!("https://{authority}")).is_ok_and(|url| self.is_insecure(&url));
        if is_insecure { Schemes::HttpsThenHttp } else { Schemes::Only(Scheme::Https) }
    }

    /// Everything that is asked in place of a registry.
    pub(super) fn all_mirrors(&self) -> impl Iterator<Item = &MirrorOptions> {
        let hosts = self.hosts.values().chain([&self.other_hosts]);
        hosts.flat_map(|host| host.mirrors.iter().chain(&host.server))
    }

    /// Whether plain http is allowed with the host of this URL: it is named insecure, or its own settings or the URL of a
    /// mirror say so.
    pub(super) fn allows_plain_http(&self, url: &Url) -> bool {
        self.is_insecure(url)
            || self.host_of_url(url).is_some_and(|host| host.connection.scheme == Some(Scheme::Http))
            || self.all_mirrors().any(|mirror| mirror.url.is_origin_of(url))
    }

    /// Whether the host of this URL is named insecure.
    pub(super) fn is_insecure(&self, url: &Url) -> bool {
        names_host_of(&self.insecure_hosts, url)
    }

    /// Whether the configuration lets credentials of this registry go to the host of this URL.
    pub(super) fn is_token_host(&self, registry: &str, url: &Url) -> bool {
        self.hosts.get(registry).is_some_and(|host| names_host_of(&host.token_hosts, url))
    }
}

/// Whether the set names the URL's host with its port, or alone if the port is one of the two usual ones.
fn names_host_of(hosts: &BTreeSet<String>, url: &Url) -> bool {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return false;
    };
    let with_port = format!("{host}:{port}");
    let is_usual = matches!(port, 443 | 80);
    hosts
        .iter()
        .any(|named| named.eq_ignore_ascii_case(&with_port) || is_usual && named.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_insecure_for_the_usual_ports_or_for_the_one_named() {
        let insecure = |host: &str, url: &str| {
            let options =
                HttpOptions { insecure_hosts: BTreeSet::from([host.to_owned()]), ..Default::default() };
            options.is_insecure(&Url::parse(url).unwrap())
        };
        assert!(insecure("Registry.local", "http://registry.local/"));
        assert!(insecure("registry.local", "https://registry.local/"));
        assert!(insecure("registry.local:5000", "http://registry.local:5000/"));
        assert!(insecure("registry.local:443", "https://registry.local/"));
        assert!(insecure("[::1]", "https://[::1]/"));
        assert!(insecure("[::1]:5000", "http://[::1]:5000/"));
        assert!(!insecure("registry.local", "http://registry.local:5000/"));
        assert!(!insecure("registry.local:443", "http://registry.local/"));
        assert!(!insecure("[::1]", "http://[::1]:5000/"));
        assert!(!insecure("registry.local:5000", "http://registry.local:5001/"));
        assert!(!insecure("local", "http://registry.local:5000/"));
        assert!(!insecure("", "http://registry.local/"));
    }

    #[test]
    fn limits_of_a_host_win_over_those_of_all() {
        let slow = Limits { rate: 1.0, burst: 1, concurrency: 1 };
        let options = HttpOptions {
            hosts: BTreeMap::from([(
                "docker.io".to_owned(),
                HostOptions { limits: Some(slow), ..Default::default() },
            )]),
            ..Default::default()
        };
        assert_eq!(options.terms_of("docker.io").limits, slow);
        assert_eq!(options.terms_of("quay.io").limits, Limits::default().for_host("quay.io"));
        assert_eq!(options.terms_of("registry.example").limits, Limits::default());
    }
}
