//! The token endpoint of a fake registry: hands out tokens and knows them again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::answer::Answer;
use super::auth::{Bearer, Refusal, basic};
use super::record::{Recorded, parameters};

/// How long a token lasts where the answer does not say: what clients must assume.
const USUAL_TOKEN_SECONDS: u64 = 60;
/// How long a token lasts that the test has asked for.
const LONG: Duration = Duration::from_hours(24);

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

/// Why somebody gets no token.
enum NoToken {
    /// These are nobody's credentials.
    Unknown,
    /// In the words of OAuth 2.
    Grant(&'static str),
}

impl Issuer {
    /// From now on tokens for this service are handed out so.
    pub(super) fn serve(&self, service: &str, policy: Bearer) {
        self.lock().policies.insert(service.to_owned(), policy);
    }

    /// `None` where the token opens what is needed; else what to add to the challenge.
    pub(super) fn refuse(&self, token: Option<&str>, needed: Option<&str>) -> Option<&'static str> {
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

    /// To whom the token was handed out.
    pub(super) fn user_of(&self, token: &str) -> Option<String> {
        self.lock().tokens.iter().find(|issued| issued.token == token)?.user.clone()
    }

    /// Answers a request to `/token`.
    pub(super) fn answer(&self, request: &Recorded) -> Result<Answer, Refusal> {
        let mut state = self.lock();
        let asked = if request.method == "POST" { &request.form } else { &request.query };
        let service = parameters(asked, "service").next().unwrap_or_default();
        let number = state.tokens.len() + 1;
        let Some(policy) = state.policies.get_mut(&service) else {
            return Ok(Answer::error(
                400,
                "UNSUPPORTED",
                "no registry of that service takes tokens from here",
            ));
        };
        if let Some((_, status)) = policy.unserved.iter().find(|(method, _)| *method == request.method) {
            return Ok(Answer::error(*status, "UNSUPPORTED", "not by this method"));
        }
        let user = match policy.user(request) {
            Ok(user) => user,
            Err(NoToken::Grant(error)) => return Ok(Answer::json(400, &json!({ "error": error }))),
            Err(NoToken::Unknown) if policy.is_silent || policy.refusal != 401 => {
                return Err(Refusal::silent(policy.refusal));
            }
            Err(NoToken::Unknown) => {
                return Err(Refusal::with("Basic realm=\"fake token endpoint\"".to_owned()));
            }
        };
        let token = format!("token-{number}-for-{service}");
        let mut body = json!({ policy.token_field.clone(): token });
        if let Some(seconds) = policy.expires_in {
            body["expires_in"] = Value::from(seconds);
        }
        if let Some(next) = policy.rotate(request, number) {
            body["refresh_token"] = Value::from(next);
        }
        let lasting = Duration::from_secs(policy.expires_in.unwrap_or(USUAL_TOKEN_SECONDS));
        let scopes = parameters(asked, "scope")
            .flat_map(|value| value.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let valid_until = Instant::now() + lasting;
        state.tokens.push(IssuedToken { token, service, scopes, user, uses: 0, valid_until });
        Ok(Answer::json(200, &body))
    }

    /// Hands a token for one repository to this user without having been asked.
    pub(super) fn hand_out(&self, repository: &str, user: &str) -> String {
        let mut state = self.lock();
        let token = format!("token-{}-handed-out", state.tokens.len() + 1);
        state.tokens.push(IssuedToken {
            token: token.clone(),
            service: String::new(),
            scopes: vec![format!("repository:{repository}:pull")],
            user: Some(user.to_owned()),
            uses: 0,
            valid_until: Instant::now() + LONG,
        });
        token
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

impl Bearer {
    /// Who asks for a token; `None` for nobody in particular.
    fn user(&self, request: &Recorded) -> Result<Option<String>, NoToken> {
        // Where nobody is known a login is passed over, or taken for a wrong one.
        let is_for_all = self.users.is_empty() && self.identity_tokens.is_empty() && !self.is_silent;
        if request.method == "POST" {
            let form = |name| parameters(&request.form, name).next().unwrap_or_default();
            return match form("grant_type").as_str() {
                "password" => {
                    let given = (form("username"), form("password"));
                    let known = self.users.iter().find(|known| **known == given);
                    known.map(|(user, _)| Some(user.clone())).ok_or(NoToken::Unknown)
                }
                "refresh_token" => {
                    let given = form("refresh_token");
                    let known = self.identity_tokens.iter().find(|(token, _)| *token == given);
                    known.map(|(_, user)| Some(user.clone())).ok_or(NoToken::Grant("invalid_grant"))
                }
                _ => Err(NoToken::Grant("unsupported_grant_type")),
            };
        }
        match &request.authorization {
            Some(given) if !is_for_all => {
                let known = self.users.iter().find(|(user, password)| *given == basic(user, password));
                known.map(|(user, _)| Some(user.clone())).ok_or(NoToken::Unknown)
            }
            _ if self.is_open_to_anonymous => Ok(None),
            _ => Err(NoToken::Unknown),
        }
    }

    /// The refresh token that takes the place of the one in the request.
    fn rotate(&mut self, request: &Recorded, number: usize) -> Option<String> {
        if !self.rotates_identity_tokens {
            return None;
        }
        let given = parameters(&request.form, "refresh_token").next()?;
        let (token, _) = self.identity_tokens.iter_mut().find(|(token, _)| *token == given)?;
        *token = format!("identity-{number}");
        Some(token.clone())
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
