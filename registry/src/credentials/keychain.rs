//! All sources of credentials, and what to try for a repository in which order: what the configuration says for the
//! repository, image pull secrets of Kubernetes, docker's `config.json`, the identity in a cloud, and at last anonymous
//! access. Within one source the closest fit comes first.
//!
//! Invariants: files are read only by [`Keychain::read_again`]; as long as they do not change, a repository's chain stays
//! equal to what it was; one bad source, file or entry never spoils the others, and is named by [`Keychain::problems`].

use std::cmp::Reverse;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::docker_config::DockerConfig;
use super::helper::{HelperName, HelperOptions, HelperServer, Helpers};
use super::kubernetes::PullSecrets;
use super::reading::Patience;
use super::watched_file::WatchedFile;
use super::{Candidate, CredentialChain, CredentialError, CredentialProvider, Credentials, ProviderSource};
use crate::{Globs, Name, Secret};

/// How many image pull secrets are tried for one repository. A login that fails costs requests, and too many of them a ban.
const MOST_PULL_SECRETS_TRIED: usize = 8;
/// How many credentials of every other source are tried for one repository, anonymous access besides.
const MOST_CREDENTIALS_TRIED: usize = 4;

/// Where credentials come from.
#[derive(Debug, Clone, Default)]
pub struct KeychainOptions {
    /// What the configuration says for single repositories, in its order.
    pub repositories: Vec<RepositoryCredentials>,
    /// Files and directories of image pull secrets.
    pub kubernetes_secrets: Vec<PathBuf>,
    /// Docker's `config.json`, which may be missing.
    pub docker_config: Option<PathBuf>,
    /// Identities in clouds, in order.
    pub clouds: Vec<Arc<dyn ProviderSource>>,
    /// How credential helpers are found and run.
    pub helpers: HelperOptions,
}

/// What the configuration says for some repositories.
#[derive(Debug, Clone)]
pub struct RepositoryCredentials {
    /// The repositories.
    pub repositories: Globs,
    /// What to log in with.
    pub login: Login,
    /// Nothing is tried for these repositories after this, not even anonymous access.
    pub only: bool,
    /// Where it is written, for messages.
    pub provenance: Arc<str>,
}

impl RepositoryCredentials {
    /// Whether nothing is tried after this.
    pub fn is_last(&self) -> bool {
        self.only || matches!(self.login, Login::Anonymous)
    }
}

/// What the configuration says to log in with.
#[derive(Debug, Clone)]
pub enum Login {
    /// Nothing, and nothing else is to be tried.
    Anonymous,
    /// A user's name and a password.
    Basic {
        /// The user's name.
        username: String,
        /// The password.
        password: SecretSource,
    },
    /// A token for the token service.
    IdentityToken(SecretSource),
    /// A token for the registry.
    RegistryToken(SecretSource),
    /// What a program says.
    Helper(HelperName),
}

/// What it is, without the secret.
impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("nothing"),
            Self::Basic { username, password } => write!(f, "user {username:?}, password {password}"),
            Self::IdentityToken(token) => write!(f, "identity token {token}"),
            Self::RegistryToken(token) => write!(f, "registry token {token}"),
            Self::Helper(helper) => write!(f, "docker-credential-{helper}"),
        }
    }
}

/// Where a secret is.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// Here.
    Given(Secret),
    /// In a file, which may change; a line break at its end is no part of the secret.
    File(PathBuf),
}

/// Where it is, never what it is.
impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("given"),
            Self::File(path) => write!(f, "in {}", path.display()),
        }
    }
}

/// All sources of credentials.
#[derive(Debug)]
pub struct Keychain {
    rules: Vec<Rule>,
    kubernetes: Vec<PullSecrets>,
    docker_config: Option<WatchedFile<DockerConfig>>,
    clouds: Vec<Arc<dyn ProviderSource>>,
    helpers: Helpers,
}

/// What the configuration says for some repositories, with the secret's file.
#[derive(Debug)]
struct Rule {
    written: RepositoryCredentials,
    file: Option<WatchedFile<Secret>>,
    /// Stands for the rule while there is no secret.
    without_secret: Arc<WithoutSecret>,
}

/// Has no credentials to give: the file in which the secret is has said nothing yet that makes sense. Nothing else, such as
/// anonymous access, steals into its place, and whoever looks for the reason finds it.
#[derive(Debug)]
struct WithoutSecret {
    provenance: Arc<str>,
}

#[async_trait]
impl CredentialProvider for WithoutSecret {
    fn provenance(&self) -> &str {
        &self.provenance
    }

