//! Harbor's list of artifacts, which it gives without a login for projects that are open to all. It is ordered by when the
//! artifact was pushed: a tag that is moved to an older one is found by the list of the protocol, or when its time comes.

use http::HeaderMap;
use jiff::Timestamp;
use serde::Deserialize;

use super::{Dialect, Entry, HintSource, OWN_PAGE_SIZE, Page, TagHint};
use crate::{Digest, Name, Tag};

#[derive(Debug)]
pub(super) struct Harbor;

#[derive(Deserialize)]
struct Artifact {
    digest: Digest,
    push_time: Timestamp,
    /// Null where it has none; but it is there.
    #[serde(deserialize_with = "Option::deserialize")]
    tags: Option<Vec<Listed>>,
}

#[derive(Deserialize)]
struct Listed {
    name: Tag,
    push_time: Option<Timestamp>,
}

/// Pages are counted from 1.
fn query(page: usize) -> String {
    format!("with_tag=true&page={page}&page_size={OWN_PAGE_SIZE}&sort=-push_time")
}

impl Dialect for Harbor {
    fn source(&self) -> HintSource {
        HintSource::Harbor
    }

    fn path(&self, name: &Name) -> Option<String> {
        let (project, repository) = name.path().split_once('/')?;
        // Encoded twice: the first decoding is that of the proxy in front.
        let repository = repository.replace('/', "%252F");
        Some(format!("/api/v2.0/projects/{project}/repositories/{repository}/artifacts"))
    }

    fn first_query(&self) -> String {
        query(1)
    }

    fn page(&self, body: &[u8], headers: &HeaderMap, read: usize) -> Result<Page, String> {
        let artifacts: Vec<Artifact> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let total = headers.get("x-total-count").and_then(|total| total.to_str().ok()?.parse::<usize>().ok());
        let total = total.ok_or("no X-Total-Count")?;
        let is_more = (read + 1) * OWN_PAGE_SIZE < total;
        let mut entries = Vec::new();
        for Artifact { digest, push_time, tags } in artifacts {
            for tag in tags.into_iter().flatten() {
                let pushed_at = tag.push_time.or(Some(push_time));
                let hint = TagHint { digest: Some(digest.clone()), pushed_at, source: HintSource::Harbor };
                entries.push(Entry { tag: tag.name, changed_at: push_time, hint });
            }
        }
        Ok(Page { entries, next: is_more.then(|| query(read + 2)) })
    }
}
