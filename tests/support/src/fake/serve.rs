//! Connections of hosts that live in the test's own process.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::{Buf as _, Bytes};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A loopback listener and what it accepted. Dropping it closes the port and all connections.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) address: SocketAddr,
    task: JoinHandle<Infallible>,
}

impl Listening {
    /// Listens on a free loopback port and runs `connection` for each connection.
    pub(super) async fn start<F>(connection: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        // Failures concern one connection, which its client notices.
                        if let Ok((stream, _)) = accepted {
                            connections.spawn(connection(stream));
                        }
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Self { address, task }
    }

    pub(super) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Closes the port and all connections, and waits until it is done.
    pub(super) async fn stop(&mut self) {
        self.task.abort();
        // Cancelled is what it is now.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a connection is closed in place of an answer.
#[derive(Debug)]
pub(super) struct ConnectionClosed;

impl std::fmt::Display for ConnectionClosed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("closed on command")
    }
}

impl std::error::Error for ConnectionClosed {}

/// Speaks HTTP/1.1 on one connection.
pub(super) async fn speak_http<F>(stream: TcpStream, answer: impl Fn(Request<Incoming>) -> F)
where
    F: Future<Output = Result<Response<Body>, ConnectionClosed>>,
{
    // Small answers must not wait for the acknowledgement of the ones before.
    let _ = stream.set_nodelay(true);
    let replacement = Arc::new(Mutex::new(None));
    let answering = service_fn(|request| {
        let (answer, replacement) = (answer(request), Arc::clone(&replacement));
        async move {
            let mut response = answer.await?;
            *replacement.lock().expect("nothing panics while it holds it") =
                response.extensions_mut().remove::<RawAnswer>();
            Ok::<_, ConnectionClosed>(response)
        }
    });
    let stream = Replaceable { stream, replacement: Arc::clone(&replacement), is_silenced: false };
    // How a connection ends is seen by its client, and part of what is tested.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answering).await;
}

/// Bytes that are sent in place of an answer, as they are: what no HTTP library would write. An extension of the
/// response in whose place they go; the connection must end with it.
#[derive(Debug, Clone)]
pub(super) struct RawAnswer(pub(super) Bytes);

/// A connection on which an answer can be replaced by raw bytes.
struct Replaceable {
    stream: TcpStream,
    replacement: Arc<Mutex<Option<RawAnswer>>>,
    /// The replacement has been sent: what else is written is not.
    is_silenced: bool,
}

impl AsyncRead for Replaceable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Replaceable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.is_silenced {
            return Poll::Ready(Ok(bytes.len()));
        }
        let replacement = self
            .replacement
            .lock()
            .expect("nothing panics while it holds it")
            .as_ref()
            .map(|raw| raw.0.clone());
        let Some(mut raw) = replacement else {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        };
        while !raw.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &raw))?;
            raw.advance(written);
            *self.replacement.lock().expect("nothing panics while it holds it") =
                Some(RawAnswer(raw.clone()));
        }
        self.is_silenced = true;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
