//! The interfaces of their own in which some registries list tags by when they changed, the last first: what has changed
//! since the last time is on the first page. Amazon's is in no order, and read to its end.
//!
//! Invariants:
//! - nothing of such a list takes a tag away: a tag that is gone does not stand in it, and one may be missed while pages
//!   move. The list of the distribution protocol is read first of all, and again every hour at least;
//! - whatever is not as expected ends the reading, and the other list is read;
//! - of what an answer says about the next page only what it says about paging is used: the URL is always ours.

use std::collections::BTreeMap;
use std::fmt::Debug;
#[cfg(feature = "aws")]
use std::sync::Arc;
use std::time::Duration;

use http::header::LINK;
use http::{HeaderMap, HeaderValue, Method};
use jiff::Timestamp;

use super::state::{Cursor, hash_of_hints};
use super::{HintSource, ListState, TagHint, TagList};
#[cfg(feature = "aws")]
use crate::credentials::cloud::EcrApis;
use crate::upstream::budget::RequestKind;
use crate::upstream::session::{Question, Session};
use crate::upstream::{ErrorClass, ErrorKind, Operation, Stage, UpstreamError, Urgency, link};
use crate::words;
use crate::{Name, Tag};

pub(in crate::upstream) use standing::Standing;

mod acr;
mod docker_hub;
#[cfg(feature = "aws")]
mod ecr;
mod harbor;
mod quay;
mod standing;

/// Bound of one page of a registry's own list, in bytes.
const MAX_OWN_PAGE_BYTES: u64 = 8 * 1024 * 1024;
/// How many pages of a registry's own list are read at a time; what changed before is for the list of the protocol.
const MAX_OWN_PAGES: usize = 100;
/// How many tags such a page is asked for.
const OWN_PAGE_SIZE: usize = 100;

/// How one registry's own list is asked for and read.
pub(super) trait Dialect: Debug + Sync {
    fn source(&self) -> HintSource;

    /// The path from the root; `None` where a repository of this name can have no such list.
    fn path(&self, name: &Name) -> Option<String>;

    /// The query of the first page.
    fn first_query(&self) -> String;

    /// Whether it is asked for with the registry's login; else without any.
    fn with_login(&self) -> bool {
        false
    }

    /// Reads a page; `read` pages came before. An error says what is not as expected.
    fn page(&self, body: &[u8], headers: &HeaderMap, read: usize) -> Result<Page, String>;
}

/// One page.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) entries: Vec<Entry>,
    /// The query of the next one, if there is one.
    pub(super) next: Option<String>,
}

/// What a page says of one tag.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) tag: Tag,
    /// By which the list is ordered.
    pub(super) changed_at: Timestamp,
    pub(super) hint: TagHint,
}

/// The own list of one repository's registry.
#[derive(Debug)]
pub(in crate::upstream) struct OwnList {
    way: Way,
    /// With whom it is spoken: the registry itself, or a host beside it.
    session: Session,
}

/// How it is read.
#[derive(Debug)]
enum Way {
    /// The last change first, at this path.
    ByChange(&'static dyn Dialect, String),
    #[cfg(feature = "aws")]
    Ecr(ecr::Ecr),
}

/// Why the list could not be read.
#[derive(Debug)]
pub(super) struct Setback {
    pub(super) error: UpstreamError,
    /// It is this repository that is not for everybody there; nothing is wrong with the host.
    pub(super) is_of_repository: bool,
}

/// What has changed.
#[derive(Debug)]
pub(super) struct Newer {
    pub(super) list: TagList,
    pub(super) cursor: Option<Cursor>,
    /// Nothing but what was known already.
    pub(super) is_unchanged: bool,
    /// The list ended, or what was known was reached.
    pub(super) is_complete: bool,
}

impl OwnList {
    pub(in crate::upstream) fn new(source: HintSource, name: &Name, session: Session) -> Option<Self> {
        let dialect: &'static dyn Dialect = match source {
            HintSource::Google | HintSource::Ecr => return None,
            HintSource::DockerHub => &docker_hub::DockerHub,
            HintSource::Quay => &quay::Quay,
            HintSource::Acr => &acr::Acr,
            HintSource::Harbor => &harbor::Harbor,
        };
        Some(Self { way: Way::ByChange(dialect, dialect.path(name)?), session })
    }

    /// Amazon's.
    #[cfg(feature = "aws")]
    pub(in crate::upstream) fn of_ecr(apis: Arc<EcrApis>, session: Session) -> Self {
        Self { way: Way::Ecr(ecr::Ecr { apis }), session }
    }

    /// Whether to ask for it now: it has not failed lately, and whoever gives it does not want to be left alone.
    pub(super) fn may_be_tried(&self) -> bool {
        let host = &self.session.host;
        host.own_list.may_be_tried() && host.budget.blocked_for(RequestKind::Registry).is_none()
    }

    /// It could be read.
    pub(super) fn worked(&self) {
        self.session.host.own_list.worked(&self.session.host.name);
    }

