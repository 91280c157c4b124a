//! `DescribeImages` of Amazon's interface: images with their tags, in no order, at most a thousand on a page (published: the
//! API reference of ECR). It stands at the registry's own address here.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::contents::Contents;
use super::super::record::Recorded;

/// Most images on a page.
const MOST: usize = 1_000;
/// Who has such a key may do nothing.
const DENIED: &str = "AKIADENIED";

/// `POST /` of `DescribeImages`.
pub(super) fn answer(request: &Recorded, contents: &Contents) -> Option<Answer> {
    let target = request.headers.get("x-amz-target").and_then(|target| target.to_str().ok())?;
    if (request.method.as_str(), &*request.path) != ("POST", "/") || !target.ends_with(".DescribeImages") {
        return None;
    }
    Some(
        page(request, contents)
            .unwrap_or_else(|(kind, message)| amazon(400, &json!({"__type": kind, "message": message}))),
    )
}

fn page(request: &Recorded, contents: &Contents) -> Result<Answer, (&'static str, String)> {
    let Some(key) = key(request) else {
        return Err(("MissingAuthenticationTokenException", "not signed for ecr".to_owned()));
    };
    let asked: Value =
        serde_json::from_str(&request.form).map_err(|error| ("SerializationException", error.to_string()))?;
    let size = asked["maxResults"].as_u64().and_then(|size| usize::try_from(size).ok()).unwrap_or(100);
    if size > MOST || asked["filter"]["tagStatus"] != "TAGGED" {
        return Err(("InvalidParameterException", "maxResults or filter".to_owned()));
    }
    let name = asked["repositoryName"].as_str().unwrap_or_default();
    if key.starts_with(DENIED) {
        let message = format!("User: denied is not authorized to perform: ecr:DescribeImages on {name}");
        return Err(("AccessDeniedException", message));
    }
    let Some(repository) = contents.repository(name) else {
        return Err((
            "RepositoryNotFoundException",
            format!("The repository with name '{name}' does not exist"),
        ));
    };
    // By digest: as good as in no order.
    let mut images: BTreeMap<&str, (Vec<&str>, i64)> = BTreeMap::new();
    let tags = repository.by_change();
    for (tag, manifest, at) in &tags {
        let (tags, first) = images.entry(&manifest.digest).or_insert((Vec::new(), *at));
        tags.push(tag);
        *first = (*first).min(*at);
    }
    let start = asked["nextToken"].as_str().and_then(|token| token.parse().ok()).unwrap_or(0);
    let details = images.iter().skip(start).take(size).map(|(digest, (tags, at))| {
        json!({
            "registryId": "123456789012",
            "repositoryName": name,
            "imageDigest": digest,
            "imageTags": tags,
            "imagePushedAt": at / 1000,
        })
    });
    let mut body = json!({"imageDetails": details.collect::<Vec<_>>()});
    if start + size < images.len() {
        body["nextToken"] = Value::String((start + size).to_string());
    }
    Ok(amazon(200, &body))
}

/// The key that signed for this service.
fn key(request: &Recorded) -> Option<&str> {
    let scope = request.authorization.as_ref()?.strip_prefix("AWS4-HMAC-SHA256 Credential=")?;
    let (scope, rest) = scope.split_once(',')?;
    let (key, scope) = scope.split_once('/')?;
    (scope.ends_with("/ecr/aws4_request") && rest.contains("Signature=")).then_some(key)
}

fn amazon(status: u16, body: &Value) -> Answer {
    Answer::new(status, "application/x-amz-json-1.1", body.to_string())
}