    async fn credentials(&self, _: &Name) -> Result<Credentials, CredentialError> {
        let message = "the file of the secret cannot be read, or holds none".to_owned();
        Err(CredentialError { provenance: Arc::clone(&self.provenance), message, is_none: false })
    }

    fn refused(&self, _: &Credentials) {}
}

impl Keychain {
    /// A keychain of these sources, read for the first time as by [`Keychain::read_again`].
    pub fn new(options: KeychainOptions) -> Self {
        let mut keychain = Self {
            rules: options.repositories.into_iter().map(Rule::new).collect(),
            kubernetes: options.kubernetes_secrets.into_iter().map(PullSecrets::new).collect(),
            docker_config: options.docker_config.map(WatchedFile::that_may_be_missing),
            clouds: options.clouds,
            helpers: Helpers::new(options.helpers),
        };
        keychain.read_again();
        keychain
    }

    /// Reads all files again. Waits for the file system, some seconds at most; of a file that hangs, what it said last goes on
    /// counting.
    pub fn read_again(&mut self) {
        let patience = Patience::new();
        for file in self.rules.iter_mut().filter_map(|rule| rule.file.as_mut()) {
            file.read_again(patience, secret);
        }
        for secrets in &mut self.kubernetes {
            secrets.read_again(patience);
        }
        if let Some(file) = &mut self.docker_config {
            let shown = file.path().display().to_string();
            file.read_again(patience, |text| {
                DockerConfig::parse(text, &shown).map_err(|error| {
                    format!(
                        "it is not a docker configuration: at line {}, column {}",
                        error.line, error.column
                    )
                })
            });
        }
    }

    /// What to try for a repository, in order. Equal to what it was as long as nothing has changed. A source of which more
    /// fits than is tried becomes a problem, once for all repositories of a registry.
    pub fn chain_for(&self, name: &Name, problems: &mut Vec<String>) -> CredentialChain {
        let mut links = Links::default();
        links.begin("entries of credentials", MOST_CREDENTIALS_TRIED);
        for rule in self.rules.iter().filter(|rule| rule.written.repositories.matches_name(name)) {
            links.push(self.of_rule(rule, name));
            if rule.written.is_last() {
                return links.into_chain(name, problems).ended();
            }
        }
        links.begin("image pull secrets", MOST_PULL_SECRETS_TRIED);
        let mut of_kubernetes: Vec<_> =
            self.kubernetes.iter().flat_map(|secrets| secrets.fitting(name)).collect();
        of_kubernetes.sort_by_key(|(fit, _)| Reverse(*fit));
        for (_, credentials) in of_kubernetes {
            links.push(Candidate::Fixed(credentials.clone()));
        }
        links.begin("credentials of docker's configuration", MOST_CREDENTIALS_TRIED);
        if let Some(config) = self.docker_config.as_ref().and_then(WatchedFile::content) {
            for server in config.helpers_for(name) {
                links.push(Candidate::Provided(self.helpers.provider(server)));
            }
            for credentials in config.credentials_for(name) {
                links.push(Candidate::Fixed(credentials));
            }
        }
        links.begin("identities in clouds", MOST_CREDENTIALS_TRIED);
        for provider in self.clouds.iter().filter_map(|cloud| cloud.provider_for(name)) {
            links.push(Candidate::Provided(provider));
        }
        links.push(Candidate::Fixed(Credentials::Anonymous));
        links.into_chain(name, problems)
    }

    fn of_rule(&self, rule: &Rule, name: &Name) -> Candidate {
        let provenance = Arc::clone(&rule.written.provenance);
        let secret = || rule.secret().ok_or(&rule.without_secret);
        let credentials = match &rule.written.login {
            Login::Anonymous => Ok(Credentials::Anonymous),
            Login::Basic { username, .. } => {
                let username = username.clone();
                secret().map(|password| Credentials::Basic { username, password, provenance })
            }
            Login::IdentityToken(_) => secret().map(|token| Credentials::IdentityToken { token, provenance }),
            Login::RegistryToken(_) => secret().map(|token| Credentials::RegistryToken { token, provenance }),
            Login::Helper(helper) => {
                let server = HelperServer::of(helper.clone(), name.host());
                return Candidate::Provided(self.helpers.provider(server));
            }
        };
        match credentials {
            Ok(credentials) => Candidate::Fixed(credentials),
            Err(without) => Candidate::Provided(Arc::clone(without) as Arc<dyn CredentialProvider>),
        }
    }

    /// What the helper programs in use fail with, which each of them logs when it begins and when it ends.
    pub fn helper_problems(&self) -> Vec<String> {
        self.helpers.problems()
    }

