//! Who may ask: Basic, or Bearer with a token endpoint.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::FakeRegistry;
use super::answer::Answer;
use super::record::{Recorded, RequestKind, parameters};

/// How long a token lasts where the answer does not say: what clients must assume.
const USUAL_TOKEN_SECONDS: u64 = 60;

/// Bearer authentication: where tokens are handed out, to whom, and for how long.
#[derive(Debug, Clone)]
pub struct Bearer {
    realm: Realm,
    service: String,
    credentials: Option<(String, String)>,
    expires_in: Option<u64>,
    token_field: String,
    /// The scope in the challenge, where it is not that of the repository.
    scope: Option<String>,
    /// What the challenge offers besides.
    beside: Option<String>,
    /// What lists of tags need besides `pull`.
    tags_action: Option<String>,
    /// Whether a token opens only what it was asked for.
    is_bound: bool,
    /// Who sends something wrong gets no challenge.
    is_silent: bool,
}

#[derive(Debug, Clone)]
enum Realm {
    Own,
    Other { url: String, issuer: Arc<Issuer> },
    Url(String),
}

impl Default for Bearer {
    fn default() -> Self {
        Self {
            realm: Realm::Own,
            service: "fake-registry".to_owned(),
            credentials: None,
            expires_in: Some(300),
            token_field: "token".to_owned(),
            scope: None,
            beside: None,
            tags_action: None,
            is_bound: true,
            is_silent: false,
        }
    }
}

impl Bearer {
    /// Anonymous tokens that last 300 seconds, from the registry's own `/token`, in the field `token`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tokens are handed out by another fake registry's `/token` and valid here.
    #[must_use]
    pub fn realm_of(mut self, other: &FakeRegistry) -> Self {
        self.realm =
            Realm::Other { url: format!("{}/token", other.url()), issuer: Arc::clone(&other.shared.issuer) };
        self
    }

    /// The challenge names this realm, whatever it is. Only tokens of the registry's own `/token` are valid.
    #[must_use]
    pub fn realm_url(mut self, url: impl Into<String>) -> Self {
        self.realm = Realm::Url(url.into());
        self
    }

    /// The service that the challenge names and the token request must repeat.
    #[must_use]
    pub fn service(mut self, service: impl Into<String>) -> Self {
        self.service = service.into();
        self
    }

    /// Tokens only for this user and password, sent as Basic.
    #[must_use]
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Some((user.into(), password.into()));
        self
    }

    /// Seconds that a token lasts; `None`: the answer does not say, and it lasts 60.
    #[must_use]
    pub fn expires_in(mut self, seconds: Option<u64>) -> Self {
        self.expires_in = seconds;
        self
    }

    /// The field of the answer that holds the token: `token` or `access_token`.
    #[must_use]
    pub fn token_field(mut self, name: impl Into<String>) -> Self {
        self.token_field = name.into();
        self
    }

    /// The scope that the challenge names in place of the repository's.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Another challenge in the same header, after this one.
    #[must_use]
    pub fn beside(mut self, challenge: impl Into<String>) -> Self {
        self.beside = Some(challenge.into());
        self
    }

    /// Lists of tags need this action besides `pull`, and say so in their challenge.
    #[must_use]
    pub fn tags_action(mut self, action: impl Into<String>) -> Self {
        self.tags_action = Some(action.into());
        self
    }

    /// A token opens every repository, whatever it was asked for.
    #[must_use]
    pub fn unbound(mut self) -> Self {
        self.is_bound = false;
        self
    }

    /// Whoever sends a login that is not accepted, to the registry or for a token, is refused without a challenge and as
    /// `DENIED`.
    #[must_use]
    pub fn silent(mut self) -> Self {
        self.is_silent = true;
        self
    }
}

/// 401, and how to do better.
#[derive(Debug)]
pub(super) struct Refusal {
    challenge: Option<String>,
}

impl Refusal {
    fn with(challenge: String) -> Self {
        Self { challenge: Some(challenge) }
    }

    /// The answer, with another challenge where the test has ordered one.
    pub(super) fn answer(&self, ordered: Option<&str>) -> Answer {
        let Some(challenge) = &self.challenge else {
            return Answer::error(401, "DENIED", "denied");
        };
        let mut answer = Answer::error(401, "UNAUTHORIZED", "authentication required");
        answer.set("www-authenticate", ordered.unwrap_or(challenge));
        answer
    }
}

/// A token that was handed out.
#[derive(Debug, Clone)]
pub struct IssuedToken {
    /// The token itself.
    pub token: String,
    /// The `service` that was asked for.
    pub service: String,
    /// The scopes that were asked for.
    pub scopes: Vec<String>,
    /// The user who authenticated; none for an anonymous token.
    pub user: Option<String>,
    /// How many requests it has opened.
    pub uses: usize,
    valid_until: Instant,
}

/// What stands between a request and its answer.
#[derive(Debug, Default)]
pub(super) enum Guard {
    #[default]
    Open,
    Basic {
        authorization: String,
        challenge: String,
    },
    Bearer {
        realm: String,
        bearer: Box<Bearer>,
        issuer: Arc<Issuer>,
    },
}

impl Guard {
    /// Takes effect for the registry at `url` with this issuer.
    pub(super) fn bearer(bearer: Bearer, url: &str, own_issuer: &Arc<Issuer>) -> Self {
        let (realm, issuer) = match bearer.realm.clone() {
            Realm::Own => (format!("{url}/token"), Arc::clone(own_issuer)),
            Realm::Other { url, issuer } => (url, issuer),
            Realm::Url(realm) => (realm, Arc::clone(own_issuer)),
        };
        issuer.lock().policies.insert(bearer.service.clone(), bearer.clone());
        Self::Bearer { realm, bearer: Box::new(bearer), issuer }
    }

