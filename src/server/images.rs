//! `GET /api/v1/images/{reference}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use samovar_registry::Reference;
use tokio::time::Instant;

use super::access::Caller;
use super::coding::{self, Coding};
use super::following::Following;
use super::on_demand::{self, Admitted};
use super::problem::Problem;
use super::query::{self, StrictQuery, WaitParameters};
use super::{Doors, caching, openapi};
use crate::warmer::Reading;

/// One image, by tag or digest. With `wait`, which only makes sense where something is watched on demand, when it is there
/// for the first time.
#[utoipa::path(
    get,
    path = "/api/v1/images/{reference}",
    operation_id = "get_image",
    params(("reference" = String, Path, description = openapi::REFERENCE), WaitParameters),
    responses(
        (status = 200, description = "The image", body = openapi::ImageInfo),
        (status = 202, description = "Its repository is watched from now on", body = on_demand::Accepted<'static>),
        (status = 304, description = "It is as the client knows it")
    )
)]
pub(super) async fn one(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    StrictQuery(parameters): StrictQuery<WaitParameters>,
    headers: HeaderMap,
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
    answer(&doors, &reference, admitted, deadline, |generation| caching::client_has(&headers, generation))
        .await
}

/// The image as it is known now; where it is on its way, when it has come.
pub(super) async fn answer(
    doors: &Doors,
    reference: &Reference,
    admitted: Admitted,
    deadline: Instant,
    client_has: impl Fn(u64) -> Option<HeaderValue>,
) -> Result<Response, Problem> {
    let mut following = None;
    loop {
        let error = match doors.cache.image_state(reference).await {
            Ok((image, generation)) => {
                let confirmed = image.last_fetched;
                let (mut response, entity_tag) = match client_has(generation) {
                    Some(entity_tag) => (StatusCode::NOT_MODIFIED.into_response(), entity_tag),
                    None => (Json(image).into_response(), caching::entity_tag(generation, Coding::Identity)),
                };
                let headers = response.headers_mut();
                headers.insert(header::ETAG, entity_tag);
                headers.insert(header::CACHE_CONTROL, caching::ASK_EACH_TIME);
                headers.insert(header::VARY, coding::VARY);
                if let Some(age) = caching::age(confirmed, doors.clock.now()) {
                    headers.insert(header::AGE, age);
                }
                return Ok(response);
            }
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
