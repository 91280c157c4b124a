//! What the fake registry was asked, and how much of it at once.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::watch;
use tokio::time::Instant;

/// No test of ours asks this often: one that does runs away, and [`Journal::requests`] says so.
const MAX_RECORDED: usize = 200_000;

/// How long [`Journal::wait_for`] waits before it calls the test failed. Of no influence on tests that pass.
const WAIT_LIMIT: Duration = Duration::from_mins(1);

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// `GET /v2/`.
    Ping,
    /// A page of `/v2/_catalog`.
    Catalog,
    /// A page of `tags/list`.
    Tags,
    /// HEAD of a manifest or an index.
    ManifestHead,
    /// GET of a manifest or an index.
    ManifestGet,
    /// HEAD or GET of a blob.
    Blob,
    /// The token endpoint, `/token`.
    Token,
    /// Anything else.
    Other,
}

/// One request that arrived.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The HTTP method.
    pub method: String,
    /// The path as it was sent.
    pub path: String,
    /// The query as it was sent, without the question mark; empty where there was none.
    pub query: String,
    /// The body of a POST, a form; empty where there was none.
    pub form: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The `Authorization` header, whole.
    pub authorization: Option<String>,
    /// What was asked for.
    pub kind: RequestKind,
    /// The repository in the path.
    pub repository: Option<String>,
    /// The tag or digest in the path.
    pub reference: Option<String>,
    /// When it arrived, by tokio's clock.
    pub at: Instant,
    /// The status that it was answered with; none while it is not answered, and for ever where the connection was
    /// closed instead.
    pub status: Option<u16>,
}

impl Recorded {
    /// The first value of a query parameter, decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        parameters(&self.query, name).next()
    }

    /// The first value of a form's field, decoded.
    pub fn field(&self, name: &str) -> Option<String> {
        parameters(&self.form, name).next()
    }

    /// All values of a query parameter, decoded.
    pub fn parameters(&self, name: &str) -> Vec<String> {
        parameters(&self.query, name).collect()
    }
}

/// The values of one parameter of a query or field of a form.
pub(super) fn parameters(query: &str, name: &str) -> impl Iterator<Item = String> {
    url::form_urlencoded::parse(query.as_bytes())
        .filter(move |(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

/// All requests, and those under way.
#[derive(Debug)]
pub(super) struct Journal {
    state: Mutex<State>,
    arrivals: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    entries: Vec<(u64, Recorded)>,
    overflowed: bool,
    under_way: usize,
    most_under_way: usize,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), arrivals: watch::Sender::new(()) }
    }

    /// Notes a request. It is under way until the value that is returned is dropped.
    pub(super) fn arrive(self: &Arc<Self>, request: Recorded) -> UnderWay {
        let id = {
            let mut state = self.lock();
            let id = state.next_id;
            state.next_id += 1;
            if state.entries.len() < MAX_RECORDED {
                state.entries.push((id, request));
            } else {
                state.overflowed = true;
            }
            state.under_way += 1;
            state.most_under_way = state.most_under_way.max(state.under_way);
            id
        };
        self.arrivals.send_replace(());
        UnderWay { journal: Arc::clone(self), id }
    }

    pub(super) fn requests(&self) -> Vec<Recorded> {
        self.assert_complete();
        self.lock().entries.iter().map(|(_, request)| request.clone()).collect()
    }

    pub(super) fn clear(&self) {
        let mut state = self.lock();
        state.entries.clear();
        state.overflowed = false;
        state.most_under_way = state.under_way;
    }

    pub(super) fn count(&self, kind: RequestKind) -> usize {
        self.assert_complete();
        self.lock().entries.iter().filter(|(_, request)| request.kind == kind).count()
    }

    pub(super) fn most_under_way(&self) -> usize {
        self.lock().most_under_way
    }

    /// Waits until `count` requests of this kind have arrived.
    pub(super) async fn wait_for(&self, kind: RequestKind, count: usize) {
        let mut arrivals = self.arrivals.subscribe();
        let enough = arrivals.wait_for(|()| self.count(kind) >= count);
        let in_time = tokio::time::timeout(WAIT_LIMIT, enough).await.is_ok();
        assert!(in_time, "waited for {count} of {kind:?}, got {} in {WAIT_LIMIT:?}", self.count(kind));
    }

    /// The lock is free again when it panics: connections that are still open use it.
    fn assert_complete(&self) {
        let overflowed = self.lock().overflowed;
        assert!(!overflowed, "more than {MAX_RECORDED} requests: not all were recorded");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the journal")
    }
}

/// A request that is not answered to the end yet.
#[derive(Debug)]
pub(super) struct UnderWay {
    journal: Arc<Journal>,
    id: u64,
}

impl UnderWay {
    /// Notes the status that is about to be sent.
    pub(super) fn answered(&self, status: u16) {
        let mut state = self.journal.lock();
        // Entries are in the order of their ids; one that was cleared away meanwhile is not there any more.
        if let Ok(position) = state.entries.binary_search_by_key(&self.id, |(id, _)| *id) {
            state.entries[position].1.status = Some(status);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.journal.lock().under_way -= 1;
    }
}
