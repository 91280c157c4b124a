//! Amazon's `DescribeImages`, with the identity of this process: all tags, in no order, so that all of it is read each time. A
//! thousand images stand on a page.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Cursor, HintSource, MAX_OWN_PAGES, Newer, Setback, TagHint, TagList, hash_of_hints, setback};
use crate::credentials::Credentials;
use crate::credentials::cloud::{EcrApis, EcrFailure, EcrTag};
use crate::upstream::budget::{Draw, RequestKind};
use crate::upstream::listed_tags::MAX_TAGS;
use crate::upstream::session::Session;
use crate::upstream::{ErrorKind, Operation, Outcome, Stage, UpstreamError, Urgency};
use crate::{Tag, words};

/// The identity of this process, in errors.
const IDENTITY: &str = "Amazon's identity of this process";

#[derive(Debug)]
pub(super) struct Ecr {
    pub(super) apis: Arc<EcrApis>,
}

impl Ecr {
    /// Reads all of it; what is told is all or, where nothing has changed, nothing new.
    pub(super) async fn newer(
        &self,
        session: &Session,
        known: Option<&Cursor>,
        urgency: Urgency,
    ) -> Result<Newer, Setback> {
        let limit = session.endpoint.connection.timeouts.list;
        let mut spent = Duration::ZERO;
        let mut hints = BTreeMap::new();
        let mut next: Option<String> = None;
        let mut is_complete = false;
        for _ in 0..MAX_OWN_PAGES {
            let (tags, after) =
                self.page(session, next.as_deref(), urgency, &mut spent).await.map_err(setback)?;
            for listed in tags {
                let (tag, hint) =
                    hint(listed).map_err(|kind| setback(session.error(Operation::Tags, kind)))?;
                hints.entry(tag).or_insert(hint);
            }
            next = after;
            is_complete = next.is_none();
            if is_complete || hints.len() >= MAX_TAGS {
                break;
            }
            if spent > limit {
                let kind = ErrorKind::Timeout { stage: Stage::Total, limit };
                return Err(setback(session.error(Operation::Tags, kind)));
            }
        }
        Ok(newer(hints, known, is_complete))
    }

    async fn page(
        &self,
        session: &Session,
        next: Option<&str>,
        urgency: Urgency,
        spent: &mut Duration,
    ) -> Result<(Vec<EcrTag>, Option<String>), UpstreamError> {
        let queued = Instant::now();
        let draw = Draw {
            kind: RequestKind::Registry,
            urgency,
            identity: &Credentials::Anonymous.identity(),
            repository: Some(&session.name),
            is_manifest_get: false,
        };
        let host = &session.host;
        let permit = host.budget.acquire(&draw).await;
        // It says nothing of how the registry itself stands: that is not who answers.
        let _permit = permit.map_err(|kind| session.error(Operation::Tags, kind))?;
        let recording = session.transport.recording(host, Operation::Tags, queued.elapsed());
        let asked = Instant::now();
        let page = self.apis.tags(&host.name, session.name.path(), next).await;
        *spent += asked.elapsed();
        match page {
            Ok(page) => {
                recording.end(Outcome::Ok);
                Ok(page)
            }
            Err(failure) => {
                let kind = kind_of(failure);
                recording.end(Outcome::Failed(kind.class()));
                Err(session.error(Operation::Tags, kind))
            }
        }
    }
}

fn kind_of(failure: EcrFailure) -> ErrorKind {
    match failure {
        EcrFailure::Denied(said) => {
            ErrorKind::Denied { credentials: IDENTITY.to_owned(), message: Some(said) }
        }
        EcrFailure::Missing(said) => ErrorKind::NotFound { message: Some(said) },
        EcrFailure::Status(status, said) if status < 500 => {
            ErrorKind::Rejected { status, message: Some(said) }
        }
        EcrFailure::Status(status, said) => ErrorKind::Unavailable { status, message: Some(said) },
        EcrFailure::Timeout(limit) => ErrorKind::Timeout { stage: Stage::Total, limit },
        EcrFailure::Other(message) => ErrorKind::Transport { message },
    }
}

fn hint(EcrTag { tag, digest, pushed_at }: EcrTag) -> Result<(Tag, TagHint), ErrorKind> {
    let unexpected = |what: &str| ErrorKind::Protocol {
        message: words::printable(&format!("Amazon's own list of tags: {what} that is none")),
    };
    let tag: Tag = tag.parse().map_err(|_| unexpected("a tag"))?;
    let digest = digest.and_then(|digest| digest.parse().ok()).ok_or_else(|| unexpected("a digest"))?;
    Ok((tag, TagHint { digest: Some(digest), pushed_at, source: HintSource::Ecr }))
}

fn newer(hints: BTreeMap<Tag, TagHint>, known: Option<&Cursor>, is_complete: bool) -> Newer {
    let at = hints.values().filter_map(|hint| hint.pushed_at).max().unwrap_or(Timestamp::UNIX_EPOCH);
    let cursor = Some(Cursor { at, hash: hash_of_hints(&hints) });
    let is_unchanged = cursor.as_ref() == known;
    let tags = hints.keys().cloned().collect();
    Newer { list: TagList { tags, hints, invalid: 0 }, cursor, is_unchanged, is_complete }
}
