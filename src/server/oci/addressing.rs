//! Which repository is meant: five ways to name the registry, none of which rules out another. Pure.
//!
//! In this order: what stands before `/v2/`; `?ns=`, as containerd and others send it to mirrors; the name by which the
//! client has asked for us (`Host`); the first component of the repository, a host or an alias; the default.
//!
//! Invariant: nobody gets the content of one registry for that of another. Where two of the first three disagree, there is
//! no such repository. Where they name the registry, a first component that names it again is left out; any other belongs
//! to the repository.

use samovar_registry::{Aliases, Name, canonical_host};

use crate::config::OciConfig;

/// What a client says of which registry it means, besides the repository.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hints<'a> {
    /// What stands before `/v2/`.
    pub before: Option<&'a str>,
    /// The parameter `ns`.
    pub namespace: Option<&'a str>,
    /// The `Host`.
    pub host: Option<&'a str>,
}

/// Why it is not known which repository is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unaddressed {
    /// A name that none can have.
    #[error("{0}")]
    Invalid(String),
    /// No registry is named, or two.
    #[error("{0}")]
    Unknown(String),
}

/// Finds out which registries and repositories are meant.
#[derive(Debug, Clone, Copy)]
pub struct Addressing<'a> {
    /// How clients are answered.
    pub config: &'a OciConfig,
    /// Stand for hosts.
    pub aliases: &'a Aliases,
}

impl Addressing<'_> {
    /// The repository that a client calls `asked`.
    pub fn repository(&self, asked: &str, hints: Hints<'_>) -> Result<Name, Unaddressed> {
        let named = self.registry(hints)?;
        let first = asked.split_once('/').and_then(|(first, rest)| Some((self.host(first)?, rest)));
        let (host, path) = match (named, first) {
            (Some(named), Some((first, rest))) if first == named => (named, rest),
            (Some(named), _) => (named, asked),
            (None, Some((first, rest))) => (first, rest),
            (None, None) => match &self.config.default_upstream {
                Some(host) => (host.clone(), asked),
                None => return Err(Self::without_registry(asked)),
            },
        };
        let name = format!("{host}/{path}");
        Name::parse(&name, &Aliases::default()).map_err(|error| Unaddressed::Invalid(error.to_string()))
    }

    /// The registry that is named besides the repository.
    pub fn registry(&self, hints: Hints<'_>) -> Result<Option<String>, Unaddressed> {
        let named = |what: &str, text: &str| {
            self.host(text).ok_or_else(|| {
                let shown: String = text.chars().take(SHOWN_CHARACTERS).collect();
                Unaddressed::Invalid(format!(
                    "{what} {shown:?} is neither the host of a registry nor an alias"
                ))
            })
        };
        let before = hints.before.map(|text| named("what stands before /v2/,", text)).transpose()?;
        let namespace = hints.namespace.map(|text| named("ns", text)).transpose()?;
        let virtual_host = hints.host.and_then(|host| self.config.virtual_host(host)).map(str::to_owned);
        let mut named = [before, namespace, virtual_host].into_iter().flatten();
        let first = named.next();
        if let Some(other) = named.find(|other| Some(other) != first.as_ref()) {
            let first = first.unwrap_or_default();
            return Err(Unaddressed::Unknown(format!(
                "the request names two registries, {first} and {other}"
            )));
        }
        Ok(first)
    }

    /// The canonical host that is meant, if it is one or an alias.
    fn host(&self, text: &str) -> Option<String> {
        self.aliases.host_of(text).map(str::to_owned).or_else(|| canonical_host(text).ok())
    }

    fn without_registry(asked: &str) -> Unaddressed {
        // A name that none can have is said to be just that.
        match Name::parse(&format!("localhost/{asked}"), &Aliases::default()) {
            Err(error) => Unaddressed::Invalid(error.to_string()),
            Ok(_) => Unaddressed::Unknown(
                "the name says no registry: it begins with the host of one, or with an alias".to_owned(),
            ),
        }
    }
}

