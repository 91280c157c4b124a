//! Logging in: what a registry's challenge asks for, and what is presented for it.
//!
//! Pure: requests are sent by the session, tokens kept by [`super::token_cache`].

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderValue;
use url::{Url, form_urlencoded};

use super::challenge::Challenge;
use super::{ErrorKind, HttpOptions, trust};
use crate::Secret;
use crate::credentials::Credentials;

/// Who we are to a token service that is asked by POST.
const CLIENT_ID: &str = "samovar";
/// What every token is for.
const PULL: &str = "pull";
/// Actions that we never ask a token for, whatever the registry says: we only read.
const WRITING: [&str; 3] = ["push", "delete", "*"];
/// How many actions a token is asked for at most, and how long the name of one may be.
const MAX_ACTIONS: usize = 8;
const MAX_ACTION_LENGTH: usize = 32;

/// How a registry wants us to log in, learnt from the challenge of a 401.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Login {
    /// The URL that was asked when the registry said so; its origin is the one that secrets belong to.
    challenged_at: Url,
    bearer: Option<Bearer>,
    basic: bool,
}

/// A token service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bearer {
    realm: Url,
    pub(super) service: Option<String>,
    /// What a token must allow: to pull, and what else the registry has asked for, such as ACR's `metadata_read`.
    actions: BTreeSet<String>,
}

/// What a token is asked for with by POST.
#[derive(Debug, Clone, Copy)]
pub(super) enum Grant<'a> {
    Password { username: &'a str, password: &'a Secret },
    RefreshToken(&'a Secret),
}

/// What to present to a registry.
#[derive(Debug)]
pub(super) enum Means<'a> {
    /// Nothing: what it wants we do not have.
    Nothing,
    /// The user name and password themselves, or a token that was given to us.
    Secret(HeaderValue),
    /// A token from this service.
    Token(&'a Bearer),
}

impl Login {
    /// What the challenges of an answer from `challenged_at`, about the repository at `path`, ask for; `None` if
    /// nothing that we speak.
    pub(super) fn from_challenges(challenges: &[Challenge], challenged_at: &Url, path: &str) -> Option<Self> {
        let bearer = challenges
            .iter()
            .filter(|challenge| challenge.scheme == "bearer")
            .find_map(|challenge| Bearer::from_challenge(challenge, challenged_at, path));
        let basic = challenges.iter().any(|challenge| challenge.scheme == "basic");
        (bearer.is_some() || basic).then(|| {
            // Two answers that ask for the same must compare equal, whatever page they answered.
            let mut challenged_at = challenged_at.clone();
            challenged_at.set_path("/");
            challenged_at.set_query(None);
            Self { challenged_at, bearer, basic }
        })
    }

    /// The same, but with a token that also allows what `known` allows, if that is of the same token service.
    pub(super) fn together_with(mut self, known: Option<&Self>) -> Self {
        if let (Some(bearer), Some(known)) = (&mut self.bearer, known.and_then(|known| known.bearer.as_ref()))
            && bearer.is_of_the_service_of(known)
        {
            let more = known.actions.difference(&bearer.actions).cloned().collect::<Vec<_>>();
            let room = MAX_ACTIONS.saturating_sub(bearer.actions.len());
            bearer.actions.extend(more.into_iter().take(room));
        }
        self
    }

    /// Whether this differs from `known` by what a token of the same service must allow.
    pub(super) fn asks_for_more_than(&self, known: &Self) -> bool {
        match (&self.bearer, &known.bearer) {
            (Some(one), Some(other)) => one.is_of_the_service_of(other) && one.actions != other.actions,
            _ => false,
        }
    }

    /// The origin that was asked when the registry said so.
    pub(super) fn challenged_at(&self) -> &str {
        self.challenged_at.as_str()
    }

    /// Whether the registry said so over plain http.
    pub(super) fn is_plain_http(&self) -> bool {
        self.challenged_at.scheme() == "http"
    }

    /// How to log in to `registry` (its canonical host) with these credentials. A token is preferred; a
    /// secret is refused to a token service outside the trust boundary.
    pub(super) fn means(
        &self,
        registry: &str,
        credentials: &Credentials,
        options: &HttpOptions,
    ) -> Result<Means<'_>, ErrorKind> {
        if let Credentials::RegistryToken { token, provenance } = credentials {
            return bearer_header(token).map(Means::Secret).ok_or_else(|| ErrorKind::Refused {
                message: format!("the token from {provenance} has characters that cannot be sent"),
            });
        }
        let basic = basic_header(credentials);
        let Some(bearer) = &self.bearer else {
            return Ok(basic.map_or(Means::Nothing, Means::Secret));
        };
        let boundary = match credentials {
            Credentials::Anonymous => trust::check_scheme(registry, &self.challenged_at, &bearer.realm),
            _ => trust::check(registry, &self.challenged_at, &bearer.realm, options),
        };
        match (boundary, basic) {
            (Ok(()), _) => Ok(Means::Token(bearer)),
            (Err(_), Some(basic)) if self.basic => Ok(Means::Secret(basic)),
            (Err(outside), _) => Err(ErrorKind::Refused { message: outside.to_string() }),
        }
    }
}

