//! What is known of each registry host: its budget, how it wants us to log in, whether it speaks TLS.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::addresses::is_private;
use super::auth::Login;
use super::budget::{Budget, BudgetSnapshot, RequestKind};
use super::listing::Standing;
use super::{ErrorKind, HttpOptions};
use crate::Name;

/// How many hosts are remembered that nobody uses any more.
const MAX_IDLE_HOSTS: usize = 1_024;

/// How long a host is asked for a token for each repository that has refused one of its tokens for all of them.
const LONGEST_APART: Duration = Duration::from_hours(1);

/// One registry host.
#[derive(Debug)]
pub(super) struct Host {
    /// Canonical, as in image names: `docker.io`.
    pub(super) name: Arc<str>,
    pub(super) budget: Arc<Budget>,
    /// How its own list of tags stands, where it has one.
    pub(super) own_list: Standing,
    learnt: Mutex<Learnt>,
}

#[derive(Debug, Default)]
struct Learnt {
    login: Option<Login>,
    scheme: Option<Scheme>,
    is_private: bool,
    keeps_tokens_apart_until: Option<Instant>,
}

/// How to talk to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Over TLS.
    Https,
    /// Plainly: only with hosts for which the configuration allows it.
    Http,
}

impl Scheme {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

impl Host {
    pub(super) fn new(name: &str, options: &HttpOptions) -> Arc<Self> {
        let budget = Budget::new(options.terms_of(name));
        Arc::new(Self { name: name.into(), budget, own_list: Standing::default(), learnt: Mutex::default() })
    }

    /// How the host wants us to log in, as far as it has said so.
    pub(super) fn login(&self) -> Option<Login> {
        self.lock().login.clone()
    }

    /// The host has said how it wants us to log in.
    pub(super) fn learn_login(&self, login: Login) {
        self.lock().login = Some(login);
    }

    /// That way to log in does not work any more: ask without, and let the host say.
    pub(super) fn forget_login(&self, outdated: &Login) {
        let mut learnt = self.lock();
        if learnt.login.as_ref() == Some(outdated) {
            learnt.login = None;
        }
    }

    /// The host wanted a token of its own for a repository, though one was taken to be good for all.
    pub(super) fn keeps_tokens_apart(&self) {
        self.lock().keeps_tokens_apart_until = Some(Instant::now() + LONGEST_APART);
    }

    /// Whether it did so lately.
    pub(super) fn is_keeping_tokens_apart(&self) -> bool {
        self.lock().keeps_tokens_apart_until.is_some_and(|until| until > Instant::now())
    }

    /// How the host answers: by https for good once it has done so, by plain http as long as it does.
    pub(super) fn scheme(&self) -> Option<Scheme> {
        self.lock().scheme
    }

    /// Whether the host answered from a private address when it answered last: then it may send us to others.
    pub(super) fn is_private(&self) -> bool {
        self.lock().is_private
    }

    /// The registry itself has answered, whatever the answer.
    pub(super) fn has_answered(&self, scheme: Scheme, address: Option<SocketAddr>) {
        let mut learnt = self.lock();
        learnt.is_private = address.is_some_and(|address| is_private(address.ip()));
        if learnt.scheme != Some(Scheme::Https) {
            learnt.scheme = Some(scheme);
        }
    }

    /// The host cannot be connected to by plain http any more: it may speak https now.
    pub(super) fn forget_plain_http(&self) {
        let mut learnt = self.lock();
        if learnt.scheme == Some(Scheme::Http) {
            learnt.scheme = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Learnt> {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All hosts.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    by_name: Mutex<HashMap<Arc<str>, Arc<Host>>>,
}

impl Hosts {
    /// The host of this canonical name.
    pub(super) fn of(&self, name: &str, options: &HttpOptions) -> Arc<Host> {
        let mut hosts = self.lock();
        if let Some(host) = hosts.get(name) {
            return host.clone();
        }
        if hosts.len() >= MAX_IDLE_HOSTS {
            hosts.retain(|_, host| Arc::strong_count(host) > 1 || !host.budget.is_at_rest());
        }
        let host = Host::new(name, options);
        hosts.insert(host.name.clone(), host.clone());
        host
    }

    /// For how much longer requests to the host of a repository are held back.
    pub(super) fn blocked_for(&self, name: &Name) -> Option<Duration> {
        self.lock().get(name.host())?.budget.blocked_for(RequestKind::Registry)
    }

    /// Why they are.
    pub(super) fn held_back(&self, name: &Name) -> Option<ErrorKind> {
        self.lock().get(name.host())?.budget.held_back()
    }

    /// Every host's budget, by name.
    pub(super) fn budgets(&self) -> Vec<(String, BudgetSnapshot)> {
        let hosts: Vec<_> = self.lock().values().cloned().collect();
        let mut budgets: Vec<_> =
            hosts.iter().map(|host| (host.name.to_string(), host.budget.snapshot())).collect();
        budgets.sort_by(|(one, _), (other, _)| one.cmp(other));
        budgets
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Host>>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_has_spoken_tls_never_falls_back() {
        let host = Host::new("r.example", &HttpOptions::default());
        host.has_answered(Scheme::Http, None);
        assert_eq!(host.scheme(), Some(Scheme::Http));
        host.forget_plain_http();
        assert_eq!(host.scheme(), None);
        host.has_answered(Scheme::Https, None);
        host.forget_plain_http();
        host.has_answered(Scheme::Http, None);
        assert_eq!(host.scheme(), Some(Scheme::Https));
    }

    #[test]
    fn where_it_answered_from() {
        let host = Host::new("r.example", &HttpOptions::default());
        assert!(!host.is_private());
        for (address, expected) in [("10.0.0.5:443", true), ("93.184.216.34:443", false), ("[::1]:443", true)]
        {
            host.has_answered(Scheme::Https, Some(address.parse().unwrap()));
            assert_eq!(host.is_private(), expected, "{address}");
        }
        host.has_answered(Scheme::Https, None);
        assert!(!host.is_private());
    }
}
