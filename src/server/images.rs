//! `GET /api/v1/images/{reference}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use samovar_registry::{Reference, Registry};
use tokio::time::Instant;

use super::Doors;
use super::access::Caller;
use super::following::Following;
use super::on_demand::{self, Admitted};
use super::problem::Problem;
use super::query::{self, StrictQuery, WaitParameters};
use crate::warmer::Reading;

/// One image, by tag or digest. With `wait`, which only makes sense where something is watched on demand, when it is there
/// for the first time.
pub(super) async fn one(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    StrictQuery(parameters): StrictQuery<WaitParameters>,
) -> Result<Response, Problem> {
    let reference = query::image(path, &doors.aliases)?;
    if parameters.wait.is_some() && doors.on_demand.is_none() {
        return Err(Problem::bad_request(
            "wait: there is nothing to wait for where on-demand watching is off",
        ));
    }
    // What is named by its digest alone stays what it is, wherever tags move.
    let reading = reference.tag().map_or(Reading::List, Reading::Tag);
    let admitted = on_demand::admit(&doors, &caller, reference.name(), reading)?;
    let deadline = Instant::now() + parameters.wait.unwrap_or_default();
    answer(&doors, &reference, admitted, deadline).await
}

/// The image as it is known now; where it is on its way, when it has come.
pub(super) async fn answer(
    doors: &Doors,
    reference: &Reference,
    admitted: Admitted,
    deadline: Instant,
) -> Result<Response, Problem> {
    let mut following = None;
    loop {
        let error = match doors.cache.image(reference).await {
            Ok(image) => return Ok(Json(image).into_response()),
            Err(error) => error,
        };
        if deadline <= Instant::now() || !admitted.may_come(&error) {
            return admitted.without(doors, reference, error);
        }
        match &mut following {
            // And one more look: what was published in between is not told.
            None => following = Some(Following::new(doors, reference.name(), deadline)),
            Some(following) => _ = following.next().await,
        }
    }
}
