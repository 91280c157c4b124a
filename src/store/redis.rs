//! Redis (6 or later) or Valkey as a store: one server, the primary behind sentinels, or a cluster.
//!
//! - An entry is one string: prefix and key, [`Entry::encode`]. It expires after 30 days, or a little more, unless it is
//!   written again or renewed ([`Client::renew`]), so that what nobody watches any more goes by itself.
//! - `compare_and_set` and the leases are scripts, each about one key: atomic on a server and in a cluster alike.
//! - A cluster's keys lie on many nodes: there, every key is a command of its own, many of them under way at once.
//!   Elsewhere they go in pipelines, and are read by `MGET`.
//! - All calls share one connection (a cluster: one to each node); only a scan has its own, which it never replaces.
//!   A server that is down costs nobody more than the two timeouts of the options, and between attempts to connect
//!   nothing at all.
//! - Only primaries are asked, so what was written is read. A failover may lose the writes of its last moments: Redis
//!   replicates in the background. The warmer learns those again.
//!
//! The library's own `ConnectionManager` is not used: it lets everybody wait while it tries again and again, keeps
//! failing for good after a refused password, and knows no sentinels.

mod back_off;
mod compare_and_set;
mod connector;
mod failure;
mod link;
mod options;
mod pipelines;
mod request;
mod scan;
mod script;
mod server_information;
mod slot_map;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use redis::{Cmd, Value};

use self::connector::Connector;
use self::link::Link;
use self::request::Request;
use self::script::{Invocation, LuaScript};
use super::{Client, Entry, Key, Reader, Statistics, StoreError};

pub use options::{RedisOptions, RedisTopology};

/// How long an entry stays that nobody writes or renews.
const TIME_TO_LIVE: Duration = Duration::from_hours(30 * 24);
/// The same in the unit of `PX` and `PEXPIRE`.
const TIME_TO_LIVE_MILLISECONDS: u64 = 30 * 24 * 60 * 60 * 1000;
/// Keys that one `MGET` or `DEL` names: a server does nothing else meanwhile.
const MOST_KEYS_IN_COMMAND: usize = 250;
/// Commands or pipelines that one call has under way at one server.
const MOST_BATCHES_UNDER_WAY: usize = 4;
/// Commands that one call has under way in a cluster.
const MOST_CLUSTER_COMMANDS_UNDER_WAY: usize = 128;

/// A store in Redis or Valkey.
pub struct Redis {
    link: Link,
    is_cluster: bool,
    prefix: String,
}

impl Redis {
    /// A store as `options` say. Nothing is connected yet: a server that is down now is no error.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] where no host name has an address, or the certificate authorities cannot be read.
    pub async fn open(options: RedisOptions) -> Result<Self, StoreError> {
        let is_cluster = matches!(options.topology, RedisTopology::Cluster(_));
        let prefix = options.prefix.clone();
        let link = Link::new(Connector::open(options).await?);
        Ok(Self { link, is_cluster, prefix })
    }

