//! Proxies: which requests go through one, and through which.
//!
//! A proxy resolves names itself: of what goes through one, only addresses that stand in a URL can be checked.

use std::fmt;
use std::str::FromStr;

use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use super::auth::without_userinfo;
use crate::Secret;

/// How to get to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyChoice {
    /// Directly, whatever the environment says.
    Direct,
    /// Through this one, whatever the environment says.
    Through(ProxyUrl),
}

/// `none`, or a proxy's URL.
impl FromStr for ProxyChoice {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<Self, ProxyUrlError> {
        if text == "none" { Ok(Self::Direct) } else { text.parse().map(Self::Through) }
    }
}

impl fmt::Display for ProxyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("none"),
            Self::Through(proxy) => proxy.fmt(f),
        }
    }
}

/// Where a proxy is, with the user and password that it wants; these are never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ProxyUrl {
    whole: Secret,
    shown: Box<str>,
    host: Box<str>,
}

/// Not the URL of a proxy. Does not quote it: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyUrlError {
    /// No URL at all.
    #[error("not a URL such as http://proxy.example:3128")]
    NotAUrl,
    /// A scheme that is not spoken.
    #[error("a proxy is spoken to by http:// or https://")]
    Scheme,
    /// More than a place.
    #[error("the URL of a proxy ends with its port")]
    Path,
}

impl ProxyUrl {
    /// Its host, without the port.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// What the HTTP client is told.
    pub(super) fn to_proxy(&self) -> Result<reqwest::Proxy, reqwest::Error> {
        reqwest::Proxy::all(self.whole.reveal())
    }
}

/// Without a scheme, http is meant, as everywhere.
impl FromStr for ProxyUrl {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<Self, ProxyUrlError> {
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let mut url = Url::parse(&with_scheme).map_err(|_| ProxyUrlError::NotAUrl)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ProxyUrlError::Scheme);
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(ProxyUrlError::Path);
        }
        let host = url.host_str().ok_or(ProxyUrlError::NotAUrl)?.into();
        let whole = Secret::new(url.as_str());
        let has_login = !url.username().is_empty() || url.password().is_some();
        without_userinfo(&mut url);
        let place = url.as_str().trim_end_matches('/');
        let shown = match place.split_once("://") {
            Some((scheme, rest)) if has_login => format!("{scheme}://…@{rest}"),
            _ => place.to_owned(),
        };
        Ok(Self { whole, shown: shown.into(), host })
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.shown, f)
    }
}

/// The proxies that the environment names for all hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvironmentProxies {
    /// For plain http: `HTTP_PROXY`.
    pub http: Option<ProxyUrl>,
    /// For https: `HTTPS_PROXY`.
    pub https: Option<ProxyUrl>,
    /// Which hosts are reached directly, in the form of `NO_PROXY`: separated by commas, `*`, domains that stand for
    /// what is below them too, addresses and their ranges.
    pub no_proxy: String,
}

/// Decides for each URL.
#[derive(Debug)]
pub(super) struct Proxies {
    environment: EnvironmentProxies,
    /// Intercepts what `no_proxy` does not name.
    not_excepted: Matcher,
}

impl Proxies {
    pub(super) fn new(environment: EnvironmentProxies) -> Self {
        let matcher = Matcher::builder().all("http://any.invalid").no(environment.no_proxy.clone()).build();
        Self { environment, not_excepted: matcher }
    }

