//! Service accounts of a cluster: its API server is asked whose a token is (`TokenReview`, authentication.k8s.io/v1).
//!
//! Invariants:
//! - answers are remembered for a while, in a bounded number, by the hashes of the tokens;
//! - while the API server cannot be asked, nobody is let in by what it might say;
//! - what does not look like such a token is not asked about, and strangers cannot make it be asked without end.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use lru::LruCache;
use reqwest::{Certificate, Url};
use samovar_registry::Secret;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::super::limits::{Limits, Standing};
use super::{Caller, Known, Unidentified};
use crate::config::KubernetesAuthConfig;

/// Tokens of which it is remembered whose they are.
const MOST_REVIEWED: usize = 10_000;
/// How long it is remembered whose a token is, and that it is nobody's.
const GOOD_FOR: Duration = Duration::from_mins(1);
const BAD_FOR: Duration = Duration::from_secs(10);
/// Questions to the API server at once.
const MOST_REVIEWS_AT_ONCE: usize = 8;
/// For one question, the wait for its turn included.
const REVIEW_LIMIT: Duration = Duration::from_secs(5);
/// An answer is no larger. Bytes.
const MAX_REVIEW: usize = 256 * 1024;
/// What begins the names of service accounts.
const ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// Asks about tokens.
pub(super) struct Reviews {
    config: KubernetesAuthConfig,
    url: Url,
    reviewed: Mutex<LruCache<Vec<u8>, Reviewed>>,
    places: Semaphore,
}

#[derive(Debug, Clone)]
struct Reviewed {
    until: Instant,
    known: Option<Arc<Known>>,
}

impl fmt::Debug for Reviews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reviews").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

#[derive(Debug, Deserialize)]
struct Answer {
    status: Status,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    authenticated: bool,
    #[serde(default)]
    user: User,
    #[serde(default)]
    audiences: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

impl Reviews {
    pub(super) fn new(config: KubernetesAuthConfig) -> Result<Self, String> {
        let server = match &config.server {
            Some(server) => server.clone(),
            None => in_cluster()?,
        };
        let url = server
            .join("/apis/authentication.k8s.io/v1/tokenreviews")
            .map_err(|error| format!("auth.kubernetes.server: {error}"))?;
        let most = NonZeroUsize::new(MOST_REVIEWED).expect("more than none");
        let reviews = Self {
            config,
            url,
            reviewed: Mutex::new(LruCache::new(most)),
            places: Semaphore::new(MOST_REVIEWS_AT_ONCE),
        };
        let refused = |error: String| format!("auth.kubernetes: {error}");
        let authorities = read_now(&reviews.config.ca_file).map_err(refused)?;
        reviews.client(&authorities).map_err(refused)?;
        Ok(reviews)
    }

    /// Whose a token is.
    pub(super) async fn caller(
        &self,
        token: &Secret,
        limits: &Limits,
        from: &Standing,
    ) -> Result<Caller, Unidentified> {
        if token.reveal().split('.').filter(|part| !part.is_empty()).count() != 3 {
            return Err(Unidentified::Bad);
        }
        let hash = digest::digest(&digest::SHA256, token.reveal().as_bytes()).as_ref().to_vec();
        let known = if let Some(reviewed) = self.remembered(&hash) {
            reviewed.known
        } else {
            Limits::unknown(from).map_err(Unidentified::TooMany)?;
            let asked = tokio::time::timeout(REVIEW_LIMIT, self.review(token)).await;
            let name = asked
                .unwrap_or_else(|_| Err("the API server does not answer in time".to_owned()))
                .map_err(Unidentified::Unreachable)?;
            self.remember(hash, name.as_deref(), limits)
        };
        known.map(Caller::known).ok_or(Unidentified::Bad)
    }

    fn remembered(&self, hash: &[u8]) -> Option<Reviewed> {
        let mut reviewed = self.reviewed.lock().unwrap_or_else(PoisonError::into_inner);
        reviewed.get(hash).filter(|reviewed| reviewed.until > Instant::now()).cloned()
    }

    fn remember(&self, hash: Vec<u8>, name: Option<&str>, limits: &Limits) -> Option<Arc<Known>> {
        let known = name.and_then(|name| {
            let entry = self.config.accounts.iter().find(|entry| entry.names.matches(name))?;
            let name = format!("account:{name}");
            let standing = limits.named(&name);
            Some(Known::new(name, entry.grant.clone(), standing))
        });
        let until = Instant::now() + if known.is_some() { GOOD_FOR } else { BAD_FOR };
        let entry = Reviewed { until, known: known.clone() };
        self.reviewed.lock().unwrap_or_else(PoisonError::into_inner).put(hash, entry);
        known
    }

    /// The account, as `namespace:name`, whose the token is.
    async fn review(&self, token: &Secret) -> Result<Option<String>, String> {
        let _place = self.places.acquire().await.map_err(|error| error.to_string())?;
        let own = read(&self.config.token_file).await?;
        // The client is made anew: authority and token are exchanged while pods run, and questions are rare.
        let mut spec = json!({ "token": token.reveal() });
        if !self.config.audiences.is_empty() {
            spec["audiences"] = json!(self.config.audiences);
        }
        let body = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec });
        let request = self
            .client(&read(&self.config.ca_file).await?)?
            .post(self.url.clone())
            .bearer_auth(own.trim())
            .json(&body);
        let mut response = request.send().await.map_err(|error| error.without_url().to_string())?;
        if !response.status().is_success() {
            return Err(format!("the API server answered {}", response.status()));
        }
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| error.without_url().to_string())? {
            if answer.len() + chunk.len() > MAX_REVIEW {
                return Err("the API server's answer is too large".to_owned());
            }
            answer.extend_from_slice(&chunk);
        }
        let Answer { status } =
            serde_json::from_slice(&answer).map_err(|_| "the API server's answer is no review".to_owned())?;
        // A server that does not know of audiences would answer for its own.
        let is_for_us = self.config.audiences.is_empty()
            || status.audiences.iter().any(|audience| self.config.audiences.contains(audience));
        let account = status.user.username.strip_prefix(ACCOUNT_PREFIX).map(str::to_owned);
        Ok(account.filter(|_| status.authenticated && is_for_us))
    }

    fn client(&self, authorities: &str) -> Result<reqwest::Client, String> {
        let shown = self.config.ca_file.display();
        let authorities = Certificate::from_pem_bundle(authorities.as_bytes())
            .map_err(|error| format!("{shown}: {error}"))?;
        reqwest::Client::builder()
            .tls_certs_only(authorities)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(REVIEW_LIMIT)
            .build()
            .map_err(|error| error.to_string())
    }
}

async fn read(path: &Path) -> Result<String, String> {
    let read = tokio::task::spawn_blocking({
        let path = path.to_owned();
        move || read_now(&path)
    });
    read.await.map_err(|error| error.to_string())?
}

fn read_now(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The API server of the cluster that this process runs in.
fn in_cluster() -> Result<Url, String> {
    let variable = |name: &str| crate::config::process_environment(name).filter(|value| !value.is_empty());
    let (Some(host), Some(port)) = (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT"))
    else {
        return Err(
            "auth.kubernetes: samovar does not run in a cluster: name its API server with server".to_owned()
        );
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Url::parse(&format!("https://{host}:{port}")).map_err(|error| format!("auth.kubernetes: {error}"))
}

#[cfg(test)]
mod tests;
