//! For which repositories an entry is: the keys of docker's and Kubernetes' documents, and which of them fit a
//! repository, closest first.
//!
//! A key is a host or a URL, perhaps with the beginning of a path. Paths are compared component by component:
//! `quay.io/team` is for `quay.io/team/app` and not for `quay.io/teamwork/app`. A host may have wildcards as the kubelet
//! understands them: `*` within one part of the name, as many parts as the host has, and the same port.

use std::collections::HashMap;

use crate::{Glob, Name, canonical_host};

/// Longest key, in bytes: more than a name has, with a scheme before it.
const MAX_KEY_LENGTH: usize = 512;

/// What a key covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    host: Host,
    /// Empty for the whole host.
    path: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Exactly(String),
    Like { labels: Vec<Glob>, port: Option<String> },
}

/// How closely a scope fits a repository: by the longest path, then by a host without wildcards, then by the longest
/// pattern. The greater, the closer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fit {
    path_length: usize,
    is_exact: bool,
    pattern_length: usize,
}

impl Scope {
    /// Reads a key: a host, a host with a path, or a URL; `https://index.docker.io/v1/` is Docker Hub's usual one.
    pub(super) fn parse(key: &str) -> Option<Self> {
        if key.len() > MAX_KEY_LENGTH {
            return None;
        }
        let key = key.trim();
        let (scheme, rest) = key.split_once("://").map_or((None, key), |(scheme, rest)| (Some(scheme), rest));
        if scheme.is_some_and(|scheme| scheme != "https" && scheme != "http") {
            return None;
        }
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host =
            if host.contains('*') { host_pattern(host)? } else { Host::Exactly(canonical_host(host).ok()?) };
        let path = path.trim_matches('/');
        Some(Self { host, path: without_version(path, scheme.is_some()).to_owned() })
    }

    /// How closely it fits a repository, if it does.
    pub(super) fn fit(&self, name: &Name) -> Option<Fit> {
        if !is_path_prefix(&self.path, name.path()) {
            return None;
        }
        let path_length = self.path.len();
        match &self.host {
            Host::Exactly(host) => (host == name.host()).then_some(Fit {
                path_length,
                is_exact: true,
                pattern_length: host.len(),
            }),
            Host::Like { labels, port } => {
                let is_like = name.spellings().any(|spelling| {
                    let host = spelling.split('/').next().unwrap_or_default();
                    is_like(host, labels, port.as_deref())
                });
                let pattern_length = labels.iter().map(|label| label.as_str().len()).sum();
                is_like.then_some(Fit { path_length, is_exact: false, pattern_length })
            }
        }
    }

    /// The scope in canonical form, as a credential helper is asked for it; nothing for one with wildcards.
    pub(super) fn canonical(&self) -> Option<String> {
        match &self.host {
            Host::Exactly(host) if self.path.is_empty() => Some(host.clone()),
            Host::Exactly(host) => Some(format!("{host}/{}", self.path)),
            Host::Like { .. } => None,
        }
    }
}

fn host_pattern(host: &str) -> Option<Host> {
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port.parse::<u16>().ok().filter(|port| *port > 0)?)),
        None => (host, None),
    };
    let is_label = |label: &str| {
        let is_possible = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'*');
        !label.is_empty() && label.bytes().all(is_possible)
    };
    let label = |label: &str| Glob::new(&label.to_ascii_lowercase()).ok().filter(|_| is_label(label));
    let labels = name.split('.').map(label).collect::<Option<Vec<_>>>()?;
    // As in canonical names.
    let port = port.filter(|port| *port != 443).map(|port| port.to_string());
    Some(Host::Like { labels, port })
}

