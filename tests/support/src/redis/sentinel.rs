//! A primary and its replica under the eyes of sentinels.

use super::single::{RedisServer, RedisServerBuilder};
use super::until;

/// Sentinels, of which two must agree.
const SENTINELS: usize = 3;
/// How the sentinels call the primary.
const SERVICE: &str = "warm";

/// A running primary with one replica, and three sentinels that put the replica in its place when it is gone. Ends
/// when dropped.
#[derive(Debug)]
pub struct RedisSentinel {
    servers: [RedisServer; 2],
    sentinels: Vec<RedisServer>,
}

impl RedisSentinel {
    /// Starts all of them, and waits until all know one another.
    pub async fn start() -> Self {
        Self::start_with_password(None).await
    }

    /// The same with a password for the primary and the replica. The sentinels ask for none.
    pub async fn start_with_password(password: Option<&str>) -> Self {
        Self::start_like(password, RedisServer::builder(), "").await
    }

    /// The same with one password for all of them.
    pub async fn start_secured(password: &str) -> Self {
        let among_sentinels = format!("sentinel sentinel-pass \"{password}\"\n");
        Self::start_like(Some(password), RedisServer::builder().password(password), &among_sentinels).await
    }

    async fn start_like(password: Option<&str>, sentinel: RedisServerBuilder, more: &str) -> Self {
        let builder = || match password {
            None => RedisServer::builder(),
            Some(password) => RedisServer::builder().password(password),
        };
        let primary = builder().start().await;
        let port = primary.port();
        let replica = builder().setting("replicaof", &format!("127.0.0.1 {port}")).start().await;
        let replication = || replica.try_to_ask(&["INFO", "replication"]);
        until("a replica follows", replication, |answer| answer.contains("master_link_status:up")).await;
        let password = password.map(|password| format!("sentinel auth-pass {SERVICE} \"{password}\"\n"));
        let configuration = format!(
            "sentinel monitor {SERVICE} 127.0.0.1 {port} 2\n\
             sentinel down-after-milliseconds {SERVICE} 500\n\
             sentinel failover-timeout {SERVICE} 1500\n{}{more}",
            password.unwrap_or_default()
        );
        let mut sentinels = Vec::new();
        for _ in 0..SENTINELS {
            let sentinel = sentinel.clone().sentinel(configuration.clone()).start().await;
            for (period, milliseconds) in [
                ("INFO-PERIOD", "200"),
                ("PUBLISH-PERIOD", "200"),
                ("ASK-PERIOD", "100"),
                // A busy machine is no reason to do nothing for half a minute.
                ("TILT-TRIGGER", "600000"),
            ] {
                sentinel.ask(&["SENTINEL", "DEBUG", period, milliseconds]).await;
            }
            sentinels.push(sentinel);
        }
        for sentinel in &sentinels {
            let known = || async {
                let answer = sentinel.try_to_ask(&["SENTINEL", "MASTER", SERVICE]).await;
                answer.map(|answer| answer.replace('\n', " "))
            };
            let knows_all = |answer: &str| {
                answer.contains("num-slaves 1 ")
                    && answer.contains("num-other-sentinels 2 ")
                    && answer.contains("flags master ")
            };
            until("the sentinels know one another", known, knows_all).await;
        }
        Self { servers: [primary, replica], sentinels }
    }

    /// How the sentinels call the primary.
    pub fn service(&self) -> &'static str {
        SERVICE
    }

    /// The sentinels' ports.
    pub fn sentinel_ports(&self) -> Vec<u16> {
        self.sentinels.iter().map(RedisServer::port).collect()
    }

    /// A sentinel.
    pub fn sentinel(&self, number: usize) -> &RedisServer {
        &self.sentinels[number]
    }

    /// The same, to kill it or start it again.
    pub fn sentinel_mut(&mut self, number: usize) -> &mut RedisServer {
        &mut self.sentinels[number]
    }

    /// The server that was the primary at first.
    pub fn first_primary(&self) -> &RedisServer {
        &self.servers[0]
    }

    /// The same, to kill it or start it again.
    pub fn first_primary_mut(&mut self) -> &mut RedisServer {
        &mut self.servers[0]
    }

    /// The server that was the replica at first.
    pub fn first_replica(&self) -> &RedisServer {
        &self.servers[1]
    }

    /// Has the sentinels exchange the primary and the replica, and waits until they have: what the first primary still
    /// accepts meanwhile is lost.
    pub async fn exchange(&self) {
        self.sentinels[0].ask(&["SENTINEL", "FAILOVER", SERVICE]).await;
        let role = || self.servers[1].try_to_ask(&["ROLE"]);
        until("the replica takes over", role, |answer| answer.starts_with("master")).await;
        let role = || self.servers[0].try_to_ask(&["ROLE"]);
        until("the primary steps back", role, |answer| answer.starts_with("slave")).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_replica_takes_over_when_the_primary_is_killed() {
        let mut redis = RedisSentinel::start_with_password(Some("secret")).await;
        redis.first_primary().ask(&["SET", "a", "1"]).await;
        redis.first_primary().ask(&["WAIT", "1", "10000"]).await;
        redis.first_primary_mut().kill();
        let role = || redis.first_replica().try_to_ask(&["ROLE"]);
        until("the replica takes over", role, |answer| answer.starts_with("master")).await;
        assert_eq!(redis.first_replica().ask(&["GET", "a"]).await, "1");
    }
}
