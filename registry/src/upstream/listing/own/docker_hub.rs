//! Docker Hub's own list, which `hub.docker.com` gives without a login: no pull is counted, but requests are.

use http::HeaderMap;
use jiff::Timestamp;
use serde::Deserialize;

use super::{Dialect, Entry, HintSource, OWN_PAGE_SIZE, Page, TagHint};
use crate::{Digest, Name, Tag, json};

#[derive(Debug)]
pub(super) struct DockerHub;

#[derive(Deserialize)]
struct Answer {
    /// A URL, of which only matters that it is there.
    next: Option<String>,
    results: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    name: Tag,
    last_updated: Timestamp,
    tag_last_pushed: Option<Timestamp>,
    /// Not of every tag that is old.
    digest: Option<Digest>,
}

/// Pages are counted from 1.
fn query(page: usize) -> String {
    format!("page_size={OWN_PAGE_SIZE}&page={page}&ordering=last_updated")
}

impl Dialect for DockerHub {
    fn source(&self) -> HintSource {
        HintSource::DockerHub
    }

    fn path(&self, name: &Name) -> Option<String> {
        // Two components, always.
        (name.path().matches('/').count() == 1).then(|| format!("/v2/repositories/{}/tags", name.path()))
    }

    fn first_query(&self) -> String {
        query(1)
    }

    fn page(&self, body: &[u8], _: &HeaderMap, read: usize) -> Result<Page, String> {
        let answer: Answer = json::object(body).map_err(|error| error.to_string())?;
        let entry = |listed: Listed| Entry {
            tag: listed.name,
            changed_at: listed.last_updated,
            hint: TagHint {
                digest: listed.digest,
                pushed_at: listed.tag_last_pushed.or(Some(listed.last_updated)),
                source: HintSource::DockerHub,
            },
        };
        Ok(Page {
            entries: answer.results.into_iter().map(entry).collect(),
            next: answer.next.map(|_| query(read + 2)),
        })
    }
}
