//! Who asks, and what they may.
//!
//! Invariants:
//! - every handler that reads or refreshes what has a name asks the [`Caller`] first; a caller that nobody identified may
//!   do nothing;
//! - what a caller may not see is answered as what does not exist;
//! - who cannot be identified is refused, also while those who could say cannot be reached;
//! - what a stranger presents costs a hash, and no more than a bounded number of questions to anybody else.

mod caller;
mod kubernetes;
mod presented;
mod tokens;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use tokio_util::sync::CancellationToken;

pub(super) use self::caller::Caller;
use self::caller::Known;
use self::kubernetes::Reviews;
use self::presented::Presented;
use self::tokens::Tokens;
use super::Doors;
use super::limits::{Held, Limited, Limits, Standing};
use super::listen::FullHouse;
use super::problem::{Problem, ProblemType};
use crate::config::{AuthConfig, LimitsConfig, NamedGrant};
use crate::metrics::{LimitedBy, Refusal};

/// How often files that say who may are read again.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Whom the doors are open for.
#[derive(Debug)]
pub struct Access {
    /// Absent where nobody is asked who they are.
    asked: Option<Asked>,
    limits: Limits,
}

/// How callers are identified.
#[derive(Debug)]
struct Asked {
    tokens: Option<Tokens>,
    certificates: Vec<NamedGrant>,
    reviews: Option<Reviews>,
    metrics_open: bool,
}

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// Whom a certificate of theirs names, if it does.
    certified: Option<Caller>,
    /// What is under way for their address.
    standing: Arc<Standing>,
}

/// Why somebody cannot be identified.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Unidentified {
    Missing,
    Bad,
    /// Too many such attempts.
    TooMany(Duration),
    /// Those who know do not answer.
    Unreachable(String),
}

impl Access {
    /// Reads what says who may. An error says which file is wrong, and how.
    pub fn new(auth: Option<&AuthConfig>, limits: LimitsConfig) -> Result<Self, String> {
        let limits = Limits::new(limits);
        let asked = match auth {
            None => None,
            Some(auth) => Some(Asked {
                tokens: auth.tokens.as_ref().map(|path| Tokens::read(path, &limits)).transpose()?,
                certificates: auth.certificates.clone(),
                reviews: auth.kubernetes.clone().map(Reviews::new).transpose()?,
                metrics_open: auth.metrics_open,
            }),
        };
        Ok(Self { asked, limits })
    }

    /// Whether callers are asked who they are.
    pub fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Follows the files until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let Some(tokens) = self.asked.as_ref().and_then(|asked| asked.tokens.as_ref()) else { return };
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = shutdown.cancelled() => return,
            }
            tokens.look(&self.limits).await;
        }
    }

    /// How many tokens are known, where there is a file of them.
    pub(super) fn token_count(&self) -> Option<usize> {
        Some(self.asked.as_ref()?.tokens.as_ref()?.count())
    }

    /// What is wrong with the files now.
    pub(super) fn problem(&self) -> Option<String> {
        self.asked.as_ref()?.tokens.as_ref()?.problem()
    }

    /// Somebody who has connected, with the names in their certificate.
    pub(super) fn peer(&self, address: IpAddr, names: Option<&[String]>) -> Peer {
        let certified = names.and_then(|names| {
            let entry = |name: &&String| {
                let grants = self.asked.as_ref()?.certificates.iter();
                Some(grants.clone().find(|entry| entry.names.matches(name))?.grant.clone())
            };
            let (name, grant) = names.iter().find_map(|name| Some((name, entry(&name)?)))?;
            let name = format!("certificate:{name}");
            let standing = self.limits.named(&name);
            Some(Caller::known(Known::new(name, grant, standing)))
        });
        Peer { certified, standing: self.limits.address(address) }
    }

    async fn caller(&self, path: &str, headers: &HeaderMap, peer: &Peer) -> Result<Caller, Unidentified> {
        let Some(asked) = &self.asked else { return Ok(Caller::anyone()) };
        if is_open(path) {
            return Ok(Caller::nobody());
        }
        if asked.metrics_open && path == "/metrics" {
            return Ok(Caller::anyone());
        }
        let token = match Presented::read(headers) {
            Presented::Token(token) => token,
            Presented::Nothing => return peer.certified.clone().ok_or(Unidentified::Missing),
            Presented::Unreadable => return Err(Unidentified::Bad),
        };
        if let Some(caller) = asked.tokens.as_ref().and_then(|tokens| tokens.caller(&token)) {
            return Ok(caller);
        }
        match &asked.reviews {
            Some(reviews) => reviews.caller(&token, &self.limits, &peer.standing).await,
            None => Err(Unidentified::Bad),
        }
    }
}

