//! One repository's conversation with its registry: where to ask, and how to get past a login.
//!
//! The first request to a host goes without a login; the 401 teaches which one it wants, and from then on it is
//! presented at once: there are no pings. Every 401 must teach something new or end the conversation.

use std::sync::Arc;

use futures_util::FutureExt;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, Method};
use tokio::time::Instant;
use url::Url;

use super::auth::{self, Bearer, Login, Means};
use super::budget::RequestKind;
use super::host::{Host, Scheme};
use super::token::Token;
use super::token_cache::{Obtained, TokenKey, Tokens};
use super::transport::{Answer, Failure, Request, Transport};
use super::{Credentials, ErrorKind, Operation, UpstreamError, Urgency, challenge};
use crate::Name;

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
    /// Bound of the answer's body, in bytes.
    pub(super) max_body: u64,
}

/// What was presented with one request.
enum Presented {
    Nothing,
    Password(HeaderValue),
    Token { key: TokenKey, obtained: Obtained },
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
        loop {
            let login = self.host.login();
            let presented = self.present(login.as_ref()).await?;
            let answer = self.send(question, presented.header()).await;
            let answer = answer.map_err(|kind| self.error(question.operation, kind))?;
            if answer.status != http::StatusCode::UNAUTHORIZED {
                return Ok(answer);
            }
            logins += 1;
            if logins == MAX_LOGINS || !self.learn(login.as_ref(), &presented, &answer) {
                let refusal = answer.failure(&auth::describe(&self.credentials));
                return Err(self.error(question.operation, refusal));
            }
        }
    }

    /// Says where and at what something went wrong.
    pub(super) fn error(&self, operation: Operation, kind: ErrorKind) -> UpstreamError {
        UpstreamError { repository: self.name.clone(), operation, kind }
    }

    /// Takes from a 401 what there is to learn. Whether it is worth asking again.
    fn learn(&self, login: Option<&Login>, presented: &Presented, answer: &Answer) -> bool {
        if !answer.hop.is_at_origin {
            return false;
        }
        if let Presented::Token { key, obtained } = presented
            && !obtained.is_fresh
        {
            // The way to log in stays: some registries name another realm when a token has run out, one
            // that does not serve everybody.
            self.tokens.forget(key, &obtained.token);
            return true;
        }
        let values = answer.headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        match Login::from_challenges(&challenge::parse(values), &answer.hop.url) {
            Some(wanted) if Some(&wanted) != login => {
                self.host.learn_login(wanted);
                true
            }
            _ => false,
        }
    }

    async fn present(&self, login: Option<&Login>) -> Result<Presented, UpstreamError> {
        let Some(login) = login else {
            return Ok(Presented::Nothing);
        };
        let means = login.means(&self.host.name, &self.credentials, &self.transport.options);
        match means.map_err(|kind| self.error(Operation::Token, kind))? {
            Means::Nothing => Ok(Presented::Nothing),
            Means::Basic(header) => Ok(Presented::Password(header)),
            Means::Token(bearer) => {
                let key = self.token_key(bearer);
                let obtained = self.tokens.get(&key, || self.fetch_token(bearer).boxed()).await;
                let obtained = obtained.map_err(|kind| {
                    if !is_the_callers_own(&kind) {
                        self.host.forget_login(login);
                    }
                    self.error(Operation::Token, kind)
                })?;
                Ok(Presented::Token { key, obtained })
            }
        }
    }

    fn scope(&self) -> String {
        format!("repository:{}:pull", self.name.path())
    }

    fn token_key(&self, bearer: &Bearer) -> TokenKey {
        TokenKey {
            registry: self.host.name.clone(),
            realm: bearer.realm().to_owned(),
            service: bearer.service.clone(),
            scope: self.scope(),
            identity: self.credentials.clone(),
        }
    }

    /// Asks the token service. Owns what it needs: others may wait for the same token when we have gone.
    fn fetch_token(&self, bearer: &Bearer) -> impl Future<Output = Result<Token, ErrorKind>> + use<> {
        let url = bearer.token_url(&self.scope(), &self.credentials);
        let (host, transport, credentials) =
            (self.host.clone(), self.transport.clone(), self.credentials.clone());
        async move {
            let request = Request {
                host: &host,
                operation: Operation::Token,
                kind: RequestKind::Token,
                // Whoever joins later may be more urgent than the one who asks now.
                urgency: Urgency::Asked,
                method: Method::GET,
                url,
                accept: None,
                authorization: auth::basic_header(&credentials),
                max_body: MAX_TOKEN_BODY,
                is_probe: false,
            };
            let asked_at = Instant::now();
            let answer = transport.exchange(&request).await.map_err(|failure| failure.kind)?;
            if answer.status.is_success() {
                return Token::decode(&answer.body, asked_at);
            }
            Err(match answer.failure(&auth::describe(&credentials)) {
                // It is the token service that is not there; of the repository this says nothing.
                ErrorKind::NotFound { message } => ErrorKind::Rejected { status: 404, message },
                kind => kind,
            })
        }
    }

    /// Sends to the registry, with the scheme that it speaks.
    async fn send(
        &self,
        question: &Question<'_>,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, ErrorKind> {
        let https = self.request(question, Scheme::Https, authorization.clone())?;
        if !self.transport.options.is_insecure(&https.url) {
            return self.transport.exchange(&https).await.map_err(|failure| failure.kind);
        }
        let http = self.request(question, Scheme::Http, authorization)?;
        match self.host.scheme() {
            Some(Scheme::Https) => self.exchange_insecurely(&https, Scheme::Https).await,
            Some(Scheme::Http) => self.exchange_insecurely(&http, Scheme::Http).await,
            None => {
                let probe = Request { is_probe: true, ..https };
                match self.exchange_insecurely(&probe, Scheme::Https).await {
                    Err(Failure { while_connecting: true, .. }) => {
                        self.exchange_insecurely(&http, Scheme::Http).await
                    }
                    other => other,
                }
            }
        }
        .map_err(|failure| failure.kind)
    }

    /// Remembers the scheme while it works: a host that cannot be connected to by one may have changed to the other.
    async fn exchange_insecurely(&self, request: &Request<'_>, scheme: Scheme) -> Result<Answer, Failure> {
        let result = self.transport.exchange(request).await;
        let works = !matches!(&result, Err(failure) if failure.while_connecting);
        self.host.learn_scheme(works.then_some(scheme));
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
            authorization,
            max_body: question.max_body,
            is_probe: false,
        })
    }
}

/// Whether a token was not given because of who asked or how often: the way to log in is right then.
fn is_the_callers_own(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unauthorized { .. } | ErrorKind::Denied { .. } | ErrorKind::RateLimited { .. })
}
