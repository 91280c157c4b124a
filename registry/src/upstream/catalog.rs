//! The list of a registry's repositories (`_catalog`), page after page to its end.
//!
//! Where it is offered it is that of the distribution project, which registries took over from there: a page of names under
//! `repositories`, asked for with `n`, and a `Link` to the next one. Invariants, as of lists of tags:
//! - of a `Link` only the query string is used, on the URL that we asked ourselves;
//! - a list is whole or an error: no failure half way, and no page that cannot be read, shortens it;
//! - it ends: pages, names and bytes are bounded, and a page that brings nothing while promising more is an error.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use http::header::LINK;
use http::{HeaderValue, Method};
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use super::pages::query_of;
use super::session::{Question, Session};
use super::transport::Answer;
use super::{ErrorKind, Operation, Stage, Urgency, link};
use crate::json::{self, IfText};
use crate::{Name, words};

/// Which token opens the list, by the distribution project's token specification.
pub(super) const SCOPE: &str = "registry:catalog:*";

/// What follows the place where a registry's API is.
pub(super) const PATH: &str = "_catalog";

/// How many names one list may have, invalid ones and repetitions included.
const MAX_REPOSITORIES: usize = 100_000;
/// Bound of one page of names, in bytes.
const MAX_CATALOG_PAGE_BYTES: u64 = 8 * 1024 * 1024;
/// How many pages one list may have.
const MAX_CATALOG_PAGES: usize = 2_000;
/// How many names a page is asked for: the most that all registries accept.
const PAGE_SIZE: usize = 1_000;

/// The repositories of a registry, as it lists them for those who ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// The repositories, ascending, each once.
    pub repositories: Vec<Name>,
    /// How many listed entries were no names of repositories and were dropped.
    pub invalid: usize,
}

/// Why the repositories of a registry are not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The registry does not list its repositories, or not for us. Asking again will not help.
    #[error("{host} does not list its repositories: {kind}")]
    CannotList {
        /// The registry, canonical.
        host: String,
        /// What it answered.
        kind: ErrorKind,
    },
    /// The list could not be read to its end.
    #[error("the repositories of {host} could not be listed: {kind}")]
    Failed {
        /// The registry, canonical.
        host: String,
        /// What went wrong.
        kind: ErrorKind,
    },
}

impl CatalogError {
    /// What a failure says of a registry: whether it does not list its repositories at all, or could not now.
    pub fn of(host: &str, kind: ErrorKind) -> Self {
        let host = host.to_owned();
        let cannot = match &kind {
            ErrorKind::Unauthorized { .. } | ErrorKind::Denied { .. } | ErrorKind::NotFound { .. } => true,
            ErrorKind::Rejected { status, .. } => matches!(status, 400 | 405),
            ErrorKind::Unavailable { status, .. } => *status == 501,
            _ => false,
        };
        if cannot { Self::CannotList { host, kind } } else { Self::Failed { host, kind } }
    }

    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        match self {
            Self::CannotList { kind, .. } | Self::Failed { kind, .. } => kind,
        }
    }
}

/// Reads the list to its end.
pub(super) async fn read(session: &Session, urgency: Urgency) -> Result<Catalog, ErrorKind> {
    let path = session.endpoint.api_path(PATH);
    let limit = session.endpoint.connection.timeouts.list;
    let mut pages = Pages::new(session.name.host());
    let mut spent = Duration::ZERO;
    loop {
        let query = pages.query.clone();
        let question = Question {
            operation: Operation::Catalog,
            urgency,
            method: Method::GET,
            path: &path,
            query: query.as_deref(),
            accept: Some(HeaderValue::from_static("application/json")),
            condition: None,
            max_body: MAX_CATALOG_PAGE_BYTES,
        };
        let answer = session.ask(&question).await.map_err(|error| error.kind)?;
        spent += answer.spent;
        // Some refuse the size of a page rather than the question.
        if matches!(answer.status.as_u16(), 400 | 405) && pages.drop_size() {
            continue;
        }
        if pages.accept(&answer)? {
            return Ok(pages.into_catalog());
        }
        if spent > limit {
            return Err(ErrorKind::Timeout { stage: Stage::Total, limit });
        }
    }
}

