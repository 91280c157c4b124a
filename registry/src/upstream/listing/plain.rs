//! The list of the distribution protocol: page after page to its end, or one request that says that nothing changed.

use std::time::Duration;

use http::header::LINK;
use http::{HeaderValue, Method, StatusCode};
use jiff::Timestamp;

use super::{ListState, Listing, Validators};
use crate::upstream::pages::{Pager, Progress};
use crate::upstream::session::{Question, Session};
use crate::upstream::transport::Answer;
use crate::upstream::{ErrorKind, Operation, Stage, TagList, UpstreamError, Urgency};

/// Bound of one page of tags, in bytes: some registries list everything, with extras, on one.
pub const MAX_TAG_PAGE_BYTES: u64 = 32 * 1024 * 1024;

/// A registry's word that nothing has changed is taken for so long after it has sent the list: then it has to send it
/// again, lest one that keeps saying so be believed for ever.
const LONGEST_UNSENT: Duration = Duration::from_hours(24);

/// Sizes of pages are multiples of this: a list of so many entries may have filled its page. Where one more then comes,
/// only the `Link` to a next page tells, and no entity tag of the page need change.
const PAGE_SIZES: usize = 50;

/// Reads the list of one repository.
#[derive(Debug)]
pub(in crate::upstream) struct PlainList<'a> {
    pub(in crate::upstream) session: &'a Session,
    pub(in crate::upstream) known: Option<&'a ListState>,
    pub(in crate::upstream) urgency: Urgency,
    /// Whether the list may say more of tags than their names, as Google's do.
    pub(in crate::upstream) may_hint: bool,
}

impl PlainList<'_> {
    /// Reads it. Of a list of several pages none is asked for conditionally: that the first has not changed says nothing
    /// of the others.
    pub(in crate::upstream) async fn read(self) -> Result<Listing, UpstreamError> {
        let now = self.session.transport.now();
        let known = self.known.filter(|known| known.is_readable());
        let mut condition =
            known.filter(|known| may_be_unsent(known, now)).and_then(|known| known.validators.as_ref());
        let mut pager = Pager::new(self.may_hint);
        let mut spent = Duration::ZERO;
        let limit = self.session.endpoint.connection.timeouts.list;
        loop {
            let query = pager.query().map(str::to_owned);
            let answer = self.ask(query.as_deref(), condition.filter(|_| pager.is_first())).await?;
            spent += answer.spent;
            if answer.status == StatusCode::NOT_MODIFIED
                && let Some(known) = known.filter(|_| condition.is_some() && pager.is_first())
            {
                return Ok(Listing::Unchanged(known.clone()));
            }
            if matches!(answer.status.as_u16(), 400 | 405) && pager.drop_page_size() {
                condition = None;
                continue;
            }
            let was_first = pager.is_first();
            let progress = Self::accept(&mut pager, &answer);
            if progress.map_err(|kind| self.error(kind))? == Progress::End {
                let is_full = pager.listed() > 0 && pager.listed().is_multiple_of(PAGE_SIZES);
                let validators = Validators::of(&answer.headers).filter(|_| was_first && !is_full);
                return Ok(compared(known, pager.into_list(), validators, now));
            }
            if spent > limit {
                return Err(self.error(ErrorKind::Timeout { stage: Stage::Total, limit }));
            }
        }
    }

    async fn ask(
        &self,
        query: Option<&str>,
        condition: Option<&Validators>,
    ) -> Result<Answer, UpstreamError> {
        let question = Question {
            operation: Operation::Tags,
            urgency: self.urgency,
            method: Method::GET,
            path: "tags/list",
            query,
            accept: Some(HeaderValue::from_static("application/json")),
            condition: condition.and_then(Validators::condition),
            max_body: MAX_TAG_PAGE_BYTES,
        };
        self.session.ask(&question).await
    }

    fn accept(pager: &mut Pager, answer: &Answer) -> Result<Progress, ErrorKind> {
        if !answer.status.is_success() {
            return Err(match answer.failure() {
                // The list had begun: the repository is there.
                ErrorKind::NotFound { .. } if !pager.is_first() => ErrorKind::Protocol {
                    message: "a page of tags that was promised is not there".to_owned(),
                },
                failure => failure,
            });
        }
        let mut links = Vec::new();
        for link in answer.headers.get_all(LINK) {
            links.push(
                str::from_utf8(link.as_bytes()).map_err(|_| ErrorKind::Protocol {
                    message: "a Link header that is not text".to_owned(),
                })?,
            );
        }
        pager.accept(&answer.body, links)
    }

    fn error(&self, kind: ErrorKind) -> UpstreamError {
        self.session.error(Operation::Tags, kind)
    }
}

fn may_be_unsent(known: &ListState, now: Timestamp) -> bool {
    known.sent_at.is_some_and(|sent| sent <= now && now < sent + LONGEST_UNSENT)
}

/// The list that was read, or that it says what the known one said.
fn compared(
    known: Option<&ListState>,
    list: TagList,
    validators: Option<Validators>,
    now: Timestamp,
) -> Listing {
    let state = ListState::of(&list).sent(now, validators);
    if known.is_some_and(|known| known.says_the_same(&state)) {
        Listing::Unchanged(state)
    } else {
        Listing::Whole(list, state)
    }
}
