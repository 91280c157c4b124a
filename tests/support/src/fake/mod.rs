//! A registry in the test's own process that records every request and misbehaves on command.
//!
//! It speaks the pull side of the distribution protocol over plain HTTP/1.1, as the right answer goes; every departure
//! from it is ordered by the test. It runs on the test's own runtime and keeps time by tokio's clock, which tests
//! may pause. Deliberately absent: pushing over HTTP, TLS, referrers, ranges, content negotiation.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::{Body, to_bytes};
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::Instant;

use crate::content::Content;
use answer::{Answer, PageAddress};
use auth::Guard;
use catalog::Catalog;
use contents::Contents;
use fault::Faults;
use issuer::Issuer;
use paging::PageRequest;
use record::Journal;
use route::Route;
use serve::{ConnectionClosed, Listening, speak_http};

pub use auth::Bearer;
pub use contents::TagsOrder;
pub use dialect::{Dialect, Head, Login, PullQuota};
pub use fault::{Action, Fault};
pub use issuer::IssuedToken;
pub use own_lists::OwnList;
pub use paging::{Listing, Paging};
pub use record::{Recorded, RequestKind};
pub use silent::SilentHost;

mod answer;
mod auth;
mod catalog;
mod contents;
mod dialect;
pub mod dialects;
mod fault;
mod issuer;
mod own_lists;
mod paging;
mod record;
mod route;
mod serve;
mod silent;

/// The largest body that a request may have.
const MAX_FORM: usize = 64 * 1024;

/// A programmable registry on a loopback port. Stops when dropped, and closes all its connections.
#[derive(Debug)]
pub struct FakeRegistry {
    listening: Listening,
    shared: Arc<Shared>,
}

/// What the test and the connections have in common.
#[derive(Debug)]
struct Shared {
    journal: Arc<Journal>,
    issuer: Arc<Issuer>,
    settings: Mutex<Settings>,
    endless_pages: AtomicUsize,
}

#[derive(Debug, Default)]
struct Settings {
    host: String,
    contents: Contents,
    catalog: Catalog,
    dialect: Dialect,
    /// How many manifests were fetched by GET.
    pulls: u64,
    guard: Guard,
    /// Repositories of one user, and the status that others get.
    private: HashMap<String, (String, u16)>,
    challenge: Option<String>,
    headers: Vec<(String, String)>,
    faults: Faults,
}

