//! `GET /api/v1/openapi.json`: the API, described (OpenAPI 3.1). Made from what the handlers and their answers say of
//! themselves; what all of them share is added here.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, header};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use utoipa::{OpenApi, ToSchema};

use super::problem::Problem;
use super::query::{NoParameters, StrictQuery};
use super::{
    batch, events, history, hooks, images, latest, operations, problem, refresh, repositories,
    repository_body,
};
use crate::cache::records::Unavailable;

/// What stands for a repository in a path.
pub(super) const NAME: &str =
    "A repository, in any spelling: docker.io/library/alpine. Slashes may be percent-encoded.";
/// What stands for an image in a path.
pub(super) const REFERENCE: &str = "An image by tag or digest, in any spelling: docker.io/library/alpine:3.22. Slashes may be percent-encoded.";

/// One image. What is not known is absent.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it describes what another crate has")]
pub(super) struct ImageInfo {
    /// The reference that was asked for, canonical.
    id: String,
    /// What the tag resolves to: the index where there is one, else the manifest.
    digest: String,
    /// The digest of the configuration, of the first wanted platform.
    image_id: Option<String>,
    /// Of what `digest` names.
    media_type: String,
    /// Bytes of configuration and layers, of the first wanted platform.
    size: Option<u64>,
    /// When the image says that it was built.
    created_at: Option<Timestamp>,
    /// Merged key by key.
    labels: BTreeMap<String, String>,
    /// Platforms on offer.
    platforms: Vec<String>,
    /// When the tag was first listed; absent for tags of a repository's first listing.
    first_seen: Option<Timestamp>,
    /// When the registry last confirmed it.
    last_fetched: Option<Timestamp>,
}

/// A tag that a policy chose, with its image, or with why there is none to show.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it describes what is written in two ways")]
pub(super) struct LatestTag {
    tag: String,
    id: String,
    digest: Option<String>,
    image_id: Option<String>,
    media_type: Option<String>,
    size: Option<u64>,
    created_at: Option<Timestamp>,
    labels: Option<BTreeMap<String, String>>,
    platforms: Option<Vec<String>>,
    first_seen: Option<Timestamp>,
    last_fetched: Option<Timestamp>,
    unavailable: Option<Unavailable>,
}

/// The answers to many questions, in their order.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it describes what is written as bytes")]
pub(super) struct Answers {
    answers: Vec<Answered>,
}

/// The answer to one question: `answer` or `problem`.
#[derive(Debug, ToSchema)]
#[schema(as = Answer)]
#[expect(dead_code, reason = "it describes what is written as bytes")]
pub(super) struct Answered {
    /// The repository; absent where it could not be read.
    name: Option<String>,
    /// The status that the question would have had alone.
    status: u16,
    /// Its entity tag.
    etag: Option<String>,
    /// When to ask again, in seconds.
    retry_after: Option<u64>,
    /// As it would have been answered alone.
    #[schema(value_type = Option<Object>)]
    answer: Option<Value>,
    /// Why there is no answer.
    #[schema(value_type = Option<problem::Body<'static>>)]
    problem: Option<Value>,
}

/// What was refreshed.
#[derive(Debug, ToSchema)]
#[schema(as = Refreshed)]
#[serde(untagged)]
#[expect(dead_code, reason = "it describes what other handlers answer")]
pub(super) enum Refreshed {
    /// A tag.
    Image(ImageInfo),
    /// A repository.
    #[schema(value_type = repository_body::RepositoryBody<'static>)]
    Repository(Value),
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "samovar",
        description = "The metadata of container images, kept warm.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    paths(
        repositories::list,
        repositories::one,
        images::one,
        latest::one,
        batch::query,
        history::one,
        refresh::refresh,
        events::follow,
        hooks::receive,
        hooks::notify,
        operations::status,
        described
    ),
    components(schemas(problem::Body<'static>))
)]
struct Described;

/// The API, described.
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    operation_id = "get_openapi",
    responses((status = 200, description = "This document", body = Object))
)]
pub(super) async fn described(
    StrictQuery(NoParameters {}): StrictQuery<NoParameters>,
) -> Result<Response, Problem> {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, super::caching::ASK_EACH_TIME),
    ];
    Ok((headers, DOCUMENT.clone()).into_response())
}

