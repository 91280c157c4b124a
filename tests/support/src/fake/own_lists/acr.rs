//! The own list of Azure's registries: `orderby=timedesc` has what changed last first, and the next page is told by
//! `Link` (published: its reference of the data plane).

use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::contents::Contents;
use super::super::record::Recorded;
use super::{not_found, number, rfc3339};

/// `GET /acr/v1/NAME/_tags`.
pub(super) fn answer(request: &Recorded, contents: &Contents) -> Option<Answer> {
    let name = request.path.strip_prefix("/acr/v1/")?.strip_suffix("/_tags")?;
    let Some(repository) = contents.repository(name) else { return Some(not_found()) };
    let size = number(request, "n", 100).min(1_000);
    let tags = repository.by_change();
    let last = request.parameter("last");
    let start = last.and_then(|last| tags.iter().position(|(tag, ..)| *tag == last)).map_or(0, |at| at + 1);
    let page = &tags[start..tags.len().min(start + size)];
    let listed: Vec<Value> = page
        .iter()
        .map(|(tag, manifest, at)| {
            json!({
                "name": tag,
                "digest": manifest.digest,
                "createdTime": rfc3339(*at),
                "lastUpdateTime": rfc3339(*at),
                "signed": false,
            })
        })
        .collect();
    let mut answer = Answer::json(200, &json!({"registry": "fake", "imageName": name, "tags": listed}));
    if let Some((last, ..)) = page.last().filter(|_| start + size < tags.len()) {
        let link = format!("<{}?last={last}&n={size}&orderby=timedesc>; rel=\"next\"", request.path);
        answer.set("link", &link);
    }
    Some(answer)
}
