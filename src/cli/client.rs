//! A small HTTP client to a running server: one request, one answer, or a [`Failure`] that says what to do.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Certificate, Method, Response, StatusCode, Url, header};
use samovar_registry::{Reference, Secret};
use serde::de::DeserializeOwned;

use super::answers::ProblemAnswer;
use super::failure::Failure;
use super::output::printable;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// For a whole request, over what the server was asked to wait.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest answer that is read, in bytes: a repository of a million tags fits.
const MAX_ANSWER: usize = 512 * 1024 * 1024;

/// How many characters of an error that is not a problem document are shown.
const MAX_SHOWN_ERROR: usize = 200;

/// A running `samovar serve`.
#[derive(Debug, Clone)]
pub struct ServerClient {
    base: Url,
    http: reqwest::Client,
}

/// How a server and we know each other.
#[derive(Debug, Clone, Default)]
pub struct ServerIdentity {
    /// Sent with every request.
    pub token: Option<Secret>,
    /// Authorities that are trusted besides the system's: a PEM file.
    pub ca_file: Option<PathBuf>,
}

/// A successful answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status, a success.
    pub status: StatusCode,
    /// JSON as the server wrote it.
    pub body: String,
}

impl Answer {
    /// The body as a type of ours.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_str(&self.body).map_err(|error| {
            Failure::failed(format!("cannot read the server's answer: {error}")).with_hint(
                "is the server of another version? ask with --output json to see its answer as it is",
            )
        })
    }
}

impl ServerClient {
    /// A client to the server at a URL such as `http://127.0.0.1:8080`; a path in it is a prefix.
    pub fn new(server: &str) -> Result<Self, Failure> {
        Self::with(server, &ServerIdentity::default())
    }

    /// The same to one that wants to know who asks, or that has a certificate by an authority of its own.
    pub fn with(server: &str, identity: &ServerIdentity) -> Result<Self, Failure> {
        let base = server_url(server)?;
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("samovar/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &identity.token {
            let value = HeaderValue::from_str(&format!("Bearer {}", token.reveal()));
            let mut value =
                value.map_err(|_| Failure::usage("the token is no token: it holds line breaks or such"))?;
            value.set_sensitive(true);
            builder = builder.default_headers([(header::AUTHORIZATION, value)].into_iter().collect());
        }
        if let Some(path) = &identity.ca_file {
            let refused = |error: &dyn std::fmt::Display| {
                Failure::usage(format!("cannot use {}: {error}", path.display()))
            };
            let pem = std::fs::read(path).map_err(|error| refused(&error))?;
            let authorities = Certificate::from_pem_bundle(&pem).map_err(|error| refused(&error))?;
            builder = builder.tls_certs_merge(authorities);
        }
        if is_loopback(&base) {
            // A proxy for the outside world would look for the server on its own machine.
            builder = builder.no_proxy();
        }
        let http =
            builder.build().map_err(|error| Failure::failed(format!("cannot set up HTTP: {error}")))?;
        Ok(Self { base, http })
    }

    /// Asks for what stands at `path` below `/api/v1`. A `name`, which may hold slashes, becomes its last part.
    pub async fn get(&self, path: &str, name: Option<&str>) -> Result<Answer, Failure> {
        self.get_with(path, name, &[]).await
    }

    /// The same with query parameters.
    pub async fn get_with(
        &self,
        path: &str,
        name: Option<&str>,
        query: &[(&str, &str)],
    ) -> Result<Answer, Failure> {
        let mut url = self.url(path, name);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.send(self.http.request(Method::GET, url), Duration::ZERO).await
    }

    /// Asks for a refresh and waits for it at most this long.
    pub async fn refresh(&self, image: &str, wait: Duration) -> Result<Answer, Failure> {
        let mut url = self.url("refresh", None);
        url.query_pairs_mut().append_pair("wait", &format!("{}ms", wait.as_millis()));
        let body = serde_json::json!({ "image": image });
        self.send(self.http.request(Method::POST, url).json(&body), wait).await
    }

    /// Begins to follow what stands at `path` below `/api/v1`, an answer without an end.
    pub(super) async fn follow(&self, path: &str, query: &[(&str, &str)]) -> Result<Response, Failure> {
        let mut url = self.url(path, None);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(Method::GET, url).header(header::ACCEPT, "text/event-stream");
        let response = tokio::time::timeout(REQUEST_TIMEOUT, request.send()).await;
        let response =
            response.map_err(|_| Failure::failed(format!("{} did not answer in time", shown(&self.base))))?;
        let response = response.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = retry_after(&response);
        Err(refusal(status, retry_after, &self.read(response).await?))
    }

