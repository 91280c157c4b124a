//! One server: what it is called and where it is.

use std::net::SocketAddr;
use std::time::Duration;

use crate::error::Error;

/// How to speak to one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// What it is called in errors and logs, and by what keys are placed: see [`crate::discovery`].
    pub(crate) identity: String,
    /// `None` where it cannot be looked up.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) connect_timeout: Duration,
    pub(crate) operation_timeout: Duration,
}

impl Endpoint {
    /// The address, or that there is none.
    pub(crate) fn address(&self) -> Result<SocketAddr, Error> {
        self.address.ok_or_else(|| self.unavailable("its address cannot be looked up"))
    }

    pub(crate) fn unavailable(&self, message: impl Into<String>) -> Error {
        Error::Unavailable { server: self.identity.clone(), message: message.into() }
    }

    pub(crate) fn protocol(&self, message: impl Into<String>) -> Error {
        Error::Protocol { server: self.identity.clone(), message: message.into() }
    }

    pub(crate) fn no_connection(&self) -> Error {
        self.unavailable(format!("no connection within {:?}", self.connect_timeout))
    }

    pub(crate) fn no_answer(&self) -> Error {
        self.unavailable(format!("no answer within {:?}", self.operation_timeout))
    }
}
