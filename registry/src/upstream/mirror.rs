//! Mirrors of a registry: where they are and what they are good for.

use std::fmt;
use std::str::FromStr;

use url::Url;

use super::connection::ConnectionOptions;
use super::host::Scheme;
use crate::canonical_host;

/// A mirror of a registry.
#[derive(Debug, Clone, PartialEq)]
pub struct MirrorOptions {
    /// Where it is.
    pub url: MirrorUrl,
    /// What it is asked for.
    pub capabilities: Capabilities,
    /// Whether the distribution API begins right at the URL's path, without `/v2` behind it.
    pub override_path: bool,
    /// How to connect to it, over what is configured for its own host.
    pub connection: ConnectionOptions,
}

/// What a mirror is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Documents by their digest, which are checked: it does not matter who serves them.
    pub pull: bool,
    /// Lists of tags, and what a tag points at: as new and as true as the mirror is.
    pub resolve: bool,
}

impl Capabilities {
    /// Everything, which is what is meant where nothing is said.
    pub const ALL: Self = Self { pull: true, resolve: true };
    /// Nothing.
    pub const NONE: Self = Self { pull: false, resolve: false };
}

/// Scheme, host, port and path of a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorUrl {
    url: Url,
    host: String,
}

/// Not a mirror's URL. Does not quote it: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a mirror's URL such as https://mirror.example:5000/prefix: {0}")]
pub struct MirrorUrlError(String);

impl MirrorUrl {
    /// The canonical host, whose budget, login and settings these are.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn scheme(&self) -> Scheme {
        if self.url.scheme() == "https" { Scheme::Https } else { Scheme::Http }
    }

    /// Host and port as they stand in URLs.
    pub(super) fn authority(&self) -> &str {
        self.url.authority()
    }

    /// Where the distribution API begins, without a slash at the end.
    pub(super) fn api(&self, override_path: bool) -> String {
        let path = self.url.path().trim_end_matches('/');
        if override_path || path.ends_with("/v2") { path.to_owned() } else { format!("{path}/v2") }
    }

    /// Whether `url` is of the same origin.
    pub(super) fn is_origin_of(&self, url: &Url) -> bool {
        self.url.origin() == url.origin()
    }
}

impl FromStr for MirrorUrl {
    type Err = MirrorUrlError;

    fn from_str(text: &str) -> Result<Self, MirrorUrlError> {
        let refused = |reason: &str| Err(MirrorUrlError(reason.to_owned()));
        let url = Url::parse(text).map_err(|error| MirrorUrlError(error.to_string()))?;
        if !matches!(url.scheme(), "https" | "http") {
            return refused("a mirror is spoken to by https:// or http://");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refused("user and password do not belong into it, but to the credentials of its host");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return refused("it ends with its path");
        }
        let port = url.port_or_known_default().unwrap_or_default();
        let host = canonical_host(&format!("{}:{port}", url.host_str().unwrap_or_default()));
        let host = host.map_err(|error| MirrorUrlError(error.to_string()))?;
        Ok(Self { url, host })
    }
}

impl fmt::Display for MirrorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_mirror_is() {
        for (text, host, api, overridden) in [
            ("https://mirror.example", "mirror.example", "/v2", ""),
            ("https://Mirror.example:443/", "mirror.example", "/v2", ""),
            ("http://10.0.0.5:5000/prefix", "10.0.0.5:5000", "/prefix/v2", "/prefix"),
            ("http://mirror.example/v2/proxy/", "mirror.example:80", "/v2/proxy/v2", "/v2/proxy"),
            ("https://mirror.example/a/v2", "mirror.example", "/a/v2", "/a/v2"),
            ("https://[::1]:5000", "[::1]:5000", "/v2", ""),
            ("http://localhost:5000", "localhost:5000", "/v2", ""),
        ] {
            let url: MirrorUrl = text.parse().unwrap();
            assert_eq!(url.host(), host, "{text}");
            assert_eq!((url.api(false), url.api(true)), (api.to_owned(), overridden.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_mirror_is_not_quoted() {
        for text in [
            "mirror.example",
            "ftp://mirror.example",
            "https://alice:sesame@mirror.example",
            "https://mirror.example?sesame",
            "https://",
            "",
        ] {
            let error = text.parse::<MirrorUrl>().unwrap_err().to_string();
            assert!(!error.contains("sesame"), "{error}");
        }
    }
}
