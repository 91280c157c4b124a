//! Quay's own list, which it gives without a login for repositories that are open to all; for others it wants a token of
//! a kind that no registry login has.

use http::HeaderMap;
use jiff::Timestamp;
use serde::Deserialize;

use super::{Dialect, Entry, HintSource, OWN_PAGE_SIZE, Page, TagHint};
use crate::{Digest, Name, Tag, json};

#[derive(Debug)]
pub(super) struct Quay;

#[derive(Deserialize)]
struct Answer {
    tags: Vec<Listed>,
    has_additional: bool,
}

#[derive(Deserialize)]
struct Listed {
    name: Tag,
    /// Seconds since 1970: since when the tag points where it does.
    start_ts: i64,
    manifest_digest: Digest,
}

/// Pages are counted from 1.
fn query(page: usize) -> String {
    format!("limit={OWN_PAGE_SIZE}&page={page}&onlyActiveTags=true")
}

impl Dialect for Quay {
    fn source(&self) -> HintSource {
        HintSource::Quay
    }

    fn path(&self, name: &Name) -> Option<String> {
        Some(format!("/api/v1/repository/{}/tag/", name.path()))
    }

    fn first_query(&self) -> String {
        query(1)
    }

    fn page(&self, body: &[u8], _: &HeaderMap, read: usize) -> Result<Page, String> {
        let answer: Answer = json::object(body).map_err(|error| error.to_string())?;
        let entry = |listed: Listed| {
            let changed_at = Timestamp::from_second(listed.start_ts).map_err(|error| error.to_string())?;
            let (digest, pushed_at) = (Some(listed.manifest_digest), Some(changed_at));
            let hint = TagHint { digest, pushed_at, source: HintSource::Quay };
            Ok::<_, String>(Entry { tag: listed.name, changed_at, hint })
        };
        let entries = answer.tags.into_iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Page { entries, next: answer.has_additional.then(|| query(read + 2)) })
    }
}
