//! `GET /api/v1/history/{name}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use samovar_registry::{Reference, Tag};
use serde::{Deserialize, Serialize};

use super::access::Caller;
use super::coding::{self, Coding};
use super::on_demand;
use super::problem::Problem;
use super::query::{self, StrictQuery};
use super::{Doors, caching, openapi};
use crate::cache::history::{Event, Since};
use crate::warmer::Reading;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryParameters {
    /// Only what happened to this tag.
    tag: Option<String>,
    /// Only what happened after this: a time, or the id of an event.
    since: Option<String>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = History)]
pub(super) struct HistoryBody {
    events: Vec<Event>,
}

/// What happened to a repository, or to one of its tags, the latest last.
#[utoipa::path(
    get,
    path = "/api/v1/history/{name}",
    operation_id = "get_history",
    params(("name" = String, Path, description = openapi::NAME), HistoryParameters),
    responses(
        (status = 200, description = "What happened, the latest last", body = HistoryBody),
        (status = 202, description = "The repository is watched from now on", body = on_demand::Accepted<'static>),
        (status = 304, description = "Nothing has happened since the client asked")
    )
)]
pub(super) async fn one(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    StrictQuery(parameters): StrictQuery<HistoryParameters>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = query::name(path, &doors.aliases)?;
    let invalid = |parameter: &str, error: &dyn std::fmt::Display| {
        Problem::bad_request(format!("{parameter}: {error}"))
    };
    let tag: Option<Tag> =
        parameters.tag.map(|text| text.parse()).transpose().map_err(|error| invalid("tag", &error))?;
    let since: Option<Since> =
        parameters.since.map(|text| text.parse()).transpose().map_err(|error| invalid("since", &error))?;
    let admitted =
        on_demand::admit(&doors, &caller, &name, tag.as_ref().map_or(Reading::List, Reading::Tag))?;
    let history = match doors.cache.history(&name, tag.as_ref(), since).await {
        Ok(history) => history,
        Err(error) => return admitted.without(&doors, &Reference::new(name, None, None), error),
    };
    let (mut response, entity_tag) = match caching::client_has(&headers, history.generation) {
        Some(entity_tag) => (StatusCode::NOT_MODIFIED.into_response(), entity_tag),
        None => (
            Json(HistoryBody { events: history.events }).into_response(),
            caching::entity_tag(history.generation, Coding::Identity),
        ),
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, entity_tag);
    headers.insert(header::CACHE_CONTROL, caching::ASK_EACH_TIME);
    headers.insert(header::VARY, coding::VARY);
    Ok(response)
}