/// What is for everybody: whether the process lives, and what checks secrets of its own.
fn is_open(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/api/flux/v11/notify") || path.starts_with("/hooks/")
}

/// Whether samovar's own life is asked about, which no limit may hide.
fn is_probe(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz")
}

/// Finds out who asks, and lets them in as far as their limits go.
pub(super) async fn identify(State(doors): State<Arc<Doors>>, mut request: Request, next: Next) -> Response {
    // Only where the router is served without a listener of ours: then nothing is known of the other end.
    let peer = request.extensions().get().cloned();
    let Some(peer): Option<Peer> = peer else {
        return Problem::new(ProblemType::Internal, "who asks is not known").into_response();
    };
    let access = &doors.access;
    if request.extensions().get::<FullHouse>().is_some() && !is_probe(request.uri().path()) {
        doors.metrics.limited(LimitedBy::Connections);
        return Problem::new(ProblemType::Busy, "all connections are taken: come back").into_response();
    }
    let is_probe = is_probe(request.uri().path());
    let (path, headers) = (request.uri().path(), request.headers());
    let caller = match access.caller(path, headers, &peer).await {
        Ok(caller) => caller,
        Err(why) => return refused(&doors, path, why),
    };
    let place = match access.limits.enter(caller.standing().unwrap_or(&peer.standing)) {
        Ok(place) => Some(place),
        Err(_) if is_probe => None,
        Err(limited) => return limited_response(&doors, limited),
    };
    request.extensions_mut().insert(caller);
    let response = next.run(request).await;
    match place {
        // What is written whole is no burden any more; a stream is one as long as it lasts.
        Some(place) if axum::body::HttpBody::size_hint(response.body()).exact().is_none() => {
            response.map(|body| Body::new(Held::new(body, place)))
        }
        _ => response,
    }
}

fn limited_response(doors: &Doors, limited: Limited) -> Response {
    let (by, detail) = match limited {
        Limited::Rate(_) => (LimitedBy::Rate, "you ask more often than one caller may"),
        Limited::Concurrency => {
            (LimitedBy::Concurrency, "more of your requests are under way than one caller may have")
        }
    };
    doors.metrics.limited(by);
    Problem::new(ProblemType::TooManyRequests, detail).with_retry_after(limited.retry_after()).into_response()
}

fn refused(doors: &Doors, path: &str, why: Unidentified) -> Response {
    let (reason, problem) = match why {
        Unidentified::Missing => {
            (Refusal::Missing, Problem::new(ProblemType::Unauthenticated, "say who you are"))
        }
        Unidentified::Bad => {
            (Refusal::Bad, Problem::new(ProblemType::Unauthenticated, "the credentials are not known here"))
        }
        Unidentified::TooMany(wait) => {
            let detail = "too many credentials that are not known here were sent from your address";
            let problem = Problem::new(ProblemType::TooManyRequests, detail).with_retry_after(wait);
            (Refusal::TooMany, problem)
        }
        Unidentified::Unreachable(reason) => {
            tracing::debug!(error = reason, "a caller cannot be identified");
            let detail = "who you are cannot be found out now";
            (Refusal::Unreachable, Problem::new(ProblemType::Busy, detail))
        }
    };
    doors.metrics.refused(reason);
    let is_unauthenticated = matches!(reason, Refusal::Missing | Refusal::Bad);
    let mut response = problem.into_response();
    if is_unauthenticated {
        // The other clients know what to do with a user and a password only.
        let is_api = path.starts_with("/api/") || path == "/metrics";
        let challenge = if is_api { "Bearer realm=\"samovar\"" } else { "Basic realm=\"samovar\"" };
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}