/// The document.
fn document() -> Value {
    let document = serde_json::to_value(Described::openapi());
    let mut document = document.expect("strings and numbers written to memory");
    without_null(&mut document);
    // One handler for both.
    let mut with_secret = document["paths"]["/hooks/{receiver}"].clone();
    with_secret["post"]["operationId"] = json!("receive_with_secret");
    let secret = json!({"name": "secret", "in": "path", "required": true, "schema": {"type": "string"}});
    if let Some(parameters) = with_secret["post"]["parameters"].as_array_mut() {
        parameters.push(secret);
    }
    document["paths"]["/hooks/{receiver}/{secret}"] = with_secret;
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (_, operations) in paths {
        for (method, operation) in operations.as_object_mut().into_iter().flatten() {
            add_refusals(method, &mut operation["responses"]);
        }
    }
    document["components"]["responses"] = json!({
        "Problem": {
            "description": "There is no answer; `type` and `detail` say why",
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        },
    });
    document["components"]["securitySchemes"] = json!({
        "bearer": {"type": "http", "scheme": "bearer", "description": "A token, where `[auth]` asks for one"},
        "mutual_tls": {"type": "mutualTLS", "description": "A certificate, where `[tls]` asks for one"},
    });
    document["security"] = json!([{}, {"bearer": []}, {"mutual_tls": []}]);
    document
}

/// Every operation may be refused in these ways.
fn add_refusals(method: &str, responses: &mut Value) {
    let with_body: &[u16] = if method == "post" { &[408, 413, 415] } else { &[] };
    for status in [400, 401, 403, 404, 429, 500, 503].iter().chain(with_body) {
        responses[status.to_string()] = json!({"$ref": "#/components/responses/Problem"});
    }
}

/// What is not known is absent: nothing is ever null.
fn without_null(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(without_null),
        Value::Object(fields) => {
            fields.values_mut().for_each(without_null);
            without_null_type(fields);
            for choice in ["oneOf", "anyOf"] {
                let Some(Value::Array(choices)) = fields.get_mut(choice) else { continue };
                choices.retain(|schema| schema["type"] != "null");
                if let [Value::Object(only)] = choices.as_slice() {
                    let only = only.clone();
                    fields.remove(choice);
                    fields.extend(only);
                }
            }
        }
        _ => {}
    }
}

fn without_null_type(schema: &mut Map<String, Value>) {
    let Some(Value::Array(types)) = schema.get_mut("type") else { return };
    types.retain(|kind| kind != "null");
    if let [only] = types.as_slice() {
        let only = only.clone();
        schema.insert("type".to_owned(), only);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(object: &Value) -> BTreeSet<&str> {
        object.as_object().expect("an object").keys().map(String::as_str).collect()
    }

    #[test]
    fn every_route_of_the_api_is_described_and_no_other() {
        let document = document();
        let routes = crate::server::ROUTES.iter();
        let routes = routes.filter(|route| route.starts_with("/api/") || route.starts_with("/hooks/"));
        let routes: BTreeSet<String> = routes.map(|route| route.replace("{*", "{")).collect();
        let described: BTreeSet<String> = names(&document["paths"]).into_iter().map(str::to_owned).collect();
        assert_eq!(described, routes);
        assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    }

    #[test]
    fn nothing_is_described_as_null_and_everything_that_is_referred_to_is_there() {
        fn walk(value: &Value, document: &Value) {
            match value {
                Value::Array(values) => values.iter().for_each(|value| walk(value, document)),
                Value::Object(fields) => {
                    let is_null = fields.get("type").is_some_and(|kind| *kind == "null" || kind.is_array());
                    assert!(!is_null, "{value}");
                    if let Some(Value::String(reference)) = fields.get("$ref") {
                        let pointer = reference.strip_prefix('#').expect("within the document");
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                    }
                    fields.values().for_each(|value| walk(value, document));
                }
                _ => {}
            }
        }
        let document = document();
        walk(&document, &document);
    }

    #[test]
    fn an_image_is_described_as_it_is() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let time = "2026-11-20T07:20:40Z";
        let whole = json!({
            "id": "r.example/app:v1", "digest": digest, "image_id": digest, "media_type": "m", "size": 1,
            "created_at": time, "labels": {}, "platforms": [], "first_seen": time, "last_fetched": time,
        });
        let image: samovar_registry::ImageInfo = serde_json::from_value(whole).unwrap();
        let least = samovar_registry::ImageInfo {
            image_id: None,
            size: None,
            created_at: None,
            first_seen: None,
            last_fetched: None,
            ..image.clone()
        };
        let document = document();
        let described = &document["components"]["schemas"]["ImageInfo"];
        assert_eq!(names(&described["properties"]), names(&serde_json::to_value(&image).unwrap()));
        let required = described["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
        assert_eq!(required.collect::<BTreeSet<_>>(), names(&serde_json::to_value(&least).unwrap()));
    }
}
