//! One server of the pool: its connections, and whether it is spoken to at all.
//!
//! A server is first asked for its version, by whoever needs it first; what does not answer as memcached does gets no
//! request. A server that cannot be reached, does not answer in time or answers nonsense is *set aside*: requests fail at
//! once, with what was wrong, while one task tries it again in the background, less and less often. One whose address
//! cannot be looked up is set aside from the beginning, until there is another one in its place.
//!
//! A connection that ends says nothing about its server: what may be done twice is done again once, over a new connection.
//! Nor does a time that runs out in the middle of an exchange: what is not answered yet is asked for again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::owned_task::OwnedTask;
use crate::placement::Seed;
use crate::standing::{BackOff, Standing};
use crate::text;
use crate::wire::{Answer, Cause, Failure, Link, Request};

/// How many connections to one server are in use or kept at once. Whoever needs one more waits.
pub(crate) const MOST_CONNECTIONS: usize = 16;
/// How often the time may run out during one exchange after some answers came, before the rest of it is given up.
const MOST_TIMEOUTS_PER_EXCHANGE: usize = 8;

#[derive(Debug)]
pub(crate) struct Server {
    seed: Seed,
    link: Mutex<Arc<Link>>,
    connections: Semaphore,
    /// Held by the one who asks a new server for its version.
    verifying: tokio::sync::Mutex<()>,
    state: Arc<State>,
    revival: Mutex<Option<OwnedTask>>,
    /// Told when the server is set aside.
    set_aside: Arc<Notify>,
}

/// What the revival shares with the server, which it must not keep alive.
#[derive(Debug)]
struct State {
    endpoint: Endpoint,
    standing: Mutex<Standing>,
    back_off: Mutex<BackOff>,
}

impl Server {
    /// A server that nobody has spoken to yet.
    pub(crate) fn new(endpoint: Endpoint, set_aside: Arc<Notify>) -> Self {
        let standing = endpoint.address().map_or_else(Standing::SetAside, |_| Standing::Untried);
        Self {
            seed: Seed::of(&endpoint.identity),
            link: Mutex::new(new_link(&endpoint)),
            connections: Semaphore::new(MOST_CONNECTIONS),
            verifying: tokio::sync::Mutex::default(),
            state: Arc::new(State { endpoint, standing: Mutex::new(standing), back_off: Mutex::default() }),
            revival: Mutex::default(),
            set_aside,
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.state.endpoint
    }

    pub(crate) fn seed(&self) -> Seed {
        self.seed
    }

    pub(crate) fn standing(&self) -> Standing {
        lock(&self.state.standing).clone()
    }

    /// An error where it is set aside: why.
    pub(crate) fn not_set_aside(&self) -> Result<(), Error> {
        match &*lock(&self.state.standing) {
            Standing::SetAside(error) => Err(error.clone()),
            Standing::Serving | Standing::Untried => Ok(()),
        }
    }

    /// Does one thing.
    pub(crate) async fn run(&self, request: &Request) -> Result<Answer, Error> {
        self.ready().await?;
        let _permit = self.connection().await?;
        let link = self.link();
        let mut result = link.run(request).await;
        if let Err(failure) = &result
            && matches!(failure.cause, Cause::Lost(_))
        {
            let link = self.replace_link(&link);
            if failure.sent && !request.is_idempotent() {
                return Err(self.error(failure, request));
            }
            result = link.run(request).await;
        }
        result.map_err(|failure| self.judge(&failure, request))
    }

    /// Does several things that may each be done twice, in their order, in one round trip unless something fails: then
    /// what comes after it is done in another one. A server that is slow and answers is not set aside, though what it has
    /// not answered after [`MOST_TIMEOUTS_PER_EXCHANGE`] fails.
    pub(crate) async fn run_all(&self, requests: &[Request]) -> Vec<Result<Answer, Error>> {
        debug_assert!(requests.iter().all(Request::is_idempotent), "what is not may not be done again");
        if let [only] = requests {
            return vec![self.run(only).await];
        }
        let mut results = Vec::with_capacity(requests.len());
        let _permit = match self.ready_connection().await {
            Ok(permit) => permit,
            Err(error) => {
                results.resize(requests.len(), Err(error));
                return results;
            }
        };
        let mut link = self.link();
        let mut may_connect_again = true;
        let mut timeouts = 0;
        while results.len() < requests.len() {
            let open = &requests[results.len()..];
            let mut outcomes = link.run_all(open).await;
            let answered = outcomes.iter().take_while(|outcome| outcome.is_ok()).count();
            let failure = outcomes.get(answered).and_then(|outcome| outcome.clone().err());
            outcomes.truncate(answered);
            results.extend(outcomes.into_iter().filter_map(Result::ok).map(Ok));
            let Some(failure) = failure else { continue };
            if matches!(failure.cause, Cause::Lost(_)) && may_connect_again {
                may_connect_again = false;
                link = self.replace_link(&link);
                continue;
            }
            if failure.cause == Cause::TimedOut && answered > 0 {
                timeouts += 1;
                if timeouts == MOST_TIMEOUTS_PER_EXCHANGE {
                    results.resize(requests.len(), Err(self.error(&failure, &open[answered])));
                }
                continue;
            }
            let error = self.judge(&failure, &open[answered]);
            let concerns_one = failure.cause == Cause::TooLarge;
            let failed = if concerns_one { results.len() + 1 } else { requests.len() };
            results.resize(failed, Err(error));
        }
        results
    }

    fn link(&self) -> Arc<Link> {
        Arc::clone(&lock(&self.link))
    }

    /// Another link in place of `lost`, one of whose connections has ended: its others may well have ended with it, and
    /// nobody is to find that out one by one.
    fn replace_link(&self, lost: &Arc<Link>) -> Arc<Link> {
        let mut link = lock(&self.link);
        if Arc::ptr_eq(&link, lost) {
            *link = new_link(self.endpoint());
        }
        Arc::clone(&link)
    }

    async fn ready_connection(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.ready().await?;
        self.connection().await
    }

    /// Waits for a turn. The server may be set aside meanwhile, by those who had theirs.
    async fn connection(&self) -> Result<SemaphorePermit<'_>, Error> {
        let endpoint = self.endpoint();
        let patience = endpoint.connect_timeout + endpoint.operation_timeout;
        let permit = timeout(patience, self.connections.acquire()).await;
        let permit = permit.map_err(|_| endpoint.unavailable(format!("no turn within {patience:?}")))?;
        self.not_set_aside()?;
        Ok(permit.expect("the semaphore is never closed"))
    }

