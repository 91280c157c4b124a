//! The client over HTTP: the factory that all repositories share, and one repository's operations.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};

use super::budget::{BudgetRecord, BudgetSnapshot, Limits};
use super::clients::ClientError;
use super::endpoint::Endpoint;
use super::flights::{Flights, Joined};
use super::host::Hosts;
use super::listing::{Lists, OwnList};
use super::mirror::MirrorOptions;
use super::observe::RequestObserver;
use super::referrers::Referrers;
use super::route::{Mirror, Route, Standing};
use super::session::{Logins, Question, Session, Subject};
use super::transport::{Answer, Transport};
#[cfg(feature = "simulation")]
use super::wire::Wire;
use super::{
    Catalog, CatalogError, Document, ErrorKind, HintSource, HttpOptions, ListState, Listing,
    ManifestSelector, Operation, TlsFileError, Upstream, UpstreamError, UpstreamFactory, Urgency,
};
use super::{catalog, media_type, names, schema1};
use crate::credentials::CredentialChain;
#[cfg(feature = "aws")]
use crate::credentials::cloud::EcrApis;
use crate::{Clock, Digest, Name, Tag};

/// Bound of a manifest or index, in bytes: the size that the distribution protocol wants supported.
pub const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;
/// Bound of an image configuration, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 8 * 1024 * 1024;

/// What the registry calls the digest of a manifest.
const DOCKER_CONTENT_DIGEST: &str = "docker-content-digest";

/// The client could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum HttpSetupError {
    /// Limits under which no request would ever be sent.
    #[error("invalid limits for {}: {reason}", host.as_deref().unwrap_or("all hosts"))]
    Limits {
        /// The host, absent if they are the limits of all.
        host: Option<String>,
        /// What is wrong.
        reason: &'static str,
    },
    /// A file with certificates or a key cannot be used.
    #[error("invalid TLS settings for {}: {error}", host.as_deref().unwrap_or("all hosts"))]
    Tls {
        /// The host, absent if they are the settings of all.
        host: Option<String>,
        /// Which file, and what is wrong with it.
        #[source]
        error: TlsFileError,
    },
    /// TLS could not be set up, for instance because the system has no root certificates; or the user agent
    /// cannot be sent.
    #[error("the HTTP client could not be set up")]
    Client(#[from] reqwest::Error),
}

impl From<ClientError> for HttpSetupError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::File(error) => Self::Tls { host: None, error },
            ClientError::Client(error) => Self::Client(error),
        }
    }
}

/// Makes clients over HTTP that share connections, tokens, and a budget per host.
#[derive(Debug)]
pub struct HttpUpstreams {
    transport: Arc<Transport>,
    logins: Logins,
    /// Apart from those of the registries: a repository has one name with both.
    mirror_logins: Logins,
    /// Of all mirrors, by host.
    standings: BTreeMap<String, Arc<Standing>>,
    hosts: Hosts,
    flights: Arc<Flights>,
    #[cfg(feature = "aws")]
    ecr: Arc<EcrApis>,
}

impl HttpUpstreams {
    /// Sets up the connections. `clock` dates what registries say in absolute times; `observer` is told of
    /// every request (`Arc::new(())` for nobody).
    pub fn new(
        options: HttpOptions,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn RequestObserver>,
    ) -> Result<Self, HttpSetupError> {
        let all = std::iter::once((None, &options.limits));
        let own = options.hosts.iter().filter_map(|(host, own)| Some((Some(host), own.limits.as_ref()?)));
        for (host, limits) in all.chain(own) {
            Limits::check(limits).map_err(|reason| HttpSetupError::Limits { host: host.cloned(), reason })?;
        }
        let standings = options.all_mirrors().map(|mirror| (mirror.url.host().to_owned(), Arc::default()));
        let standings = standings.collect();
        let transport = Arc::new(Transport::new(options, clock, observer)?);
        Ok(Self {
            transport,
            logins: Logins::default(),
            mirror_logins: Logins::default(),
            standings,
            hosts: Hosts::default(),
            flights: Arc::default(),
            #[cfg(feature = "aws")]
            ecr: Arc::default(),
        })
    }

    /// As [`HttpUpstreams::new`], but nothing is connected to: `wire` answers in place of the network.
    #[cfg(feature = "simulation")]
    pub fn over_wire(
        options: HttpOptions,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn RequestObserver>,
        wire: Arc<dyn Wire>,
    ) -> Result<Self, HttpSetupError> {
        let mut upstreams = Self::new(options, clock, observer)?;
        let transport = Arc::get_mut(&mut upstreams.transport);
        transport.expect("nobody else has it yet").answer_by(wire)?;
        Ok(upstreams)
    }

