//! Keeps a connection, replaces it when it is lost, and asks over it.
//!
//! Whoever asks waits for an answer at most [`Connector::patience`]. While the server is down, attempts to connect are
//! made one at a time with a pause in between; during a pause every question fails at once with what the last attempt
//! met, so nothing queues up. An attempt runs in a task of its own: whoever stops waiting for it stops nobody else.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use redis::{RedisError, Value};
use tokio::task::{AbortHandle, JoinError};
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::StoreError;
use super::back_off::BackOff;
use super::connector::Connector;
use super::failure;
use super::request::{Connection, Request};

/// Asks the server or servers.
pub(super) struct Link {
    shared: Arc<SharedLink>,
}

struct SharedLink {
    connector: Connector,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Established>,
    attempt: Option<Attempt>,
    back_off: BackOff,
    last_failure: Option<StoreError>,
    established: u64,
}

#[derive(Clone)]
struct Established {
    connection: Connection,
    /// For messages.
    server: Arc<str>,
    since: Instant,
    /// Tells it from those before and after it.
    number: u64,
}

/// What to do while no attempt to connect may be made.
#[derive(Clone, Copy)]
enum InAPause {
    /// Fail at once: the server is known to be down.
    Fail,
    /// Wait for its end, once: who asks had a connection, and lost it while waiting for the answer.
    Wait,
}

/// What must be waited for before there is a connection.
enum Next {
    Attempt(Shared<BoxFuture<'static, ()>>),
    Pause(Instant),
}

struct Attempt {
    ends: Shared<BoxFuture<'static, ()>>,
    task: AbortHandle,
}

impl Link {
    /// Connects when the first question comes.
    pub(super) fn new(connector: Connector) -> Self {
        Self { shared: Arc::new(SharedLink { connector, state: Mutex::default() }) }
    }

    pub(super) fn connector(&self) -> &Connector {
        &self.shared.connector
    }

    /// Asks, and gives the answers, one for each command. Asks once more where the connection turns out to be dead and
    /// asking twice does no harm, and where a server had to refuse because it is no longer the primary.
    pub(super) async fn ask(&self, request: Request) -> Result<Vec<Value>, StoreError> {
        let asking = async {
            let (server, error) = match self.ask_once(&request, InAPause::Fail).await? {
                Ok(answers) => return Ok(answers),
                Err(failed) => failed,
            };
            let has_no_effect = failure::was_refused_by_a_replica(&error);
            if (has_no_effect || (failure::found_connection_dead(&error) && request.may_be_repeated()))
                && let Ok(answers) = self.ask_once(&request, InAPause::Wait).await?
            {
                return Ok(answers);
            }
            Err(self.shared.connector.failures().store_error(&server, &error))
        };
        match timeout(self.shared.connector.patience(), asking).await {
            Ok(result) => result,
            Err(_) => Err(self.shared.unavailable("no answer in time")),
        }
    }

    /// Asks over the connection there is. The outer error: there is none.
    async fn ask_once(
        &self,
        request: &Request,
        in_a_pause: InAPause,
    ) -> Result<Result<Vec<Value>, (Arc<str>, RedisError)>, StoreError> {
        let mut established = self.established(in_a_pause).await?;
        let result = established.connection.ask(request).await;
        Ok(result.map_err(|error| {
            if failure::loses_connection(&error) {
                self.shared.lose(&established, &error);
            }
            (established.server, error)
        }))
    }

    /// The connection, once there is one; or why there is none now.
    async fn established(&self, mut in_a_pause: InAPause) -> Result<Established, StoreError> {
        loop {
            let next = {
                let mut state = self.shared.state();
                if let Some(established) = &state.current {
                    return Ok(established.clone());
                }
                let pause = state.back_off.pause_until(Instant::now());
                match (state.running_attempt(), pause, in_a_pause) {
                    (Some(attempt), ..) => Next::Attempt(attempt),
                    (None, None, _) => Next::Attempt(self.shared.start_attempt(&mut state)),
                    (None, Some(end), InAPause::Wait) => Next::Pause(end),
                    (None, Some(_), InAPause::Fail) => {
                        return Err(state
                            .last_failure
                            .clone()
                            .unwrap_or_else(|| self.shared.unavailable("no answer in time")));
                    }
                }
            };
            match next {
                Next::Attempt(attempt) => attempt.await,
                Next::Pause(end) => {
                    tokio::time::sleep_until(end).await;
                    in_a_pause = InAPause::Fail;
                }
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(attempt) = self.shared.state().attempt.take() {
            attempt.task.abort();
        }
    }
}

impl State {
    fn running_attempt(&self) -> Option<Shared<BoxFuture<'static, ()>>> {
        self.attempt.as_ref().map(|attempt| attempt.ends.clone()).filter(|ends| ends.peek().is_none())
    }
}

impl SharedLink {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unavailable(&self, why: &str) -> StoreError {
        StoreError::Unavailable { message: format!("{}: {why}", self.connector.servers_text()) }
    }

    /// Starts to connect, and gives what ends when that has succeeded or failed.
    fn start_attempt(self: &Arc<Self>, state: &mut State) -> Shared<BoxFuture<'static, ()>> {
        let link = Arc::clone(self);
        let task = tokio::spawn(async move {
            let result = link.connector.connect().await;
            link.end_attempt(result);
        });
        let abort = task.abort_handle();
        let link = Arc::downgrade(self);
        let ended = move |result: Result<(), JoinError>| {
            if let (Err(_), Some(link)) = (result, link.upgrade()) {
                // A panic is a failure like any other.
                link.end_attempt(Err(link.unavailable("connecting failed unexpectedly")));
            }
        };
        let ends = task.map(ended).boxed().shared();
        state.attempt = Some(Attempt { ends: ends.clone(), task: abort });
        ends
    }

    fn end_attempt(&self, result: Result<(Connection, String), StoreError>) {
        let now = Instant::now();
        let mut state = self.state();
        state.attempt = None;
        match result {
            Ok((connection, server)) => {
                debug!(store.server = server, "connected to redis");
                state.established += 1;
                let number = state.established;
                state.current = Some(Established { connection, server: server.into(), since: now, number });
                state.last_failure = None;
            }
            Err(failure) => {
                state.current = None;
                state.back_off.failed(now);
                state.last_failure = Some(failure);
            }
        }
    }

    /// Replaces a connection. One server's is not used any more. A cluster's is, until another is there: the other
    /// nodes may be well, and its own repairs do not notice a node that only falls silent.
    fn lose(self: &Arc<Self>, lost: &Established, error: &RedisError) {
        let now = Instant::now();
        let mut state = self.state();
        let is_current = state.current.as_ref().is_some_and(|current| current.number == lost.number);
        if !is_current || state.running_attempt().is_some() {
            return;
        }
        if matches!(lost.connection, Connection::One(_)) {
            state.current = None;
            state.back_off.lost(lost.since, now);
            state.last_failure = Some(self.connector.failures().store_error(&lost.server, error));
        } else if state.back_off.pause_until(now).is_none() {
            state.back_off.lost(lost.since, now);
            // It goes on by itself.
            drop(self.start_attempt(&mut state));
        }
    }
}