/// The state of reading one list.
#[derive(Debug)]
struct Pages<'a> {
    host: &'a str,
    /// The query string of the page to ask for now.
    query: Option<String>,
    may_drop_size: bool,
    read: usize,
    listed: usize,
    repositories: BTreeSet<Name>,
    invalid: usize,
}

#[derive(Deserialize)]
struct Page {
    /// Required, though it may be null: an answer without it is some other document, not an empty registry.
    repositories: Listed,
}

impl<'a> Pages<'a> {
    fn new(host: &'a str) -> Self {
        Self {
            host,
            query: Some(format!("n={PAGE_SIZE}")),
            may_drop_size: true,
            read: 0,
            listed: 0,
            repositories: BTreeSet::new(),
            invalid: 0,
        }
    }

    /// Asks for the first page without a size, once.
    fn drop_size(&mut self) -> bool {
        let worth_it = std::mem::take(&mut self.may_drop_size) && self.read == 0;
        if worth_it {
            self.query = None;
        }
        worth_it
    }

    /// Takes over one page. Says whether it was the last.
    fn accept(&mut self, answer: &Answer) -> Result<bool, ErrorKind> {
        if !answer.status.is_success() {
            return Err(match answer.failure() {
                // The list had begun: it is there.
                ErrorKind::NotFound { .. } if self.read > 0 => {
                    protocol("a page of repositories that was promised is not there")
                }
                failure => failure,
            });
        }
        let links = answer.headers.get_all(LINK).iter().map(|link| str::from_utf8(link.as_bytes()));
        let links: Vec<&str> =
            links.collect::<Result<_, _>>().map_err(|_| protocol("a Link header that is not text"))?;
        self.accept_page(&answer.body, links)
    }

    fn accept_page<'l>(
        &mut self,
        body: &[u8],
        links: impl IntoIterator<Item = &'l str>,
    ) -> Result<bool, ErrorKind> {
        let page: Page =
            json::object(body).map_err(|error| protocol(&format!("not a list of repositories: {error}")))?;
        let known_before = self.repositories.len() + self.invalid;
        self.listed += page.repositories.len();
        self.invalid += page.repositories.invalid;
        for path in page.repositories.paths {
            match format!("{}/{path}", self.host).parse::<Name>() {
                // What reads as a tag or a digest would be no name; what reads as another host cannot be one.
                Ok(name) => {
                    self.repositories.insert(name);
                }
                Err(_) => self.invalid += 1,
            }
        }
        self.read += 1;
        if self.listed > MAX_REPOSITORIES {
            return Err(protocol(&format!("more than {MAX_REPOSITORIES} repositories")));
        }
        let next = link::next(links).map_err(|_| protocol("a Link header that cannot be read"))?;
        let Some(target) = next else { return Ok(true) };
        if self.repositories.len() + self.invalid == known_before {
            return Err(protocol("a page that brings no new repository but promises another page"));
        }
        if self.read == MAX_CATALOG_PAGES {
            return Err(protocol(&format!("more than {MAX_CATALOG_PAGES} pages of repositories")));
        }
        let query = query_of(target).ok_or_else(|| protocol("a Link to the next page without a query"))?;
        self.query = Some(query.to_owned());
        Ok(false)
    }

    fn into_catalog(self) -> Catalog {
        Catalog { repositories: self.repositories.into_iter().collect(), invalid: self.invalid }
    }
}

fn protocol(message: &str) -> ErrorKind {
    ErrorKind::Protocol { message: words::printable(message) }
}

/// The `repositories` of one page; null counts as none.
#[derive(Debug, Default)]
struct Listed {
    paths: Vec<String>,
    invalid: usize,
}

impl Listed {
    fn len(&self) -> usize {
        self.paths.len() + self.invalid
    }
}

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListedVisitor)
    }
}

struct ListedVisitor;

impl<'de> Visitor<'de> for ListedVisitor {
    type Value = Listed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of names or null")
    }

    fn visit_unit<E>(self) -> Result<Listed, E> {
        Ok(Listed::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Listed, A::Error> {
        let mut listed = Listed::default();
        while let Some(IfText(path)) = entries.next_element()? {
            match path {
                Some(path) => listed.paths.push(path),
                None => listed.invalid += 1,
            }
            if listed.len() > MAX_REPOSITORIES {
                return Err(A::Error::custom(format_args!("more than {MAX_REPOSITORIES} repositories")));
            }
        }
        Ok(listed)
    }
}

#[cfg(test)]
mod tests;
