//! What is no memcached behind the port.

use std::future::pending;

use samovar_memcached::{Error, Expiry};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::lookalike::{Lookalike, PROBE};
use super::*;

/// A server that answers whatever it is sent by the same bytes.
struct Stranger {
    port: u16,
    _task: JoinSet<()>,
}

/// What a stranger does after its answer.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Waits,
    Repeats,
    Closes,
}

async fn stranger(answer: &'static [u8], then: Then) -> Stranger {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut request = [0; 1024];
                while stream.read(&mut request).await.is_ok_and(|length| length > 0) {
                    while stream.write_all(answer).await.is_ok() && then == Then::Repeats {}
                    if then == Then::Closes {
                        return;
                    }
                }
                pending::<()>().await;
            });
        }
    });
    Stranger { port, _task: task }
}

async fn error_of(port: u16) -> Error {
    let mut options = options([port]);
    options.operation_timeout = Duration::from_millis(300);
    let pool = Pool::open(options).await.unwrap();
    let start = Instant::now();
    let error = pool.get("key").await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(pool.set("key", bytes("value"), Expiry::Never).await, Err(error.clone()));
    assert_eq!(pool.get_many(&["a", "b"]).await, Err(error.clone()));
    error
}

#[tokio::test]
async fn an_http_server_is_a_protocol_error() {
    let server = stranger(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", Then::Closes).await;
    let error = error_of(server.port).await;
    assert_eq!(
        error.to_string(),
        format!(
            "127.0.0.1:{} does not answer as memcached does: it answers version by \"HTTP/1.1 400 Bad Request\"",
            server.port
        )
    );
}

#[tokio::test]
async fn so_are_other_strangers() {
    for (answer, then) in [
        (b"-ERR unknown command\r\n".as_slice(), Then::Waits),
        (b"\xff\xfe\0\0\r\n", Then::Waits),
        (b"an answer without an end ", Then::Repeats),
        (b"an answer without an end ", Then::Closes),
        (b"ERROR\r\n", Then::Waits),
    ] {
        let server = stranger(answer, then).await;
        let error = error_of(server.port).await;
        assert!(matches!(error, Error::Protocol { .. }), "{answer:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_server_that_turns_into_nonsense_is_a_protocol_error() {
    let nonsense_for_probe = stranger(b"VERSION 1.6.18\r\n", Then::Waits).await;
    let error = error_of(nonsense_for_probe.port).await;
    assert!(matches!(error, Error::Protocol { .. }), "{error:?}");

    let nonsense_for_requests = Lookalike::start(usize::MAX, |line| match line {
        "version" => "VERSION 1.6.18\r\n".into(),
        PROBE => "EN O1\r\n".into(),
        _ => "NONSENSE\r\n".into(),
    });
    let error = error_of(nonsense_for_requests.await.port).await;
    assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_does_not_give_tokens_back_is_too_old() {
    for miss in ["EN\r\n", "ERROR\r\n", "VA 1\r\nx\r\n"] {
        let server = Lookalike::start(usize::MAX, move |line| match line {
            "version" => "VERSION 1.6.9\r\n".into(),
            _ => miss.into(),
        });
        let server = server.await;
        let name = local(server.port).to_string();
        let error = error_of(server.port).await;
        assert_eq!(error, Error::TooOld { server: name.clone(), version: "1.6.9".into() });
        assert_eq!(
            error.to_string(),
            format!(
                "memcached server {name} is too old: version 1.6.9 lacks the meta protocol with opaque tokens, which \
                 1.6.18 has"
            )
        );
    }
    let server = stranger(b"VERSION 1.5.22\r\n", Then::Waits).await;
    assert!(matches!(error_of(server.port).await, Error::TooOld { version, .. } if version == "1.5.22"));
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let server = stranger(b"", Then::Waits).await;
    let error = error_of(server.port).await;
    let Error::Unavailable { message, .. } = error else { panic!("{error:?}") };
    assert_eq!(message, "no answer within 300ms");
}

#[tokio::test]
async fn a_server_that_wants_nobody_is_unavailable() {
    for (answer, message) in [
        (b"".as_slice(), "it closed the connection"),
        (b"ERROR Too many open connections\r\n", "it has too many connections"),
    ] {
        let server = stranger(answer, Then::Closes).await;
        let name = local(server.port).to_string();
        assert_eq!(error_of(server.port).await, Error::Unavailable { server: name, message: message.into() });
    }
}

#[tokio::test]
async fn a_version_comes_with_its_error() {
    let server = stranger(b"220 mail.example ESMTP\r\n", Then::Waits).await;
    let pool = Pool::open(options([server.port])).await.unwrap();
    let versions = pool.versions().await;
    assert!(matches!(versions.as_slice(), [(_, Err(Error::Protocol { .. }))]), "{versions:?}");
    let statistics = pool.statistics().await;
    assert!(matches!(statistics.as_slice(), [(_, Err(Error::Protocol { .. }))]), "{statistics:?}");
}
