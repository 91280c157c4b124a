//! `GET /api/v1/images/{reference}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use samovar_registry::{Reference, Registry};

use super::Doors;
use super::problem::Problem;
use super::query::{self, NoParameters, StrictQuery};
use crate::cache::CacheError;

/// One image, by tag or digest.
pub(super) async fn one(
    State(doors): State<Arc<Doors>>,
    path: Result<Path<String>, PathRejection>,
    StrictQuery(NoParameters {}): StrictQuery<NoParameters>,
) -> Result<Response, Problem> {
    let reference = query::image(path, &doors.aliases)?;
    if !doors.warmer.is_watched(reference.name()) {
        let name = reference.name().clone();
        return Err(Problem::of(CacheError::NotWatched { name }, doors.clock.now()));
    }
    doors.warmer.read(reference.name(), reference.tag());
    answer(&doors, &reference).await
}

/// The image as it is known now.
pub(super) async fn answer(doors: &Doors, reference: &Reference) -> Result<Response, Problem> {
    let image = doors.cache.image(reference).await;
    image.map(|image| Json(image).into_response()).map_err(|error| doors.problem(error))
}
