//! Who may ask: Basic, or Bearer with a token endpoint.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::FakeRegistry;
use super::answer::Answer;
use super::issuer::Issuer;
use super::record::{Recorded, RequestKind};

/// Bearer authentication: where tokens are handed out, to whom, and for how long.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "they say independent things")]
pub struct Bearer {
    realm: Realm,
    service: String,
    pub(super) users: Vec<(String, String)>,
    pub(super) is_open_to_anonymous: bool,
    /// Refresh tokens, and whose they are.
    pub(super) identity_tokens: Vec<(String, String)>,
    pub(super) rotates_identity_tokens: bool,
    /// Methods that are not served, and the status that they get.
    pub(super) unserved: Vec<(&'static str, u16)>,
    pub(super) refusal: u16,
    pub(super) expires_in: Option<u64>,
    pub(super) token_field: String,
    /// The scope in the challenge, where it is not that of the repository.
    scope: Option<String>,
    /// What the challenge offers besides.
    beside: Option<String>,
    /// What lists of tags need besides `pull`.
    tags_action: Option<String>,
    /// Whether a token opens only what it was asked for.
    is_bound: bool,
    /// Who sends something wrong gets no challenge.
    pub(super) is_silent: bool,
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
            users: Vec::new(),
            is_open_to_anonymous: true,
            identity_tokens: Vec::new(),
            rotates_identity_tokens: false,
            unserved: Vec::new(),
            refusal: 401,
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
    /// Tokens for everybody that last 300 seconds, from the registry's own `/token`, in the field `token`.
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

    /// Tokens only for those who are named: this user and password, as Basic or by the password grant.
    #[must_use]
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.users.push((user.into(), password.into()));
        self.is_open_to_anonymous = false;
        self
    }

    /// Tokens only for those who are named: the holder of this refresh token.
    #[must_use]
    pub fn identity_token(mut self, token: impl Into<String>, user: impl Into<String>) -> Self {
        self.identity_tokens.push((token.into(), user.into()));
        self.is_open_to_anonymous = false;
        self
    }

    /// A refresh token is good for one request, whose answer has the next.
    #[must_use]
    pub fn rotating_identity_tokens(mut self) -> Self {
        self.rotates_identity_tokens = true;
        self
    }

    /// Also tokens for nobody in particular, after all.
    #[must_use]
    pub fn or_anonymous(mut self) -> Self {
        self.is_open_to_anonymous = true;
        self
    }

    /// Requests by this method, `GET` or `POST`, get this status.
    #[must_use]
    pub fn without(mut self, method: &'static str, status: u16) -> Self {
        self.unserved.push((method, status));
        self
    }

    /// Who gets no token is answered this instead of 401; then there is no challenge.
    #[must_use]
    pub fn refusing_with(mut self, status: u16) -> Self {
        self.refusal = status;
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

/// A refusal, 401 where nothing else is said, and how to do better.
#[derive(Debug)]
pub(super) struct Refusal {
    status: u16,
    challenge: Option<String>,
}

impl Refusal {
    pub(super) fn with(challenge: String) -> Self {
        Self { status: 401, challenge: Some(challenge) }
    }

    /// As `DENIED`, and not a word more.
    pub(super) fn silent(status: u16) -> Self {
        Self { status, challenge: None }
    }

    /// The answer, with another challenge where the test has ordered one.
    pub(super) fn answer(&self, ordered: Option<&str>) -> Answer {
        let Some(challenge) = &self.challenge else {
            return Answer::error(self.status, "DENIED", "denied");
        };
        let mut answer = Answer::error(self.status, "UNAUTHORIZED", "authentication required");
        answer.set("www-authenticate", ordered.unwrap_or(challenge));
        answer
    }
}

/// What stands between a request and its answer.
#[derive(Debug, Default)]
pub(super) enum Guard {
    #[default]
    Open,
    Basic {
        user: String,
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
        issuer.serve(&bearer.service, bearer.clone());
        Self::Bearer { realm, bearer: Box::new(bearer), issuer }
    }

    /// Basic authentication, under a realm that is for people to read.
    pub(super) fn basic(user: &str, password: &str, realm: &str) -> Self {
        let challenge = format!("Basic realm=\"{realm}\"");
        Self::Basic { user: user.to_owned(), authorization: basic(user, password), challenge }
    }

    /// `Err` where the request may not be answered.
    pub(super) fn admit(&self, request: &Recorded) -> Result<(), Refusal> {
        let authorization = request.authorization.as_deref();
        match self {
            Self::Open => Ok(()),
            Self::Basic { authorization: right, challenge, .. } => {
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
                let own_scope = match &request.repository {
                    Some(repository) => Some(format!("repository:{repository}:{action}")),
                    None => (request.kind == RequestKind::Catalog).then(|| "registry:catalog:*".to_owned()),
                };
                let needed = own_scope.as_deref().filter(|_| bearer.is_bound);
                let Some(problem) = issuer.refuse(token, needed) else {
                    return Ok(());
                };
                if bearer.is_silent && authorization.is_some() {
                    return Err(Refusal::silent(401));
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

    /// Who asks, of whom [`Self::admit`] has nothing to say against.
    pub(super) fn user_of(&self, request: &Recorded) -> Option<String> {
        match self {
            Self::Open => None,
            Self::Basic { user, .. } => Some(user.clone()),
            Self::Bearer { issuer, .. } => {
                issuer.user_of(request.authorization.as_deref()?.strip_prefix("Bearer ")?)
            }
        }
    }
}

/// The `Authorization` header of Basic authentication.
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
