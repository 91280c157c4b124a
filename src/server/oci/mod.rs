//! The OCI door: `/v2/` for clients of the distribution protocol, which work through it unchanged (distribution-spec 1.1). It
//! reads: tags, manifests, configurations, and what refers to a manifest.
//!
//! - `path`: what a path asks for; `addressing`: which repository that is, named in one of five ways;
//! - `visit`: one question about one repository, and the wait for what has to be fetched first;
//! - `provenance`: which digests a repository has; `memory`: what is kept of all that;
//! - `tags`, `manifests`, `blobs`, `referrers`, `catalog`: the answers; `paging`, `range`, `stale`: parts of them;
//! - `error`: what is answered otherwise.
//!
//! Invariants: bytes are those of the registry; a digest is served under a repository only if it was learnt through it; what is
//! cold is fetched once for all who ask, by the warmer; nobody waits for longer than is configured. Deliberately absent:
//! writing, layers, and content negotiation: a tag is one thing, whatever a client says that it accepts.

pub mod addressing;
mod blobs;
mod catalog;
mod error;
mod manifests;
mod memory;
mod paging;
pub mod path;
mod provenance;
mod range;
mod referrers;
mod stale;
mod tags;
mod visit;

use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method};
use samovar_registry::{Digest, Name};
use tokio::time::Instant;

use self::addressing::{Addressing, Hints, Unaddressed};
use self::error::{Code, OciError};
use self::memory::Memory;
use self::paging::Paging;
use self::path::{ManifestReference, Path, Target};
use self::visit::Visit;
use super::access::Caller;
use super::{Doors, guard, on_demand};
use crate::config::OciConfig;
use crate::warmer::Reading;

const API_VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("docker-distribution-api-version"), HeaderValue::from_static("registry/2.0"));
const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");

/// The door's configuration, and what it keeps in memory.
#[derive(Debug)]
pub struct OciDoor {
    config: OciConfig,
    memory: Memory,
}

impl OciDoor {
    /// A door that remembers nothing yet.
    pub fn new(config: OciConfig) -> Self {
        Self { config, memory: Memory::default() }
    }

    /// Whether this is a name, as clients send it in `Host`, that stands for a registry.
    pub(super) fn serves_host(&self, host: &str) -> bool {
        self.config.virtual_host(host).is_some()
    }
}

/// The parameters that mean something. Others are left alone: clients and what is between send their own.
#[derive(Debug, Default)]
struct Parameters {
    size: Option<String>,
    last: Option<String>,
    namespace: Option<String>,
    artifact_type: Option<String>,
}

impl Parameters {
    fn read(parts: &Parts) -> Result<Self, OciError> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let Query(pairs) = pairs.map_err(|error| OciError::new(Code::NameInvalid, error.body_text()))?;
        let mut parameters = Self::default();
        for (key, value) in pairs {
            let place = match key.as_str() {
                "n" => &mut parameters.size,
                "last" => &mut parameters.last,
                "ns" => &mut parameters.namespace,
                "artifactType" => &mut parameters.artifact_type,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        parameters.namespace = parameters.namespace.filter(|namespace| !namespace.is_empty());
        Ok(parameters)
    }
}

/// Any request below `/v2/`, or `/v2/` behind the name of a registry.
pub(super) async fn serve(State(doors): State<Arc<Doors>>, caller: Caller, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let parameters = Parameters::read(&parts);
    let namespace = parameters.as_ref().ok().and_then(|parameters| parameters.namespace.as_deref());
    let namespace = namespace.and_then(|namespace| HeaderValue::from_str(namespace).ok());
    let answered = match parameters {
        Ok(parameters) => answer(&doors, &caller, &parts, &parameters).await,
        Err(error) => Err(error),
    };
    let mut response = answered.unwrap_or_else(OciError::into_response);
    let headers = response.headers_mut();
    headers.extend([API_VERSION]);
    if let Some(namespace) = namespace {
        headers.insert(NAMESPACE, namespace);
    }
    response.extensions_mut().insert(guard::Counted(route_of(&parts)));
    response
}

/// As what a request is counted.
fn route_of(parts: &Parts) -> &'static str {
    let [base, catalog, tags, manifests, blobs, referrers] = ROUTES;
    match Path::parse(parts.uri.path()).map(|path| path.target) {
        Ok(Target::Catalog) => catalog,
        Ok(Target::Tags(_)) => tags,
        Ok(Target::Manifest(..)) => manifests,
        Ok(Target::Blob(..) | Target::Upload(_)) => blobs,
        Ok(Target::Referrers(..)) => referrers,
        Ok(Target::Base | Target::Nothing) | Err(_) => base,
    }
}

