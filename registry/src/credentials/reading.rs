//! Reading from a file system that may hang, as one over a network does when its server is gone.
//!
//! Nothing ends such a reading but the file system itself. So each goes on in a thread of its own, for which whoever reads
//! waits for a bounded time. As long as it hangs, the same thing is not read again: there are never more threads than things
//! to read, and no thread keeps the process from ending.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

/// How long all readings together are waited for.
const LONGEST_READING: Duration = Duration::from_secs(5);

/// How long somebody who reads several things still waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    until: Instant,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { until: Instant::now() + LONGEST_READING }
    }

    fn left(self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

/// One thing that is read again and again.
#[derive(Debug)]
pub(super) struct Reading<T> {
    /// Where the reading arrives that hangs.
    hanging: Option<Receiver<io::Result<T>>>,
}

impl<T> Default for Reading<T> {
    fn default() -> Self {
        Self { hanging: None }
    }
}

impl<T: Send + 'static> Reading<T> {
    /// What `read` returns, or, where an earlier reading was still hanging, what that returned. An error of the kind
    /// [`io::ErrorKind::TimedOut`] when there is nothing yet.
    pub(super) fn get(
        &mut self,
        patience: Patience,
        read: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let hangs = || io::Error::new(io::ErrorKind::TimedOut, "the file system does not answer");
        let lost = || io::Error::other("reading it ended by a defect");
        if let Some(hanging) = &self.hanging {
            let arrived = match hanging.try_recv() {
                Ok(arrived) => arrived,
                Err(TryRecvError::Empty) => return Err(hangs()),
                Err(TryRecvError::Disconnected) => Err(lost()),
            };
            self.hanging = None;
            return arrived;
        }
        let left = patience.left();
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "reading other files took too long"));
        }
        let (sender, receiver) = sync_channel(1);
        // Whoever would hear of it may be gone.
        thread::Builder::new().name("credentials".to_owned()).spawn(move || drop(sender.send(read())))?;
        match receiver.recv_timeout(left) {
            Ok(arrived) => arrived,
            Err(RecvTimeoutError::Disconnected) => Err(lost()),
            Err(RecvTimeoutError::Timeout) => {
                self.hanging = Some(receiver);
                Err(hangs())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time of tokio stands still, and with it what is left of all patience.
    #[tokio::test(start_paused = true)]
    async fn what_hangs_is_not_waited_for_without_end_nor_read_twice() {
        let patience = Patience::new();
        tokio::time::advance(LONGEST_READING * 99 / 100).await;
        let kind = |read: io::Result<&str>| read.unwrap_err().kind();
        let (answer, wait) = sync_channel::<()>(0);
        let mut reading = Reading::default();
        let hangs = move || {
            wait.recv().map_err(io::Error::other)?;
            Ok("late")
        };
        assert_eq!(kind(reading.get(patience, hangs)), io::ErrorKind::TimedOut);
        tokio::time::advance(LONGEST_READING).await;
        let mut other = Reading::default();
        assert_eq!(kind(other.get(patience, || panic!("no time is left"))), io::ErrorKind::TimedOut);

        let patience = Patience::new();
        let twice = reading.get(patience, || panic!("it is read twice at once"));
        assert_eq!(kind(twice), io::ErrorKind::TimedOut);
        assert_eq!(other.get(patience, || Ok("here")).unwrap(), "here", "others are read");

        answer.send(()).unwrap();
        let late = loop {
            match reading.get(patience, || Ok("again")) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => thread::yield_now(),
                read => break read.unwrap(),
            }
        };
        assert_eq!(late, "late");
        assert_eq!(reading.get(patience, || Ok("again")).unwrap(), "again");
        assert_eq!(kind(reading.get(patience, || panic!("a defect"))), io::ErrorKind::Other);
    }
}
