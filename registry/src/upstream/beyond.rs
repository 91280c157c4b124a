//! A client for what is no registry, and is connected to under the same rules for addresses.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::addresses::{GuardedResolver, Reach, SystemLookup};
use super::connection::{TlsFileError, TlsOptions};

/// Speaks HTTP to servers that the configuration names and that are no registries: never to link-local addresses and those of
/// cloud metadata services, whatever a name leads to when it is connected to; redirects are not followed.
#[derive(Debug, Clone)]
pub struct GuardedClient {
    http: reqwest::Client,
}

/// Why the client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum GuardedClientError {
    /// A file of authorities cannot be used.
    #[error(transparent)]
    File(#[from] TlsFileError),
    /// TLS cannot be set up.
    #[error("the HTTP client could not be set up")]
    Client(#[from] reqwest::Error),
}

impl GuardedClient {
    /// A client that trusts the authorities of `tls` besides the system's. It connects directly, not through a proxy.
    pub fn new(
        user_agent: &str,
        connect_timeout: Duration,
        tls: &TlsOptions,
    ) -> Result<Self, GuardedClientError> {
        let resolver =
            GuardedResolver { lookup: Arc::new(SystemLookup), reach: Reach::Everywhere, proxy: None };
        let builder = reqwest::Client::builder()
            .user_agent(user_agent)
            .connect_timeout(connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .dns_resolver(Arc::new(resolver))
            .no_proxy();
        Ok(Self { http: tls.configure(builder)?.build()? })
    }

    /// A request by POST; refused where the URL names an address that is never connected to.
    pub fn post(&self, url: &Url) -> Result<reqwest::RequestBuilder, String> {
        Self::check(url)?;
        Ok(self.http.post(url.clone()))
    }

    /// Refuses a URL that names an address which is never connected to.
    pub fn check(url: &Url) -> Result<(), String> {
        Reach::Everywhere.check(url).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_services_are_never_connected_to() {
        let client = GuardedClient::new("samovar", Duration::from_secs(1), &TlsOptions::default()).unwrap();
        for url in ["http://169.254.169.254/latest", "http://[fe80::1]/", "http://[::ffff:169.254.169.254]/"]
        {
            assert!(client.post(&Url::parse(url).unwrap()).is_err(), "{url}");
        }
        assert!(client.post(&Url::parse("http://127.0.0.1:1/").unwrap()).is_ok());
    }
}