    /// Asks the interface of Amazon's registries like this, whatever environment, profile or instance say. The region is that
    /// of all registries then.
    #[cfg(feature = "aws")]
    #[must_use]
    pub fn with_amazon(self, config: aws_config::SdkConfig) -> Self {
        Self { ecr: Arc::new(EcrApis::given(config)), ..self }
    }

    /// How the budget of every host stands, by canonical host.
    pub fn budgets(&self) -> Vec<(String, BudgetSnapshot)> {
        self.hosts.budgets()
    }
}

impl HttpUpstreams {
    /// A repository at one place.
    fn at(&self, endpoint: Endpoint, name: &Name, chain: CredentialChain, logins: &Logins) -> HttpUpstream {
        let session = Session {
            name: name.clone(),
            subject: Subject::Repository,
            chain,
            host: Arc::clone(&endpoint.host),
            endpoint: Arc::new(endpoint),
            transport: self.transport.clone(),
            logins: logins.clone(),
        };
        HttpUpstream { session, lists: Lists::default(), may_say_none: true }
    }

    /// A repository at its registry, with the lists that this one has.
    fn at_registry(&self, name: &Name, credentials: &CredentialChain) -> HttpUpstream {
        let options = &self.transport.options;
        let endpoint = Endpoint::of_registry(self.hosts.of(name.host(), options), options);
        let at_registry = self.at(endpoint, name, credentials.clone(), &self.logins);
        // Who puts mirrors before a registry does not want it to be asked for its own lists beside them.
        if !options.host(name.host()).mirrors.is_empty() {
            return at_registry;
        }
        let lists = self.lists(&at_registry.session);
        HttpUpstream { lists, ..at_registry }
    }

    /// Which lists of tags are read of the repository of a session.
    fn lists(&self, session: &Session) -> Lists {
        let options = &self.transport.options;
        let (name, host) = (&session.name, session.name.host());
        let Some(source) = options.host(host).listing.source(host) else { return Lists::default() };
        #[cfg(feature = "aws")]
        if source == HintSource::Ecr {
            // It is Amazon that is asked, but about this registry.
            let is_allowed = options.policy.allows(host) && !options.policy.denies(host);
            let own = is_allowed.then(|| OwnList::of_ecr(self.ecr.clone(), session.clone()));
            return Lists { own, may_hint: false };
        }
        let speaker = match options.own_list_host(host) {
            Some(beside) => self.beside(beside, name),
            None => Some(session.clone()),
        };
        let own = speaker.and_then(|session| OwnList::new(source, name, session));
        Lists { own, may_hint: source == HintSource::Google }
    }

    /// With whom to speak of a repository at a host beside its registry, without any login; nobody, if that host is not
    /// to be asked.
    fn beside(&self, host: &str, name: &Name) -> Option<Session> {
        let options = &self.transport.options;
        // The same path, so that errors name the repository.
        let name = format!("{host}/{}", name.path()).parse().ok().filter(|_| !options.policy.denies(host))?;
        let endpoint = Endpoint::of_registry(self.hosts.of(host, options), options);
        Some(self.at(endpoint, &name, CredentialChain::default(), &self.logins).session)
    }

    /// A repository at a mirror, which is not sent the registry's credentials.
    fn at_mirror(&self, name: &Name, mirror: &MirrorOptions) -> HttpUpstream {
        let options = &self.transport.options;
        let host = self.hosts.of(mirror.url.host(), options);
        let endpoint = Endpoint::of_mirror(host, mirror, name.host(), options);
        self.at(endpoint, name, CredentialChain::default(), &self.mirror_logins)
    }

    /// A registry as a whole, or what is asked in its place.
    fn of_registry(&self, host: &str, credentials: &CredentialChain) -> Result<Session, ErrorKind> {
        let options = &self.transport.options;
        // A session has a name, of which here only the host counts.
        let name: Name = format!("{host}/catalog")
            .parse()
            .map_err(|error| ErrorKind::Refused { message: format!("{host} is no registry: {error}") })?;
        let session = if let Some(server) = &options.host(host).server {
            self.at_mirror(&name, server).session
        } else {
            let endpoint = Endpoint::of_registry(self.hosts.of(host, options), options);
            self.at(endpoint, &name, credentials.clone(), &self.logins).session
        };
        Ok(Session { subject: Subject::Registry, ..session })
    }

