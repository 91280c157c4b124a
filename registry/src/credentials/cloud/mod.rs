//! Who this machine or workload is in a cloud, as a login at that cloud's registries.
//!
//! Invariants:
//! - nothing is asked of a cloud before somebody wants credentials for a registry that is the cloud's own, or that the
//!   configuration gives to it: no probing at start;
//! - what a cloud gave is kept until it nears its end and renewed ahead of it, asked for once however many wait; failures
//!   are backed off and answered at once meanwhile (`keeper`);
//! - a cloud's tokens go to its registries alone, and no message shows one.
//!
//! The clouds' own libraries find the identity and speak to the cloud. They have HTTP clients of their own, which may reach
//! the metadata addresses that are forbidden to the client of registries: they ask no address that an image, a registry or
//! a reader named.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, PoisonError};

use super::{CredentialProvider, ProviderSource};
use crate::{Clock, Name};

pub use hosts::{Cloud, CloudParseError, HostIdentity};

#[cfg(feature = "aws")]
pub(crate) use aws::{EcrApis, EcrFailure, EcrTag};

mod hosts;

#[cfg(any(feature = "aws", feature = "azure", feature = "google"))]
mod failure;
#[cfg(any(feature = "aws", feature = "azure", feature = "google", test))]
mod keeper;
#[cfg(any(feature = "azure", feature = "google"))]
mod token_endpoint;

#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "google")]
mod google;

/// How many logins are kept: one for each region of Amazon, one for Google, one for each registry of Azure. Beyond it, those
/// that no watched repository uses go; if all are in use, further registries get none.
const MOST_CLOUD_LOGINS: usize = 1_024;

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// How variables of the environment are looked up.
#[derive(Clone)]
pub struct Environment(Arc<Lookup>);

impl Environment {
    /// Looks variables up with this function; empty ones count as unset.
    pub fn new(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(lookup))
    }

    /// The variables of this process.
    pub fn of_process() -> Self {
        Self::new(|name| std::env::var(name).ok())
    }

    /// The variable's value, if it has one.
    pub fn variable(&self, name: &str) -> Option<String> {
        self.0(name).filter(|value| !value.is_empty())
    }
}

/// Shows no value: some are secrets.
impl Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment(…)")
    }
}

/// Which registries get a cloud's identity.
#[derive(Debug, Clone)]
pub struct CloudOptions {
    /// The clouds whose registries are logged in to where they are recognised by their host.
    pub clouds: BTreeSet<Cloud>,
    /// What is different for single hosts, by canonical host.
    pub hosts: BTreeMap<String, HostIdentity>,
    /// Canonical hosts with which plain http and unverified TLS are allowed.
    pub insecure_hosts: BTreeSet<String>,
    /// The `User-Agent` of the requests that are our own.
    pub user_agent: String,
    /// Where Google's and Azure's identities are described. Amazon's library, and Azure's for managed identities, read the
    /// process's own environment.
    pub environment: Environment,
}

/// The process's own identities, at all registries of the clouds that are compiled in.
impl Default for CloudOptions {
    fn default() -> Self {
        Self {
            clouds: Cloud::compiled_in().collect(),
            hosts: BTreeMap::new(),
            insecure_hosts: BTreeSet::new(),
            user_agent: concat!("samovar/", env!("CARGO_PKG_VERSION")).to_owned(),
            environment: Environment::of_process(),
        }
    }
}

impl CloudOptions {
    /// The cloud whose identity a canonical host gets.
    fn cloud_of(&self, host: &str) -> Option<Cloud> {
        match self.hosts.get(host) {
            Some(HostIdentity::Of(cloud)) => Some(*cloud),
            Some(HostIdentity::None) => None,
            None => Cloud::of_registry(host).filter(|cloud| self.clouds.contains(cloud)),
        }
    }
}

/// What one login is good for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Realm {
    /// All private registries of a region; of the region that the environment names, where the host names none.
    Aws { region: Option<String>, is_fips: bool },
    /// All of Google's.
    Google,
    /// One registry.
    Azure { registry: String },
}

impl Realm {
    fn of(cloud: Cloud, host: &str) -> Self {
        match cloud {
            Cloud::Aws => {
                let place = hosts::ecr_place(host);
                Self::Aws {
                    region: place.map(|place| place.region.to_owned()),
                    is_fips: place.is_some_and(|place| place.is_fips),
                }
            }
            Cloud::Google => Self::Google,
            Cloud::Azure => Self::Azure { registry: host.to_owned() },
        }
    }
}

/// The logins of this process at the registries of clouds.
#[derive(Debug)]
pub struct CloudIdentities {
    options: CloudOptions,
    #[cfg_attr(not(any(feature = "aws", feature = "azure", feature = "google")), expect(dead_code))]
    clock: Arc<dyn Clock>,
    logins: Mutex<HashMap<Realm, Arc<dyn CredentialProvider>>>,
}

impl CloudIdentities {
    /// Asks nobody anything yet. `clock` tells what is left of a lifetime that is given as a date.
    pub fn new(options: CloudOptions, clock: Arc<dyn Clock>) -> Self {
        Self { options, clock, logins: Mutex::default() }
    }

    /// The provider of a realm; `None` for a cloud that is not compiled in.
    #[cfg_attr(not(any(feature = "aws", feature = "azure", feature = "google")), expect(clippy::unused_self))]
    #[cfg_attr(
        all(feature = "aws", feature = "azure", feature = "google"),
        expect(clippy::unnecessary_wraps, reason = "each cloud may be left out of the build")
    )]
    fn provider(&self, realm: &Realm) -> Option<Arc<dyn CredentialProvider>> {
        match realm {
            #[cfg(feature = "aws")]
            Realm::Aws { region, is_fips } => {
                let login = aws::EcrLogin::new(region.clone(), *is_fips, Arc::clone(&self.clock));
                Some(Arc::new(keeper::Keeper::new("Amazon ECR", Arc::new(login))))
            }
            #[cfg(feature = "google")]
            Realm::Google => {
                let login = google::GoogleLogin::new(&self.options, Arc::clone(&self.clock));
                Some(Arc::new(keeper::Keeper::new("Google", Arc::new(login))))
            }
            #[cfg(feature = "azure")]
            Realm::Azure { registry } => {
                let login = azure::AcrLogin::new(registry, &self.options, Arc::clone(&self.clock));
                Some(Arc::new(keeper::Keeper::new("Azure", Arc::new(login))))
            }
            #[cfg(not(all(feature = "aws", feature = "azure", feature = "google")))]
            _ => None,
        }
    }
}

impl ProviderSource for CloudIdentities {
    fn provider_for(&self, name: &Name) -> Option<Arc<dyn CredentialProvider>> {
        let cloud = self.options.cloud_of(name.host())?;
        let realm = Realm::of(cloud, name.host());
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(login) = logins.get(&realm) {
            return Some(Arc::clone(login));
        }
        if logins.len() >= MOST_CLOUD_LOGINS {
            logins.retain(|_, login| Arc::strong_count(login) > 1);
        }
        if logins.len() >= MOST_CLOUD_LOGINS {
            return None;
        }
        let login = self.provider(&realm)?;
        logins.insert(realm, Arc::clone(&login));
        Some(login)
    }
}

#[cfg(test)]
mod tests;
