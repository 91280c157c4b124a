//! A client for a pool of memcached servers.
//!
//! ```no_run
//! # async fn example() -> Result<(), samovar_memcached::Error> {
//! use samovar_memcached::{Address, Expiry, Options, Pool, Servers};
//!
//! let servers = Servers::List(vec![Address { host: "127.0.0.1".into(), port: 11211 }]);
//! let pool = Pool::open(Options::new(servers)).await?;
//! pool.set("key", "value".into(), Expiry::Never).await?;
//! assert_eq!(pool.get("key").await?.as_deref(), Some(b"value".as_slice()));
//! # Ok(())
//! # }
//! ```
//!
//! - **Keys** have any length and content, **values** any content, the empty one too. Keys that memcached does not take
//!   are stored under their hash, with the whole key beside the value, so that no key is ever answered with another's
//!   value.
//! - **Placement**: rendezvous hashing by what the servers are called, by a hash that is written down here. Adding one of
//!   `n` servers moves about one in `n` of the keys, and the order in which servers are named does not matter.
//! - **Discovery**: servers are named by address, by host name or by SRV record; names are looked up again every minute,
//!   and when a server fails. What cannot be looked up stays as it was, and a server that is not named any more stays for
//!   five minutes: who can look up what, and when, moves no keys.
//! - **Many at once**: [`Pool::get_many`] and its sisters ask all servers side by side, for up to a hundred keys in one
//!   round trip and with up to four at once. At most 16 connections lead to each server, however many tasks use the pool.
//! - **A server that fails** is set aside and tried again in the background. Reading its keys yields misses while another
//!   server lives, or [`Outcome::SetAside`] for those who need to tell; writing them is an error. Other servers are not
//!   concerned.
//! - **A server that is slow** and answers is not set aside: what has not come when the time runs out is asked for again.
//! - **What was sent is never sent twice** unless doing it twice comes to the same ([`Pool::set`], but not
//!   [`Pool::compare_and_swap`]): then [`Error::Interrupted`] says that nobody knows.
//! - **Futures may be dropped** at any await point. Nobody reads the answer to a request that somebody else gave up.
//! - **Leases**: [`Pool::acquire_lease`] and its sisters.
//!
//! # Deliberately absent
//!
//! TLS, authentication and Unix sockets: the library below has none of them. memcached belongs on a network of its own, or
//! beside its client; what must cross another network wants a tunnel. Nothing here compresses or encodes values.

mod batch;
mod discovery;
mod dns;
mod endpoint;
mod error;
mod expiry;
mod key;
mod lease;
mod listing;
mod options;
mod owned_task;
mod placement;
mod pool;
mod roster;
mod server;
mod standing;
mod text;
mod upkeep;
mod wire;

pub use batch::Outcome;
pub use discovery::{LookupError, MOST_SERVERS, Resolver};
pub use error::Error;
pub use expiry::Expiry;
pub use options::{Address, Options, Servers};
pub use pool::{Pool, ServerState, Versioned};
pub use wire::Token;
