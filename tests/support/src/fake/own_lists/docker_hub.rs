//! Docker Hub's own list of tags, of the host `hub.docker.com`: `ordering=last_updated` has the newest first, pages are
//! counted from 1, and `next` is a whole URL, null on the last (observed: Renovate's cache of it).

use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::contents::Contents;
use super::super::record::Recorded;
use super::{not_found, number, rfc3339};

/// `GET /v2/repositories/NAME/tags`.
pub(super) fn answer(request: &Recorded, contents: &Contents) -> Option<Answer> {
    let name = request.path.strip_prefix("/v2/repositories/")?.strip_suffix("/tags")?;
    let Some(repository) = contents.repository(name) else { return Some(not_found()) };
    let (page, size) = (number(request, "page", 1), number(request, "page_size", 10));
    let tags = repository.by_change();
    let results: Vec<Value> = tags
        .iter()
        .skip((page - 1) * size)
        .take(size)
        .map(|(tag, manifest, at)| {
            json!({
                "name": tag,
                "full_size": 1,
                "images": [],
                "last_updated": rfc3339(*at),
                "tag_last_pushed": rfc3339(*at),
                "digest": manifest.digest,
                "media_type": manifest.media_type,
            })
        })
        .collect();
    let next = format!("https://hub.docker.com{}?page={}&page_size={size}", request.path, page + 1);
    let next = (page * size < tags.len()).then_some(next);
    Some(Answer::json(200, &json!({"count": tags.len(), "next": next, "previous": null, "results": results})))
}
