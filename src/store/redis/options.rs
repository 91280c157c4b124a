//! How a Redis store is reached.

use std::path::PathBuf;
use std::time::Duration;

use samovar_registry::Secret;

/// Which servers there are, and how they work together. IPv6 addresses stand without brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisTopology {
    /// One server: host and port.
    Single(String, u16),
    /// A Redis Cluster, of which these nodes are asked for the others.
    Cluster(Vec<(String, u16)>),
    /// A primary that these sentinels know by name.
    Sentinel {
        /// The sentinels.
        sentinels: Vec<(String, u16)>,
        /// The name that they know the primary by.
        service: String,
    },
}

impl RedisTopology {
    /// The servers that are named, by host and port.
    pub(super) fn servers(&self) -> Vec<(String, u16)> {
        match self {
            Self::Single(host, port) => vec![(host.clone(), *port)],
            Self::Cluster(servers) | Self::Sentinel { sentinels: servers, .. } => servers.clone(),
        }
    }
}

/// How to reach the servers, and what our keys begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisOptions {
    /// The servers.
    pub topology: RedisTopology,
    /// Speak TLS, with sentinels and cluster nodes too.
    pub tls: bool,
    /// A file of certificate authorities in PEM, trusted instead of the system's.
    pub ca: Option<PathBuf>,
    /// The user of Redis 6's access control lists; the default user where absent.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// The database's number; a cluster only has 0.
    pub database: i64,
    /// What every key begins with, so that several samovars can share a server.
    pub prefix: String,
    /// For connecting to a server.
    pub connect_timeout: Duration,
    /// For the answer to one command or pipeline.
    pub operation_timeout: Duration,
}
