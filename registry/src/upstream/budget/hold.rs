//! How one kind of request is held back after 429.

use std::time::Duration;

use tokio::time::Instant;

use super::super::limits;

#[derive(Debug, Default)]
pub(super) struct Hold {
    until: Option<Instant>,
    /// How many 429s followed one another, those of requests that were under way together counted once.
    consecutive: u32,
    /// The number of admissions when the hold began.
    began_at_admission: u64,
}

impl Hold {
    /// Until when nothing of the kind may go.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// For how much longer.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Ends the hold if its time is over, and says since when.
    pub(super) fn end(&mut self, now: Instant) -> Option<Instant> {
        let until = self.until.filter(|until| *until <= now)?;
        self.until = None;
        Some(until)
    }

    /// A request was limited: holds back for as long as it asked, or, where it did not say, for longer each time. A longer
    /// hold is not cut. Until when.
    pub(super) fn hold(
        &mut self,
        admission: u64,
        admissions: u64,
        asked: Option<Duration>,
        now: Instant,
    ) -> Instant {
        let is_news = self.consecutive == 0 || admission > self.began_at_admission;
        if is_news {
            self.consecutive = self.consecutive.saturating_add(1);
            self.began_at_admission = admissions;
        }
        self.extend(now + limits::pause(asked, self.consecutive))
    }

    /// Holds back until then at least. Until when.
    pub(super) fn extend(&mut self, until: Instant) -> Instant {
        let until = self.until.map_or(until, |longer| longer.max(until));
        self.until = Some(until);
        until
    }

    /// A request was answered without a pause being asked for.
    pub(super) fn accepted(&mut self, admission: u64) {
        if admission > self.began_at_admission {
            self.consecutive = 0;
        }
    }
}