    /// The proxy through which a URL is asked: the one that its host's own settings name, else the environment's. Hosts
    /// named insecure are near ones, and plain http would show everything to a proxy: for them the environment does not
    /// count.
    pub(super) fn of<'a>(
        &'a self,
        url: &Url,
        choice: Option<&'a ProxyChoice>,
        is_insecure: bool,
    ) -> Option<&'a ProxyUrl> {
        match choice {
            Some(ProxyChoice::Direct) => None,
            Some(ProxyChoice::Through(proxy)) => Some(proxy),
            None if is_insecure => None,
            None => {
                let proxy = match url.scheme() {
                    "https" => self.environment.https.as_ref(),
                    _ => self.environment.http.as_ref(),
                }?;
                let uri: http::Uri = url.as_str().parse().ok()?;
                self.not_excepted.intercept(&uri).is_some().then_some(proxy)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_shows_where_it_is_and_not_who_we_are() {
        for (text, shown) in [
            ("http://proxy.example:3128", "http://proxy.example:3128"),
            ("proxy.example:3128/", "http://proxy.example:3128"),
            ("https://alice:open%20sesame@proxy.example", "https://…@proxy.example"),
            ("http://sesame@[fd00::1]:3128", "http://…@[fd00::1]:3128"),
        ] {
            let proxy: ProxyUrl = text.parse().unwrap();
            assert_eq!(proxy.to_string(), shown, "{text}");
            assert!(!format!("{proxy:?} {:?}", ProxyChoice::Through(proxy.clone())).contains("sesame"));
            proxy.to_proxy().unwrap();
        }
        assert_eq!("none".parse(), Ok(ProxyChoice::Direct));
        for (text, error) in [
            ("", ProxyUrlError::NotAUrl),
            ("http://", ProxyUrlError::NotAUrl),
            ("http://a b", ProxyUrlError::NotAUrl),
            ("ftp://proxy.example", ProxyUrlError::Scheme),
            ("socks5://proxy.example", ProxyUrlError::Scheme),
            ("http://proxy.example/path", ProxyUrlError::Path),
            ("http://proxy.example?x", ProxyUrlError::Path),
        ] {
            assert_eq!(text.parse::<ProxyChoice>(), Err(error), "{text}");
        }
    }

    #[test]
    fn which_proxy() {
        let environment = EnvironmentProxies {
            http: Some("http://plain.example:1".parse().unwrap()),
            https: Some("http://secure.example:2".parse().unwrap()),
            no_proxy: "corp.example, .dotted.example,10.0.0.0/8,::1,192.0.2.7".to_owned(),
        };
        let proxies = Proxies::new(environment);
        let of = |url: &str, choice: Option<&ProxyChoice>, is_insecure| {
            let proxy = proxies.of(&Url::parse(url).unwrap(), choice, is_insecure);
            proxy.map_or_else(|| "none".to_owned(), |proxy| proxy.host().to_owned())
        };
        for (url, expected) in [
            ("https://ghcr.io/v2/", "secure.example"),
            ("http://r.example/v2/", "plain.example"),
            ("https://r.corp.example:5000/", "none"),
            ("https://corp.example/", "none"),
            ("https://notcorp.example/", "secure.example"),
            ("https://a.dotted.example/", "none"),
            ("https://10.1.2.3/", "none"),
            ("https://192.0.2.7/", "none"),
            ("https://192.0.2.8/", "secure.example"),
            ("https://[::1]:5000/", "none"),
        ] {
            assert_eq!(of(url, None, false), expected, "{url}");
        }
        assert_eq!(of("https://ghcr.io/", None, true), "none");
        assert_eq!(of("https://ghcr.io/", Some(&ProxyChoice::Direct), false), "none");
        let own = "http://own.example".parse().unwrap();
        assert_eq!(of("https://corp.example/", Some(&own), false), "own.example");
        assert_eq!(of("http://corp.example/", Some(&own), true), "own.example");
    }

    #[test]
    fn no_proxies_unless_the_environment_names_them() {
        let proxies = Proxies::new(EnvironmentProxies { no_proxy: "*".to_owned(), ..Default::default() });
        assert!(proxies.of(&Url::parse("https://ghcr.io/").unwrap(), None, false).is_none());
        let https = Some("http://p.example".parse().unwrap());
        let all = EnvironmentProxies { https, no_proxy: "*".to_owned(), http: None };
        assert!(Proxies::new(all).of(&Url::parse("https://ghcr.io/").unwrap(), None, false).is_none());
    }
}
