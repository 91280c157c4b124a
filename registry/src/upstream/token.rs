//! Bearer tokens: reading what a token service answers, and knowing until when it is good.

use std::fmt;
use std::time::Duration;

use http::HeaderValue;
use serde::Deserialize;
use tokio::time::Instant;

use super::ErrorKind;
use super::auth::bearer_header;
use crate::{Secret, json};

/// How long a token lasts whose service does not say it (distribution's token specification).
const DEFAULT_LIFETIME_SECONDS: u64 = 60;
/// What is made of shorter lifetimes, so that not every request needs a new token.
const MIN_LIFETIME_SECONDS: u64 = 10;
/// What is made of longer ones.
const MAX_LIFETIME_SECONDS: u64 = 24 * 60 * 60;
/// A token is replaced when less than a tenth of its life is left, at most this long before its end.
const MAX_MARGIN: Duration = Duration::from_secs(30);

/// A token, ready to be sent.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token {
    header: HeaderValue,
    renewable_from: Instant,
    usable_until: Instant,
}

/// Never shows the token.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("usable_until", &self.usable_until).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<serde_json::Value>,
    refresh_token: Option<serde_json::Value>,
}

/// What a token service has granted.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) token: Token,
    /// What to ask with from now on, where the service says so.
    pub(super) refresh_token: Option<Secret>,
}

impl Granted {
    /// Reads a token service's answer to a request that was sent at `asked_at`.
    pub(super) fn decode(body: &[u8], asked_at: Instant) -> Result<Self, ErrorKind> {
        let protocol = |message: &str| ErrorKind::Protocol { message: message.to_owned() };
        // The error of the decoder could quote the token.
        let answer: TokenAnswer = json::object(body).map_err(|_| protocol("not a token"))?;
        let token = [answer.token, answer.access_token].into_iter().flatten().find(|token| !token.is_empty());
        let token = token.ok_or_else(|| protocol("an answer without a token"))?;
        let header = bearer_header(&Secret::new(token))
            .ok_or_else(|| protocol("a token with characters that cannot be sent"))?;

        let stated = answer.expires_in.as_ref().and_then(whole_seconds).unwrap_or(DEFAULT_LIFETIME_SECONDS);
        let lifetime = Duration::from_secs(stated.clamp(MIN_LIFETIME_SECONDS, MAX_LIFETIME_SECONDS));
        let margin = (lifetime / 10).min(MAX_MARGIN);
        let token = Token {
            header,
            renewable_from: asked_at + lifetime * 3 / 4,
            usable_until: asked_at + lifetime.saturating_sub(margin),
        };
        let refresh_token = answer.refresh_token.as_ref().and_then(serde_json::Value::as_str);
        let refresh_token = refresh_token.filter(|token| !token.is_empty()).map(Secret::new);
        Ok(Self { token, refresh_token })
    }
}

impl Token {
    /// Reads an answer for tests.
    #[cfg(test)]
    pub(super) fn decode(body: &[u8], asked_at: Instant) -> Result<Self, ErrorKind> {
        Granted::decode(body, asked_at).map(|granted| granted.token)
    }

    /// The value of the `Authorization` header.
    pub(super) fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// Whether it is time to fetch the next one, while this one is still used: in the last quarter of its life.
    pub(super) fn is_renewable(&self) -> bool {
        Instant::now() >= self.renewable_from
    }

    /// When it is to be replaced.
    pub(super) fn usable_until(&self) -> Instant {
        self.usable_until
    }

    /// Whether it need not be replaced yet.
    pub(super) fn is_usable(&self) -> bool {
        Instant::now() < self.usable_until
    }
}

/// Some services write the number as a string, or with a fraction.
fn whole_seconds(value: &serde_json::Value) -> Option<u64> {
    match value {
        serde_json::Value::String(text) => text.parse().ok(),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, which is meant"
        )]
        number => number.as_u64().or_else(|| number.as_f64().map(|seconds| seconds as u64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_in_all_their_forms() {
        let usable_for = |body: &str| {
            let token = Token::decode(body.as_bytes(), Instant::now()).unwrap();
            (token.header().to_str().unwrap().to_owned(), (token.usable_until - Instant::now()).as_secs())
        };
        for (body, seconds) in [
            (r#"{"token":"t"}"#, 54),
            (r#"{"access_token":"t","expires_in":300}"#, 270),
            (r#"{"token":"","access_token":"t","expires_in":3600}"#, 3570),
            (r#"{"token":"t","access_token":"other","expires_in":"100"}"#, 90),
            (r#"{"token":"t","expires_in":1}"#, 9),
            (r#"{"token":"t","expires_in":-5}"#, 9),
            (r#"{"token":"t","expires_in":99.9}"#, 89),
            (r#"{"token":"t","expires_in":1e300}"#, 86_370),
            (r#"{"token":"t","expires_in":null,"issued_at":"2020-01-01T00:00:00Z"}"#, 54),
        ] {
            assert_eq!(usable_for(body), ("Bearer t".to_owned(), seconds), "{body}");
        }
    }

    #[tokio::test]
    async fn a_refresh_token_may_come_along() {
        for (body, expected) in [
            (r#"{"token":"t","refresh_token":"next"}"#, Some("next")),
            (r#"{"token":"t","refresh_token":""}"#, None),
            (r#"{"token":"t","refresh_token":7}"#, None),
            (r#"{"token":"t"}"#, None),
        ] {
            let granted = Granted::decode(body.as_bytes(), Instant::now()).unwrap();
            assert_eq!(granted.refresh_token.as_ref().map(Secret::reveal), expected, "{body}");
            assert!(!format!("{granted:?}").contains("next"));
        }
    }

    #[tokio::test]
    async fn what_is_not_a_token_is_an_error_that_does_not_quote_it() {
        for body in [
            "",
            "{}",
            "[]",
            r#"{"token":""}"#,
            r#"{"token":"secr\nет"}"#,
            r#"{"token":"secret","expires_in":"#,
        ] {
            let error = Token::decode(body.as_bytes(), Instant::now()).unwrap_err();
            assert!(matches!(error, ErrorKind::Protocol { .. }));
            assert!(!error.to_string().contains("secr"), "{error}");
        }
        let token = Token::decode(br#"{"token":"secret"}"#, Instant::now()).unwrap();
        assert!(!format!("{token:?}").contains("secret"));
    }
}