    fn mirror(&self, name: &Name, mirror: &MirrorOptions) -> Mirror {
        let upstream = HttpUpstream { may_say_none: false, ..self.at_mirror(name, mirror) };
        let endpoint = &upstream.session.endpoint;
        Mirror {
            capabilities: mirror.capabilities,
            host: Arc::clone(&endpoint.host),
            timeouts: endpoint.connection.timeouts,
            standing: self.standings.get(mirror.url.host()).cloned().unwrap_or_default(),
            upstream: Box::new(upstream),
        }
    }
}

impl UpstreamFactory for HttpUpstreams {
    fn upstream(&self, name: &Name, credentials: &CredentialChain) -> Arc<dyn Upstream> {
        let options = &self.transport.options;
        let own = options.host(name.host());
        let mirrors: Vec<_> = own.mirrors.iter().map(|mirror| self.mirror(name, mirror)).collect();
        let last = if let Some(server) = &own.server {
            self.at_mirror(name, server)
        } else {
            self.at_registry(name, credentials)
        };
        let upstream: Arc<dyn Upstream> = if mirrors.is_empty() {
            Arc::new(last)
        } else {
            Arc::new(Route { name: name.clone(), mirrors, last: Box::new(last) })
        };
        Arc::new(Joined {
            name: name.clone(),
            credentials: credentials.clone(),
            upstream,
            flights: self.flights.clone(),
        })
    }

    fn catalog<'a>(
        &'a self,
        host: &'a str,
        credentials: &'a CredentialChain,
        urgency: Urgency,
    ) -> BoxFuture<'a, Result<Catalog, CatalogError>> {
        async move {
            let listed = match self.of_registry(host, credentials) {
                Ok(session) => catalog::read(&session, urgency).await,
                Err(kind) => Err(kind),
            };
            listed.map_err(|kind| CatalogError::of(host, kind))
        }
        .boxed()
    }

    fn blocked_for(&self, name: &Name) -> Option<Duration> {
        self.hosts.blocked_for(name)
    }

    fn held_back(&self, name: &Name) -> Option<ErrorKind> {
        self.hosts.held_back(name)
    }

    fn set_share(&self, host: &str, share: f64) {
        for host in [Some(host), self.transport.options.own_list_host(host)].into_iter().flatten() {
            self.hosts.of(host, &self.transport.options).budget.set_share(share);
        }
    }

    fn budget_record(&self, host: &str) -> Option<BudgetRecord> {
        let host = self.hosts.of(host, &self.transport.options);
        Some(host.budget.record(self.transport.now()))
    }

    fn restore_budget(&self, host: &str, record: &BudgetRecord) {
        let host = self.hosts.of(host, &self.transport.options);
        host.budget.restore(record, self.transport.now());
    }
}

/// One repository.
#[derive(Debug)]
struct HttpUpstream {
    session: Session,
    lists: Lists,
    /// Whether it is believed that there is nothing. A cache may only not know yet, and somebody else can be asked.
    may_say_none: bool,
}

impl HttpUpstream {
    async fn ask_for_manifest(
        &self,
        method: Method,
        reference: &str,
        operation: Operation,
        urgency: Urgency,
    ) -> Result<Answer, UpstreamError> {
        let question = Question {
            operation,
            urgency,
            method,
            path: &format!("manifests/{reference}"),
            query: None,
            accept: Some(HeaderValue::from_static(media_type::ACCEPT_MANIFESTS)),
            condition: None,
            max_body: MAX_MANIFEST_BYTES,
        };
        self.session.ask(&question).await
    }
}

#[async_trait]
impl Upstream for HttpUpstream {
    async fn list(&self, known: Option<&ListState>, urgency: Urgency) -> Result<Listing, UpstreamError> {
        let listing = self.lists.read(&self.session, known, urgency).await?;
        if listing.is_empty() && !self.may_say_none {
            return Err(self.session.error(Operation::Tags, ErrorKind::NotFound { message: None }));
        }
        Ok(listing)
    }

    async fn resolve(&self, tag: &Tag, urgency: Urgency) -> Result<Option<Digest>, UpstreamError> {
        let operation = Operation::Resolve;
        let answer = match self.ask_for_manifest(Method::HEAD, tag.as_str(), operation, urgency).await {
            // Some registries forbid HEAD and not GET.
            Err(UpstreamError { operation: Operation::Resolve, kind: ErrorKind::Denied { .. }, .. }) => {
                return Ok(None);
            }
            answer => answer?,
        };
        if matches!(answer.status.as_u16(), 403 | 405) {
            return Ok(None);
        }
        if !answer.status.is_success() {
            return Err(self.session.error(operation, answer.failure()));
        }
        Ok(announced_digest(&answer.headers))
    }

