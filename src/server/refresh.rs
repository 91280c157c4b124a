//! `POST /api/v1/refresh`: the one thing that flows from the doors to the warmer.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::Response;
use samovar_registry::Reference;
use serde::Deserialize;
use tokio::time::Instant;

use super::access::Caller;
use super::on_demand::{self, Admitted, accepted};
use super::problem::{Problem, ProblemType, body_problem};
use super::query::{StrictQuery, WaitParameters};
use super::{Doors, images, openapi, repositories};
use crate::warmer::{Reading, RequestRefused};

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RefreshBody {
    /// A repository, or a tag of it.
    image: String,
}

/// Refreshes a repository or one tag of it. With `wait`, answers with the result if it is there in time.
#[utoipa::path(
    post,
    path = "/api/v1/refresh",
    operation_id = "refresh",
    params(WaitParameters),
    request_body = RefreshBody,
    responses(
        (status = 200, description = "It is fresh", body = openapi::Refreshed),
        (status = 202, description = "It is being refreshed", body = on_demand::Accepted<'static>),
        (status = 502, description = "It could not be refreshed", body = super::problem::Body<'static>, content_type = "application/problem+json")
    )
)]
pub(super) async fn refresh(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
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
    let (name, tag) = (reference.name(), reference.tag());
    if !caller.may_refresh(name) {
        return Err(on_demand::not_watched(name, doors.clock.now()));
    }
    let admitted = on_demand::admit(&doors, &caller, name, tag.map_or(Reading::Whole, Reading::Tag))?;
    let deadline = Instant::now() + parameters.wait.unwrap_or_default();
    let ticket = match doors.warmer.refresh(name, tag.cloned()) {
        Ok(ticket) => ticket,
        // From now on it is; it is fetched as a whole first, which is as fresh.
        Err(RequestRefused::NotWatched) => return current(&doors, &reference, admitted, deadline).await,
        Err(refused @ RequestRefused::Busy) => {
            return Err(Problem::new(ProblemType::Busy, refused.to_string()));
        }
    };
    let done = tokio::time::timeout_at(deadline, ticket.done()).await;
    // It may be another replica that has asked, and stored what it was told.
    doors.hot.invalidate(name);
    match done {
        Err(_) => Ok(accepted(&reference)),
        Ok(Err(failed)) => Err(Problem::new(ProblemType::RefreshFailed, &*failed)),
        Ok(Ok(())) => current(&doors, &reference, admitted, Instant::now()).await,
    }
}

/// What is known of what was to be refreshed; where it is on its way for the first time, when it has come.
async fn current(
    doors: &Doors,
    reference: &Reference,
    admitted: Admitted,
    deadline: Instant,
) -> Result<Response, Problem> {
    if reference.tag().is_some() {
        return images::answer(doors, reference, admitted, deadline, |_| None).await;
    }
    let wanted = repositories::Wanted::WHOLE;
    repositories::when_changed(doors, reference.name(), admitted, deadline, wanted, |_| None).await
}