    /// Makes sure that the server may be spoken to.
    async fn ready(&self) -> Result<(), Error> {
        if !matches!(*lock(&self.state.standing), Standing::Untried) {
            return self.not_set_aside();
        }
        let _verifying = self.verifying.lock().await;
        if !matches!(*lock(&self.state.standing), Standing::Untried) {
            return self.not_set_aside();
        }
        match text::handshake(self.endpoint()).await {
            Ok(version) => {
                tracing::debug!(server.name = %self.endpoint().identity, version, "memcached server answers");
                *lock(&self.state.standing) = Standing::Serving;
                Ok(())
            }
            Err(error) => {
                self.set_aside(&error);
                Err(error)
            }
        }
    }

    /// The error for a failure, after the consequences that it has for the server.
    fn judge(&self, failure: &Failure, request: &Request) -> Error {
        let error = self.error(failure, request);
        if !matches!(error, Error::TooLarge { .. } | Error::OutOfMemory { .. }) {
            self.set_aside(&error);
        }
        error
    }

    fn error(&self, failure: &Failure, request: &Request) -> Error {
        let endpoint = self.endpoint();
        let server = endpoint.identity.clone();
        let message = match &failure.cause {
            Cause::TooLarge => return Error::TooLarge { server, bytes: request.value_bytes() },
            Cause::OutOfMemory if request.is_read() => {
                return endpoint.unavailable("it has no memory left for an answer");
            }
            Cause::OutOfMemory => return Error::OutOfMemory { server },
            Cause::Protocol(message) => return endpoint.protocol(message),
            Cause::Refused(message) => {
                return endpoint.unavailable(format!("it refuses a request: {message}"));
            }
            Cause::TimedOut if failure.sent => format!("no answer within {:?}", endpoint.operation_timeout),
            Cause::TimedOut => return endpoint.no_answer(),
            Cause::Unreachable(message) | Cause::Lost(message) => message.clone(),
        };
        if failure.sent { Error::Interrupted { server, message } } else { endpoint.unavailable(message) }
    }

    fn set_aside(&self, error: &Error) {
        {
            let mut standing = lock(&self.state.standing);
            if matches!(*standing, Standing::SetAside(_)) {
                return;
            }
            *standing = Standing::SetAside(error.clone());
        }
        tracing::warn!(server.name = %self.endpoint().identity, error = %error, "memcached server set aside");
        *lock(&self.link) = new_link(self.endpoint());
        lock(&self.state.back_off).failed(Instant::now());
        *lock(&self.revival) = Some(OwnedTask::spawn(revive(Arc::clone(&self.state))));
        self.set_aside.notify_one();
    }
}

fn new_link(endpoint: &Endpoint) -> Arc<Link> {
    let Endpoint { address, connect_timeout, operation_timeout, .. } = *endpoint;
    Arc::new(Link::to(address, MOST_CONNECTIONS, connect_timeout, operation_timeout))
}

/// Tries a server that was set aside until it answers.
async fn revive(state: Arc<State>) {
    loop {
        let pause = lock(&state.back_off).next(fastrand::f64());
        tokio::time::sleep(pause).await;
        match text::handshake(&state.endpoint).await {
            Ok(_) => break,
            Err(error) => *lock(&state.standing) = Standing::SetAside(error),
        }
    }
    lock(&state.back_off).back(Instant::now());
    *lock(&state.standing) = Standing::Serving;
    tracing::info!(server.name = %state.endpoint.identity, "memcached server answers again");
}

/// Nothing that is done under these locks leaves a value half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