impl Bearer {
    fn from_challenge(challenge: &Challenge, challenged_at: &Url, path: &str) -> Option<Self> {
        // Some registries name the realm by its path alone.
        let mut realm = challenged_at.join(challenge.parameter("realm")?).ok()?;
        if !matches!(realm.scheme(), "https" | "http") {
            return None;
        }
        without_userinfo(&mut realm);
        realm.set_fragment(None);
        let service = challenge.parameter("service").map(str::to_owned);
        let mut actions = BTreeSet::from([PULL.to_owned()]);
        for action in actions_asked_for(challenge.parameter("scope").unwrap_or_default(), path) {
            if actions.len() < MAX_ACTIONS {
                actions.insert(action.to_owned());
            }
        }
        Some(Self { realm, service, actions })
    }

    fn is_of_the_service_of(&self, other: &Self) -> bool {
        self.realm == other.realm && self.service == other.service
    }

    /// The scope of a token for the repository at `path`.
    pub(super) fn scope(&self, path: &str) -> String {
        let actions: Vec<_> = self.actions.iter().map(String::as_str).collect();
        format!("repository:{path}:{}", actions.join(","))
    }

    /// The token service's URL, to which a token is asked for by POST.
    pub(super) fn realm_url(&self) -> &Url {
        &self.realm
    }

    /// The token service's URL, which together with the service and the scope stands for what a token is good for.
    pub(super) fn realm(&self) -> &str {
        self.realm.as_str()
    }

    /// What to ask for a token (distribution's token specification).
    pub(super) fn token_url(&self, scope: &str, credentials: &Credentials) -> Url {
        let mut url = self.realm.clone();
        let mut query = url.query_pairs_mut();
        if let Some(service) = &self.service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", scope);
        if let Credentials::Basic { username, .. } = credentials {
            query.append_pair("account", username);
        }
        drop(query);
        url
    }
}

impl Grant<'_> {
    /// What to post for a token (distribution's OAuth 2 token specification).
    pub(super) fn form(&self, service: Option<&str>, scope: &str) -> Secret {
        let mut form = form_urlencoded::Serializer::new(String::new());
        match self {
            Self::Password { username, password } => {
                form.append_pair("grant_type", "password");
                form.append_pair("username", username).append_pair("password", password.reveal());
            }
            Self::RefreshToken(token) => {
                form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", token.reveal());
            }
        }
        if let Some(service) = service {
            form.append_pair("service", service);
        }
        form.append_pair("scope", scope).append_pair("client_id", CLIENT_ID);
        Secret::new(form.finish())
    }
}

/// The actions that a challenge's scope names for exactly this repository, without those that write.
fn actions_asked_for<'a>(scope: &'a str, path: &'a str) -> impl Iterator<Item = &'a str> {
    let is_name = |action: &str| {
        (1..=MAX_ACTION_LENGTH).contains(&action.len())
            && action.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    };
    scope
        .split(' ')
        .filter_map(move |one| one.strip_prefix("repository:")?.strip_prefix(path)?.strip_prefix(':'))
        .flat_map(|actions| actions.split(','))
        .filter(move |action| is_name(action) && !WRITING.contains(action))
}

/// The `Authorization` header that carries the user name and password, if there are any.
pub(super) fn basic_header(credentials: &Credentials) -> Option<HeaderValue> {
    let Credentials::Basic { username, password, .. } = credentials else {
        return None;
    };
    let encoded = BASE64.encode(format!("{username}:{}", password.reveal()));
    let mut header = HeaderValue::try_from(format!("Basic {encoded}")).expect("base64 is ASCII");
    header.set_sensitive(true);
    Some(header)
}

/// The `Authorization` header that carries a token; `None` if it cannot be sent.
pub(super) fn bearer_header(token: &Secret) -> Option<HeaderValue> {
    let mut header = HeaderValue::try_from(format!("Bearer {}", token.reveal())).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// Takes a user name and password out of a URL that a registry named: the HTTP client would send them.
pub(super) fn without_userinfo(url: &mut Url) {
    // Fails only for URLs without a host, which cannot hold either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
}

#[cfg(test)]
mod tests;
