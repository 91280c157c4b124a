//! Tokens of Google's, by which a push subscription of Pub/Sub says who it is
//! (<https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions>): signed with one of the keys that Google publishes,
//! made out for the configured audience to the configured service account.
//!
//! Keys are asked for when there are none for a token, hourly, and not more than once a minute, whatever strangers send.

use std::collections::HashMap;
use std::time::Duration;

use http::{HeaderMap, header};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::debug;

use super::hint::bounded;
use crate::config::GoogleIdentity;

/// Who makes out the tokens.
const ISSUERS: [&str; 2] = ["https://accounts.google.com", "accounts.google.com"];
/// Clocks may differ by this much.
const CLOCKS_DIFFER: Duration = Duration::from_mins(1);
/// A longer token is none of Google's. Bytes.
const LONGEST_TOKEN: usize = 8 * 1024;
/// Bound of the document of keys, in bytes.
const MAX_KEYS_BYTES: usize = 64 * 1024;
/// What asking for the keys may take.
const KEYS_TIMEOUT: Duration = Duration::from_secs(10);
/// Keys are asked for again after this time.
const KEYS_GOOD_FOR: Duration = Duration::from_hours(1);
/// And while they cannot be had, the last ones are good for so long.
const LONGEST_KEYS_GOOD_FOR: Duration = Duration::from_hours(24);
/// Between two times of asking, whatever came of the first.
const ASK_AGAIN_AFTER: Duration = Duration::from_mins(1);

/// Checks tokens.
#[derive(Debug)]
pub(super) struct GoogleTokens {
    identity: GoogleIdentity,
    http: reqwest::Client,
    keys: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    by_id: HashMap<String, DecodingKey>,
    /// When these were asked for.
    had_at: Option<Instant>,
    asked_at: Option<Instant>,
    /// Why asking last brought none.
    problem: Option<String>,
}

/// Why a token is not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TokenProblem {
    /// It is not what it should be.
    Refused,
    /// The keys cannot be had: it may be good.
    NoKeys(String),
}

#[derive(Deserialize)]
struct Claims {
    exp: i64,
    email: Option<String>,
    email_verified: Option<bool>,
}

#[derive(Deserialize)]
struct Published {
    #[serde(deserialize_with = "bounded")]
    keys: Vec<PublishedKey>,
}

#[derive(Deserialize)]
struct PublishedKey {
    kid: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl GoogleTokens {
    pub(super) fn new(identity: GoogleIdentity) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(KEYS_TIMEOUT)
            .user_agent(concat!("samovar/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| format!("no client for Google's keys can be made: {error}"))?;
        Ok(Self { identity, http, keys: Mutex::default() })
    }

    /// Whether the request has a token that is good now.
    pub(super) async fn check(&self, headers: &HeaderMap, now: Timestamp) -> Result<(), TokenProblem> {
        let token =
            bearer(headers).filter(|token| token.len() <= LONGEST_TOKEN).ok_or(TokenProblem::Refused)?;
        let header = decode_header(token).map_err(refused)?;
        let key_id = header.kid.ok_or(TokenProblem::Refused)?;
        let key = self.key(&key_id).await?;
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[&self.identity.audience]);
        validation.set_issuer(&ISSUERS);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        // By our own clock, below.
        validation.validate_exp = false;
        let claims = decode::<Claims>(token, &key, &validation).map_err(refused)?.claims;
        let ends_at = Timestamp::from_second(claims.exp).map_err(refused)?;
        let is_theirs = claims.email.as_deref() == Some(&self.identity.service_account)
            && claims.email_verified == Some(true);
        if now.duration_since(ends_at) > CLOCKS_DIFFER.try_into().unwrap_or_default() || !is_theirs {
            debug!("a token of Google's has ended, or is made out to somebody else");
            return Err(TokenProblem::Refused);
        }
        Ok(())
    }

    /// The key of this id, which is asked for if need be: by one, while all others wait.
    async fn key(&self, id: &str) -> Result<DecodingKey, TokenProblem> {
        let mut keys = self.keys.lock().await;
        let now = Instant::now();
        let age = keys.had_at.map(|had_at| now.duration_since(had_at));
        let is_wanted = !keys.by_id.contains_key(id) || age.is_none_or(|age| age >= KEYS_GOOD_FOR);
        if is_wanted && keys.asked_at.is_none_or(|asked_at| now.duration_since(asked_at) >= ASK_AGAIN_AFTER) {
            keys.asked_at = Some(now);
            match self.published().await {
                Ok(by_id) => *keys = Keys { by_id, had_at: Some(now), asked_at: Some(now), problem: None },
                Err(problem) => keys.problem = Some(problem),
            }
        }
        let age = keys.had_at.map(|had_at| now.duration_since(had_at));
        match (
            keys.by_id.get(id).filter(|_| age.is_some_and(|age| age < LONGEST_KEYS_GOOD_FOR)),
            &keys.problem,
        ) {
            (Some(key), _) => Ok(key.clone()),
            (None, Some(problem)) => Err(TokenProblem::NoKeys(problem.clone())),
            (None, None) => Err(TokenProblem::Refused),
        }
    }

    async fn published(&self) -> Result<HashMap<String, DecodingKey>, String> {
        let url = self.identity.keys_url.clone();
        let shown = |error: reqwest::Error| format!("cannot get Google's keys: {}", error.without_url());
        let mut answer =
            self.http.get(url).send().await.and_then(reqwest::Response::error_for_status).map_err(shown)?;
        let mut document = Vec::new();
        while let Some(bytes) = answer.chunk().await.map_err(shown)? {
            if document.len() + bytes.len() > MAX_KEYS_BYTES {
                return Err(format!("Google's keys take more than {MAX_KEYS_BYTES} bytes"));
            }
            document.extend_from_slice(&bytes);
        }
        let published: Published = serde_json::from_slice(&document)
            .map_err(|error| format!("Google's keys cannot be read: {error}"))?;
        let readable = |PublishedKey { kid, n, e }| {
            let key = DecodingKey::from_rsa_components(&n?, &e?).ok()?;
            Some((kid?, key))
        };
        Ok(published.keys.into_iter().filter_map(readable).collect())
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("problem", &self.problem).finish_non_exhaustive()
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn refused(error: impl std::fmt::Display) -> TokenProblem {
    debug!(%error, "a token of Google's is refused");
    TokenProblem::Refused
}

#[cfg(test)]
mod tests;
