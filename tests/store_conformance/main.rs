//! What every engine of the store promises, asked of each of them by the same functions; and what all whose server is
//! elsewhere do when it fails.

mod embedded_files;
mod outages;
mod promises;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use samovar::store::{
    Client, Embedded, Entry, Key, Memcached, MemcachedOptions, Memory, Reader as _, Redis, RedisOptions,
    RedisTopology, Tiered,
};
use samovar_memcached::{Address, Options, Servers};
use samovar_registry::SystemClock;
use samovar_testing::{Memcached as MemcachedServer, RedisCluster, RedisServer};

/// How long something may take that must happen. Of no influence on tests that pass.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the stores that are elsewhere may take for one answer, and to connect.
const TIMEOUT: Duration = Duration::from_secs(1);

const LOCALHOST: &str = "127.0.0.1";

pub(crate) fn embedded(directory: &tempfile::TempDir) -> Embedded {
    Embedded::open(&directory.path().join("store"), Timestamp::UNIX_EPOCH).unwrap()
}

async fn memcached(ports: impl IntoIterator<Item = u16>) -> Memcached {
    let servers = ports.into_iter().map(|port| Address { host: LOCALHOST.into(), port }).collect();
    let pool = Options {
        connect_timeout: TIMEOUT,
        operation_timeout: TIMEOUT,
        ..Options::new(Servers::List(servers))
    };
    Memcached::open(MemcachedOptions { pool, prefix: "samovar|".into() }).await.unwrap()
}

async fn redis(topology: RedisTopology) -> Redis {
    let options = RedisOptions {
        topology,
        tls: false,
        ca: None,
        username: None,
        password: None,
        database: 0,
        prefix: "samovar|".into(),
        connect_timeout: TIMEOUT,
        operation_timeout: TIMEOUT,
    };
    Redis::open(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_conforms() {
    promises::are_kept_by(Arc::new(Memory::default())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_conforms() {
    let directory = tempfile::tempdir().unwrap();
    promises::are_kept_by(Arc::new(embedded(&directory))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memcached_conforms() {
    let server = MemcachedServer::start().await;
    promises::are_kept_by(Arc::new(memcached([server.port()]).await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_of_memcacheds_conforms() {
    let servers =
        [MemcachedServer::start().await, MemcachedServer::start().await, MemcachedServer::start().await];
    promises::are_kept_by(Arc::new(memcached(servers.iter().map(MemcachedServer::port)).await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_conforms() {
    let server = RedisServer::start().await;
    promises::are_kept_by(Arc::new(redis(RedisTopology::Single(LOCALHOST.into(), server.port())).await))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_cluster_conforms() {
    let cluster = RedisCluster::start().await;
    let nodes = cluster.ports().into_iter().map(|port| (LOCALHOST.to_owned(), port)).collect();
    promises::are_kept_by(Arc::new(redis(RedisTopology::Cluster(nodes)).await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tiers_conform() {
    let server = RedisServer::start().await;
    let directory = tempfile::tempdir().unwrap();
    let remote = redis(RedisTopology::Single(LOCALHOST.into(), server.port())).await;
    let tiered = Tiered::new(Arc::new(remote), Arc::new(embedded(&directory)), Arc::new(SystemClock));
    promises::are_kept_by(Arc::new(tiered)).await;
}
