//! Sending one request and reading its answer: within the host's budget, in time, within bounds, following
//! redirects, and telling the observer.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use reqwest::{RequestBuilder, Response};
use tokio::time::Instant;
use url::Url;

use super::addresses::{ForbiddenAddress, Lookup, Reach, SystemLookup, forbidden_address};
use super::body::{Deadlines, failed_to_read, read_beginning, read_whole};
use super::budget::{Draw, RequestKind};
use super::clients::{Client, Clients};
use super::connection::{ConnectionOptions, TlsOptions};
use super::echo::Sent;
use super::endpoint::{Connection, Endpoint};
use super::host::{Host, Scheme};
use super::http::HttpSetupError;
use super::observe::{Outcome, Recording, RequestObserver};
use super::redirect::{self, Hop, MAX_REDIRECTS};
#[cfg(feature = "simulation")]
use super::wire::Wire;
use super::{ErrorClass, ErrorKind, HttpOptions, Operation, Stage, Urgency};
use crate::credentials::{Credentials, Identity};
use crate::words;
use crate::{Clock, Name, Secret};

/// The media type of a form.
const FORM: &str = "application/x-www-form-urlencoded";
/// For reading why a request was limited.
const LONGEST_LIMIT: Duration = Duration::from_secs(2);

/// The connections to all hosts, and what goes with every request.
#[derive(Debug)]
pub(super) struct Transport {
    clients: Clients,
    pub(super) options: HttpOptions,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn RequestObserver>,
    random: Mutex<fastrand::Rng>,
}

/// One thing to ask.
#[derive(Debug, Clone)]
pub(super) struct Request<'a> {
    /// The place for which it is asked: its host's budget is drawn on.
    pub(super) endpoint: &'a Endpoint,
    pub(super) operation: Operation,
    pub(super) kind: RequestKind,
    pub(super) urgency: Urgency,
    /// What it is about, if it is about one.
    pub(super) repository: Option<&'a Name>,
    /// Whose quota it counts against.
    pub(super) identity: Identity,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) accept: Option<HeaderValue>,
    /// Which answer is known already, to be told by 304 if it is still the right one.
    pub(super) condition: Option<(HeaderName, HeaderValue)>,
    pub(super) authorization: Option<HeaderValue>,
    /// The body of a POST, which is a secret.
    pub(super) form: Option<Secret>,
    /// Bound of a successful answer's body, in bytes.
    pub(super) max_body: u64,
    /// Only to find out whether the host can be connected to this way: if not, no request was sent.
    pub(super) is_probe: bool,
}

impl Request<'_> {
    /// The host whose budget it draws on.
    pub(super) fn host(&self) -> &Host {
        &self.endpoint.host
    }
}

/// An answer, whatever its status; 429 never comes here.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Whole if the status is a success, else the first part.
    pub(super) body: Bytes,
    /// Who answered.
    pub(super) hop: Hop,
    /// When the request that was answered was sent: after all waiting for the budget.
    pub(super) sent_at: Instant,
    /// How long sending and reading took, redirects included and waiting for the budget left out.
    pub(super) spent: Duration,
}

/// What one HTTP request brought.
pub(super) struct Received {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    sent_at: Instant,
}

/// No answer.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    /// Whether the host that was asked could not even be connected to; of a host that it redirected us to, this
    /// is not said.
    pub(super) while_connecting: bool,
    /// What kind of request failed, which is another than the first where we were redirected.
    pub(super) hop: RequestKind,
}

impl From<ErrorKind> for Failure {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, while_connecting: false, hop: RequestKind::Registry }
    }
}

impl Answer {
    /// What the registry's refusal of these credentials means, if the answer is one.
    pub(super) fn refusal(&self, credentials: &Credentials) -> Option<ErrorKind> {
        if !self.hop.is_at_origin {
            return None;
        }
        let message = words::of_registry(&self.body);
        let credentials = credentials.to_string();
        match self.status {
            StatusCode::UNAUTHORIZED => Some(ErrorKind::Unauthorized { credentials, message }),
            StatusCode::FORBIDDEN => Some(ErrorKind::Denied { credentials, message }),
            _ => None,
        }
    }

    /// What an answer means that is neither a success nor a refusal.
    pub(super) fn failure(&self) -> ErrorKind {
        let message = words::of_registry(&self.body);
        let status = self.status.as_u16();
        match status {
            404 => ErrorKind::NotFound { message },
            400..=499 => ErrorKind::Rejected { status, message },
            500..=599 => ErrorKind::Unavailable { status, message },
            _ => ErrorKind::Protocol { message: format!("unexpected status {status}") },
        }
    }
}

impl Transport {
    /// Reads the files that the options name: those that cannot be used are found here.
    pub(super) fn new(
        options: HttpOptions,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn RequestObserver>,
    ) -> Result<Self, HttpSetupError> {
        Self::with_lookup(options, clock, observer, Arc::new(SystemLookup))
    }

