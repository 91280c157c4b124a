//! How old what is known may be: the cadence that the warmer promises, and what a host's limits and troubles add to it.
//!
//! Written from the documentation, not from the warmer's code. Bounds are upper ones: whoever asks more often than
//! promised breaks no promise here (the budgets and the requests per tag and day say when it is too often).

use std::time::Duration;

use super::registry::Registry;

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// A tag is confirmed for the first time after this long.
const FIRST: Duration = HOUR;
const SHORTEST: Duration = Duration::from_mins(5);
const LONGEST: Duration = Duration::from_hours(7 * 24);
/// How fast the intervals of tags that look as if they would never move grow, and those of others.
const GROWTH_OF_VERSIONS: u32 = 4;
const GROWTH: u32 = 2;
/// A repository is listed this often at least, where its interval is learnt; jitter makes it a tenth more.
pub(crate) const LONGEST_POLL: Duration = HOUR;
/// After a stop of more than an hour, what is overdue is spread over this long at most.
const SPREAD: Duration = Duration::from_hours(6);
/// A list that could not be read is tried again at least this often, and the breaker lets one request through.
const TRIED_AGAIN: Duration = Duration::from_mins(75);
/// Requests that the first answer about a tag may take: its list's share, HEAD, two manifests, a configuration.
const REQUESTS_PER_TAG: u32 = 5;

/// How long a tag may go unconfirmed after it was asked about, given how long it went so before.
pub(crate) fn next_interval(is_version: bool, is_first: bool, has_moved: bool, before: Duration) -> Duration {
    if is_first {
        return FIRST;
    }
    let growth = if is_version { GROWTH_OF_VERSIONS } else { GROWTH };
    let next = if has_moved { before / 2 } else { before.saturating_mul(growth) };
    next.clamp(SHORTEST, LONGEST)
}

/// Whether a tag is named after one version, which is not expected to move.
pub(crate) fn is_version(tag: &str) -> bool {
    tag.split('.').filter(|part| part.bytes().all(|byte| byte.is_ascii_digit())).count() == 3
}

/// Times in which nobody could be asked: all replicas were down.
#[derive(Debug, Clone, Default)]
pub(crate) struct Downtimes(pub(crate) Vec<(Duration, Duration)>);

impl Registry {
    /// How much later than promised something may come that was due between `since` and `now`.
    pub(crate) fn slack(&self, since: Duration, now: Duration, downtimes: &Downtimes) -> Duration {
        let outages = self.outages.iter().map(|outage| (outage.from, outage.to));
        let mut slack = self.queue_bound() + 10 * MINUTE;
        for (from, to) in outages.chain(downtimes.0.iter().copied()) {
            let (from, to) = (from.max(since), to.min(now));
            let lasted = to.saturating_sub(from);
            if !lasted.is_zero() {
                slack += lasted + TRIED_AGAIN;
            }
            if lasted > HOUR {
                slack += SPREAD;
            }
        }
        slack
    }

    /// How long the host's whole work takes at the rate that it bears: the longest that anything waits in its queue.
    fn queue_bound(&self) -> Duration {
        let rate = self.traits.bears.map_or(self.traits.limits.rate, |(rate, _)| rate / 2.0);
        // What fails is asked for again, after a wait.
        let rate = rate * (1.0 - self.traits.fails);
        let waits = if self.traits.fails > 0.0 { HOUR } else { Duration::ZERO };
        let latency = Duration::from_millis(self.traits.latency.1).as_secs_f64();
        let rate = rate.min(real(self.traits.limits.concurrency as u64) / latency);
        Duration::from_secs_f64(real(self.tags() * u64::from(REQUESTS_PER_TAG)) / rate) + waits
    }

    /// How much later a reader may see what is behind a new digest that was pushed when so many had been fetched: where
    /// manifests are counted, those go first that waited for their turn already, and those that came since and look newer.
    pub(crate) fn wait_for_manifests(&self, fetched_before: u64) -> Duration {
        let Some(quota) = self.traits.quota else { return Duration::ZERO };
        // A tenth is kept for those who ask.
        let usable = (quota.limit * 9 / 10).max(1);
        let windows = self.wanted_after(fetched_before) / usable + 2;
        quota.window * u32::try_from(windows).unwrap_or(u32::MAX)
    }

    fn tags(&self) -> u64 {
        self.repositories.values().map(|repository| repository.tags.len() as u64).sum()
    }
}

/// How long a list may be old.
pub(crate) fn of_lists(fixed: Option<Duration>) -> Duration {
    let interval = fixed.unwrap_or(LONGEST_POLL);
    interval + interval / 10 + MINUTE
}

fn real(count: u64) -> f64 {
    count as f64
}
