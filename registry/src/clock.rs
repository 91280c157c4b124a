//! Time, injected: deadlines are computed from a [`Clock`], so that tests of days run in milliseconds.

use std::fmt::Debug;

use jiff::Timestamp;

/// Tells what time it is. Waiting is done with `tokio::time`, which tests pause.
pub trait Clock: Debug + Send + Sync {
    /// The time now, by the wall clock.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the machine's clock is read")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that follows tokio's: it stands still while tokio's time is paused and leaps when that is advanced.
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    start: Timestamp,
    started: tokio::time::Instant,
}

impl TokioClock {
    /// A clock that shows `start` now.
    pub fn starting_at(start: Timestamp) -> Self {
        Self { start, started: tokio::time::Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.start + self.started.elapsed()
    }
}
