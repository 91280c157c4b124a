//! Taking connections: a bounded number, each with a bound on how long its client may take to say what it wants.
//!
//! When all places are taken, a few more connections are: long enough to say so, and to tell whether samovar lives.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower_http::BoxError;
use tracing::{debug, warn};

use super::access::{Access, Peer};
use super::patience::Patient;
use super::tls::{self, Tls};

/// Connections at once beyond those that are allowed for; more wait in the system's queue.
const SPARE_CONNECTIONS: usize = 256;
/// A client that has not sent a request's header by then is cut; so is an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// The same where all places are taken.
const SPARE_TIMEOUT: Duration = Duration::from_secs(5);
/// A client that has not agreed on how to encrypt by then is cut.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A header is no larger.
const MOST_HEADER_BYTES: usize = 64 * 1024;
/// Requests at once on one connection of HTTP/2.
const MOST_STREAMS: u32 = 100;
/// When a connection cannot be taken (no descriptors left), the next try comes after this.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// How connections are taken.
#[derive(Debug, Clone)]
pub(super) struct Listening {
    /// Connections at once.
    pub(super) connections: usize,
    pub(super) access: Arc<Access>,
    pub(super) tls: Option<Arc<Tls>>,
}

/// Goes with a request that came when all places were taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct FullHouse;

/// Serves `router` until `shutdown`; then takes no more connections and returns when the last request is answered.
pub(super) async fn accept(
    listener: TcpListener,
    router: Router,
    listening: Listening,
    shutdown: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(listening.connections));
    let spare = Arc::new(Semaphore::new(SPARE_CONNECTIONS));
    let connections = GracefulShutdown::new();
    loop {
        let accepted = async {
            let place = tokio::select! {
                biased;
                place = Arc::clone(&places).acquire_owned() => (place, false),
                place = Arc::clone(&spare).acquire_owned() => (place, true),
            };
            (place, listener.accept().await)
        };
        let ((place, is_spare), accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = shutdown.cancelled() => break,
        };
        let mut place = Place { _permit: place.expect("the semaphores are never closed"), is_spare };
        if is_spare && let Ok(permit) = Arc::clone(&places).try_acquire_owned() {
            // One was given back meanwhile.
            place = Place { _permit: permit, is_spare: false };
        }
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a connection cannot be taken");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        // An answer is written whole: waiting for more would only delay its end.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a connection went away at once");
            continue;
        }
        let connection = Connection {
            address,
            place,
            router: router.clone(),
            listening: listening.clone(),
            watcher: connections.watcher(),
        };
        tokio::spawn(async move {
            if let Err(error) = connection.serve(stream).await {
                debug!(error = %error, "a connection ended early");
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
}

/// One of the connections that there may be.
struct Place {
    _permit: OwnedSemaphorePermit,
    /// All others are taken.
    is_spare: bool,
}

struct Connection {
    address: SocketAddr,
    place: Place,
    router: Router,
    listening: Listening,
    watcher: Watcher,
}

impl Connection {
    async fn serve(self, stream: TcpStream) -> Result<(), BoxError> {
        let stream = Patient::new(stream);
        let Some(tls) = &self.listening.tls else {
            // HTTP/1 alone: without TLS nobody negotiates HTTP/2, and telling the two apart would wait for the first bytes.
            return self.converse(stream, false, None).await;
        };
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.acceptor().accept(stream));
        let stream = handshake.await.map_err(|_| "no agreement on TLS in time")??;
        let (_, agreed) = stream.get_ref();
        let (names, http2) = (tls::client_names(agreed), tls::speaks_http2(agreed));
        self.converse(stream, http2, names.as_deref()).await
    }

    async fn converse(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        http2: bool,
        names: Option<&[String]>,
    ) -> Result<(), BoxError> {
        let Self { address, place, router, listening, watcher } = self;
        let peer: Peer = listening.access.peer(address.ip(), names);
        let is_spare = place.is_spare;
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let extensions = request.extensions_mut();
            extensions.insert(peer.clone());
            if is_spare {
                extensions.insert(FullHouse);
            }
            let mut router = router.clone();
            async move { tower_service::Service::call(&mut router, request.map(Body::new)).await }
        });
        let stream = TokioIo::new(stream);
        if http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(if is_spare { 1 } else { MOST_STREAMS })
                .max_header_list_size(u32::try_from(MOST_HEADER_BYTES).unwrap_or(u32::MAX));
            return Ok(watcher.watch(builder.serve_connection(stream, service)).await?);
        }
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(if is_spare { SPARE_TIMEOUT } else { HEADER_TIMEOUT })
            .keep_alive(!is_spare)
            .max_buf_size(MOST_HEADER_BYTES);
        Ok(watcher.watch(builder.serve_connection(stream, service)).await?)
    }
}
