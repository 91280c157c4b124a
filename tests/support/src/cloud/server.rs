//! A server that answers by a function and remembers what it was asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// No request of these protocols is larger. Bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// One request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `GET`, `POST` …
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query.
    pub query: BTreeMap<String, String>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as text.
    pub body: String,
}

impl Asked {
    /// A header, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// A field of the form in the body, empty where there is none.
    pub fn field(&self, name: &str) -> String {
        form(&self.body).remove(name).unwrap_or_default()
    }

    /// A parameter of the query, empty where there is none.
    pub(super) fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }
}

fn form(text: &str) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

/// What is answered.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
}

impl Told {
    pub(super) fn json(body: &Value) -> Self {
        Self::new(200, "application/json", body.to_string())
    }

    pub(super) fn refused(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    pub(super) fn text(body: impl Into<String>) -> Self {
        Self::new(200, "text/plain", body.into())
    }

    pub(super) fn new(status: u16, content_type: &'static str, body: String) -> Self {
        Self { status, content_type, headers: Vec::new(), body }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn not_found() -> Self {
        Self::new(404, "text/plain", "there is nothing here".to_owned())
    }
}

/// Listens on a free loopback port until it is dropped.
#[derive(Debug)]
pub(super) struct Answering {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<Infallible>,
}

impl Answering {
    /// Plain http.
    pub(super) async fn start(answer: impl Fn(&Asked) -> Told + Send + Sync + 'static) -> Self {
        Self::start_with(None, answer).await
    }

    /// TLS, where there is an acceptor.
    pub(super) async fn start_with(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&Asked) -> Told + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (journal, answer) = (Arc::clone(&asked), Arc::new(answer));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { continue };
                        let (journal, answer, tls) = (Arc::clone(&journal), Arc::clone(&answer), tls.clone());
                        connections.spawn(async move {
                            match tls {
                                None => speak(stream, &journal, &*answer).await,
                                Some(tls) => {
                                    // A client that does not trust us says so by itself.
                                    if let Ok(stream) = tls.accept(stream).await {
                                        speak(stream, &journal, &*answer).await;
                                    }
                                }
                            }
                        });
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Self { address, asked, task }
    }

    /// `127.0.0.1:PORT`.
    pub(super) fn host(&self) -> String {
        self.address.to_string()
    }

    /// `http://127.0.0.1:PORT`.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("nothing panics while it holds the requests").clone()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn speak<S>(stream: S, journal: &Mutex<Vec<Asked>>, answer: &(impl Fn(&Asked) -> Told + Sync))
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(async |request: Request<Incoming>| {
        let asked = read(request).await;
        let told = answer(&asked);
        journal.lock().expect("nothing panics while it holds the requests").push(asked);
        let response = Response::builder().status(told.status).header("content-type", told.content_type);
        let response =
            told.headers.into_iter().fold(response, |response, (name, value)| response.header(name, value));
        response.body(Body::from(told.body))
    });
    // How a connection ends is seen by its client.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn read(request: Request<Incoming>) -> Asked {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(Body::new(body), MAX_BODY_BYTES).await.unwrap_or_default();
    Asked {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: form(parts.uri.query().unwrap_or_default()),
        headers: parts.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    }
}
