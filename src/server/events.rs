//! `GET /api/v1/events`: what changes, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::Doors;
use super::access::Caller;
use super::problem::Problem;
use super::query::StrictQuery;
use crate::cache::CacheError;
use crate::feed::{Following, Happening, NoSelection, Position, Selection, Step};

/// What a client sends of what it has heard.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Clients whose connection broke come back after a time of their own between these, in milliseconds.
const COME_BACK_AFTER: std::ops::Range<u64> = 1000..5000;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsParameters {
    /// Globs over names, separated by commas.
    name: Option<String>,
    /// Types, separated by commas.
    r#type: Option<String>,
    /// As the header, for clients that cannot set one.
    last_event_id: Option<String>,
}

/// What changes from now on, or from where the client has come to.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    operation_id = "follow_events",
    params(EventsParameters),
    responses((status = 200, description = "Server-sent events, without an end", body = String, content_type = "text/event-stream"))
)]
pub(super) async fn follow(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
    StrictQuery(parameters): StrictQuery<EventsParameters>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let selection = selection(&parameters)?;
    let from = match (headers.get(LAST_EVENT_ID), &parameters.last_event_id) {
        // What cannot be read cannot be resumed, like what is too long ago.
        (Some(sent), _) => position(sent.to_str().ok()),
        (None, Some(sent)) => {
            let position =
                sent.parse().map_err(|error| Problem::bad_request(format!("last_event_id: {error}")))?;
            Some(position)
        }
        (None, None) => None,
    };
    let followed = doors.feed.follow(from).await;
    let following = followed.map_err(|error| Problem::of(CacheError::Store(error), doors.clock.now()))?;
    // Not even ids tell of what they may not see.
    let following = if caller.may_operate() {
        following
    } else {
        let caller = caller.clone();
        following.only(move |name| caller.may_read(name))
    };
    let retry = format!("retry: {}\n\n", fastrand::u64(COME_BACK_AFTER));
    let events =
        Events { following, selection, caller, begin: Some(retry.into()), shutdown: doors.shutdown.clone() };
    let events = stream::unfold(events, async |mut events| {
        let next = events.next().await?;
        Some((Ok::<_, Infallible>(next), events))
    });
    let mut response = Body::from_stream(events).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that collect an answer before they pass it on must not.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn selection(parameters: &EventsParameters) -> Result<Selection, Problem> {
    let refused = |parameter: &str, error: NoSelection| Problem::bad_request(format!("{parameter}: {error}"));
    let mut selection = Selection::default();
    if let Some(globs) = &parameters.name {
        selection = selection.with_names(globs.split(',')).map_err(|error| refused("name", error))?;
    }
    if let Some(kinds) = &parameters.r#type {
        selection = selection.with_kinds(kinds.split(',')).map_err(|error| refused("type", error))?;
    }
    Ok(selection)
}

/// Where a client has come to that says so; an empty text says nothing.
fn position(sent: Option<&str>) -> Option<Position> {
    match sent {
        Some("") => None,
        Some(text) => Some(text.parse().unwrap_or_default()),
        None => Some(Position::default()),
    }
}

/// What one client is sent.
#[derive(Debug)]
struct Events {
    following: Following,
    selection: Selection,
    caller: Caller,
    begin: Option<Bytes>,
    shutdown: CancellationToken,
}

impl Events {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(begin) = self.begin.take() {
            return Some(begin);
        }
        loop {
            let step = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return None,
                step = self.following.next() => step?,
            };
            // What let the client in may have been withdrawn since.
            if !self.caller.is_current() {
                return None;
            }
            match step {
                Step::Changed(happening, framed) => {
                    let Happening { name, event, .. } = &*happening;
                    if self.selection.wants(name, event.kind) {
                        return Some(framed);
                    }
                }
                Step::Reset(Some(name), framed) => {
                    if self.selection.wants_name(&name) {
                        return Some(framed);
                    }
                }
                Step::Reset(None, framed) | Step::Beat(framed) => return Some(framed),
            }
        }
    }
}