    fn with_lookup(
        options: HttpOptions,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn RequestObserver>,
        lookup: Arc<dyn Lookup>,
    ) -> Result<Self, HttpSetupError> {
        let all = TlsOptions { ca_files: options.ca_files.clone(), ..TlsOptions::default() };
        let own = options.hosts.iter().map(|(host, own)| (Some(host), &own.connection.tls));
        let mirrors = options.all_mirrors().map(|mirror| (None, &mirror.connection.tls));
        let others = (None, &options.other_hosts.connection.tls);
        for (host, tls) in own.chain([(None, &all), others]).chain(mirrors) {
            tls.check().map_err(|error| HttpSetupError::Tls { host: host.cloned(), error })?;
        }
        let clients = Clients::new(&options, lookup);
        clients.check(&Connection::new(&ConnectionOptions::default(), &options))?;
        let random = Mutex::new(options.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed));
        Ok(Self { clients, options, clock, observer, random })
    }

    /// From now on nothing is connected to: `wire` answers.
    #[cfg(feature = "simulation")]
    pub(super) fn answer_by(&mut self, wire: Arc<dyn Wire>) -> Result<(), HttpSetupError> {
        Ok(self.clients.answer_by(wire)?)
    }

    /// The time, by the clock that was given to the client.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Starts the watch of a request that somebody else sends.
    #[cfg(feature = "aws")]
    pub(super) fn recording(&self, host: &Host, operation: Operation, waited: Duration) -> Recording {
        Recording::start(self.observer.clone(), host.name.clone(), operation, waited)
    }

    /// A random number from 0 to 1.
    pub(super) fn random(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }

    /// Sends the request once, and follows redirects.
    pub(super) async fn follow(&self, request: &Request<'_>) -> Result<Answer, Failure> {
        let mut hop = Hop {
            url: request.url.clone(),
            kind: request.kind,
            authorization: request.authorization.clone(),
            carries_form: request.form.is_some(),
            is_at_origin: true,
        };
        let mut spent = Duration::ZERO;
        for redirects in 0..=MAX_REDIRECTS {
            let is_first = redirects == 0;
            let received = self.send(request, &hop, is_first && request.is_probe).await;
            let received = received.map_err(|failure| Failure {
                while_connecting: failure.while_connecting && is_first,
                hop: hop.kind,
                ..failure
            })?;
            spent += received.sent_at.elapsed();
            match redirect::next(&hop, received.status, &received.headers, &self.options)? {
                None => {
                    let Received { status, headers, body, sent_at } = received;
                    return Ok(Answer { status, headers, body, hop, sent_at, spent });
                }
                Some(next) => hop = next,
            }
        }
        Err(ErrorKind::Protocol { message: format!("more than {MAX_REDIRECTS} redirects") }.into())
    }

    /// Sends one HTTP request and reads its answer. All waiting for the budget comes first. A probe that finds
    /// nobody to talk to counts as not sent.
    async fn send(&self, request: &Request<'_>, hop: &Hop, is_probe: bool) -> Result<Received, Failure> {
        let reach = self.reach(request, hop);
        self.check_destination(request, hop, reach)?;
        let queued = Instant::now();
        let draw = Draw {
            kind: hop.kind,
            urgency: request.urgency,
            identity: &request.identity,
            repository: request.repository,
            is_manifest_get: request.method == Method::GET && request.url.path().contains("/manifests/"),
        };
        let permit = request.host().budget.acquire(&draw).await?;
        let mut recording = Recording::start(
            self.observer.clone(),
            request.host().name.clone(),
            request.operation,
            queued.elapsed(),
        );
        let result = self.send_admitted(request, hop, reach, &mut recording).await;
        let is_unsent = matches!(&result, Err(failure) if failure.while_connecting && is_probe);
        let result = if is_unsent { result } else { self.judge(request.host(), hop.kind, &permit, result) };
        match &result {
            Ok(received) => recording.end(outcome_of(received.status, request.condition.is_some())),
            Err(_) if is_unsent => recording.discard(),
            Err(failure) => recording.end(Outcome::Failed(failure.kind.class())),
        }
        result
    }

    /// How far the request may reach: the registry itself may stand anywhere; where it sends us, only if it stands
    /// at a private address as well or the configuration names the place.
    fn reach(&self, request: &Request<'_>, hop: &Hop) -> Reach {
        let may_be_private = is_registry(request, hop)
            || request.host().is_private()
            || self.options.is_token_host(&request.host().name, &hop.url);
        if may_be_private { Reach::Everywhere } else { Reach::Public }
    }

    /// Refuses what must not be connected to, whoever named it: an image, a redirect or a challenge.
    fn check_destination(&self, request: &Request<'_>, hop: &Hop, reach: Reach) -> Result<(), ErrorKind> {
        let url = &hop.url;
        reach.check(url).map_err(|forbidden| refused(&forbidden))?;
        let origin = || url.origin().ascii_serialization();
        if self.options.policy.denies_url(url) {
            return Err(ErrorKind::Refused { message: format!("{} is denied by deny_hosts", origin()) });
        }
        let host = &request.host().name;
        if is_registry(request, hop) && !request.endpoint.is_mirror && !self.options.policy.allows(host) {
            return Err(ErrorKind::Refused { message: format!("{host} is not among allow_hosts") });
        }
        let is_plain = url.scheme() != "https";
        let is_own = request.endpoint.is_origin_of(url);
        if is_plain && !is_own && !self.options.allows_plain_http(url) {
            return Err(ErrorKind::Refused {
                message: format!("{} is plain http and not named insecure", origin()),
            });
        }
        Ok(())
    }

    /// How to connect for this hop. The endpoint's own settings and headers are for its own origin only, and for what
    /// has not been sent elsewhere in between.
    fn connection<'a>(&self, request: &'a Request<'_>, hop: &Hop) -> Cow<'a, Connection> {
        if hop.is_at_origin && request.endpoint.is_origin_of(&hop.url) {
            Cow::Borrowed(&request.endpoint.connection)
        } else if hop.is_at_origin && request.endpoint.trusts(&hop.url, &self.options) {
            Cow::Owned(Connection::of_realm(&hop.url, &self.options))
        } else {
            Cow::Owned(Connection::of_url(&hop.url, &self.options))
        }
    }

    async fn send_admitted(
        &self,
        request: &Request<'_>,
        hop: &Hop,
        reach: Reach,
        recording: &mut Recording,
    ) -> Result<Received, Failure> {
        let connection = self.connection(request, hop);
        let is_insecure = self.options.is_insecure(&hop.url);
        let client = self.clients.client(&connection, &hop.url, reach, is_insecure);
        let client =
            client.map_err(|error| ErrorKind::Transport { message: words::printable(&error.to_string()) })?;
        let sent_at = Instant::now();
        let deadlines = Deadlines::from_now(connection.timeouts);
        let mut headers = connection.headers.clone();
        // Our own win.
        headers.extend(request.accept.clone().map(|accept| (ACCEPT, accept)));
        headers.extend(request.condition.clone());
        headers.extend(hop.authorization.clone().map(|authorization| (AUTHORIZATION, authorization)));
        let mut builder = client.http.request(request.method.clone(), hop.url.clone()).headers(headers);
        if let Some(form) = &request.form {
            builder = builder.header(CONTENT_TYPE, FORM).body(form.reveal().to_owned());
        }
        let mut response = deadlines.header(put_out(&client, builder, connection.timeouts.connect)).await??;

        if is_registry(request, hop) {
            let scheme = if hop.url.scheme() == "https" { Scheme::Https } else { Scheme::Http };
            // Of what answers through a proxy, the address is not known.
            let address = response.remote_addr().filter(|_| !client.is_proxied);
            request.host().has_answered(scheme, address);
        }
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let body = if status.is_success() {
            read_whole(&mut response, request.max_body, &deadlines, recording).await?
        } else {
            let is_limit = status == StatusCode::TOO_MANY_REQUESTS;
            // Until it is read, others are sent at the rate that was too high.
            let deadlines = if is_limit { deadlines.ending_within(LONGEST_LIMIT) } else { deadlines };
            let body = read_beginning(&mut response, &deadlines, recording).await;
            let form = request.form.as_ref();
            Sent::in_request(request.authorization.as_ref(), form, &connection.headers).hidden_in(body)
        };
        Ok(Received { status, headers, body, sent_at })
    }
}

