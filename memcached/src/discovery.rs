//! From names to servers.
//!
//! What a server is *called* decides which keys it keeps, so it must be the same for every client and last longer than an
//! address where it can:
//!
//! | the options name | servers | called |
//! |---|---|---|
//! | one host | all its addresses | `address:port` |
//! | several hosts | one each, at its lowest address | `host:port`, as written |
//! | an SRV name | one for each target, at its lowest address | `target:port` |
//!
//! Where a name has IPv4 addresses, those are its addresses: the IPv6 ones lead to the same servers. Priorities and weights
//! of SRV records are left out of account: every server keeps its share of the keys.
//!
//! A server that is named and whose address nobody can tell is a server nevertheless. If it were left out, the replicas that
//! see it and those that do not would look for the same keys, and leases, in different places.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;

use crate::error::Error;
use crate::options::{Address, Servers};

/// The most servers of a pool; what is found beyond is left out.
pub const MOST_SERVERS: usize = 256;

/// What looks names up. Pools use the system's configuration unless they are given another one.
#[async_trait]
pub trait Resolver: fmt::Debug + Send + Sync {
    /// The addresses of a host, of one family.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, LookupError>;

    /// Where the SRV records of a name point.
    async fn services(&self, name: &str) -> Result<Vec<Address>, LookupError>;
}

/// Why a name could not be looked up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LookupError(pub String);

/// A server that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Member {
    pub(crate) identity: String,
    /// `None` where it never could be looked up.
    pub(crate) address: Option<SocketAddr>,
}

/// Servers that were found, in the order of what they are called, and the names that could not be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Discovery {
    pub(crate) members: Vec<Member>,
    pub(crate) failures: Vec<Error>,
}

/// Whether there is anything to look up at all.
pub(crate) fn needs_lookup(servers: &Servers) -> bool {
    match servers {
        Servers::List(addresses) => addresses.iter().any(|address| literal(&address.host).is_none()),
        Servers::Srv(_) => true,
    }
}

/// Looks everything up. A host that cannot be found keeps the address it has in `known`, if any, and its place in any case,
/// so that trouble with names moves no keys. An error where no server with an address is left.
pub(crate) async fn discover(
    servers: &Servers,
    resolver: &dyn Resolver,
    known: &[Member],
) -> Result<Discovery, Error> {
    let found = match servers {
        Servers::List(addresses) => match addresses.as_slice() {
            [] => return Err(Error::NoServers),
            [only] => every_address(only, resolver).await?,
            several => one_each(several, resolver, known).await,
        },
        Servers::Srv(name) => {
            let mut targets = resolver.services(name).await.map_err(|error| not_found(name, &error))?;
            // Name servers give them in any order, and all clients must leave out the same ones.
            targets.sort();
            targets.dedup();
            one_each(&targets, resolver, known).await
        }
    };
    found.in_order().into_whole(servers)
}

async fn every_address(host: &Address, resolver: &dyn Resolver) -> Result<Discovery, Error> {
    let addresses = addresses(host, resolver).await?;
    let member = |ip| {
        let address = SocketAddr::new(ip, host.port);
        Member { identity: address.to_string(), address: Some(address) }
    };
    Ok(Discovery { members: addresses.into_iter().map(member).collect(), failures: Vec::new() })
}

async fn one_each(hosts: &[Address], resolver: &dyn Resolver, known: &[Member]) -> Discovery {
    warn_of_too_many(hosts.len());
    let lookups = hosts.iter().take(MOST_SERVERS).map(|host| async move {
        let lowest = addresses(host, resolver).await.map(|addresses| addresses.into_iter().min());
        (host.to_string(), host.port, lowest)
    });
    let mut discovery = Discovery { members: Vec::new(), failures: Vec::new() };
    for (identity, port, lowest) in futures_util::future::join_all(lookups).await {
        let address = match lowest {
            Ok(lowest) => lowest.map(|ip| SocketAddr::new(ip, port)),
            Err(error) => {
                discovery.failures.push(error);
                let known = known.iter().find(|member| member.identity == identity);
                known.and_then(|member| member.address)
            }
        };
        discovery.members.push(Member { identity, address });
    }
    discovery
}

fn warn_of_too_many(found: usize) {
    if found > MOST_SERVERS {
        tracing::warn!(found, used = MOST_SERVERS, "too many memcached servers");
    }
}

