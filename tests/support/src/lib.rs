//! What the tests of samovar share. It knows nothing of the crates under test: plain strings and its own types, so
//! that it is a second opinion and not an echo.
//!
//! - [`Image`], [`Index`], [`Schema1Image`]: images to push, described in a line, with bytes that are the same in every run;
//! - [`fake::FakeRegistry`]: a registry in the test's own process that records every request and misbehaves on command;
//!   [`fake::SilentHost`]: a host that accepts connections and says nothing;
//! - [`cloud`]: what clouds offer to those who run on them, in the test's own process;
//! - [`DockerRegistry`]: Debian's `docker-registry`, a real server, filled by [`DockerRegistry::push`]; [`RegistryDoor`]: the
//!   same contents over TLS or for holders of a [`TokenServer`]'s tokens; [`Nginx`]: TLS, HTTP/2 and client certificates in
//!   front of a server; [`ForwardProxy`]: a proxy for HTTP;
//! - [`Memcached`]: Debian's `memcached`, a real server; [`Proxy`]: what stands in front of a server and misbehaves;
//! - [`RedisServer`], [`RedisSentinel`], [`RedisCluster`]: Debian's `redis-server`, alone, with sentinels, as a cluster;
//! - [`Certificates`]: an authority, and certificates by it;
//! - [`Skopeo`]: a real client, to compare with; [`ContainerTool`] and [`Containerd`]: others, which pull through a mirror;
//! - [`Samovar`]: our own binary; [`EventStream`]: what follows its events; [`Planted`]: secrets, to be looked for in everything that comes out of it.
//!
//! Everything listens on a free loopback port, keeps its files in its own temporary directory and ends with the value
//! that stands for it, also when the test panics. What cannot be started panics and says what to install; nothing is
//! skipped.

mod answer;
mod certificates;
pub mod cloud;
mod content;
mod docker_registry;
mod event_stream;
pub mod fake;
mod forward_proxy;
mod image;
mod index;
pub mod media_type;
mod memcached;
mod nginx;
mod planted;
mod proxy;
mod pulling;
mod pusher;
mod redis;
mod registry_door;
mod samovar;
mod schema1;
mod server;
mod skopeo;
mod token_server;

pub use answer::Answer;
pub use certificates::Certificates;
pub use content::{Content, Document, digest_of};
pub use docker_registry::{DockerRegistry, DockerRegistryBuilder, LoggedRequest};
pub use event_stream::{EventStream, StreamEvent};
pub use forward_proxy::ForwardProxy;
pub use image::Image;
pub use index::Index;
pub use memcached::Memcached;
pub use nginx::{Nginx, NginxBuilder};
pub use planted::Planted;
pub use proxy::Proxy;
pub use pulling::{ContainerTool, Containerd};
pub use redis::{RedisCluster, RedisSentinel, RedisServer, RedisServerBuilder};
pub use registry_door::{RegistryDoor, RegistryDoorBuilder};
pub use samovar::{Output, Samovar, SamovarServer};
pub use schema1::Schema1Image;
pub use server::{Launch, Server, free_port};
pub use skopeo::Skopeo;
pub use token_server::{TokenRequest, TokenServer};
