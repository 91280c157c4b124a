//! One question asked with one set of credentials: getting past the registry's login.
//!
//! The first request to a host goes without a login; the 401 teaches which one it wants, and from then on it is
//! presented at once: there are no pings. Every 401 must teach something new or end the attempt.

use std::borrow::Cow;
use std::sync::Arc;

use futures_util::FutureExt;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};

use super::super::auth::{Bearer, Login, Means};
use super::super::refusals::Trial;
use super::super::token::Token;
use super::super::token_cache::{Obtained, TokenKey};
use super::super::token_service::TokenRequest;
use super::super::transport::Answer;
use super::super::{ErrorKind, Operation, UpstreamError, catalog, challenge};
use super::{Question, Session, Subject, Telling, is_success};
use crate::credentials::Credentials;

/// How often one request is sent with another login: without one, with one that has run out, with a fresh one,
/// and with a fresh one as the registry asks for now.
const MAX_LOGINS: usize = 4;

/// How often a token for all repositories is waited for that is asked for in the name of one that may be refused.
const MAX_SHARED_FETCHES: usize = 2;

/// What the attempts at one question have in common.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    /// The registry has said how it wants us to log in.
    has_learnt_login: bool,
    /// It was asked without a login because the token service that we know refused us.
    has_doubted: bool,
}

impl Conversation {
    /// Whether it is worth finding out if the registry still wants the login that we know.
    fn may_doubt(&self) -> bool {
        !self.has_learnt_login && !self.has_doubted
    }
}

/// How the attempt ended, unless it failed for a reason that has nothing to do with the credentials.
#[derive(Debug)]
pub(super) enum Attempt {
    /// With any status but 401, 403 and 429 of the registry itself.
    Answered(Answer),
    Refused {
        error: UpstreamError,
        telling: Telling,
        /// Whether anybody was shown the credentials: not where they are known to be refused or may not be sent.
        was_asked: bool,
    },
}

/// What was presented with one request.
enum Presented {
    Nothing,
    Secret {
        header: HeaderValue,
        /// Kept until it is known whether the secret is good.
        _trial: Option<Trial>,
    },
    Token {
        key: TokenKey,
        obtained: Obtained,
        /// It was asked for this repository, not for another one whose token is good for all.
        is_own: bool,
    },
}

/// There is no token to present.
enum NoToken {
    /// The token service has refused us, which may be because it is not the right one any more.
    Refused(UpstreamError),
    /// It, or the registry itself, has refused us a short while ago, and was not asked again.
    KnownRefused(UpstreamError),
    /// The secret must not go there.
    MustNotBeAsked(UpstreamError),
    /// For a reason that has nothing to do with the credentials.
    Failed(UpstreamError),
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
            Self::Secret { header, .. } => Some(header.clone()),
            Self::Token { obtained, .. } => Some(obtained.token.header().clone()),
        }
    }
}

impl Attempt {
    fn refused(error: UpstreamError, credentials: &Credentials) -> Self {
        Self::Refused { error, telling: Telling::of_refused(credentials), was_asked: true }
    }

    /// There was nothing to present, or nothing that may be.
    pub(super) fn unusable(error: UpstreamError, telling: Telling) -> Self {
        Self::Refused { error, telling, was_asked: false }
    }
}

