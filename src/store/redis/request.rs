//! What a server is asked, and the connections that it is asked over.

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo};
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};

use super::script::Invocation;

/// One question, answered in one round trip (a script that the server has forgotten: in two).
pub(super) enum Request {
    /// One command. In a cluster it goes to the node of its key.
    Command(Cmd),
    /// Several commands, answered in their order. Not for clusters: their keys lie on several nodes.
    Pipeline(Pipeline),
    /// A script, by its hash; then whole, where the server does not know it.
    Script(Invocation),
    /// One command for every primary of a cluster that is connected: their answers, each with its node.
    EveryPrimary(Cmd),
}

impl Request {
    /// Whether it may be asked again when nobody knows what became of it.
    pub(super) fn may_be_repeated(&self) -> bool {
        match self {
            Self::Script(invocation) => invocation.may_run_twice(),
            Self::Command(_) | Self::Pipeline(_) | Self::EveryPrimary(_) => true,
        }
    }
}

/// A connection, or a cluster's connections: cheap to clone, shared by all who ask. Dropping a future that waits for an
/// answer harms nobody: answers are told apart by their order, and one that nobody waits for is thrown away.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    /// Asks, and gives the answers, one for each command. Any error among them is an error of the whole.
    pub(super) async fn ask(&mut self, request: &Request) -> RedisResult<Vec<Value>> {
        match (self, request) {
            (connection, Request::Command(command)) => Ok(vec![connection.command(command).await?]),
            (connection, Request::Script(invocation)) => {
                let answer = match connection.command(&invocation.by_hash()).await {
                    Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                        connection.command(&invocation.whole()).await?
                    }
                    other => other?,
                };
                Ok(vec![answer])
            }
            (Self::One(connection), Request::Pipeline(pipeline)) => {
                let answers = connection.req_packed_commands(pipeline, 0, pipeline.len()).await?;
                answers.into_iter().map(Value::extract_error).collect()
            }
            (Self::Cluster(connection), Request::EveryPrimary(command)) => {
                let routing = (MultipleNodeRoutingInfo::AllMasters, Some(ResponsePolicy::Special));
                let answer =
                    connection.route_command(command.clone(), RoutingInfo::MultiNode(routing)).await?;
                Ok(vec![answer.extract_error()?])
            }
            (Self::Cluster(_), Request::Pipeline(_)) | (Self::One(_), Request::EveryPrimary(_)) => {
                Err(RedisError::from((ErrorKind::Client, "a request for another kind of connection")))
            }
        }
    }

    async fn command(&mut self, command: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            Self::One(connection) => connection.req_packed_command(command).await?,
            Self::Cluster(connection) => connection.req_packed_command(command).await?,
        };
        answer.extract_error()
    }
}
