//! What to log in with: the kinds of credentials, what to try for a repository in which order, and where they are
//! found.

use std::fmt::{self, Debug};
use std::sync::Arc;

use async_trait::async_trait;

use crate::{Name, Secret};

pub use docker_config::{DockerConfig, DockerConfigError};
pub use entry::EntryProblem;
pub use helper::{HelperName, HelperNameError, HelperOptions};
pub use keychain::{Keychain, KeychainOptions, Login, RepositoryCredentials, SecretSource};
pub use kubernetes::PullSecret;

pub mod cloud;
mod docker_config;
mod entry;
mod helper;
mod keychain;
mod kubernetes;
mod reading;
mod scope;
mod watched_file;

/// What to log in with.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// Nothing: the registry's anonymous access.
    #[default]
    Anonymous,
    /// A user name and a password or access token.
    Basic {
        /// The user's name.
        username: String,
        /// The password.
        password: Secret,
        /// Where the credentials were found, for error messages: never the secret itself.
        provenance: Arc<str>,
    },
    /// An OAuth 2 refresh token, for which the token service gives tokens (docker's `identitytoken`).
    IdentityToken {
        /// The refresh token.
        token: Secret,
        /// Where it was found.
        provenance: Arc<str>,
    },
    /// A bearer token that is presented to the registry as it is (docker's `registrytoken`).
    RegistryToken {
        /// The token.
        token: Secret,
        /// Where it was found.
        provenance: Arc<str>,
    },
}

/// Who we are to a registry, as far as quotas are counted by it: a user's name, or where a token was found. Never a
/// secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(Arc<str>);

impl Identity {
    /// Nobody in particular: the registry counts by address.
    pub const ANONYMOUS: &str = "anonymous";

    /// The identity's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text of a name that was stored.
impl From<&str> for Identity {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Credentials {
    /// As whom the registry counts what is asked with these.
    pub fn identity(&self) -> Identity {
        Identity(match self {
            Self::Anonymous => Identity::ANONYMOUS.into(),
            Self::Basic { username, password, provenance } if is_shown_by(username, password) => {
                Arc::clone(provenance)
            }
            Self::Basic { username, .. } => username.as_str().into(),
            Self::IdentityToken { provenance, .. } | Self::RegistryToken { provenance, .. } => {
                Arc::clone(provenance)
            }
        })
    }
}

/// As they are displayed: never the secret.
impl Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({self})")
    }
}

/// Whether the name of a user would show the password: some registries take a token for both.
fn is_shown_by(username: &str, password: &Secret) -> bool {
    username == password.reveal()
}

/// Who we were, for error messages; never the secret.
impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("no credentials"),
            Self::Basic { username, password, provenance } if is_shown_by(username, password) => {
                write!(f, "the login from {provenance}")
            }
            Self::Basic { username, provenance, .. } => write!(f, "user {username:?} from {provenance}"),
            Self::IdentityToken { provenance, .. } => write!(f, "the identity token from {provenance}"),
            Self::RegistryToken { provenance, .. } => write!(f, "the registry token from {provenance}"),
        }
    }
}

/// Credentials that have to be asked for and may change: of a credential helper program, of a cloud.
#[async_trait]
pub trait CredentialProvider: Debug + Send + Sync {
    /// What it is, for messages.
    fn provenance(&self) -> &str;

    /// The credentials for a repository now: kept as long as they are good and replaced ahead of their end, asked for
    /// once however many wait. Cheap where they are kept.
    async fn credentials(&self, name: &Name) -> Result<Credentials, CredentialError>;

    /// The registry has refused these: what is kept is not to be given out again.
    fn refused(&self, credentials: &Credentials);
}

/// Gives providers for the registries that it can log in to by itself, without anybody listing them: the identity that a
/// machine or workload has in a cloud.
pub trait ProviderSource: Debug + Send + Sync {
    /// The provider for a repository, `None` where its registry is not of this source's. Asked for every watched repository
    /// whenever credentials are looked at: must not wait, and must give the same `Arc` again as long as nothing has
    /// changed, since chains are compared by it.
    fn provider_for(&self, name: &Name) -> Option<Arc<dyn CredentialProvider>>;
}

/// A provider has none to give. The message is bounded and shows no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{provenance}: {message}")]
pub struct CredentialError {
    /// Which provider.
    pub provenance: Arc<str>,
    /// Why.
    pub message: String,
    /// Whether nothing is wrong: it knows of none for this registry, such as a cloud that we are not in.
    pub is_none: bool,
}

/// One thing to try.
#[derive(Debug, Clone)]
pub enum Candidate {
    /// Credentials that are there.
    Fixed(Credentials),
    /// Credentials that have to be asked for.
    Provided(Arc<dyn CredentialProvider>),
}

/// Two providers are equal if they are the same one.
impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Fixed(one), Self::Fixed(other)) => one == other,
            (Self::Provided(one), Self::Provided(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// What to try for a repository, in order: the first that works is kept to. Never empty: where nothing else is known it
/// is anonymous access.
#[derive(Debug, Clone, PartialEq)]
pub struct CredentialChain {
    candidates: Arc<[Candidate]>,
    is_ended: bool,
}

impl CredentialChain {
    /// These, in order; anonymous access if there are none.
    pub fn new(candidates: Vec<Candidate>) -> Self {
        if candidates.is_empty() {
            return Self::default();
        }
        Self { candidates: candidates.into(), is_ended: false }
    }

    /// The same, where somebody has said that nothing else is to be tried.
    #[must_use]
    pub fn ended(self) -> Self {
        Self { is_ended: true, ..self }
    }

    /// Whether somebody has said that nothing else is to be tried.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// What to try, in order. At least one.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Whether there is nothing but anonymous access.
    pub fn is_anonymous(&self) -> bool {
        self.candidates.iter().all(|candidate| *candidate == Candidate::Fixed(Credentials::Anonymous))
    }
}

/// Anonymous access.
impl Default for CredentialChain {
    fn default() -> Self {
        Credentials::Anonymous.into()
    }
}

/// Only these.
impl From<Credentials> for CredentialChain {
    fn from(credentials: Credentials) -> Self {
        Self { candidates: Arc::new([Candidate::Fixed(credentials)]), is_ended: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_we_are_is_said_without_the_secret() {
        let secret = || Secret::new("open sesame");
        let provenance = || Arc::from("config.json");
        for (credentials, expected) in [
            (Credentials::Anonymous, "no credentials"),
            (
                Credentials::Basic {
                    username: "alice".to_owned(),
                    password: secret(),
                    provenance: provenance(),
                },
                r#"user "alice" from config.json"#,
            ),
            (
                Credentials::Basic {
                    username: "open sesame".to_owned(),
                    password: secret(),
                    provenance: provenance(),
                },
                "the login from config.json",
            ),
            (
                Credentials::IdentityToken { token: secret(), provenance: provenance() },
                "the identity token from config.json",
            ),
            (
                Credentials::RegistryToken { token: secret(), provenance: provenance() },
                "the registry token from config.json",
            ),
        ] {
            assert_eq!(credentials.to_string(), expected);
            assert!(!format!("{credentials:?} {}", credentials.identity()).contains("sesame"));
        }
    }

    #[test]
    fn a_chain_is_never_empty() {
        assert_eq!(CredentialChain::new(Vec::new()), CredentialChain::default());
        assert!(CredentialChain::default().is_anonymous());
        assert_eq!(CredentialChain::default().candidates().len(), 1);
    }
}
