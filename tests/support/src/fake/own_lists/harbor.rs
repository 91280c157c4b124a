//! Harbor's list of artifacts: each with its tags, ordered by when the artifact was pushed, slashes in the name of the
//! repository encoded twice, and `X-Total-Count` for how many there are (observed in its source).

use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::contents::Contents;
use super::super::record::Recorded;
use super::{not_found, number, rfc3339};

/// `GET /api/v2.0/projects/PROJECT/repositories/NAME/artifacts`.
pub(super) fn answer(request: &Recorded, contents: &Contents) -> Option<Answer> {
    let rest = request.path.strip_prefix("/api/v2.0/projects/")?.strip_suffix("/artifacts")?;
    let (project, name) = rest.split_once("/repositories/")?;
    let name = format!("{project}/{}", name.replace("%252F", "/"));
    let Some(repository) = contents.repository(&name) else { return Some(not_found()) };
    // A tag that is pushed pushes its artifact too, as far as the fake is concerned.
    let mut artifacts: Vec<(String, i64, Vec<Value>)> = Vec::new();
    for (tag, manifest, at) in repository.by_change() {
        let tag = json!({"name": tag, "push_time": rfc3339(at)});
        match artifacts.iter_mut().find(|(digest, ..)| *digest == manifest.digest) {
            Some((_, _, tags)) => tags.push(tag),
            None => artifacts.push((manifest.digest.clone(), at, vec![tag])),
        }
    }
    let (page, size) = (number(request, "page", 1), number(request, "page_size", 10));
    let listed = artifacts.iter().skip((page - 1) * size).take(size);
    let listed =
        listed.map(|(digest, at, tags)| json!({"digest": digest, "push_time": rfc3339(*at), "tags": tags}));
    let mut answer = Answer::json(200, &Value::Array(listed.collect()));
    answer.set("x-total-count", &artifacts.len().to_string());
    Some(answer)
}
