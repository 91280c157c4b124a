//! Identity tokens, which a token service may replace with each answer: what to send in place of those configured.
//!
//! Such tokens may be good for one request only. Until an answer has come without another they are sent one request after
//! the other, each by a task of its own: whoever asked may go away, and what took the token's place is not lost with him.
//! Those tasks are owned by [`IdentityTokens`] and end with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedMutexGuard, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::ErrorKind;
use super::super::auth::Grant;
use super::super::token::Granted;
use super::TokenRequest;
use crate::Secret;
use crate::credentials::Credentials;

/// How many identity tokens are remembered, with what took their place. Beyond it the one unused for longest goes.
const MAX_IDENTITY_TOKENS: usize = 4_096;

/// A token service's URL, and who asks there.
type User = (String, Credentials);

/// What is known of all identity tokens.
#[derive(Debug, Default)]
pub(super) struct IdentityTokens {
    known: Mutex<HashMap<User, Known>>,
    /// At most one for each token.
    exchanges: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct Known {
    token: SharedToken,
    used_at: Instant,
}

/// Locked while it is sent, unless it is good for many requests.
type SharedToken = Arc<tokio::sync::Mutex<IdentityToken>>;

/// What to send in place of an identity token that was configured.
#[derive(Debug)]
struct IdentityToken {
    token: Secret,
    /// Whether answers bring another one; `None` before the first.
    is_replaced: Option<bool>,
}

impl IdentityToken {
    fn configured(given: &Secret) -> Self {
        Self { token: given.clone(), is_replaced: None }
    }

    /// What came of sending a token.
    fn note(&mut self, sent: &Secret, given: &Secret, granted: &Result<Granted, ErrorKind>) {
        match granted {
            Ok(Granted { refresh_token: Some(next), .. }) if next != sent => {
                *self = Self { token: next.clone(), is_replaced: Some(true) };
            }
            Ok(_) if self.is_replaced.is_none() => self.is_replaced = Some(false),
            // The next time it is tried with the one that was configured. 403 says something of the repository.
            Err(ErrorKind::Unauthorized { .. }) if sent != given && self.token == *sent => {
                *self = Self::configured(given);
            }
            _ => {}
        }
    }
}

impl IdentityTokens {
    /// Asks with the token that stands for `given` now.
    pub(super) async fn exchange(
        &self,
        request: &Arc<TokenRequest>,
        given: &Secret,
    ) -> Result<Granted, ErrorKind> {
        let token = self.token((request.bearer.realm().to_owned(), request.credentials.clone()), given);
        let known = token.clone().lock_owned().await;
        if known.is_replaced != Some(false) {
            return self.exchange_alone(known, request.clone(), given.clone()).await;
        }
        let sent = known.token.clone();
        drop(known);
        let granted = request.post(Grant::RefreshToken(&sent)).await;
        token.lock().await.note(&sent, given, &granted);
        granted
    }

    /// Asks while nobody else may, to the end.
    async fn exchange_alone(
        &self,
        mut known: OwnedMutexGuard<IdentityToken>,
        request: Arc<TokenRequest>,
        given: Secret,
    ) -> Result<Granted, ErrorKind> {
        let (answer, answered) = oneshot::channel();
        let exchange = async move {
            let sent = known.token.clone();
            let granted = request.post(Grant::RefreshToken(&sent)).await;
            known.note(&sent, &given, &granted);
            drop(known);
            // Nobody may be waiting any more.
            let _ = answer.send(granted);
        };
        {
            let mut exchanges = self.exchanges.lock().unwrap_or_else(PoisonError::into_inner);
            while exchanges.try_join_next().is_some() {}
            exchanges.spawn(exchange);
        }
        answered.await.unwrap_or_else(|_| {
            Err(ErrorKind::Transport { message: "the identity token's exchange was given up".to_owned() })
        })
    }

    /// What to send for this user now.
    fn token(&self, user: User, given: &Secret) -> SharedToken {
        let used_at = Instant::now();
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get_mut(&user) {
            known.used_at = used_at;
            return known.token.clone();
        }
        if all.len() >= MAX_IDENTITY_TOKENS
            && let Some((unused, _)) = all.iter().min_by_key(|(_, known)| known.used_at)
        {
            let unused = unused.clone();
            all.remove(&unused);
        }
        let token = Arc::new(tokio::sync::Mutex::new(IdentityToken::configured(given)));
        all.insert(user, Known { token: token.clone(), used_at });
        token
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn granted(body: &str) -> Result<Granted, ErrorKind> {
        Granted::decode(body.as_bytes(), Instant::now())
    }

    #[tokio::test]
    async fn only_unauthorised_takes_a_replacement_away() {
        let (given, next) = (Secret::new("given"), Secret::new("next"));
        let mut token = IdentityToken::configured(&given);
        token.note(&given, &given, &granted(r#"{"token":"t","refresh_token":"next"}"#));
        let (credentials, message) = (String::new(), None);
        token.note(&next, &given, &Err(ErrorKind::Denied { credentials, message }));
        assert_eq!(token.token, next);
        let (credentials, message) = (String::new(), None);
        token.note(&next, &given, &Err(ErrorKind::Unauthorized { credentials, message }));
        assert_eq!((token.token, token.is_replaced), (given, None));
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_unused_for_longest_goes() {
        let tokens = IdentityTokens::default();
        let given = Secret::new("given");
        let token = |number: usize| tokens.token((number.to_string(), Credentials::Anonymous), &given);
        let mut first = Vec::new();
        for number in 0..MAX_IDENTITY_TOKENS {
            first.push(token(number));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        token(0);
        token(MAX_IDENTITY_TOKENS);
        assert_eq!(tokens.known.lock().unwrap().len(), MAX_IDENTITY_TOKENS);
        assert!(Arc::ptr_eq(&token(0), &first[0]));
        assert!(Arc::ptr_eq(&token(2), &first[2]));
        assert!(!Arc::ptr_eq(&token(1), &first[1]));
    }
}