fn is_like(host: &str, labels: &[Glob], port: Option<&str>) -> bool {
    // The address in brackets has no parts.
    if host.starts_with('[') {
        return false;
    }
    let (name, host_port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    host_port == port
        && name.split('.').count() == labels.len()
        && name.split('.').zip(labels).all(|(part, label)| label.matches(part))
}

/// The version of the registry protocol, from the time when keys were the URLs of its root.
fn without_version(path: &str, is_url: bool) -> &str {
    match path.split_once('/') {
        None if matches!(path, "v1" | "v2") => "",
        Some(("v1" | "v2", rest)) if is_url => rest,
        _ => path,
    }
}

fn is_path_prefix(prefix: &str, path: &str) -> bool {
    prefix.is_empty()
        || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Things by the scope that they are for.
#[derive(Debug, Clone)]
pub(super) struct Scoped<T> {
    by_host: HashMap<String, Vec<(Scope, T)>>,
    /// Those whose host has wildcards.
    by_pattern: Vec<(Scope, T)>,
}

impl<T> Default for Scoped<T> {
    fn default() -> Self {
        Self { by_host: HashMap::new(), by_pattern: Vec::new() }
    }
}

impl<T> Scoped<T> {
    pub(super) fn insert(&mut self, scope: Scope, thing: T) {
        let of_host = match &scope.host {
            Host::Exactly(host) => self.by_host.entry(host.clone()).or_default(),
            Host::Like { .. } => &mut self.by_pattern,
        };
        of_host.push((scope, thing));
    }

    /// Everything, in no order that means anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.by_host.values().flatten().chain(&self.by_pattern).map(|(_, thing)| thing)
    }

    /// What fits a repository, closest first; what fits equally in the order in which it was inserted.
    pub(super) fn fitting(&self, name: &Name) -> Vec<(Fit, &T)> {
        let of_host = self.by_host.get(name.host()).into_iter().flatten();
        let candidates = of_host.chain(&self.by_pattern);
        let mut fitting: Vec<_> =
            candidates.filter_map(|(scope, thing)| Some((scope.fit(name)?, thing))).collect();
        fitting.sort_by_key(|(fit, _)| std::cmp::Reverse(*fit));
        fitting
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(key: &str, name: &str) -> bool {
        let scope = Scope::parse(key).unwrap_or_else(|| panic!("{key} is no key"));
        scope.fit(&name.parse().unwrap()).is_some()
    }

    #[test]
    fn keys_fit_by_host_port_and_path() {
        for (key, name, expected) in [
            ("quay.io", "quay.io/a/b", true),
            ("QUAY.io", "quay.io/a/b", true),
            ("quay.io", "quay.io:5000/a/b", false),
            ("quay.io:443", "quay.io/a/b", true),
            ("https://quay.io/", "quay.io/a/b", true),
            ("http://quay.io/v2/", "quay.io/a/b", true),
            ("https://quay.io/v2/team", "quay.io/team/b", true),
            ("https://quay.io/v2/team", "quay.io/a/b", false),
            ("quay.io/v2/team", "quay.io/team/b", false),
            ("quay.io/v2/team", "quay.io/v2/team/b", true),
            ("quay.io/team", "quay.io/team", true),
            ("quay.io/team/", "quay.io/team/app/sub", true),
            ("quay.io/team", "quay.io/teamwork/app", false),
            ("[0:0::1]:5000/a", "[::1]:5000/a/b", true),
            ("[::1]:5000", "[::1]:5001/a/b", false),
            ("docker.io/team", "index.docker.io/team/app", true),
            ("docker.io/team", "alpine", false),
            ("https://index.docker.io/v1/", "alpine", true),
            ("registry.hub.docker.com", "alpine", true),
            ("localhost", "localhost/a", true),
        ] {
            assert_eq!(fits(key, name), expected, "{key} for {name}");
        }
    }

    #[test]
    fn wildcards_stay_within_a_part_of_the_host() {
        for (key, name, expected) in [
            ("*.example.com", "a.example.com/x", true),
            ("*.example.com", "example.com/x", false),
            ("*.example.com", "a.b.example.com/x", false),
            ("*.*.example.com", "a.b.example.com/x", true),
            ("reg-*.Example.com", "reg-1.example.com/x", true),
            ("*-good.example.com", "so-good.example.com/x", true),
            ("a.*.com", "a.example.com/x", true),
            ("*.example.com:5000", "a.example.com:5000/x", true),
            ("*.example.com", "a.example.com:5000/x", false),
            ("*.example.com:5000", "a.example.com/x", false),
            ("https://*.example.com:443/v2/", "a.example.com/x", true),
            ("*.example.com/team", "a.example.com/team/x", true),
            ("*.example.com/team", "a.example.com/x", false),
            ("*.docker.io", "alpine", true),
            ("*.dkr.ecr.*.amazonaws.com", "1.dkr.ecr.eu-west-1.amazonaws.com/x", true),
            ("*", "[::1]:5000/x", false),
            ("*:5000", "registry:5000/x", true),
        ] {
            assert_eq!(fits(key, name), expected, "{key} for {name}");
        }
    }

    #[test]
    fn what_is_no_key() {
        for key in [
            "",
            "https://",
            "nodot",
            "ftp://a.example",
            "a b.example",
            "a.example:0",
            "user@a.example",
            "*.a?.example",
            "*..example",
            "*.example:0",
            "*.example:x",
            "[::1",
            "a.example:5000:1",
        ] {
            assert_eq!(Scope::parse(key), None, "{key}");
        }
        assert_eq!(Scope::parse(&format!("a.example/{}", "a".repeat(MAX_KEY_LENGTH))), None);
    }

    #[test]
    fn the_closest_comes_first() {
        let mut scoped = Scoped::default();
        for key in [
            "*.io",
            "quay.io",
            "quay.*",
            "quay.io/team",
            "https://quay.io",
            "quay.io/team/app",
            "*.io/team",
            "ghcr.io",
        ] {
            scoped.insert(Scope::parse(key).unwrap(), key);
        }
        let order = |name: &str| {
            let fitting = scoped.fitting(&name.parse().unwrap());
            fitting.into_iter().map(|(_, key)| *key).collect::<Vec<_>>()
        };
        let expected =
            ["quay.io/team/app", "quay.io/team", "*.io/team", "quay.io", "https://quay.io", "quay.*", "*.io"];
        assert_eq!(order("quay.io/team/app"), expected);
        assert_eq!(order("quay.io/other"), ["quay.io", "https://quay.io", "quay.*", "*.io"]);
        assert_eq!(order("gcr.io/other"), ["*.io"]);
        assert!(order("registry.example.com/a").is_empty());
    }

    proptest! {
        #[test]
        fn reading_never_panics(key in "(https?://)?[a-z0-9.:*\\[\\]/@é-]{0,40}") {
            if let Some(scope) = Scope::parse(&key) {
                let _ = scope.fit(&"quay.io/team/app".parse().unwrap());
            }
        }

        #[test]
        fn the_name_itself_and_its_beginnings_fit(host in "[a-z]{1,8}\\.[a-z]{1,8}(:[1-9][0-9]{3})?", path in "[a-z]{1,6}(/[a-z]{1,6}){0,4}") {
            let name: Name = format!("{host}/{path}").parse().unwrap();
            let mut last = None;
            for end in path.match_indices('/').map(|(at, _)| at).chain([path.len()]) {
                let fit = Scope::parse(&format!("https://{host}/{}", &path[..end]));
                // A path that begins with the version of the protocol is taken for one.
                prop_assume!(!path.starts_with("v1") && !path.starts_with("v2"));
                let fit = fit.unwrap().fit(&name);
                prop_assert!(fit > last, "longer paths fit more closely");
                last = fit;
            }
        }
    }
}
