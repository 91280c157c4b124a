//! Why a server or the whole pool did not do what it was asked.

/// Why something could not be done. Errors name the server as the options or the name service do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The options name no server.
    #[error("no memcached server is named")]
    NoServers,
    /// A name stands for no address, or cannot be looked up.
    #[error("cannot look up {name}: {message}")]
    NameNotFound {
        /// The name.
        name: String,
        /// What the name service said.
        message: String,
    },
    /// The server cannot be reached, does not answer in time, or is set aside after that. Nothing was changed; the same
    /// call may succeed later.
    #[error("memcached server {server} is unavailable: {message}")]
    Unavailable {
        /// The server.
        server: String,
        /// What went wrong when it was last tried.
        message: String,
    },
    /// The server went away after the request was sent: it may or may not have been carried out.
    #[error("memcached server {server} went away before it answered: {message}")]
    Interrupted {
        /// The server.
        server: String,
        /// What went wrong.
        message: String,
    },
    /// The server lacks the meta commands, or does not give their opaque tokens back with misses, by which answers are told
    /// apart. memcached before 1.6 has no meta commands, and later ones had gaps; 1.6.18 is known to be fit.
    #[error(
        "memcached server {server} is too old: version {version} lacks the meta protocol with opaque tokens, which \
         1.6.18 has"
    )]
    TooOld {
        /// The server.
        server: String,
        /// The version that it says it has.
        version: String,
    },
    /// What answers is no memcached.
    #[error("{server} does not answer as memcached does: {message}")]
    Protocol {
        /// The server.
        server: String,
        /// What was wrong with the answer.
        message: String,
    },
    /// The server takes no item as large as this one (`-I`, 1 MiB by default, headers included). What was stored under
    /// the key before is gone.
    #[error("memcached server {server} takes no value of {bytes} bytes")]
    TooLarge {
        /// The server.
        server: String,
        /// The size of the value, with what is kept in front of it.
        bytes: usize,
    },
    /// The server has no room and evicts nothing for it (`-M`, or nothing that may go).
    #[error("memcached server {server} has no memory left")]
    OutOfMemory {
        /// The server.
        server: String,
    },
}

impl Error {
    /// The server that it is about, where it is about one.
    pub fn server(&self) -> Option<&str> {
        match self {
            Self::NoServers | Self::NameNotFound { .. } => None,
            Self::Unavailable { server, .. }
            | Self::Interrupted { server, .. }
            | Self::TooOld { server, .. }
            | Self::Protocol { server, .. }
            | Self::TooLarge { server, .. }
            | Self::OutOfMemory { server } => Some(server),
        }
    }
}