    fn url(&self, path: &str, name: Option<&str>) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1", path]).extend(name);
        }
        url
    }

    async fn send(&self, request: reqwest::RequestBuilder, wait: Duration) -> Result<Answer, Failure> {
        let request = request.header(header::ACCEPT, "application/json").timeout(REQUEST_TIMEOUT + wait);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let retry_after = retry_after(&response);
        let body = self.read(response).await?;
        if status.is_success() {
            return Ok(Answer { status, body });
        }
        Err(refusal(status, retry_after, &body))
    }

    async fn read(&self, mut response: Response) -> Result<String, Failure> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(Failure::failed(format!(
                    "the server's answer is larger than {MAX_ANSWER} bytes"
                )));
            }
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body).map_err(|_| Failure::failed("the server's answer is not UTF-8"))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let server = shown(&self.base);
        if error.is_connect() {
            return Failure::failed(format!("cannot connect to {server}: {}", root_cause(error)))
                .with_hint("is `samovar serve` running? start it, or name another server with --server or SAMOVAR_SERVER");
        }
        if error.is_timeout() {
            return Failure::failed(format!("{server} did not answer in time"))
                .with_hint("`samovar status` shows whether it answers at all");
        }
        Failure::failed(format!("asking {server} failed: {}", root_cause(error)))
    }
}

/// What was typed, if it is a repository without tag and digest.
pub(super) fn repository_argument(image: &str) -> Result<(), Failure> {
    let reference = reference_argument(image)?;
    if reference.tag().is_none() && reference.digest().is_none() {
        return Ok(());
    }
    let hint = format!("for one image: `samovar image {image}`");
    Err(Failure::usage(format!("{image:?} names one image, a repository was expected")).with_hint(hint))
}

/// What was typed, read without the server's aliases: for its form only. The server is asked for it as typed.
pub(super) fn reference_argument(image: &str) -> Result<Reference, Failure> {
    image.parse().map_err(|error| Failure::usage(format!("{error}")))
}

