//! Connects: to one server, to the primary that sentinels name, to a cluster.

use std::future::Future;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, ServerErrorKind, TlsCertificates, TlsMode, Value,
};
use tokio::time::timeout;
use tracing::warn;

use super::failure::{self, Failures};
use super::request::Connection;
use super::slot_map::SlotMap;
use super::{RedisOptions, RedisTopology, StoreError};

/// What servers list us as.
const CLIENT_NAME: &str = "samovar";
/// How often a cluster's client tries a command again within its time: on a node that moved, or that is gone.
const CLUSTER_RETRIES: u32 = 6;
/// Its shortest and longest pause in between, in milliseconds.
const CLUSTER_RETRY_PAUSE: (u64, u64) = (20, 250);
/// What begins a certificate in a PEM file.
const PEM_CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// Knows how to connect, and says what went wrong without secrets.
pub(super) struct Connector {
    options: RedisOptions,
    certificates: Option<TlsCertificates>,
    failures: Failures,
}

/// A server's host and port.
pub(super) type Address = (String, u16);

/// Which of our names and passwords are shown to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Credentials {
    Ours,
    /// Name and password, and no question for a database: sentinels have none, not even that of number 0.
    OursWithoutDatabase,
    None,
}

impl Connector {
    /// Reads the certificate authorities and looks up the hosts, so that a mistake in the options is told at once.
    /// Connects to nothing.
    pub(super) async fn open(options: RedisOptions) -> Result<Self, StoreError> {
        let certificates = match &options.ca {
            None => None,
            Some(path) => {
                let unusable = |reason: String| StoreError::Unavailable {
                    message: format!("certificate authorities in {}: {reason}", path.display()),
                };
                let pem = tokio::fs::read(path).await.map_err(|error| unusable(error.to_string()))?;
                if !pem.windows(PEM_CERTIFICATE.len()).any(|window| window == PEM_CERTIFICATE) {
                    return Err(unusable("no certificate in PEM".to_owned()));
                }
                Some(TlsCertificates { client_tls: None, root_cert: Some(pem) })
            }
        };
        let failures = Failures::new(options.password.clone());
        let connector = Self { options, certificates, failures };
        connector.look_up_hosts().await?;
        Ok(connector)
    }

    pub(super) fn failures(&self) -> &Failures {
        &self.failures
    }

    pub(super) fn options(&self) -> &RedisOptions {
        &self.options
    }

    /// The servers that the options name, for messages.
    pub(super) fn servers_text(&self) -> String {
        self.options.topology.servers().iter().map(address_text).collect::<Vec<_>>().join(", ")
    }

    /// How long a question may take, connecting included.
    pub(super) fn patience(&self) -> Duration {
        self.options.connect_timeout + self.options.operation_timeout
    }

    /// Connects. Names are looked up, and sentinels and cluster nodes asked, every time. Also says where it leads, for
    /// messages.
    pub(super) async fn connect(&self) -> Result<(Connection, String), StoreError> {
        match &self.options.topology {
            RedisTopology::Single(host, port) => {
                let server = (host.clone(), *port);
                let connection = self.connect_to(&server, Credentials::Ours).await?;
                Ok((Connection::One(connection), address_text(&server)))
            }
            RedisTopology::Sentinel { sentinels, service } => {
                let primaries = sentinels.iter().map(|sentinel| self.primary_by_sentinel(sentinel, service));
                follow_the_first(primaries.collect(), |primary| self.connect_to_primary(primary)).await
            }
            RedisTopology::Cluster(nodes) => {
                // Alone first: the library does not say what kind of failure it had with a first node.
                let nodes = nodes
                    .iter()
                    .map(async |node| self.connect_to(node, Credentials::Ours).await.map(|_| node.clone()));
                follow_the_first(nodes.collect(), |node| self.connect_to_cluster(node)).await
            }
        }
    }

