//! An answer before it is sent, and what faults make of it.

use std::convert::Infallible;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};

use super::fault::Action;
use super::paging::page_of;
use super::record::UnderWay;
use super::serve::RawAnswer;
use crate::content::{Document, digest_of};

const DIGEST_HEADER: &str = "docker-content-digest";
/// What [`Action::EndlessBody`] repeats: white space, so that a JSON parser has no reason to stop.
const FILLER: &[u8] = &[b' '; 64 * 1024];
/// Tags on each page of [`Action::EndlessPages`] and [`Action::RepeatedPage`].
const TAGS_PER_ENDLESS_PAGE: usize = 10;

/// Status, headers and body, and how the body is sent.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: HeaderMap,
    body: Bytes,
    delivery: Delivery,
    raw: Option<RawAnswer>,
}

/// What becomes of the body on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivery {
    Whole,
    /// This many bytes, then nothing.
    HangsAfter(usize),
    /// This many bytes, then the connection is closed.
    CutAfter(usize),
    Endless,
    /// Whole, in chunks: without `Content-Length`.
    Chunked,
}

impl Answer {
    pub(super) fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let mut answer = Self {
            status,
            headers: HeaderMap::new(),
            body: body.into(),
            delivery: Delivery::Whole,
            raw: None,
        };
        answer.set("content-type", content_type);
        answer
    }

    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json; charset=utf-8", body.to_string())
    }

    /// This status, these headers and this body, as `application/json` unless the headers say otherwise.
    pub(super) fn status(code: u16, headers: &[(String, String)], body: &str) -> Self {
        let mut answer = Self::new(code, "application/json; charset=utf-8", body.to_owned());
        for (name, value) in headers {
            answer.add(name, value);
        }
        answer
    }

    /// What was ordered in place of the right answer.
    pub(super) fn ordered(action: &Action) -> Self {
        let nowhere = PageAddress { repository: "", number: 0 };
        Self::new(200, "text/plain; charset=utf-8", "").befallen_by(action, &nowhere)
    }

    /// The error shape of the distribution specification.
    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::json(status, &json!({"errors": [{"code": code, "message": message, "detail": null}]}))
    }

    pub(super) fn document(document: &Document) -> Self {
        let mut answer = Self::new(200, &document.media_type, document.bytes.clone());
        answer.set(DIGEST_HEADER, &document.digest);
        answer
    }

    /// Blobs have no type of their own on the wire.
    pub(super) fn blob(blob: &Document) -> Self {
        let mut answer = Self::document(blob);
        answer.set("content-type", "application/octet-stream");
        answer
    }

    /// Sets a header, in place of those of that name.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        let (name, value) = header(name, value);
        self.headers.insert(name, value);
    }

    /// Adds a header beside those of that name; there can only be one `Content-Type`.
    pub(super) fn add(&mut self, name: &str, value: &str) {
        let (name, value) = header(name, value);
        if name == http::header::CONTENT_TYPE {
            self.headers.insert(name, value);
        } else {
            self.headers.append(name, value);
        }
    }

    /// Does not say what its digest is.
    pub(super) fn without_digest(mut self) -> Self {
        self.headers.remove(DIGEST_HEADER);
        self
    }

    /// The body is sent in chunks, and its length is not announced.
    pub(super) fn in_chunks(&mut self) {
        self.delivery = Delivery::Chunked;
    }

    /// What a fault makes of the answer. Those that concern time or the connection are not its business.
    pub(super) fn befallen_by(mut self, action: &Action, page_address: &PageAddress<'_>) -> Self {
        match action {
            Action::Status { code, headers, body } => {
                return Self::status(*code, headers, body);
            }
            Action::TooManyRequests { retry_after, body } => {
                let mut answer = Self::new(429, "text/plain; charset=utf-8", body.clone());
                if let Some(retry_after) = retry_after {
                    answer.set("retry-after", retry_after);
                }
                return answer;
            }
            Action::HangInBody { after } => self.delivery = Delivery::HangsAfter(*after),
            Action::CutBody { after } => self.delivery = Delivery::CutAfter(*after),
            Action::WrongBytes => self.body = with_another_byte(&self.body),
            Action::WrongDigestHeader => self.set(DIGEST_HEADER, &digest_of(b"something else")),
            Action::NoDigestHeader => return self.without_digest(),
            Action::Body { content_type, bytes } => {
                let mut answer = Self::new(200, content_type, bytes.clone());
                if self.headers.contains_key(DIGEST_HEADER) {
                    answer.set(DIGEST_HEADER, &digest_of(bytes));
                }
                return answer;
            }
            Action::EndlessBody => self.delivery = Delivery::Endless,
            Action::EndlessPages => return endless_page(page_address, page_address.number),
            Action::RepeatedPage => return endless_page(page_address, 0),
            Action::LinkTo(url) => self.set("link", &format!("<{url}>; rel=\"next\"")),
            Action::RedirectTo(url) => {
                let mut answer = Self::new(307, "text/plain; charset=utf-8", "");
                answer.set("location", url);
                return answer;
            }
            Action::Raw(bytes) => {
                let mut answer = Self::new(200, "text/plain; charset=utf-8", "");
                answer.set("connection", "close");
                answer.raw = Some(RawAnswer(bytes.clone()));
                return answer;
            }
            Action::HangBeforeHeader | Action::Delay(_) | Action::CloseConnection => {}
        }
        self
    }

    /// The answer to a request of this method. The request stays under way as long as its body is held back.
    pub(super) fn into_response(mut self, method: &Method, under_way: UnderWay) -> Response<Body> {
        under_way.answered(self.status);
        self.set("docker-distribution-api-version", "registry/2.0");
        if !matches!(self.delivery, Delivery::Endless | Delivery::Chunked) {
            self.set("content-length", &self.body.len().to_string());
        }
        let body =
            if *method == Method::HEAD { Body::empty() } else { self.delivery.body(self.body, under_way) };
        let mut response = Response::new(body);
        *response.status_mut() =
            StatusCode::from_u16(self.status).expect("a fault's status is between 100 and 999");
        *response.headers_mut() = self.headers;
        if let Some(raw) = self.raw {
            response.extensions_mut().insert(raw);
        }
        response
    }
}

