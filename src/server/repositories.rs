//! `GET /api/v1/repositories` and `GET /api/v1/repositories/{name}`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use samovar_registry::{ImageInfo, Name, Reference, Tag};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::access::Caller;
use super::following::Following;
use super::on_demand::{self, Admitted};
use super::problem::Problem;
use super::query::{self, StrictQuery, WaitParameters};
use super::{Doors, caching};
use crate::cache::records::{LastError, Unavailable};
use crate::cache::{CacheError, ImageRepository, RepositorySummary};
use crate::warmer::{Reading, RepositoryOverview};

/// Repositories on one page where the client does not say, and at most.
const DEFAULT_LIMIT: usize = 100;
const MOST_LIMIT: usize = 1000;
/// Summaries read from the store at once.
const SUMMARIES_AT_ONCE: usize = 32;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParameters {
    #[serde(default)]
    prefix: String,
    limit: Option<usize>,
    after: Option<String>,
}

#[derive(Debug, Serialize)]
struct RepositoryPage {
    repositories: Vec<RepositoryRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Name>,
}

#[derive(Debug, Serialize)]
struct RepositoryRow {
    name: Name,
    tag_count: usize,
    image_count: usize,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_update: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<LastError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_refresh: Option<Timestamp>,
}

impl RepositoryRow {
    fn new(name: Name, summary: RepositorySummary) -> Self {
        let RepositorySummary { tag_count, image_count, complete, last_update, last_error, next_refresh } =
            summary;
        Self { name, tag_count, image_count, complete, last_update, last_error, next_refresh }
    }
}

impl From<RepositoryOverview> for RepositorySummary {
    fn from(overview: RepositoryOverview) -> Self {
        let RepositoryOverview { counts, complete, .. } = overview;
        let (tag_count, image_count) = (counts.total(), counts.ok);
        Self { tag_count, image_count, complete, last_update: None, last_error: None, next_refresh: None }
    }
}

/// The watched repositories that the caller may see, by name.
pub(super) async fn list(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
    StrictQuery(parameters): StrictQuery<ListParameters>,
) -> Result<Response, Problem> {
    let limit = parameters.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MOST_LIMIT).contains(&limit) {
        return Err(Problem::bad_request(format!("limit: must be from 1 to {MOST_LIMIT}")));
    }
    let watch_list = doors.warmer.watch_list();
    let after = parameters.after.as_deref().unwrap_or_default();
    let mut names: Vec<Name> = watch_list
        .0
        .keys()
        .filter(|name| name.as_str() > after && name.as_str().starts_with(&parameters.prefix))
        .filter(|name| caller.may_read(name))
        .take(limit + 1)
        .cloned()
        .collect();
    let more = names.len() > limit;
    names.truncate(limit);
    let next = if more { names.last().cloned() } else { None };
    let overview = doors.warmer.overview();
    let repositories = stream::iter(names)
        .map(|name| {
            let (doors, overview) = (&doors, &overview);
            async move {
                let summary = match (doors.cache.summary(&name).await, overview.get(&name)) {
                    // One server of several does not answer: what the warmer knows is better than no list at all.
                    (Err(CacheError::Store(_)), Some(known)) => RepositorySummary::from(*known),
                    (summary, _) => summary?,
                };
                Ok(RepositoryRow::new(name, summary))
            }
        })
        .buffered(SUMMARIES_AT_ONCE)
        .try_collect()
        .await
        .map_err(|error: CacheError| Problem::of(error, doors.clock.now()))?;
    Ok(Json(RepositoryPage { repositories, next }).into_response())
}

#[derive(Debug, Serialize)]
struct RepositoryBody<'a> {
    name: &'a Name,
    tags: &'a [Tag],
    images: &'a BTreeMap<Tag, ImageInfo>,
    unavailable: &'a BTreeMap<Tag, Unavailable>,
    complete: bool,
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_update: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: &'a Option<LastError>,
}

/// One repository. With `wait` and `If-None-Match`, when it changes; with `wait` alone, when it is first listed.
pub(super) async fn one(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    StrictQuery(parameters): StrictQuery<WaitParameters>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = query::name(path, &doors.aliases)?;
    let admitted = on_demand::admit(&doors, &caller, &name, Reading::Whole)?;
    let deadline = Instant::now() + parameters.wait.unwrap_or_default();
    when_changed(&doors, &name, admitted, deadline, |generation| caching::client_has(&headers, generation))
        .await
}

/// The repository when it is there, of a generation that the client does not have; at the deadline, that nothing changed.
pub(super) async fn when_changed(
    doors: &Doors,
    name: &Name,
    admitted: Admitted,
    deadline: Instant,
    client_has: impl Fn(u64) -> bool,
) -> Result<Response, Problem> {
    let mut following = Following::new(doors, name, deadline);
    loop {
        let unchanged = match doors.cache.generation(name).await {
            Ok(generation) if client_has(generation) => Ok(generation),
            Ok(_) => {
                // What somebody asks for first, and waits for, is fetched first.
                while admitted.begins() && !is_complete(doors, name).await && following.next().await {}
                return answer(doors, name).await;
            }
            Err(error) => Err(error),
        };
        let may_change = unchanged.as_ref().err().is_none_or(|error| admitted.may_come(error));
        if !may_change || !following.next().await {
            return match unchanged {
                Ok(generation) => Ok(not_modified(generation)),
                Err(error) => admitted.without(doors, &Reference::new(name.clone(), None, None), error),
            };
        }
    }
}

async fn is_complete(doors: &Doors, name: &Name) -> bool {
    doors.cache.summary(name).await.is_ok_and(|summary| summary.complete)
}

fn not_modified(generation: u64) -> Response {
    (StatusCode::NOT_MODIFIED, [(header::ETAG, caching::entity_tag(generation))]).into_response()
}

/// The repository as it is now.
pub(super) async fn answer(doors: &Doors, name: &Name) -> Result<Response, Problem> {
    let now = doors.clock.now();
    let repository = match doors.cache.repository_state(name).await {
        Ok(repository) => repository,
        Err(error) => return Err(doors.problem(error)),
    };
    let ImageRepository { metadata, unavailable, complete, generation, last_update, last_error, .. } =
        repository;
    let body = RepositoryBody {
        name,
        tags: &metadata.tags,
        images: &metadata.images,
        unavailable: &unavailable,
        complete,
        generation,
        last_update,
        last_error: &last_error,
    };
    let mut response = Json(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::ETAG, caching::entity_tag(generation));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Some(age) = caching::age(last_update, now) {
        headers.insert(header::AGE, age);
    }
    Ok(response)
}