    async fn manifest(
        &self,
        what: ManifestSelector<'_>,
        urgency: Urgency,
    ) -> Result<Document, UpstreamError> {
        let operation = Operation::Manifest;
        let (reference, wanted) = match what {
            ManifestSelector::Tag(tag) => (tag.to_string(), None),
            ManifestSelector::Digest(digest) => (digest.to_string(), Some(digest.clone())),
        };
        let answer = self.ask_for_manifest(Method::GET, &reference, operation, urgency).await?;
        if !answer.status.is_success() {
            return Err(self.session.error(operation, answer.failure()));
        }
        let header = answer.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let announced = announced_digest(&answer.headers);
        document(header, wanted, announced, answer.body).map_err(|kind| self.session.error(operation, kind))
    }

    async fn confirm(&self, digest: &Digest, urgency: Urgency) -> Result<(), UpstreamError> {
        let operation = Operation::Resolve;
        match self.ask_for_manifest(Method::HEAD, &digest.to_string(), operation, urgency).await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            // As with tags, HEAD may be what is forbidden.
            Ok(answer) if !matches!(answer.status.as_u16(), 403 | 405) => {
                Err(self.session.error(operation, answer.failure()))
            }
            Ok(_) | Err(UpstreamError { kind: ErrorKind::Denied { .. }, .. }) => {
                self.manifest(ManifestSelector::Digest(digest), urgency).await.map(drop)
            }
            Err(error) => Err(error),
        }
    }

    async fn config(&self, digest: &Digest, urgency: Urgency) -> Result<Bytes, UpstreamError> {
        let operation = Operation::Config;
        let question = Question {
            operation,
            urgency,
            method: Method::GET,
            path: &format!("blobs/{digest}"),
            query: None,
            accept: None,
            condition: None,
            max_body: MAX_CONFIG_BYTES,
        };
        let answer = self.session.ask(&question).await?;
        if !answer.status.is_success() {
            return Err(self.session.error(operation, answer.failure()));
        }
        check_digest(digest, &answer.body).map_err(|kind| self.session.error(operation, kind))?;
        Ok(answer.body)
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        urgency: Urgency,
    ) -> Result<Document, UpstreamError> {
        let Self { session, may_say_none, .. } = self;
        Referrers { session, subject, artifact_type, urgency, may_say_none: *may_say_none }.read().await
    }

    fn counts_manifest_gets(&self) -> bool {
        self.session.name.is_docker_hub()
    }
}

/// The manifest that came, if it is one, and the one that was wanted or announced.
pub(super) fn document(
    content_type: Option<&str>,
    wanted: Option<Digest>,
    announced: Option<Digest>,
    bytes: Bytes,
) -> Result<Document, ErrorKind> {
    let media_type = media_type::of_manifest(content_type, &bytes);
    let is_schema1 = media_type.as_deref().is_ok_and(media_type::is_schema1);
    let named = if is_schema1 { schema1::payload(&bytes) } else { Cow::Borrowed(&bytes[..]) };
    for expected in wanted.iter().chain(&announced) {
        if !names(expected, media_type.as_deref().unwrap_or_default(), &bytes) {
            return Err(mismatch(expected, &named));
        }
    }
    let media_type = media_type.map_err(|reason| ErrorKind::Protocol { message: reason.to_owned() })?;
    let digest = wanted.or(announced).unwrap_or_else(|| Digest::sha256(&named));
    drop(named);
    Ok(Document { digest, media_type, bytes })
}

/// The digest in the header. One that cannot be read, of an algorithm that we do not know, is as good as none.
pub(super) fn announced_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get(DOCKER_CONTENT_DIGEST)?.to_str().ok()?.trim().parse().ok()
}

fn check_digest(expected: &Digest, bytes: &[u8]) -> Result<(), ErrorKind> {
    if expected.verifies(bytes) { Ok(()) } else { Err(mismatch(expected, bytes)) }
}

fn mismatch(expected: &Digest, bytes: &[u8]) -> ErrorKind {
    ErrorKind::DigestMismatch { expected: expected.clone(), actual: expected.same_algorithm(bytes) }
}
