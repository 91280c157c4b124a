//! All registries behind one wire: finds out whom a request is for, lets time pass, answers; and writes down what was
//! asked when.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use http::header::{AUTHORIZATION, IF_NONE_MATCH};
use reqwest::{Body, Request, Response};
use samovar_registry::upstream::{Wire, WireFailure};
use tokio::time::Instant;

use super::law::Kind;
use super::registry::{Answer, Asked, Registry};

/// Every registry, and when it all began.
#[derive(Debug, Clone)]
pub(crate) struct Network(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) registries: Vec<Registry>,
    /// Of every request: when, whom, what.
    trace: DefaultHasher,
    pub(crate) requests: u64,
    /// Requests as lines, if they are wanted.
    pub(crate) lines: Option<Vec<String>>,
    /// Asked of nobody that there is.
    pub(crate) astray: Vec<String>,
}

impl State {
    /// What all requests until now come down to.
    pub(crate) fn trace(&self) -> u64 {
        self.trace.finish()
    }
}

impl Network {
    pub(crate) fn new(registries: Vec<Registry>) -> Self {
        let state =
            State { registries, trace: DefaultHasher::new(), requests: 0, lines: None, astray: Vec::new() };
        Self(Arc::new(Shared { began: Instant::now(), state: Mutex::new(state) }))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// Time since the beginning.
    pub(crate) fn now(&self) -> Duration {
        self.0.began.elapsed()
    }

    pub(crate) fn at(&self, time: Duration) -> Instant {
        self.0.began + time
    }

    /// Takes a request in. Which registry it is for, and how long that takes to answer.
    fn arrived(&self, request: &Request) -> Option<(UnderWay, Kind, Duration)> {
        let (now, url) = (self.now(), request.url());
        let address = url.host_str().unwrap_or_default();
        let mut state = self.state();
        let what = format!("{} {url}", request.method());
        (now.as_micros(), &what).hash(&mut state.trace);
        state.requests += 1;
        if let Some(lines) = &mut state.lines {
            lines.push(format!("{:>17.6} {what}", now.as_secs_f64()));
        }
        let mut found = state.registries.iter().enumerate();
        let found = found.find_map(|(number, registry)| Some((number, registry.kind_at(address)?)));
        let Some((number, kind)) = found else {
            state.astray.push(what);
            return None;
        };
        let registry = &mut state.registries[number];
        registry.law.arrived(now, kind, &what);
        let latency = registry.latency();
        Some((UnderWay { network: self.clone(), number }, kind, latency))
    }
}

/// A request that a registry is busy with; dropped also when the client gives up.
struct UnderWay {
    network: Network,
    number: usize,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.network.state().registries[self.number].law.ended();
    }
}

#[async_trait]
impl Wire for Network {
    async fn send(&self, request: Request) -> Result<Response, WireFailure> {
        let failure =
            |message: &str, while_connecting| WireFailure { message: message.to_owned(), while_connecting };
        let Some((under_way, kind, latency)) = self.arrived(&request) else {
            return Err(failure("no such host", true));
        };
        tokio::time::sleep(latency).await;
        let url = request.url();
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let asked = Asked {
            is_head: request.method() == http::Method::HEAD,
            path: url.path(),
            query: url.query().unwrap_or_default(),
            is_authorized: request.headers().contains_key(AUTHORIZATION),
            if_none_match: header(IF_NONE_MATCH),
        };
        let answer = self.state().registries[under_way.number].answer(self.now(), kind, &asked);
        let (status, headers, body) = match answer {
            Answer::Sends { status, headers, body } => (status, headers, Body::from(body)),
            Answer::Breaks { in_body: true } => {
                let cut = futures_util::stream::once(async { Err::<Vec<u8>, _>("cut in the middle") });
                (200, Vec::new(), Body::wrap_stream(cut))
            }
            Answer::Breaks { in_body: false } => return Err(failure("connection reset", false)),
            Answer::Never => std::future::pending().await,
        };
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(name, value);
        }
        // The request ends, for us, with the header: what is in the body is there already.
        drop(under_way);
        Ok(response.body(body).expect("headers are plain").into())
    }
}
