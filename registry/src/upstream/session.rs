//! One repository's conversation with its registry: where to ask, and how to get past a login.
//!
//! The first request to a host goes without a login; the 401 teaches which one it wants, and from then on it is
//! presented at once: there are no pings. Every 401 must teach something new or end the conversation.

use std::sync::Arc;

use futures_util::FutureExt;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderName, HeaderValue, Method};
use url::Url;

use super::auth::{self, Bearer, Login, Means};
use super::budget::RequestKind;
use super::host::{Host, Scheme};
use super::refusals::Refusals;
use super::token::Token;
use super::token_cache::{Obtained, TokenKey, Tokens};
use super::transport::{Answer, Failure, Request, Transport};
use super::{ErrorKind, Operation, UpstreamError, Urgency, challenge};
use crate::Name;
use crate::credentials::Credentials;

/// How often one request is sent with another login: without one, with one that has run out, with a fresh one,
/// and with a fresh one as the registry asks for now.
const MAX_LOGINS: usize = 4;
/// Bound of a token service's answer, in bytes: tokens with many claims take some kilobytes.
const MAX_TOKEN_BODY: u64 = 64 * 1024;

/// One repository with the credentials to use.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) name: Name,
    pub(super) credentials: Credentials,
    pub(super) host: Arc<Host>,
    pub(super) transport: Arc<Transport>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) refusals: Arc<Refusals>,
}

/// What to ask the registry.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) operation: Operation,
    pub(super) urgency: Urgency,
    pub(super) method: Method,
    /// After `/v2/{repository}/`.
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) accept: Option<HeaderValue>,
    /// Asks for the answer only if it is another than the one that is known: else 304.
    pub(super) condition: Option<(HeaderName, HeaderValue)>,
    /// Bound of the answer's body, in bytes.
    pub(super) max_body: u64,
}

/// What was presented with one request.
enum Presented {
    Nothing,
    Password(HeaderValue),
    Token { key: TokenKey, obtained: Obtained },
}

/// There is no token to present.
struct NoToken {
    error: UpstreamError,
    /// Whether the token service has just refused us, which may be because it is not the right one any more.
    was_refused: bool,
}

/// What a 401 teaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lesson {
    Nothing,
    /// The token that was kept is of no use any more.
    FreshToken,
    /// The registry wants another login.
    OtherLogin,
}

impl Presented {
    fn header(&self) -> Option<HeaderValue> {
        match self {
            Self::Nothing => None,
            Self::Password(header) => Some(header.clone()),
            Self::Token { obtained, .. } => Some(obtained.token.header().clone()),
        }
    }
}

impl Session {
    /// Asks, logging in where the registry wants it. The answer may have any status but 401 and 429.
    pub(super) async fn ask(&self, question: &Question<'_>) -> Result<Answer, UpstreamError> {
        let mut logins = 0;
        let mut has_learnt_login = false;
        // A login that was remembered and got us no token, and what the token service said.
        let mut doubted: Option<(Login, UpstreamError)> = None;
        loop {
            let login = self.host.login();
            let is_doubted =
                matches!((&doubted, &login), (Some((doubted, _)), Some(login)) if doubted == login);
            let presented =
                if is_doubted { Ok(Presented::Nothing) } else { self.present(login.as_ref()).await };
            let presented = match presented {
                Ok(presented) => presented,
                Err(NoToken { error, was_refused: true }) if !has_learnt_login && doubted.is_none() => {
                    doubted = login.map(|login| (login, error));
                    continue;
                }
                Err(NoToken { error, .. }) => return Err(error),
            };
            let answer = self.send(question, login.as_ref(), presented.header()).await;
            let answer = answer.map_err(|kind| self.error(question.operation, kind))?;
            if answer.status != http::StatusCode::UNAUTHORIZED {
                return match doubted {
                    // Without a login the registry may say anything of what is not for everybody.
                    Some((_, error)) if !answer.status.is_success() => Err(error),
                    Some((needless, _)) => {
                        self.host.forget_login(&needless);
                        Ok(answer)
                    }
                    None => Ok(answer),
                };
            }
            logins += 1;
            let lesson = self.learn(login.as_ref(), &presented, &answer);
            if logins == MAX_LOGINS || lesson == Lesson::Nothing {
                let refusal =
                    || self.error(question.operation, answer.failure(&self.credentials.to_string()));
                return Err(doubted.map_or_else(refusal, |(_, error)| error));
            }
            if lesson == Lesson::OtherLogin {
                has_learnt_login = true;
                doubted = None;
            }
        }
    }

    /// Says where and at what something went wrong.
    pub(super) fn error(&self, operation: Operation, kind: ErrorKind) -> UpstreamError {
        UpstreamError { repository: self.name.clone(), operation, kind }
    }

    /// Takes from a 401 what there is to learn.
    fn learn(&self, login: Option<&Login>, presented: &Presented, answer: &Answer) -> Lesson {
        if !answer.hop.is_at_origin {
            return Lesson::Nothing;
        }
        let values = answer.headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let wanted = Login::from_challenges(&challenge::parse(values), &answer.hop.url, self.name.path())
            .map(|wanted| wanted.together_with(login));
        let asks_for_more = match (&wanted, login) {
            (Some(wanted), Some(login)) => wanted.asks_for_more_than(login),
            _ => false,
        };
        if let Presented::Token { key, obtained } = presented
            && !obtained.is_fresh
            && !asks_for_more
        {
            // The way to log in stays: some registries name another realm when a token has run out, one
            // that does not serve everybody.
            self.tokens.forget(key, &obtained.token);
            return Lesson::FreshToken;
        }
        match wanted {
            Some(wanted) if Some(&wanted) != login => {
                self.host.learn_login(wanted);
                Lesson::OtherLogin
            }
            _ => Lesson::Nothing,
        }
    }

