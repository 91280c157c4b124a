//! Secrets that a registry or its token service has refused: not tried again for every repository, lest the account be
//! locked.
//!
//! Only for who has never been let in: from then on a refusal says something of the repository.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::{ErrorKind, limits};
use crate::credentials::Credentials;

/// How many users of registries and token services are remembered. Beyond it only those are kept that are to wait now.
const MAX_USERS: usize = 4_096;

/// The URL of a registry or token service, and who asks there.
type User = (String, Credentials);

/// How all users stand with those whom they ask.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    standings: Mutex<HashMap<User, Standing>>,
}

#[derive(Debug)]
enum Standing {
    Accepted,
    Refused { kind: ErrorKind, until: Instant, consecutive: u32 },
}

impl Refusals {
    /// What was said, if the one at `url` is not to be asked again yet.
    pub(super) fn standing(&self, url: &str, identity: &Credentials) -> Option<ErrorKind> {
        match self.lock().get(&(url.to_owned(), identity.clone()))? {
            Standing::Refused { kind, until, .. } if *until > Instant::now() => Some(kind.clone()),
            _ => None,
        }
    }

    /// What came of asking: after each 401 in a row `url` is left alone for longer, 30 s to 1 h.
    pub(super) fn note(&self, url: &str, identity: &Credentials, result: Result<(), &ErrorKind>) {
        if *identity == Credentials::Anonymous {
            return;
        }
        let now = Instant::now();
        let mut standings = self.lock();
        if standings.len() >= MAX_USERS {
            standings.retain(|_, known| matches!(known, Standing::Refused { until, .. } if *until > now));
        }
        let user = (url.to_owned(), identity.clone());
        let standing = match (result, standings.get(&user)) {
            (Ok(()), _) => Standing::Accepted,
            (Err(kind @ ErrorKind::Unauthorized { .. }), known) => {
                let before = match known {
                    None => 0,
                    Some(Standing::Refused { until, consecutive, .. }) if *until <= now => *consecutive,
                    // Accepted once; or asked before the last refusal was known.
                    Some(_) => return,
                };
                let consecutive = before.saturating_add(1);
                let until = now + limits::pause(None, consecutive);
                Standing::Refused { kind: kind.clone(), until, consecutive }
            }
            (Err(_), _) => return,
        };
        if standings.len() < MAX_USERS || standings.contains_key(&user) {
            standings.insert(user, standing);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<User, Standing>> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Secret;

    const REALM: &str = "https://r.example/token";

    fn user(number: usize) -> Credentials {
        Credentials::Basic {
            username: format!("user{number}"),
            password: Secret::new("open sesame"),
            provenance: "the test".into(),
        }
    }

    fn refusal() -> ErrorKind {
        ErrorKind::Unauthorized { credentials: "user".to_owned(), message: None }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_until_a_token_is_given() {
        let refusals = Refusals::default();
        for pause in [30, 60, 120, 240, 480, 960, 1920, 3600, 3600] {
            assert_eq!(refusals.standing(REALM, &user(1)), None);
            refusals.note(REALM, &user(1), Err(&refusal()));
            // Who asked at the same time lengthens nothing.
            refusals.note(REALM, &user(1), Err(&refusal()));
            tokio::time::advance(Duration::from_secs(pause - 1)).await;
            assert_eq!(refusals.standing(REALM, &user(1)), Some(refusal()));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        refusals.note(REALM, &user(1), Ok(()));
        refusals.note(REALM, &user(1), Err(&refusal()));
        assert_eq!(refusals.standing(REALM, &user(1)), None, "that was about a repository");
    }

    #[tokio::test(start_paused = true)]
    async fn only_passwords_that_were_refused_there() {
        let refusals = Refusals::default();
        refusals.note(REALM, &Credentials::Anonymous, Err(&refusal()));
        assert_eq!(refusals.standing(REALM, &Credentials::Anonymous), None);
        refusals.note(REALM, &user(1), Err(&refusal()));
        assert_eq!(refusals.standing(REALM, &user(2)), None);
        assert_eq!(refusals.standing("https://other.example/token", &user(1)), None);
        for kind in [
            ErrorKind::Denied { credentials: "user".to_owned(), message: None },
            ErrorKind::Unavailable { status: 503, message: None },
        ] {
            refusals.note(REALM, &user(3), Err(&kind));
        }
        assert_eq!(refusals.standing(REALM, &user(3)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn users_are_bounded() {
        let refusals = Refusals::default();
        for number in 0..MAX_USERS {
            refusals.note(REALM, &user(number), Ok(()));
        }
        refusals.note(REALM, &user(MAX_USERS), Err(&refusal()));
        assert_eq!(refusals.lock().len(), 1);
        for number in 0..=MAX_USERS {
            refusals.note(REALM, &user(number), Err(&refusal()));
        }
        assert_eq!(refusals.lock().len(), MAX_USERS);
        assert!(refusals.standing(REALM, &user(MAX_USERS)).is_some());
    }
}