    /// What an entry is stored under.
    fn stored_key(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Asks one command, for its answer.
    async fn command(&self, command: Cmd) -> Result<Value, StoreError> {
        self.single(Request::Command(command)).await
    }

    /// Whether a script answered 1.
    async fn script(
        &self,
        script: &'static LuaScript,
        key: &Key,
        arguments: Vec<Vec<u8>>,
    ) -> Result<bool, StoreError> {
        let invocation = Invocation::new(script, self.stored_key(key), arguments);
        match self.single(Request::Script(invocation)).await? {
            Value::Int(answer) => Ok(answer == 1),
            other => Err(self.unexpected(&other)),
        }
    }

    async fn single(&self, request: Request) -> Result<Value, StoreError> {
        self.link.ask(request).await?.pop().ok_or_else(|| self.unexpected(&Value::Nil))
    }

    /// Asks many commands that each concern one key, for nothing but success. The second part of each is how many
    /// bytes it has, about.
    async fn ask_all(&self, commands: impl Iterator<Item = (Cmd, usize)> + Send) -> Result<(), StoreError> {
        if self.is_cluster {
            self.ask_concurrently(commands.map(|(command, _)| Request::Command(command))).await?;
        } else {
            self.ask_concurrently(pipelines::pipelines(commands).map(Request::Pipeline)).await?;
        }
        Ok(())
    }

    /// Asks with a bounded number of requests under way, for all their answers in order.
    async fn ask_concurrently(
        &self,
        requests: impl IntoIterator<Item = Request, IntoIter: Send>,
    ) -> Result<Vec<Value>, StoreError> {
        let under_way =
            if self.is_cluster { MOST_CLUSTER_COMMANDS_UNDER_WAY } else { MOST_BATCHES_UNDER_WAY };
        let answers = stream::iter(requests).map(|request| self.link.ask(request)).buffered(under_way);
        answers
            .try_fold(Vec::new(), |mut all, answers| async move {
                all.extend(answers);
                Ok(all)
            })
            .await
    }

    /// Values by what they are stored under, in order. What cannot be read as an entry is not there.
    async fn entries(&self, stored_keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        let answers = if self.is_cluster {
            self.ask_concurrently(commands_of_many("GET", stored_keys, 1)).await?
        } else {
            let reads = commands_of_many("MGET", stored_keys, MOST_KEYS_IN_COMMAND);
            let mut values = Vec::with_capacity(stored_keys.len());
            for answer in self.ask_concurrently(reads).await? {
                match answer {
                    Value::Array(several) => values.extend(several),
                    other => return Err(self.unexpected(&other)),
                }
            }
            values
        };
        if answers.len() != stored_keys.len() {
            return Err(self.protocol("more or fewer values than were asked for"));
        }
        answers.into_iter().map(|answer| self.entry(answer)).collect()
    }

    fn entry(&self, answer: Value) -> Result<Option<Entry>, StoreError> {
        match answer {
            Value::Nil => Ok(None),
            Value::BulkString(stored) => Ok(Entry::decode(&Bytes::from(stored))),
            other => Err(self.unexpected(&other)),
        }
    }

    fn unexpected(&self, answer: &Value) -> StoreError {
        let kind = match answer {
            Value::Nil => "nothing",
            Value::Int(_) => "a number",
            Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a string",
            Value::Array(_) => "an array",
            _ => "another kind of value",
        };
        self.protocol(&format!("{kind} is no answer to this question"))
    }

    fn protocol(&self, what: &str) -> StoreError {
        StoreError::Protocol { message: format!("{}: {what}", self.link.connector().servers_text()) }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("options", self.link.connector().options()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Reader for Redis {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let answer = self.command(command("GET", &self.stored_key(key))).await?;
        self.entry(answer)
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>, StoreError> {
        let stored_keys: Vec<String> = keys.iter().map(|key| self.stored_key(key)).collect();
        self.entries(&stored_keys).await
    }
}

#[async_trait]
impl Client for Redis {
    async fn set(&self, key: Key, entry: Entry) -> Result<(), StoreError> {
        self.command(set(&self.stored_key(&key), &entry.encode())).await.map(drop)
    }

    async fn set_many(&self, entries: Vec<(Key, Entry)>) -> Result<(), StoreError> {
        let commands = entries.into_iter().map(|(key, entry)| {
            let (key, value) = (self.stored_key(&key), entry.encode());
            (set(&key, &value), key.len() + value.len())
        });
        self.ask_all(commands).await
    }

    async fn compare_and_set(
        &self,
        key: Key,
        expected: Option<Entry>,
        entry: Entry,
    ) -> Result<bool, StoreError> {
        compare_and_set::compare_and_set(self, &key, expected, entry).await
    }

    async fn delete(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        let stored_keys: Vec<String> = keys.iter().map(|key| self.stored_key(key)).collect();
        // In a cluster, keys that are named together must lie together.
        let most = if self.is_cluster { 1 } else { MOST_KEYS_IN_COMMAND };
        self.ask_concurrently(commands_of_many("DEL", &stored_keys, most)).await.map(drop)
    }

    async fn lease(&self, key: &Key, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        let holder = holder.as_bytes().to_vec();
        if ttl.is_zero() {
            self.script(&script::GIVE_BACK_LEASE, key, vec![holder]).await?;
            return Ok(false);
        }
        let milliseconds = ttl.as_micros().div_ceil(1000).max(1).to_string().into_bytes();
        self.script(&script::TAKE_LEASE, key, vec![holder, milliseconds]).await
    }

    fn kind(&self) -> &'static str {
        "redis"
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn time_to_live(&self) -> Option<Duration> {
        Some(TIME_TO_LIVE)
    }

    async fn renew(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        let commands = keys.into_iter().map(|key| {
            let key = self.stored_key(&key);
            let mut command = command("PEXPIRE", &key);
            command.arg(TIME_TO_LIVE_MILLISECONDS);
            (command, key.len())
        });
        self.ask_all(commands).await
    }

    /// What the servers hold for all who use them: they do not count by prefix. Unknown where we may not ask.
    async fn statistics(&self) -> Result<Statistics, StoreError> {
        server_information::statistics(self).await
    }

    fn scan(&self) -> BoxStream<'_, Result<(Key, Entry), StoreError>> {
        scan::scan(self)
    }

    fn scan_repositories(&self) -> BoxStream<'_, Result<Key, StoreError>> {
        scan::scan_repositories(self)
    }
}

fn command(name: &str, stored_key: &str) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(stored_key);
    command
}

/// Commands that name all the keys, at most so many each.
fn commands_of_many(name: &str, stored_keys: &[String], most: usize) -> Vec<Request> {
    let command = |keys: &[String]| {
        let mut command = redis::cmd(name);
        command.arg(keys);
        Request::Command(command)
    };
    stored_keys.chunks(most).map(command).collect()
}

fn set(stored_key: &str, value: &[u8]) -> Cmd {
    let mut command = command("SET", stored_key);
    command.arg(value).arg("PX").arg(TIME_TO_LIVE_MILLISECONDS);
    command
}
