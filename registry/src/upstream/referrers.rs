//! What refers to a manifest, such as its signatures and SBOMs (OCI distribution-spec 1.1, "Listing Referrers").
//!
//! It is asked of the registry's API, page after page; a registry without one is asked for the tag under which clients
//! keep the list instead. Invariants:
//! - of a `Link` only the query string is used, on the path that we asked ourselves, as with lists of tags;
//! - what is returned is whole, or an error; pages, referrers and bytes are bounded;
//! - where the registry does not choose by the type of artifact, we do.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LINK};
use http::{HeaderMap, HeaderValue, Method};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::http::{MAX_MANIFEST_BYTES, announced_digest, document};
use super::media_type::{self, OCI_INDEX};
use super::pages::query_of;
use super::session::{Question, Session};
use super::transport::Answer;
use super::{Document, ErrorKind, Operation, Stage, UpstreamError, Urgency, link};
use crate::{Digest, json, words};

/// How many pages what refers to one manifest may have.
const MAX_REFERRER_PAGES: usize = 100;
/// How much may refer to one manifest.
const MAX_REFERRERS: usize = 10_000;
/// Digits of a digest in the tag that is made from it (OCI distribution-spec, "Referrers Tag Schema").
const TAG_DIGITS: usize = 64;

/// Says by which parameters the registry has chosen.
const OCI_FILTERS_APPLIED: &str = "oci-filters-applied";

/// Asks what refers to one manifest.
#[derive(Debug)]
pub(super) struct Referrers<'a> {
    pub(super) session: &'a Session,
    pub(super) subject: &'a Digest,
    /// Only artifacts of this type.
    pub(super) artifact_type: Option<&'a str>,
    pub(super) urgency: Urgency,
    /// Whether it means that there are no referrers if neither the API nor the tag is known there.
    pub(super) may_say_none: bool,
}

impl Referrers<'_> {
    /// The whole list, as an index.
    pub(super) async fn read(self) -> Result<Document, UpstreamError> {
        let mut found = Found::default();
        let mut query = self.artifact_type.map(|artifact_type| {
            url::form_urlencoded::Serializer::new(String::new())
                .append_pair("artifactType", artifact_type)
                .finish()
        });
        let path = format!("referrers/{}", self.subject);
        let mut spent = Duration::ZERO;
        let limit = self.session.transport.options.list_timeout;
        loop {
            let answer = self.ask(&path, query.as_deref(), OCI_INDEX).await?;
            spent += answer.spent;
            if found.pages == 0 && is_unsupported(&answer) {
                return self.by_tag().await;
            }
            if !answer.status.is_success() {
                return Err(self.error(answer.failure()));
            }
            let next = found.accept_page(&answer, self.artifact_type).map_err(|kind| self.error(kind))?;
            let Some(next) = next else { return Ok(found.into_document()) };
            if spent > limit {
                return Err(self.error(ErrorKind::Timeout { stage: Stage::Total, limit }));
            }
            query = Some(next);
        }
    }

    /// The list that clients keep under a tag. Where there is no such tag, nothing refers to the manifest,
    /// unless that may mean that the repository is not known there.
    async fn by_tag(&self) -> Result<Document, UpstreamError> {
        let hex = self.subject.hex();
        let digits = hex.get(..TAG_DIGITS).unwrap_or(&hex);
        let path = format!("manifests/{}-{digits}", self.subject.algorithm());
        let answer = self.ask(&path, None, media_type::ACCEPT_MANIFESTS).await?;
        let mut found = Found::default();
        if answer.status.as_u16() != 404 || !self.may_say_none {
            if !answer.status.is_success() {
                return Err(self.error(answer.failure()));
            }
            let header = content_type(&answer.headers);
            let announced = announced_digest(&answer.headers);
            document(header, None, announced, answer.body)
                .and_then(|document| found.accept(&document.media_type, document.bytes, self.artifact_type))
                .map_err(|kind| self.error(kind))?;
        }
        Ok(found.into_document())
    }

    async fn ask(
        &self,
        path: &str,
        query: Option<&str>,
        accept: &'static str,
    ) -> Result<Answer, UpstreamError> {
        let question = Question {
            operation: Operation::Referrers,
            urgency: self.urgency,
            method: Method::GET,
            path,
            query,
            accept: Some(HeaderValue::from_static(accept)),
            condition: None,
            max_body: MAX_MANIFEST_BYTES,
        };
        self.session.ask(&question).await
    }

    fn error(&self, kind: ErrorKind) -> UpstreamError {
        self.session.error(Operation::Referrers, kind)
    }
}

/// Whether the registry does not know the question. The specification has 404 for that; others are what registries older
/// than the question answer to a path that they do not know.
fn is_unsupported(answer: &Answer) -> bool {
    matches!(answer.status.as_u16(), 400 | 404 | 405 | 501)
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok())
}

