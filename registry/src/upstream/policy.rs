//! Which upstream hosts may be asked at all, wherever their names come from.

use url::{Host, Url};

use super::addresses::embedded_v4;
use crate::name::{DOCKER_HUB, DOCKER_HUB_OLD_HOSTS};
use crate::{Globs, canonical_host};

/// Hosts that are asked only on behalf of a registry, and are allowed where it is.
const COMPANIONS: [(&str, &str); 1] = [("hub.docker.com", DOCKER_HUB)];

/// Which upstream hosts may be asked. `deny` wins; where `allow` is empty, everything else may be.
///
/// Globs are matched against canonical hosts (`docker.io`, `registry.example:5000`, `[::1]:5000`), for Docker Hub also
/// against its old names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostPolicy {
    /// The only registries that may be asked. Where they send us, such as a CDN, is not theirs to say.
    pub allow: Globs,
    /// Hosts that are never asked: as registries, as mirrors, or because somebody sends us there. A glob without a port
    /// denies all ports.
    pub deny: Globs,
}

impl HostPolicy {
    /// Whether the registry at this host may be asked.
    pub fn allows(&self, host: &str) -> bool {
        let companion = COMPANIONS.into_iter().find(|(companion, _)| *companion == host);
        let registry = companion.map(|(_, registry)| registry);
        let is_listed = |host| self.allow.is_empty() || matches_host(&self.allow, host);
        !self.denies(host) && (is_listed(host) || registry.is_some_and(is_listed))
    }

    /// Whether this host is never asked, whoever sends us there.
    pub fn denies(&self, host: &str) -> bool {
        if self.deny.is_empty() {
            return false;
        }
        matches_host(&self.deny, host)
            || without_port(host).is_some_and(|portless| matches_host(&self.deny, portless))
    }

    /// The same for the host of a URL, however it is spelt: with a dot at its end, or as an IPv6 address that leads to an
    /// IPv4 address. Where some hosts are denied, so is one that has no canonical form to compare.
    pub(super) fn denies_url(&self, url: &Url) -> bool {
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return true;
        };
        if self.deny.is_empty() {
            return false;
        }
        let (name, embedded) = match host {
            Host::Domain(name) => (name.strip_suffix('.').unwrap_or(name).to_owned(), None),
            Host::Ipv4(address) => (address.to_string(), None),
            Host::Ipv6(address) => (format!("[{address}]"), Some(embedded_v4(address))),
        };
        let name = format!("{name}:{port}");
        let mut embedded = embedded.into_iter().flatten().map(|address| format!("{address}:{port}"));
        canonical_host(&name).is_err() || self.denies(&name) || embedded.any(|address| self.denies(&address))
    }
}

/// Whether a glob matches the host as it is written or in its canonical form, or, for Docker Hub, an old one.
fn matches_host(globs: &Globs, host: &str) -> bool {
    if globs.matches(host) {
        return true;
    }
    let Ok(canonical) = canonical_host(host) else {
        return false;
    };
    let old_names: &[&str] = if canonical == DOCKER_HUB { &DOCKER_HUB_OLD_HOSTS } else { &[] };
    globs.matches(&canonical) || old_names.iter().any(|host| globs.matches(host))
}

fn without_port(host: &str) -> Option<&str> {
    let (name, port) = host.rsplit_once(':')?;
    (!port.contains(']')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Glob;

    fn policy(allow: &[&str], deny: &[&str]) -> HostPolicy {
        let globs = |globs: &[&str]| globs.iter().map(|glob| Glob::new(glob).unwrap()).collect();
        HostPolicy { allow: globs(allow), deny: globs(deny) }
    }

    #[test]
    fn everything_is_allowed_unless_said_otherwise() {
        let policy = HostPolicy::default();
        assert!(policy.allows("docker.io") && policy.allows("[::1]:5000"));
        assert!(!policy.denies("docker.io"));
    }

    #[test]
    fn only_what_is_allowed() {
        let policy = policy(&["registry-1.docker.io", "*.corp.example", "r.example:5000"], &[]);
        for (host, expected) in [
            ("docker.io", true),
            ("hub.docker.com", true),
            ("a.corp.example", true),
            ("corp.example", false),
            ("r.example:5000", true),
            ("r.example", false),
            ("a.corp.example:5000", false),
            ("ghcr.io", false),
        ] {
            assert_eq!(policy.allows(host), expected, "{host}");
        }
    }

    #[test]
    fn what_is_denied_is_denied_at_every_port_and_under_every_name() {
        let policy = policy(&["*"], &["*.internal", "10.*", "index.docker.io", "r.example:5000", "[::1]"]);
        for (host, expected) in [
            ("vault.internal", true),
            ("vault.internal:8200", true),
            ("VAULT.internal", true),
            ("10.0.0.1:80", true),
            ("docker.io", true),
            ("registry-1.docker.io:443", true),
            ("r.example:5000", true),
            ("r.example", false),
            ("r.example:5001", false),
            ("[::1]:5000", true),
            ("[::2]:5000", false),
            ("internal.example", false),
        ] {
            assert_eq!(policy.denies(host), expected, "{host}");
            assert_eq!(policy.allows(host), !expected, "{host}");
        }
        assert!(!policy.denies("hub.docker.com"), "its own name counts");
        let denies = |url: &str| policy.denies_url(&Url::parse(url).unwrap());
        assert!(denies("https://vault.internal/x") && denies("http://10.0.0.1/x") && denies("http://[::1]/"));
        assert!(denies("http://r.example:5000/x") && !denies("https://r.example/x"));
        assert!(denies("https://registry-1.docker.io/v2/"));
        assert!(denies("data:,x"));
        for evasion in [
            "https://vault.internal./x",
            "https://vault.internal.:8200/x",
            "http://r.example.:5000/x",
            "http://[::ffff:10.0.0.1]/x",
            "http://[::ffff:a00:1]:8080/x",
            "http://[64:ff9b::10.0.0.1]/x",
            "https://vault.internal../x",
            "https://a_b.example/x",
        ] {
            assert!(denies(evasion), "{evasion}");
        }
        for other in ["https://r.example./x", "http://[::ffff:11.0.0.1]/x", "https://internal.example./"] {
            assert!(!denies(other), "{other}");
        }
        let nobody = HostPolicy::default();
        assert!(!nobody.denies_url(&Url::parse("https://a_b.example./x").unwrap()));
    }
}
