//! Reading an answer in time and within bounds.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Response;
use tokio::time::{Instant, timeout_at};

use super::endpoint::Timeouts;
use super::observe::Recording;
use super::{ErrorKind, Stage};
use crate::words;

/// How much of the body of a failed answer is read, to find out what the registry says.
const MAX_ERROR_BODY: u64 = 64 * 1024;

/// When a request is out of time.
#[derive(Debug)]
pub(super) struct Deadlines {
    header_timeout: Duration,
    body_timeout: Duration,
    total_timeout: Duration,
    started: Instant,
}

impl Deadlines {
    /// The request begins now.
    pub(super) fn from_now(timeouts: Timeouts) -> Self {
        Self {
            header_timeout: timeouts.header,
            body_timeout: timeouts.body,
            total_timeout: timeouts.total,
            started: Instant::now(),
        }
    }

    /// The same, but what is left of it ends within this time from now.
    pub(super) fn ending_within(&self, limit: Duration) -> Self {
        let total_timeout = self.total_timeout.min(self.started.elapsed() + limit);
        Self { total_timeout, ..*self }
    }

    /// Waits for the header of the answer.
    pub(super) async fn header<T>(&self, future: impl Future<Output = T>) -> Result<T, ErrorKind> {
        self.within(Stage::Header, self.header_timeout, future).await
    }

    /// Waits for the next piece of the body.
    async fn next_of_body<T>(&self, future: impl Future<Output = T>) -> Result<T, ErrorKind> {
        self.within(Stage::Body, self.body_timeout, future).await
    }

    async fn within<T>(
        &self,
        stage: Stage,
        limit: Duration,
        future: impl Future<Output = T>,
    ) -> Result<T, ErrorKind> {
        let of_stage = Instant::now() + limit;
        let of_all = self.started + self.total_timeout;
        timeout_at(of_stage.min(of_all), future).await.map_err(|_| {
            if of_stage <= of_all {
                ErrorKind::Timeout { stage, limit }
            } else {
                ErrorKind::Timeout { stage: Stage::Total, limit: self.total_timeout }
            }
        })
    }
}

/// Reads the whole body, up to a bound in bytes.
pub(super) async fn read_whole(
    response: &mut Response,
    limit: u64,
    deadlines: &Deadlines,
    recording: &mut Recording,
) -> Result<Bytes, ErrorKind> {
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(ErrorKind::TooLarge { limit });
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = deadlines.next_of_body(response.chunk()).await?.map_err(failed_to_read)? {
        recording.received(chunk.len());
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(ErrorKind::TooLarge { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Reads up to the bound. What goes wrong here is of no interest: the status says enough.
pub(super) async fn read_beginning(
    response: &mut Response,
    deadlines: &Deadlines,
    recording: &mut Recording,
) -> Bytes {
    let mut body = BytesMut::new();
    while let Ok(Ok(Some(chunk))) = deadlines.next_of_body(response.chunk()).await {
        recording.received(chunk.len());
        body.extend_from_slice(&chunk);
        if body.len() as u64 >= MAX_ERROR_BODY {
            break;
        }
    }
    body.freeze()
}

/// What broke the connection, without the URL.
pub(super) fn failed_to_read(error: reqwest::Error) -> ErrorKind {
    // A URL can hold a signature or an account.
    let error = error.without_url();
    let mut message = String::new();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        let said = error.to_string();
        if !message.ends_with(&said) {
            let separator = if message.is_empty() { "" } else { ": " };
            message = format!("{message}{separator}{said}");
        }
        cause = error.source();
    }
    if message.is_empty() {
        message = error.to_string();
    }
    ErrorKind::Transport { message: words::printable(&message) }
}
