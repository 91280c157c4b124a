//! Taking connections: a bounded number, each with a bound on how long its client may take to say what it wants.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Connections at once; more wait in the system's queue.
const MOST_CONNECTIONS: usize = 10_000;
/// A client that has not sent a request's header by then is cut; so is an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A header is no larger.
const MOST_HEADER_BYTES: usize = 64 * 1024;
/// When a connection cannot be taken (no descriptors left), the next try comes after this.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves `router` until `shutdown`; then takes no more connections and returns when the last request is answered.
pub(super) async fn accept(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    // HTTP/1 alone: without TLS nobody negotiates HTTP/2, and telling the two apart would wait for the first bytes.
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MOST_HEADER_BYTES);
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let connections = GracefulShutdown::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = shutdown.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
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
        let service = TowerToHyperService::new(router.clone());
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(error = %error, "a connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    connections.shutdown().await;
}