/// The door's routes, as they are counted.
pub(crate) const ROUTES: [&str; 6] = [
    "/v2/",
    "/v2/_catalog",
    "/v2/{name}/tags/list",
    "/v2/{name}/manifests/{reference}",
    "/v2/{name}/blobs/{digest}",
    "/v2/{name}/referrers/{digest}",
];

async fn answer(
    doors: &Doors,
    caller: &Caller,
    parts: &Parts,
    parameters: &Parameters,
) -> Result<Response, OciError> {
    let raw_path = parts.uri.path();
    let path = Path::parse(raw_path).map_err(|error| OciError::new(Code::NameInvalid, error.to_string()))?;
    if path.target != Target::Nothing && !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(OciError::new(Code::Unsupported, "this registry is for reading only"));
    }
    let host = guard::host(&parts.uri, &parts.headers);
    let namespace = parameters.namespace.as_deref();
    let hints = Hints { before: path.upstream.as_deref(), namespace, host: host.as_deref() };
    let addressing = Addressing { config: &doors.oci.config, aliases: &doors.aliases };
    let paging = || Paging::new(parameters.size.as_deref(), parameters.last.as_deref());
    let named = |asked: &str| Ok::<Name, OciError>(addressing.repository(asked, hints)?);
    match &path.target {
        Target::Base => {
            addressing.registry(hints)?;
            Ok(manifests::content("{}".into(), error::JSON))
        }
        Target::Catalog => {
            let registry = addressing.registry(hints)?;
            Ok(catalog::answer(doors, caller, registry.as_deref(), raw_path, paging()?, namespace))
        }
        Target::Tags(asked) => {
            let (name, paging) = (named(asked)?, paging()?);
            let visit = visit(doors, caller, &name, Reading::List)?;
            let asked = tags::Asked { name: asked, path: raw_path, paging, namespace };
            tags::answer(&visit, asked, &parts.headers).await
        }
        Target::Manifest(asked, reference) => {
            let (name, reference) = (named(asked)?, manifests::reference(reference)?);
            let reading = match &reference {
                ManifestReference::Tag(tag) => Reading::Tag(tag),
                ManifestReference::Digest(_) => Reading::List,
            };
            let visit = visit(doors, caller, &name, reading)?;
            manifests::answer(&visit, &reference, &parts.headers).await
        }
        Target::Blob(asked, digest) => {
            let (name, digest) = (named(asked)?, digest_of(digest)?);
            let visit = visit(doors, caller, &name, Reading::List)?;
            blobs::answer(&visit, &digest, &parts.headers).await
        }
        Target::Referrers(asked, digest) => {
            let (name, digest) = (named(asked)?, digest_of(digest)?);
            let visit = visit(doors, caller, &name, Reading::List)?;
            referrers::answer(&visit, &digest, parameters.artifact_type.as_deref()).await
        }
        Target::Upload(_) | Target::Nothing => Err(OciError::no_such_path()),
    }
}

/// Takes note of a question about a repository.
fn visit<'a>(
    doors: &'a Doors,
    caller: &Caller,
    name: &'a Name,
    reading: Reading<'_>,
) -> Result<Visit<'a>, OciError> {
    let admitted = on_demand::admit(doors, caller, name, reading)?;
    let deadline = Instant::now() + doors.oci.config.wait;
    Ok(Visit { doors, name, admitted, deadline })
}

fn digest_of(text: &str) -> Result<Digest, OciError> {
    text.parse()
        .map_err(|error: samovar_registry::ParseError| OciError::new(Code::DigestInvalid, error.to_string()))
}

impl From<Unaddressed> for OciError {
    fn from(error: Unaddressed) -> Self {
        let code = match error {
            Unaddressed::Invalid(_) => Code::NameInvalid,
            Unaddressed::Unknown(_) => Code::NameUnknown,
        };
        Self::new(code, error.to_string())
    }
}

/// Around everything that may answer for the door: see [`error::in_own_words`].
pub(super) async fn in_own_words(request: Request, next: axum::middleware::Next) -> Response {
    let is_ours = Path::is_one(request.uri().path());
    let response = next.run(request).await;
    if is_ours { error::in_own_words(response) } else { response }
}
