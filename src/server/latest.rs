//! `GET /api/v1/latest/{name}`: the tags of a repository that a policy chooses.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use samovar_registry::{ImageInfo, Name, Reference, Tag};
use serde::Serialize;

use super::access::Caller;
use super::coding::{self, Coding};
use super::on_demand;
use super::problem::Problem;
use super::query::{self, Pairs};
use super::{Doors, caching, openapi};
use crate::cache::Latest;
use crate::cache::demand::Reading;
use crate::cache::records::Unavailable;
use crate::policy::{LeftOut, Policy};

/// Tags named in a problem; more are counted.
const MOST_NAMED: usize = 10;

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Latest)]
pub(super) struct LatestBody<'a> {
    #[schema(value_type = String)]
    name: &'a Name,
    /// How many tags fit.
    matched: usize,
    complete: bool,
    /// The best first.
    #[schema(value_type = Vec<openapi::LatestTag>)]
    tags: Vec<LatestTag<'a>>,
    /// Why tags were not considered.
    #[schema(value_type = BTreeMap<String, String>)]
    left_out: &'a BTreeMap<Tag, LeftOut>,
    /// How many more were not.
    #[serde(skip_serializing_if = "is_none")]
    #[schema(required = false)]
    left_out_more: usize,
}

#[derive(Debug, Serialize)]
struct LatestTag<'a> {
    tag: &'a Tag,
    #[serde(flatten)]
    known: Known<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Known<'a> {
    Image(&'a ImageInfo),
    /// Chosen by its name alone.
    Name {
        id: Reference,
        unavailable: &'a Unavailable,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

/// The best tags of one repository.
#[utoipa::path(
    get,
    path = "/api/v1/latest/{name}",
    operation_id = "get_latest",
    params(
        ("name" = String, Path, description = openapi::NAME),
        ("semver" = Option<String>, Query, description = "The highest version in this range is best", example = "*"),
        ("alphabetical" = Option<String>, Query, description = "The last in this order is best: asc or desc"),
        ("numerical" = Option<String>, Query, description = "The last in this order is best: asc or desc"),
        ("newest" = Option<String>, Query, description = "created, pushed or first_seen"),
        ("filter" = Option<String>, Query, description = "Only tags in which the regular expression matches; may be repeated"),
        ("exclude" = Option<String>, Query, description = "No tags in which it matches; may be repeated"),
        ("extract" = Option<String>, Query, description = "What of the tag is compared, by groups of the first filter"),
        ("platform" = Option<String>, Query, description = "Only images that offer it; may be repeated"),
        ("label" = Option<String>, Query, description = "Only images whose labels fit; may be repeated"),
        ("min_age" = Option<String>, Query, description = "Only what has been there for so long"),
        ("min_age_by" = Option<String>, Query, description = "From when: first_seen, pushed or created"),
        ("limit" = Option<String>, Query, description = "How many tags, from 1 to 1,000"),
        ("require_complete" = Option<String>, Query, description = "Refuse an answer that what is missing could change"),
        ("prerelease" = Option<String>, Query, description = "Pre-releases also where the range names none"),
        ("partial" = Option<String>, Query, description = "Whether versions may leave parts open"),
        ("strict" = Option<String>, Query, description = "Only versions by the letter of SemVer")
    ),
    responses(
        (status = 200, description = "The best tags", body = LatestBody<'static>),
        (status = 202, description = "The repository is watched from now on", body = on_demand::Accepted<'static>),
        (status = 304, description = "It is as the client knows it")
    )
)]
pub(super) async fn one(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    Pairs(parameters): Pairs,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = query::name(path, &doors.aliases)?;
    let parameters = parameters.iter().map(|(parameter, value)| (parameter.as_str(), value.as_str()));
    choose(&doors, &caller, &name, parameters, &headers).await
}

/// What the policy with these parameters chooses from the repository.
pub(super) async fn choose<'a>(
    doors: &Doors,
    caller: &Caller,
    name: &Name,
    parameters: impl Iterator<Item = (&'a str, &'a str)>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let policy =
        Policy::read(parameters, &doors.patterns).map_err(|error| Problem::bad_request(error.to_string()))?;
    let reading = if policy.looks_at_images() { Reading::Whole } else { Reading::List };
    let admitted = on_demand::admit(doors, caller, name, reading)?;
    let latest = match doors.cache.latest(name, &policy).await {
        Ok(latest) => latest,
        Err(error) => return admitted.without(doors, &Reference::new(name.clone(), None, None), error),
    };
    // Where these point is what the client learns, or knows already, and relies on.
    for (tag, _) in &latest.tags {
        doors.warmer.read(name, Reading::Tag(tag));
    }
    if policy.require_complete && !latest.choice.is_complete() {
        let detail =
            format!("{name}: the answer may be another one when more is known of {}", missing(&latest));
        return Err(Problem::incomplete(detail, latest.next_attempt, doors.clock.now()));
    }
    // What depends on the time may change while the repository does not.
    let generation = (!policy.depends_on_time()).then_some(latest.generation);
    let known = generation.and_then(|generation| caching::client_has(headers, generation));
    let (mut response, entity_tag) = match known {
        Some(entity_tag) => (StatusCode::NOT_MODIFIED.into_response(), Some(entity_tag)),
        None => (
            Json(body(name, &latest)).into_response(),
            generation.map(|generation| caching::entity_tag(generation, Coding::Identity)),
        ),
    };
    let headers = response.headers_mut();
    if let Some(entity_tag) = entity_tag {
        headers.insert(header::ETAG, entity_tag);
    }
    headers.insert(header::CACHE_CONTROL, caching::ASK_EACH_TIME);
    headers.insert(header::VARY, coding::VARY);
    if let Some(age) = caching::age(latest.last_update, doors.clock.now()) {
        headers.insert(header::AGE, age);
    }
    Ok(response)
}

fn body<'a>(name: &'a Name, latest: &'a Latest) -> LatestBody<'a> {
    let tags = latest.tags.iter().map(|(tag, image)| {
        let known = match image {
            Ok(image) => Known::Image(image),
            Err(unavailable) => {
                Known::Name { id: Reference::new(name.clone(), Some(tag.clone()), None), unavailable }
            }
        };
        LatestTag { tag, known }
    });
    LatestBody {
        name,
        matched: latest.choice.matched,
        complete: latest.choice.is_complete(),
        tags: tags.collect(),
        left_out: &latest.choice.left_out,
        left_out_more: latest.choice.left_out_more,
    }
}

/// The tags that the answer is incomplete without, in words.
fn missing(latest: &Latest) -> String {
    let missing = &latest.choice.missing;
    let named: Vec<&str> = missing.iter().take(MOST_NAMED).map(Tag::as_str).collect();
    match missing.len() - named.len() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}
