//! Pools whose servers are found by name, and move.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use samovar_memcached::{Error, Expiry, LookupError, Outcome, Resolver};

use super::*;

/// Names that a test changes while a pool uses them. Names that are not there cannot be looked up.
#[derive(Debug, Default)]
struct Names {
    hosts: Mutex<HashMap<String, Vec<IpAddr>>>,
    services: Mutex<HashMap<String, Vec<Address>>>,
    lookups: AtomicUsize,
}

impl Names {
    fn host(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.hosts.lock().unwrap().insert(name.to_owned(), addresses);
    }

    fn lose_host(&self, name: &str) {
        self.hosts.lock().unwrap().remove(name);
    }

    fn service(&self, name: &str, targets: &[(&str, u16)]) {
        let target = |(host, port): &(&str, u16)| Address { host: (*host).to_owned(), port: *port };
        self.services.lock().unwrap().insert(name.to_owned(), targets.iter().map(target).collect());
    }

    fn lookups(&self) -> usize {
        self.lookups.load(Ordering::Relaxed)
    }

    /// Waits until everything was looked up that is looked up after now.
    async fn looked_up_again(&self) {
        let enough = self.lookups() + 4;
        until("names are looked up", async || (self.lookups() >= enough).then_some(())).await;
    }
}

#[async_trait]
impl Resolver for Names {
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        self.hosts.lock().unwrap().get(host).cloned().ok_or_else(|| LookupError("no such name".into()))
    }

    async fn services(&self, name: &str) -> Result<Vec<Address>, LookupError> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        self.services.lock().unwrap().get(name).cloned().ok_or_else(|| LookupError("no such name".into()))
    }
}

fn names_of(pool: &Pool) -> Vec<String> {
    pool.servers().into_iter().map(|server| server.name).collect()
}

fn often(servers: Servers) -> Options {
    Options { lookup_interval: Duration::from_millis(20), ..Options::new(servers) }
}

#[tokio::test]
async fn a_name_whose_addresses_change_gets_the_new_servers() {
    let server = Memcached::start().await;
    let names = Arc::new(Names::default());
    // A loopback address on which nobody listens.
    names.host("cache", &["127.0.0.9"]);
    let servers = Servers::List(vec![Address { host: "cache".into(), port: server.port() }]);
    let pool = Pool::open_with_resolver(often(servers), Arc::clone(&names) as _).await.unwrap();
    assert_eq!(names_of(&pool), [format!("127.0.0.9:{}", server.port())]);
    assert!(pool.get("key").await.is_err());

    names.host("cache", &["127.0.0.1"]);
    until("the new server is found", async || pool.set("key", bytes("value"), Expiry::Never).await.ok())
        .await;
    until("the old one is gone", async || (names_of(&pool) == [server.host()]).then_some(())).await;
    pool.set("key", bytes("value"), Expiry::Never).await.unwrap();
    assert_eq!(pool.get("key").await.unwrap(), Some(bytes("value")));

    names.lose_host("cache");
    names.looked_up_again().await;
    assert_eq!(names_of(&pool), [server.host()], "a lookup that fails changes nothing");
    assert_eq!(pool.get("key").await.unwrap(), Some(bytes("value")));

    names.host("cache", &["127.0.0.1", "127.0.0.9"]);
    until("both are found", async || (names_of(&pool).len() == 2).then_some(())).await;
}

