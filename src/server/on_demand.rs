//! Questions about repositories that may not be watched yet.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use samovar_registry::{Name, Reference};
use serde::Serialize;

use super::Doors;
use super::access::Caller;
use super::problem::{Problem, ProblemType};
use crate::cache::CacheError;
use crate::cache::records::TagStateName;
use crate::sources::NotTaken;
use crate::warmer::Reading;

/// When to ask again about what is being fetched. Seconds.
const ASK_AGAIN_AFTER: HeaderValue = HeaderValue::from_static("2");

/// A question about a repository that is watched, or is from now on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admitted {
    /// It is watched because somebody asked, not because it is configured.
    on_demand: bool,
    /// It was not watched before.
    begins: bool,
    at: Timestamp,
}

/// Takes note of a question; where on-demand watching covers the name, the repository is watched from now on. What the
/// caller may not read is not watched, whoever asked for it.
pub(super) fn admit(
    doors: &Doors,
    caller: &Caller,
    name: &Name,
    reading: Reading<'_>,
) -> Result<Admitted, Problem> {
    let now = doors.clock.now();
    // Failures are dated to the millisecond.
    let at = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
    if !caller.may_read(name) {
        return Err(not_watched(name, at));
    }
    let is_watched = doors.warmer.is_watched(name);
    let on_demand = match &doors.on_demand {
        Some(on_demand) if is_watched => on_demand.is_taken(name),
        Some(on_demand) => match on_demand.ask(name) {
            Ok(()) => true,
            Err(NotTaken::NotCovered) => return Err(not_watched(name, at)),
            Err(full @ NotTaken::Full) => {
                return Err(Problem::new(ProblemType::Busy, format!("{name} is not watched: {full}")));
            }
        },
        None if is_watched => false,
        None => return Err(not_watched(name, at)),
    };
    doors.warmer.read(name, reading);
    Ok(Admitted { on_demand, begins: !is_watched, at })
}

/// As it is answered about what nobody watches.
pub(super) fn not_watched(name: &Name, now: Timestamp) -> Problem {
    Problem::of(CacheError::NotWatched { name: name.clone() }, now)
}

impl Admitted {
    /// When it was asked.
    pub(super) fn at(self) -> Timestamp {
        self.at
    }

    /// Whether the repository is watched from now on, and was not before.
    pub(super) fn begins(self) -> bool {
        self.begins
    }

    /// Whether what there is no answer to yet may be on its way, so that waiting for it makes sense.
    pub(super) fn may_come(self, error: &CacheError) -> bool {
        match error {
            CacheError::NotWatched { .. } => self.on_demand,
            // Of what was asked for just now, one failure is an answer.
            CacheError::NeverListed { last_error: Some(error), .. } => !self.on_demand || error.at < self.at,
            CacheError::NeverListed { last_error: None, .. } => true,
            CacheError::Unavailable { unavailable, .. } => unavailable.state == TagStateName::Pending,
            _ => false,
        }
    }

    /// The answer where there is none: of what is watched because somebody asked, that it is being fetched for the first
    /// time.
    pub(super) fn without(
        self,
        doors: &Doors,
        asked: &Reference,
        error: CacheError,
    ) -> Result<Response, Problem> {
        match error {
            CacheError::NotWatched { .. } | CacheError::NeverListed { last_error: None, .. }
                if self.on_demand =>
            {
                Ok(accepted(asked))
            }
            error => Err(doors.problem(error)),
        }
    }
}

/// What is being seen to.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Accepted)]
pub(super) struct Accepted<'a> {
    #[schema(value_type = String)]
    image: &'a Reference,
    #[schema(value_type = String)]
    status: &'static str,
}

/// 202: it is being seen to.
pub(super) fn accepted(image: &Reference) -> Response {
    let body = Json(Accepted { image, status: "accepted" });
    (StatusCode::ACCEPTED, [(header::RETRY_AFTER, ASK_AGAIN_AFTER)], body).into_response()
}
