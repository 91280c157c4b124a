//! A TCP proxy that misbehaves on command.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// How much is read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// How many chunks may be on their way in one direction of one connection.
const CHUNKS_UNDER_WAY: usize = 256;

/// Passes bytes between whoever connects and a server, slowly or not at all where it is told so. What it is told
/// concerns the connections that are open as well as later ones. Stops when dropped, closing everything.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    conduct: watch::Sender<Conduct>,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<Infallible>,
}

/// How connections are treated now.
#[derive(Debug, Clone, Copy, Default)]
struct Conduct {
    /// Connections that were accepted before this was counted up are cut.
    cuts: u64,
    /// Connections that were accepted before this was counted up are cut when their client next sends something.
    cuts_on_use: u64,
    refuses: bool,
    swallows: bool,
    delay_to_server: Duration,
    delay_to_client: Duration,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy)]
enum Direction {
    ToServer,
    ToClient,
}

impl Proxy {
    /// Starts in front of `server`, such as `127.0.0.1:11211`, on a free loopback port. The server need not be there.
    pub async fn start(server: impl Into<String>) -> Self {
        let server: Arc<str> = server.into().into();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let conduct = watch::Sender::new(Conduct::default());
        let accepted = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(accept(listener, server, conduct.subscribe(), Arc::clone(&accepted)));
        Self { address, conduct, accepted, task }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections it has accepted and not refused.
    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Resets all connections that are open.
    pub fn cut(&self) {
        self.conduct.send_modify(|conduct| conduct.cuts += 1);
    }

    /// Makes all connections that are open look alive until their client sends something: then they are reset, as by a
    /// firewall that has forgotten them.
    pub fn cut_on_use(&self) {
        self.conduct.send_modify(|conduct| conduct.cuts_on_use += 1);
    }

    /// Whether new connections are reset at once. The port stays ours, so they are accepted first.
    pub fn refuse(&self, refuses: bool) {
        self.conduct.send_modify(|conduct| conduct.refuses = refuses);
    }

    /// Whether nothing comes through in either direction. What was sent meanwhile comes through afterwards.
    pub fn swallow(&self, swallows: bool) {
        self.conduct.send_modify(|conduct| conduct.swallows = swallows);
    }

    /// How long bytes take to the server, and back.
    pub fn delay(&self, to_server: Duration, to_client: Duration) {
        self.conduct.send_modify(|conduct| {
            conduct.delay_to_server = to_server;
            conduct.delay_to_client = to_client;
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    server: Arc<str>,
    conduct: watch::Receiver<Conduct>,
    accepted: Arc<AtomicUsize>,
) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            result = listener.accept() => {
                // Failures concern one connection, which its client notices.
                let Ok((client, _)) = result else { continue };
                if conduct.borrow().refuses {
                    reset(&client);
                    continue;
                }
                accepted.fetch_add(1, Ordering::Relaxed);
                connections.spawn(connect(client, Arc::clone(&server), conduct.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Makes the end of the stream a reset, which its other end cannot take for the end of an answer.
fn reset(stream: &TcpStream) {
    // A stream that is gone needs none.
    let _ = stream.set_zero_linger();
}

async fn connect(mut client: TcpStream, server: Arc<str>, mut conduct: watch::Receiver<Conduct>) {
    let cuts = conduct.borrow().cuts;
    let Ok(mut server) = TcpStream::connect(&*server).await else { return reset(&client) };
    for stream in [&client, &server] {
        // Only timing hangs on it.
        let _ = stream.set_nodelay(true);
    }
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let (forth, back) = (conduct.clone(), conduct.clone());
    // What fails at one end ends in a reset at the other, too.
    let cut = tokio::select! {
        _ = conduct.wait_for(|conduct| conduct.cuts != cuts) => true,
        result = pass(from_client, to_server, forth, Direction::ToServer) => result.is_err(),
        result = pass(from_server, to_client, back, Direction::ToClient) => result.is_err(),
    };
    if cut {
        reset(&client);
        reset(&server);
    }
}

/// Passes bytes one way until either end closes or fails.
async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut conduct: watch::Receiver<Conduct>,
    direction: Direction,
) -> io::Result<()> {
    let (send, mut receive) = mpsc::channel::<(Instant, Bytes)>(CHUNKS_UNDER_WAY);
    let reader_conduct = conduct.clone();
    let cuts_on_use = conduct.borrow().cuts_on_use;
    let read = async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let length = from.read(&mut buffer).await?;
            if length == 0 {
                break;
            }
            let delay = {
                let conduct = reader_conduct.borrow();
                match direction {
                    Direction::ToServer if conduct.cuts_on_use != cuts_on_use => {
                        return Err(io::ErrorKind::ConnectionReset.into());
                    }
                    Direction::ToServer => conduct.delay_to_server,
                    Direction::ToClient => conduct.delay_to_client,
                }
            };
            if send.send((Instant::now() + delay, Bytes::copy_from_slice(&buffer[..length]))).await.is_err() {
                break;
            }
        }
        // What is under way is still delivered: only the writer ends the connection.
        drop(send);
        pending::<io::Result<()>>().await
    };
    let write = async move {
        while let Some((due, bytes)) = receive.recv().await {
            tokio::time::sleep_until(due).await;
            if conduct.wait_for(|conduct| !conduct.swallows).await.is_err() {
                break;
            }
            to.write_all(&bytes).await?;
        }
        to.shutdown().await
    };
    tokio::select! {
        result = read => result,
        result = write => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets.
    async fn echo() -> (String, JoinSet<()>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port is free");
        let host = listener.local_addr().expect("a listener has an address").to_string();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        (host, tasks)
    }

    async fn exchange(stream: &mut TcpStream, text: &str) -> io::Result<String> {
        stream.write_all(text.as_bytes()).await?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer).await?;
        Ok(String::from_utf8(answer).expect("text"))
    }

    #[tokio::test]
    async fn passes_bytes_both_ways() {
        let (server, _tasks) = echo().await;
        let proxy = Proxy::start(server).await;
        let mut stream = TcpStream::connect(proxy.host()).await.expect("it accepts");
        assert_eq!(exchange(&mut stream, "ping").await.expect("an answer"), "ping");
        let long = "x".repeat(3 * CHUNK_BYTES);
        assert_eq!(exchange(&mut stream, &long).await.expect("an answer"), long);
        assert_eq!(proxy.connections(), 1);
    }

    #[tokio::test]
    async fn cuts_what_is_open_and_refuses_what_is_new() {
        let (server, _tasks) = echo().await;
        let proxy = Proxy::start(server).await;
        let mut open = TcpStream::connect(proxy.host()).await.expect("it accepts");
        exchange(&mut open, "ping").await.expect("an answer");
        proxy.cut();
        assert!(exchange(&mut open, "ping").await.is_err());

        let mut new = TcpStream::connect(proxy.host()).await.expect("a cut does not last");
        assert_eq!(exchange(&mut new, "ping").await.expect("an answer"), "ping");
        proxy.refuse(true);
        assert_eq!(exchange(&mut new, "ping").await.expect("what is open stays open"), "ping");
        let mut refused = TcpStream::connect(proxy.host()).await.expect("the port stays ours");
        assert!(exchange(&mut refused, "ping").await.is_err());
        proxy.refuse(false);
        let mut new = TcpStream::connect(proxy.host()).await.expect("it accepts again");
        assert_eq!(exchange(&mut new, "ping").await.expect("an answer"), "ping");
    }

    #[tokio::test]
    async fn cuts_what_is_open_when_it_is_used() {
        let (server, _tasks) = echo().await;
        let proxy = Proxy::start(server).await;
        let mut open = TcpStream::connect(proxy.host()).await.expect("it accepts");
        exchange(&mut open, "ping").await.expect("an answer");
        proxy.cut_on_use();
        assert_eq!(
            open.try_read(&mut [0; 1]).expect_err("nothing to read").kind(),
            io::ErrorKind::WouldBlock
        );
        assert!(exchange(&mut open, "ping").await.is_err());
        let mut new = TcpStream::connect(proxy.host()).await.expect("it accepts");
        assert_eq!(exchange(&mut new, "ping").await.expect("an answer"), "ping");
    }

    #[tokio::test]
    async fn delays_each_direction() {
        let (server, _tasks) = echo().await;
        let proxy = Proxy::start(server).await;
        let mut stream = TcpStream::connect(proxy.host()).await.expect("it accepts");
        proxy.delay(Duration::from_millis(30), Duration::from_millis(40));
        let start = Instant::now();
        exchange(&mut stream, "ping").await.expect("an answer");
        assert!(start.elapsed() >= Duration::from_millis(70), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn swallows_until_told_otherwise() {
        let (server, _tasks) = echo().await;
        let proxy = Proxy::start(server).await;
        let mut stream = TcpStream::connect(proxy.host()).await.expect("it accepts");
        proxy.swallow(true);
        stream.write_all(b"ping").await.expect("it is taken");
        let mut answer = [0; 4];
        let in_time =
            tokio::time::timeout(Duration::from_millis(50), stream.read_exact(&mut answer[..1])).await;
        assert!(in_time.is_err(), "something came through");
        proxy.swallow(false);
        stream.read_exact(&mut answer).await.expect("what was sent comes through");
        assert_eq!(&answer, b"ping");
    }
}
