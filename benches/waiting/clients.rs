//! Clients that wait, as cheap as can be: a socket each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use samovar_registry::{Clock as _, SystemClock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Connections that are made at once.
const CONNECTING_AT_ONCE: usize = 64;

/// How a client waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    Stream,
    Poll,
}

impl Waiting {
    pub(crate) fn of(word: &str) -> Self {
        if word == Self::Stream.as_str() { Self::Stream } else { Self::Poll }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Poll => "poll",
        }
    }

    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Stream => "event streams",
            Self::Poll => "long polls",
        }
    }
}

/// What a client tells.
enum Said {
    Waits,
    /// At this time, of a change that was seen at that one, in milliseconds.
    Heard(i64, i64),
}

/// Has so many clients wait, and prints a line when all do, and one for each change: after how many milliseconds the first
/// has heard of it, and the last.
pub(crate) async fn wait(waiting: Waiting, address: &str, path: &str, count: usize) {
    let (say, mut said) = mpsc::unbounded_channel();
    let connecting = Arc::new(tokio::sync::Semaphore::new(CONNECTING_AT_ONCE));
    let waits = Arc::new(AtomicUsize::new(0));
    for _ in 0..count {
        let (address, path, say) = (address.to_owned(), path.to_owned(), say.clone());
        let (connecting, waits) = (Arc::clone(&connecting), Arc::clone(&waits));
        tokio::spawn(async move {
            let place = connecting.acquire_owned().await.expect("never closed");
            let stream = TcpStream::connect(&address).await.expect("samovar takes connections");
            let mut client = Client { stream, address, path, unread: Vec::new() };
            match waiting {
                Waiting::Stream => {
                    client.send("").await;
                    client.read_to("\nid: ").await;
                    drop(place);
                    let _ = say.send(Said::Waits);
                    loop {
                        let event = client.read_to("\"cause\"").await;
                        let _ = say.send(Said::Heard(now(), seen_at(&event)));
                    }
                }
                Waiting::Poll => {
                    client.send("").await;
                    let mut validator = validator(&client.answer().await);
                    drop(place);
                    loop {
                        client.send(&format!("if-none-match: {validator}\r\n")).await;
                        if waits.fetch_add(1, Ordering::Relaxed) < count {
                            // There is no sign that it waits; the last ones have a moment.
                            let _ = say.send(Said::Waits);
                        }
                        let answer = client.answer().await;
                        let _ = say.send(Said::Heard(now(), generation(&answer)));
                        validator = self::validator(&answer);
                    }
                }
            }
        });
    }
    for _ in 0..count {
        assert!(matches!(said.recv().await, Some(Said::Waits)), "all wait before anything happens");
    }
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    println!("{count}");
    loop {
        let (mut first, mut last) = (i64::MAX, 0);
        for _ in 0..count {
            let Some(Said::Heard(at, seen)) = said.recv().await else { return };
            (first, last) = (first.min(at - seen), last.max(at - seen));
        }
        println!("{first} {last}");
    }
}

/// The time in milliseconds, as all processes of the machine have it.
fn now() -> i64 {
    SystemClock.now().as_millisecond()
}

/// When the change of an event was seen: its id begins with the generation.
fn seen_at(event: &str) -> i64 {
    let (_, id) = event.rsplit_once("\"id\":\"").expect("a change has an id");
    id.split('.').next().and_then(|generation| generation.parse().ok()).expect("milliseconds")
}

fn generation(answer: &str) -> i64 {
    validator(answer).trim_start_matches("W/").trim_matches('"').parse().expect("a generation")
}

fn validator(answer: &str) -> String {
    let mut lines = answer.lines();
    let line = lines.find_map(|line| line.strip_prefix("etag: ")).expect("a validator");
    line.to_owned()
}

struct Client {
    stream: TcpStream,
    address: String,
    path: String,
    unread: Vec<u8>,
}

impl Client {
    async fn send(&mut self, headers: &str) {
        let wait = if headers.is_empty() { "" } else { "?wait=290s" };
        let request = format!("GET {}{wait} HTTP/1.1\r\nhost: {}\r\n{headers}\r\n", self.path, self.address);
        self.stream.write_all(request.as_bytes()).await.expect("samovar reads");
    }

    /// Everything up to this text.
    async fn read_to(&mut self, text: &str) -> String {
        loop {
            let found = self.unread.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(place) = found {
                let read: Vec<u8> = self.unread.drain(..place + text.len()).collect();
                return String::from_utf8_lossy(&read).into_owned();
            }
            self.more().await;
        }
    }

    /// The next answer's header; its body is passed over.
    async fn answer(&mut self) -> String {
        let header = self.read_to("\r\n\r\n").await;
        let length = header.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|length| length.parse().ok()).expect("a body of known length");
        while self.unread.len() < length {
            self.more().await;
        }
        self.unread.drain(..length);
        header
    }

    async fn more(&mut self) {
        let read = self.stream.read_buf(&mut self.unread).await.expect("samovar answers");
        assert!(read > 0, "samovar has ended the connection");
    }
}
