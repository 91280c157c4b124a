//! Which images to keep warm, and with which credentials.

mod catalog;
mod configuration;
mod keychain;
mod named;
mod on_demand;
mod problems;

use std::collections::BTreeMap;
use std::fmt::Debug;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use samovar_registry::credentials::CredentialChain;
use samovar_registry::{Name, Platforms};

use crate::config::WatchEntry;

pub use crate::config::{Chosen, PollInterval, TagFilter, TagInterval, TagPattern, Verdict};
pub use catalog::{CatalogOptions, CatalogParts, CatalogSource};
pub use configuration::ConfigurationSource;
pub use keychain::SharedKeychain;
pub use named::Named;
pub(crate) use on_demand::Leaving;
pub use on_demand::{NotTaken, OnDemand, OnDemandScope, OnDemandSource, RepositoryFacts};
pub use problems::SourceProblems;

/// Tells which repositories to keep warm: a stream of lists, each replacing the one before.
pub trait ImageSource: Debug + Send {
    /// What the source is called in status and logs.
    fn name(&self) -> &str;

    /// The lists, as they change. A source that ends keeps its last list.
    fn watch_lists(&mut self) -> BoxStream<'_, WatchList>;

    /// Whether its lists count only for repositories that no other source names.
    fn gives_way(&self) -> bool {
        false
    }

    /// What keeps it from finding repositories, or their credentials. All clones show the same.
    fn problems(&self) -> SourceProblems {
        SourceProblems::default()
    }

    /// The host that it asks for its lists, if it asks one: its lane is kept though nothing of it may be watched yet.
    fn asks_host(&self) -> Option<&str> {
        None
    }
}

/// Tells which replica speaks to a host, for sources that ask one themselves.
pub trait Lanes: Debug + Send + Sync {
    /// Whether this replica may speak to the host now.
    fn permits(&self, host: &str) -> bool;

    /// Resolves once this replica may speak to the host and goes on by what is known of the host's limits.
    fn permitted<'a>(&'a self, host: &'a str) -> BoxFuture<'a, ()>;

    /// Resolves once this replica may no longer speak to the host.
    fn lost<'a>(&'a self, host: &'a str) -> BoxFuture<'a, ()>;
}

/// The repositories to keep warm.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WatchList(pub BTreeMap<Name, Watch>);

/// How to keep one repository warm; by default as usual, with every tag, anonymously.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Watch {
    /// Which tags are wanted.
    pub tags: TagFilter,
    /// What to log in with.
    pub credentials: CredentialChain,
    /// How often to list, where not as usual.
    pub poll_interval: Option<PollInterval>,
    /// How often to confirm a tag, where not as usual.
    pub tag_interval: Option<TagInterval>,
    /// Which platforms' images are wanted, where not the usual ones.
    pub platforms: Option<Platforms>,
}

impl WatchList {
    /// Adds another source's list. A repository that is in both is kept as both want: their tags together, the
    /// shorter intervals, the platforms of both, credentials before none unless one of them says that nothing else is to be
    /// tried. What only one of them says holds.
    #[must_use]
    pub fn merged(mut self, other: Self) -> Self {
        for (name, watch) in other.0 {
            let merged = match self.0.remove(&name) {
                Some(own) => own.merged(watch),
                None => watch,
            };
            self.0.insert(name, merged);
        }
        self
    }

    /// Adds what only the other list names.
    #[must_use]
    pub fn filled_up_with(mut self, other: Self) -> Self {
        for (name, watch) in other.0 {
            self.0.entry(name).or_insert(watch);
        }
        self
    }
}

impl Watch {
    fn merged(self, other: Self) -> Self {
        let gives_way =
            !self.credentials.is_ended() && (other.credentials.is_ended() || self.credentials.is_anonymous());
        let credentials = if gives_way { other.credentials } else { self.credentials };
        let poll_interval =
            both_or_either(self.poll_interval, other.poll_interval, PollInterval::shorter_of_each);
        let tag_interval =
            both_or_either(self.tag_interval, other.tag_interval, TagInterval::shorter_of_each);
        let platforms = both_or_either(self.platforms, other.platforms, |one, other| one.union(&other));
        Self { tags: self.tags.union(other.tags), credentials, poll_interval, tag_interval, platforms }
    }
}

/// An entry of the configuration, with the credentials for it.
fn watched(entry: &WatchEntry, credentials: CredentialChain) -> (Name, Watch) {
    let watch = Watch {
        tags: entry.tags.clone(),
        credentials,
        poll_interval: Some(entry.poll_interval),
        tag_interval: Some(entry.tag_interval),
        platforms: Some(entry.platforms.clone()),
    };
    (entry.name.clone(), watch)
}

/// What two say, or what one of them says.
fn both_or_either<T>(one: Option<T>, other: Option<T>, both: impl FnOnce(T, T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(both(one, other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use samovar_registry::Secret;
    use samovar_registry::credentials::Credentials;

    use super::*;

    #[test]
    fn what_is_said_to_be_all_wins_over_other_credentials_and_credentials_win_over_none() {
        let login = |username: &str| {
            let password = Secret::new("p");
            CredentialChain::from(Credentials::Basic {
                username: username.to_owned(),
                password,
                provenance: "x".into(),
            })
        };
        let anonymous = CredentialChain::default;
        let list = |credentials: CredentialChain| {
            let watch = Watch { credentials, ..Watch::default() };
            WatchList(BTreeMap::from([("alpine".parse().unwrap(), watch)]))
        };
        for (one, another, expected) in [
            (anonymous(), login("b"), login("b")),
            (login("a"), anonymous(), login("a")),
            (login("a"), login("b"), login("a")),
            (anonymous().ended(), login("b"), anonymous().ended()),
            (login("a"), anonymous().ended(), anonymous().ended()),
            (login("a").ended(), login("b").ended(), login("a").ended()),
        ] {
            assert_eq!(list(one).merged(list(another)), list(expected));
        }
    }

    #[test]
    fn a_repository_in_two_lists_is_kept_for_the_platforms_of_both() {
        let list = |platforms: Option<&str>| {
            let wanted =
                platforms.map(|platforms| platforms.split(',').map(|one| one.parse().unwrap()).collect());
            let platforms = wanted.and_then(Platforms::new);
            let watch = Watch { platforms, ..Watch::default() };
            WatchList(BTreeMap::from([("alpine".parse().unwrap(), watch)]))
        };
        for (one, another, expected) in [
            (Some("linux/arm64"), Some("linux/amd64,linux/arm64"), Some("linux/arm64,linux/amd64")),
            (Some("linux/arm64"), None, Some("linux/arm64")),
            (None, Some("linux/arm64"), Some("linux/arm64")),
            (None, None, None),
        ] {
            assert_eq!(list(one).merged(list(another)), list(expected), "{one:?} {another:?}");
        }
    }
}