impl Delivery {
    fn body(self, bytes: Bytes, under_way: UnderWay) -> Body {
        match self {
            Self::Whole => Body::from(bytes),
            Self::Chunked => Body::from_stream(stream::iter([Ok::<_, Infallible>(bytes)])),
            Self::HangsAfter(length) => Body::from_stream(
                stream::iter([Ok::<_, Infallible>(bytes.slice(..length.min(bytes.len())))])
                    .chain(stream::pending())
                    .map(move |piece| held_by(&under_way, piece)),
            ),
            Self::CutAfter(length) => {
                let beginning = bytes.slice(..length.min(bytes.len()));
                let cut = stream::once(async {
                    // An error takes the connection down with what is buffered for it: let the beginning out first.
                    tokio::task::yield_now().await;
                    Err(Cut)
                });
                Body::from_stream(
                    stream::iter([Ok(beginning)]).chain(cut).map(move |piece| held_by(&under_way, piece)),
                )
            }
            Self::Endless => Body::from_stream(
                stream::iter([Ok::<_, Infallible>(bytes)])
                    .chain(stream::repeat_with(|| Ok(Bytes::from_static(FILLER))))
                    .map(move |piece| held_by(&under_way, piece)),
            ),
        }
    }
}

fn header(name: &str, value: &str) -> (HeaderName, HeaderValue) {
    let name = name.parse().unwrap_or_else(|_| panic!("`{name}` cannot be a header's name"));
    let value =
        HeaderValue::from_str(value).unwrap_or_else(|_| panic!("`{value}` cannot be a header's value"));
    (name, value)
}

/// Passes the piece on; the closure that calls it owns `_under_way` as long as the body lives.
fn held_by<T>(_under_way: &UnderWay, piece: T) -> T {
    piece
}

/// Why a body ends early.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("cut off on command")
    }
}

impl std::error::Error for Cut {}

/// Where pages without end are found.
pub(super) struct PageAddress<'a> {
    pub(super) repository: &'a str,
    /// Different for every request.
    pub(super) number: usize,
}

fn endless_page(address: &PageAddress<'_>, number: usize) -> Answer {
    let first = number * TAGS_PER_ENDLESS_PAGE;
    let tags = (first..first + TAGS_PER_ENDLESS_PAGE).map(|tag| Value::from(format!("endless-{tag:09}")));
    let tags: Vec<Value> = tags.collect();
    let mut answer = Answer::json(200, &page_of(address.repository, &tags));
    let last = tags.last().and_then(Value::as_str).unwrap_or_default();
    let path = format!("/v2/{}/tags/list", address.repository);
    answer.set("link", &format!("<{path}?n={TAGS_PER_ENDLESS_PAGE}&last={last}>; rel=\"next\""));
    answer
}

/// The same length, another middle byte: letters and digits stay such, so that JSON mostly stays JSON.
fn with_another_byte(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    let position =
        (middle..bytes.len()).chain(0..middle).find(|position| bytes[*position].is_ascii_alphanumeric());
    if let Some(position) = position {
        bytes[position] = if bytes[position] == b'0' { b'1' } else { b'0' };
    } else if let Some(first) = bytes.first_mut() {
        *first = !*first;
    }
    bytes.into()
}
