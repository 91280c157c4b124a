//! Passwords that a token service has refused: not tried again for every repository, lest the account be locked.
//!
//! Only for who has never been given a token: from then on a refusal says something of the repository.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::token::Token;
use super::{ErrorKind, limits};
use crate::credentials::Credentials;

/// How many users of token services are remembered. Beyond it only those are kept that are to wait now.
const MAX_USERS: usize = 4_096;

/// A token service's URL, and who asks there.
type User = (String, Credentials);

/// How all users stand with their token services.
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
    /// What the token service said, if it is not to be asked again yet.
    pub(super) fn standing(&self, realm: &str, identity: &Credentials) -> Option<ErrorKind> {
        match self.lock().get(&(realm.to_owned(), identity.clone()))? {
            Standing::Refused { kind, until, .. } if *until > Instant::now() => Some(kind.clone()),
            _ => None,
        }
    }

    /// What came of asking the token service: after each 401 in a row it is left alone for longer, 30 s to 1 h.
    pub(super) fn note(&self, realm: &str, identity: &Credentials, result: &Result<Token, ErrorKind>) {
        if *identity == Credentials::Anonymous {
            return;
        }
        let now = Instant::now();
        let mut standings = self.lock();
        if standings.len() >= MAX_USERS {
            standings.retain(|_, known| matches!(known, Standing::Refused { until, .. } if *until > now));
        }
        let user = (realm.to_owned(), identity.clone());
        let standing = match (result, standings.get(&user)) {
            (Ok(_), _) => Standing::Accepted,
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

    fn refused() -> Result<Token, ErrorKind> {
        Err(ErrorKind::Unauthorized { credentials: "user".to_owned(), message: None })
    }

    fn accepted() -> Result<Token, ErrorKind> {
        Token::decode(br#"{"token":"t"}"#, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_until_a_token_is_given() {
        let refusals = Refusals::default();
        for pause in [30, 60, 120, 240, 480, 960, 1920, 3600, 3600] {
            assert_eq!(refusals.standing(REALM, &user(1)), None);
            refusals.note(REALM, &user(1), &refused());
            // Who asked at the same time lengthens nothing.
            refusals.note(REALM, &user(1), &refused());
            tokio::time::advance(Duration::from_secs(pause - 1)).await;
            assert_eq!(refusals.standing(REALM, &user(1)), refused().err());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        refusals.note(REALM, &user(1), &accepted());
        refusals.note(REALM, &user(1), &refused());
        assert_eq!(refusals.standing(REALM, &user(1)), None, "that was about a repository");
    }

    #[tokio::test(start_paused = true)]
    async fn only_passwords_that_were_refused_there() {
        let refusals = Refusals::default();
        refusals.note(REALM, &Credentials::Anonymous, &refused());
        assert_eq!(refusals.standing(REALM, &Credentials::Anonymous), None);
        refusals.note(REALM, &user(1), &refused());
        assert_eq!(refusals.standing(REALM, &user(2)), None);
        assert_eq!(refusals.standing("https://other.example/token", &user(1)), None);
        for kind in [
            ErrorKind::Denied { credentials: "user".to_owned(), message: None },
            ErrorKind::Unavailable { status: 503, message: None },
        ] {
            refusals.note(REALM, &user(3), &Err(kind));
        }
        assert_eq!(refusals.standing(REALM, &user(3)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn users_are_bounded() {
        let refusals = Refusals::default();
        for number in 0..MAX_USERS {
            refusals.note(REALM, &user(number), &accepted());
        }
        refusals.note(REALM, &user(MAX_USERS), &refused());
        assert_eq!(refusals.lock().len(), 1);
        for number in 0..=MAX_USERS {
            refusals.note(REALM, &user(number), &refused());
        }
        assert_eq!(refusals.lock().len(), MAX_USERS);
        assert!(refusals.standing(REALM, &user(MAX_USERS)).is_some());
    }
}