fn server_url(server: &str) -> Result<Url, Failure> {
    let hint = "a server is written as http://127.0.0.1:8080";
    let refused = |reason: &str| Failure::usage(format!("invalid server URL: {reason}")).with_hint(hint);
    let url = Url::parse(server).map_err(|error| refused(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused("it must begin with http:// or https://"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refused("it must not have a query or a fragment"));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A server's URL fit for a message: no user, no password.
fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}

/// The innermost cause: the layers above it only say that a request failed.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Seconds to wait; the server always writes seconds.
fn retry_after(response: &Response) -> Option<u64> {
    response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()
}

/// What an answer means that is not a success.
fn refusal(status: StatusCode, retry_after: Option<u64>, body: &str) -> Failure {
    let Ok(problem) = serde_json::from_str::<ProblemAnswer>(body) else {
        return foreign_answer(status, body);
    };
    let said = problem.detail.as_deref().or(problem.title.as_deref());
    let message = said.map_or_else(|| format!("the server answered {status}"), printable);
    let failure = match status {
        StatusCode::BAD_REQUEST => Failure::usage(message),
        StatusCode::NOT_FOUND | StatusCode::SERVICE_UNAVAILABLE => Failure::not_found(message),
        _ => Failure::failed(message),
    };
    match (problem.kind(), status, retry_after) {
        ("not-watched", ..) => failure.with_hint(
            "start the server with `--watch IMAGE`, or add the image to `watch`, or to `on_demand.allow`, in its configuration file",
        ),
        (_, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => failure
            .with_hint("the server wants to know who asks: give a token with --token-file or SAMOVAR_TOKEN"),
        (_, _, Some(seconds)) => failure.with_hint(format!("ask again in {seconds} s")),
        _ => failure,
    }
}

/// Something answered that is not samovar, or samovar in an unforeseen way.
fn foreign_answer(status: StatusCode, body: &str) -> Failure {
    let beginning: String = printable(body.trim()).chars().take(MAX_SHOWN_ERROR).collect();
    let message = if beginning.is_empty() {
        format!("the server answered {status}")
    } else {
        format!("the server answered {status}: {beginning}")
    };
    Failure::failed(message).with_hint("is this a samovar server? see --server")
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::extract::RawQuery;
    use axum::http::Uri;
    use tokio::net::TcpListener;

    use super::*;
    use crate::cli::failure::ExitStatus;

    /// A server that answers every request with `router`.
    async fn serve(router: Router) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn names_travel_as_one_encoded_part_below_the_prefix() {
        let server = serve(Router::new().fallback(|uri: Uri| async move { uri.to_string() })).await;
        let client = ServerClient::new(&format!("{server}/prefix/")).unwrap();
        let answer = client.get("repositories", Some("127.0.0.1:5000/team/app")).await.unwrap();
        assert_eq!(answer.body, "/prefix/api/v1/repositories/127.0.0.1:5000%2Fteam%2Fapp");
        let answer = client.get("status", None).await.unwrap();
        assert_eq!(answer.body, "/prefix/api/v1/status");
    }

    #[tokio::test]
    async fn a_refresh_sends_what_was_typed_and_how_long_to_wait() {
        let echo =
            |RawQuery(query): RawQuery, body: String| async move { format!("{}|{body}", query.unwrap()) };
        let server = serve(Router::new().fallback(echo)).await;
        let client = ServerClient::new(&server).unwrap();
        let answer = client.refresh("up/team/app:1.0", Duration::from_millis(1500)).await.unwrap();
        assert_eq!(answer.body, r#"wait=1500ms|{"image":"up/team/app:1.0"}"#);
    }

    #[tokio::test]
    async fn a_server_that_does_not_run_is_named_with_what_to_do() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let client = ServerClient::new(&format!("http://user:hunter2@{address}")).unwrap();
        let failure = client.get("status", None).await.unwrap_err();
        assert_eq!(failure.status, ExitStatus::Failed);
        assert!(failure.message.starts_with(&format!("cannot connect to http://{address}: ")), "{failure}");
        assert!(failure.hints[0].starts_with("is `samovar serve` running?"), "{failure:?}");
        assert!(!format!("{failure:?}").contains("hunter2"));
    }

    #[test]
    fn server_urls_are_checked() {
        for (server, reason) in [
            ("", "relative URL without a base"),
            ("127.0.0.1:8080", "relative URL without a base"),
            ("localhost:8080", "it must begin with http:// or https://"),
            ("ftp://host", "it must begin with http:// or https://"),
            ("http://host/?a=b", "it must not have a query or a fragment"),
        ] {
            let failure = ServerClient::new(server).unwrap_err();
            assert_eq!(failure.message, format!("invalid server URL: {reason}"), "{server}");
            assert_eq!(failure.status, ExitStatus::Usage);
        }
        assert!(is_loopback(&Url::parse("http://[::1]:80").unwrap()));
        assert!(!is_loopback(&Url::parse("http://10.0.0.1").unwrap()));
    }

    fn refused(status: u16, retry_after: Option<u64>, body: &str) -> Failure {
        refusal(StatusCode::from_u16(status).unwrap(), retry_after, body)
    }

    #[test]
    fn problems_become_messages_and_exit_codes() {
        let not_watched = r#"{"type":"not-watched","title":"Not watched","detail":"a/b is not watched"}"#;
        let failure = refused(404, None, not_watched);
        assert_eq!((failure.status, failure.message.as_str()), (ExitStatus::NotFound, "a/b is not watched"));
        assert!(failure.hints[0].contains("--watch"), "{failure:?}");

        let pending = refused(503, Some(7), r#"{"type":"pending","title":"not fetched yet"}"#);
        assert_eq!((pending.status, pending.message.as_str()), (ExitStatus::NotFound, "not fetched yet"));
        assert_eq!(pending.hints, ["ask again in 7 s"]);

        assert_eq!(refused(400, None, r#"{"detail":"bad name"}"#).status, ExitStatus::Usage);
        assert_eq!(refused(401, None, "{}").status, ExitStatus::Failed);
        let nameless = refused(500, None, "{}");
        assert_eq!(
            (nameless.status, nameless.message.as_str()),
            (ExitStatus::Failed, "the server answered 500 Internal Server Error")
        );
    }

    #[test]
    fn what_is_not_a_problem_document_is_shown_cut_and_safe() {
        let failure = refused(503, Some(1), &format!("<html>\u{1b}[2J{}", "x".repeat(1000)));
        assert_eq!(failure.status, ExitStatus::Failed, "a proxy's answer says nothing about the image");
        assert!(
            failure.message.starts_with("the server answered 503 Service Unavailable: <html>\\u{1b}[2Jxxx")
        );
        assert!(failure.message.len() < 300);
    }

    #[test]
    fn arguments_are_checked_before_anything_is_asked() {
        assert!(repository_argument("up/team/app").is_ok());
        for image in
            ["alpine:3.20", "alpine@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]
        {
            let failure = repository_argument(image).unwrap_err();
            assert_eq!(failure.status, ExitStatus::Usage);
            assert_eq!(failure.hints, [format!("for one image: `samovar image {image}`")]);
        }
        for image in ["", "../x", "Foo/bar", "https://ghcr.io/a/b", "a b"] {
            assert_eq!(reference_argument(image).unwrap_err().status, ExitStatus::Usage, "{image}");
        }
    }
}
