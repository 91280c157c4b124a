//! Misbehaviour on command: which requests it befalls, and what it is.

use std::time::Duration;

use bytes::Bytes;

use super::record::{Recorded, RequestKind};

/// Which requests a fault befalls: those that fit everything that was said.
///
/// Of several faults that fit, the one that was added first and has not been used up befalls the request. A request
/// that authentication refuses meets no fault and uses none up.
#[derive(Debug, Clone)]
pub struct Fault {
    kind: RequestKind,
    repository: Option<String>,
    reference: Option<String>,
    query_part: Option<String>,
    skipped: usize,
    times: Option<usize>,
}

impl Fault {
    /// Befalls every request of this kind.
    pub fn on(kind: RequestKind) -> Self {
        Self { kind, repository: None, reference: None, query_part: None, skipped: 0, times: None }
    }

    /// Only requests for this repository.
    #[must_use]
    pub fn repository(mut self, repository: impl Into<String>) -> Self {
        self.repository = Some(repository.into());
        self
    }

    /// Only requests whose path names this tag or digest.
    #[must_use]
    pub fn reference(mut self, reference: impl Into<String>) -> Self {
        self.reference = Some(reference.into());
        self
    }

    /// Only requests whose query contains this text as it was sent: `last=` for all pages but the first.
    #[must_use]
    pub fn query_containing(mut self, part: impl Into<String>) -> Self {
        self.query_part = Some(part.into());
        self
    }

    /// Lets the first `requests` that fit pass unharmed.
    #[must_use]
    pub fn after(mut self, requests: usize) -> Self {
        self.skipped = requests;
        self
    }

    /// Befalls only this many requests.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = Some(times);
        self
    }

    fn fits(&self, request: &Recorded) -> bool {
        self.kind == request.kind
            && self.repository.as_ref().is_none_or(|wanted| request.repository.as_ref() == Some(wanted))
            && self.reference.as_ref().is_none_or(|wanted| request.reference.as_ref() == Some(wanted))
            && self.query_part.as_ref().is_none_or(|part| request.query.contains(part))
    }
}

/// What happens instead of the right answer, or to it.
#[derive(Debug, Clone)]
pub enum Action {
    /// Another status, these headers besides the usual ones, and this body.
    Status {
        /// The status code.
        code: u16,
        /// Further headers.
        headers: Vec<(String, String)>,
        /// The body, as `application/json`.
        body: String,
    },
    /// 429.
    TooManyRequests {
        /// The `Retry-After` header, as it is.
        retry_after: Option<String>,
        /// The body, as `text/plain`.
        body: String,
    },
    /// Nothing is sent, until the client goes away.
    HangBeforeHeader,
    /// The header and this many bytes of the body are sent, then nothing until the client goes away.
    HangInBody {
        /// Bytes of the body that arrive.
        after: usize,
    },
    /// The header and this many bytes of the body are sent, then the connection is closed, short of `Content-Length`.
    CutBody {
        /// Bytes of the body that arrive.
        after: usize,
    },
    /// The right header, but a body in which one byte is another.
    WrongBytes,
    /// The right body under a `Docker-Content-Digest` that is not its own.
    WrongDigestHeader,
    /// The right answer without `Docker-Content-Digest`.
    NoDigestHeader,
    /// The right answer, this much later by tokio's clock.
    Delay(Duration),
    /// 200 with another body; `Docker-Content-Digest`, where there is one, is that of the body.
    Body {
        /// The `Content-Type`.
        content_type: String,
        /// The body.
        bytes: Bytes,
    },
    /// 200 and a body that never ends, without `Content-Length`.
    EndlessBody,
    /// A page of new tags, and a `Link` to one more, every time.
    EndlessPages,
    /// The same page of tags, and a `Link` to one more, every time.
    RepeatedPage,
    /// The right answer with a `Link` to this URL as the next page.
    LinkTo(String),
    /// 307 to this URL.
    RedirectTo(String),
    /// These bytes in place of the whole answer, status line and headers included; then the connection is closed.
    Raw(Bytes),
    /// The connection is closed without an answer.
    CloseConnection,
}

impl Action {
    /// This status with no further headers and no body.
    pub fn status(code: u16) -> Self {
        Self::Status { code, headers: Vec::new(), body: String::new() }
    }

    /// This status with the error shape of the distribution specification.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({"errors": [{"code": code, "message": message, "detail": null}]});
        Self::Status { code: status, headers: Vec::new(), body: body.to_string() }
    }

    /// 200 with this body.
    pub fn body(content_type: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self::Body { content_type: content_type.into(), bytes: bytes.into() }
    }

    /// 429 that asks to wait for this many seconds.
    pub fn too_many_requests(retry_after_seconds: u64) -> Self {
        Self::TooManyRequests {
            retry_after: Some(retry_after_seconds.to_string()),
            body: "too many requests\n".to_owned(),
        }
    }
}

/// The faults that were ordered, in order.
#[derive(Debug, Default)]
pub(super) struct Faults {
    ordered: Vec<(Fault, Action)>,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault, action: Action) {
        self.ordered.push((fault, action));
    }

    pub(super) fn clear(&mut self) {
        self.ordered.clear();
    }

    /// What befalls this request, counted as used.
    pub(super) fn take(&mut self, request: &Recorded) -> Option<Action> {
        for (fault, action) in &mut self.ordered {
            if fault.times == Some(0) || !fault.fits(request) {
                continue;
            }
            if fault.skipped > 0 {
                fault.skipped -= 1;
                continue;
            }
            if let Some(times) = &mut fault.times {
                *times -= 1;
            }
            return Some(action.clone());
        }
        None
    }
}
