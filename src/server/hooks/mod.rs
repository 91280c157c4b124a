//! `POST /hooks/{receiver}` and `POST /api/flux/v11/notify`: registries, and whoever pushes to them, say that something has
//! changed.
//!
//! ```text
//! delivery → proof (who says so) → formats (what is said) → hints → backlog → the warmer, which asks the registry
//! ```
//! - `receiver`: one sender as it is configured; `proof`, `secrets`, `google`: whether it is who it should be;
//! - `formats`: the words of each kind of sender; `hint`: what comes of them;
//! - `backlog`: hints on their way to the warmer; `keeper`: what becomes of them.
//!
//! Invariants: what a delivery says is never believed, only looked at: it names what the registry is asked about, ahead of
//! the schedule. Only what is watched is looked at, so that no sender chooses whom we speak to; for the same reason no URL
//! in a delivery is ever called. Answers come at once: nobody waits for a registry, and a delivery that comes again does no
//! more than the first. An event that means nothing to us is accepted, for its sender would send it again.

mod backlog;
mod formats;
mod google;
mod hint;
mod keeper;
mod proof;
mod receiver;
mod secrets;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use samovar_registry::Aliases;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tracing::{debug, warn};

use self::backlog::{Backlog, Full, LookAt, Taken, Wanted};
use self::formats::Delivery;
use self::google::TokenProblem;
use self::hint::{Hint, Told};
use self::proof::Proof;
use self::receiver::Receiver;
use super::Doors;
use super::problem::{Problem, ProblemType};
use super::query::StrictQuery;
use crate::config::{HookConfig, HookType};

pub(super) use self::keeper::keep;
pub(crate) use self::receiver::{DeliveryOutcome, ReceiverStatus};

/// A delivery's body is no larger.
const MOST_DELIVERY_BYTES: usize = 1024 * 1024;
/// Deliveries whose bodies are read at once; more are to come again.
const MOST_DELIVERIES_AT_ONCE: usize = 64;
/// A body has to be there by then.
const LONGEST_DELIVERY: Duration = Duration::from_secs(10);
/// The least time between two lines in the log about refused deliveries of one receiver.
const SAY_AGAIN_AFTER: Duration = Duration::from_mins(1);

/// The paths, as they are counted.
pub(super) const ROUTES: [&str; 3] =
    ["/hooks/{receiver}", "/hooks/{receiver}/{secret}", "/api/flux/v11/notify"];

/// How many hints a delivery gives, or why it is refused.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_delivery(kind: HookType, headers: &HeaderMap, body: &[u8]) -> Result<usize, String> {
    // Some senders never name the registry.
    let registry = body.len().is_multiple_of(2).then(|| "registry.example".to_owned());
    let place = hint::Place { registry, ..hint::Place::default() };
    let mut told = Told::new(&place);
    let read = formats::decode(kind, &Delivery { headers, body }, &mut told);
    read.map(|()| told.into_hints().len()).map_err(|error| error.to_string())
}

/// All receivers.
#[derive(Debug)]
pub struct Hooks {
    receivers: Vec<Receiver>,
    by_name: HashMap<String, usize>,
    /// The one that programs know which told fluxd.
    flux: Option<usize>,
    backlog: Backlog,
    /// For [`keep`], which takes it.
    taken: Mutex<Option<mpsc::Receiver<Taken>>>,
    reading: Semaphore,
    /// When a refusal was last logged, by receiver.
    said: Mutex<HashMap<usize, Instant>>,
}

impl Hooks {
    /// The receivers as configured. An error says which secrets cannot be read.
    pub fn new(configs: Vec<HookConfig>, aliases: &Aliases) -> Result<Self, String> {
        let receivers: Result<Vec<Receiver>, String> =
            configs.into_iter().map(|config| Receiver::new(config, aliases)).collect();
        let receivers = receivers?;
        for receiver in receivers.iter().filter(|receiver| matches!(receiver.proof, Proof::None)) {
            warn!(
                hook.receiver = receiver.name,
                "ANYBODY MAY TELL this receiver what to look at: it asks for no proof"
            );
        }
        let by_name = receivers.iter().enumerate().map(|(place, receiver)| (receiver.name.clone(), place));
        let (by_name, (backlog, taken)) = (by_name.collect(), Backlog::new());
        Ok(Self {
            flux: receivers.iter().position(|receiver| receiver.kind == HookType::Flux),
            by_name,
            receivers,
            backlog,
            taken: Mutex::new(Some(taken)),
            reading: Semaphore::new(MOST_DELIVERIES_AT_ONCE),
            said: Mutex::default(),
        })
    }

