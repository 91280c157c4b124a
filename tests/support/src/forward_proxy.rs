//! A forward proxy for HTTP: `CONNECT` for TLS, and requests for whole URLs.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The longest header of a request. Bytes.
const MOST_HEADER_BYTES: usize = 64 * 1024;

/// A proxy on a free loopback port, which notes every request. Stops when dropped.
#[derive(Debug)]
pub struct ForwardProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<Infallible>,
}

#[derive(Debug, Default)]
struct Shared {
    login: Option<String>,
    names: HashMap<String, String>,
    requests: Mutex<Vec<String>>,
}

impl ForwardProxy {
    /// Starts one for everybody.
    pub async fn start() -> Self {
        Self::with(Shared::default()).await
    }

    /// Starts one that wants this user and password, and that knows names that nobody else does: `registry.example:443`
    /// is at an address.
    pub async fn start_for(user: &str, password: &str, names: &[(&str, &str)]) -> Self {
        let login = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let names = names.iter().map(|(name, address)| ((*name).to_owned(), (*address).to_owned())).collect();
        Self::with(Shared { login: Some(format!("Basic {login}")), names, requests: Mutex::default() }).await
    }

    async fn with(shared: Shared) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(shared);
        let for_connections = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        if let Ok((client, _)) = accepted {
                            connections.spawn(serve(client, Arc::clone(&for_connections)));
                        }
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Self { address, shared, task }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// What was asked for, `CONNECT registry.example:443` or `GET http://registry.example/v2/`, refused or not.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for ForwardProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one connection to its end. How it ends is seen by the client.
async fn serve(mut client: TcpStream, shared: Arc<Shared>) {
    let _ = relay(&mut client, &shared).await;
}

async fn relay(client: &mut TcpStream, shared: &Shared) -> io::Result<()> {
    let header = read_header(client).await?;
    let mut lines = header.split("\r\n");
    let mut request = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (request.next().unwrap_or_default(), request.next().unwrap_or_default());
    shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{method} {target}"));
    let fields: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(": ")).collect();
    let login = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("proxy-authorization"));
    if shared.login.as_deref().is_some_and(|wanted| login.is_none_or(|(_, given)| *given != wanted)) {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"proxy\"\r\n\
                       Content-Length: 0\r\nConnection: close\r\n\r\n";
        return client.write_all(refusal.as_bytes()).await;
    }
    let mut server;
    if method == "CONNECT" {
        server = connect(target, shared).await?;
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    } else {
        let rest = target.strip_prefix("http://").ok_or(io::ErrorKind::InvalidInput)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        server = connect(authority, shared).await?;
        let mut forwarded = format!("{method} /{path} HTTP/1.1\r\n");
        for (name, value) in fields {
            let is_own =
                name.to_ascii_lowercase().starts_with("proxy-") || name.eq_ignore_ascii_case("connection");
            if !is_own {
                forwarded.extend([name, ": ", value, "\r\n"]);
            }
        }
        // One request for each connection keeps this simple.
        forwarded.push_str("Connection: close\r\n\r\n");
        server.write_all(forwarded.as_bytes()).await?;
    }
    tokio::io::copy_bidirectional(client, &mut server).await?;
    Ok(())
}

async fn connect(authority: &str, shared: &Shared) -> io::Result<TcpStream> {
    let has_port = authority.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok());
    let with_port = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    TcpStream::connect(shared.names.get(&with_port).unwrap_or(&with_port)).await
}

async fn read_header(client: &mut TcpStream) -> io::Result<String> {
    let mut header = Vec::new();
    while !header.ends_with(b"\r\n\r\n") {
        if header.len() == MOST_HEADER_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // Byte by byte, so that nothing is taken of what comes after it.
        header.push(client.read_u8().await?);
    }
    String::from_utf8(header).map_err(|_| io::ErrorKind::InvalidData.into())
}
