//! Which token services may be sent a registry's credentials.
//!
//! Inside the boundary are: the registry's own origin; over https, the same registrable domain by the public
//! suffix list; the built-in pairs below; and what the configuration names. Over plain http a secret goes only
//! to hosts named insecure, wherever they stand.

use url::{Host, Url};

use super::HttpOptions;

/// Registries (the host itself and its subdomains) whose token service stands under another domain, or would if they were
/// reached by another host; each as its own challenges name it. The other well-known ones send us to themselves (Quay, GHCR,
/// `registry.redhat.io`, `dhi.io`, `icr.io`, Azure, Google, Codeberg, Chainguard) or to a neighbour under their domain
/// (`DigitalOcean`, Elastic, Alibaba Cloud).
const WELL_KNOWN: [(&str, &str); 5] = [
    // Docker Hub is reached by several hosts.
    ("docker.io", "auth.docker.io"),
    ("registry.gitlab.com", "gitlab.com"),
    // Named to those whose token has run out; to newcomers it names itself.
    ("nvcr.io", "authn.nvidia.com"),
    ("registry.connect.redhat.com", "sso.redhat.com"),
    // https://api.scaleway.com/registry-internal/v1/regions/REGION/tokens
    ("scw.cloud", "api.scaleway.com"),
];

/// A secret would have gone to a host outside the registry's trust boundary.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{registry} sends its logins to {realm}, which {reason}")]
pub(super) struct OutsideBoundary {
    registry: String,
    realm: String,
    reason: &'static str,
}

/// Whether anything at all may be asked of `realm`: not over plain http if `registry` itself was reached over TLS.
pub(super) fn check_scheme(registry: &str, origin: &Url, realm: &Url) -> Result<(), OutsideBoundary> {
    if realm.scheme() == "https" || origin.scheme() == "http" {
        return Ok(());
    }
    let realm = realm.origin().ascii_serialization();
    let reason = "is plain http, which a registry that is reached over TLS may not send us to";
    Err(OutsideBoundary { registry: registry.to_owned(), realm, reason })
}

/// Whether credentials for `registry` (its canonical host), which is reached at `origin`, may be sent to `realm`.
pub(super) fn check(
    registry: &str,
    origin: &Url,
    realm: &Url,
    options: &HttpOptions,
) -> Result<(), OutsideBoundary> {
    check_scheme(registry, origin, realm)?;
    let outside = |reason| {
        let realm = realm.origin().ascii_serialization();
        Err(OutsideBoundary { registry: registry.to_owned(), realm, reason })
    };
    if realm.scheme() != "https" && !options.allows_plain_http(realm) {
        return outside("is plain http and not named insecure: the credentials are not sent there");
    }
    let trusted = realm.origin() == origin.origin()
        || options.is_token_host(registry, realm)
        || realm.scheme() == "https"
            && (same_registrable_domain(origin, realm) || is_well_known(registry, realm));
    if !trusted {
        return outside(
            "is not known to belong to it: the credentials are not sent there unless token_hosts allows it",
        );
    }
    Ok(())
}

/// Whether both hosts stand under one domain that somebody registered. False for addresses, for single-label
/// names, and under suffixes that the list does not know, where nobody can tell who owns what.
fn same_registrable_domain(one: &Url, other: &Url) -> bool {
    match (registrable_domain(one), registrable_domain(other)) {
        (Some(one), Some(other)) => one == other,
        _ => false,
    }
}

fn registrable_domain(url: &Url) -> Option<&str> {
    let Some(Host::Domain(host)) = url.host() else {
        return None;
    };
    let domain = psl::domain(host.as_bytes())?;
    if !domain.suffix().is_known() {
        return None;
    }
    str::from_utf8(domain.as_bytes()).ok()
}

