//! `POST /api/v1/refresh`: the one thing that flows from the doors to the warmer.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use samovar_registry::Reference;
use serde::{Deserialize, Serialize};

use super::problem::{Problem, ProblemType};
use super::query::{StrictQuery, WaitParameters};
use super::{Doors, images, repositories};
use crate::cache::CacheError;
use crate::warmer::RequestRefused;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RefreshBody {
    image: String,
}

#[derive(Debug, Serialize)]
struct Accepted<'a> {
    image: &'a Reference,
    status: &'static str,
}

/// Refreshes a repository or one tag of it. With `wait`, answers with the result if it is there in time.
pub(super) async fn refresh(
    State(doors): State<Arc<Doors>>,
    StrictQuery(parameters): StrictQuery<WaitParameters>,
    body: Result<Json<RefreshBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(RefreshBody { image }) = body.map_err(body_problem)?;
    let reference =
        Reference::parse(&image, &doors.aliases).map_err(|error| Problem::bad_request(error.to_string()))?;
    if reference.digest().is_some() {
        return Err(Problem::bad_request(format!(
            "{reference}: what a digest names never changes; name a tag"
        )));
    }
    let ticket = match doors.warmer.refresh(reference.name(), reference.tag().cloned()) {
        Ok(ticket) => ticket,
        Err(RequestRefused::NotWatched) => {
            let name = reference.name().clone();
            return Err(Problem::of(CacheError::NotWatched { name }, doors.clock.now()));
        }
        Err(refused @ RequestRefused::Busy) => {
            return Err(Problem::new(ProblemType::Busy, refused.to_string()));
        }
    };
    doors.warmer.read(reference.name(), reference.tag());
    let done = tokio::time::timeout(parameters.wait.unwrap_or_default(), ticket.done());
    match done.await {
        Err(_) => {
            let accepted = Accepted { image: &reference, status: "accepted" };
            Ok((StatusCode::ACCEPTED, Json(accepted)).into_response())
        }
        Ok(Err(failed)) => Err(Problem::new(ProblemType::RefreshFailed, &*failed)),
        Ok(Ok(())) if reference.tag().is_some() => images::answer(&doors, &reference).await,
        Ok(Ok(())) => repositories::answer(&doors, reference.name()).await,
    }
}

fn body_problem(rejection: JsonRejection) -> Problem {
    let kind = match rejection.status() {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ProblemType::UnsupportedMediaType,
        StatusCode::PAYLOAD_TOO_LARGE => ProblemType::BodyTooLarge,
        _ => ProblemType::BadRequest,
    };
    Problem::new(kind, rejection.body_text())
}
