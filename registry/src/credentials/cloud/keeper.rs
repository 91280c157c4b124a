//! Keeps what a login gave: renewed ahead of its end, asked for once however many wait, backed off when it fails.
//!
//! A login runs in a task of its own, so that those who wait for it may go away, and is bounded by [`LONGEST_LOGIN`]. While
//! what is kept is good, nobody waits for its renewal.

use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::credentials::{CredentialError, CredentialProvider, Credentials};
use crate::{Name, words};

/// For one login, whatever it consists of.
pub(super) const LONGEST_LOGIN: Duration = Duration::from_secs(10);

/// Whatever a cloud says, what it gave is kept at least so long: a clock that is wrong must not make us ask without end.
const SHORTEST_LIFETIME: Duration = Duration::from_mins(1);
/// Whatever a cloud says, it is not kept longer.
const LONGEST_LIFETIME: Duration = Duration::from_hours(24);

/// Renewal begins when so much of the lifetime is left, or [`AHEAD`], whichever is more, but never before half of it has gone.
const AHEAD_SHARE: u32 = 5;
const AHEAD: Duration = Duration::from_mins(5);

/// What is this near to its end is not given out any more: requests take time.
const MARGIN: Duration = Duration::from_secs(10);

/// How long a failure is answered again before the next try. Doubles with each in a row.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE_AFTER_LOGIN: Duration = Duration::from_hours(1);

/// How long a refusal by the registry does not make us log in anew, after one that did. Doubles with each that comes before
/// twice of it has passed: a registry that refuses always must not make us hammer the cloud.
const FIRST_REFUSAL_PAUSE: Duration = Duration::from_mins(1);
const LONGEST_REFUSAL_PAUSE: Duration = Duration::from_hours(1);

/// What a login gave.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) credentials: Credentials,
    /// For how much longer they are good.
    pub(super) lifetime: Duration,
}

/// Why a login gave nothing. The message shows no secret; its length does not matter.
#[derive(Debug)]
pub(super) struct NoGrant {
    pub(super) message: String,
    /// Whether it is only that there is no identity here.
    pub(super) is_none: bool,
}

/// Something is wrong.
impl<T: Into<String>> From<T> for NoGrant {
    fn from(message: T) -> Self {
        Self { message: message.into(), is_none: false }
    }
}

/// One way to log in.
#[async_trait]
pub(super) trait Login: Debug + Send + Sync + 'static {
    /// Logs in. Dropped when it takes too long.
    async fn log_in(&self) -> Result<Grant, NoGrant>;

    /// The registry has refused what was given: nothing that the login keeps by itself is to be used again.
    fn forget(&self) {}
}

/// A login and what it gave.
#[derive(Debug)]
pub(super) struct Keeper {
    provenance: Arc<str>,
    login: Arc<dyn Login>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    kept: Option<Kept>,
    trouble: Option<Trouble>,
    flight: Option<Flight>,
    refusal: Option<Refusal>,
}

#[derive(Debug)]
struct Kept {
    credentials: Credentials,
    renew_at: Instant,
    good_until: Instant,
}

#[derive(Debug)]
struct Trouble {
    error: CredentialError,
    until: Instant,
    /// How many in a row.
    times: u32,
}

/// A login that is under way. Dropped, it ends.
#[derive(Debug)]
struct Flight {
    landed: Shared<BoxFuture<'static, ()>>,
    task: JoinHandle<()>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The last refusal that made us log in anew.
#[derive(Debug)]
struct Refusal {
    at: Instant,
    pause: Duration,
}

impl Kept {
    fn new(grant: Grant, now: Instant) -> Self {
        let lifetime = grant.lifetime.clamp(SHORTEST_LIFETIME, LONGEST_LIFETIME);
        let ahead = (lifetime / AHEAD_SHARE).max(AHEAD).min(lifetime / 2);
        Self {
            credentials: grant.credentials,
            renew_at: now + lifetime.saturating_sub(ahead),
            good_until: now + lifetime.saturating_sub(MARGIN),
        }
    }
}

impl Trouble {
    /// Follows on the one before. `spread`, from 0 to 1, keeps replicas from asking all at once.
    fn new(error: CredentialError, before: Option<&Self>, now: Instant, spread: f64) -> Self {
        let times = before.map_or(0, |trouble| trouble.times).saturating_add(1);
        let doubled = FIRST_PAUSE.saturating_mul(1 << (times - 1).min(16));
        let pause = doubled.min(LONGEST_PAUSE_AFTER_LOGIN).mul_f64(1.0 - spread / 4.0);
        Self { error, until: now + pause, times }
    }
}

impl State {
    /// What can be given out now without waiting, if it can.
    fn answer(&self, now: Instant) -> Option<Result<Credentials, CredentialError>> {
        if let Some(kept) = self.kept.as_ref().filter(|kept| now < kept.good_until) {
            return Some(Ok(kept.credentials.clone()));
        }
        let trouble = self.trouble.as_ref().filter(|trouble| now < trouble.until)?;
        Some(Err(trouble.error.clone()))
    }

