//! Asking a registry: the trait that the warmer drives, and the client over HTTP that implements it.
//!
//! Invariants:
//! - every request, tokens and redirects included, draws on the budget of its host, and waiting for the
//!   budget is never charged to the request's timeout;
//! - every byte named by a digest is checked against it, every body is bounded;
//! - a secret goes to the origin it belongs to or to a token realm in its trust boundary, nowhere else;
//! - plain http is spoken only to hosts named insecure; link-local and cloud metadata addresses are never
//!   connected to, whoever names them, nor private ones that a registry at a public address names.
//!
//! From the outside in: `flights` makes one request of those for the same thing; `route` asks mirrors first; `http` holds
//! the operations (`referrers`); `session` chooses the credentials (`sticking`) and gets past logins (`auth`, `challenge`,
//! `trust`, `token_service`, `token_cache`, `refusals`); `transport` sends single requests within the `budget` (`presets`)
//! and follows redirects, over `clients` that connect as each `endpoint` wants it; `retry` tries again, and tells the
//! budget what was said of `limits`. The rest is pure: `listing`, `pages` and `link` read lists of tags, `catalog` those of repositories, `document`, `schema1` and
//! `image_config` what came.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::credentials::CredentialChain;
use crate::{Digest, Name, Tag};

pub use beyond::{GuardedClient, GuardedClientError};
pub use budget::{
    BlockReason, BreakerSnapshot, BudgetRecord, BudgetSnapshot, IdentityQuota, Limits, RequestKind,
};
pub use catalog::{Catalog, CatalogError};
pub use connection::{
    ClientCertificate, ConnectionOptions, TimeoutOptions, TlsFileError, TlsOptions, TlsSetting,
};
pub use document::{Child, DecodeError, Descriptor, ImageManifest, Index, Manifest};
pub use error::{ErrorClass, ErrorKind, Operation, Stage, UpstreamError};
pub use host::Scheme;
pub use http::{HttpSetupError, HttpUpstreams, MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES};
pub use image_config::ImageConfig;
pub use limits::Quota;
pub use listing::{HintSource, ListState, Listing, ListingChoice, MAX_TAG_PAGE_BYTES, TagHint, TagList};
pub use mirror::{Capabilities, MirrorOptions, MirrorUrl, MirrorUrlError};
pub use observe::{Outcome, RequestObserver, RequestRecord};
pub use options::{HostOptions, HttpOptions};
pub use policy::HostPolicy;
pub use proxy::{EnvironmentProxies, ProxyChoice, ProxyUrl, ProxyUrlError};
pub use schema1::Schema1Manifest;
#[cfg(feature = "simulation")]
pub use wire::{Wire, WireFailure};

mod addresses;
mod artifact;
mod auth;
mod beyond;
mod body;
mod budget;
mod catalog;
mod challenge;
mod clients;
mod connection;
mod document;
mod echo;
mod endpoint;
mod error;
mod flights;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod host;
mod http;
mod image_config;
mod limits;
mod link;
mod listed_tags;
mod listing;
mod media_type;
mod mirror;
mod observe;
mod options;
mod pages;
mod policy;
mod presets;
mod proxy;
mod redirect;
mod referrers;
mod refusals;
mod retry;
mod route;
mod schema1;
mod session;
mod sticking;
mod token;
mod token_cache;
mod token_service;
mod transport;
mod trust;
#[cfg(feature = "simulation")]
mod wire;

/// Keeps a client for registries that is not this one from addresses that are forbidden to everybody.
#[cfg(feature = "azure")]
pub(crate) fn guarded(client: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    client.dns_resolver(Arc::new(addresses::GuardedResolver::directly(addresses::Reach::Everywhere)))
}

/// Who waits for the answer: decides who goes first when the budget is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// A person, a webhook or a reader asked for it.
    Asked,
    /// The schedule asked for it.
    Background,
}

impl Urgency {
    /// All of them, the most urgent first.
    pub(crate) const ALL: [Self; 2] = [Self::Asked, Self::Background];
}

/// One manifest or index, by tag or by digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestSelector<'a> {
    /// What the tag points at now.
    Tag(&'a Tag),
    /// Exactly this document.
    Digest(&'a Digest),
}

/// A manifest or index as the registry sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Digest of `bytes`, checked; of a signed Docker schema 1 manifest that of the part of them that was signed.
    pub digest: Digest,
    /// The `Content-Type` without parameters; where that says nothing, the type that the document names itself. At
    /// most 255 bytes.
    pub media_type: String,
    /// The exact bytes.
    pub bytes: Bytes,
}

impl Document {
    /// Whether `bytes` are what `digest` names.
    pub fn is_verified(&self) -> bool {
        names(&self.digest, &self.media_type, &self.bytes)
    }
}

/// Whether a digest names these bytes of this type. In a signed Docker schema 1 manifest it may also name what was signed,
/// which is all that is read of it.
fn names(digest: &Digest, media_type: &str, bytes: &[u8]) -> bool {
    digest.verifies(bytes) || media_type::is_schema1(media_type) && digest.verifies(&schema1::payload(bytes))
}

