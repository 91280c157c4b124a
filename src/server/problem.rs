//! What a client gets when it does not get what it asked for: problem details by RFC 9457.

use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde::Serialize;

use crate::cache::CacheError;
use crate::cache::records::{LastError, TagStateName};

/// What kind of problem it is; `type` in the answer. Clients may rely on these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ProblemType {
    /// 400: a name, parameter or body that cannot be read.
    BadRequest,
    /// 401: no or bad credentials.
    Unauthenticated,
    /// 403: a request that a page of another site may have sent.
    ForbiddenOrigin,
    /// 404: no such path.
    NotFound,
    /// 404: nobody asked for the repository to be kept.
    NotWatched,
    /// 404: the repository has no such tag, or no tag with such a digest.
    NoSuchImage,
    /// 404: the registry has no manifest for the tag.
    Unknown,
    /// 404: the tag is deliberately not offered.
    Excluded,
    /// 405.
    MethodNotAllowed,
    /// 413.
    BodyTooLarge,
    /// 413, for one of several questions: there is no room left for its answer.
    AnswerTooLarge,
    /// 415: a body that is not JSON.
    UnsupportedMediaType,
    /// 429: the caller asks more than it may.
    TooManyRequests,
    /// 500: our fault.
    Internal,
    /// 502: the refresh that was waited for failed.
    RefreshFailed,
    /// 503: the tag was not fetched yet.
    Pending,
    /// 503: the tag could not be fetched.
    Failed,
    /// 503: what is missing could change the answer, and the client wants none such.
    Incomplete,
    /// 503: the repository's tags could not be listed yet.
    NeverListed,
    /// 503: part of the repository is being restored.
    Restoring,
    /// 503: the store does not answer.
    StoreUnavailable,
    /// 503: too many requests wait.
    Busy,
}

impl ProblemType {
    fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::ForbiddenOrigin => StatusCode::FORBIDDEN,
            Self::NotFound | Self::NotWatched | Self::NoSuchImage | Self::Unknown | Self::Excluded => {
                StatusCode::NOT_FOUND
            }
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge | Self::AnswerTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::RefreshFailed => StatusCode::BAD_GATEWAY,
            Self::Pending
            | Self::Failed
            | Self::Incomplete
            | Self::NeverListed
            | Self::Restoring
            | Self::StoreUnavailable
            | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::BadRequest => "the request cannot be understood",
            Self::Unauthenticated => "credentials are needed",
            Self::TooManyRequests => "too many requests",
            Self::ForbiddenOrigin => "the request comes from another site",
            Self::NotFound => "no such path",
            Self::NotWatched => "the repository is not watched",
            Self::NoSuchImage => "there is no such image",
            Self::Unknown => "the registry has no manifest for the tag",
            Self::Excluded => "the tag is not offered",
            Self::MethodNotAllowed => "method not allowed",
            Self::BodyTooLarge => "the body is too large",
            Self::AnswerTooLarge => "the answers are too large together",
            Self::UnsupportedMediaType => "the body must be application/json",
            Self::Internal => "something went wrong on our side",
            Self::RefreshFailed => "the refresh failed",
            Self::Pending => "the tag has not been fetched yet",
            Self::Failed => "the tag could not be fetched",
            Self::Incomplete => "what is missing could change the answer",
            Self::NeverListed => "the repository has not been listed yet",
            Self::Restoring => "part of the repository is being restored",
            Self::StoreUnavailable => "the store does not answer",
            Self::Busy => "too many requests are waiting",
        }
    }
}

/// How long to wait where nothing better is known.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(5);
const SHORTEST_RETRY_AFTER: Duration = Duration::from_secs(1);

/// A problem to answer with.
#[derive(Debug)]
pub(super) struct Problem {
    kind: ProblemType,
    detail: String,
    last_error: Option<LastError>,
    retry_after: Option<Duration>,
}