    /// One server alone must have an address. Of several, one that has an address is enough: the others may be
    /// starting.
    async fn look_up_hosts(&self) -> Result<(), StoreError> {
        let mut unknown = None;
        let mut is_any_known = false;
        for (host, port) in self.options.topology.servers() {
            let look_up = tokio::net::lookup_host((host.as_str(), port));
            let looked_up = timeout(self.options.connect_timeout, look_up).await;
            let reason = match looked_up.map(|result| result.map(|mut addresses| addresses.next())) {
                Ok(Ok(Some(_))) => {
                    is_any_known = true;
                    continue;
                }
                Ok(Ok(None)) => "it has no address".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer in time".to_owned(),
            };
            let message = format!("the host name {host} cannot be resolved: {reason}");
            unknown = Some(StoreError::Unavailable { message });
        }
        match unknown {
            Some(error) if !is_any_known => Err(error),
            Some(error) => {
                warn!(%error, "one of several redis servers has no address now; going on with the others");
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn primary_by_sentinel(&self, sentinel: &Address, service: &str) -> Result<Address, StoreError> {
        // Sentinels often have no password where their servers have one, and refuse one they have not.
        let mut connection = match self.connect_to(sentinel, Credentials::None).await {
            Err(StoreError::Denied { .. }) if self.options.password.is_some() => {
                self.connect_to(sentinel, Credentials::OursWithoutDatabase).await?
            }
            other => other?,
        };
        let server = address_text(sentinel);
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
        let primary: Option<Address> = question
            .query_async(&mut connection)
            .await
            .map_err(|error| self.failures.store_error(&server, &error))?;
        primary.ok_or_else(|| StoreError::Protocol {
            message: format!("{server}: the sentinel knows no primary named `{service}`"),
        })
    }

    /// Connects to a server that others call a primary, and asks whether it is one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] where it is not, besides what connecting can end with.
    pub(super) async fn connect_to_primary(
        &self,
        primary: Address,
    ) -> Result<(Connection, String), StoreError> {
        let mut connection = self.connect_to(&primary, Credentials::Ours).await?;
        let server = address_text(&primary);
        // Who has been away may still name the old primary, which by now is a replica.
        let role = redis::cmd("ROLE").query_async::<Vec<Value>>(&mut connection).await;
        match role.as_deref() {
            Ok([Value::BulkString(role), ..]) if role != b"master" => Err(StoreError::Unavailable {
                message: format!("{server}: it was named as the primary, but is a replica"),
            }),
            // Who may not ask will be told by the first write.
            _ => Ok((Connection::One(connection), server)),
        }
    }

    /// Which primary has which slots now, as the first node sees it that answers. Over a connection of its own.
    pub(super) async fn slot_map(&self) -> Result<SlotMap, StoreError> {
        let nodes = self.options.topology.servers();
        follow_the_first(nodes.iter().map(|node| self.slot_map_of(node)).collect(), async |slots| Ok(slots))
            .await
    }

    async fn slot_map_of(&self, node: &Address) -> Result<SlotMap, StoreError> {
        let mut connection = self.connect_to(node, Credentials::Ours).await?;
        let server = address_text(node);
        let answer = redis::cmd("CLUSTER").arg("SLOTS").query_async::<Value>(&mut connection).await;
        let answer = answer.map_err(|error| self.failures.store_error(&server, &error))?;
        SlotMap::parse(&answer, &node.0)
            .ok_or_else(|| StoreError::Protocol { message: format!("{server}: no map of a cluster's slots") })
    }

    /// Connects to the cluster that `node` belongs to. Only this node is named to the library: it finds the others
    /// through it, and would wait for those that do not answer.
    async fn connect_to_cluster(&self, node: Address) -> Result<(Connection, String), StoreError> {
        let failed = |error: RedisError| self.failures.store_error(&address_text(&node), &error);
        let seed = self.connection_info(&node, Credentials::Ours).map_err(failed)?;
        let (shortest, longest) = CLUSTER_RETRY_PAUSE;
        let mut client = ClusterClientBuilder::new([seed])
            .connection_timeout(self.options.connect_timeout)
            .response_timeout(self.options.operation_timeout)
            .retries(CLUSTER_RETRIES)
            .min_retry_wait(shortest)
            .max_retry_wait(longest)
            .tcp_settings(tcp_settings());
        if self.options.tls {
            client = client.tls(TlsMode::Secure);
        }
        if let Some(certificates) = &self.certificates {
            client = client.certs(certificates.clone());
        }
        let client = client.build().map_err(failed)?;
        // To the node, to ask it for the others; to those; to those that took their place.
        let patience = self.options.connect_timeout * 3;
        let connection = timeout(patience, client.get_async_connection())
            .await
            .map_err(|_| self.no_answer(&node))?
            .map_err(failed)?;
        Ok((Connection::Cluster(connection), format!("the cluster of {}", address_text(&node))))
    }

    async fn connect_to(
        &self,
        server: &Address,
        credentials: Credentials,
    ) -> Result<MultiplexedConnection, StoreError> {
        let failed = |error: RedisError| self.failures.store_error(&address_text(server), &error);
        let client =
            Client::open(self.connection_info(server, credentials).map_err(failed)?).map_err(failed)?;
        // Our own timeout, below, is over both steps.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(Some(self.options.operation_timeout));
        let connecting = async {
            let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
            greet(&mut connection).await?;
            Ok(connection)
        };
        timeout(self.options.connect_timeout, connecting).await.map_err(|_| self.no_answer(server))?.map_err(
            |error: RedisError| match failed(error.clone()) {
                // What a server with TLS makes of a question without.
                StoreError::Unavailable { message } if !self.options.tls && failure::is_closed(&error) => {
                    StoreError::Unavailable { message: format!("{message}; perhaps it speaks TLS only") }
                }
                other => other,
            },
        )
    }

    fn no_answer(&self, server: &Address) -> StoreError {
        // What a server without TLS makes of TLS: it waits for the rest of a line.
        let hint = if self.options.tls { "; perhaps it does not speak TLS" } else { "" };
        StoreError::Unavailable { message: format!("{}: no answer in time{hint}", address_text(server)) }
    }

    fn connection_info(
        &self,
        (host, port): &Address,
        credentials: Credentials,
    ) -> Result<ConnectionInfo, RedisError> {
        // We say ourselves who we are, in a command that Redis 6 knows.
        let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        if credentials == Credentials::Ours {
            settings = settings.set_db(self.options.database);
        }
        if credentials != Credentials::None {
            if let Some(username) = &self.options.username {
                settings = settings.set_username(username);
            }
            if let Some(password) = &self.options.password {
                settings = settings.set_password(password.reveal());
            }
        }
        let address = if self.options.tls {
            ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host.clone(), *port)
        };
        let info =
            address.into_connection_info()?.set_redis_settings(settings).set_tcp_settings(tcp_settings());
        match &self.certificates {
            Some(certificates) if self.options.tls => {
                Ok(Client::build_with_tls(info, certificates.clone())?.get_connection_info().clone())
            }
            _ => Ok(info),
        }
    }
}

/// Follows the `leads` of servers that were all asked at once, in the order of their answers, until one leads to a
/// success. The most telling failure where none does.
async fn follow_the_first<A, F, L, T>(
    mut leads: FuturesUnordered<A>,
    follow: impl Fn(L) -> F,
) -> Result<T, StoreError>
where
    L: Clone + PartialEq,
    A: Future<Output = Result<L, StoreError>>,
    F: Future<Output = Result<T, StoreError>>,
{
    let mut followed = Vec::new();
    let mut failure = StoreError::Unavailable { message: "no server is configured".to_owned() };
    while let Some(lead) = leads.next().await {
        let end = match lead {
            Ok(lead) if followed.contains(&lead) => continue,
            Ok(lead) => {
                followed.push(lead.clone());
                follow(lead).await
            }
            Err(error) => Err(error),
        };
        match end {
            Ok(success) => return Ok(success),
            // A server that answers wrongly tells more than one that does not answer.
            Err(StoreError::Unavailable { .. }) if !matches!(failure, StoreError::Unavailable { .. }) => {}
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Finds out whether there is a Redis at the other end that lets us in, and tells it our name.
async fn greet(connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    let answer = redis::cmd("PING").query_async::<Value>(connection).await;
    match answer {
        Ok(_) => {}
        // It knows us, and will say to each command whether it is allowed, and when it has read its file.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::Server(
                    ServerErrorKind::NoPerm | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown
                )
            ) => {}
        Err(error) => return Err(error),
    }
    // For those who list its clients; a user who may not say it does without.
    let _ = redis::cmd("CLIENT").arg("SETNAME").arg(CLIENT_NAME).query_async::<Value>(connection).await;
    Ok(())
}

fn tcp_settings() -> TcpSettings {
    // Without it, a command waits for the answer to the one before.
    TcpSettings::default().set_nodelay(true)
}

/// As in a URL: IPv6 addresses in brackets.
pub(super) fn address_text((host, port): &Address) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