/// Shown of what cannot be read.
const SHOWN_CHARACTERS: usize = 80;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use super::*;
    use crate::config::Layers;

    fn config(default_upstream: Option<&str>) -> OciConfig {
        let hosts = [
            ("docker-io.cache.svc", "docker.io"),
            ("cache:5001", "ghcr.io"),
            ("index.docker.io", "docker.io"),
        ];
        OciConfig {
            default_upstream: default_upstream.map(str::to_owned),
            virtual_hosts: hosts.map(|(host, registry)| (host.to_owned(), registry.to_owned())).into(),
            layers: Layers::NotFound,
            wait: Duration::ZERO,
            plain_http: BTreeSet::new(),
        }
    }

    fn repository(config: &OciConfig, asked: &str, hints: Hints<'_>) -> Result<String, Unaddressed> {
        let aliases = Aliases::parse(["up=127.0.0.1:5000"]).unwrap();
        let addressing = Addressing { config, aliases: &aliases };
        addressing.repository(asked, hints).map(|name| name.to_string())
    }

    fn by_path(asked: &str) -> Result<String, Unaddressed> {
        repository(&config(None), asked, Hints::default())
    }

    #[test]
    fn by_the_first_component() {
        for (asked, expected) in [
            ("docker.io/library/nginx", "docker.io/library/nginx"),
            ("docker.io/nginx", "docker.io/library/nginx"),
            ("registry-1.docker.io/nginx", "docker.io/library/nginx"),
            ("GHCR.io:443/org/app", "ghcr.io/org/app"),
            ("127.0.0.1:5000/team/app", "127.0.0.1:5000/team/app"),
            ("[::1]:5000/a", "[::1]:5000/a"),
            ("up/team/app", "127.0.0.1:5000/team/app"),
            ("localhost/a", "localhost/a"),
        ] {
            assert_eq!(by_path(asked).as_deref(), Ok(expected), "{asked}");
        }
        for unknown in ["nginx", "library/nginx", "up"] {
            assert!(matches!(by_path(unknown), Err(Unaddressed::Unknown(_))), "{unknown}");
        }
        for invalid in
            ["", "docker.io/", "docker.io/A", "a//b", "/a", "library/a:1", "ghcr.io/a@b", "docker.io//a"]
        {
            assert!(matches!(by_path(invalid), Err(Unaddressed::Invalid(_))), "{invalid}");
        }
    }

    #[test]
    fn by_the_default() {
        let config = config(Some("docker.io"));
        let by_default = |asked| repository(&config, asked, Hints::default());
        assert_eq!(by_default("nginx").as_deref(), Ok("docker.io/library/nginx"));
        assert_eq!(by_default("team/app").as_deref(), Ok("docker.io/team/app"));
        assert_eq!(by_default("ghcr.io/team/app").as_deref(), Ok("ghcr.io/team/app"));
    }

    #[test]
    fn by_the_namespace_that_a_mirror_is_asked_for() {
        let by_namespace = |namespace, asked| {
            repository(&config(None), asked, Hints { namespace: Some(namespace), ..Hints::default() })
        };
        for namespace in ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"] {
            assert_eq!(by_namespace(namespace, "library/nginx").as_deref(), Ok("docker.io/library/nginx"));
            assert_eq!(by_namespace(namespace, "nginx").as_deref(), Ok("docker.io/library/nginx"));
            // As regclient asks with a prefix for its paths.
            assert_eq!(
                by_namespace(namespace, "docker.io/library/nginx").as_deref(),
                Ok("docker.io/library/nginx")
            );
        }
        assert_eq!(by_namespace("up", "team/app").as_deref(), Ok("127.0.0.1:5000/team/app"));
        // A repository that is named like another registry is still one of this.
        assert_eq!(
            by_namespace("harbor.example", "quay.io/a/b").as_deref(),
            Ok("harbor.example/quay.io/a/b")
        );
        assert!(matches!(by_namespace("no host", "a"), Err(Unaddressed::Invalid(_))));
    }

    #[test]
    fn by_the_name_that_we_are_asked_under() {
        let by_host =
            |host, asked| repository(&config(None), asked, Hints { host: Some(host), ..Hints::default() });
        for host in
            ["docker-io.cache.svc", "Docker-IO.cache.svc:8080", "index.docker.io", "index.docker.io:443"]
        {
            assert_eq!(by_host(host, "library/nginx").as_deref(), Ok("docker.io/library/nginx"), "{host}");
        }
        assert_eq!(by_host("cache:5001", "org/app").as_deref(), Ok("ghcr.io/org/app"));
        for elsewhere in ["cache:5002", "cache", "127.0.0.1:8080", "", "bad host"] {
            assert!(by_host(elsewhere, "org/app").is_err(), "{elsewhere}");
        }
    }

    #[test]
    fn by_what_stands_before() {
        let before = |before, asked| {
            repository(&config(None), asked, Hints { before: Some(before), ..Hints::default() })
        };
        assert_eq!(before("docker.io", "nginx").as_deref(), Ok("docker.io/library/nginx"));
        assert_eq!(before("up", "team/app").as_deref(), Ok("127.0.0.1:5000/team/app"));
        assert!(matches!(before("nothing", "team/app"), Err(Unaddressed::Invalid(_))));
    }

    #[test]
    fn two_ways_that_agree_are_fine_and_two_that_do_not_are_no_repository() {
        let both = |before, namespace, host| {
            repository(&config(Some("quay.io")), "a/b", Hints { before, namespace, host })
        };
        let agreed = both(Some("docker.io"), Some("registry-1.docker.io"), Some("docker-io.cache.svc"));
        assert_eq!(agreed.as_deref(), Ok("docker.io/a/b"));
        for (before, namespace, host) in [
            (Some("docker.io"), Some("ghcr.io"), None),
            (None, Some("ghcr.io"), Some("docker-io.cache.svc")),
            (Some("ghcr.io"), None, Some("docker-io.cache.svc")),
            (Some("ghcr.io"), Some("ghcr.io"), Some("docker-io.cache.svc")),
        ] {
            assert!(matches!(both(before, namespace, host), Err(Unaddressed::Unknown(_))), "{before:?}");
        }
    }

    #[test]
    fn a_virtual_host_is_found_by_name_and_port() {
        let hosts = BTreeMap::from([
            ("cache".to_owned(), "docker.io".to_owned()),
            ("cache:2".to_owned(), "quay.io".to_owned()),
        ]);
        let config = OciConfig { virtual_hosts: hosts, ..config(None) };
        assert_eq!(config.virtual_host("cache:1"), Some("docker.io"));
        assert_eq!(config.virtual_host("CACHE:2"), Some("quay.io"));
        assert_eq!(config.virtual_host("other"), None);
    }
}
