//! Secrets that a registry or its token service has refused: not tried again for every repository, lest the account be
//! locked.
//!
//! A secret that has never been let in is tried by one request at a time, and left alone once it is refused. Of one that
//! was let in, a refusal may say something of the repository alone: only several in a row say that it is of no use any
//! more, and from the first of them on it is tried by one at a time again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::{ErrorKind, Stage, limits};
use crate::credentials::Credentials;
use crate::{Name, Secret};

/// How many users of registries and token services are remembered. Beyond it only those are kept that are to wait now.
const MAX_USERS: usize = 4_096;
/// How many repositories may be refused in a row to a secret that was let in before.
const MOST_REPOSITORIES_IN_A_ROW: usize = 3;
/// How many refusals in a row may come to it, whatever they are about.
const MOST_REFUSALS_IN_A_ROW: usize = 10;
/// How long one waits for another to find out whether a secret is good.
const LONGEST_WAIT_FOR_TRIAL: Duration = Duration::from_mins(2);

/// Who asks whom. Where the secret was found does not matter: whoever locks accounts cannot see it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct User {
    /// Of the registry or token service.
    url: String,
    username: Option<String>,
    secret: Secret,
}

/// The right to try a secret that may be wrong. Nobody else tries it meanwhile.
pub(super) type Trial = OwnedMutexGuard<()>;

/// How all users stand with those whom they ask.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    standings: Mutex<HashMap<User, Standing>>,
    /// Those that somebody has or waits for.
    trials: Mutex<HashMap<User, Weak<tokio::sync::Mutex<()>>>>,
}

#[derive(Debug)]
enum Standing {
    Accepted(Row),
    Refused { message: Option<String>, until: Instant, consecutive: u32 },
}

/// The refusals since the secret was let in.
#[derive(Debug, Clone, Default)]
struct Row {
    refusals: usize,
    /// No two are the same.
    repositories: Vec<Name>,
}

impl Row {
    fn and(mut self, repository: &Name) -> Self {
        self.refusals += 1;
        if !self.repositories.contains(repository) {
            self.repositories.push(repository.clone());
        }
        self
    }

    /// Whether it can hardly be the repositories any more.
    fn is_long(&self) -> bool {
        self.repositories.len() >= MOST_REPOSITORIES_IN_A_ROW || self.refusals >= MOST_REFUSALS_IN_A_ROW
    }
}

impl User {
    /// `None` for nobody in particular.
    fn of(url: &str, credentials: &Credentials) -> Option<Self> {
        let (username, secret) = match credentials {
            Credentials::Anonymous => return None,
            Credentials::Basic { username, password, .. } => (Some(username.clone()), password),
            Credentials::IdentityToken { token, .. } | Credentials::RegistryToken { token, .. } => {
                (None, token)
            }
        };
        Some(Self { url: url.to_owned(), username, secret: secret.clone() })
    }
}

impl Refusals {
    /// What was said, if the one at `url` is not to be asked again yet.
    pub(super) fn standing(&self, url: &str, credentials: &Credentials) -> Option<ErrorKind> {
        match self.lock().get(&User::of(url, credentials)?)? {
            Standing::Refused { message, until, .. } if *until > Instant::now() => {
                let (credentials, message) = (credentials.to_string(), message.clone());
                Some(ErrorKind::Unauthorized { credentials, message })
            }
            _ => None,
        }
    }

    /// Waits until the one at `url` may be asked: of those whose secret may be wrong, one at a time. The trial is to be
    /// kept until the answer is noted. `Err` if the secret is refused meanwhile, or nothing comes of the others' trials.
    pub(super) async fn trial(
        &self,
        url: &str,
        credentials: &Credentials,
    ) -> Result<Option<Trial>, ErrorKind> {
        let Some(user) = User::of(url, credentials) else {
            return Ok(None);
        };
        if self.is_trusted(&user) {
            return Ok(None);
        }
        let limit = LONGEST_WAIT_FOR_TRIAL;
        let trial = tokio::time::timeout(limit, self.trial_of(&user).lock_owned()).await;
        let trial = trial.map_err(|_| ErrorKind::Timeout { stage: Stage::Total, limit })?;
        match self.standing(url, credentials) {
            Some(refused) => Err(refused),
            None if self.is_trusted(&user) => Ok(None),
            None => Ok(Some(trial)),
        }
    }

    /// What came of asking about a repository: after each 401 in a row `url` is left alone for longer, 30 s to 1 h.
    pub(super) fn note(
        &self,
        url: &str,
        credentials: &Credentials,
        repository: &Name,
        result: Result<(), &ErrorKind>,
    ) {
        let Some(user) = User::of(url, credentials) else {
            return;
        };
        let now = Instant::now();
        let mut standings = self.lock();
        if standings.len() >= MAX_USERS {
            standings.retain(|_, known| matches!(known, Standing::Refused { until, .. } if *until > now));
        }
        let standing = match (result, standings.get(&user)) {
            (Ok(()), _) => Standing::Accepted(Row::default()),
            (Err(ErrorKind::Unauthorized { message, .. }), known) => {
                let refused = |consecutive: u32| {
                    let until = now + limits::pause(None, consecutive);
                    Standing::Refused { message: message.clone(), until, consecutive }
                };
                match known {
                    None => refused(1),
                    Some(Standing::Accepted(row)) => {
                        let row = row.clone().and(repository);
                        if row.is_long() { refused(1) } else { Standing::Accepted(row) }
                    }
                    Some(Standing::Refused { until, consecutive, .. }) if *until <= now => {
                        refused(consecutive.saturating_add(1))
                    }
                    // Asked before the last refusal was known.
                    Some(Standing::Refused { .. }) => return,
                }
            }
            (Err(_), _) => return,
        };
        if standings.len() < MAX_USERS || standings.contains_key(&user) {
            standings.insert(user, standing);
        }
    }

    /// Whether the secret was let in, and not refused since.
    fn is_trusted(&self, user: &User) -> bool {
        matches!(self.lock().get(user), Some(Standing::Accepted(row)) if row.refusals == 0)
    }

    fn trial_of(&self, user: &User) -> Arc<tokio::sync::Mutex<()>> {
        let mut trials = self.trials.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trial) = trials.get(user).and_then(Weak::upgrade) {
            return trial;
        }
        trials.retain(|_, trial| trial.strong_count() > 0);
        let trial = Arc::default();
        trials.insert(user.clone(), Arc::downgrade(&trial));
        trial
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<User, Standing>> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
