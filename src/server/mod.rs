//! The doors: how controllers and operators reach what the warmer keeps.
//!
//! | path | module |
//! |---|---|
//! | `/api/v1/repositories…` | `repositories` |
//! | `/api/v1/images/…` | `images` |
//! | `/api/v1/latest/…` | `latest` |
//! | `/api/v1/query` | `batch` |
//! | `/api/v1/history/…` | `history` |
//! | `/api/v1/refresh` | `refresh` |
//! | `/api/v1/events` | `events` |
//! | `/hooks/…`, `/api/flux/v11/notify` | `hooks` |
//! | `/api/v1/openapi.json` | `openapi` |
//! | `/v2/…` | `oci` |
//! | `/api/v1/status`, `/metrics`, `/healthz`, `/readyz` | `operations` |
//!
//! Handlers read from the cache and may ask the warmer for a refresh; they never write to the store and never speak to
//! a registry. Everything that goes wrong under `/api` is answered as a `problem::Problem`; under `/v2` in the words of the
//! distribution specification.

mod access;
mod batch;
mod caching;
mod coding;
mod encoded;
mod events;
mod fields;
mod following;
mod guard;
mod history;
mod hooks;
mod images;
mod latest;
mod limits;
mod listen;
pub mod oci;
mod on_demand;
mod openapi;
mod operations;
mod patience;
mod problem;
mod query;
mod refresh;
mod repositories;
mod repository_body;
mod store_status;
mod tls;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, get, post};
use jiff::Timestamp;
use samovar_registry::upstream::HttpUpstreams;
use samovar_registry::{Aliases, Clock};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;

use self::listen::Listening;
use self::problem::{Problem, ProblemType};
use crate::cache::{Cache, CacheError, HotSet, TimestampLabels};
use crate::feed::Feed;
use crate::metrics::Metrics;
use crate::notify;
use crate::policy::Patterns;
use crate::sources::{OnDemand, SourceProblems};
use crate::store::{Client, Embedded};
use crate::warmer::Handle;

pub use self::access::Access;
pub use self::encoded::EncodedAnswers;
pub use self::following::Followers;
pub(crate) use self::hooks::DeliveryOutcome;
pub use self::hooks::Hooks;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::hooks::read_delivery;
pub use self::oci::OciDoor;
pub use self::store_status::LocalTier;
pub use self::tls::Tls;

/// A request's body is no larger, unless it holds many questions: it is a name.
const MOST_BODY_BYTES: usize = 16 * 1024;
/// A client that sends nothing more of a body for so long is cut.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What the doors stand on.
#[derive(Debug)]
pub struct Doors {
    /// Whom the doors are open for.
    pub access: Arc<Access>,
    /// What connections are secured with; absent where they are plain.
    pub tls: Option<Arc<Tls>>,
    /// Connections at once.
    pub most_connections: usize,
    /// Names, lower case, by which clients may ask. None: where other machines reach the doors, any.
    pub external_hosts: BTreeSet<String>,
    /// Answers.
    pub cache: Cache<Arc<dyn Client>>,
    /// The repositories that the cache has in memory; tells what other replicas changed.
    pub hot: Arc<HotSet>,
    /// Answers about these, encoded.
    pub encoded: EncodedAnswers,
    /// Takes requests to refresh.
    pub warmer: Handle,
    /// Tells what changes, and what has changed lately.
    pub feed: Feed,
    /// How those are doing whom we tell of changes.
    pub receivers: notify::Standings,
    /// Who waits for a repository to change.
    pub followers: Followers,
    /// The store, for readiness and status.
    pub store: Arc<dyn Client>,
    /// The store as it was configured, without secrets.
    pub store_url: String,
    /// The part of the store that lies on this machine, where it has two.
    pub local_tier: Option<LocalTier>,
    /// The store on this machine's disk, be it all of the store or its local tier.
    pub embedded: Option<Arc<Embedded>>,
    /// The registries' budgets, for status.
    pub upstreams: Arc<HttpUpstreams>,
    /// Counts what is answered.
    pub metrics: Arc<Metrics>,
    /// How often a timestamp label could not be read.
    pub timestamp_labels: Arc<TimestampLabels>,
    /// The regular expressions of the policies that are asked for.
    pub patterns: Patterns,
    /// Stand for hosts in the names that are asked for.
    pub aliases: Aliases,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// When samovar started.
    pub started_at: Timestamp,
    /// Has repositories watched that somebody asks about, where that is configured.
    pub on_demand: Option<OnDemand>,
    /// The names of the sources, and what is wrong with them.
    pub sources: Vec<(String, SourceProblems)>,
    /// Hosts whose TLS is not verified.
    pub unverified_hosts: Vec<String>,
    /// Who tells that something was pushed.
    pub hooks: Hooks,
    /// Clients of the distribution protocol.
    pub oci: OciDoor,
    /// Ends long polls.
    pub shutdown: CancellationToken,
    /// Whether only this machine can reach the doors: then only names of this machine are accepted as `Host`.
    pub loopback_only: bool,
}

