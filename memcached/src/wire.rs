//! The protocol of requests, by the `memcache` crate's asynchronous client, which only this file names: it is
//! experimental, and may have to be replaced.
//!
//! One [`Link`] leads to one server over a few connections. A future that is dropped takes its connection with it, so that
//! nobody reads the answer to a request that somebody else has given up.

use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use memcache::exp::{
    AsyncMetaClient, Delete, Error as LibraryError, Get, GetResult, GetStatus, Meta, MutationResult,
    MutationStatus, Op, OpResult, Set, Ttl,
};

use crate::expiry::Expiry;

/// How long an idle connection is kept: shorter than most middleboxes forget one.
const LONGEST_IDLE_CONNECTION: Duration = Duration::from_secs(90);

/// Tells one version of an item from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token(u64);

/// One thing to be done with one key, which is legal on the wire.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) key: Bytes,
    pub(crate) action: Action,
}

#[derive(Debug, Clone)]
pub(crate) enum Action {
    Read {
        with_token: bool,
    },
    Store {
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    },
    /// Removes the item, or only this version of it.
    Remove {
        only: Option<Token>,
    },
    /// Gives the item a new time to live.
    Touch {
        expiry: Expiry,
    },
}

/// When a value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Always,
    IfAbsent,
    IfUnchanged(Token),
}

impl Request {
    pub(crate) fn is_read(&self) -> bool {
        matches!(self.action, Action::Read { .. })
    }

    /// Whether doing it twice comes to the same as doing it once.
    pub(crate) fn is_idempotent(&self) -> bool {
        match self.action {
            Action::Read { .. } | Action::Touch { .. } | Action::Remove { only: None } => true,
            Action::Store { condition, .. } => condition == Condition::Always,
            Action::Remove { only: Some(_) } => false,
        }
    }

    /// About how many bytes it takes on the wire.
    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.value_bytes()
    }

    /// Bytes of the value that it brings.
    pub(crate) fn value_bytes(&self) -> usize {
        if let Action::Store { value, .. } = &self.action { value.len() } else { 0 }
    }
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The item that was to be read; the token where one was asked for.
    Found { value: Bytes, token: Option<Token> },
    /// There is no such item.
    Missing,
    /// Stored, removed or touched.
    Done,
    /// Nothing was stored or removed, because the item is there or has changed.
    ConditionNotMet,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    /// Whether all of the request was sent, so that it may have been carried out.
    pub(crate) sent: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    /// No connection can be made.
    Unreachable(String),
    /// There was no answer in time.
    TimedOut,
    /// The connection ended. A new one may well be made.
    Lost(String),
    /// The server does not want to do it, or calls it malformed.
    Refused(String),
    TooLarge,
    OutOfMemory,
    /// The answer is none that memcached gives.
    Protocol(String),
}

/// Connections to one server.
pub(crate) struct Link {
    /// `None` where it leads nowhere.
    client: Option<AsyncMetaClient>,
}

impl fmt::Debug for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Link").finish_non_exhaustive()
    }
}

impl Link {
    /// Connects to nothing yet. The caller sees to it that no more than `connections` requests run at once.
    /// Without an address it leads nowhere.
    pub(crate) fn to(
        address: Option<SocketAddr>,
        connections: usize,
        connect_timeout: Duration,
        operation_timeout: Duration,
    ) -> Self {
        let client = |address| {
            AsyncMetaClient::builder()
                .max_idle(connections)
                .max_idle_age(LONGEST_IDLE_CONNECTION)
                .connect_timeout(Some(connect_timeout))
                .io_timeout(Some(operation_timeout))
                .connect_async(address)
                .now_or_never()
                .and_then(Result::ok)
                .expect("an address is not looked up, and nothing is connected")
        };
        Self { client: address.map(client) }
    }

    fn client(&self) -> Result<&AsyncMetaClient, Failure> {
        let nowhere = || Failure { cause: Cause::Unreachable("it has no address".to_owned()), sent: false };
        self.client.as_ref().ok_or_else(nowhere)
    }

    /// Does one thing.
    pub(crate) async fn run(&self, request: &Request) -> Result<Answer, Failure> {
        let client = self.client()?;
        let result = match operation(request) {
            Op::Get(get) => client.run(get).await.map(OpResult::Get),
            Op::Set(set) => client.run(set).await.map(OpResult::Mutation),
            Op::Delete(delete) => client.run(delete).await.map(OpResult::Mutation),
            other => client.run(other).await,
        };
        result.map_err(failure).and_then(|result| answer(request, result))
    }

