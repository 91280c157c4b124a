//! One repository's conversation with its registry: where to ask, and with which of several credentials.
//!
//! The candidates of the chain are tried in order, the one that worked last first, each at most once per question. Only
//! a refusal leads on to the next: 401 or 403, from the registry or its token service; nothing to be had from a
//! provider; a token service that the secret must not go to. So does 404 to one that has not worked here yet, because
//! registries hide what is private behind it. Whatever else comes is the answer. How one candidate gets past a login is
//! the matter of [`attempt`].

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::auth::Login;
use super::budget::RequestKind;
use super::endpoint::{Endpoint, Schemes};
use super::host::{Host, Scheme};
use super::refusals::Refusals;
use super::sticking::Sticking;
use super::token_cache::Tokens;
use super::token_service::TokenServices;
use super::transport::{Answer, Failure, Request, Transport};
use super::{ErrorKind, Operation, UpstreamError, Urgency};
use crate::Name;
use crate::credentials::{
    Candidate, CredentialChain, CredentialError, CredentialProvider, Credentials, Identity,
};
use crate::words;
use attempt::{Attempt, Conversation};

mod attempt;

/// How long a provider of credentials may take.
const LONGEST_PROVISION: Duration = Duration::from_secs(30);

/// What a session is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// The repository of its name.
    Repository,
    /// All that a registry has: the name only tells the host.
    Registry,
}

/// One repository, or registry, with the credentials to try.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) name: Name,
    pub(super) subject: Subject,
    pub(super) chain: CredentialChain,
    /// Whose login it is: the endpoint's.
    pub(super) host: Arc<Host>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) transport: Arc<Transport>,
    pub(super) logins: Logins,
}

/// What all sessions together know of logins.
#[derive(Debug, Clone, Default)]
pub(super) struct Logins {
    tokens: Arc<Tokens>,
    refusals: Arc<Refusals>,
    services: Arc<TokenServices>,
    sticking: Arc<Sticking>,
}

/// What to ask the registry.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) operation: Operation,
    pub(super) urgency: Urgency,
    pub(super) method: Method,
    /// After `/v2/{repository}/`, or from the root if it begins with a slash.
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) accept: Option<HeaderValue>,
    /// Asks for the answer only if it is another than the one that is known: else 304.
    pub(super) condition: Option<(HeaderName, HeaderValue)>,
    /// Bound of the answer's body, in bytes.
    pub(super) max_body: u64,
}

/// Why none of the candidates worked.
struct Setback {
    telling: Telling,
    /// What is answered if nothing works: of 404 the answer itself.
    result: Result<Answer, UpstreamError>,
}

/// How much a setback tells whoever is to mend it, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Telling {
    /// Nobody in particular was refused.
    AnonymousRefused,
    /// Whoever could have had credentials has none.
    NoneGiven,
    /// The registry says that it is not there.
    Missing,
    /// There were no credentials to be had though there should be, or they must not be sent.
    Unusable,
    SecretRefused,
}

impl Telling {
    fn of_refused(credentials: &Credentials) -> Self {
        match credentials {
            Credentials::Anonymous => Self::AnonymousRefused,
            _ => Self::SecretRefused,
        }
    }
}

impl Session {
    /// Asks, with the credentials that work, logging in where the registry wants it. The answer may have any status but
    /// 429, and 401 and 403 only where a redirect led elsewhere.
    pub(super) async fn ask(&self, question: &Question<'_>) -> Result<Answer, UpstreamError> {
        let candidates = self.chain.candidates();
        let sticking = self.logins.sticking.position(&self.name, &self.chain);
        let others = (0..candidates.len()).filter(|position| Some(*position) != sticking);
        let mut conversation = Conversation::default();
        let mut most_telling: Option<Setback> = None;
        for position in sticking.into_iter().chain(others) {
            let works_here = Some(position) == sticking;
            let setback = match self.try_candidate(question, &candidates[position], &mut conversation).await?
            {
                Attempt::Answered(answer) if works_here || !is_missing(&answer) => {
                    if !works_here && is_success(&answer) {
                        self.note_works(position, most_telling.as_ref());
                    }
                    return Ok(answer);
                }
                Attempt::Answered(answer) => Setback { telling: Telling::Missing, result: Ok(answer) },
                Attempt::Refused { error, telling, .. } => Setback { telling, result: Err(error) },
            };
            if most_telling.as_ref().is_none_or(|known| known.telling < setback.telling) {
                most_telling = Some(setback);
            }
            if works_here && question.method == Method::HEAD {
                // Some registries refuse HEAD as such: whoever asks goes on to GET, which tells.
                break;
            }
        }
        most_telling.expect("a chain is never empty").result
    }

    /// Asks without any login, and takes no offer of one. The answer may have any status but 429.
    pub(super) async fn ask_openly(&self, question: &Question<'_>) -> Result<Answer, UpstreamError> {
        let answer = self.send(question, None, None, &Credentials::Anonymous).await;
        answer.map_err(|kind| self.error(question.operation, kind))
    }

