//! The pool: which servers there are now, and what is asked of one of them at a time.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::Notify;

use crate::discovery::{Member, Resolver, discover, needs_lookup};
use crate::dns::SystemResolver;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::expiry::Expiry;
use crate::key::StoredKey;
use crate::options::{Options, Servers};
use crate::owned_task::OwnedTask;
use crate::placement::place;
use crate::server::Server;
use crate::standing::Standing;
use crate::text;
use crate::upkeep;
use crate::wire::{Action, Answer, Condition, Request, Token};

/// A client for a pool of memcached servers. Clones are cheap and share everything; what runs in the background ends with
/// the last one.
///
/// Futures may be dropped at any time: what was asked for is done as a whole or not at all, and no later call sees the
/// answer.
#[derive(Debug, Clone)]
pub struct Pool {
    shared: Arc<Shared>,
    /// Looks names up again; `None` where there are only addresses.
    _upkeep: Option<Arc<OwnedTask>>,
}

/// What the pool shares with its upkeep.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    servers: RwLock<Arc<[Arc<Server>]>>,
    /// Told when a server is set aside: it may have moved.
    pub(crate) set_aside: Arc<Notify>,
}

/// A value and which version of it this is, for [`Pool::compare_and_swap`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The value.
    pub value: Bytes,
    /// Stands for this version.
    pub token: Token,
}

/// A server of the pool, as it stands now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerState {
    /// What it is called: `host:port` as the options or the SRV record name it, or `address:port`.
    pub name: String,
    /// Why it is set aside; `None` for one that is spoken to.
    pub set_aside: Option<Error>,
}

impl Pool {
    /// A pool of these servers. Looks their names up, and dials none of them: a server that is down shows when it is
    /// first needed. A listed name that cannot be looked up is an error; a target of SRV records is set aside until it
    /// can, where there is another one.
    pub async fn open(options: Options) -> Result<Self, Error> {
        Self::open_with_resolver(options, Arc::new(SystemResolver)).await
    }

    /// The same, with names looked up by `resolver`.
    pub async fn open_with_resolver(options: Options, resolver: Arc<dyn Resolver>) -> Result<Self, Error> {
        let discovery = discover(&options.servers, &*resolver, &[]).await?;
        if let Some(failure) = discovery.failures.into_iter().next() {
            if matches!(options.servers, Servers::List(_)) {
                return Err(failure);
            }
            tracing::warn!(error = %failure, "a memcached server cannot be looked up, its keys are unavailable");
        }
        let shared = Arc::new(Shared {
            options,
            servers: RwLock::new(Arc::new([])),
            set_aside: Arc::new(Notify::new()),
        });
        shared.adopt(&discovery.members);
        let upkeep = needs_lookup(&shared.options.servers).then(|| {
            let upkeep = upkeep::keep_looking_up(Arc::clone(&shared), resolver, discovery.members);
            Arc::new(OwnedTask::spawn(upkeep))
        });
        Ok(Self { shared, _upkeep: upkeep })
    }

    /// The servers, in the order of their names.
    pub fn servers(&self) -> Vec<ServerState> {
        let states = self.shared.servers();
        let state = |server: &Arc<Server>| ServerState {
            name: server.endpoint().identity.clone(),
            set_aside: match server.standing() {
                Standing::SetAside(error) => Some(error),
                Standing::Untried | Standing::Serving => None,
            },
        };
        states.iter().map(state).collect()
    }

