//! Sending one request and reading its answer: within the host's budget, in time, within bounds, following
//! redirects, and telling the observer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use tokio::time::Instant;
use url::Url;

use super::addresses::{ForbiddenAddress, GuardedResolver, Reach, forbidden_address};
use super::body::{Deadlines, failed_to_read, read_beginning, read_whole};
use super::budget::{Draw, RequestKind};
use super::echo::Sent;
use super::host::{Host, Scheme};
use super::observe::{Outcome, Recording, RequestObserver};
use super::redirect::{self, Hop, MAX_REDIRECTS};
use super::{ErrorClass, ErrorKind, HttpOptions, Operation, Stage, Urgency};
use crate::credentials::{Credentials, Identity};
use crate::words;
use crate::{Clock, Secret};

/// The media type of a form.
const FORM: &str = "application/x-www-form-urlencoded";
/// For reading why a request was limited.
const LONGEST_LIMIT: Duration = Duration::from_secs(2);

/// The connections to all hosts, and what goes with every request.
#[derive(Debug)]
pub(super) struct Transport {
    everywhere: Clients,
    public: Clients,
    pub(super) options: HttpOptions,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn RequestObserver>,
    random: Mutex<fastrand::Rng>,
}

/// The connections of one reach, kept apart from those of the other: an open one is not checked again.
#[derive(Debug)]
struct Clients {
    verifying: reqwest::Client,
    /// For hosts named insecure only.
    lenient: reqwest::Client,
}

impl Clients {
    fn new(reach: Reach, options: &HttpOptions) -> Result<Self, reqwest::Error> {
        let builder = || {
            reqwest::Client::builder()
                .user_agent(&options.user_agent)
                .connect_timeout(options.connect_timeout)
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .dns_resolver(Arc::new(GuardedResolver(reach)))
        };
        let verifying = builder().build()?;
        // A proxy would see what goes over plain http, and hosts named insecure are near ones.
        let lenient = builder().tls_danger_accept_invalid_certs(true).no_proxy().build()?;
        Ok(Self { verifying, lenient })
    }
}

/// One thing to ask.
#[derive(Debug, Clone)]
pub(super) struct Request<'a> {
    /// The registry for which it is asked, whose budget it draws on.
    pub(super) host: &'a Host,
    pub(super) operation: Operation,
    pub(super) kind: RequestKind,
    pub(super) urgency: Urgency,
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
    pub(super) fn new(
        options: HttpOptions,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn RequestObserver>,
    ) -> Result<Self, reqwest::Error> {
        let everywhere = Clients::new(Reach::Everywhere, &options)?;
        let public = Clients::new(Reach::Public, &options)?;
        let random = options.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        Ok(Self { everywhere, public, options, clock, observer, random: Mutex::new(random) })
    }

    /// The time, by the clock that was given to the client.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
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
        self.check_destination(&hop.url, reach)?;
        let queued = Instant::now();
        let draw = Draw {
            kind: hop.kind,
            urgency: request.urgency,
            identity: &request.identity,
            is_manifest_get: request.method == Method::GET && request.url.path().contains("/manifests/"),
        };
        let permit = request.host.budget.acquire(&draw).await?;
        let mut recording = Recording::start(
            self.observer.clone(),
            request.host.name.clone(),
            request.operation,
            queued.elapsed(),
        );
        let result = self.send_admitted(request, hop, reach, &mut recording).await;
        let is_unsent = matches!(&result, Err(failure) if failure.while_connecting && is_probe);
        let result = if is_unsent { result } else { self.judge(request.host, hop.kind, &permit, result) };
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
            || request.host.is_private()
            || self.options.is_token_host(&request.host.name, &hop.url);
        if may_be_private { Reach::Everywhere } else { Reach::Public }
    }

    /// Refuses what must not be connected to, whoever named it: an image, a redirect or a challenge.
    fn check_destination(&self, url: &Url, reach: Reach) -> Result<(), ErrorKind> {
        reach.check(url).map_err(|forbidden| refused(&forbidden))?;
        if url.scheme() != "https" && !self.options.is_insecure(url) {
            let origin = url.origin().ascii_serialization();
            return Err(ErrorKind::Refused {
                message: format!("{origin} is plain http and not named insecure"),
            });
        }
        Ok(())
    }

    async fn send_admitted(
        &self,
        request: &Request<'_>,
        hop: &Hop,
        reach: Reach,
        recording: &mut Recording,
    ) -> Result<Received, Failure> {
        let sent_at = Instant::now();
        let deadlines = Deadlines::from_now(&self.options);
        let clients = match reach {
            Reach::Everywhere => &self.everywhere,
            Reach::Public => &self.public,
        };
        let is_insecure = self.options.is_insecure(&hop.url);
        let client = if is_insecure { &clients.lenient } else { &clients.verifying };
        let mut builder = client.request(request.method.clone(), hop.url.clone());
        if let Some(accept) = &request.accept {
            builder = builder.header(ACCEPT, accept);
        }
        if let Some((name, value)) = &request.condition {
            builder = builder.header(name, value);
        }
        if let Some(authorization) = &hop.authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        if let Some(form) = &request.form {
            builder = builder.header(CONTENT_TYPE, FORM).body(form.reveal().to_owned());
        }
        let mut response = deadlines
            .header(builder.send())
            .await?
            .map_err(|error| failed_to_send(error, self.options.connect_timeout))?;

        if is_registry(request, hop) {
            let scheme = if hop.url.scheme() == "https" { Scheme::Https } else { Scheme::Http };
            request.host.has_answered(scheme, response.remote_addr());
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
            Sent::in_header(request.authorization.as_ref()).hidden_in(body)
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
