//! From a configuration to the parts that it describes: what `serve` and `warm` both stand on.

use std::collections::BTreeMap;
use std::sync::Arc;

use samovar_registry::upstream::{HttpOptions, HttpUpstreams, Limits};
use samovar_registry::{Clock, SystemClock};

use super::failure::Failure;
use crate::config::{Config, StoreUrl};
use crate::metrics::Metrics;
use crate::sources::ConfigurationSource;
use crate::store::{Client, Embedded, Memory, StoreError};
use crate::warmer::{Warmer, WarmerOptions};

/// The parts, put together.
pub(super) struct Assembly {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) store: Arc<dyn Client>,
    pub(super) upstreams: Arc<HttpUpstreams>,
    pub(super) warmer: Warmer,
    pub(super) source: ConfigurationSource,
}

impl Assembly {
    pub(super) fn new(config: &Config) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Arc::new(Metrics::new());
        for entry in &config.watch {
            metrics.host(entry.name.host());
        }
        let store = open_store(&config.store, &*clock)?;
        let observer = Arc::clone(&metrics);
        let upstreams = HttpUpstreams::new(http_options(config), Arc::clone(&clock), observer)
            .map_err(|error| Failure::failed(error.to_string()))?;
        let upstreams = Arc::new(upstreams);
        let options = WarmerOptions {
            poll_interval: config.poll_interval,
            platforms: config.platforms.clone(),
            ..WarmerOptions::default()
        };
        let warmer = Warmer::new(
            Arc::clone(&store),
            upstreams.clone(),
            Arc::clone(&clock),
            Arc::clone(&metrics),
            options,
        );
        let source = ConfigurationSource::new(config.watch.clone(), config.docker_config.clone());
        Ok(Self { clock, metrics, store, upstreams, warmer, source })
    }
}

fn open_store(url: &StoreUrl, clock: &dyn Clock) -> Result<Arc<dyn Client>, Failure> {
    match url {
        StoreUrl::Memory => Ok(Arc::new(Memory::default())),
        StoreUrl::Embedded(path) => match Embedded::open(path, clock.now()) {
            Ok(store) => Ok(Arc::new(store)),
            Err(error @ StoreError::Locked { .. }) => Err(Failure::failed(error.to_string()).with_hint(
                "ask the server that runs (`samovar refresh IMAGE`), stop it, or choose another --store",
            )),
            Err(error @ StoreError::Unavailable { .. }) => Err(Failure::failed(error.to_string())),
        },
    }
}

fn http_options(config: &Config) -> HttpOptions {
    let limits = Limits { rate: config.rate, burst: config.burst, concurrency: config.upstream.concurrency };
    let host_limits = config.hosts.iter().map(|(host, own)| {
        let own = Limits {
            rate: own.rate.unwrap_or(limits.rate),
            burst: own.burst.unwrap_or(limits.burst),
            concurrency: own.concurrency.unwrap_or(limits.concurrency),
        };
        (host.clone(), own)
    });
    let token_hosts: BTreeMap<_, _> =
        config.hosts.iter().map(|(host, own)| (host.clone(), own.token_hosts.clone())).collect();
    HttpOptions {
        connect_timeout: config.upstream.connect_timeout,
        header_timeout: config.upstream.header_timeout,
        body_timeout: config.upstream.body_timeout,
        total_timeout: config.upstream.total_timeout,
        list_timeout: config.upstream.list_timeout,
        limits,
        host_limits: host_limits.collect(),
        insecure_hosts: config.insecure_hosts.clone(),
        token_hosts,
        ..HttpOptions::default()
    }
}
