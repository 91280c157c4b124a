//! The own list of Azure's registries, for whoever may read a repository's metadata.

use http::HeaderMap;
use jiff::Timestamp;
use serde::Deserialize;

use super::{Dialect, Entry, HintSource, OWN_PAGE_SIZE, Page, TagHint, linked_query};
use crate::{Digest, Name, Tag, json};

#[derive(Debug)]
pub(super) struct Acr;

#[derive(Deserialize)]
struct Answer {
    tags: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    name: Tag,
    digest: Digest,
    last_update_time: Timestamp,
}

impl Dialect for Acr {
    fn source(&self) -> HintSource {
        HintSource::Acr
    }

    fn path(&self, name: &Name) -> Option<String> {
        Some(format!("/acr/v1/{}/_tags", name.path()))
    }

    fn first_query(&self) -> String {
        format!("orderby=timedesc&n={OWN_PAGE_SIZE}")
    }

    fn with_login(&self) -> bool {
        true
    }

    fn page(&self, body: &[u8], headers: &HeaderMap, _: usize) -> Result<Page, String> {
        let answer: Answer = json::object(body).map_err(|error| error.to_string())?;
        let entry = |listed: Listed| Entry {
            tag: listed.name,
            changed_at: listed.last_update_time,
            hint: TagHint {
                digest: Some(listed.digest),
                pushed_at: Some(listed.last_update_time),
                source: HintSource::Acr,
            },
        };
        let next = linked_query(headers)?;
        Ok(Page { entries: answer.tags.into_iter().map(entry).collect(), next })
    }
}