impl Doors {
    /// What a failed look into the cache means to a client. What is found missing is asked for again.
    fn problem(&self, error: CacheError) -> Problem {
        let error = match error {
            // The store has lost what said that it is known.
            CacheError::NotWatched { name } if self.warmer.is_watched(&name) => {
                CacheError::NeverListed { name, last_error: None, next_attempt: None, not_found: false }
            }
            error => error,
        };
        if let CacheError::Torn { name } | CacheError::NeverListed { name, last_error: None, .. } = &error {
            self.warmer.mend(name);
        }
        Problem::of(error, self.clock.now())
    }
}

/// The routes, as they are counted; what is not among them is counted as `other`.
pub(crate) const ROUTES: [&str; 17] = [
    "/api/v1/repositories",
    "/api/v1/repositories/{*name}",
    "/api/v1/images/{*reference}",
    "/api/v1/latest/{*name}",
    "/api/v1/query",
    "/api/v1/history/{*name}",
    "/api/v1/refresh",
    "/api/v1/events",
    hooks::ROUTES[0],
    hooks::ROUTES[1],
    hooks::ROUTES[2],
    "/api/v1/status",
    "/api/v1/openapi.json",
    "/metrics",
    "/healthz",
    "/readyz",
    "other",
];

/// All routes.
pub fn router(doors: Arc<Doors>) -> Router {
    let [
        list,
        repository,
        image,
        latest,
        query,
        history,
        refresh,
        events,
        _,
        _,
        _,
        status,
        openapi,
        metrics,
        healthy,
        ready,
        _,
    ] = ROUTES;
    Router::new()
        .route(list, get(repositories::list))
        .route(repository, get(repositories::one))
        .route(image, get(images::one))
        .route(latest, get(latest::one))
        .route(query, post(batch::query).layer(DefaultBodyLimit::max(batch::MOST_QUERY_BYTES)))
        .route(history, get(history::one))
        .route(refresh, post(refresh::refresh))
        .route(events, get(events::follow))
        .route(status, get(operations::status))
        .route(openapi, get(openapi::described))
        .route(metrics, get(operations::metrics))
        .route(healthy, get(operations::healthy))
        .route(ready, get(operations::ready))
        .merge(hooks::routes())
        .merge(oci_routes())
        .fallback(|| async { Problem::new(ProblemType::NotFound, operations::NOTHING_HERE) })
        .method_not_allowed_fallback(|| async {
            Problem::new(ProblemType::MethodNotAllowed, "this path does not take this method")
        })
        .layer(DefaultBodyLimit::max(MOST_BODY_BYTES))
        .layer(RequestBodyTimeoutLayer::new(BODY_TIMEOUT))
        .layer(axum::middleware::from_fn(coding::negotiate))
        .layer(axum::middleware::from_fn(patience::bound_body))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&doors), access::identify))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&doors), guard::check))
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(axum::middleware::from_fn(oci::in_own_words))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&doors), guard::count))
        .with_state(doors)
}

/// The distribution protocol, as it stands and behind the name of a registry. What is asked for is read by the door itself: a
/// repository has any number of components, in the middle of the path.
fn oci_routes() -> Router<Arc<Doors>> {
    let paths = ["/v2", "/v2/", "/v2/{*path}", "/{upstream}/v2", "/{upstream}/v2/", "/{upstream}/v2/{*path}"];
    paths.into_iter().fold(Router::new(), |router, path| router.route(path, any(oci::serve)))
}

/// Serves until `doors.shutdown`, then answers what is being asked and returns.
pub async fn serve(listener: TcpListener, doors: Arc<Doors>) {
    let shutdown = doors.shutdown.clone();
    let listening = Listening {
        connections: doors.most_connections,
        access: Arc::clone(&doors.access),
        tls: doors.tls.clone(),
    };
    let accept = listen::accept(listener, router(Arc::clone(&doors)), listening, shutdown.clone());
    let hooks = hooks::keep(Arc::clone(&doors));
    // In this order: who asks finds them listening.
    tokio::join!(doors.followers.run(&doors), doors.feed.run(shutdown), hooks, accept);
}
