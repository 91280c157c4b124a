//! Sending one request and reading its answer: within the host's budget, in time, within bounds, following
//! redirects, and telling the observer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::time::Instant;
use url::Url;

use super::addresses::{self, GuardedResolver, forbidden_address};
use super::body::{Deadlines, failed_to_read, read_beginning, read_whole};
use super::budget::{Permit, RequestKind};
use super::host::Host;
use super::observe::{Outcome, Recording, RequestObserver};
use super::redirect::{self, Hop, MAX_REDIRECTS};
use super::{ErrorClass, ErrorKind, HttpOptions, Operation, Stage, Urgency, limits, words};
use crate::Clock;

/// The connections to all hosts, and what goes with every request.
#[derive(Debug)]
pub(super) struct Transport {
    verifying: reqwest::Client,
    /// For hosts named insecure only.
    lenient: reqwest::Client,
    pub(super) options: HttpOptions,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn RequestObserver>,
}

/// One thing to ask.
#[derive(Debug, Clone)]
pub(super) struct Request<'a> {
    /// The registry for which it is asked, whose budget it draws on.
    pub(super) host: &'a Host,
    pub(super) operation: Operation,
    pub(super) kind: RequestKind,
    pub(super) urgency: Urgency,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) accept: Option<HeaderValue>,
    pub(super) authorization: Option<HeaderValue>,
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
}

/// No answer.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    /// Whether the host could not even be connected to.
    pub(super) while_connecting: bool,
}

impl From<ErrorKind> for Failure {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, while_connecting: false }
    }
}

impl Answer {
    /// What an answer that is not a success means, given who we said we were.
    pub(super) fn failure(&self, credentials: &str) -> ErrorKind {
        let message = words::of_registry(&self.body);
        let credentials = || credentials.to_owned();
        let status = self.status.as_u16();
        match status {
            401 if self.hop.is_at_origin => ErrorKind::Unauthorized { credentials: credentials(), message },
            403 if self.hop.is_at_origin => ErrorKind::Denied { credentials: credentials(), message },
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
        let builder = || {
            reqwest::Client::builder()
                .user_agent(&options.user_agent)
                .connect_timeout(options.connect_timeout)
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .dns_resolver(Arc::new(GuardedResolver))
        };
        let verifying = builder().build()?;
        // A proxy would see what goes over plain http, and hosts named insecure are near ones.
        let lenient = builder().tls_danger_accept_invalid_certs(true).no_proxy().build()?;
        Ok(Self { verifying, lenient, options, clock, observer })
    }

    /// Sends the request, and once more at once if the connection was cut or the server failed in passing.
    pub(super) async fn exchange(&self, request: &Request<'_>) -> Result<Answer, Failure> {
        let first = self.follow(request).await;
        let is_passing = match &first {
            Ok(answer) => matches!(answer.status.as_u16(), 500 | 502 | 503 | 504),
            Err(failure) => failure.kind.is_transient() && !failure.while_connecting,
        };
        if !is_passing || request.host.budget.blocked_for(request.kind).is_some() {
            return first;
        }
        tracing::debug!(registry.host = %request.host.name, operation = request.operation.as_str(), "trying once more");
        self.follow(request).await
    }

    async fn follow(&self, request: &Request<'_>) -> Result<Answer, Failure> {
        let mut hop = Hop {
            url: request.url.clone(),
            kind: request.kind,
            authorization: request.authorization.clone(),
            is_at_origin: true,
        };
        for _ in 0..=MAX_REDIRECTS {
            let (status, headers, body) = self.send(request, &hop).await?;
            match redirect::next(&hop, status, &headers, &self.options)? {
                None => {
                    return Ok(Answer { status, headers, body, hop });
                }
                Some(next) => hop = next,
            }
        }
        Err(ErrorKind::Protocol { message: format!("more than {MAX_REDIRECTS} redirects") }.into())
    }

    /// Sends one HTTP request and reads its answer. All waiting for the budget comes first.
    async fn send(
        &self,
        request: &Request<'_>,
        hop: &Hop,
    ) -> Result<(StatusCode, HeaderMap, Bytes), Failure> {
        self.check_destination(&hop.url)?;
        let queued = Instant::now();
        let permit = request.host.budget.acquire(hop.kind, request.urgency).await?;
        let mut recording = Recording::start(
            self.observer.clone(),
            request.host.name.clone(),
            request.operation,
            queued.elapsed(),
        );
        let result = self.send_admitted(request, hop, &permit, &mut recording).await;
        match &result {
            Ok((status, ..)) => recording.end(outcome_of(*status)),
            Err(failure) if failure.while_connecting && request.is_probe => recording.discard(),
            Err(failure) => recording.end(Outcome::Failed(failure.kind.class())),
        }
        result
    }

    /// Refuses what must not be connected to, whoever named it: an image, a redirect or a challenge.
    fn check_destination(&self, url: &Url) -> Result<(), ErrorKind> {
        addresses::check(url).map_err(|forbidden| refused(&forbidden))?;
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
        permit: &Permit,
        recording: &mut Recording,
    ) -> Result<(StatusCode, HeaderMap, Bytes), Failure> {
        let deadlines = Deadlines::from_now(&self.options);
        let client = if self.options.is_insecure(&hop.url) { &self.lenient } else { &self.verifying };
        let mut builder = client.request(request.method.clone(), hop.url.clone());
        if let Some(accept) = &request.accept {
            builder = builder.header(ACCEPT, accept);
        }
        if let Some(authorization) = &hop.authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        let mut response = deadlines
            .header(builder.send())
            .await?
            .map_err(|error| failed_to_send(error, self.options.connect_timeout))?;

        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let pause = self.note_limits(request.host, hop.kind, permit, status, &headers);
        let body = if status.is_success() {
            read_whole(&mut response, request.max_body, &deadlines, recording).await?
        } else {
            read_beginning(&mut response, &deadlines, recording).await
        };
        match pause {
            Some(retry_after) if status == StatusCode::TOO_MANY_REQUESTS => {
                Err(ErrorKind::RateLimited { retry_after, message: words::of_registry(&body) }.into())
            }
            _ => Ok((status, headers, body)),
        }
    }

    /// Tells the budget what the answer says about limits. The pause that it imposes, if any.
    fn note_limits(
        &self,
        host: &Host,
        kind: RequestKind,
        permit: &Permit,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Option<Duration> {
        if let Some(quota) = limits::quota(headers) {
            permit.note_quota(quota);
        }
        let asked = limits::retry_after(headers, self.clock.now());
        let must_pause = status == StatusCode::TOO_MANY_REQUESTS
            || status == StatusCode::SERVICE_UNAVAILABLE && asked.is_some();
        if must_pause {
            let is_news = host.budget.blocked_for(kind).is_none();
            let pause = permit.hold_back(asked);
            if is_news {
                tracing::warn!(
                    registry.host = %host.name,
                    requests = ?kind,
                    pause_s = pause.as_secs_f64(),
                    "the registry limits us; it is left alone for so long",
                );
            }
            return Some(pause);
        }
        permit.accepted();
        None
    }
}

fn outcome_of(status: StatusCode) -> Outcome {
    match status.as_u16() {
        304 => Outcome::NotModified,
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
    Failure { kind, while_connecting }
}

fn refused(forbidden: &addresses::ForbiddenAddress) -> ErrorKind {
    ErrorKind::Refused { message: forbidden.to_string() }
}
