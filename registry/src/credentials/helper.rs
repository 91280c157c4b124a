//! Credential helpers: programs `docker-credential-NAME` that are asked for the credentials of a server.
//!
//! Invariants: a program runs under a time limit, in a process group of its own that is killed as a whole; its output is
//! bounded; no shell sees its name; only so many run at once, and for one server only one. What it says is kept for a
//! while, and asked for anew when a registry has refused it.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::entry::login;
use super::{CredentialError, CredentialProvider, Credentials};
use crate::{Name, json};

use program::Output;

mod program;

/// Longest name of a helper, in bytes.
const MAX_HELPER_NAME_LENGTH: usize = 64;
/// Programs that run at once.
const MOST_HELPERS: usize = 4;
/// How long a program may have to wait for its turn.
const LONGEST_WAIT_FOR_HELPER: Duration = Duration::from_mins(1);
/// How long credentials are used before the program is asked for them again.
const KEEP_CREDENTIALS_FOR: Duration = Duration::from_mins(5);
/// How long it is left alone after it had nothing to say, or something that was refused.
const LEAVE_HELPER_ALONE_FOR: Duration = Duration::from_secs(30);

/// What docker asks helpers for where it means Docker Hub.
const DOCKER_HUB_SERVER: &str = "https://index.docker.io/v1/";
/// What helpers say, by convention, when there is nothing.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// The `NAME` of a program `docker-credential-NAME`: letters, digits, `.`, `_` and `-`, at most 64.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HelperName(Arc<str>);

impl HelperName {
    fn program(&self) -> String {
        format!("docker-credential-{self}")
    }
}

/// A text that is not the name of a credential helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a credential helper is named as in docker-credential-NAME, by 1 to 64 letters, digits, '.', '_' and '-'"
)]
pub struct HelperNameError;

impl FromStr for HelperName {
    type Err = HelperNameError;

    fn from_str(text: &str) -> Result<Self, HelperNameError> {
        let is_possible = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if (1..=MAX_HELPER_NAME_LENGTH).contains(&text.len()) && text.bytes().all(is_possible) {
            return Ok(Self(text.into()));
        }
        Err(HelperNameError)
    }
}

impl fmt::Display for HelperName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Which program to ask for which server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct HelperServer {
    pub(super) helper: HelperName,
    server: String,
}

impl HelperServer {
    /// `server` is a canonical host, perhaps with a path; Docker Hub goes by its old name.
    pub(super) fn of(helper: HelperName, server: &str) -> Self {
        let server = if server == "docker.io" { DOCKER_HUB_SERVER } else { server };
        Self { helper, server: server.to_owned() }
    }
}

impl fmt::Display for HelperServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.helper.program(), self.server)
    }
}

/// How helpers are found and run.
#[derive(Debug, Clone)]
pub struct HelperOptions {
    /// The directories in which programs are looked for, in order. Those that are not absolute are passed over.
    pub search_path: Vec<PathBuf>,
    /// How long a program may take. 10 s.
    pub time_limit: Duration,
}

impl Default for HelperOptions {
    fn default() -> Self {
        Self { search_path: Vec::new(), time_limit: Duration::from_secs(10) }
    }
}

/// All helpers that are in use.
#[derive(Debug)]
pub(super) struct Helpers {
    shared: Arc<Shared>,
    /// The providers that somebody holds: asked for again, they are the same.
    providers: Mutex<HashMap<HelperServer, Weak<Helper>>>,
}

#[derive(Debug)]
struct Shared {
    options: HelperOptions,
    turns: Semaphore,
}

impl Helpers {
    pub(super) fn new(options: HelperOptions) -> Self {
        let shared = Arc::new(Shared { options, turns: Semaphore::new(MOST_HELPERS) });
        Self { shared, providers: Mutex::default() }
    }

    /// The provider for one server; the same one as long as anybody holds it.
    pub(super) fn provider(&self, of: HelperServer) -> Arc<dyn CredentialProvider> {
        let mut providers = self.lock();
        if let Some(known) = providers.get(&of).and_then(Weak::upgrade) {
            return known;
        }
        providers.retain(|_, provider| provider.strong_count() > 0);
        let helper = Arc::new(Helper {
            provenance: of.to_string().into(),
            of: of.clone(),
            shared: Arc::clone(&self.shared),
            asking: tokio::sync::Mutex::default(),
            state: Mutex::default(),
        });
        providers.insert(of, Arc::downgrade(&helper));
        helper
    }

    /// Whether the program is there.
    pub(super) fn is_installed(&self, helper: &HelperName) -> bool {
        self.shared.find(helper).is_some()
    }