#[tokio::test]
async fn srv_records_add_and_remove_servers() {
    let (one, other) = (Memcached::start().await, Memcached::start().await);
    let names = Arc::new(Names::default());
    names.host("cache-0", &["127.0.0.1"]);
    names.host("cache-1", &["127.0.0.1"]);
    names.service("_memcached._tcp.cache", &[("cache-0", one.port())]);
    let options = often(Servers::Srv("_memcached._tcp.cache".into()));
    let pool = Pool::open_with_resolver(options, Arc::clone(&names) as _).await.unwrap();
    let keys: Vec<String> = (0..200).map(|number| format!("srv|{number}")).collect();
    pool.set_many(keys.iter().map(|key| (key, bytes("value"))), Expiry::Never).await.unwrap();

    names.service("_memcached._tcp.cache", &[("cache-1", other.port()), ("cache-0", one.port())]);
    until("the second is found", async || (names_of(&pool).len() == 2).then_some(())).await;
    assert_eq!(names_of(&pool), [format!("cache-0:{}", one.port()), format!("cache-1:{}", other.port())]);
    let still_there = pool.get_many(&keys).await.unwrap().iter().flatten().count();
    assert!((60..140).contains(&still_there), "about half of the keys move: {still_there} of 200 stay");

    names.service("_memcached._tcp.cache", &[("cache-0", one.port())]);
    until("the second is gone", async || (names_of(&pool).len() == 1).then_some(())).await;
    assert!(pool.get_many(&keys).await.unwrap().iter().all(Option::is_some));
}

#[tokio::test]
async fn a_server_that_fails_is_looked_up_at_once() {
    let server = Memcached::start().await;
    let names = Arc::new(Names::default());
    // A loopback address on which nobody listens.
    names.host("cache-0", &["127.0.0.9"]);
    names.service("_memcached._tcp.cache", &[("cache-0", server.port())]);
    let mut options = Options::new(Servers::Srv("_memcached._tcp.cache".into()));
    options.lookup_interval = Duration::from_hours(1);
    let pool = Pool::open_with_resolver(options, Arc::clone(&names) as _).await.unwrap();
    names.host("cache-0", &["127.0.0.1"]);
    assert!(pool.set("key", bytes("value"), Expiry::Never).await.is_err());
    until("the server is found", async || pool.set("key", bytes("value"), Expiry::Never).await.ok()).await;
    assert_eq!(names_of(&pool), [format!("cache-0:{}", server.port())]);
}