    /// How each receiver is doing.
    pub(super) fn status(&self) -> Vec<ReceiverStatus> {
        self.receivers.iter().map(Receiver::status).collect()
    }

    /// Hints that wait because too many requests of their hosts do.
    pub(super) fn waiting(&self) -> usize {
        self.backlog.len()
    }
}

/// The routes.
pub(super) fn routes() -> Router<Arc<Doors>> {
    let [named, with_secret, flux] = ROUTES;
    Router::new()
        .route(named, post(receive))
        .route(with_secret, post(receive))
        .route(flux, post(notify))
        .layer(DefaultBodyLimit::max(MOST_DELIVERY_BYTES))
}

#[derive(Debug, Deserialize)]
pub(super) struct PathParameters {
    receiver: String,
    secret: Option<String>,
}

/// Where senders can set neither a header nor a path of their own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretParameter {
    secret: Option<String>,
}

/// Takes what a registry tells.
#[utoipa::path(
    post,
    path = "/hooks/{receiver}",
    operation_id = "receive",
    params(
        ("receiver" = String, Path, description = "The name of a receiver that is configured"),
        ("secret" = Option<String>, Query, description = "Where the sender can set neither a header nor a path")),
    request_body(content = Object, description = "What a registry sends, at most 1 MiB, of any content type"),
    responses(
        (status = 200, description = "Accepted, as the sender wants to hear it", body = Object),
        (status = 202, description = "Accepted, whether anything of it is watched or not", body = Object)
    )
)]
pub(super) async fn receive(
    State(doors): State<Arc<Doors>>,
    path: Result<Path<PathParameters>, PathRejection>,
    StrictQuery(query): StrictQuery<SecretParameter>,
    request: Request,
) -> Result<Response, Problem> {
    let Path(PathParameters { receiver, secret }) =
        path.map_err(|error| Problem::bad_request(error.body_text()))?;
    let Some(place) = doors.hooks.by_name.get(&receiver) else {
        return Err(Problem::new(ProblemType::NotFound, "there is no such receiver"));
    };
    accept(&doors, *place, [secret, query.secret], request).await
}

/// What fluxd was told.
#[utoipa::path(
    post,
    path = "/api/flux/v11/notify",
    operation_id = "notify",
    params(("secret" = Option<String>, Query, description = "Where the sender can set neither a header nor a path")),
    request_body(content = Object, description = "What a registry sends, at most 1 MiB, of any content type"),
    responses(
        (status = 200, description = "Accepted, as the sender wants to hear it", body = Object),
        (status = 202, description = "Accepted, whether anything of it is watched or not", body = Object)
    )
)]
pub(super) async fn notify(
    State(doors): State<Arc<Doors>>,
    StrictQuery(query): StrictQuery<SecretParameter>,
    request: Request,
) -> Result<Response, Problem> {
    let Some(place) = doors.hooks.flux else {
        return Err(Problem::new(ProblemType::NotFound, "there is no receiver of type flux"));
    };
    accept(&doors, place, [None, query.secret], request).await
}

/// Accepts a delivery, or says why not; takes note of either.
async fn accept(
    doors: &Doors,
    place: usize,
    in_url: [Option<String>; 2],
    request: Request,
) -> Result<Response, Problem> {
    let receiver = &doors.hooks.receivers[place];
    let answer = deliver(doors, place, in_url, request).await;
    let (outcome, answer) = match answer {
        Ok((outcome, response)) => (outcome, Ok(response)),
        Err((outcome, problem)) => {
            doors.hooks.say(place, outcome, &problem);
            (outcome, Err(problem))
        }
    };
    receiver.note(outcome, doors.clock.now());
    doors.metrics.webhook(&receiver.name, outcome);
    answer
}

type Accepted = (DeliveryOutcome, Response);
type Refused = (DeliveryOutcome, Problem);