/// Whether it is the registry itself that is asked, at the address that images name.
fn is_registry(request: &Request<'_>, hop: &Hop) -> bool {
    hop.is_at_origin && request.kind == RequestKind::Registry
}

fn outcome_of(status: StatusCode, is_conditional: bool) -> Outcome {
    match status.as_u16() {
        // Nobody asked whether something has changed.
        304 if !is_conditional => Outcome::Failed(ErrorClass::Protocol),
        401 | 403 => Outcome::Failed(ErrorClass::Unauthorized),
        404 => Outcome::Failed(ErrorClass::NotFound),
        400..=499 => Outcome::Failed(ErrorClass::Rejected),
        500..=599 => Outcome::Failed(ErrorClass::Unavailable),
        _ => Outcome::Ok,
    }
}

/// Sends what was prepared, and waits for the header of the answer.
async fn put_out(
    client: &Client,
    builder: RequestBuilder,
    connect_timeout: Duration,
) -> Result<Response, Failure> {
    let failed = |error| failed_to_send(error, connect_timeout);
    let request = builder.build().map_err(failed)?;
    #[cfg(feature = "simulation")]
    if let Some(simulated) = &client.simulated {
        return simulated.send(request).await;
    }
    client.http.execute(request).await.map_err(failed)
}

fn failed_to_send(error: reqwest::Error, connect_timeout: Duration) -> Failure {
    let while_connecting = error.is_connect();
    let kind = if let Some(forbidden) = forbidden_address(&error) {
        refused(forbidden)
    } else if while_connecting && error.is_timeout() {
        ErrorKind::Timeout { stage: Stage::Connect, limit: connect_timeout }
    } else {
        failed_to_read(error)
    };
    Failure { while_connecting, ..Failure::from(kind) }
}

fn refused(forbidden: &ForbiddenAddress) -> ErrorKind {
    ErrorKind::Refused { message: forbidden.to_string() }
}

#[cfg(test)]
mod tests;
