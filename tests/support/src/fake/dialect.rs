//! What a registry can do otherwise than the specification has it: the parts of which [`super::dialects`] are made.

use super::auth::Bearer;
use super::fault::Action;
use super::own_lists::OwnList;
use super::paging::Listing;
use super::record::{Recorded, RequestKind};

/// How one registry speaks. [`FakeRegistry::speak`](super::FakeRegistry::speak) makes a fake one speak so.
#[derive(Debug, Clone, Default)]
pub struct Dialect {
    /// What people call the registry.
    pub name: &'static str,
    /// How it lists tags.
    pub listing: Listing,
    /// How it answers HEAD of a manifest.
    pub head: Head,
    /// Whom it answers.
    pub login: Login,
    /// What it says of a repository that is not there, where that is not 404 `NAME_UNKNOWN`.
    pub unknown_repository: Option<Action>,
    /// How many manifests may be fetched by GET, where there is such a limit.
    pub pulls: Option<PullQuota>,
    /// Its own list of tags, where it has one.
    pub own_list: Option<OwnList>,
}

/// How HEAD of a manifest is answered.
#[derive(Debug, Clone, Default)]
pub enum Head {
    /// As GET, without the body.
    #[default]
    Right,
    /// Without `Docker-Content-Digest`, and GET as well.
    WithoutDigest,
    /// Not at all.
    Refused(Action),
}

/// Whom a registry answers.
#[derive(Debug, Clone, Default)]
pub enum Login {
    /// Anyone.
    #[default]
    Nobody,
    /// Whoever sends this name and password with Basic authentication.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: String,
        /// The realm in the challenge, which is for people to read.
        realm: String,
    },
    /// Holders of a token.
    Bearer(Bearer),
}

/// A limit on GETs of manifests, announced in the headers of every answer about a manifest.
#[derive(Debug, Clone)]
pub struct PullQuota {
    /// How many in a window.
    pub limit: u64,
    /// The length of the window, in seconds. The fake's never ends.
    pub window_seconds: u64,
    /// Whom it counts: an address or an account.
    pub source: String,
    /// What a GET beyond the limit gets.
    pub refusal: Action,
}

impl Dialect {
    /// A dialect that departs from the specification in nothing yet.
    pub(super) fn of(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    /// The headers that announce the limit on pulls after `pulls` of them.
    pub(super) fn quota_headers(&self, pulls: u64) -> Vec<(&'static str, String)> {
        let Some(quota) = &self.pulls else { return Vec::new() };
        let (limit, window) = (quota.limit, quota.window_seconds);
        vec![
            ("ratelimit-limit", format!("{limit};w={window}")),
            ("ratelimit-remaining", format!("{};w={window}", limit.saturating_sub(pulls))),
            ("docker-ratelimit-source", quota.source.clone()),
        ]
    }

    /// What the dialect answers in place of what the specification asks for, besides lists.
    pub(super) fn refusal(&self, request: &Recorded, is_known: bool) -> Option<&Action> {
        match (&self.head, request.kind) {
            _ if !is_known && request.repository.is_some() => self.unknown_repository.as_ref(),
            (Head::Refused(refusal), RequestKind::ManifestHead) => Some(refusal),
            _ => None,
        }
    }
}