    /// Does several things in their order, in one round trip. Where one fails, so do all after it.
    pub(crate) async fn run_all(&self, requests: &[Request]) -> Vec<Result<Answer, Failure>> {
        let client = match self.client() {
            Ok(client) => client,
            Err(failure) => return requests.iter().map(|_| Err(failure.clone())).collect(),
        };
        match client.run_batch(requests.iter().map(operation)).await {
            Ok(results) => {
                let answers = requests.iter().zip(results);
                answers
                    .map(|(request, result)| {
                        result.map_err(failure).and_then(|result| answer(request, result))
                    })
                    .collect()
            }
            Err(error) => {
                let failure = failure(error);
                requests.iter().map(|_| Err(failure.clone())).collect()
            }
        }
    }
}

fn operation(request: &Request) -> Op {
    match &request.action {
        Action::Read { with_token } => {
            let get = Get::new(&request.key);
            if *with_token { get.meta(Meta::NONE.cas()).into() } else { get.into() }
        }
        Action::Store { value, expiry, condition } => {
            let set = Set::new(&request.key, value).ttl(time_to_live(*expiry));
            match condition {
                Condition::Always => set.into(),
                Condition::IfAbsent => set.add().into(),
                Condition::IfUnchanged(Token(token)) => set.compare_cas(*token).into(),
            }
        }
        Action::Remove { only } => {
            let delete = Delete::new(&request.key);
            match only {
                Some(Token(token)) => delete.compare_cas(*token).into(),
                None => delete.into(),
            }
        }
        Action::Touch { expiry } => {
            Get::new(&request.key).without_value().touch(time_to_live(*expiry)).into()
        }
    }
}

fn time_to_live(expiry: Expiry) -> Ttl {
    expiry.seconds().map_or(Ttl::NEVER, Ttl::secs)
}

fn answer(request: &Request, result: OpResult) -> Result<Answer, Failure> {
    match (&request.action, result) {
        (Action::Read { .. }, OpResult::Get(got)) => Ok(read_answer(got)),
        (Action::Touch { .. }, OpResult::Get(got)) if got.status == GetStatus::Miss => Ok(Answer::Missing),
        (Action::Touch { .. }, OpResult::Get(_)) => Ok(Answer::Done),
        (_, OpResult::Mutation(changed)) => Ok(change_answer(&changed)),
        (_, other) => {
            Err(Failure { cause: Cause::Protocol(format!("an unexpected answer: {other:?}")), sent: true })
        }
    }
}

fn read_answer(got: GetResult) -> Answer {
    match got.value {
        Some(value) => Answer::Found { value: value.into(), token: got.item.cas.map(Token) },
        None => Answer::Missing,
    }
}

fn change_answer(changed: &MutationResult) -> Answer {
    match changed.status {
        MutationStatus::Applied => Answer::Done,
        MutationStatus::NotFound => Answer::Missing,
        _ => Answer::ConditionNotMet,
    }
}

fn failure(error: LibraryError) -> Failure {
    match error {
        LibraryError::Ambiguous { source, .. } => Failure { cause: cause(*source), sent: true },
        other => Failure { cause: cause(other), sent: false },
    }
}

fn cause(error: LibraryError) -> Cause {
    match error {
        LibraryError::Timeout { .. } => Cause::TimedOut,
        LibraryError::Io(error) => match error.kind() {
            ErrorKind::TimedOut => Cause::TimedOut,
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof
            | ErrorKind::WriteZero => Cause::Lost(error.to_string()),
            _ => Cause::Unreachable(error.to_string()),
        },
        LibraryError::Server(message) => server_error(message),
        LibraryError::Protocol(message) => Cause::Protocol(message),
        // The server calls our request malformed, or the library does: neither is what a server we can work with says.
        other => Cause::Refused(other.to_string()),
    }
}

/// What stands behind `SERVER_ERROR`, by the texts that memcached has for it.
fn server_error(message: String) -> Cause {
    if message.contains("too large") {
        Cause::TooLarge
    } else if message.contains("out of memory") {
        Cause::OutOfMemory
    } else {
        Cause::Refused(message)
    }
}