    /// Says where and at what something went wrong.
    pub(super) fn error(&self, operation: Operation, kind: ErrorKind) -> UpstreamError {
        UpstreamError { repository: self.name.clone(), operation, kind }
    }

    fn note_works(&self, position: usize, after: Option<&Setback>) {
        self.logins.sticking.works(&self.name, &self.chain, position);
        if let Some(Setback { result: Err(error), .. }) = after {
            tracing::debug!(image.name = %self.name, %error, "these credentials do not work here, others do");
        }
    }

    /// Asks with one candidate. `Err` if it failed for a reason that has nothing to do with the credentials.
    async fn try_candidate(
        &self,
        question: &Question<'_>,
        candidate: &Candidate,
        conversation: &mut Conversation,
    ) -> Result<Attempt, UpstreamError> {
        let provider = match candidate {
            Candidate::Fixed(credentials) => return self.attempt(question, credentials, conversation).await,
            Candidate::Provided(provider) => provider,
        };
        let credentials = match self.ask_provider(&**provider).await {
            Ok(credentials) => credentials,
            Err((telling, kind)) => {
                return Ok(Attempt::unusable(self.error(question.operation, kind), telling));
            }
        };
        let attempt = self.attempt(question, &credentials, conversation).await?;
        if !matches!(attempt, Attempt::Refused { was_asked: true, .. }) {
            return Ok(attempt);
        }
        // They may have ended before their time; whoever gives them gets one chance to give others.
        provider.refused(&credentials);
        match self.ask_provider(&**provider).await {
            Ok(fresh) if fresh != credentials => self.attempt(question, &fresh, conversation).await,
            _ => Ok(attempt),
        }
    }

    async fn ask_provider(
        &self,
        provider: &dyn CredentialProvider,
    ) -> Result<Credentials, (Telling, ErrorKind)> {
        let answer = tokio::time::timeout(LONGEST_PROVISION, provider.credentials(&self.name)).await;
        let (telling, message) = match answer {
            Ok(Ok(credentials)) => return Ok(credentials),
            Ok(Err(CredentialError { is_none: true, message, .. })) => (Telling::NoneGiven, message),
            Ok(Err(CredentialError { message, .. })) => (Telling::Unusable, message),
            Err(_) => (Telling::Unusable, format!("nothing came within {} s", LONGEST_PROVISION.as_secs())),
        };
        let credentials = format!("no credentials from {}", provider.provenance());
        Err((telling, ErrorKind::Unauthorized { credentials, message: Some(words::printable(&message)) }))
    }

    /// Sends to the registry, with the scheme that it speaks.
    async fn send(
        &self,
        question: &Question<'_>,
        login: Option<&Login>,
        authorization: Option<HeaderValue>,
        credentials: &Credentials,
    ) -> Result<Answer, ErrorKind> {
        // Without a login the registry cannot know who we are.
        let known = if authorization.is_some() { credentials } else { &Credentials::Anonymous };
        let identity = known.identity();
        if self.endpoint.schemes == Schemes::Only(Scheme::Https) {
            let https = self.request(question, Scheme::Https, authorization, identity)?;
            return self.transport.exchange(&https).await.map_err(|failure| failure.kind);
        }
        // What was asked for over https is not shown over plain http.
        let plainly = authorization.clone().filter(|_| login.is_some_and(Login::is_plain_http));
        let http = self.request(question, Scheme::Http, plainly, identity.clone())?;
        if self.endpoint.schemes == Schemes::Only(Scheme::Http) {
            return self.transport.exchange(&http).await.map_err(|failure| failure.kind);
        }
        let https = self.request(question, Scheme::Https, authorization, identity)?;
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
        identity: Identity,
    ) -> Result<Request<'_>, ErrorKind> {
        let url = self.endpoint.url(scheme, self.name.path(), question.path, question.query)?;
        Ok(Request {
            endpoint: &self.endpoint,
            operation: question.operation,
            kind: RequestKind::Registry,
            urgency: question.urgency,
            repository: (self.subject == Subject::Repository).then_some(&self.name),
            identity,
            method: question.method.clone(),
            url,
            accept: question.accept.clone(),
            condition: question.condition.clone(),
            authorization,
            form: None,
            max_body: question.max_body,
            is_probe: false,
        })
    }
}

/// Whether the registry itself says that there is no such thing.
fn is_missing(answer: &Answer) -> bool {
    answer.status == StatusCode::NOT_FOUND && answer.hop.is_at_origin
}

/// Whether it is what was asked for. Any other answer, such as that of a server in trouble, may come to anybody.
fn is_success(answer: &Answer) -> bool {
    answer.status.is_success() || answer.status == StatusCode::NOT_MODIFIED
}

#[cfg(test)]
mod tests;
