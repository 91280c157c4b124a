//! How often a database that keeps failing is opened again.

use std::time::Duration;

use tokio::time::Instant;

/// The pause after the first opening, should the database fail again soon; it doubles …
const FIRST_PAUSE_BEFORE_OPENING: Duration = Duration::from_secs(5);
/// … up to this.
const LONGEST_PAUSE_BEFORE_OPENING: Duration = Duration::from_mins(5);

/// Lets the first opening happen at once. Each further one waits twice as long after the one before, until a write
/// succeeds after such a pause: opening can take long, and nobody can read meanwhile.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    pause: Option<Duration>,
    until: Option<Instant>,
}

impl BackOff {
    /// Whether the database may be opened again.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    /// Notes that it was opened again, or that this was tried.
    pub(super) fn note_opening(&mut self, now: Instant) {
        let pause = self.pause.map_or(FIRST_PAUSE_BEFORE_OPENING, |pause| pause * 2);
        let pause = pause.min(LONGEST_PAUSE_BEFORE_OPENING);
        (self.pause, self.until) = (Some(pause), Some(now + pause));
    }

    /// Notes that a write has succeeded.
    pub(super) fn note_success(&mut self, now: Instant) {
        if self.is_over(now) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_end_with_a_lasting_success() {
        let mut now = Instant::now();
        let mut back_off = BackOff::default();
        assert!(back_off.is_over(now), "the first time at once");
        for seconds in [5, 10, 20, 40, 80, 160, 300, 300] {
            back_off.note_opening(now);
            back_off.note_success(now);
            now += Duration::from_secs(seconds - 1);
            assert!(!back_off.is_over(now), "{seconds}");
            now += Duration::from_secs(1);
            assert!(back_off.is_over(now), "{seconds}");
        }
        back_off.note_success(now);
        back_off.note_opening(now);
        assert!(back_off.is_over(now + FIRST_PAUSE_BEFORE_OPENING), "it begins anew");
    }
}
