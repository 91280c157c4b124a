//! Google: an access token, as the password of the user `oauth2accesstoken`
//! (<https://cloud.google.com/artifact-registry/docs/docker/authentication#token>).
//!
//! The identity is the application's default one: the file that `GOOGLE_APPLICATION_CREDENTIALS` names, else the file of
//! `gcloud auth application-default login`, else the metadata server (`GCE_METADATA_HOST` replaces its address). Tokens are made by
//! Google's library, which renews them four minutes ahead of their end by itself and does not tell when that is: it is asked
//! again every minute, which costs nothing, and dropped when it fails, since it would try again every ten seconds.
//!
//! A service account's file is the exception ([`service_account`]): for it the library makes no access token, only a
//! signature of its own that registries are not documented to accept.
//!
//! Scopes: a file's identity asks for `cloud-platform`, the one that both registries are documented to accept; what may be done
//! is decided by roles. The metadata server is not asked for scopes: an instance has those it was given, and a workload of
//! Kubernetes gets `cloud-platform`.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use google_cloud_auth::build_errors::Error as BuildError;
use google_cloud_auth::credentials::{
    AccessTokenCredentials, external_account, impersonated, mds, user_account,
};
use reqwest::Client;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use super::failure::{shown, without_secrets};
use super::keeper::{Grant, Login, NoGrant};
use super::{CloudOptions, Environment, token_endpoint};
use crate::credentials::Credentials;
use crate::{Clock, Secret};

mod service_account;

/// The user whose password is an access token.
const USER: &str = "oauth2accesstoken";

/// What is asked for where we may choose.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// How often the library is asked for the token that it keeps.
const ASK_EVERY: Duration = Duration::from_mins(1);

/// A larger file describes no identity. Bytes.
const MAX_IDENTITY_FILE_BYTES: u64 = 1024 * 1024;

/// Logs in to all of Google's registries.
#[derive(Debug)]
pub(super) struct GoogleLogin {
    environment: Environment,
    client: Option<Client>,
    clock: Arc<dyn Clock>,
    engine: Mutex<Option<Engine>>,
}

/// What a file says. It may hold a key and does not print itself.
#[derive(Clone, PartialEq)]
struct Document(Value);

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Document(…)")
    }
}

/// Who we are.
#[derive(Debug, Clone, PartialEq)]
enum Identity {
    /// A service account whose key is in a file: this document.
    ServiceAccount(Document),
    /// What the library makes access tokens of.
    OfLibrary(Source),
}

/// What the library makes access tokens of: the document of a file, or whoever the metadata server says.
#[derive(Debug, Clone, PartialEq)]
enum Source {
    ExternalAccount(Document),
    Impersonated(Document),
    User(Document),
    Metadata { host: Option<String> },
}

impl Identity {
    fn name(&self) -> &'static str {
        match self {
            Self::ServiceAccount(_) => "service account file",
            Self::OfLibrary(source) => source.name(),
        }
    }
}

impl Source {
    fn name(&self) -> &'static str {
        match self {
            Self::ExternalAccount(_) => "workload identity federation",
            Self::Impersonated(_) => "impersonated service account",
            Self::User(_) => "user's application default file",
            Self::Metadata { .. } => "metadata server",
        }
    }

    /// The library's credentials. Starts their task on the runtime that is entered.
    fn credentials(&self) -> Result<AccessTokenCredentials, BuildError> {
        match self {
            Self::ExternalAccount(Document(document)) => external_account::Builder::new(document.clone())
                .with_scopes([SCOPE])
                .build_access_token_credentials(),
            Self::Impersonated(Document(document)) => impersonated::Builder::new(document.clone())
                .with_scopes([SCOPE])
                .build_access_token_credentials(),
            Self::User(Document(document)) => {
                user_account::Builder::new(document.clone()).build_access_token_credentials()
            }
            Self::Metadata { host: None } => mds::Builder::default().build_access_token_credentials(),
            Self::Metadata { host: Some(host) } => mds::Builder::default()
                .with_endpoint(format!("http://{host}"))
                .build_access_token_credentials(),
        }
    }
}

/// The library with an identity. It starts a task that renews the token, whose requests may have no timeout: a runtime of its
/// own is that task's owner, and ends it when the engine is dropped.
#[derive(Debug)]
struct Engine {
    source: Source,
    credentials: AccessTokenCredentials,
    runtime: Option<Runtime>,
}

