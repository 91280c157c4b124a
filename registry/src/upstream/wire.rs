//! What answers in place of the network, for simulations: everything above it, from budgets to redirects, is as it is
//! in earnest, and no socket is opened, so that simulated time can leap from one event to the next.
//!
//! There only with the feature `simulation`, which no program that speaks to registries has a use for.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::{Request, Response};

use super::ErrorKind;
use super::transport::Failure;

/// Answers requests as registries would.
#[async_trait]
pub trait Wire: Debug + Send + Sync {
    /// Answers one request, as soon as the header of the answer would have come. A body that is cut is one whose
    /// stream fails.
    async fn send(&self, request: Request) -> Result<Response, WireFailure>;
}

/// No answer came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WireFailure {
    /// What went wrong.
    pub message: String,
    /// Whether there was nobody to talk to.
    pub while_connecting: bool,
}

/// A wire, and the client that prepares what goes over it and opens no connection.
#[derive(Debug, Clone)]
pub(super) struct Simulated {
    pub(super) wire: Arc<dyn Wire>,
    pub(super) client: reqwest::Client,
}

impl Simulated {
    pub(super) async fn send(&self, request: Request) -> Result<Response, Failure> {
        self.wire.send(request).await.map_err(|WireFailure { message, while_connecting }| Failure {
            while_connecting,
            ..Failure::from(ErrorKind::Transport { message })
        })
    }
}
