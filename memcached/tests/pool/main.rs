//! The pool against real servers.

mod cancellation;
mod discovery;
mod failures;
mod keys;
mod leases;
mod lookalike;
mod operations;
mod slowness;
mod strangers;

use std::time::Duration;

use bytes::Bytes;
use samovar_memcached::{Address, Options, Pool, Servers};
use samovar_testing::Memcached;
use tokio::time::Instant;

/// How long something that is sure to happen is waited for. Of no influence on tests that pass.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The server that listens at a loopback port.
fn local(port: u16) -> Address {
    Address { host: "127.0.0.1".to_owned(), port }
}

fn options(ports: impl IntoIterator<Item = u16>) -> Options {
    Options::new(Servers::List(ports.into_iter().map(local).collect()))
}

async fn pool_of(servers: &[Memcached]) -> Pool {
    Pool::open(options(servers.iter().map(Memcached::port))).await.unwrap()
}

async fn three_servers() -> (Vec<Memcached>, Pool) {
    let servers = vec![Memcached::start().await, Memcached::start().await, Memcached::start().await];
    let pool = pool_of(&servers).await;
    (servers, pool)
}

async fn one_server() -> (Memcached, Pool) {
    let server = Memcached::start().await;
    let pool = Pool::open(options([server.port()])).await.unwrap();
    (server, pool)
}

/// Does something again and again until it comes out as wanted; panics after half a minute.
async fn until<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(wanted) = attempt().await {
            return wanted;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: not after {PATIENCE:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn bytes(text: impl Into<Bytes>) -> Bytes {
    text.into()
}
