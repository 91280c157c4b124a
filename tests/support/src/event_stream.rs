//! A client of server-sent events, as simple as can be.

use std::time::Duration;

use serde_json::Value;

/// How long an event is waited for. Of no influence on tests that pass.
const PATIENCE: Duration = Duration::from_mins(1);

/// One server-sent event.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamEvent {
    /// Its type.
    pub kind: String,
    /// Its data, which is JSON.
    pub data: Value,
    /// The id with which to resume after it.
    pub id: Option<String>,
}

/// A connection that receives events.
#[derive(Debug)]
pub struct EventStream {
    response: reqwest::Response,
    text: String,
    /// The id that came last, also where nothing happened.
    pub last_id: Option<String>,
}

impl EventStream {
    /// Receives what this answer sends. Panics where it is not an event stream.
    pub fn of(response: reqwest::Response) -> Self {
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok());
        assert_eq!((response.status().as_u16(), kind), (200, Some("text/event-stream")), "{response:?}");
        Self { response, text: String::new(), last_id: None }
    }

    /// The next event; `None` where the server has ended the stream. Panics where none comes.
    pub async fn next(&mut self) -> Option<StreamEvent> {
        tokio::time::timeout(PATIENCE, self.receive()).await.expect("an event comes")
    }

    /// Waits until an id has come.
    pub async fn begun(mut self) -> Self {
        while self.last_id.is_none() {
            assert!(self.more().await, "the stream has ended");
            while let Some(block) = self.block() {
                assert_eq!(self.parse(&block), None, "nothing has happened yet");
            }
        }
        self
    }

    async fn receive(&mut self) -> Option<StreamEvent> {
        loop {
            while let Some(block) = self.block() {
                if let Some(event) = self.parse(&block) {
                    return Some(event);
                }
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn more(&mut self) -> bool {
        match self.response.chunk().await {
            Ok(Some(chunk)) => {
                self.text.push_str(std::str::from_utf8(&chunk).expect("whole characters"));
                true
            }
            Ok(None) | Err(_) => false,
        }
    }

    fn block(&mut self) -> Option<String> {
        let (block, rest) = self.text.split_once("\n\n")?;
        let (block, rest) = (block.to_owned(), rest.to_owned());
        self.text = rest;
        Some(block)
    }

    fn parse(&mut self, block: &str) -> Option<StreamEvent> {
        let field = |name: &str| {
            block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
        };
        let id = field("id");
        self.last_id = id.clone().or(self.last_id.take());
        let data = serde_json::from_str(&field("data")?).expect("data is JSON");
        Some(StreamEvent { kind: field("event").unwrap_or_default(), data, id })
    }
}