impl Engine {
    fn start(source: Source) -> Result<Self, String> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("google-identity")
            .enable_all()
            .build()
            .map_err(|error| format!("no thread for the identity: {error}"))?;
        let entered = runtime.enter();
        let credentials = source.credentials();
        drop(entered);
        let runtime = Some(runtime);
        let credentials = credentials.map_err(|error| format!("{}: {}", source.name(), shown(&error)));
        match credentials {
            Ok(credentials) => Ok(Self { source, credentials, runtime }),
            Err(message) => {
                runtime.into_iter().for_each(Runtime::shutdown_background);
                Err(message)
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Waiting for it is not allowed within another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl GoogleLogin {
    pub(super) fn new(options: &CloudOptions, clock: Arc<dyn Clock>) -> Self {
        Self {
            environment: options.environment.clone(),
            client: token_endpoint::client(&options.user_agent).build().ok(),
            clock,
            engine: Mutex::default(),
        }
    }

    fn engine(&self) -> MutexGuard<'_, Option<Engine>> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token that the library keeps.
    async fn kept_by_library(&self, source: Source) -> Result<Grant, NoGrant> {
        // Taken out while it is asked: if that fails or is given up, it is dropped and with it what it does by itself.
        let running = self.engine().take().filter(|engine| engine.source == source);
        let engine = match running {
            Some(engine) => engine,
            None => Engine::start(source)?,
        };
        let source = engine.source.name();
        // Where nothing describes one, machines that are not Google's have none.
        let is_none = matches!(engine.source, Source::Metadata { .. });
        let token = engine.credentials.access_token().await;
        let token = token.map_err(|error| {
            let message = format!("{source}: {}", shown(&error));
            NoGrant { message, is_none }
        })?;
        *self.engine() = Some(engine);
        Ok(grant(token.token, source, ASK_EVERY))
    }
}

#[async_trait]
impl Login for GoogleLogin {
    async fn log_in(&self) -> Result<Grant, NoGrant> {
        let identity = identity(&self.environment)?;
        let source = identity.name();
        let key = match identity {
            Identity::OfLibrary(source) => return self.kept_by_library(source).await,
            Identity::ServiceAccount(Document(key)) => key,
        };
        let client = self.client.as_ref().ok_or("TLS cannot be set up")?;
        let token = service_account::token(client, &key, self.clock.now()).await;
        let token = token.map_err(|message| format!("{source}: {message}"))?;
        Ok(grant(token.access_token, source, Duration::from_secs(token.expires_in)))
    }

    fn forget(&self) {
        *self.engine() = None;
    }
}

fn grant(token: String, source: &str, lifetime: Duration) -> Grant {
    let credentials = Credentials::Basic {
        username: USER.to_owned(),
        password: Secret::new(token),
        provenance: format!("Google ({source})").into(),
    };
    Grant { credentials, lifetime }
}

/// The application's default identity (<https://google.aip.dev/auth/4110>).
fn identity(environment: &Environment) -> Result<Identity, String> {
    let named = environment.variable("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from);
    let usual = || {
        let home = PathBuf::from(environment.variable("HOME")?);
        Some(home.join(".config/gcloud/application_default_credentials.json"))
    };
    let is_named = named.is_some();
    if let Some(path) = named.or_else(usual) {
        match read_bounded(&path) {
            Ok(text) => {
                return file_identity(&text).map_err(|reason| format!("{}: {reason}", path.display()));
            }
            Err(error) if error.kind() == ErrorKind::NotFound && !is_named => {}
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        }
    }
    Ok(Identity::OfLibrary(Source::Metadata { host: environment.variable("GCE_METADATA_HOST") }))
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_IDENTITY_FILE_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

fn file_identity(text: &[u8]) -> Result<Identity, String> {
    let document: Value = serde_json::from_slice(text).map_err(|_| "not a JSON document".to_owned())?;
    let kind = document.get("type").and_then(Value::as_str).unwrap_or_default();
    Ok(Identity::OfLibrary(match kind {
        "service_account" => return Ok(Identity::ServiceAccount(Document(document))),
        "external_account" => Source::ExternalAccount(Document(document)),
        "impersonated_service_account" => Source::Impersonated(Document(document)),
        "authorized_user" => Source::User(Document(document)),
        other => {
            return Err(format!("identities of the type {:?} are not supported", without_secrets(other)));
        }
    }))
}

#[cfg(test)]
mod tests;