    /// What is wrong with the sources and files, each by its name; never a secret.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for rule in &self.rules {
            let problem = rule.file.as_ref().and_then(WatchedFile::problem);
            problems.extend(problem.map(|problem| format!("{}: {problem}", rule.written.provenance)));
        }
        problems.extend(self.kubernetes.iter().flat_map(PullSecrets::problems));
        let mut named: Vec<&HelperName> = self.rules.iter().filter_map(Rule::helper).collect();
        if let Some(file) = &self.docker_config {
            problems.extend(file.problem().map(str::to_owned));
            if let Some(config) = file.content() {
                let path = file.path().display();
                problems.extend(config.problems().iter().map(|problem| format!("{path}: {problem}")));
                named.extend(config.helper_names());
            }
        }
        named.sort_unstable();
        named.dedup();
        let missing = named.into_iter().filter(|helper| !self.helpers.is_installed(helper));
        problems.extend(missing.map(|helper| format!("docker-credential-{helper} is not found in PATH")));
        problems
    }
}

impl Rule {
    fn new(written: RepositoryCredentials) -> Self {
        let file = match &written.login {
            Login::Basic { password: SecretSource::File(path), .. }
            | Login::IdentityToken(SecretSource::File(path))
            | Login::RegistryToken(SecretSource::File(path)) => Some(WatchedFile::new(path.clone())),
            _ => None,
        };
        let without_secret = Arc::new(WithoutSecret { provenance: Arc::clone(&written.provenance) });
        Self { written, file, without_secret }
    }

    fn secret(&self) -> Option<Secret> {
        match &self.written.login {
            Login::Basic { password: SecretSource::Given(secret), .. }
            | Login::IdentityToken(SecretSource::Given(secret))
            | Login::RegistryToken(SecretSource::Given(secret)) => Some(secret.clone()),
            _ => self.file.as_ref()?.content().cloned(),
        }
    }

    fn helper(&self) -> Option<&HelperName> {
        match &self.written.login {
            Login::Helper(helper) => Some(helper),
            _ => None,
        }
    }
}

/// The secret in a file.
fn secret(text: &[u8]) -> Result<Secret, String> {
    let text = str::from_utf8(text).map_err(|_| "it is not text".to_owned())?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err("it is empty".to_owned()),
        text if text.contains(char::is_control) => Err("it holds more than one line".to_owned()),
        text => Ok(Secret::new(text)),
    }
}

/// A chain in the making: each thing once, and of each source no more than are bearable, so that the sources after one that
/// has many keep their places.
#[derive(Default)]
struct Links {
    candidates: Vec<Candidate>,
    /// The source whose credentials follow, and how many of them are tried.
    source: (&'static str, usize),
    /// How many of them there are so far.
    taken: usize,
    /// The sources of which not all are tried.
    crowded: Vec<(&'static str, usize)>,
}

impl Links {
    fn begin(&mut self, source: &'static str, most: usize) {
        self.source = (source, most);
        self.taken = 0;
    }

    fn push(&mut self, candidate: Candidate) {
        if self.candidates.iter().any(|known| is_same_login(known, &candidate)) {
            return;
        }
        let is_login = candidate != Candidate::Fixed(Credentials::Anonymous);
        if !is_login || self.taken < self.source.1 {
            self.taken += usize::from(is_login);
            self.candidates.push(candidate);
        } else if self.crowded.last() != Some(&self.source) {
            self.crowded.push(self.source);
        }
    }

    fn into_chain(self, name: &Name, problems: &mut Vec<String>) -> CredentialChain {
        for (source, most) in self.crowded {
            let problem =
                format!("{}: more than {most} {source} fit, and the others are not tried", name.host());
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        CredentialChain::new(self.candidates)
    }
}

/// Whether a registry could not tell the two apart, wherever they were found. A wrong login is not to be tried twice.
fn is_same_login(one: &Candidate, other: &Candidate) -> bool {
    use Credentials::{Basic, IdentityToken, RegistryToken};
    match (one, other) {
        (Candidate::Fixed(one), Candidate::Fixed(other)) => match (one, other) {
            (Basic { username, password, .. }, Basic { username: user, password: secret, .. }) => {
                (username, password) == (user, secret)
            }
            (IdentityToken { token, .. }, IdentityToken { token: other, .. })
            | (RegistryToken { token, .. }, RegistryToken { token: other, .. }) => token == other,
            _ => one == other,
        },
        _ => one == other,
    }
}

#[cfg(test)]
mod tests;
