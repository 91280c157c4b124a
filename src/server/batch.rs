//! `POST /api/v1/query`: many questions in one request, as a controller's reconcile loop has them.
//!
//! Each question is answered as it would be alone, with a status of its own: one that fails takes no other with it.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use samovar_registry::{Name, Reference};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::access::Caller;
use super::fields::Fields;
use super::problem::{Problem, ProblemType, body_problem};
use super::query::{NoParameters, StrictQuery};
use super::repositories::Wanted;
use super::{Doors, latest, on_demand, openapi, repositories};
use crate::cache::demand::Reading;

/// Questions in one request.
const MOST_QUERIES: usize = 1000;
/// A request's body is no larger.
pub(super) const MOST_QUERY_BYTES: usize = 1024 * 1024;
/// Questions of one request that are answered at once.
const QUERIES_AT_ONCE: usize = 16;
/// The answers to one request together; what comes after is left out.
const MOST_ANSWER_BYTES: usize = 64 * 1024 * 1024;

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    /// Each with the `name` of a repository, and the parameters of a policy, or `fields`, or nothing more.
    #[schema(value_type = Vec<Object>, max_items = 1000)]
    queries: Vec<Map<String, Value>>,
}

/// What is said of an answer beside the answer itself.
#[derive(Debug, Serialize)]
struct Envelope<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a Name>,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

/// A question's answer.
#[derive(Debug)]
struct Answered {
    name: Option<Name>,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// The parameters of a policy as they would stand in a URL.
type Parameters<'q> = Vec<(&'q str, String)>;

/// The answers to many questions, in their order.
#[utoipa::path(
    post,
    path = "/api/v1/query",
    operation_id = "query",
    request_body = Batch,
    responses((status = 200, description = "An answer to each question", body = openapi::Answers))
)]
pub(super) async fn query(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
    StrictQuery(NoParameters {}): StrictQuery<NoParameters>,
    body: Result<Json<Batch>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(Batch { queries }) = body.map_err(body_problem)?;
    if queries.len() > MOST_QUERIES {
        return Err(Problem::bad_request(format!("queries: at most {MOST_QUERIES} in one request")));
    }
    let (doors, caller) = (&doors, &caller);
    let answers = stream::iter(queries).map(|query| async move { answer(doors, caller, &query).await });
    let answers = answers.buffered(QUERIES_AT_ONCE);
    let mut answers = std::pin::pin!(answers);
    let mut body = br#"{"answers":["#.to_vec();
    while let Some(mut answered) = answers.next().await {
        if body.len() + answered.body.len() > MOST_ANSWER_BYTES {
            answered = too_much(answered.name).await;
        }
        if body.last() != Some(&b'[') {
            body.push(b',');
        }
        answered.write_to(&mut body);
    }
    body.extend_from_slice(b"]}");
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, body).into_response())
}

/// The answer to one question. What is known already is there at once: others get a turn in between.
async fn answer(doors: &Doors, caller: &Caller, query: &Map<String, Value>) -> Answered {
    tokio::task::yield_now().await;
    match read(doors, query) {
        Ok((name, fields, parameters)) => {
            let response = ask(doors, caller, &name, fields, &parameters).await;
            Answered::new(Some(name), response.into_response()).await
        }
        Err(problem) => Answered::new(None, problem.into_response()).await,
    }
}

async fn too_much(name: Option<Name>) -> Answered {
    let detail = "the answers before this one are as large as all may be together: ask in smaller batches";
    Answered::new(name, Problem::new(ProblemType::AnswerTooLarge, detail).into_response()).await
}

async fn ask(
    doors: &Doors,
    caller: &Caller,
    name: &Name,
    fields: Option<Fields>,
    parameters: &[(&str, String)],
) -> Result<Response, Problem> {
    if !parameters.is_empty() {
        if fields.is_some() {
            return Err(Problem::bad_request(
                "fields: of a repository, not of what a policy chooses from it",
            ));
        }
        let parameters = parameters.iter().map(|(parameter, value)| (*parameter, value.as_str()));
        return latest::choose(doors, caller, name, parameters, &HeaderMap::new()).await;
    }
    let admitted = on_demand::admit(doors, caller, name, Reading::Whole)?;
    let wanted = Wanted { fields: fields.unwrap_or(Fields::ALL), ..Wanted::WHOLE };
    match doors.cache.generation(name).await {
        Ok(_) => repositories::answer(doors, name, wanted).await,
        Err(error) => admitted.without(doors, &Reference::new(name.clone(), None, None), error),
    }
}

/// The repository that is asked about, and how.
fn read<'q>(
    doors: &Doors,
    query: &'q Map<String, Value>,
) -> Result<(Name, Option<Fields>, Parameters<'q>), Problem> {
    let name = match query.get("name") {
        Some(Value::String(name)) => name,
        Some(_) => return Err(Problem::bad_request("name: must be a string")),
        None => return Err(Problem::bad_request("name: is missing")),
    };
    let name = Name::parse(name, &doors.aliases).map_err(|error| Problem::bad_request(error.to_string()))?;
    let fields = match query.get("fields") {
        None => None,
        Some(Value::String(fields)) => Some(Fields::read(fields).map_err(Problem::bad_request)?),
        Some(_) => return Err(Problem::bad_request("fields: must be a string")),
    };
    let mut parameters = Vec::new();
    let of_policies = |(parameter, _): &(&String, &Value)| !matches!(parameter.as_str(), "name" | "fields");
    for (parameter, value) in query.iter().filter(of_policies) {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        for value in values {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(truth) => truth.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    let detail = "a parameter must be a string, a number, true or false, or a list of them";
                    return Err(Problem::bad_request(detail));
                }
            };
            parameters.push((parameter.as_str(), text));
        }
    }
    Ok((name, fields, parameters))
}

impl Answered {
    async fn new(name: Option<Name>, response: Response) -> Self {
        let (parts, body) = response.into_parts();
        match axum::body::to_bytes(body, MOST_ANSWER_BYTES).await {
            Ok(body) => Self { name, status: parts.status, headers: parts.headers, body },
            // A body in memory cannot fail but by being too large.
            Err(_) => Box::pin(too_much(name)).await,
        }
    }

    fn write_to(&self, body: &mut Vec<u8>) {
        let header = |name| self.headers.get(name).and_then(|value| value.to_str().ok());
        let envelope = Envelope {
            name: self.name.as_ref(),
            status: self.status.as_u16(),
            etag: header(header::ETAG),
            retry_after: header(header::RETRY_AFTER).and_then(|seconds| seconds.parse().ok()),
        };
        let envelope = serde_json::to_vec(&envelope).expect("strings and numbers written to memory");
        let is_problem = self.status.is_client_error() || self.status.is_server_error();
        body.extend_from_slice(envelope.strip_suffix(b"}").expect("an object ends with a brace"));
        body.extend_from_slice(if is_problem { br#","problem":"# } else { br#","answer":"# });
        body.extend_from_slice(&self.body);
        body.push(b'}');
    }
}
