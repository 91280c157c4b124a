//! Whether a store answers, told once each time that it changes.
//!
//! Reads and writes are looked at apart: a full disk can be read, and what cannot be written stays so until a write
//! succeeds. A success ends nothing while failures of the same kind come in between, as from a cluster of which one
//! part is down.

use std::mem::{Discriminant, discriminant};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::store::StoreError;

/// A success counts as the end of failures only when the last one is so long ago.
const SETTLED: Duration = Duration::from_secs(2);

/// Which way an operation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

/// Whether the store answers.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Whether there is anything in `failure`: looked at with every operation, without a lock.
    failing: AtomicBool,
    failure: Mutex<Failure>,
}

#[derive(Debug, Default)]
struct Failure {
    last_read: Option<Instant>,
    last_write: Option<Instant>,
    /// The kinds of errors that were told since it began.
    told: Vec<Discriminant<StoreError>>,
}

/// What is worth a line in the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It has begun to fail, or fails for another reason than before.
    Fails(StoreError),
    /// It does what it is asked again.
    Answers,
}

impl Health {
    /// Notes how an operation ended, at `now`. Says what has changed.
    pub(super) fn note(
        &self,
        direction: Direction,
        error: Option<&StoreError>,
        now: Instant,
    ) -> Option<News> {
        if error.is_none() && !self.failing.load(Ordering::Acquire) {
            return None;
        }
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let last = match direction {
            Direction::Read => &mut failure.last_read,
            Direction::Write => &mut failure.last_write,
        };
        let Some(error) = error else {
            if last.is_some_and(|last| now - last < SETTLED) {
                return None;
            }
            *last = None;
            if failure.last_read.is_some() || failure.last_write.is_some() || failure.told.is_empty() {
                return None;
            }
            failure.told.clear();
            self.failing.store(false, Ordering::Release);
            return Some(News::Answers);
        };
        *last = Some(now);
        self.failing.store(true, Ordering::Release);
        let kind = discriminant(error);
        if failure.told.contains(&kind) {
            return None;
        }
        failure.told.push(kind);
        Some(News::Fails(error.clone()))
    }
}

impl News {
    pub(super) fn is_up(&self) -> bool {
        *self == Self::Answers
    }

    /// Writes the line.
    pub(super) fn log(&self, store: &str) {
        match self {
            Self::Fails(error) => {
                warn!(store.kind = store, %error, "the store fails; it is tried again");
            }
            Self::Answers => info!(store.kind = store, "the store answers again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable(message: &str) -> StoreError {
        StoreError::Unavailable { message: message.to_owned() }
    }

    /// A health, and a clock that only moves when told.
    struct Story(Health, Instant);

    impl Story {
        fn after(
            &mut self,
            milliseconds: u64,
            direction: Direction,
            error: Option<&StoreError>,
        ) -> Option<News> {
            self.1 += Duration::from_millis(milliseconds);
            self.0.note(direction, error, self.1)
        }
    }

    fn story() -> Story {
        Story(Health::default(), Instant::now())
    }

    #[test]
    fn a_failure_and_its_end_are_told_once() {
        let (mut story, down) = (story(), unavailable("refused"));
        assert_eq!(story.after(0, Direction::Read, None), None);
        assert_eq!(story.after(0, Direction::Read, Some(&down)), Some(News::Fails(down.clone())));
        for _ in 0..3 {
            assert_eq!(story.after(10, Direction::Read, Some(&unavailable("timed out"))), None);
            assert_eq!(story.after(10, Direction::Write, Some(&down)), None);
        }
        assert_eq!(story.after(3_000, Direction::Read, None), None, "writes fail still");
        assert_eq!(story.after(0, Direction::Write, None), Some(News::Answers));
        assert_eq!(story.after(0, Direction::Write, None), None);
        assert_eq!(story.after(0, Direction::Write, Some(&down)), Some(News::Fails(down)));
    }

    #[test]
    fn another_reason_is_told_too() {
        let (mut story, down) = (story(), unavailable("refused"));
        let denied = StoreError::Denied { message: "wrong password".to_owned() };
        assert!(story.after(0, Direction::Read, Some(&down)).is_some());
        assert_eq!(story.after(0, Direction::Read, Some(&denied)), Some(News::Fails(denied.clone())));
        assert_eq!(story.after(0, Direction::Read, Some(&down)), None);
        assert_eq!(story.after(0, Direction::Read, Some(&denied)), None);
        assert_eq!(story.after(2_000, Direction::Read, None), Some(News::Answers));
    }

    #[test]
    fn a_store_that_fails_now_and_then_is_one_failure() {
        let (mut story, down) = (story(), unavailable("one of three"));
        assert!(story.after(0, Direction::Read, Some(&down)).is_some());
        for _ in 0..100 {
            assert_eq!(story.after(500, Direction::Read, None), None);
            assert_eq!(story.after(500, Direction::Read, Some(&down)), None);
        }
        assert_eq!(story.after(1_999, Direction::Read, None), None);
        assert_eq!(story.after(1, Direction::Read, None), Some(News::Answers));
    }

    #[test]
    fn a_full_disk_does_not_end_because_it_can_be_read() {
        let mut story = story();
        let full = StoreError::Full { message: "8 GiB".to_owned() };
        assert!(story.after(0, Direction::Write, Some(&full)).is_some());
        assert_eq!(story.after(60_000, Direction::Read, None), None);
        assert_eq!(story.after(60_000, Direction::Write, Some(&full)), None);
        assert_eq!(story.after(30_000, Direction::Write, None), Some(News::Answers));
    }
}