impl Problem {
    pub(super) fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        let retry_after = (kind.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(DEFAULT_RETRY_AFTER);
        Self { kind, detail: detail.into(), last_error: None, retry_after }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(ProblemType::BadRequest, detail)
    }

    /// An answer that could change when more is known, which the registry is asked for at `next`.
    pub(super) fn incomplete(detail: String, next: Option<Timestamp>, now: Timestamp) -> Self {
        Self::new(ProblemType::Incomplete, detail).with_next(next, now)
    }

    /// Says when to ask again, where that is known and it makes sense.
    fn with_next(mut self, next: Option<Timestamp>, now: Timestamp) -> Self {
        if let (Some(wait), Some(next)) = (&mut self.retry_after, next) {
            *wait =
                Duration::try_from(now.duration_until(next)).unwrap_or_default().max(SHORTEST_RETRY_AFTER);
        }
        self
    }

    /// Says when to come back.
    pub(super) fn with_retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.kind.status()
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    pub(super) fn into_detail(self) -> String {
        self.detail
    }

    /// What the cache could not answer. `now` turns times into `Retry-After`.
    pub(super) fn of(error: CacheError, now: Timestamp) -> Self {
        let detail = error.to_string();
        let (kind, next, last_error) = match error {
            CacheError::NotWatched { .. } => (ProblemType::NotWatched, None, None),
            CacheError::NeverListed { last_error, next_attempt, .. } => {
                (ProblemType::NeverListed, next_attempt, last_error)
            }
            CacheError::NoSuchImage { .. } => (ProblemType::NoSuchImage, None, None),
            CacheError::Unavailable { unavailable, .. } => match unavailable.state {
                TagStateName::Unknown => (ProblemType::Unknown, None, None),
                TagStateName::Excluded => (ProblemType::Excluded, None, None),
                TagStateName::Ok | TagStateName::Pending => {
                    (ProblemType::Pending, unavailable.next_attempt, None)
                }
                TagStateName::Failed => (ProblemType::Failed, unavailable.next_attempt, None),
            },
            CacheError::Torn { .. } => (ProblemType::Restoring, None, None),
            CacheError::Store(_) => (ProblemType::StoreUnavailable, None, None),
        };
        Self { last_error, ..Self::new(kind, detail).with_next(next, now) }
    }
}

/// Goes with a response that is a problem, for who says it in other words: what is wrong.
#[derive(Debug, Clone)]
pub(super) struct Detail(pub(super) String);

/// The header that says when to come back. Rounded up: who comes back a moment early comes back in vain.
pub(super) fn after(wait: Duration) -> HeaderValue {
    HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

/// What is wrong, as RFC 9457 has it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub(super) struct Body<'a> {
    r#type: ProblemType,
    #[schema(value_type = String)]
    title: &'a str,
    status: u16,
    #[schema(value_type = String)]
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<LastError>)]
    last_error: &'a Option<LastError>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        let body = Body {
            r#type: self.kind,
            title: self.kind.title(),
            status: status.as_u16(),
            detail: &self.detail,
            last_error: &self.last_error,
        };
        let body = serde_json::to_vec(&body).expect("strings and numbers written to memory");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.kind == ProblemType::BodyTooLarge {
            // The rest of the body is not read: the connection cannot be used again.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, after(wait));
        }
        response.extensions_mut().insert(Detail(self.detail));
        response
    }
}

/// What is wrong with a body of JSON.
pub(super) fn body_problem(rejection: JsonRejection) -> Problem {
    let kind = match rejection.status() {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ProblemType::UnsupportedMediaType,
        StatusCode::PAYLOAD_TOO_LARGE => ProblemType::BodyTooLarge,
        _ => ProblemType::BadRequest,
    };
    Problem::new(kind, rejection.body_text())
}

/// Answers for a handler that panicked.
#[expect(clippy::needless_pass_by_value, reason = "the layer's signature")]
pub(super) fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(panic.message = message, "a request handler panicked");
    Problem::new(ProblemType::Internal, "the request could not be answered; see the log").into_response()
}
