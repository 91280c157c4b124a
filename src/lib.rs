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
//! write to the store; the only thing that flows back is a request to refresh.

pub mod cache;
pub mod cli;
pub mod config;
pub mod metrics;
pub mod server;
pub mod sources;
pub mod store;
pub mod warmer;