impl Session {
    /// Asks with these credentials, logging in where the registry wants it.
    pub(super) async fn attempt(
        &self,
        question: &Question<'_>,
        credentials: &Credentials,
        conversation: &mut Conversation,
    ) -> Result<Attempt, UpstreamError> {
        let mut logins = 0;
        // The token that is good for all repositories is not for this one.
        let mut needs_own_token = false;
        // A login that was remembered and got us no token, and what the token service said.
        let mut doubted: Option<(Login, UpstreamError)> = None;
        loop {
            let login = self.host.login();
            let is_doubted =
                matches!((&doubted, &login), (Some((doubted, _)), Some(login)) if doubted == login);
            let presented = if is_doubted {
                Ok(Presented::Nothing)
            } else {
                self.present(login.as_ref(), credentials, needs_own_token, question.operation).await
            };
            let presented = match presented {
                Ok(presented) => presented,
                Err(NoToken::Refused(error)) if !conversation.may_doubt() => {
                    return Ok(Attempt::refused(error, credentials));
                }
                Err(NoToken::Refused(error)) => {
                    conversation.has_doubted = true;
                    doubted = login.map(|login| (login, error));
                    continue;
                }
                Err(NoToken::KnownRefused(error)) => {
                    let telling = Telling::of_refused(credentials);
                    return Ok(Attempt::Refused { error, telling, was_asked: false });
                }
                Err(NoToken::MustNotBeAsked(error)) => {
                    return Ok(Attempt::unusable(error, Telling::Unusable));
                }
                Err(NoToken::Failed(error)) => return Err(error),
            };
            let answer = self.send(question, login.as_ref(), presented.header(), credentials).await;
            let answer = answer.map_err(|kind| self.error(question.operation, kind))?;
            let refusal = answer.refusal(credentials);
            if let (Presented::Secret { .. }, Some(login)) = (&presented, &login)
                && (refusal.is_some() || is_success(&answer))
            {
                let result = refusal.as_ref().map_or(Ok(()), Err);
                self.logins.refusals.note(login.challenged_at(), credentials, &self.name, result);
            }
            let Some(kind) = refusal else {
                if needs_own_token && matches!(presented, Presented::Token { .. }) {
                    self.host.keeps_tokens_apart();
                }
                return Ok(self.answered(answer, doubted, credentials));
            };
            let refusal =
                doubted.as_ref().map_or(self.error(question.operation, kind), |(_, said)| said.clone());
            if !needs_own_token && matches!(presented, Presented::Token { is_own: false, .. }) {
                needs_own_token = true;
                continue;
            }
            if answer.status != StatusCode::UNAUTHORIZED {
                return Ok(Attempt::refused(refusal, credentials));
            }
            logins += 1;
            let lesson = self.learn(login.as_ref(), &presented, &answer);
            if logins == MAX_LOGINS || lesson == Lesson::Nothing {
                return Ok(Attempt::refused(refusal, credentials));
            }
            if lesson == Lesson::OtherLogin {
                conversation.has_learnt_login = true;
                doubted = None;
            }
        }
    }

    /// The answer, which may have come without a login because the token service refused us.
    fn answered(
        &self,
        answer: Answer,
        doubted: Option<(Login, UpstreamError)>,
        credentials: &Credentials,
    ) -> Attempt {
        match doubted {
            // Without a login the registry may say anything of what is not for everybody.
            Some((_, said)) if !answer.status.is_success() => Attempt::refused(said, credentials),
            Some((needless, _)) => {
                self.host.forget_login(&needless);
                Attempt::Answered(answer)
            }
            None => Attempt::Answered(answer),
        }
    }