async fn deliver(
    doors: &Doors,
    place: usize,
    in_url: [Option<String>; 2],
    request: Request,
) -> Result<Accepted, Refused> {
    let receiver = &doors.hooks.receivers[place];
    let headers = request.headers().clone();
    check_before_reading(doors, receiver, &headers, &in_url).await?;
    let body = {
        let Ok(_permit) = doors.hooks.reading.try_acquire() else {
            return Err(busy("too many deliveries are on their way already"));
        };
        read(request).await?
    };
    if let Proof::Signature { secrets, signing } = &receiver.proof
        && !signing.is_by(secrets, &headers, &body)
    {
        return Err(unauthorized("the body is not signed with this receiver's secret"));
    }
    let mut told = Told::new(&receiver.place);
    let delivery = Delivery { headers: &headers, body: &body };
    if let Err(error) = formats::decode(receiver.kind, &delivery, &mut told) {
        let detail = format!("no delivery of type {}: {error}", receiver.kind);
        return Err((DeliveryOutcome::Malformed, Problem::bad_request(detail)));
    }
    let (unreadable, reply) = (told.unreadable(), told.reply().cloned());
    let hints = told.into_hints();
    debug!(hook.receiver = receiver.name, hints = hints.len(), unreadable, "a delivery has come");
    let outcome = match (hints.is_empty(), doors.hooks.backlog.take(&doors.warmer, place, wanted(hints))) {
        (true, _) => DeliveryOutcome::Ignored,
        (false, Ok(0)) => DeliveryOutcome::Unwatched,
        (false, Ok(_)) => DeliveryOutcome::Taken,
        (false, Err(Full)) => {
            return Err(busy("too many repositories and tags wait to be looked at already"));
        }
    };
    // The same whether anything of it is watched: that is not every sender's business.
    let response = match reply {
        Some(reply) => Json(reply).into_response(),
        None => (StatusCode::ACCEPTED, Json(json!({"status": "accepted"}))).into_response(),
    };
    Ok((outcome, response))
}

/// Whatever can be known of the sender from the request's header.
async fn check_before_reading(
    doors: &Doors,
    receiver: &Receiver,
    headers: &HeaderMap,
    in_url: &[Option<String>; 2],
) -> Result<(), Refused> {
    match &receiver.proof {
        Proof::Secret { secrets, headers: names } => {
            let in_url = [in_url[0].as_deref(), in_url[1].as_deref()];
            if proof::comes_along(secrets, names, headers, in_url) {
                return Ok(());
            }
            Err(unauthorized("this receiver's secret is missing, or it is another one"))
        }
        Proof::Google(tokens) => match tokens.check(headers, doors.clock.now()).await {
            Ok(()) => Ok(()),
            Err(TokenProblem::Refused) => {
                Err(unauthorized("there is no token of Google's for this receiver"))
            }
            Err(TokenProblem::NoKeys(reason)) => Err(busy(&reason)),
        },
        Proof::None | Proof::Signature { .. } => Ok(()),
    }
}

async fn read(request: Request) -> Result<Bytes, Refused> {
    let malformed = |kind, detail: String| (DeliveryOutcome::Malformed, Problem::new(kind, detail));
    let body = tokio::time::timeout(LONGEST_DELIVERY, Bytes::from_request(request, &())).await;
    let body = body.map_err(|_| malformed(ProblemType::BadRequest, "the body takes too long".to_owned()))?;
    body.map_err(|rejection| {
        let kind = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ProblemType::BodyTooLarge,
            _ => ProblemType::BadRequest,
        };
        malformed(kind, rejection.body_text())
    })
}

fn unauthorized(detail: &str) -> Refused {
    (DeliveryOutcome::Unauthorized, Problem::new(ProblemType::Unauthenticated, detail))
}

fn busy(detail: &str) -> Refused {
    (DeliveryOutcome::Busy, Problem::new(ProblemType::Busy, detail))
}

/// What to ask the warmer for. Of a tag that is said to be gone, the list as well: it is the list that loses it.
fn wanted(hints: Vec<Hint>) -> Vec<Wanted> {
    let mut lists = BTreeSet::new();
    let mut wanted = Vec::with_capacity(hints.len());
    for Hint { name, tag, deleted } in hints {
        if deleted {
            lists.insert(name.clone());
        }
        match tag {
            Some(tag) => wanted.push(Wanted { name, look_at: LookAt::Tag(tag) }),
            None if !deleted => wanted.push(Wanted { name, look_at: LookAt::Everything }),
            None => {}
        }
    }
    wanted.extend(lists.into_iter().map(|name| Wanted { name, look_at: LookAt::List }));
    wanted
}

impl Hooks {
    /// Logs a refusal, unless one of the same receiver was logged just now.
    fn say(&self, place: usize, outcome: DeliveryOutcome, problem: &Problem) {
        let now = Instant::now();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = said.get(&place).is_none_or(|at| now.duration_since(*at) >= SAY_AGAIN_AFTER);
        if is_new {
            said.insert(place, now);
            let (name, reason) = (&self.receivers[place].name, problem.detail());
            warn!(hook.receiver = name, outcome = outcome.as_str(), reason, "a delivery is refused");
        }
    }
}