    /// Whether what is kept is good and is to be renewed.
    fn wants_renewal(&self, now: Instant) -> bool {
        self.kept.as_ref().is_some_and(|kept| now >= kept.renew_at)
            && self.trouble.as_ref().is_none_or(|trouble| now >= trouble.until)
    }

    fn land(&mut self, result: Result<Grant, CredentialError>) {
        let now = Instant::now();
        match result {
            Ok(grant) => {
                if let Some(trouble) = self.trouble.take() {
                    tracing::info!(credentials.source = %trouble.error.provenance, "gives credentials again");
                }
                self.kept = Some(Kept::new(grant, now));
            }
            Err(error) => {
                if self.trouble.is_none() {
                    tracing::info!(credentials.source = %error.provenance, error = error.message, "gives no credentials");
                }
                self.trouble = Some(Trouble::new(error, self.trouble.as_ref(), now, fastrand::f64()));
            }
        }
    }
}

impl Keeper {
    pub(super) fn new(provenance: &str, login: Arc<dyn Login>) -> Self {
        Self { provenance: provenance.into(), login, state: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// What can be given out at once; or the landing to wait for, of a login that is under way or begins now.
    fn look(&self) -> Result<Result<Credentials, CredentialError>, Shared<BoxFuture<'static, ()>>> {
        let now = Instant::now();
        let mut state = self.lock();
        let answer = state.answer(now);
        let must_log_in = answer.is_none() || state.wants_renewal(now);
        if must_log_in && state.flight.is_none() {
            state.flight = Some(self.take_off());
        }
        match answer {
            Some(answer) => Ok(answer),
            None => Err(state.flight.as_ref().expect("one has taken off").landed.clone()),
        }
    }

    fn take_off(&self) -> Flight {
        let (landing, landed) = oneshot::channel::<()>();
        let login = Arc::clone(&self.login);
        let state = Arc::clone(&self.state);
        let provenance = Arc::clone(&self.provenance);
        let task = tokio::spawn(async move {
            let result = bounded(&*login).await.map_err(|NoGrant { message, is_none }| CredentialError {
                provenance,
                message: words::printable(&message),
                is_none,
            });
            let mut state = lock(&state);
            state.land(result);
            let flight = state.flight.take();
            drop(state);
            drop(flight);
            drop(landing);
        });
        Flight { landed: landed.map(drop).boxed().shared(), task }
    }
}

/// Logs in, in time; a panic in a library is a failure like others.
async fn bounded(login: &dyn Login) -> Result<Grant, NoGrant> {
    match timeout(LONGEST_LOGIN, AssertUnwindSafe(login.log_in()).catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err("the login ended in a panic".into()),
        Err(_) => Err(format!("no answer within {LONGEST_LOGIN:?}").into()),
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl CredentialProvider for Keeper {
    fn provenance(&self) -> &str {
        &self.provenance
    }

    async fn credentials(&self, _: &Name) -> Result<Credentials, CredentialError> {
        let landed = match self.look() {
            Ok(answer) => return answer,
            Err(landed) => landed,
        };
        landed.await;
        let answer = self.lock().answer(Instant::now());
        // Only where it was refused again, or its task ended with the runtime, before we were woken.
        answer.unwrap_or_else(|| {
            let message = "what the login gave is not there any more".to_owned();
            Err(CredentialError { provenance: Arc::clone(&self.provenance), message, is_none: false })
        })
    }

    fn refused(&self, credentials: &Credentials) {
        let now = Instant::now();
        let mut state = self.lock();
        if state.kept.as_ref().is_none_or(|kept| kept.credentials != *credentials) {
            return;
        }
        let pause = match &state.refusal {
            Some(last) if now < last.at + last.pause => return,
            Some(last) if now < last.at + 2 * last.pause => (2 * last.pause).min(LONGEST_REFUSAL_PAUSE),
            _ => FIRST_REFUSAL_PAUSE,
        };
        state.refusal = Some(Refusal { at: now, pause });
        state.kept = None;
        self.login.forget();
    }
}

/// A login that is under way keeps the state alive; nobody would see its end.
impl Drop for Keeper {
    fn drop(&mut self) {
        self.lock().flight = None;
    }
}

#[cfg(test)]
mod tests;