    /// Takes from a 401 of the registry what there is to learn.
    fn learn(&self, login: Option<&Login>, presented: &Presented, answer: &Answer) -> Lesson {
        // Realms are for people to read, and need not be ASCII.
        let values = answer.headers.get_all(WWW_AUTHENTICATE).iter();
        let values: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        let challenges = challenge::parse(values.iter().map(AsRef::as_ref));
        let wanted = Login::from_challenges(&challenges, &answer.hop.url, &self.repository())
            .map(|wanted| wanted.together_with(login));
        let asks_for_more = match (&wanted, login) {
            (Some(wanted), Some(login)) => wanted.asks_for_more_than(login),
            _ => false,
        };
        if let Presented::Token { key, obtained, .. } = presented
            && !obtained.is_fresh
            && !asks_for_more
        {
            // The way to log in stays: some registries name another realm when a token has run out, one
            // that does not serve everybody.
            self.logins.tokens.forget(key, &obtained.token);
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

    async fn present(
        &self,
        login: Option<&Login>,
        credentials: &Credentials,
        needs_own_token: bool,
        operation: Operation,
    ) -> Result<Presented, NoToken> {
        let Some(login) = login else {
            return Ok(Presented::Nothing);
        };
        let error = |kind| self.error(Operation::Token, kind);
        let means = login.means(&self.host.name, credentials, &self.transport.options);
        let bearer = match means.map_err(|kind| NoToken::MustNotBeAsked(error(kind)))? {
            Means::Nothing => return Ok(Presented::Nothing),
            Means::Secret(header) => {
                let known_refused = |kind| NoToken::KnownRefused(self.error(operation, kind));
                let url = login.challenged_at();
                if let Some(kind) = self.logins.refusals.standing(url, credentials) {
                    return Err(known_refused(kind));
                }
                return match self.logins.refusals.trial(url, credentials).await {
                    Ok(trial) => Ok(Presented::Secret { header, _trial: trial }),
                    Err(kind) if is_refusal(&kind) => Err(known_refused(kind)),
                    Err(kind) => Err(NoToken::Failed(self.error(operation, kind))),
                };
            }
            Means::Token(bearer) => bearer,
        };
        let is_of_one = self.subject == Subject::Repository;
        let may_share = *credentials == Credentials::Anonymous && !needs_own_token && is_of_one;
        if may_share && self.shares_anonymous_tokens() {
            let key = TokenKey { scope: bearer.scope("*"), ..self.token_key(bearer, credentials) };
            for _ in 0..MAX_SHARED_FETCHES {
                let mut is_own = false;
                let fetch = || {
                    is_own = true;
                    self.fetch_token(bearer, credentials).boxed()
                };
                let obtained = self.logins.tokens.get(&key, fetch).await;
                // Who waited for a token that was asked for another repository is not refused with it.
                if is_own || !obtained.as_ref().is_err_and(is_refusal) {
                    // Where it was asked for ahead of time, the one that is there is another's.
                    let is_own = is_own && obtained.as_ref().is_ok_and(|obtained| obtained.is_fresh);
                    return self.presented(login, key, obtained, is_own);
                }
            }
        }
        let key = self.token_key(bearer, credentials);
        // A token that is there is used, whatever has been said of the secret since.
        if !self.logins.tokens.is_kept(&key)
            && let Some(kind) = self.logins.refusals.standing(bearer.realm(), credentials)
        {
            return Err(NoToken::KnownRefused(error(kind)));
        }
        let obtained = self.logins.tokens.get(&key, || self.fetch_token(bearer, credentials).boxed()).await;
        self.presented(login, key, obtained, true)
    }

    fn presented(
        &self,
        login: &Login,
        key: TokenKey,
        obtained: Result<Obtained, ErrorKind>,
        is_own: bool,
    ) -> Result<Presented, NoToken> {
        let error = |kind| self.error(Operation::Token, kind);
        match obtained {
            Ok(obtained) => Ok(Presented::Token { key, obtained, is_own }),
            Err(kind) if is_refusal(&kind) => Err(NoToken::Refused(error(kind))),
            Err(kind) => {
                // How often we asked says nothing of the way to log in.
                if !matches!(kind, ErrorKind::RateLimited { .. }) {
                    self.host.forget_login(login);
                }
                Err(NoToken::Failed(error(kind)))
            }
        }
    }

    /// The repository that tokens are asked for.
    fn repository(&self) -> Cow<'_, str> {
        self.endpoint.repository(self.name.path())
    }

    /// What a token is asked for that opens what this is about.
    fn scope(&self, bearer: &Bearer) -> String {
        match self.subject {
            Subject::Repository => bearer.scope(&self.repository()),
            Subject::Registry => catalog::SCOPE.to_owned(),
        }
    }

    /// Whether the host's anonymous tokens are good for all that is public.
    fn shares_anonymous_tokens(&self) -> bool {
        self.transport.options.shares_anonymous_tokens(&self.host.name)
            && !self.host.is_keeping_tokens_apart()
    }

    fn token_key(&self, bearer: &Bearer, credentials: &Credentials) -> TokenKey {
        TokenKey {
            registry: self.host.name.clone(),
            realm: bearer.realm().to_owned(),
            service: bearer.service.clone(),
            scope: self.scope(bearer),
            identity: credentials.clone(),
        }
    }

    /// Asks the token service. Owns what it needs: others may wait for the same token when we have gone.
    fn fetch_token(
        &self,
        bearer: &Bearer,
        credentials: &Credentials,
    ) -> impl Future<Output = Result<Token, ErrorKind>> + use<> {
        let request = Arc::new(TokenRequest {
            endpoint: self.endpoint.clone(),
            transport: self.transport.clone(),
            bearer: bearer.clone(),
            scope: self.scope(bearer),
            credentials: credentials.clone(),
        });
        let (services, refusals) = (self.logins.services.clone(), self.logins.refusals.clone());
        let name = self.name.clone();
        async move {
            let (realm, credentials) = (request.bearer.realm(), &request.credentials);
            let _trial = refusals.trial(realm, credentials).await?;
            let result = services.token(&request).await;
            refusals.note(realm, credentials, &name, result.as_ref().map(|_| ()));
            result
        }
    }
}

fn is_refusal(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unauthorized { .. } | ErrorKind::Denied { .. })
}