    async fn present(&self, login: Option<&Login>) -> Result<Presented, NoToken> {
        let Some(login) = login else {
            return Ok(Presented::Nothing);
        };
        let no_token = |kind, was_refused| NoToken { error: self.error(Operation::Token, kind), was_refused };
        let means = login.means(&self.host.name, &self.credentials, &self.transport.options);
        match means.map_err(|kind| no_token(kind, false))? {
            Means::Nothing => Ok(Presented::Nothing),
            Means::Basic(header) => Ok(Presented::Password(header)),
            Means::Token(bearer) => {
                if let Some(kind) = self.refusals.standing(bearer.realm(), &self.credentials) {
                    return Err(no_token(kind, false));
                }
                let key = self.token_key(bearer);
                let obtained = self.tokens.get(&key, || self.fetch_token(bearer).boxed()).await;
                let obtained = obtained.map_err(|kind| {
                    let was_refused =
                        matches!(kind, ErrorKind::Unauthorized { .. } | ErrorKind::Denied { .. });
                    // How often we asked says nothing of the way to log in; who asked is looked into by `ask`.
                    if !was_refused && !matches!(kind, ErrorKind::RateLimited { .. }) {
                        self.host.forget_login(login);
                    }
                    no_token(kind, was_refused)
                })?;
                Ok(Presented::Token { key, obtained })
            }
        }
    }

    fn token_key(&self, bearer: &Bearer) -> TokenKey {
        TokenKey {
            registry: self.host.name.clone(),
            realm: bearer.realm().to_owned(),
            service: bearer.service.clone(),
            scope: bearer.scope(self.name.path()),
            identity: self.credentials.clone(),
        }
    }

    /// Asks the token service. Owns what it needs: others may wait for the same token when we have gone.
    fn fetch_token(&self, bearer: &Bearer) -> impl Future<Output = Result<Token, ErrorKind>> + use<> {
        let url = bearer.token_url(&bearer.scope(self.name.path()), &self.credentials);
        let realm = bearer.realm().to_owned();
        let (host, transport, credentials, refusals) =
            (self.host.clone(), self.transport.clone(), self.credentials.clone(), self.refusals.clone());
        async move {
            let result = request_token(&host, &transport, url, &credentials).await;
            refusals.note(&realm, &credentials, &result);
            result
        }
    }

    /// Sends to the registry, with the scheme that it speaks.
    async fn send(
        &self,
        question: &Question<'_>,
        login: Option<&Login>,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, ErrorKind> {
        let https = self.request(question, Scheme::Https, authorization)?;
        if !self.transport.options.is_insecure(&https.url) {
            return self.transport.exchange(&https).await.map_err(|failure| failure.kind);
        }
        // What was asked for over https is not shown over plain http.
        let authorization = https.authorization.clone().filter(|_| login.is_some_and(Login::is_plain_http));
        let http = self.request(question, Scheme::Http, authorization)?;
        match self.host.scheme() {
            Some(Scheme::Https) => self.transport.exchange(&https).await,
            Some(Scheme::Http) => self.exchange_plainly(&http).await,
            None => {
                let probe = Request { is_probe: true, ..https };
                match self.transport.exchange(&probe).await {
                    Err(Failure { while_connecting: true, .. })
                        if self.host.scheme() != Some(Scheme::Https) =>
                    {
                        self.exchange_plainly(&http).await
                    }
                    other => other,
                }
            }
        }
        .map_err(|failure| failure.kind)
    }

    /// Forgets plain http when the host cannot be connected to by it any more.
    async fn exchange_plainly(&self, request: &Request<'_>) -> Result<Answer, Failure> {
        let result = self.transport.exchange(request).await;
        if matches!(&result, Err(failure) if failure.while_connecting) {
            self.host.forget_plain_http();
        }
        result
    }

    fn request(
        &self,
        question: &Question<'_>,
        scheme: Scheme,
        authorization: Option<HeaderValue>,
    ) -> Result<Request<'_>, ErrorKind> {
        let (host, path) = (self.name.registry_host(), self.name.path());
        let url = format!("{}://{host}/v2/{path}/{}", scheme.as_str(), question.path);
        let mut url = Url::parse(&url).map_err(|error| ErrorKind::Refused {
            message: format!("{host} is not a host that can be connected to: {error}"),
        })?;
        url.set_query(question.query);
        Ok(Request {
            host: &self.host,
            operation: question.operation,
            kind: RequestKind::Registry,
            urgency: question.urgency,
            method: question.method.clone(),
            url,
            accept: question.accept.clone(),
            condition: question.condition.clone(),
            authorization,
            max_body: question.max_body,
            is_probe: false,
        })
    }
}

/// Asks a token service.
async fn request_token(
    host: &Host,
    transport: &Transport,
    url: Url,
    credentials: &Credentials,
) -> Result<Token, ErrorKind> {
    let request = Request {
        host,
        operation: Operation::Token,
        kind: RequestKind::Token,
        // Whoever joins later may be more urgent than the one who asks now.
        urgency: Urgency::Asked,
        method: Method::GET,
        url,
        accept: None,
        condition: None,
        authorization: auth::basic_header(credentials),
        max_body: MAX_TOKEN_BODY,
        is_probe: false,
    };
    let answer = transport.exchange(&request).await.map_err(|failure| failure.kind)?;
    if answer.status.is_success() {
        return Token::decode(&answer.body, answer.sent_at);
    }
    Err(match answer.failure(&credentials.to_string()) {
        // It is the token service that is not there; of the repository this says nothing.
        ErrorKind::NotFound { message } => ErrorKind::Rejected { status: 404, message },
        kind => kind,
    })
}

#[cfg(test)]
mod tests;
