//! Quay's own list of tags: what changed last first, to the second, with `has_additional` where there are more pages
//! (observed in its source).

use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::contents::Contents;
use super::super::record::Recorded;
use super::{not_found, number};

/// `GET /api/v1/repository/NAME/tag/`.
pub(super) fn answer(request: &Recorded, contents: &Contents) -> Option<Answer> {
    let name = request.path.strip_prefix("/api/v1/repository/")?.strip_suffix("/tag/")?;
    let Some(repository) = contents.repository(name) else { return Some(not_found()) };
    let (page, size) = (number(request, "page", 1), number(request, "limit", 50).min(100));
    let tags = repository.by_change();
    let listed: Vec<Value> = tags
        .iter()
        .skip((page - 1) * size)
        .take(size)
        .map(|(tag, manifest, at)| {
            json!({
                "name": tag,
                "reversion": false,
                "start_ts": at / 1000,
                "manifest_digest": manifest.digest,
                "is_manifest_list": false,
            })
        })
        .collect();
    let body = json!({"tags": listed, "page": page, "has_additional": page * size < tags.len()});
    Some(Answer::json(200, &body))
}
