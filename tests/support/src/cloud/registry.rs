//! Registries that accept only the login made from a cloud's identity.

use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use super::secret;
use super::server::{Answering, Asked, Told};

/// Lists the tag `v1` of any repository for one user: by Basic, as Amazon's registry wants it, or with a token for which the user
/// is asked at `/token`, as Google's does.
#[derive(Debug)]
pub struct FakeTokenRegistry {
    server: Answering,
}

/// Azure's registry: exchanges an identity's token for a refresh token, and that for access tokens
/// (<https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md>). Lists the tag `v1` of any repository.
#[derive(Debug)]
pub struct FakeAcr {
    server: Answering,
    state: Arc<AcrState>,
}

#[derive(Debug)]
struct AcrState {
    identity_token: String,
    given: Mutex<Given>,
}

/// The tokens that are good.
#[derive(Debug)]
struct Given {
    refresh_tokens: Vec<String>,
    access_token: String,
}

impl FakeTokenRegistry {
    /// Wants this user and password with every request.
    pub async fn basic(user: &str, password: &str) -> Self {
        let expected = basic(user, password);
        let server = Answering::start(move |asked| {
            if asked.header("authorization") == expected {
                return tags();
            }
            refused("Basic realm=\"https://registry.example/\",service=\"registry.example\"".to_owned())
        });
        Self { server: server.await }
    }

    /// Gives a token to this user and password.
    pub async fn bearer(user: &str, password: &str) -> Self {
        let (expected, token) = (basic(user, password), secret("bearer"));
        let server = Answering::start(move |asked| {
            let authorization = asked.header("authorization");
            if asked.path == "/token" {
                let is_right = authorization == expected && asked.parameter("scope").ends_with(":pull");
                let body = json!({ "token": token, "expires_in": 3_600 });
                return if is_right { Told::json(&body) } else { Told::refused(401, &json!({})) };
            }
            if authorization == format!("Bearer {token}") {
                return tags();
            }
            let realm = format!("http://{}/token", asked.header("host"));
            refused(format!("Bearer realm=\"{realm}\",service=\"registry.example\",{}", scope(asked)))
        });
        Self { server: server.await }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.server.host()
    }
}

impl FakeAcr {
    /// Accepts this token of an identity; refresh tokens last three hours.
    pub async fn start(identity_token: &str) -> Self {
        let state = Arc::new(AcrState {
            identity_token: identity_token.to_owned(),
            given: Mutex::new(Given { refresh_tokens: Vec::new(), access_token: secret("acr") }),
        });
        let answering = Arc::clone(&state);
        Self { server: Answering::start(move |asked| answering.answer(asked)).await, state }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.server.host()
    }

    /// Everything that was asked.
    pub fn asked(&self) -> Vec<Asked> {
        self.server.asked()
    }

    /// Accepts nothing any more of what it gave.
    pub fn revoke(&self) {
        *self.state.given() = Given { refresh_tokens: Vec::new(), access_token: secret("acr") };
    }

    /// All that must not be seen outside.
    pub fn secrets(&self) -> Vec<String> {
        let given = self.state.given();
        given
            .refresh_tokens
            .iter()
            .chain([&given.access_token, &self.state.identity_token])
            .cloned()
            .collect()
    }
}

impl AcrState {
    fn given(&self) -> MutexGuard<'_, Given> {
        self.given.lock().expect("nothing panics while it holds the tokens")
    }

    fn answer(&self, asked: &Asked) -> Told {
        let mut given = self.given();
        let is_for_us = asked.field("service") == asked.header("host");
        match (asked.method.as_str(), asked.path.as_str()) {
            ("POST", "/oauth2/exchange") => {
                let is_right = asked.field("grant_type") == "access_token"
                    && is_for_us
                    && asked.field("access_token") == self.identity_token;
                if !is_right {
                    return unauthorized();
                }
                let now = std::time::UNIX_EPOCH.elapsed().expect("it is after 1970").as_secs();
                let claims = json!({ "exp": now + 3 * 3_600, "grant_type": "refresh_token" });
                let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
                given.refresh_tokens.push(format!("e30.{claims}.{}", secret("signature")));
                Told::json(&json!({ "refresh_token": given.refresh_tokens.last() }))
            }
            ("POST", "/oauth2/token") => {
                let is_right = asked.field("grant_type") == "refresh_token"
                    && is_for_us
                    && given.refresh_tokens.contains(&asked.field("refresh_token"))
                    && asked.field("scope").ends_with(":pull");
                let body = json!({ "access_token": given.access_token });
                if is_right { Told::json(&body) } else { unauthorized() }
            }
            _ if asked.header("authorization") == format!("Bearer {}", given.access_token) => tags(),
            _ => {
                let host = asked.header("host");
                let realm = format!("http://{host}/oauth2/token");
                refused(format!("Bearer realm=\"{realm}\",service=\"{host}\",{}", scope(asked)))
            }
        }
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// What the challenge says about the repository that was asked for.
fn scope(asked: &Asked) -> String {
    let path = asked.path.strip_prefix("/v2/").unwrap_or_default();
    let repository = path.split("/tags/").next().and_then(|path| path.split("/manifests/").next());
    format!("scope=\"repository:{}:pull\"", repository.unwrap_or_default())
}

fn tags() -> Told {
    Told::json(&json!({ "name": "team/app", "tags": ["v1"] }))
}

fn refused(challenge: String) -> Told {
    unauthorized().with("www-authenticate", challenge)
}

fn unauthorized() -> Told {
    Told::refused(
        401,
        &json!({ "errors": [{ "code": "UNAUTHORIZED", "message": "authentication required" }] }),
    )
}
