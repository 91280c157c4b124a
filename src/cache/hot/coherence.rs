//! Comparing what is in memory with the store, so that what another process wrote is seen.

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::HotSet;
use super::state::Compared;
use crate::cache::load::Front;
use crate::store::{Key, Reader, StoreError};

/// Keys asked for in one round trip; two for every repository.
pub const MOST_KEYS_IN_A_CHECK: usize = 1000;
/// A store that does not answer within this is taken for one that fails.
const LONGEST_CHECK: Duration = Duration::from_secs(5);
/// Where not all can be asked about together, each is asked about by itself; so many at once.
const ASKED_AT_ONCE: usize = 8;
/// When so many repositories cannot be read, none before them could, the store as a whole is taken to fail.
const MOST_FAILURES: usize = 8;

impl HotSet {
    /// Compares with the store until `shutdown`, every [`HotSet::CHECK_EVERY`].
    pub async fn run<R: Reader + ?Sized>(&self, reader: &R, shutdown: CancellationToken) {
        let mut ticks = interval(Self::CHECK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let check = async {
            for turn in 0.. {
                ticks.tick().await;
                self.check(reader, turn).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = check => {}
        }
    }

    /// Compares with the store, and marks what has changed there: it is read again when it is next asked for.
    async fn check<R: Reader + ?Sized>(&self, reader: &R, turn: usize) {
        let mut all = self.state().all();
        if !all.is_empty() {
            // Where part of the store does not answer, it is not always the same ones that are asked about first.
            let first = turn.wrapping_mul(MOST_FAILURES) % all.len();
            all.rotate_left(first);
        }
        let mut all_compared = true;
        for some in all.chunks(MOST_KEYS_IN_A_CHECK / 2) {
            let Err(error) = self.check_together(reader, some).await else { continue };
            all_compared = false;
            self.check_failed(error);
            if !self.check_one_by_one(reader, some).await {
                // The store as a whole.
                break;
            }
        }
        if all_compared {
            self.checked();
        }
    }

    /// Compares what can be read of these, where one server of several may be down. Says whether anything could be.
    async fn check_one_by_one<R: Reader + ?Sized>(&self, reader: &R, some: &[Compared]) -> bool {
        let (mut any, mut failures) = (false, 0);
        let asking: Vec<_> = some.chunks(1).map(|one| self.check_together(reader, one)).collect();
        let mut asked = stream::iter(asking).buffer_unordered(ASKED_AT_ONCE);
        let compare = async {
            while let Some(outcome) = asked.next().await {
                match outcome {
                    Ok(()) => any = true,
                    Err(_) => failures += 1,
                }
                if !any && failures >= MOST_FAILURES {
                    break;
                }
            }
        };
        // Those that it did not come to have their turn within the next seconds.
        let _ = timeout(LONGEST_CHECK, compare).await;
        any
    }

    async fn check_together<R: Reader + ?Sized>(
        &self,
        reader: &R,
        some: &[Compared],
    ) -> Result<(), StoreError> {
        let keys: Vec<Key> = some.iter().flat_map(|compared| Front::keys(&compared.name)).collect();
        let entries = timeout(LONGEST_CHECK, reader.get_many(&keys)).await.unwrap_or_else(|_| {
            Err(StoreError::Unavailable { message: format!("no answer within {}s", LONGEST_CHECK.as_secs()) })
        })?;
        let mut entries = entries.into_iter();
        for compared in some {
            let found = Front { head_entry: entries.next().flatten(), side_entry: entries.next().flatten() };
            if self.state().found_in_store(compared, found) {
                // Nobody listens: nobody misses it.
                let _ = self.changed.send(compared.name.clone());
            }
        }
        Ok(())
    }

    fn checked(&self) {
        let now = self.clock.now();
        let mut state = self.state();
        state.statistics.last_checked = Some(now);
        if state.statistics.error.take().is_some() {
            debug!("the store answers again; what is in memory was compared with it");
        }
    }

    fn check_failed(&self, error: StoreError) {
        let before = self.state().statistics.error.replace(error.clone());
        if before.is_none() {
            debug!(%error, "the store, or part of it, does not answer; repositories in memory are answered from there");
        }
    }
}
