//! One place where a registry's repositories can be asked for: the registry itself, or a mirror of it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use url::Url;

use super::connection::{ConnectionOptions, TlsOptions};
use super::host::{Host, Scheme};
use super::mirror::MirrorOptions;
use super::proxy::ProxyChoice;
use super::{ErrorKind, HttpOptions, trust};
use crate::Name;

/// Where the distribution protocol's paths begin.
const API: &str = "/v2";

/// How one host is connected to, with everything said.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) tls: TlsOptions,
    pub(super) proxy: Option<ProxyChoice>,
    pub(super) headers: HeaderMap,
    pub(super) timeouts: Timeouts,
}

/// How long the parts of a request may take; see [`HttpOptions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timeouts {
    pub(super) connect: Duration,
    pub(super) header: Duration,
    pub(super) body: Duration,
    pub(super) total: Duration,
    pub(super) list: Duration,
}

/// Which schemes are spoken to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Schemes {
    Only(Scheme),
    /// https, and plain http where nobody speaks that: of hosts named insecure.
    HttpsThenHttp,
}

/// Where a repository's requests go, and how.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Whose budget and login these are.
    pub(super) host: Arc<Host>,
    pub(super) schemes: Schemes,
    pub(super) connection: Connection,
    /// Host and port as they stand in URLs.
    authority: String,
    /// What comes before the repository in the path.
    prefix: String,
    /// The registry that a mirror shall answer for, where it is not the one that is asked.
    namespace: Option<String>,
    /// Whether the configuration names it, rather than an image.
    pub(super) is_mirror: bool,
}

impl Connection {
    pub(super) fn new(own: &ConnectionOptions, options: &HttpOptions) -> Self {
        let mut tls = own.tls.clone();
        tls.ca_files.extend(options.ca_files.iter().cloned());
        let timeouts = Timeouts {
            connect: own.timeouts.connect.unwrap_or(options.connect_timeout),
            header: own.timeouts.header.unwrap_or(options.header_timeout),
            body: own.timeouts.body.unwrap_or(options.body_timeout),
            total: own.timeouts.total.unwrap_or(options.total_timeout),
            list: own.timeouts.list.unwrap_or(options.list_timeout),
        };
        Self { tls, proxy: own.proxy.clone(), headers: own.headers.clone(), timeouts }
    }

    /// How to connect to a host that somebody sends us to: as its own settings say, where it has some, but without its
    /// headers and the client's certificate, which are for those who mean it: what they open would be taken for the
    /// sender's.
    pub(super) fn of_url(url: &Url, options: &HttpOptions) -> Self {
        let mut connection = Self::of_realm(url, options);
        connection.tls.client_certificate = None;
        connection
    }

    /// The same for a token service that may be sent the registry's credentials, and may know us by a certificate.
    pub(super) fn of_realm(url: &Url, options: &HttpOptions) -> Self {
        let own = options.host_of_url(url).map(|host| &host.connection);
        let own = own.map_or_else(ConnectionOptions::default, |own| ConnectionOptions {
            headers: HeaderMap::new(),
            ..own.clone()
        });
        Self::new(&own, options)
    }
}

impl Endpoint {
    /// The registry itself.
    pub(super) fn of_registry(host: Arc<Host>, options: &HttpOptions) -> Self {
        let own = &options.host(&host.name).connection;
        let authority = Name::registry_host_of(&host.name).to_owned();
        Self {
            schemes: own.scheme.map_or_else(|| options.schemes_of(&authority), Schemes::Only),
            connection: Connection::new(own, options),
            authority,
            prefix: API.to_owned(),
            namespace: None,
            is_mirror: false,
            host,
        }
    }

    /// A mirror of the registry at a canonical host.
    pub(super) fn of_mirror(
        host: Arc<Host>,
        mirror: &MirrorOptions,
        registry: &str,
        options: &HttpOptions,
    ) -> Self {
        let below = options.hosts.get(mirror.url.host()).map(|host| &host.connection);
        let own = below.map_or_else(|| mirror.connection.clone(), |below| mirror.connection.over(below));
        Self {
            schemes: Schemes::Only(mirror.url.scheme()),
            connection: Connection::new(&own, options),
            authority: mirror.url.authority().to_owned(),
            prefix: mirror.url.api(mirror.override_path),
            namespace: (mirror.url.host() != registry).then(|| registry.to_owned()),
            is_mirror: true,
            host,
        }
    }

    /// The URL of what is at `path` in the API of the repository, or from the root if it begins with a slash.
    pub(super) fn url(
        &self,
        scheme: Scheme,
        repository: &str,
        path: &str,
        query: Option<&str>,
    ) -> Result<Url, ErrorKind> {
        let Self { authority, prefix, .. } = self;
        let scheme = scheme.as_str();
        let url = if path.starts_with('/') {
            format!("{scheme}://{authority}{path}")
        } else {
            format!("{scheme}://{authority}{prefix}/{repository}/{path}")
        };
        let mut url = Url::parse(&url).map_err(|error| ErrorKind::Refused {
            message: format!("{authority} is not a host that can be connected to: {error}"),
        })?;
        url.set_query(query);
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }

    /// The path, from the root, of what is in the API and belongs to no repository.
    pub(super) fn api_path(&self, path: &str) -> String {
        format!("{}/{path}", self.prefix)
    }

    /// Whether this URL is of this very place, in whatever scheme it speaks.
    pub(super) fn is_origin_of(&self, url: &Url) -> bool {
        let is_spoken = match self.schemes {
            Schemes::Only(scheme) => url.scheme() == scheme.as_str(),
            Schemes::HttpsThenHttp => true,
        };
        let own = Url::parse(&format!("{}://{}", url.scheme(), self.authority));
        is_spoken && own.is_ok_and(|own| own.origin() == url.origin())
    }

    /// Whether a token service belongs to this place, so that it may be sent credentials for it.
    pub(super) fn trusts(&self, realm: &Url, options: &HttpOptions) -> bool {
        let own = Url::parse(&format!("https://{}", self.authority));
        own.is_ok_and(|own| trust::check(&self.host.name, &own, realm, options).is_ok())
    }

    /// The repository at `path` of the registry, as this place names it: with what the configured path has below `/v2/`.
    pub(super) fn repository<'a>(&self, path: &'a str) -> Cow<'a, str> {
        match self.prefix.split_once("/v2/") {
            Some((_, below)) if !self.prefix.ends_with(API) => Cow::Owned(format!("{below}/{path}")),
            _ => Cow::Borrowed(path),
        }
    }
}

#[cfg(test)]
mod tests;
