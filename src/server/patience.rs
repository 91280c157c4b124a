//! How long is waited for clients: connections on which nothing moves, and bodies that do not end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// A client that takes nothing of what is written to it for so long is cut.
const LONGEST_WRITE: Duration = Duration::from_secs(30);
/// A connection on which nothing comes or goes for so long is cut: longer than the longest long poll.
const LONGEST_SILENCE: Duration = Duration::from_mins(6);
/// A request's body is there as a whole by then, or the request fails.
const LONGEST_BODY: Duration = Duration::from_secs(30);

/// A connection that ends with an error when nothing moves.
#[derive(Debug)]
pub(super) struct Patient<S> {
    stream: S,
    /// Since something is to be written that is not taken.
    stalled: Option<Pin<Box<Sleep>>>,
    silent: Pin<Box<Sleep>>,
    moved: Instant,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, stalled: None, silent: Box::pin(sleep(LONGEST_SILENCE)), moved: Instant::now() }
    }

    fn written<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            self.moved = Instant::now();
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(LONGEST_WRITE)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if read.is_ready() {
            this.moved = Instant::now();
            return read;
        }
        while this.silent.as_mut().poll(context).is_ready() {
            let until = this.moved + LONGEST_SILENCE;
            if until <= Instant::now() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing moves")));
            }
            this.silent.set(sleep_until(until));
        }
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(context);
        self.written(context, ended)
    }
}

/// A body that fails when it is not whole in time, however it trickles.
#[derive(Debug)]
struct Timely {
    body: Body,
    until: Pin<Box<Sleep>>,
}

impl HttpBody for Timely {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        ready!(self.until.as_mut().poll(context));
        let late = io::Error::new(io::ErrorKind::TimedOut, "the body does not come");
        Poll::Ready(Some(Err(axum::Error::new(late))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Lets no request's body take longer than it may.
pub(super) async fn bound_body(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let timely = |body| Body::new(Timely { body, until: Box::pin(sleep(LONGEST_BODY)) });
    next.run(request.map(timely)).await
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_cut() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut ours = Patient::new(ours);
        let begun = Instant::now();
        let error = ours.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), LONGEST_WRITE);
        // And who takes a little in time is not.
        theirs.read_exact(&mut [0; 16]).await.unwrap();
        let (written, ()) = tokio::join!(ours.write_all(&[0; 32]), async {
            for _ in 0..2 {
                sleep(LONGEST_WRITE.saturating_sub(Duration::from_secs(1))).await;
                theirs.read_exact(&mut [0; 16]).await.unwrap();
            }
        });
        written.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_connection_and_any_byte_breaks_it() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut ours = Patient::new(ours);
        let begun = Instant::now();
        let half = LONGEST_SILENCE / 2;
        let mut byte = [0; 1];
        let (read, ()) = tokio::join!(ours.read(&mut byte), async {
            sleep(half).await;
            theirs.write_all(b"x").await.unwrap();
        });
        assert_eq!(read.unwrap(), 1);
        let error = ours.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), half + LONGEST_SILENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_fails_in_time() {
        let trickle = stream::unfold((), |()| async {
            sleep(Duration::from_secs(9)).await;
            Some((Ok::<_, io::Error>(Bytes::from_static(b"x")), ()))
        });
        let body = Body::from_stream(trickle);
        let body = Body::new(Timely { body, until: Box::pin(sleep(LONGEST_BODY)) });
        let begun = Instant::now();
        assert!(axum::body::to_bytes(body, 1_000_000).await.is_err());
        assert_eq!(begun.elapsed(), LONGEST_BODY);
    }
}
