//! samovar keeps the metadata of container images warm.
//!
//! ```text
//!  sources ─► watch list ─► WARMER ──────────────► registry/ ─► upstream registries
//!  (config, Kubernetes,      schedule → refresh     client, credentials, one budget per host+identity
//!   readers' questions)         ▲    │
//!    webhooks, refresh ─────────┘    ▼
//!                               store::Client  (embedded | memory)
//!                                    │
//!                                  CACHE : Registry
//!                                    │
//!       JSON API · CLI · Rust API                              /metrics
//! ```
//!
//! Data flows one way: [`sources`] → [`warmer`] → [`store`] → [`cache`] → doors ([`server`], [`cli`]). The doors never
//! write to the store; the only thing that flows back is a request to refresh. [`policy`] says which tag of a repository is
//! the one to use.
//!
//! # As a library
//!
//! Reading needs a [`store::Reader`] and nothing else; keeping warm needs a [`store::Client`], an upstream, a clock and
//! sources:
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use samovar::cache::Cache;
//! use samovar::metrics::Metrics;
//! use samovar::sources::{Watch, WatchList};
//! use samovar::store::{Client, Memory};
//! use samovar::warmer::{Warmer, WarmerOptions};
//! use samovar_registry::upstream::{HttpOptions, HttpUpstreams};
//! use samovar_registry::{Clock, Registry, SystemClock};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let clock: Arc<dyn Clock> = Arc::new(SystemClock);
//! let store: Arc<dyn Client> = Arc::new(Memory::default());
//! let upstreams = HttpUpstreams::new(HttpOptions::default(), clock.clone(), Arc::new(()))?;
//! let warmer = Warmer::new(
//!     store.clone(),
//!     Arc::new(upstreams),
//!     clock.clone(),
//!     Arc::new(Metrics::new()),
//!     WarmerOptions::default(),
//! );
//! let name: samovar_registry::Name = "ghcr.io/fluxcd/source-controller".parse()?;
//! warmer.warm_once(WatchList([(name.clone(), Watch::default())].into())).await;
//!
//! let cache = Cache::new(store, clock);
//! let repository = cache.repository(&name).await?;
//! println!("{} tags, {} images", repository.tags.len(), repository.images.len());
//! # Ok(())
//! # }
//! ```
//! `serve` uses [`warmer::Warmer::run`] with [`sources::ImageSource`]s instead, and [`warmer::Handle`] to ask for refreshes
//! and to follow what changes.

pub mod cache;
pub mod cli;
pub mod config;
pub mod feed;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod metrics;
pub mod notify;
mod percent;
pub mod policy;
pub mod server;
pub mod sources;
pub mod store;
pub mod upkeep;
pub mod warmer;
