//! Debian's `memcached`: a real server, to store in.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

use crate::server::{Launch, Server};

/// How often a starting server is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long a server may take to start, and a port that was ours to become free.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where a server writes which port it was given.
const PORT_FILE: &str = "ports";

/// A running `memcached` on a free loopback port. Ends when dropped, and forgets everything when it ends.
#[derive(Debug)]
pub struct Memcached {
    port: u16,
    arguments: Vec<OsString>,
    server: Server,
    directory: Arc<TempDir>,
}

impl Memcached {
    /// Starts one that holds up to 64 MiB, in items of up to 1 MiB, and waits until it listens.
    pub async fn start() -> Self {
        Self::start_with::<OsString>([]).await
    }

    /// Starts one with these arguments after our own: the later of two that contradict one another wins.
    pub async fn start_with<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Self {
        let directory =
            Arc::new(TempDir::with_prefix("memcached-").expect("a temporary directory can be made"));
        let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        let (server, port) = start_server(&directory, None, &arguments).await.unwrap_or_else(|output| {
            panic!("memcached ended at its start:\n{output}");
        });
        Self { port, arguments, server, directory }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Asks it to end, and waits until it has.
    pub async fn stop(&mut self) -> ExitStatus {
        self.server.terminate().await
    }

    /// Kills it with SIGKILL and waits for its end.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again on the same port, empty, killing it first where it runs.
    pub async fn restart(&mut self) {
        self.server.kill();
        let start = Instant::now();
        self.server = loop {
            match start_server(&self.directory, Some(self.port), &self.arguments).await {
                Ok((server, _)) => break server,
                // Another process may have been given the port for a moment.
                Err(output) => {
                    assert!(start.elapsed() < PATIENCE, "memcached does not start again:\n{output}");
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        };
    }

    /// Makes it hang: connections are accepted by the kernel, and nothing is answered until [`Memcached::resume`].
    pub fn pause(&self) {
        self.server.signal("STOP");
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        self.server.signal("CONT");
    }
}

/// Starts the process on `port`, or on one that the kernel chooses, and waits until it listens. `Err` with its output
/// where it ends instead.
async fn start_server(
    directory: &Arc<TempDir>,
    port: Option<u16>,
    arguments: &[OsString],
) -> Result<(Server, u16), String> {
    let port_file = directory.path().join(PORT_FILE);
    if let Err(error) = std::fs::remove_file(&port_file) {
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "removing {}: {error}", port_file.display());
    }
    let port = port.map_or("-1".to_owned(), |port| port.to_string());
    // It changes to another user where root starts it, which would undo the guard that ends it with its test.
    let own = ["-l", "127.0.0.1", "-p", &port, "-U", "0", "-m", "64", "-u", "root"];
    let launch = Launch::of_package("memcached", "memcached")
        .arguments(own)
        .arguments(arguments)
        .variable("MEMCACHED_PORT_FILENAME", &port_file);
    let mut server = Server::start(&launch, Arc::clone(directory));
    let start = Instant::now();
    loop {
        if let Some(port) = port_in(&port_file) {
            return Ok((server, port));
        }
        if server.ended().is_some() {
            return Err(server.stderr());
        }
        assert!(start.elapsed() < PATIENCE, "memcached does not listen:\n{}", server.stderr());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The port that the file tells, which is there, complete, once the server listens.
fn port_in(file: &Path) -> Option<u16> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("TCP INET: ")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn ask(memcached: &Memcached, request: &str, length: usize) -> String {
        let mut stream = TcpStream::connect(memcached.host()).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).await.expect("it answers");
        String::from_utf8(answer).expect("text")
    }

    #[tokio::test]
    async fn stores_and_forgets_when_restarted_on_its_port() {
        let mut memcached = Memcached::start_with(["-I", "2m"]).await;
        assert_eq!(ask(&memcached, "ms a 1 T0\r\nx\r\nmg a v\r\n", 11).await, "HD\r\nVA 1\r\nx");
        let host = memcached.host();
        memcached.restart().await;
        assert_eq!(memcached.host(), host);
        assert_eq!(ask(&memcached, "mg a v\r\n", 4).await, "EN\r\n");
        memcached.stop().await;
        assert!(TcpStream::connect(&host).await.is_err());
    }

    #[tokio::test]
    async fn a_paused_server_answers_when_it_goes_on() {
        let memcached = Memcached::start().await;
        memcached.pause();
        let answer = ask(&memcached, "mn\r\n", 4);
        let in_time = tokio::time::timeout(Duration::from_millis(50), answer).await;
        assert!(in_time.is_err(), "a paused server answers");
        memcached.resume();
        assert_eq!(ask(&memcached, "mn\r\n", 4).await, "MN\r\n");
    }
}
