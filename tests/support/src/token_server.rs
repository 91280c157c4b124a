//! A token server of the kind that `docker-registry` trusts: signed tokens for those who know the password.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router, routing};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64_URL};
use http::{HeaderMap, StatusCode, header};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::server::find_program;

/// A token server on a free loopback port, over plain HTTP. Stops when dropped.
#[derive(Debug)]
pub struct TokenServer {
    host: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    directory: TempDir,
    /// The certificate as it stands in tokens.
    certificate: String,
    login: String,
    requests: Mutex<Vec<TokenRequest>>,
}

/// A token that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// The query as it was sent.
    pub query: String,
    /// Whether the right user and password came along.
    pub is_known: bool,
    /// The `Authorization` header.
    pub authorization: Option<String>,
}

impl TokenServer {
    /// What it calls itself in tokens.
    pub const ISSUER: &str = "token server of a test";
    /// For whom its tokens are.
    pub const SERVICE: &str = "registry of a test";

    /// Starts one that gives tokens to this user.
    pub async fn start(user: &str, password: &str) -> Self {
        let directory = TempDir::with_prefix("token-server-").expect("a temporary directory can be made");
        let arguments =
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=signer -keyout key.pem -out certificate.pem";
        let output = Command::new(find_program("openssl", "openssl"))
            .args(arguments.split(' '))
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .output()
            .expect("`openssl` can be run");
        assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
        let pem =
            std::fs::read_to_string(directory.path().join("certificate.pem")).expect("it was just made");
        let certificate = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let login = format!("Basic {}", BASE64.encode(format!("{user}:{password}")));
        let shared = Arc::new(Shared { directory, certificate, login, requests: Mutex::default() });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port is free");
        let host = listener.local_addr().expect("a listener has an address").to_string();
        let router = Router::new().route("/token", routing::get(token)).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            // It ends with the test.
            let _ = axum::serve(listener, router).await;
        });
        Self { host, shared, task }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What a registry names as its realm.
    pub fn realm(&self) -> String {
        format!("http://{}/token", self.host)
    }

    /// The certificate by which a registry knows our tokens.
    pub fn certificate(&self) -> PathBuf {
        self.shared.directory.path().join("certificate.pem")
    }

    /// What was asked for.
    pub fn requests(&self) -> Vec<TokenRequest> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn token(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let query = query.unwrap_or_default();
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let is_known = authorization == Some(&shared.login);
    let request =
        TokenRequest { query: query.clone(), is_known, authorization: authorization.map(str::to_owned) };
    shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    if !is_known {
        return (StatusCode::UNAUTHORIZED, Json(json!({"details": "who are you?"}))).into_response();
    }
    Json(json!({"token": shared.sign(&query), "expires_in": 300})).into_response()
}

impl Shared {
    fn sign(&self, query: &str) -> String {
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        let access = pairs.filter(|(key, _)| key == "scope").filter_map(|(_, scope)| {
            let mut parts = scope.splitn(3, ':');
            let (kind, name, actions) = (parts.next()?, parts.next()?, parts.next()?);
            let actions: Vec<_> = actions.split(',').collect();
            Some(json!({"type": kind, "name": name, "actions": actions}))
        });
        let access = access.collect::<Vec<_>>();
        #[expect(clippy::disallowed_methods, reason = "another process compares it with its own")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
        let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [self.certificate]});
        let claims = json!({
            "iss": TokenServer::ISSUER, "aud": TokenServer::SERVICE, "sub": "somebody", "jti": "1",
            "iat": now, "nbf": now - 60, "exp": now + 300, "access": access,
        });
        let signed = [header, claims].map(|part| BASE64_URL.encode(part.to_string())).join(".");
        format!("{signed}.{}", BASE64_URL.encode(self.signature(signed.as_bytes())))
    }

    fn signature(&self, text: &[u8]) -> Vec<u8> {
        let mut openssl = Command::new(find_program("openssl", "openssl"))
            .args(["dgst", "-sha256", "-sign", "key.pem"])
            .current_dir(self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`openssl` can be run");
        openssl.stdin.take().expect("it is piped").write_all(text).expect("it reads to the end");
        let output = openssl.wait_with_output().expect("our own child can be waited for");
        assert!(output.status.success());
        output.stdout
    }
}
