//! The repositories that there are here. Not part of the distribution specification any more, but asked for by some.

use axum::response::Response;
use http::header;
use serde_json::json;

use super::error::JSON;
use super::manifests::content;
use super::paging::Paging;
use crate::server::Doors;
use crate::server::access::Caller;

/// A page of the watched repositories that the caller may see: of one registry by their names there, of all with the host before them.
pub(super) fn answer(
    doors: &Doors,
    caller: &Caller,
    registry: Option<&str>,
    path: &str,
    paging: Paging<'_>,
    namespace: Option<&str>,
) -> Response {
    let watch_list = doors.warmer.watch_list();
    let seen = watch_list.0.keys().filter(|name| caller.may_read(name));
    let names = seen.filter_map(|name| match registry {
        Some(registry) => (name.host() == registry).then(|| name.path()),
        None => Some(name.as_str()),
    });
    let (page, more) = paging.cut(names);
    let body = serde_json::to_vec(&json!({ "repositories": page })).expect("texts written to memory");
    let mut response = content(body.into(), JSON);
    if let (true, Some(last)) = (more, page.last()) {
        response.headers_mut().insert(header::LINK, paging.link(path, last, namespace));
    }
    response
}
