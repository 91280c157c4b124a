//! What a client gets when it does not get what it asked for, in the shape and with the codes of the distribution
//! specification (section "Error Codes"), and with the statuses on which clients go on as they should: 404 and 5xx send those
//! that have another mirror there, and 503 lets the others come back; 429 is for a client's own limit alone.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::json;

use super::super::problem::{Detail, Problem, after};
use crate::warmer::{RequestRefused, Unobtainable};

/// Codes of the specification, and of those of the reference implementation that clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Code {
    BlobUnknown,
    DigestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    PaginationNumberInvalid,
    RangeInvalid,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    Toomanyrequests,
    Unavailable,
    Unknown,
}

impl Code {
    fn status(self) -> StatusCode {
        match self {
            Self::BlobUnknown | Self::ManifestUnknown | Self::NameUnknown => StatusCode::NOT_FOUND,
            Self::DigestInvalid | Self::NameInvalid | Self::PaginationNumberInvalid => {
                StatusCode::BAD_REQUEST
            }
            Self::RangeInvalid => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::SizeInvalid => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Self::Toomanyrequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What says the same as a problem of this status.
    fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::BAD_REQUEST => Self::NameInvalid,
            StatusCode::UNAUTHORIZED => Self::Unauthorized,
            StatusCode::FORBIDDEN => Self::Denied,
            StatusCode::NOT_FOUND => Self::NameUnknown,
            StatusCode::METHOD_NOT_ALLOWED => Self::Unsupported,
            StatusCode::PAYLOAD_TOO_LARGE => Self::SizeInvalid,
            StatusCode::TOO_MANY_REQUESTS => Self::Toomanyrequests,
            status if status.is_client_error() => Self::Unsupported,
            StatusCode::INTERNAL_SERVER_ERROR => Self::Unknown,
            _ => Self::Unavailable,
        }
    }
}

/// An error to answer with.
#[derive(Debug)]
pub(super) struct OciError {
    code: Code,
    status: StatusCode,
    message: String,
    retry_after: Option<Duration>,
}

/// When to come back for what is on its way.
const SOON: Duration = Duration::from_secs(2);
/// When to come back where nothing better is known.
const LATER: Duration = Duration::from_secs(5);

impl OciError {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        let status = code.status();
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(LATER);
        Self { code, status, message: message.into(), retry_after }
    }

    /// There is nothing at the path, whatever the method.
    pub(super) fn no_such_path() -> Self {
        let error = Self::new(Code::Unsupported, "there is nothing at this path");
        Self { status: StatusCode::NOT_FOUND, ..error }
    }

    /// It was not there in time.
    pub(super) fn late(what: &impl std::fmt::Display) -> Self {
        Self::new(Code::Unavailable, format!("{what} is being fetched: ask again")).soon()
    }

    /// With the client to come back soon.
    pub(super) fn soon(self) -> Self {
        Self { retry_after: Some(SOON), ..self }
    }

    /// A document that could not be fetched, though it may be there.
    pub(super) fn unobtainable(why: &Unobtainable) -> Self {
        let retry_after = Some(why.retry_after.unwrap_or(LATER));
        Self { retry_after, ..Self::new(Code::Unavailable, &*why.reason) }
    }

    /// Whether it says that there is no such thing.
    pub(super) fn is_unknown(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    /// What is wrong, in words.
    pub(super) fn message(&self) -> &str {
        &self.message
    }
}

impl From<RequestRefused> for OciError {
    fn from(refused: RequestRefused) -> Self {
        let error = Self::new(Code::Unavailable, refused.to_string());
        match refused {
            // It is from now on.
            RequestRefused::NotWatched => error.soon(),
            RequestRefused::Busy => error,
        }
    }
}

impl From<Problem> for OciError {
    fn from(problem: Problem) -> Self {
        let (status, retry_after) = (problem.status(), problem.retry_after());
        Self { code: Code::of(status), status, message: problem.into_detail(), retry_after }
    }
}

/// The body of an error.
fn body(code: Code, message: &str) -> Vec<u8> {
    let body = json!({ "errors": [{ "code": code, "message": message }] });
    serde_json::to_vec(&body).expect("strings written to memory")
}

impl IntoResponse for OciError {
    fn into_response(self) -> Response {
        let mut response = (self.status, body(self.code, &self.message)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, JSON);
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, after(wait));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Says in the shape of the distribution specification what was answered as a problem of the API by what stands before the
/// door: whoever checks who asks, and how much. Status and headers stay.
pub(super) fn in_own_words(response: Response) -> Response {
    let Some(Detail(detail)) = response.extensions().get::<Detail>().cloned() else { return response };
    let (mut parts, _) = response.into_parts();
    let body = body(Code::of(parts.status), &detail);
    parts.headers.insert(header::CONTENT_TYPE, JSON);
    parts.headers.insert(header::CONTENT_LENGTH, body.len().into());
    Response::from_parts(parts, body.into())
}
