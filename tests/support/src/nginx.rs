//! Debian's `nginx` in front of another server: TLS, HTTP/2, client certificates.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::certificates::Certificates;
use crate::server::{Launch, Server, free_port};

/// How often the port is tried.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long it may take to start. Of no influence on tests that pass.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running `nginx` that speaks TLS and passes requests on to a server that does not. Ends when dropped.
#[derive(Debug)]
pub struct Nginx {
    port: u16,
    server: Server,
}

/// How an [`Nginx`] is to be started.
#[derive(Debug, Clone)]
pub struct NginxBuilder {
    backend: String,
    certificates: Arc<Certificates>,
    wants_client_certificate: bool,
    http2: bool,
}

impl NginxBuilder {
    /// Refuses clients without a certificate by the authority.
    #[must_use]
    pub fn wants_client_certificate(mut self) -> Self {
        self.wants_client_certificate = true;
        self
    }

    /// Offers HTTP/2 as well.
    #[must_use]
    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Starts it and waits until it accepts connections.
    pub async fn start(self) -> Nginx {
        let directory = Arc::new(TempDir::with_prefix("nginx-").expect("a temporary directory can be made"));
        let start = Instant::now();
        loop {
            let port = free_port();
            let file = directory.path().join("nginx.conf");
            std::fs::write(&file, self.configuration(&directory, port)).expect("a file can be written");
            let launch = Launch::of_package("nginx", "nginx").arguments([
                "-e".into(),
                "stderr".into(),
                "-p".into(),
                directory.path().as_os_str().to_owned(),
                "-c".into(),
                file.into_os_string(),
            ]);
            let mut server = Server::start(&launch, Arc::clone(&directory));
            while server.ended().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                    return Nginx { port, server };
                }
                assert!(start.elapsed() < PATIENCE, "nginx does not listen:\n{}", server.stderr());
                tokio::time::sleep(LOOK_EVERY).await;
            }
            // Another process was faster to take the port.
            assert!(start.elapsed() < PATIENCE, "nginx does not start:\n{}", server.stderr());
        }
    }

    fn configuration(&self, directory: &TempDir, port: u16) -> String {
        let path = directory.path().display();
        let file = |name: &str| self.certificates.file(name).display().to_string();
        let (certificate, key, authority) = (file("server.pem"), file("server.key"), file("authority.pem"));
        let backend = &self.backend;
        let http2 = if self.http2 { " http2" } else { "" };
        let clients = if self.wants_client_certificate {
            format!("ssl_client_certificate {authority};\n    ssl_verify_client on;\n")
        } else {
            String::new()
        };
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("  {kind}_temp_path {path}/{kind};\n"))
            .concat();
        format!(
            "daemon off;\nmaster_process off;\npid {path}/pid;\nevents {{}}\nhttp {{\n{temporary}  \
             log_format protocol '$server_protocol';\n  access_log {path}/access.log protocol;\n  \
             server {{\n    listen 127.0.0.1:{port} ssl{http2};\n    ssl_certificate {certificate};\n    \
             ssl_certificate_key {key};\n    {clients}    location / {{\n      proxy_pass http://{backend};\n      \
             proxy_set_header Host $http_host;\n      proxy_set_header X-Forwarded-Proto https;\n    }}\n  }}\n}}\n"
        )
    }
}

impl Nginx {
    /// In front of a server such as `127.0.0.1:5000`, with the server's certificate of these.
    pub fn in_front_of(backend: &str, certificates: &Arc<Certificates>) -> NginxBuilder {
        NginxBuilder {
            backend: backend.to_owned(),
            certificates: Arc::clone(certificates),
            wants_client_certificate: false,
            http2: false,
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The protocol of each request, `HTTP/1.1` or `HTTP/2.0`, once so many are logged: a request is logged after it has
    /// been answered.
    pub async fn protocols(&self, requests: usize) -> Vec<String> {
        let start = Instant::now();
        loop {
            let log = std::fs::read_to_string(self.server.directory().join("access.log"));
            let protocols: Vec<_> = log.expect("there is a log").lines().map(str::to_owned).collect();
            if protocols.len() >= requests {
                return protocols;
            }
            assert!(start.elapsed() < PATIENCE, "{requests} requests are not logged: {protocols:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
