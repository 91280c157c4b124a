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
use super::keeper::{Grant, Login};
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

/// Who we are.
#[derive(Clone, PartialEq)]
enum Identity {
    /// As a file describes it.
    File { kind: FileKind, document: Value },
    /// Whoever the metadata server says.
    Metadata { host: Option<String> },
}

/// The `type` of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileKind {
    ServiceAccount,
    ExternalAccount,
    Impersonated,
    User,
}

impl Identity {
    fn source(&self) -> &'static str {
        match self {
            Self::File { kind: FileKind::ServiceAccount, .. } => "service account file",
            Self::File { kind: FileKind::ExternalAccount, .. } => "workload identity federation",
            Self::File { kind: FileKind::Impersonated, .. } => "impersonated service account",
            Self::File { kind: FileKind::User, .. } => "user's application default file",
            Self::Metadata { .. } => "metadata server",
        }
    }

    /// The library's way of making tokens. Starts its task on the runtime that is entered.
    fn credentials(&self) -> Result<AccessTokenCredentials, BuildError> {
        match self {
            Self::Metadata { host } => {
                let builder = mds::Builder::default();
                let builder = match host {
                    Some(host) => builder.with_endpoint(format!("http://{host}")),
                    None => builder,
                };
                builder.build_access_token_credentials()
            }
            Self::File { kind, document } => {
                let document = document.clone();
                match kind {
                    FileKind::ExternalAccount => external_account::Builder::new(document)
                        .with_scopes([SCOPE])
                        .build_access_token_credentials(),
                    FileKind::Impersonated => impersonated::Builder::new(document)
                        .with_scopes([SCOPE])
                        .build_access_token_credentials(),
                    FileKind::User | FileKind::ServiceAccount => {
                        user_account::Builder::new(document).build_access_token_credentials()
                    }
                }
            }
        }
    }
}

/// The library with an identity. It starts a task that renews the token, whose requests may have no timeout: a runtime of its
/// own is that task's owner, and ends it when the engine is dropped.
#[derive(Debug)]
struct Engine {
    identity: Identity,
    credentials: AccessTokenCredentials,
    runtime: Option<Runtime>,
}

/// Shows only where it comes from: files hold keys.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.source())
    }
}

impl Engine {
    fn start(identity: Identity) -> Result<Self, String> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("google-identity")
            .enable_all()
            .build()
            .map_err(|error| format!("no thread for the identity: {error}"))?;
        let entered = runtime.enter();
        let credentials = identity.credentials();
        drop(entered);
        let runtime = Some(runtime);
        let credentials = credentials.map_err(|error| format!("{}: {}", identity.source(), shown(&error)));
        match credentials {
            Ok(credentials) => Ok(Self { identity, credentials, runtime }),
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

    /// The token that the library keeps for this identity.
    async fn kept_by_library(&self, identity: Identity) -> Result<Grant, String> {
        // Taken out while it is asked: if that fails or is given up, it is dropped and with it what it does by itself.
        let running = self.engine().take().filter(|engine| engine.identity == identity);
        let engine = match running {
            Some(engine) => engine,
            None => Engine::start(identity)?,
        };
        let source = engine.identity.source();
        let token = engine.credentials.access_token().await;
        let token = token.map_err(|error| format!("{source}: {}", shown(&error)))?;
        *self.engine() = Some(engine);
        Ok(grant(token.token, source, ASK_EVERY))
    }
}

#[async_trait]
impl Login for GoogleLogin {
    async fn log_in(&self) -> Result<Grant, String> {
        let identity = identity(&self.environment)?;
        if let Identity::File { kind: FileKind::ServiceAccount, document } = &identity {
            let client = self.client.as_ref().ok_or("TLS cannot be set up")?;
            let source = identity.source();
            let token = service_account::token(client, document, self.clock.now()).await;
            let token = token.map_err(|message| format!("{source}: {message}"))?;
            return Ok(grant(token.access_token, source, Duration::from_secs(token.expires_in)));
        }
        self.kept_by_library(identity).await
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
    Ok(Identity::Metadata { host: environment.variable("GCE_METADATA_HOST") })
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_IDENTITY_FILE_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

fn file_identity(text: &[u8]) -> Result<Identity, String> {
    let document: Value = serde_json::from_slice(text).map_err(|_| "not a JSON document".to_owned())?;
    let kind = match document.get("type").and_then(Value::as_str).unwrap_or_default() {
        "service_account" => FileKind::ServiceAccount,
        "external_account" => FileKind::ExternalAccount,
        "impersonated_service_account" => FileKind::Impersonated,
        "authorized_user" => FileKind::User,
        other => {
            return Err(format!("identities of the type {:?} are not supported", without_secrets(other)));
        }
    };
    Ok(Identity::File { kind, document })
}

#[cfg(test)]
mod tests;
