//! From a configuration to the parts that it describes: what `serve` and `warm` both stand on.

use std::sync::Arc;

use samovar_registry::credentials::cloud::{CloudIdentities, CloudOptions};
use samovar_registry::credentials::{HelperOptions, Keychain, KeychainOptions};
use samovar_registry::upstream::{HostOptions, HttpOptions, HttpUpstreams, Limits};
use samovar_registry::{Clock, SystemClock};
use tracing::warn;

use super::failure::Failure;
use super::host_settings;
use super::open_store::{OpenStore, open_store};
use crate::cache::{Coherent, HotSet};
use crate::config::{Config, HostConfig, OnDemandConfig};
use crate::metrics::Metrics;
use crate::server::LocalTier;
use crate::sources::SharedKeychain;
use crate::store::{Client, Embedded};
use crate::warmer::{HistoryBounds, Warmer, WarmerOptions};

/// The parts, put together.
pub(super) struct Assembly {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    /// Whoever writes, writes through this, so that what is in memory follows.
    pub(super) store: Arc<dyn Client>,
    pub(super) hot: Arc<HotSet>,
    pub(super) local_tier: Option<LocalTier>,
    pub(super) embedded: Option<Arc<Embedded>>,
    pub(super) upstreams: Arc<HttpUpstreams>,
    pub(super) warmer: Warmer,
    /// What all sources log in with.
    pub(super) keychain: SharedKeychain,
}

impl Assembly {
    pub(super) async fn new(config: &Config) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Arc::new(Metrics::new());
        let hosts = config.watch.iter().map(|entry| entry.name.host());
        for host in hosts.chain(config.watch_patterns.iter().map(|pattern| pattern.name.host())) {
            metrics.host(host);
        }
        for host in config.on_demand.iter().flat_map(OnDemandConfig::hosts) {
            metrics.host(host);
        }
        for mirror in config.mirrors() {
            metrics.host(mirror.url.host());
        }
        for host in &host_settings::unverified(config) {
            warn!(registry.host = %host, "TLS IS NOT VERIFIED for this host: whoever answers is trusted, with credentials too");
        }
        let OpenStore { client, local_tier, embedded } = open_store(config, &clock, &metrics).await?;
        let hot = Arc::new(HotSet::new(config.hot_set_bytes, Arc::clone(&clock)));
        let store: Arc<dyn Client> = Arc::new(Coherent::new(client, Arc::clone(&hot)));
        let observer = Arc::clone(&metrics);
        let upstreams = HttpUpstreams::new(http_options(config), Arc::clone(&clock), observer)
            .map_err(|error| Failure::failed(error.to_string()))?;
        let upstreams = Arc::new(upstreams);
        let options = WarmerOptions {
            poll_interval: config.poll_interval,
            tag_interval: config.tag_interval,
            platforms: config.platforms.clone(),
            replica: replica_name(),
            unleased_share: config.unleased_share,
            forget_after: config.forget_after,
            fetches_per_repository: most_at_once(config),
            history: HistoryBounds { entries: config.history_entries, age: config.history_age },
            ..WarmerOptions::default()
        };
        let warmer = Warmer::new(
            Arc::clone(&store),
            upstreams.clone(),
            Arc::clone(&clock),
            Arc::clone(&metrics),
            options,
        );
        let identities = CloudIdentities::new(cloud_options(config), Arc::clone(&clock));
        let keychain = KeychainOptions { clouds: vec![Arc::new(identities)], ..keychain_options(config) };
        let keychain = SharedKeychain::new(Keychain::new(keychain));
        Ok(Self { clock, metrics, store, hot, local_tier, embedded, upstreams, warmer, keychain })
    }
}

/// One repository may keep a host as busy as the host may be kept: the host's budget decides whose turn it is.
fn most_at_once(config: &Config) -> usize {
    let own = config.hosts.values().filter_map(|host| host.concurrency);
    own.fold(config.upstream.concurrency, usize::max).max(WarmerOptions::default().fetches_per_repository)
}

/// A name that no other process has: host names repeat in containers, process numbers everywhere.
fn replica_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}:{:016x}", host.trim(), std::process::id(), fastrand::u64(..))
}

/// Which registries get the identity that this process has in a cloud.
fn cloud_options(config: &Config) -> CloudOptions {
    let configured = |(host, own): (&String, &HostConfig)| Some((host.clone(), own.cloud_identity?));
    CloudOptions {
        clouds: config.clouds.clone(),
        hosts: config.hosts.iter().filter_map(configured).collect(),
        insecure_hosts: config.insecure_hosts.clone(),
        ..CloudOptions::default()
    }
}

/// Where credentials come from, clouds left out.
pub(super) fn keychain_options(config: &Config) -> KeychainOptions {
    KeychainOptions {
        repositories: config.credentials.clone(),
        kubernetes_secrets: config.kubernetes_secrets.clone(),
        docker_config: config.docker_config.clone(),
        clouds: Vec::new(),
        helpers: HelperOptions { search_path: config.program_path.clone(), ..HelperOptions::default() },
    }
}

fn http_options(config: &Config) -> HttpOptions {
    let limits = Limits { rate: config.rate, burst: config.burst, concurrency: config.upstream.concurrency };
    let hosts = config.hosts.iter().map(|(host, own)| {
        let usual = limits.for_host(host);
        let own_limits = Limits {
            rate: own.rate.unwrap_or(usual.rate),
            burst: own.burst.unwrap_or(usual.burst),
            concurrency: own.concurrency.unwrap_or(usual.concurrency),
        };
        let options = HostOptions {
            limits: Some(own_limits),
            quota_reserve: own.quota_reserve,
            token_hosts: own.token_hosts.clone(),
            connection: own.connection.clone(),
            mirrors: own.mirrors.clone(),
            server: own.server.clone(),
            shared_anonymous_token: own.shared_anonymous_token,
            listing: own.listing,
            ..HostOptions::default()
        };
        (host.clone(), options)
    });
    HttpOptions {
        connect_timeout: config.upstream.connect_timeout,
        header_timeout: config.upstream.header_timeout,
        body_timeout: config.upstream.body_timeout,
        total_timeout: config.upstream.total_timeout,
        list_timeout: config.upstream.list_timeout,
        limits,
        quota_reserve: config.upstream.quota_reserve,
        hosts: hosts.collect(),
        insecure_hosts: config.insecure_hosts.clone(),
        proxies: config.proxies.clone(),
        ca_files: config.upstream.ca_file.iter().cloned().collect(),
        policy: config.host_policy.clone(),
        other_hosts: HostOptions {
            connection: config.other_hosts.connection.clone(),
            mirrors: config.other_hosts.mirrors.clone(),
            server: config.other_hosts.server.clone(),
            ..HostOptions::default()
        },
        ..HttpOptions::default()
    }
}
