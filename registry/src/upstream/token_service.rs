//! Asking token services: by GET or by POST, whichever they take, and with the identity token that is good now.
//!
//! Passwords go by GET, as everybody sends them, and by POST where GET is not served; identity tokens by POST. An answer
//! may bring the identity token that takes the place of the one that was sent; it is kept as long as the process lives
//! ([`identity`]).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;
use url::Url;

use super::auth::{self, Bearer, Grant};
use super::budget::RequestKind;
use super::endpoint::Endpoint;
use super::token::{Granted, Token};
use super::transport::{Answer, Request, Transport};
use super::{ErrorKind, Operation, Urgency};
use crate::credentials::Credentials;
use crate::{Secret, json, words};
use identity::IdentityTokens;

mod identity;

/// Bound of a token service's answer, in bytes: tokens with many claims take some kilobytes.
const MAX_TOKEN_BODY: u64 = 64 * 1024;
/// How many token services are remembered that want passwords by POST. Beyond it all are found out anew.
const MAX_REALMS: usize = 1_024;

/// What is known of all token services.
#[derive(Debug, Default)]
pub(super) struct TokenServices {
    /// Those that want passwords by POST.
    posting: Mutex<HashSet<String>>,
    identity_tokens: IdentityTokens,
}

/// One token to ask for.
#[derive(Debug)]
pub(super) struct TokenRequest {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) transport: Arc<Transport>,
    pub(super) bearer: Bearer,
    pub(super) scope: String,
    pub(super) credentials: Credentials,
}

impl TokenServices {
    /// Asks for a token, in the form that the service takes.
    pub(super) async fn token(&self, request: &Arc<TokenRequest>) -> Result<Token, ErrorKind> {
        let granted = match &request.credentials {
            Credentials::Basic { username, password, .. } => {
                self.by_password(request, Grant::Password { username, password }).await
            }
            Credentials::IdentityToken { token, .. } => self.identity_tokens.exchange(request, token).await,
            Credentials::Anonymous | Credentials::RegistryToken { .. } => request.get().await,
        };
        granted.map(|granted| granted.token)
    }

    async fn by_password(&self, request: &TokenRequest, grant: Grant<'_>) -> Result<Granted, ErrorKind> {
        let realm = request.bearer.realm();
        if lock(&self.posting).contains(realm) {
            let posted = request.post(grant).await;
            if !is_unserved(&posted) {
                return posted;
            }
            lock(&self.posting).remove(realm);
            return request.get().await;
        }
        let got = request.get().await;
        if !is_unserved(&got) {
            return got;
        }
        let posted = request.post(grant).await;
        if is_unserved(&posted) {
            return got;
        }
        let mut posting = lock(&self.posting);
        if posting.len() >= MAX_REALMS {
            posting.clear();
        }
        posting.insert(realm.to_owned());
        posted
    }
}

impl TokenRequest {
    async fn get(&self) -> Result<Granted, ErrorKind> {
        let url = self.bearer.token_url(&self.scope, &self.credentials);
        self.send(Method::GET, url, auth::basic_header(&self.credentials), None).await
    }

    async fn post(&self, grant: Grant<'_>) -> Result<Granted, ErrorKind> {
        let form = grant.form(self.bearer.service.as_deref(), &self.scope);
        self.send(Method::POST, self.bearer.realm_url().clone(), None, Some(form)).await
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        authorization: Option<HeaderValue>,
        form: Option<Secret>,
    ) -> Result<Granted, ErrorKind> {
        let request = Request {
            endpoint: &self.endpoint,
            operation: Operation::Token,
            kind: RequestKind::Token,
            // Whoever joins later may be more urgent than the one who asks now.
            urgency: Urgency::Asked,
            repository: None,
            identity: self.credentials.identity(),
            method,
            url,
            accept: None,
            condition: None,
            authorization,
            form,
            max_body: MAX_TOKEN_BODY,
            is_probe: false,
        };
        let answer = self.transport.exchange(&request).await.map_err(|failure| failure.kind)?;
        if answer.status.is_success() {
            return Granted::decode(&answer.body, answer.sent_at);
        }
        Err(self.failure(&answer))
    }

    fn failure(&self, answer: &Answer) -> ErrorKind {
        if answer.status == StatusCode::BAD_REQUEST && refuses_grant(&answer.body) {
            let (credentials, message) = (self.credentials.to_string(), words::of_registry(&answer.body));
            return ErrorKind::Unauthorized { credentials, message };
        }
        match answer.refusal(&self.credentials).unwrap_or_else(|| answer.failure()) {
            // It is the token service that is not there; of the repository this says nothing.
            ErrorKind::NotFound { message } => ErrorKind::Rejected { status: 404, message },
            kind => kind,
        }
    }
}

/// Whether a 400 says that the password or token is not good (RFC 6749 section 5.2).
fn refuses_grant(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    json::object::<Refusal>(body)
        .is_ok_and(|refusal| matches!(refusal.error.as_str(), "invalid_grant" | "invalid_client"))
}

/// Whether the service does not serve this form of request.
fn is_unserved(result: &Result<Granted, ErrorKind>) -> bool {
    matches!(
        result,
        Err(ErrorKind::Rejected { status: 404 | 405, .. } | ErrorKind::Unavailable { status: 501, .. })
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
