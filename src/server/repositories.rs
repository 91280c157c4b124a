//! `GET /api/v1/repositories` and `GET /api/v1/repositories/{name}`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use samovar_registry::{Name, Reference};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::access::Caller;
use super::coding::{self, Coding};
use super::encoded::Form;
use super::fields::Fields;
use super::following::Following;
use super::on_demand::{self, Admitted};
use super::problem::Problem;
use super::query::{self, StrictQuery};
use super::{Doors, caching, openapi, repository_body};
use crate::cache::records::LastError;
use crate::cache::{CacheError, RepositorySummary};
use crate::warmer::{Reading, RepositoryOverview};

/// Repositories on one page where the client does not say, and at most.
const DEFAULT_LIMIT: usize = 100;
const MOST_LIMIT: usize = 1000;
/// Summaries read from the store at once.
const SUMMARIES_AT_ONCE: usize = 32;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParameters {
    /// Only repositories whose canonical names begin with it.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    prefix: String,
    /// How many at most; 100 unless given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// The `next` of the page before.
    after: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RepositoryPage {
    repositories: Vec<RepositoryRow>,
    /// Where the next page begins; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    next: Option<Name>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RepositoryRow {
    #[schema(value_type = String)]
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
#[utoipa::path(
    get,
    path = "/api/v1/repositories",
    operation_id = "list_repositories",
    params(ListParameters),
    responses((status = 200, description = "A page of repositories", body = RepositoryPage))
)]
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
    let page = Json(RepositoryPage { repositories, next });
    Ok(([(header::CACHE_CONTROL, caching::ASK_EACH_TIME)], page).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RepositoryParameters {
    /// How long to wait for a change, with `If-None-Match`, or for the first listing: `30s`, at most 5 minutes.
    #[serde(default, deserialize_with = "query::wait")]
    #[param(value_type = Option<String>, example = "1s")]
    wait: Option<Duration>,
    /// The parts that are wanted, separated by commas; all of them unless given.
    #[serde(default = "Fields::all", deserialize_with = "Fields::deserialize")]
    #[param(value_type = Option<String>, example = "tags,complete")]
    fields: Fields,
}

/// How a repository is to be answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) fields: Fields,
    pub(super) coding: Coding,
}

impl Wanted {
    /// All of it, as it is.
    pub(super) const WHOLE: Self = Self { fields: Fields::ALL, coding: Coding::Identity };
}

/// One repository.
///
/// With `wait` and `If-None-Match`, when it changes; with `wait` alone, when it is first listed.
#[utoipa::path(
    get,
    path = "/api/v1/repositories/{name}",
    operation_id = "get_repository",
    params(("name" = String, Path, description = openapi::NAME), RepositoryParameters),
    responses(
        (status = 200, description = "The repository", body = repository_body::RepositoryBody<'static>),
        (status = 202, description = "It is watched from now on", body = on_demand::Accepted<'static>),
        (status = 304, description = "It is as the client knows it")
    )
)]
pub(super) async fn one(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    StrictQuery(parameters): StrictQuery<RepositoryParameters>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = query::name(path, &doors.aliases)?;
    let admitted = on_demand::admit(&doors, &caller, &name, Reading::Whole)?;
    let deadline = Instant::now() + parameters.wait.unwrap_or_default();
    let wanted = Wanted { fields: parameters.fields, coding: Coding::wanted(&headers) };
    let client_has = |generation| caching::client_has(&headers, generation);
    when_changed(&doors, &name, admitted, deadline, wanted, client_has).await
}

/// The repository when it is there, of a generation that the client does not have; at the deadline, that nothing changed.
pub(super) async fn when_changed(
    doors: &Doors,
    name: &Name,
    admitted: Admitted,
    deadline: Instant,
    wanted: Wanted,
    client_has: impl Fn(u64) -> Option<HeaderValue>,
) -> Result<Response, Problem> {
    let mut following = None;
    loop {
        let unchanged = match doors.cache.generation(name).await {
            Ok(generation) => {
                let Some(entity_tag) = client_has(generation) else {
                    if admitted.begins() {
                        // What somebody asks for first, and waits for, is fetched first.
                        let following =
                            following.get_or_insert_with(|| Following::new(doors, name, deadline));
                        while !is_complete(doors, name).await && following.next().await {}
                    }
                    return answer(doors, name, wanted).await;
                };
                Ok(entity_tag)
            }
            Err(error) => Err(error),
        };
        let may_change = unchanged.as_ref().err().is_none_or(|error| admitted.may_come(error));
        let goes_on = may_change
            && match &mut following {
                Some(following) => following.next().await,
                // And one more look: what was published in between is not told.
                None if Instant::now() < deadline => {
                    following = Some(Following::new(doors, name, deadline));
                    true
                }
                None => false,
            };
        if !goes_on {
            return match unchanged {
                Ok(entity_tag) => Ok(not_modified(entity_tag)),
                Err(error) => admitted.without(doors, &Reference::new(name.clone(), None, None), error),
            };
        }
    }
}

async fn is_complete(doors: &Doors, name: &Name) -> bool {
    doors.cache.summary(name).await.is_ok_and(|summary| summary.complete)
}

fn not_modified(entity_tag: HeaderValue) -> Response {
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ETAG, entity_tag);
    headers.insert(header::CACHE_CONTROL, caching::ASK_EACH_TIME);
    headers.insert(header::VARY, coding::VARY);
    response
}

/// The repository as it is now.
pub(super) async fn answer(doors: &Doors, name: &Name, wanted: Wanted) -> Result<Response, Problem> {
    let snapshot = match doors.cache.snapshot(name, wanted.fields.pages()).await {
        Ok(snapshot) => snapshot,
        Err(error) => return Err(doors.problem(error)),
    };
    if snapshot.missing_pages > 0 {
        return Err(doors.problem(CacheError::Torn { name: name.clone() }));
    }
    let form = (Form::Repository(wanted.fields), wanted.coding);
    let is_hot = || doors.hot.holds(name, &snapshot);
    let make = || {
        let (cache, name, snapshot) = (doors.cache.clone(), name.clone(), Arc::clone(&snapshot));
        move || repository_body::write(&cache, &name, &snapshot, wanted.fields)
    };
    let encoded = doors.encoded.get(name, &snapshot, form, is_hot, make).await;
    let generation = snapshot.head.as_ref().map_or(0, |head| head.generation);
    let mut response = encoded.into_response(generation);
    let last_update = snapshot.side.as_ref().and_then(|side| side.last_update);
    if let Some(age) = caching::age(last_update, doors.clock.now()) {
        response.headers_mut().insert(header::AGE, age);
    }
    Ok(response)
}