    /// What is stored under `key`. Keys whose server is set aside read as misses while another server lives; where none
    /// does, the last error says why.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, Error> {
        let mut found = self.get_many(&[key]).await?;
        Ok(found.pop().flatten())
    }

    /// What is stored under `key`, with the token that [`Pool::compare_and_swap`] takes. A server that is set aside is an
    /// error here: who means to write wants to know.
    pub async fn get_versioned(&self, key: impl AsRef<[u8]>) -> Result<Option<Versioned>, Error> {
        let key = key.as_ref();
        let stored = StoredKey::of(key);
        let (server, answer) = self.run(key, &stored, Action::Read { with_token: true }).await?;
        match answer {
            Answer::Found { value, token: Some(token) } => {
                Ok(stored.unseal(value).map(|value| Versioned { value, token }))
            }
            Answer::Found { token: None, .. } => {
                Err(server.endpoint().protocol("an item without the token that was asked for"))
            }
            _ => Ok(None),
        }
    }

    /// Stores a value, whatever was there.
    pub async fn set(&self, key: impl AsRef<[u8]>, value: Bytes, expiry: Expiry) -> Result<(), Error> {
        self.store(key.as_ref(), value, expiry, Condition::Always).await.map(|_| ())
    }

    /// Stores a value if nothing is there, and says whether it did.
    pub async fn add(&self, key: impl AsRef<[u8]>, value: Bytes, expiry: Expiry) -> Result<bool, Error> {
        self.store(key.as_ref(), value, expiry, Condition::IfAbsent).await
    }

    /// Stores a value if what is there is still the version that `token` stands for, and says whether it did.
    pub async fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        token: Token,
        value: Bytes,
        expiry: Expiry,
    ) -> Result<bool, Error> {
        self.store(key.as_ref(), value, expiry, Condition::IfUnchanged(token)).await
    }

    /// Removes what is stored under `key`, and says whether something was.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.change(key.as_ref(), Action::Remove { only: None }).await
    }

    /// Removes what is stored under `key` if it is still the version that `token` stands for, and says whether it did.
    pub async fn compare_and_delete(&self, key: impl AsRef<[u8]>, token: Token) -> Result<bool, Error> {
        self.change(key.as_ref(), Action::Remove { only: Some(token) }).await
    }

    /// Gives what is stored under `key` a new time to live, and says whether something is.
    pub async fn touch(&self, key: impl AsRef<[u8]>, expiry: Expiry) -> Result<bool, Error> {
        self.change(key.as_ref(), Action::Touch { expiry }).await
    }

    /// The version of every server, by its name.
    pub async fn versions(&self) -> Vec<(String, Result<String, Error>)> {
        let servers = self.shared.servers();
        let ask = async |server: &Arc<Server>| {
            server.not_set_aside()?;
            text::handshake(server.endpoint()).await
        };
        let answers = join_all(servers.iter().map(ask)).await;
        names(&servers).zip(answers).collect()
    }

    /// The general statistics of every server (`stats`), by its name.
    pub async fn statistics(&self) -> Vec<(String, Result<HashMap<String, String>, Error>)> {
        let servers = self.shared.servers();
        let ask = async |server: &Arc<Server>| {
            server.not_set_aside()?;
            text::statistics(server.endpoint()).await
        };
        let answers = join_all(servers.iter().map(ask)).await;
        names(&servers).zip(answers).collect()
    }

    async fn store(
        &self,
        key: &[u8],
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<bool, Error> {
        let stored = StoredKey::of(key);
        let value = stored.seal(value);
        let (_, answer) = self.run(key, &stored, Action::Store { value, expiry, condition }).await?;
        Ok(answer == Answer::Done)
    }

    async fn change(&self, key: &[u8], action: Action) -> Result<bool, Error> {
        let (_, answer) = self.run(key, &StoredKey::of(key), action).await?;
        Ok(answer == Answer::Done)
    }

    async fn run(
        &self,
        key: &[u8],
        stored: &StoredKey,
        action: Action,
    ) -> Result<(Arc<Server>, Answer), Error> {
        let servers = self.shared.servers();
        let server = &servers[place_among(&servers, key)];
        let answer = server.run(&Request { key: stored.stored().clone(), action }).await?;
        Ok((Arc::clone(server), answer))
    }

    /// The servers as they are now: one call uses one set to its end.
    pub(crate) fn current(&self) -> Arc<[Arc<Server>]> {
        self.shared.servers()
    }
}

fn names(servers: &[Arc<Server>]) -> impl Iterator<Item = String> {
    servers.iter().map(|server| server.endpoint().identity.clone())
}

/// The position of the server that keeps `key`.
pub(crate) fn place_among(servers: &[Arc<Server>], key: &[u8]) -> usize {
    place(key, servers.iter().map(|server| server.seed())).expect("a pool is never without servers")
}

impl Shared {
    fn servers(&self) -> Arc<[Arc<Server>]> {
        Arc::clone(&self.servers.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes these the servers. Those that stay keep their connections and their standing.
    pub(crate) fn adopt(&self, members: &[Member]) {
        let present = self.servers();
        let mut servers = Vec::with_capacity(members.len());
        for member in members {
            let same = present.iter().find(|server| {
                server.endpoint().identity == member.identity && server.endpoint().address == member.address
            });
            servers.push(match same {
                Some(server) => Arc::clone(server),
                None => Arc::new(Server::new(self.endpoint(member), Arc::clone(&self.set_aside))),
            });
        }
        *self.servers.write().unwrap_or_else(PoisonError::into_inner) = servers.into();
    }

    fn endpoint(&self, member: &Member) -> Endpoint {
        Endpoint {
            identity: member.identity.clone(),
            address: member.address,
            connect_timeout: self.options.connect_timeout,
            operation_timeout: self.options.operation_timeout,
        }
    }
}