fn is_well_known(registry: &str, realm: &Url) -> bool {
    WELL_KNOWN.iter().any(|&(known, token_host)| {
        let is_registry =
            registry.strip_suffix(known).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        is_registry && realm.host_str() == Some(token_host) && realm.port_or_known_default() == Some(443)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::HostOptions;
    use super::*;

    fn is_inside(registry: &str, origin: &str, realm: &str, options: &HttpOptions) -> bool {
        check(registry, &Url::parse(origin).unwrap(), &Url::parse(realm).unwrap(), options).is_ok()
    }

    #[test]
    fn the_boundary() {
        let options = HttpOptions::default();
        for (registry, origin, realm, expected) in [
            ("quay.io", "https://quay.io", "https://quay.io/v2/auth", true),
            ("docker.io", "https://registry-1.docker.io", "https://auth.docker.io/token", true),
            ("registry.gitlab.com", "https://registry.gitlab.com", "https://gitlab.com/jwt/auth", true),
            ("nvcr.io", "https://nvcr.io", "https://authn.nvidia.com/token", true),
            ("rg.fr-par.scw.cloud", "https://rg.fr-par.scw.cloud", "https://api.scaleway.com/t", true),
            (
                "registry.cn-shanghai.aliyuncs.com",
                "https://registry.cn-shanghai.aliyuncs.com",
                "https://dockerauth.cn-hangzhou.aliyuncs.com/auth",
                true,
            ),
            (
                "registry.redhat.io",
                "https://registry.redhat.io",
                "https://registry.redhat.io/auth/realms/rhcc/protocol/redhat-docker-v2/auth",
                true,
            ),
            (
                "registry.connect.redhat.com",
                "https://registry.connect.redhat.com",
                "https://sso.redhat.com/t",
                true,
            ),
            ("dhi.io", "https://dhi.io", "https://dhi.io/token", true),
            ("us.icr.io", "https://us.icr.io", "https://us.icr.io/oauth/token", true),
            (
                "registry.digitalocean.com",
                "https://registry.digitalocean.com",
                "https://api.digitalocean.com/v2/registry/auth",
                true,
            ),
            ("docker.elastic.co", "https://docker.elastic.co", "https://docker-auth.elastic.co/auth", true),
            ("a.example.co.uk:5000", "https://a.example.co.uk:5000", "https://b.example.co.uk/t", true),
            ("quay.io", "https://quay.io", "https://evil.example/token", false),
            ("quay.io", "https://quay.io", "http://quay.io/v2/auth", false),
            ("quay.io", "https://quay.io", "http://auth.quay.io/v2/auth", false),
            ("a.example.co.uk", "https://a.example.co.uk", "https://other.co.uk/t", false),
            ("me.github.io", "https://me.github.io", "https://evil.github.io/t", false),
            ("notnvcr.io", "https://notnvcr.io", "https://authn.nvidia.com/token", false),
            ("nvcr.io", "https://nvcr.io", "https://authn.nvidia.com:8443/token", false),
            ("nvcr.io", "https://nvcr.io", "https://authn.nvidia.com.evil.example/token", false),
            ("127.0.0.1:5000", "https://127.0.0.1:5000", "https://127.0.0.1:5001/t", false),
            ("10.0.0.1", "https://10.0.0.1", "https://11.0.0.1/t", false),
            ("registry:5000", "https://registry:5000", "https://auth/t", false),
            ("r.svc.cluster.local", "https://r.svc.cluster.local", "https://evil.svc.cluster.local/t", false),
        ] {
            assert_eq!(is_inside(registry, origin, realm, &options), expected, "{registry} {realm}");
        }
    }

    #[test]
    fn what_the_configuration_allows() {
        let names = |name: &str| BTreeSet::from([name.to_owned()]);
        let options = HttpOptions {
            hosts: BTreeMap::from([(
                "r.local:5000".to_owned(),
                HostOptions { token_hosts: names("auth.local"), ..Default::default() },
            )]),
            insecure_hosts: names("r.local:5000"),
            ..Default::default()
        };
        let origin = "http://r.local:5000";
        assert!(is_inside("r.local:5000", origin, "http://r.local:5000/token", &options));
        assert!(is_inside("r.local:5000", origin, "https://auth.local/token", &options));
        assert!(!is_inside("r.local:5000", origin, "http://auth.local/token", &options));
        assert!(!is_inside("r.local:5000", "https://r.local:5000", "http://r.local:5000/token", &options));
        assert!(!is_inside("other.local:5000", origin, "https://auth.local/token", &options));
    }

    #[test]
    fn the_message_names_both_hosts() {
        let url = |url: &str| Url::parse(url).unwrap();
        let error = check(
            "quay.io",
            &url("https://quay.io"),
            &url("https://evil.example/t?a=b"),
            &HttpOptions::default(),
        );
        let message = error.unwrap_err().to_string();
        assert!(
            message.starts_with("quay.io sends its logins to https://evil.example, which is not"),
            "{message}"
        );
        assert!(message.contains("token_hosts"));
    }
}
