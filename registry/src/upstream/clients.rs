//! The HTTP clients: one for each way to connect, made when it is first needed, replaced in time.
//!
//! Invariants:
//! - an open connection is used again only where a new one would be made in the same way: with the same trust, through
//!   the same proxy, with the same reach, since it is not checked again;
//! - no connection is used for longer than [`LONGEST_USE`] or left idle for longer than [`LONGEST_IDLE`]: names are
//!   looked up anew, and rotated certificates and authorities are read.
//!
//! There are no more clients than four times the ways to connect that the configuration names: for each reach, with and
//! without the client's certificate.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use super::HttpOptions;
use super::addresses::{GuardedResolver, Lookup, Reach};
use super::connection::{TlsFileError, TlsOptions};
use super::endpoint::Connection;
use super::proxy::{Proxies, ProxyUrl};
#[cfg(feature = "simulation")]
use super::wire::{Simulated, Wire};

/// How long connections are opened with one client before the next one is made. What is under way goes on.
const LONGEST_USE: Duration = Duration::from_mins(10);
/// How long a connection that nobody uses stays open.
const LONGEST_IDLE: Duration = Duration::from_secs(90);
/// How many connections to one origin stay open that nobody uses.
const MOST_IDLE: usize = 32;
/// When a client could not be replaced, the old one is used for so long before that is tried again.
const REPLACE_AGAIN: Duration = Duration::from_mins(1);

/// A client could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// A file is not what it was when samovar started.
    #[error(transparent)]
    File(#[from] TlsFileError),
    #[error("the HTTP client could not be set up")]
    Client(#[from] reqwest::Error),
}

/// What tells one way to connect from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Way {
    reach: Reach,
    tls: TlsOptions,
    proxy: Option<ProxyUrl>,
    connect_timeout: Duration,
}

#[derive(Debug)]
struct Built {
    client: reqwest::Client,
    replace_at: Instant,
}

/// The clients of all hosts.
#[derive(Debug)]
pub(super) struct Clients {
    by_way: Mutex<HashMap<Way, Built>>,
    user_agent: String,
    proxies: Proxies,
    lookup: Arc<dyn Lookup>,
    #[cfg(feature = "simulation")]
    simulated: Option<Simulated>,
}

/// A client for one request.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) http: reqwest::Client,
    /// Whether its connections end at a proxy.
    pub(super) is_proxied: bool,
    /// What answers in place of the network.
    #[cfg(feature = "simulation")]
    pub(super) simulated: Option<Simulated>,
}

impl Clients {
    pub(super) fn new(options: &HttpOptions, lookup: Arc<dyn Lookup>) -> Self {
        Self {
            by_way: Mutex::default(),
            user_agent: options.user_agent.clone(),
            proxies: Proxies::new(options.proxies.clone()),
            lookup,
            #[cfg(feature = "simulation")]
            simulated: None,
        }
    }

    /// From now on nothing is connected to: `wire` answers.
    #[cfg(feature = "simulation")]
    pub(super) fn answer_by(&mut self, wire: Arc<dyn Wire>) -> Result<(), ClientError> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        self.simulated = Some(Simulated { wire, client });
        Ok(())
    }

    /// The client for requests to this URL, whose host is named insecure or not.
    pub(super) fn client(
        &self,
        connection: &Connection,
        url: &Url,
        reach: Reach,
        is_insecure: bool,
    ) -> Result<Client, ClientError> {
        #[cfg(feature = "simulation")]
        if let Some(simulated) = &self.simulated {
            let http = simulated.client.clone();
            return Ok(Client { http, is_proxied: false, simulated: Some(simulated.clone()) });
        }
        let proxy = self.proxies.of(url, connection.proxy.as_ref(), is_insecure);
        let is_proxied = proxy.is_some();
        let mut tls = connection.tls.clone();
        tls.skip_verify |= is_insecure;
        let way = Way { reach, tls, proxy: proxy.cloned(), connect_timeout: connection.timeouts.connect };
        Ok(Client {
            http: self.of(way)?,
            is_proxied,
            #[cfg(feature = "simulation")]
            simulated: None,
        })
    }

    /// Whether a client can be made at all, with this connection and any URL.
    pub(super) fn check(&self, connection: &Connection) -> Result<(), ClientError> {
        let (tls, connect_timeout) = (connection.tls.clone(), connection.timeouts.connect);
        self.of(Way { reach: Reach::Everywhere, tls, proxy: None, connect_timeout }).map(|_| ())
    }

    fn of(&self, way: Way) -> Result<reqwest::Client, ClientError> {
        let mut clients = self.by_way.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let known = clients.get_mut(&way);
        if let Some(built) = &known
            && now < built.replace_at
        {
            return Ok(built.client.clone());
        }
        match (self.build(&way), known) {
            (Ok(client), _) => {
                // What has not been used for as long is not kept open by us.
                clients.retain(|_, built| now < built.replace_at + LONGEST_USE);
                clients.insert(way, Built { client: client.clone(), replace_at: now + LONGEST_USE });
                Ok(client)
            }
            (Err(error), Some(built)) => {
                tracing::warn!(error = %error, "connections go on as they were; mend the file");
                built.replace_at = now + REPLACE_AGAIN;
                Ok(built.client.clone())
            }
            (Err(error), None) => Err(error),
        }
    }

    fn build(&self, way: &Way) -> Result<reqwest::Client, ClientError> {
        let resolver = GuardedResolver {
            lookup: Arc::clone(&self.lookup),
            reach: way.reach,
            proxy: way.proxy.as_ref().map(|proxy| proxy.host().into()),
        };
        let mut builder = reqwest::Client::builder()
            .user_agent(&self.user_agent)
            .connect_timeout(way.connect_timeout)
            .pool_idle_timeout(LONGEST_IDLE)
            .pool_max_idle_per_host(MOST_IDLE)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .dns_resolver(Arc::new(resolver))
            // The environment has been read by whoever made the options.
            .no_proxy();
        if let Some(proxy) = &way.proxy {
            builder = builder.proxy(proxy.to_proxy()?);
        }
        Ok(way.tls.configure(builder)?.build()?)
    }
}

#[cfg(test)]
mod tests;