/// As at the start of a replica while one name cannot be looked up: it must not place keys elsewhere than the others do.
#[tokio::test]
async fn a_target_that_cannot_be_looked_up_keeps_its_keys_and_is_used_when_it_can() {
    let (one, other) = (Memcached::start().await, Memcached::start().await);
    let names = Arc::new(Names::default());
    names.host("cache-0", &["127.0.0.1"]);
    names.host("cache-1", &["127.0.0.1"]);
    names.service("_memcached._tcp.cache", &[("cache-0", one.port()), ("cache-1", other.port())]);
    let servers = Servers::Srv("_memcached._tcp.cache".into());
    let open =
        async || Pool::open_with_resolver(often(servers.clone()), Arc::clone(&names) as _).await.unwrap();
    let whole = open().await;
    let keys: Vec<String> = (0..200).map(|number| format!("srv|{number}")).collect();
    whole.set_many(keys.iter().map(|key| (key, bytes("value"))), Expiry::Never).await.unwrap();

    names.lose_host("cache-1");
    let partial = open().await;
    let lost = format!("cache-1:{}", other.port());
    assert_eq!(names_of(&partial), [format!("cache-0:{}", one.port()), lost.clone()]);
    assert!(partial.servers()[1].set_aside.is_some());
    let mut unknown = 0;
    for outcome in partial.look_up(&keys).await {
        match outcome {
            Outcome::Hit(_) => {}
            Outcome::SetAside(Error::Unavailable { server, message }) if server == lost => {
                assert_eq!(message, "its address cannot be looked up");
                unknown += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!((60..140).contains(&unknown), "{unknown} of 200");
    // Reading yields misses while another server lives; writing and leases are errors.
    let found = partial.get_many(&keys).await.unwrap();
    assert_eq!(found.iter().filter(|found| found.is_none()).count(), unknown);
    assert!(partial.set_many(keys.iter().map(|key| (key, bytes("value"))), Expiry::Never).await.is_err());

    names.host("cache-1", &["127.0.0.1"]);
    until("it is found", async || {
        partial.look_up(&keys).await.iter().all(|outcome| matches!(outcome, Outcome::Hit(_))).then_some(())
    })
    .await;
}

/// Nobody is dialled, so that minutes can pass at once.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_named_for_a_short_time_keeps_its_keys() {
    const MINUTE: Duration = Duration::from_mins(1);
    let names = Arc::new(Names::default());
    names.host("cache", &["10.0.0.1", "10.0.0.2"]);
    names.host("cache-0", &["10.0.0.1"]);
    names.host("cache-1", &["10.0.0.2"]);
    names.service("_memcached._tcp.cache", &[("cache-0", 1), ("cache-1", 1)]);
    let one_name = Servers::List(vec![Address { host: "cache".into(), port: 1 }]);
    let service = Servers::Srv("_memcached._tcp.cache".into());
    let open = async |servers| {
        Pool::open_with_resolver(Options::new(servers), Arc::clone(&names) as _).await.unwrap()
    };
    let pools = [open(one_name).await, open(service).await];
    let counts = || pools.each_ref().map(|pool| pool.servers().len());

    let name_both = |both: bool| {
        let count = if both { 2 } else { 1 };
        names.host("cache", &["10.0.0.1", "10.0.0.2"][..count]);
        names.service("_memcached._tcp.cache", &[("cache-0", 1), ("cache-1", 1)][..count]);
    };
    name_both(false);
    tokio::time::sleep(4 * MINUTE).await;
    assert_eq!(counts(), [2, 2], "it may come back");
    name_both(true);
    tokio::time::sleep(2 * MINUTE).await;
    name_both(false);
    tokio::time::sleep(4 * MINUTE).await;
    assert_eq!(counts(), [2, 2], "it was there in between");
    tokio::time::sleep(3 * MINUTE).await;
    assert_eq!(counts(), [1, 1], "it is gone for good");
}

#[tokio::test]
async fn a_pool_is_not_opened_with_names_that_cannot_be_looked_up() {
    let names = Arc::new(Names::default());
    names.host("cache", &["127.0.0.1"]);
    let address = |host: &str| Address { host: host.to_owned(), port: 11211 };
    for servers in [
        Servers::List(vec![address("nowhere")]),
        Servers::List(vec![address("cache"), address("nowhere")]),
        Servers::Srv("nowhere".into()),
    ] {
        let opened = Pool::open_with_resolver(Options::new(servers), Arc::clone(&names) as _).await;
        let Err(Error::NameNotFound { name, .. }) = opened else { panic!("{opened:?}") };
        assert_eq!(name, "nowhere");
    }
    let opened = Pool::open(Options::new(Servers::List(vec![]))).await;
    assert_eq!(opened.unwrap_err(), Error::NoServers);
}

#[tokio::test]
async fn the_systems_names_are_used_by_default() {
    let server = Memcached::start().await;
    let local =
        |host: &str| Options::new(Servers::List(vec![Address { host: host.into(), port: server.port() }]));
    let pool = Pool::open(local("localhost")).await.unwrap();
    pool.set("key", bytes("value"), Expiry::Never).await.unwrap();
    assert_eq!(pool.get("key").await.unwrap(), Some(bytes("value")));
    let opened = Pool::open(local("no-such-host.invalid")).await;
    assert!(matches!(opened, Err(Error::NameNotFound { .. })), "{opened:?}");
}

#[tokio::test]
async fn nothing_is_looked_up_after_the_last_clone() {
    let names = Arc::new(Names::default());
    names.host("cache", &["127.0.0.1"]);
    let servers = Servers::List(vec![Address { host: "cache".into(), port: 11211 }]);
    let pool = Pool::open_with_resolver(often(servers), Arc::clone(&names) as _).await.unwrap();
    let clone = pool.clone();
    drop(pool);
    names.looked_up_again().await;
    drop(clone);
    // The task that looks up has the only other reference.
    until("the task ends", async || (Arc::strong_count(&names) == 1).then_some(())).await;
}