    /// It could not be read, for a reason that is not the repository's.
    pub(super) fn failed(&self, setback: &Setback) {
        self.session.host.own_list.failed(&self.session.host.name, setback);
    }

    /// Reads from the newest change on until what was known is reached.
    pub(super) async fn newer(&self, known: &ListState, urgency: Urgency) -> Result<Newer, Setback> {
        let known = known.own.cursor.as_ref();
        match &self.way {
            Way::ByChange(dialect, path) => self.by_change(*dialect, path, known, urgency).await,
            #[cfg(feature = "aws")]
            Way::Ecr(ecr) => ecr.newer(&self.session, known, urgency).await,
        }
    }

    async fn by_change(
        &self,
        dialect: &dyn Dialect,
        path: &str,
        known: Option<&Cursor>,
        urgency: Urgency,
    ) -> Result<Newer, Setback> {
        let mut reading = Reading::default();
        let limit = self.session.endpoint.connection.timeouts.list;
        let mut spent = Duration::ZERO;
        let mut query = dialect.first_query();
        for read in 0..MAX_OWN_PAGES {
            let question = Question {
                operation: Operation::Tags,
                urgency,
                method: Method::GET,
                path,
                query: Some(&query),
                accept: Some(HeaderValue::from_static("application/json")),
                condition: None,
                max_body: MAX_OWN_PAGE_BYTES,
            };
            let answer = if dialect.with_login() {
                self.session.ask(&question).await
            } else {
                self.session.ask_openly(&question).await
            };
            let answer = answer.map_err(setback)?;
            spent += answer.spent;
            if !answer.status.is_success() {
                let setback = self.setback(answer.failure());
                let is_of_repository = matches!(answer.status.as_u16(), 401 | 403 | 404);
                return Err(Setback { is_of_repository, ..setback });
            }
            let page = dialect.page(&answer.body, &answer.headers, read);
            let page = page.map_err(|reason| self.surprise(dialect, &reason))?;
            if reading.take(page.entries, known).map_err(|reason| self.surprise(dialect, reason))? {
                return Ok(reading.newer(known, true));
            }
            match page.next {
                None => return Ok(reading.newer(known, true)),
                Some(next) => query = next,
            }
            if spent > limit {
                return Err(self.setback(ErrorKind::Timeout { stage: Stage::Total, limit }));
            }
        }
        Ok(reading.newer(known, false))
    }

    fn surprise(&self, dialect: &dyn Dialect, reason: &str) -> Setback {
        let message = words::printable(&format!("{:?}'s own list of tags: {reason}", dialect.source()));
        self.setback(ErrorKind::Protocol { message })
    }

    fn setback(&self, kind: ErrorKind) -> Setback {
        setback(self.session.error(Operation::Tags, kind))
    }
}

fn setback(error: UpstreamError) -> Setback {
    let is_of_repository = matches!(error.kind.class(), ErrorClass::Unauthorized | ErrorClass::NotFound);
    Setback { error, is_of_repository }
}

/// What was read so far.
#[derive(Debug, Default)]
struct Reading {
    hints: BTreeMap<Tag, TagHint>,
    /// Those of the moment of the newest change.
    newest: BTreeMap<Tag, TagHint>,
    newest_at: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Reading {
    /// Takes the entries of a page. Says whether what was known is reached.
    fn take(&mut self, entries: Vec<Entry>, known: Option<&Cursor>) -> Result<bool, &'static str> {
        for Entry { tag, changed_at, hint } in entries {
            if self.last.is_some_and(|last| last < changed_at) {
                return Err("it is not in the order of change");
            }
            self.last = Some(changed_at);
            if known.is_some_and(|known| changed_at < known.at) {
                return Ok(true);
            }
            if *self.newest_at.get_or_insert(changed_at) == changed_at {
                self.newest.entry(tag.clone()).or_insert_with(|| hint.clone());
            }
            // Pages move while they are read: what was said first is newer.
            self.hints.entry(tag).or_insert(hint);
        }
        Ok(false)
    }

    fn newer(self, known: Option<&Cursor>, is_complete: bool) -> Newer {
        let cursor = self.newest_at.map(|at| Cursor { at, hash: hash_of_hints(&self.newest) });
        let is_unchanged =
            self.hints.len() == self.newest.len() && (cursor.is_none() || cursor.as_ref() == known);
        let tags = self.hints.keys().cloned().collect();
        let list = TagList { tags, hints: self.hints, invalid: 0 };
        Newer { list, cursor: cursor.or_else(|| known.cloned()), is_unchanged, is_complete }
    }
}

/// The query of the next page in a `Link` header.
fn linked_query(headers: &HeaderMap) -> Result<Option<String>, String> {
    let values: Vec<&str> = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok()).collect();
    let target = link::next(values).map_err(|_| "a Link header that cannot be read".to_owned())?;
    let Some(target) = target else { return Ok(None) };
    let query = target.split_once('?').map(|(_, query)| query.to_owned());
    query.map(Some).ok_or_else(|| "a Link to the next page without a query".to_owned())
}

#[cfg(test)]
mod tests;