    /// What is wrong with those in use.
    pub(super) fn problems(&self) -> Vec<String> {
        let providers: Vec<_> = self.lock().values().filter_map(Weak::upgrade).collect();
        let mut problems: Vec<_> = providers.iter().filter_map(|helper| helper.problem()).collect();
        problems.sort_unstable();
        problems
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HelperServer, Weak<Helper>>> {
        self.providers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn find(&self, helper: &HelperName) -> Option<PathBuf> {
        let program = helper.program();
        let directories = self.options.search_path.iter().filter(|directory| directory.is_absolute());
        directories.map(|directory| directory.join(&program)).find(|path| is_executable(path))
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// One program, asked for one server.
#[derive(Debug)]
struct Helper {
    of: HelperServer,
    provenance: Arc<str>,
    shared: Arc<Shared>,
    /// Held while the program is asked, by whoever asks: the others get the same answer.
    asking: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kept: Option<Kept>,
    /// It could not be asked when it was asked last; having nothing is no failure.
    failure: Option<String>,
}

#[derive(Debug)]
struct Kept {
    answer: Result<Credentials, CredentialError>,
    at: Instant,
    until: Instant,
}

/// Why there are no credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NoCredentials {
    /// The helper does not know the server.
    NotFound,
    Failed(String),
}

#[derive(Deserialize)]
struct Reply {
    #[serde(rename = "Username", default)]
    username: String,
    #[serde(rename = "Secret", default)]
    secret: String,
}

impl Helper {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> Option<Result<Credentials, CredentialError>> {
        let state = self.lock();
        state.kept.as_ref().filter(|kept| Instant::now() < kept.until).map(|kept| kept.answer.clone())
    }

    async fn ask(&self) -> Result<Credentials, NoCredentials> {
        let failed = |reason: &str| NoCredentials::Failed(reason.to_owned());
        let turn = tokio::time::timeout(LONGEST_WAIT_FOR_HELPER, self.shared.turns.acquire());
        let Ok(Ok(_turn)) = turn.await else {
            return Err(failed("too many credential helpers run, or wait to be run"));
        };
        let program =
            self.shared.find(&self.of.helper).ok_or_else(|| failed("the program is not found in PATH"))?;
        let output = program::run(&program, &self.of.server, self.shared.options.time_limit).await;
        let output = output.map_err(NoCredentials::Failed)?;
        if output.status.success() { self.credentials_in(&output.text) } else { Err(refusal(&output)) }
    }

    fn credentials_in(&self, text: &[u8]) -> Result<Credentials, NoCredentials> {
        let failed = |reason: &str| NoCredentials::Failed(reason.to_owned());
        // The decoder's own message could quote the secret.
        let reply: Reply = json::object(text).map_err(|_| failed("its answer is not of the protocol"))?;
        let credentials = login(reply.username, reply.secret, &self.provenance).map_err(failed)?;
        credentials.ok_or(NoCredentials::NotFound)
    }

    fn keep(&self, answer: Result<Credentials, NoCredentials>) -> Result<Credentials, CredentialError> {
        let failure = match &answer {
            Err(NoCredentials::Failed(reason)) => Some(reason.clone()),
            Ok(_) | Err(NoCredentials::NotFound) => None,
        };
        let answer = answer.map_err(|none| CredentialError {
            provenance: Arc::clone(&self.provenance),
            is_none: none == NoCredentials::NotFound,
            message: match none {
                NoCredentials::NotFound => "it has none".to_owned(),
                NoCredentials::Failed(reason) => reason,
            },
        });
        let at = Instant::now();
        let keep_for = if answer.is_ok() { KEEP_CREDENTIALS_FOR } else { LEAVE_HELPER_ALONE_FOR };
        let mut state = self.lock();
        if state.failure != failure {
            match &failure {
                Some(reason) => {
                    tracing::warn!(credentials.source = %self.provenance, error = reason, "a credential helper fails");
                }
                None => {
                    tracing::info!(credentials.source = %self.provenance, "a credential helper works again");
                }
            }
        }
        state.failure = failure;
        state.kept = Some(Kept { answer: answer.clone(), at, until: at + keep_for });
        answer
    }

    fn problem(&self) -> Option<String> {
        self.lock().failure.as_ref().map(|failure| format!("{}: {failure}", self.provenance))
    }
}

/// Why a program failed. By the protocol it says so where otherwise the secret would be, and nothing tells the two apart for
/// certain: only the one sentence that is known is heeded, and nothing is shown.
fn refusal(output: &Output) -> NoCredentials {
    if String::from_utf8_lossy(&output.text).contains(NOT_FOUND) {
        return NoCredentials::NotFound;
    }
    NoCredentials::Failed(format!("it failed ({})", output.status))
}

#[async_trait]
impl CredentialProvider for Helper {
    fn provenance(&self) -> &str {
        &self.provenance
    }

    /// Cancellation-safe: the program is killed, and whoever waits asks it again.
    async fn credentials(&self, _: &Name) -> Result<Credentials, CredentialError> {
        if let Some(answer) = self.kept() {
            return answer;
        }
        let _asking = self.asking.lock().await;
        if let Some(answer) = self.kept() {
            return answer;
        }
        let answer = self.ask().await;
        self.keep(answer)
    }

    /// The program is asked again, though not more often than after a failure.
    fn refused(&self, credentials: &Credentials) {
        if let Some(kept) = &mut self.lock().kept
            && kept.answer.as_ref().is_ok_and(|answer| answer == credentials)
        {
            kept.until = kept.until.min(kept.at + LEAVE_HELPER_ALONE_FOR);
        }
    }
}

#[cfg(test)]
mod tests;