/// One repository in one registry, with the credentials to use.
///
/// All methods wait for the host's budget first, also through a pause that the host has asked for: see
/// [`UpstreamFactory::blocked_for`]. All are cancellation-safe: a dropped future leaves nothing behind.
#[async_trait]
pub trait Upstream: Debug + Send + Sync {
    /// Lists all tags (at most a million, of 64 MiB together), following pagination to the end, unless what was left
    /// behind by an earlier list, `known`, is enough to tell that nothing has changed. Without it, the list is whole.
    async fn list(&self, known: Option<&ListState>, urgency: Urgency) -> Result<Listing, UpstreamError>;

    /// Lists all tags, whatever an earlier list said.
    async fn tags(&self, urgency: Urgency) -> Result<TagList, UpstreamError> {
        match self.list(None, urgency).await? {
            Listing::Whole(list, _) => Ok(list),
            Listing::Unchanged(_) | Listing::Newer(..) => unreachable!("nothing is known to compare with"),
        }
    }

    /// Asks what a tag points at, by HEAD. `None` where the registry does not say (no digest in the answer, or
    /// HEAD refused): ask with [`Upstream::manifest`] then.
    async fn resolve(&self, tag: &Tag, urgency: Urgency) -> Result<Option<Digest>, UpstreamError>;

    /// Fetches a manifest or an index (at most 4 MiB). An answer that is none of whatever kind, such as a page for
    /// browsers, is [`ErrorKind::Protocol`].
    async fn manifest(&self, what: ManifestSelector<'_>, urgency: Urgency)
    -> Result<Document, UpstreamError>;

    /// Asks whether the repository has this very manifest or index, by HEAD where the registry takes that: `Ok` where it has,
    /// and [`ErrorKind::NotFound`] where it has not.
    async fn confirm(&self, digest: &Digest, urgency: Urgency) -> Result<(), UpstreamError> {
        self.manifest(ManifestSelector::Digest(digest), urgency).await.map(drop)
    }

    /// Fetches an image configuration, or another blob (at most 8 MiB).
    async fn config(&self, digest: &Digest, urgency: Urgency) -> Result<Bytes, UpstreamError>;

    /// Fetches the index of what refers to a manifest, such as signatures, or of what of it is of one type of artifact. It is
    /// whole (at most 10,000 referrers, of 4 MiB together) and empty where nothing does. Where the registry has no API for
    /// it, what clients keep under the tag that is made from the digest is taken. Referrers come and go: what was
    /// learnt is not to be taken for true for more than a few minutes.
    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        urgency: Urgency,
    ) -> Result<Document, UpstreamError>;

    /// Whether GETs of manifests count against a quota here and HEADs do not, as on Docker Hub: a new tag is then
    /// resolved first and fetched by digest only if that digest is new.
    fn counts_manifest_gets(&self) -> bool;
}

/// Makes the [`Upstream`] of a repository. Cheap: connections, tokens and budgets are shared by all of them.
pub trait UpstreamFactory: Debug + Send + Sync {
    /// The client for one repository, which logs in with the first of these credentials that works.
    fn upstream(&self, name: &Name, credentials: &CredentialChain) -> Arc<dyn Upstream>;

    /// Lists the repositories of the registry at `host` (canonical) that these credentials may see: at most 100,000. Many do not
    /// list them, or not for everybody. Draws on the host's budget, and asks the registry itself, never a mirror.
    fn catalog<'a>(
        &'a self,
        host: &'a str,
        credentials: &'a CredentialChain,
        urgency: Urgency,
    ) -> BoxFuture<'a, Result<Catalog, CatalogError>> {
        let _ = (credentials, urgency);
        async { Err(CatalogError::of(host, ErrorKind::NotFound { message: None })) }.boxed()
    }

    /// For how much longer the host of `name` is left alone, because it has asked for it or keeps failing: for not
    /// starting what would only wait.
    fn blocked_for(&self, name: &Name) -> Option<Duration>;

    /// Why it is, as the error that a request would have met: one with a [`ErrorKind::retry_after`].
    fn held_back(&self, name: &Name) -> Option<ErrorKind> {
        let retry_after = self.blocked_for(name)?;
        Some(ErrorKind::RateLimited { retry_after, message: None })
    }

    /// From now on, and until changed again, only this part of the rate of `host` (canonical) is ours: above 0, and 1 for
    /// the whole. Others may be asking it as well, and nobody can tell.
    fn set_share(&self, host: &str, share: f64);

    /// What is known of the limits of `host` (canonical) that is to survive a restart; `None` if nothing is kept.
    fn budget_record(&self, host: &str) -> Option<BudgetRecord> {
        let _ = host;
        None
    }

    /// Goes on with what was known of the limits of `host` before a restart, or by another replica.
    fn restore_budget(&self, host: &str, record: &BudgetRecord) {
        let _ = (host, record);
    }
}
