//! A cluster.

use futures_util::future::join_all;

use super::single::{RedisServer, RedisServerBuilder};
use super::until;

/// Primaries of a cluster: fewer cannot elect the successor of one of them.
const PRIMARIES: usize = 3;
/// Slots that keys are spread over.
const SLOTS: usize = 16_384;
/// Milliseconds of silence after which a node counts as gone.
const NODE_TIMEOUT: &str = "1000";

/// A running cluster of three primaries. Ends when dropped.
#[derive(Debug)]
pub struct RedisCluster {
    /// Primaries first; then the replica of the first primary, of the second and so on.
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Three primaries without replicas.
    pub async fn start() -> Self {
        Self::start_with_replicas(0).await
    }

    /// Three primaries, of which the first so many have a replica each. Waits until all nodes agree that it is whole.
    pub async fn start_with_replicas(replicas: usize) -> Self {
        Self::start_like(RedisServer::builder(), replicas).await
    }

    /// Three primaries that ask for a password and speak TLS only, also with one another.
    pub async fn start_secured(password: &str) -> Self {
        let node = RedisServer::builder().password(password).tls();
        Self::start_like(node.setting("tls-cluster", "yes").setting("tls-replication", "yes"), 0).await
    }

    async fn start_like(node: RedisServerBuilder, replicas: usize) -> Self {
        assert!(replicas <= PRIMARIES, "one replica for each primary at most");
        let mut nodes = Vec::new();
        for _ in 0..PRIMARIES + replicas {
            let node = node
                .clone()
                .cluster_node()
                .setting("cluster-node-timeout", NODE_TIMEOUT)
                // A replica takes over however long it has not heard from its primary.
                .setting("cluster-replica-validity-factor", "0");
            nodes.push(node.start().await);
        }
        let cluster = Self { nodes };
        cluster.introduce().await;
        cluster.give_slots().await;
        cluster.attach_replicas().await;
        cluster.wait_until_whole(PRIMARIES + replicas).await;
        cluster
    }

    /// The ports of all nodes.
    pub fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(RedisServer::port).collect()
    }

    /// A node: primaries first, then the replicas in the order of their primaries.
    pub fn node(&self, number: usize) -> &RedisServer {
        &self.nodes[number]
    }

    /// The same, to kill it or start it again.
    pub fn node_mut(&mut self, number: usize) -> &mut RedisServer {
        &mut self.nodes[number]
    }

    /// Waits until the replica of a primary has taken its place, as seen by the replica itself.
    pub async fn wait_for_takeover(&self, primary: usize) {
        let successor = &self.nodes[PRIMARIES + primary];
        let role = || successor.try_to_ask(&["ROLE"]);
        until("a replica takes over", role, |answer| answer.starts_with("master")).await;
        let state = || successor.try_to_ask(&["CLUSTER", "INFO"]);
        until("the cluster goes on", state, |answer| answer.contains("cluster_state:ok")).await;
    }

    async fn introduce(&self) {
        // Every node begins as the owner of the same epoch, which they would have to quarrel out.
        for (number, node) in self.nodes.iter().enumerate() {
            node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]).await;
        }
        for node in &self.nodes[1..] {
            let bus = node.ask(&["CONFIG", "GET", "cluster-port"]).await;
            let bus = bus.lines().last().expect("a name and a value");
            self.nodes[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string(), bus]).await;
        }
    }

    async fn give_slots(&self) {
        for (number, node) in self.nodes[..PRIMARIES].iter().enumerate() {
            let first = number * SLOTS / PRIMARIES;
            let last = (number + 1) * SLOTS / PRIMARIES - 1;
            node.ask(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await;
        }
    }

    async fn attach_replicas(&self) {
        for (replica, primary) in self.nodes[PRIMARIES..].iter().zip(&self.nodes) {
            let id = primary.ask(&["CLUSTER", "MYID"]).await;
            let nodes = || replica.try_to_ask(&["CLUSTER", "NODES"]);
            let knows_it =
                |nodes: &str| nodes.lines().any(|node| node.starts_with(&id) && !node.contains("handshake"));
            until("a replica knows its primary", nodes, knows_it).await;
            replica.ask(&["CLUSTER", "REPLICATE", &id]).await;
            let replication = || replica.try_to_ask(&["INFO", "replication"]);
            until("a replica follows", replication, |answer| answer.contains("master_link_status:up")).await;
        }
    }

    async fn wait_until_whole(&self, nodes: usize) {
        let replicas = nodes - PRIMARIES;
        join_all(self.nodes.iter().map(|node| async move {
            let state = || node.try_to_ask(&["CLUSTER", "INFO"]);
            let is_whole = |answer: &str| {
                answer.contains("cluster_state:ok")
                    && answer.contains("cluster_slots_assigned:16384")
                    && answer.contains(&format!("cluster_known_nodes:{nodes}"))
            };
            until("a cluster forms", state, is_whole).await;
            let known = || node.try_to_ask(&["CLUSTER", "NODES"]);
            let knows_roles = |answer: &str| {
                answer.lines().filter(|node| node.contains("slave")).count() == replicas
                    && !answer.contains("handshake")
            };
            until("all know the replicas", known, knows_roles).await;
        }))
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_replica_takes_over_when_its_primary_is_killed() {
        let mut cluster = RedisCluster::start_with_replicas(1).await;
        // The slot of `a` is 15495, of `b` 3300: the third primary's, and the first one's.
        cluster.node(0).ask(&["SET", "b", "1"]).await;
        assert!(cluster.node(0).try_to_ask(&["SET", "a", "1"]).await.is_err(), "it is another node's");
        cluster.node(0).ask(&["WAIT", "1", "10000"]).await;
        cluster.node_mut(0).kill();
        cluster.wait_for_takeover(0).await;
        assert_eq!(cluster.node(3).ask(&["GET", "b"]).await, "1");
    }
}
