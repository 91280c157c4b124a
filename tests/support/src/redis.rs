//! Debian's `redis-server`: alone, with sentinels, or as a cluster.

mod cluster;
mod sentinel;
mod single;

use std::time::Duration;

use tokio::time::Instant;

pub use cluster::RedisCluster;
pub use sentinel::RedisSentinel;
pub use single::{RedisServer, RedisServerBuilder};

/// How often servers are looked at while the test waits for them.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long servers may take to start, and to agree among themselves. Of no influence on tests that pass.
const PATIENCE: Duration = Duration::from_mins(1);

/// Asks until the answer is as it must be; panics, with the last one, where it never is. A server that changes its role
/// may close the connection instead of answering.
async fn until<F: Future<Output = Result<String, String>>>(
    what: &str,
    ask: impl Fn() -> F,
    is_so: impl Fn(&str) -> bool,
) {
    let start = Instant::now();
    loop {
        let answer = ask().await;
        if answer.as_deref().is_ok_and(&is_so) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: still not after {PATIENCE:?}:\n{answer:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
