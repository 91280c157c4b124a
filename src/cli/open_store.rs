//! Opening the store that a configuration names. A remote one is opened whether or not its servers answer: only names that
//! lead nowhere are a mistake of whoever configured them.

use std::path::Path;
use std::sync::Arc;

use samovar_registry::Clock;

use super::failure::Failure;
use crate::config::{Config, StoreUrl};
use crate::metrics::Metrics;
use crate::server::LocalTier;
use crate::store::{
    Client, Embedded, EmbeddedOptions, Instrumented, Memcached, Memory, Redis, StoreError, Tiered,
};

/// The name of the local tier in metrics and logs.
const LOCAL_TIER: &str = "local_tier";

/// The store of a server, with what has to be known of its parts.
pub(super) struct OpenStore {
    /// The store, measured.
    pub(super) client: Arc<dyn Client>,
    /// The part of it that lies on this machine, where there are two.
    pub(super) local_tier: Option<LocalTier>,
    /// The store on disk, be it the whole or the local tier.
    pub(super) embedded: Option<Arc<Embedded>>,
}

/// Opens the store of `config`, each part of it measured.
pub(super) async fn open_store(
    config: &Config,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
) -> Result<OpenStore, Failure> {
    if let StoreUrl::Embedded(path) = &config.store {
        let embedded = Arc::new(open_embedded(path, config.store_limit_bytes, clock)?);
        let client = measured(embedded.clone(), "embedded", metrics);
        return Ok(OpenStore { client, local_tier: None, embedded: Some(embedded) });
    }
    let engine = open_engine(&config.store, config.store_limit_bytes, clock).await?;
    let kind = engine.kind();
    let client = measured(engine, kind, metrics);
    let Some(path) = &config.store_local_tier else {
        return Ok(OpenStore { client, local_tier: None, embedded: None });
    };
    let embedded = Arc::new(open_embedded(path, config.store_limit_bytes, clock)?);
    let local = measured(embedded.clone(), LOCAL_TIER, metrics);
    let client = Arc::new(Tiered::new(client, Arc::clone(&local), Arc::clone(clock)));
    let local_tier = LocalTier { path: path.clone(), client: local };
    Ok(OpenStore { client, local_tier: Some(local_tier), embedded: Some(embedded) })
}

fn measured(client: Arc<dyn Client>, name: &'static str, metrics: &Metrics) -> Arc<dyn Client> {
    Arc::new(Instrumented::new(client, metrics.store(name)))
}

/// Opens the engine behind `url` by itself. `limit_bytes` is for one on disk.
pub(super) async fn open_engine(
    url: &StoreUrl,
    limit_bytes: u64,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Client>, Failure> {
    match url {
        StoreUrl::Memory => Ok(Arc::new(Memory::default())),
        StoreUrl::Embedded(path) => Ok(Arc::new(open_embedded(path, limit_bytes, clock)?)),
        StoreUrl::Memcached(options) => match Memcached::open(options.clone()).await {
            Ok(store) => Ok(Arc::new(store)),
            Err(error) => Err(unusable(url, &error)),
        },
        StoreUrl::Redis(options) => match Redis::open(options.clone()).await {
            Ok(store) => Ok(Arc::new(store)),
            Err(error) => Err(unusable(url, &error)),
        },
    }
}

/// Opens the store in the directory `path`, which may take up `limit_bytes` on disk.
pub(super) fn open_embedded(
    path: &Path,
    limit_bytes: u64,
    clock: &Arc<dyn Clock>,
) -> Result<Embedded, Failure> {
    let options = EmbeddedOptions { limit_bytes };
    Embedded::open_with(path, options, Arc::clone(clock)).map_err(|error| {
        let failure = Failure::failed(error.to_string());
        match error {
            StoreError::Locked { .. } => failure.with_hint(
                "ask the server that runs (`samovar refresh IMAGE`), stop it, or choose another directory",
            ),
            _ => failure,
        }
    })
}

fn unusable(url: &StoreUrl, error: &StoreError) -> Failure {
    Failure::failed(format!("cannot use the store {url}: {error}"))
        .with_hint(format!("the forms of a store are {}", StoreUrl::FORMS))
}