impl FakeRegistry {
    /// Starts on a free loopback port: empty, open to all, sorted lists, pages as large as they are asked for.
    pub async fn start() -> Self {
        let shared = Arc::new(Shared {
            journal: Arc::new(Journal::new()),
            issuer: Arc::default(),
            settings: Mutex::default(),
            endless_pages: AtomicUsize::new(0),
        });
        let for_connections = Arc::clone(&shared);
        let listening = Listening::start(move |stream| {
            let shared = Arc::clone(&for_connections);
            speak_http(stream, move |request| Arc::clone(&shared).respond(request))
        })
        .await;
        shared.settings().host = listening.host();
        Self { listening, shared }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.listening.host()
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.host())
    }

    /// Goes down: closes the port and all connections. What was recorded can still be asked for.
    pub async fn stop(&mut self) {
        self.listening.stop().await;
    }

    /// Puts an image or an index under a tag, which moves there if it exists. Returns the digest of the manifest.
    pub fn push(&self, repository: &str, tag: &str, content: &dyn Content) -> String {
        self.shared.settings().contents.push(repository, Some(tag), content)
    }

    /// The next push is of this time, in milliseconds since 1970, and each one after it of half a second later. Only what
    /// tells when tags were pushed tells so.
    pub fn push_from(&self, millisecond: i64) {
        self.shared.settings().contents.last_push = Some(millisecond - 500);
    }

    /// Puts an image or an index there without a tag. Returns the digest of the manifest.
    pub fn push_digest_only(&self, repository: &str, content: &dyn Content) -> String {
        self.shared.settings().contents.push(repository, None, content)
    }

    /// Removes a tag; its manifest stays. Panics where there is none.
    pub fn remove_tag(&self, repository: &str, tag: &str) {
        self.shared.settings().contents.remove_tag(repository, tag);
    }

    /// Removes a manifest; tags that point at it stay listed. Panics where there is none.
    pub fn remove_manifest(&self, repository: &str, digest: &str) {
        self.shared.settings().contents.remove_manifest(repository, digest);
    }

    /// Removes a blob. Panics where there is none.
    pub fn remove_blob(&self, repository: &str, digest: &str) {
        self.shared.settings().contents.remove_blob(repository, digest);
    }

    /// Lists one more entry after the tags: a string that is no valid tag, one that is listed already, null, a number.
    pub fn list_extra(&self, repository: &str, entry: impl Into<Value>) {
        self.shared.settings().contents.list_extra(repository, entry.into());
    }

    /// Behaves as a well-known registry does, in everything at once.
    pub fn speak(&self, dialect: &Dialect) {
        match &dialect.login {
            Login::Nobody => self.require_nothing(),
            Login::Basic { user, password, realm } => {
                self.shared.settings().guard = Guard::basic(user, password, realm);
            }
            Login::Bearer(bearer) => self.require_bearer(bearer.clone()),
        }
        self.shared.settings().dialect = dialect.clone();
    }

    /// In which order tags are listed.
    pub fn set_tags_order(&self, order: TagsOrder) {
        self.shared.settings().dialect.listing.order = order;
    }

    /// The most tags on a page, whatever is asked for.
    pub fn page_size(&self, tags: usize) {
        self.shared.settings().dialect.listing.largest_page = Some(tags);
    }

    /// The most repositories on a page of their list, whatever is asked for.
    pub fn catalog_page_size(&self, repositories: usize) {
        self.shared.settings().catalog.largest_page = repositories;
    }

    /// Lists one more entry among the repositories, whatever it is.
    pub fn list_repository(&self, entry: &str) {
        self.shared.settings().catalog.extra.push(entry.to_owned());
    }

    /// Removes a repository with all that it has. Panics where there is none.
    pub fn remove_repository(&self, repository: &str) {
        self.shared.settings().contents.remove_repository(repository);
    }

    /// How lists are cut into pages.
    pub fn paging(&self, paging: Paging) {
        self.shared.settings().dialect.listing.paging = paging;
    }

    /// Only this user may ask, with Basic authentication.
    pub fn require_basic(&self, user: &str, password: &str) {
        self.shared.settings().guard = Guard::basic(user, password, "fake registry");
    }

    /// Only holders of a token may ask.
    pub fn require_bearer(&self, bearer: Bearer) {
        self.shared.settings().guard = Guard::bearer(bearer, &self.url(), &self.shared.issuer);
    }

    /// Anyone may ask, as at the start.
    pub fn require_nothing(&self) {
        self.shared.settings().guard = Guard::Open;
    }

    /// Only this user may ask about the repository: others are answered with this status, though they are let in.
    pub fn make_private(&self, repository: &str, user: &str, status: u16) {
        self.shared.settings().private.insert(repository.to_owned(), (user.to_owned(), status));
    }

    /// A token for one repository, handed out to this user without a request.
    pub fn hand_out_token(&self, repository: &str, user: &str) -> String {
        self.shared.issuer.hand_out(repository, user)
    }

    /// Every 401 has this `WWW-Authenticate` in place of the right one.
    pub fn wrong_challenge(&self, header: &str) {
        self.shared.settings().challenge = Some(header.to_owned());
    }

    /// Ends all tokens that this registry's token endpoint has handed out.
    pub fn expire_tokens(&self) {
        self.shared.issuer.expire_all();
    }

    /// The tokens that this registry's token endpoint has handed out, oldest first.
    pub fn tokens(&self) -> Vec<IssuedToken> {
        self.shared.issuer.tokens()
    }

    /// Adds a header to every answer: `ratelimit-remaining`, for instance.
    pub fn add_header(&self, name: &str, value: &str) {
        self.shared.settings().headers.push((name.to_owned(), value.to_owned()));
    }

    /// Orders a fault.
    pub fn fault(&self, fault: Fault, action: Action) {
        self.shared.settings().faults.add(fault, action);
    }

    /// Takes back all faults. Answers that hang go on hanging.
    pub fn clear_faults(&self) {
        self.shared.settings().faults.clear();
    }

    /// Every request since the start or [`Self::clear_requests`], in the order of arrival.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.journal.requests()
    }

    /// How many requests of this kind have arrived.
    pub fn count(&self, kind: RequestKind) -> usize {
        self.shared.journal.count(kind)
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.shared.journal.clear();
    }

    /// The most requests that were under way at the same time, from their arrival until their answer was handed to the
    /// connection. It never exceeds what the client had under way, except where the client gave up on one that hung.
    pub fn max_concurrency(&self) -> usize {
        self.shared.journal.most_under_way()
    }

    /// Waits until `count` requests of this kind have arrived; panics after a minute.
    pub async fn wait_for(&self, kind: RequestKind, count: usize) {
        self.shared.journal.wait_for(kind, count).await;
    }
}