    /// Basic authentication, under a realm that is for people to read.
    pub(super) fn basic(user: &str, password: &str, realm: &str) -> Self {
        Self::Basic { authorization: basic(user, password), challenge: format!("Basic realm=\"{realm}\"") }
    }

    /// `Err` where the request may not be answered.
    pub(super) fn admit(&self, request: &Recorded) -> Result<(), Refusal> {
        let authorization = request.authorization.as_deref();
        match self {
            Self::Open => Ok(()),
            Self::Basic { authorization: right, challenge } => {
                if authorization == Some(right) {
                    Ok(())
                } else {
                    Err(Refusal::with(challenge.clone()))
                }
            }
            Self::Bearer { realm, bearer, issuer } => {
                let token = authorization.and_then(|value| value.strip_prefix("Bearer "));
                let is_list = request.kind == RequestKind::Tags;
                let action = bearer.tags_action.as_deref().filter(|_| is_list).unwrap_or("pull");
                let own_scope =
                    request.repository.as_ref().map(|repository| format!("repository:{repository}:{action}"));
                let needed = own_scope.as_deref().filter(|_| bearer.is_bound);
                let Some(problem) = issuer.refuse(token, needed) else {
                    return Ok(());
                };
                if bearer.is_silent && authorization.is_some() {
                    return Err(Refusal { challenge: None });
                }
                let service = &bearer.service;
                let scope = bearer.scope.clone().or(own_scope);
                let scope = scope.map_or(String::new(), |scope| format!(",scope=\"{scope}\""));
                let beside = bearer.beside.as_ref().map_or(String::new(), |other| format!(", {other}"));
                Err(Refusal::with(format!(
                    "Bearer realm=\"{realm}\",service=\"{service}\"{scope}{problem}{beside}"
                )))
            }
        }
    }
}

/// The token endpoint: hands out tokens and knows them again.
#[derive(Debug, Default)]
pub(super) struct Issuer {
    state: Mutex<IssuerState>,
}

#[derive(Debug, Default)]
struct IssuerState {
    policies: HashMap<String, Bearer>,
    /// A few per test; looked through from the start.
    tokens: Vec<IssuedToken>,
}

impl Issuer {
    /// `None` where the token opens what is needed; else what to add to the challenge.
    fn refuse(&self, token: Option<&str>, needed: Option<&str>) -> Option<&'static str> {
        let Some(token) = token else { return Some("") };
        let mut state = self.lock();
        let issued = state.tokens.iter_mut().find(|issued| issued.token == token);
        let Some(issued) = issued.filter(|issued| Instant::now() < issued.valid_until) else {
            return Some(",error=\"invalid_token\"");
        };
        if needed.is_some_and(|needed| !issued.scopes.iter().any(|scope| scope_covers(scope, needed))) {
            return Some(",error=\"insufficient_scope\"");
        }
        issued.uses += 1;
        None
    }

    /// Answers a request to `/token`.
    pub(super) fn answer(&self, request: &Recorded) -> Result<Answer, Refusal> {
        let mut state = self.lock();
        let service = request.parameter("service").unwrap_or_default();
        let Some(policy) = state.policies.get(&service).cloned() else {
            return Ok(Answer::error(
                400,
                "UNSUPPORTED",
                "no registry of that service takes tokens from here",
            ));
        };
        let user = match &policy.credentials {
            // Nobody is known here: a login is a wrong one.
            None if policy.is_silent && request.authorization.is_some() => {
                return Err(Refusal { challenge: None });
            }
            None => None,
            Some((user, password)) if request.authorization == Some(basic(user, password)) => {
                Some(user.clone())
            }
            Some(_) if policy.is_silent => return Err(Refusal { challenge: None }),
            Some(_) => return Err(Refusal::with("Basic realm=\"fake token endpoint\"".to_owned())),
        };
        let token = format!("token-{}-for-{service}", state.tokens.len() + 1);
        let lasting = Duration::from_secs(policy.expires_in.unwrap_or(USUAL_TOKEN_SECONDS));
        let scopes = parameters(&request.query, "scope")
            .flat_map(|value| value.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .collect();
        state.tokens.push(IssuedToken {
            token: token.clone(),
            service,
            scopes,
            user,
            uses: 0,
            valid_until: Instant::now() + lasting,
        });
        let mut body = json!({ policy.token_field: token });
        if let Some(seconds) = policy.expires_in {
            body["expires_in"] = Value::from(seconds);
        }
        Ok(Answer::json(200, &body))
    }

    pub(super) fn expire_all(&self) {
        for issued in &mut self.lock().tokens {
            issued.valid_until = Instant::now();
        }
    }

    pub(super) fn tokens(&self) -> Vec<IssuedToken> {
        self.lock().tokens.clone()
    }

    fn lock(&self) -> MutexGuard<'_, IssuerState> {
        self.state.lock().expect("nothing panics while it holds the tokens")
    }
}

/// Whether a scope such as `repository:a/b:pull,push` covers `repository:a/b:pull`.
fn scope_covers(scope: &str, needed: &str) -> bool {
    let (Some((resource, actions)), Some((needed_resource, needed_action))) =
        (scope.rsplit_once(':'), needed.rsplit_once(':'))
    else {
        return false;
    };
    resource == needed_resource && actions.split(',').any(|action| action == needed_action)
}

/// The `Authorization` header of Basic authentication.
fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
