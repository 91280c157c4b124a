//! The tags of a repository (end-8 of the distribution specification): all that the registry lists, ordered.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use samovar_registry::Tag;

use super::error::{JSON, OciError};
use super::manifests::{ASK_EACH_TIME, content, with};
use super::memory::EncodedPage;
use super::paging::Paging;
use super::stale;
use super::visit::Visit;
use crate::cache::load::Pages;
use crate::cache::snapshot::Snapshot;
use crate::server::caching;
use crate::server::coding::{self, Coding};
use crate::server::encoded::{Encoded, Form};

/// How and where a list is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// The repository, as the client calls it.
    pub(super) name: &'a str,
    /// The path as it was sent.
    pub(super) path: &'a str,
    pub(super) paging: Paging<'a>,
    pub(super) namespace: Option<&'a str>,
}

/// A page of tags.
pub(super) async fn answer(
    visit: &Visit<'_>,
    asked: Asked<'_>,
    headers: &HeaderMap,
) -> Result<Response, OciError> {
    let snapshot = visit.snapshot(Pages::All).await?;
    let generation = snapshot.head.as_ref().map_or(0, |head| head.generation);
    let tags = snapshot.head.as_ref().map_or(0, |head| head.counts.total());
    let mut response = match caching::client_has(headers, generation) {
        Some(entity_tag) => with(
            StatusCode::NOT_MODIFIED.into_response(),
            [
                (header::ETAG, entity_tag),
                (header::CACHE_CONTROL, ASK_EACH_TIME),
                (header::VARY, coding::VARY),
            ],
        ),
        None if asked.paging.is_whole(tags) => {
            whole(visit, asked.name, &snapshot, Coding::wanted(headers)).await.into_response(generation)
        }
        None => {
            let page = page(visit, asked, &snapshot, generation);
            let mut response = content(page.body, JSON);
            if let Some(last) = page.leads_on {
                let link = asked.paging.link(asked.path, last.as_str(), asked.namespace);
                response.headers_mut().insert(header::LINK, link);
            }
            let entity_tag = caching::entity_tag(generation, Coding::Identity);
            with(response, [(header::ETAG, entity_tag), (header::CACHE_CONTROL, ASK_EACH_TIME)])
        }
    };
    let last_update = snapshot.side.as_ref().and_then(|side| side.last_update);
    if let Some(age) = caching::age(last_update, visit.doors.clock.now()) {
        response.headers_mut().insert(header::AGE, age);
    }
    if let Some(warning) = stale::of_list(&snapshot) {
        response.headers_mut().insert(header::WARNING, stale::warning(&warning));
    }
    Ok(response)
}

/// A page as it is sent: made once for all who ask for it, until the list changes.
fn page(visit: &Visit<'_>, asked: Asked<'_>, snapshot: &Snapshot, generation: u64) -> EncodedPage {
    let key = asked.paging.key(visit.name, asked.name);
    if let Some(page) = visit.memory().page(&key, generation) {
        return page;
    }
    let (tags, more) = asked.paging.cut(snapshot.tags().map(|(tag, ..)| tag));
    let leads_on = tags.last().filter(|_| more).map(|last| (*last).clone());
    let page = EncodedPage { generation, body: body(asked.name, tags.iter().copied()).into(), leads_on };
    visit.memory().keep_page(key, page.clone());
    page
}

/// All tags.
async fn whole(visit: &Visit<'_>, called: &str, snapshot: &Arc<Snapshot>, coding: Coding) -> Encoded {
    let is_hot = || visit.doors.hot.holds(visit.name, snapshot);
    let prepare = || {
        let (called, snapshot) = (called.to_owned(), Arc::clone(snapshot));
        move || body(&called, snapshot.tags().map(|(tag, ..)| tag)).into_bytes()
    };
    visit.doors.encoded.get(visit.name, snapshot, (Form::Tags(called), coding), is_hot, prepare).await
}

/// `{"name": …, "tags": […]}`. Tags hold nothing that JSON would have escaped.
fn body<'t>(name: &str, tags: impl Iterator<Item = &'t Tag> + Clone) -> String {
    let bytes: usize = tags.clone().map(|tag| tag.as_str().len() + 3).sum();
    let name = serde_json::to_string(name).expect("a text written to memory");
    let mut body = String::with_capacity(bytes + name.len() + 24);
    body.push_str("{\"name\":");
    body.push_str(&name);
    body.push_str(",\"tags\":[");
    for (position, tag) in tags.enumerate() {
        if position > 0 {
            body.push(',');
        }
        body.push('"');
        body.push_str(tag.as_str());
        body.push('"');
    }
    body.push_str("]}");
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_json_whatever_the_name() {
        let (one, two): (Tag, Tag) = ("1.0".parse().unwrap(), "v2_x".parse().unwrap());
        assert_eq!(
            body("team/app", [&one, &two].into_iter()),
            r#"{"name":"team/app","tags":["1.0","v2_x"]}"#
        );
        assert_eq!(body("a\"b", [].into_iter()), r#"{"name":"a\"b","tags":[]}"#);
    }
}