impl Discovery {
    fn in_order(mut self) -> Self {
        self.members.sort();
        self.members.dedup_by(|one, other| one.identity == other.identity);
        warn_of_too_many(self.members.len());
        self.members.truncate(MOST_SERVERS);
        self
    }

    /// An error where no server was found that could be reached.
    fn into_whole(mut self, servers: &Servers) -> Result<Self, Error> {
        if self.members.iter().any(|member| member.address.is_some()) {
            return Ok(self);
        }
        let name = match servers {
            Servers::List(addresses) => addresses.first().map(|address| address.host.clone()),
            Servers::Srv(name) => Some(name.clone()),
        };
        let no_address = || Error::NameNotFound {
            name: name.unwrap_or_default(),
            message: "it stands for no address".to_owned(),
        };
        Err(self.failures.pop().unwrap_or_else(no_address))
    }
}

/// The addresses of a host; an address stands for itself and is not looked up.
async fn addresses(host: &Address, resolver: &dyn Resolver) -> Result<Vec<IpAddr>, Error> {
    if let Some(ip) = literal(&host.host) {
        return Ok(vec![ip]);
    }
    let found = resolver.addresses(&host.host).await.map_err(|error| not_found(&host.host, &error))?;
    if found.is_empty() {
        return Err(not_found(&host.host, &LookupError("it stands for no address".to_owned())));
    }
    Ok(found)
}

fn literal(host: &str) -> Option<IpAddr> {
    host.parse().ok()
}

