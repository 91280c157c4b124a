//! The store that a command is about, and how it is opened for it.

use std::sync::Arc;

use samovar_registry::{Clock, SystemClock};

use super::store_failure;
use crate::cli::failure::Failure;
use crate::cli::open_store::open_engine;
use crate::config::{Config, StoreUrl};
use crate::store::{Client, Embedded, EmbeddedOptions};

/// Where the store is, and within which bound.
#[derive(Debug)]
pub(super) struct Place {
    url: StoreUrl,
    limit_bytes: u64,
    clock: Arc<dyn Clock>,
}

impl Place {
    /// The store of a configuration. One in memory is refused: no other process can see it.
    pub(super) fn new(config: Config) -> Result<Self, Failure> {
        if config.store == StoreUrl::Memory {
            let failure =
                Failure::usage("a memory: store is seen by its own process alone, and ends with it");
            return Err(failure.with_hint("name another one with --store, such as embedded:PATH"));
        }
        Ok(Self { url: config.store, limit_bytes: config.store_limit_bytes, clock: Arc::new(SystemClock) })
    }

    /// The URL, without secrets.
    pub(super) fn shown(&self) -> String {
        self.url.to_string()
    }

    /// The store as it is there. An embedded one that is not there is not begun, and one that cannot be used stays where
    /// it is.
    pub(super) async fn open_existing(&self) -> Result<Arc<dyn Client>, Failure> {
        match self.open_embedded()? {
            Some(store) => Ok(Arc::new(store)),
            None => self.open_or_begin().await,
        }
    }

    /// The store; where there is none, an empty one.
    pub(super) async fn open_or_begin(&self) -> Result<Arc<dyn Client>, Failure> {
        open_engine(&self.url, self.limit_bytes, &self.clock).await
    }

    /// The embedded store as it is there; `None` where the store is of another kind.
    pub(super) fn open_embedded(&self) -> Result<Option<Embedded>, Failure> {
        let StoreUrl::Embedded(path) = &self.url else { return Ok(None) };
        let options = EmbeddedOptions { limit_bytes: self.limit_bytes };
        let opened = Embedded::open_existing(path, options, Arc::clone(&self.clock));
        opened.map(Some).map_err(|error| store_failure(&error))
    }
}