impl Shared {
    fn settings(&self) -> MutexGuard<'_, Settings> {
        // A test that panicked in `remove_tag` and the like fails by that, not by what follows from it.
        self.settings.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, ConnectionClosed> {
        let (request, body) = request.into_parts();
        let form = to_bytes(Body::new(body), MAX_FORM).await.map_err(|_| ConnectionClosed)?;
        let recorded = Recorded {
            form: String::from_utf8_lossy(&form).into_owned(),
            ..recorded(request.method.as_str(), &request.uri, &request.headers)
        };
        let under_way = self.journal.arrive(recorded.clone());
        let (mut answer, action) = self.decide(&recorded);
        match &action {
            Some(Action::HangBeforeHeader) => std::future::pending().await,
            Some(Action::CloseConnection) => return Err(ConnectionClosed),
            Some(Action::Delay(delay)) => tokio::time::sleep(*delay).await,
            _ => {}
        }
        if let Some(action) = action {
            let repository = recorded.repository.as_deref().unwrap_or_default();
            let number = self.endless_pages.fetch_add(1, Ordering::Relaxed);
            answer = answer.befallen_by(&action, &PageAddress { repository, number });
        }
        for (name, value) in self.settings().headers.clone() {
            answer.set(&name, &value);
        }
        Ok(answer.into_response(&request.method, under_way))
    }

    /// The right answer, and the fault that befalls it. Who is refused meets no fault.
    fn decide(&self, request: &Recorded) -> (Answer, Option<Action>) {
        let mut settings = self.settings();
        let answer = if request.kind == RequestKind::Token {
            self.issuer.answer(request)
        } else {
            settings.guard.admit(request).map(|()| settings.answer_to_user(request))
        };
        match answer {
            Ok(answer) => (answer, settings.faults.take(request)),
            Err(refusal) => (refusal.answer(settings.challenge.as_deref()), None),
        }
    }
}

impl Settings {
    fn answer_to_user(&mut self, request: &Recorded) -> Answer {
        let private = request.repository.as_ref().and_then(|repository| self.private.get(repository));
        match private {
            Some((owner, status)) if self.guard.user_of(request).as_ref() != Some(owner) => {
                Answer::error(*status, "DENIED", "requested access to the resource is denied")
            }
            _ => self.answer(request),
        }
    }

    fn answer(&mut self, request: &Recorded) -> Answer {
        let found =
            request.repository.as_deref().and_then(|name| Some((name, self.contents.repository(name)?)));
        if let Some(refusal) = self.dialect.refusal(request, found.is_some()) {
            return Answer::ordered(refusal);
        }
        let reference = request.reference.as_deref().unwrap_or_default();
        match (request.kind, found) {
            (RequestKind::Ping, _) => Answer::json(200, &Value::Object(serde_json::Map::new())),
            (RequestKind::Catalog, _) => self.catalog.page(request, &self.contents),
            (RequestKind::Other, _) if let Some(answer) = self.own_list(request) => answer,
            (RequestKind::Token | RequestKind::Other, _) => {
                Answer::error(404, "UNSUPPORTED", "this is not part of the registry's pull protocol")
            }
            (_, None) => Answer::error(404, "NAME_UNKNOWN", "repository name not known to registry"),
            (RequestKind::Tags, Some((name, repository))) => {
                let page = PageRequest { host: &self.host, repository: name, query: &request.query };
                self.dialect.listing.page(&page, repository)
            }
            (RequestKind::ManifestHead | RequestKind::ManifestGet, Some((_, repository))) => {
                let answer = match repository.manifest(reference) {
                    Some(manifest) => Answer::document(manifest),
                    None => Answer::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
                };
                self.with_quota(request.kind, answer)
            }
            (RequestKind::Blob, Some((_, repository))) => match repository.blob(reference) {
                Some(blob) => Answer::blob(blob),
                None => Answer::error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
            },
        }
    }

    fn own_list(&self, request: &Recorded) -> Option<Answer> {
        self.dialect.own_list.and_then(|list| list.answer(request, &self.contents))
    }

    /// Counts a pull, where they are counted, and says what is left of them.
    fn with_quota(&mut self, kind: RequestKind, mut answer: Answer) -> Answer {
        if matches!(self.dialect.head, Head::WithoutDigest) {
            answer = answer.without_digest();
        }
        if let (RequestKind::ManifestGet, Some(quota)) = (kind, &self.dialect.pulls) {
            if self.pulls >= quota.limit {
                answer = Answer::ordered(&quota.refusal);
            } else {
                self.pulls += 1;
            }
        }
        for (name, value) in self.dialect.quota_headers(self.pulls) {
            answer.set(name, &value);
        }
        answer
    }
}

fn recorded(method: &str, uri: &http::Uri, headers: &HeaderMap) -> Recorded {
    let Route { kind, repository, reference } = Route::of(method, uri.path());
    let authorization = headers.get(http::header::AUTHORIZATION);
    Recorded {
        method: method.to_owned(),
        path: uri.path().to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        form: String::new(),
        headers: headers.clone(),
        authorization: authorization.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        kind,
        repository,
        reference,
        at: Instant::now(),
        status: None,
    }
}