/// What was found so far.
#[derive(Debug, Default)]
struct Found {
    /// The descriptors, as the registry wrote them.
    referrers: Vec<Box<RawValue>>,
    known: HashSet<Digest>,
    pages: usize,
    /// Of all pages together.
    bytes: usize,
    /// The answer, if it is the only one and all of it counts.
    whole: Option<Bytes>,
}

#[derive(Deserialize)]
struct Page {
    manifests: Vec<Box<RawValue>>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
}

/// What has to be in a descriptor.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Referrer<'a> {
    digest: Digest,
    #[serde(rename = "size")]
    _size: u64,
    #[serde(borrow)]
    artifact_type: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexJson<'a> {
    schema_version: u8,
    media_type: &'static str,
    manifests: &'a [Box<RawValue>],
}

impl Found {
    /// Takes over one page of the API's. The query of the next one, where there is one.
    fn accept_page(
        &mut self,
        answer: &Answer,
        artifact_type: Option<&str>,
    ) -> Result<Option<String>, ErrorKind> {
        let is_chosen = |value: &HeaderValue| {
            value
                .to_str()
                .is_ok_and(|filters| filters.split(',').any(|filter| filter.trim() == "artifactType"))
        };
        let is_filtered = answer.headers.get_all(OCI_FILTERS_APPLIED).iter().any(is_chosen);
        let media_type = media_type::of_manifest(content_type(&answer.headers), &answer.body);
        let media_type = media_type.map_err(|reason| protocol(reason.to_owned()))?;
        let known_before = self.known.len();
        self.accept(&media_type, answer.body.clone(), artifact_type.filter(|_| !is_filtered))?;
        let next = next_query(&answer.headers)?;
        if next.is_some() {
            self.whole = None;
            if self.known.len() == known_before {
                return Err(protocol(
                    "a page that brings no new referrer but promises another page".to_owned(),
                ));
            }
            if self.pages == MAX_REFERRER_PAGES {
                return Err(protocol(format!("more than {MAX_REFERRER_PAGES} pages of referrers")));
            }
        }
        Ok(next)
    }

    /// Takes over one index, of which only what is of a type may be wanted.
    fn accept(
        &mut self,
        media_type: &str,
        bytes: Bytes,
        artifact_type: Option<&str>,
    ) -> Result<(), ErrorKind> {
        if media_type != OCI_INDEX {
            return Err(protocol(format!("not an index of referrers but {media_type}")));
        }
        self.pages += 1;
        self.bytes += bytes.len();
        if self.bytes as u64 > MAX_MANIFEST_BYTES {
            return Err(ErrorKind::TooLarge { limit: MAX_MANIFEST_BYTES });
        }
        let page: Page = json::object(&bytes).map_err(|error| not_referrers(&error))?;
        // A document that can be read in two ways must not be read in either (CVE-2021-41190).
        if page.config.is_some() || page.layers.is_some() {
            return Err(not_referrers(&"it also has a configuration or layers"));
        }
        let listed = page.manifests.len();
        let before = self.referrers.len();
        for raw in page.manifests {
            let referrer: Referrer<'_> =
                json::object(raw.get().as_bytes()).map_err(|error| not_referrers(&error))?;
            let is_wanted =
                artifact_type.is_none_or(|wanted| referrer.artifact_type.as_deref() == Some(wanted));
            if self.known.insert(referrer.digest) && is_wanted {
                self.referrers.push(raw);
            }
        }
        if self.known.len() > MAX_REFERRERS {
            return Err(protocol(format!("more than {MAX_REFERRERS} referrers")));
        }
        let all_counts = self.pages == 1 && self.referrers.len() - before == listed;
        self.whole = all_counts.then_some(bytes);
        Ok(())
    }

    /// One index of all that was found: the registry's own where that says it.
    fn into_document(self) -> Document {
        let bytes = self.whole.unwrap_or_else(|| {
            let index = IndexJson { schema_version: 2, media_type: OCI_INDEX, manifests: &self.referrers };
            serde_json::to_vec(&index).expect("what was JSON becomes JSON").into()
        });
        Document { digest: Digest::sha256(&bytes), media_type: OCI_INDEX.to_owned(), bytes }
    }
}

/// The query of the page that the headers promise.
fn next_query(headers: &HeaderMap) -> Result<Option<String>, ErrorKind> {
    let links = headers.get_all(LINK).iter().map(|link| str::from_utf8(link.as_bytes()));
    let links: Vec<&str> =
        links.collect::<Result<_, _>>().map_err(|_| protocol("a Link header that is not text".to_owned()))?;
    let next = link::next(links).map_err(|_| protocol("a Link header that cannot be read".to_owned()))?;
    let Some(target) = next else { return Ok(None) };
    let query =
        query_of(target).ok_or_else(|| protocol("a Link to the next page without a query".to_owned()))?;
    Ok(Some(query.to_owned()))
}

fn not_referrers(reason: &dyn ToString) -> ErrorKind {
    protocol(format!("not an index of referrers: {}", reason.to_string()))
}

fn protocol(message: String) -> ErrorKind {
    ErrorKind::Protocol { message: words::printable(&message) }
}

#[cfg(test)]
mod tests;