fn not_found(name: &str, error: &LookupError) -> Error {
    Error::NameNotFound { name: name.to_owned(), message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Names and what they stand for; other names cannot be found.
    #[derive(Debug, Default)]
    struct Names {
        addresses: HashMap<&'static str, Vec<&'static str>>,
        services: HashMap<&'static str, Vec<&'static str>>,
    }

    #[async_trait]
    impl Resolver for Names {
        async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
            let found = self.addresses.get(host).ok_or_else(|| LookupError("no such name".into()))?;
            Ok(found.iter().map(|ip| ip.parse().unwrap()).collect())
        }

        async fn services(&self, name: &str) -> Result<Vec<Address>, LookupError> {
            let found = self.services.get(name).ok_or_else(|| LookupError("no such name".into()))?;
            Ok(found.iter().map(|text| address(text)).collect())
        }
    }

    fn address(text: &str) -> Address {
        let (host, port) = text.rsplit_once(':').unwrap();
        Address { host: host.to_owned(), port: port.parse().unwrap() }
    }

    fn list(texts: &[&str]) -> Servers {
        Servers::List(texts.iter().map(|text| address(text)).collect())
    }

    async fn found(servers: &Servers, names: &Names, known: &[Member]) -> Vec<(String, String)> {
        let discovery = discover(servers, names, known).await.unwrap();
        let address = |member: &Member| member.address.map_or("?".to_owned(), |address| address.to_string());
        discovery.members.into_iter().map(|member| (member.identity.clone(), address(&member))).collect()
    }

    fn member(identity: &str, address: Option<&str>) -> Member {
        Member { identity: identity.into(), address: address.map(|address| address.parse().unwrap()) }
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(one, other)| ((*one).to_owned(), (*other).to_owned())).collect()
    }

    #[tokio::test]
    async fn one_host_stands_for_all_its_addresses() {
        let mut names = Names::default();
        names.addresses.insert("cache", vec!["10.0.0.2", "10.0.0.1", "10.0.0.2"]);
        let expected = pairs(&[("10.0.0.1:11211", "10.0.0.1:11211"), ("10.0.0.2:11211", "10.0.0.2:11211")]);
        assert_eq!(found(&list(&["cache:11211"]), &names, &[]).await, expected);
    }

    #[tokio::test]
    async fn several_hosts_stand_for_one_server_each() {
        let mut names = Names::default();
        names.addresses.insert("b", vec!["10.0.0.4", "10.0.0.3"]);
        let servers = list(&["b:11211", "10.0.0.1:11211", "::1:7"]);
        let expected = pairs(&[
            ("10.0.0.1:11211", "10.0.0.1:11211"),
            ("[::1]:7", "[::1]:7"),
            ("b:11211", "10.0.0.3:11211"),
        ]);
        assert_eq!(found(&servers, &names, &[]).await, expected);
    }

    #[tokio::test]
    async fn srv_records_stand_for_their_targets() {
        let mut names = Names::default();
        names
            .services
            .insert("_memcached._tcp.cache", vec!["cache-1:11212", "cache-0:11211", "cache-1:11212"]);
        names.addresses.insert("cache-0", vec!["10.0.0.1"]);
        names.addresses.insert("cache-1", vec!["10.0.0.2"]);
        let servers = Servers::Srv("_memcached._tcp.cache".into());
        let expected = pairs(&[("cache-0:11211", "10.0.0.1:11211"), ("cache-1:11212", "10.0.0.2:11212")]);
        assert_eq!(found(&servers, &names, &[]).await, expected);
    }

    #[tokio::test]
    async fn a_target_without_an_address_has_its_place() {
        let mut names = Names::default();
        names.services.insert("_memcached._tcp.cache", vec!["cache-1:2", "cache-0:1", "cache-2:3"]);
        names.addresses.insert("cache-0", vec!["10.0.0.1"]);
        let servers = Servers::Srv("_memcached._tcp.cache".into());
        let known = [member("cache-2:3", Some("10.0.0.3:3"))];
        let expected = pairs(&[("cache-0:1", "10.0.0.1:1"), ("cache-1:2", "?"), ("cache-2:3", "10.0.0.3:3")]);
        assert_eq!(found(&servers, &names, &known).await, expected);
    }

    #[tokio::test]
    async fn of_too_many_targets_the_same_ones_are_left_out_in_whatever_order_they_come() {
        let targets: Vec<&str> = (0..MOST_SERVERS + 10)
            .map(|number| &*format!("10.0.{}.{}:1", number / 256, number % 256).leak())
            .collect();
        let servers = Servers::Srv("_memcached._tcp.cache".into());
        let mut names = Names::default();
        names.services.insert("_memcached._tcp.cache", targets.clone());
        let ascending = found(&servers, &names, &[]).await;
        names.services.insert("_memcached._tcp.cache", targets.into_iter().rev().collect());
        assert_eq!(found(&servers, &names, &[]).await, ascending);
        assert_eq!(ascending.len(), MOST_SERVERS);
    }

    #[tokio::test]
    async fn a_host_that_cannot_be_found_keeps_its_place() {
        let mut names = Names::default();
        names.addresses.insert("b", vec!["10.0.0.9"]);
        let known = [member("a:1", Some("10.0.0.1:1")), member("b:1", Some("10.0.0.2:1"))];
        let servers = list(&["a:1", "b:1"]);
        assert_eq!(
            found(&servers, &names, &known).await,
            pairs(&[("a:1", "10.0.0.1:1"), ("b:1", "10.0.0.9:1")])
        );
        let discovery = discover(&servers, &names, &[]).await.unwrap();
        let [Error::NameNotFound { name, .. }] = discovery.failures.as_slice() else {
            panic!("{discovery:?}")
        };
        assert_eq!(name, "a");
    }

    #[tokio::test]
    async fn what_stands_for_nothing_is_an_error_that_names_it() {
        let mut names = Names::default();
        names.addresses.insert("empty", vec![]);
        names.services.insert("_none", vec![]);
        let refused = async |servers: Servers| discover(&servers, &names, &[]).await.unwrap_err().to_string();
        assert_eq!(refused(list(&[])).await, "no memcached server is named");
        assert_eq!(refused(list(&["x:1"])).await, "cannot look up x: no such name");
        assert_eq!(refused(list(&["empty:1"])).await, "cannot look up empty: it stands for no address");
        assert_eq!(refused(list(&["x:1", "y:1"])).await, "cannot look up y: no such name");
        assert_eq!(
            refused(Servers::Srv("_none".into())).await,
            "cannot look up _none: it stands for no address"
        );
        assert_eq!(refused(Servers::Srv("_x".into())).await, "cannot look up _x: no such name");
    }

    #[test]
    fn addresses_need_no_lookup() {
        assert!(!needs_lookup(&list(&["127.0.0.1:1", "::1:2"])));
        assert!(needs_lookup(&list(&["127.0.0.1:1", "localhost:2"])));
        assert!(needs_lookup(&Servers::Srv("_x".into())));
    }
}
