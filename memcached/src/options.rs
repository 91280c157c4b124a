//! Which servers make up the pool, and how long they may take.

use std::fmt;
use std::time::Duration;

/// A server by host name or IP address, and port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// A host name or an IP address; IPv6 without brackets.
    pub host: String,
    /// The TCP port; memcached's own is 11211.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Where the servers are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Servers {
    /// These. A single name with several addresses stands for as many servers.
    List(Vec<Address>),
    /// What the SRV records of this name say, such as `_memcached._tcp.cache.example`.
    Srv(String),
}

/// How to reach a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The servers.
    pub servers: Servers,
    /// For connecting to a server.
    pub connect_timeout: Duration,
    /// For one exchange with a server.
    pub operation_timeout: Duration,
    /// How often names are looked up again; also done when a server fails.
    pub lookup_interval: Duration,
}

impl Options {
    /// A pool of these servers: a second to connect, a second for an exchange, names looked up every minute.
    pub fn new(servers: Servers) -> Self {
        Self {
            servers,
            connect_timeout: Duration::from_secs(1),
            operation_timeout: Duration::from_secs(1),
            lookup_interval: Duration::from_mins(1),
        }
    }
}
