//! How much one caller may ask: requests a second, and requests under way at once.
//!
//! A caller is whom a token or a certificate names, and where nobody is named, an address (of IPv6, a network of 64 bits:
//! one machine has all of it). What is known of them is bounded: who has not asked for longest is forgotten first.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use lru::LruCache;
use tokio::time::Instant;

use crate::config::LimitsConfig;

/// Callers of whom it is known how much they asked.
const MOST_CALLERS: usize = 10_000;
/// Of credentials that nobody knows, so many a second may come from one address where somebody has to be asked about them,
/// and so many at once.
const UNKNOWN_RATE: f64 = 2.0;
const UNKNOWN_BURST: u32 = 20;
/// When to come back where too much is under way.
const SOON: Duration = Duration::from_secs(1);

/// The limits, and who has used how much of them.
#[derive(Debug)]
pub(super) struct Limits {
    config: LimitsConfig,
    callers: Mutex<LruCache<Key, Arc<Standing>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Address(IpAddr),
    Named(String),
}

/// How much somebody asks.
#[derive(Debug, Default)]
pub(super) struct Standing {
    under_way: AtomicUsize,
    requests: Mutex<Bucket>,
    unknown: Mutex<Bucket>,
}

/// What has been used, and when that was so. Drains at the rate.
#[derive(Debug, Default)]
struct Bucket {
    used: f64,
    at: Option<Instant>,
}

/// Why somebody has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limited {
    Rate(Duration),
    Concurrency,
}

impl Limited {
    /// When to come back.
    pub(super) fn retry_after(self) -> Duration {
        match self {
            Self::Rate(wait) => wait,
            Self::Concurrency => SOON,
        }
    }
}

impl Limits {
    pub(super) fn new(config: LimitsConfig) -> Self {
        let most = NonZeroUsize::new(MOST_CALLERS).expect("more than none");
        Self { config, callers: Mutex::new(LruCache::new(most)) }
    }

    /// What is under way for an address.
    pub(super) fn address(&self, address: IpAddr) -> Arc<Standing> {
        self.standing(Key::Address(network(address)))
    }

    /// What is under way for somebody with a name.
    pub(super) fn named(&self, name: &str) -> Arc<Standing> {
        self.standing(Key::Named(name.to_owned()))
    }

    fn standing(&self, key: Key) -> Arc<Standing> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(callers.get_or_insert(key, Arc::default))
    }

    /// Lets a request in, until its place is dropped.
    pub(super) fn enter(&self, standing: &Arc<Standing>) -> Result<Place, Limited> {
        let place = Place(Arc::clone(standing));
        if standing.under_way.fetch_add(1, Ordering::Relaxed) >= self.config.concurrency {
            return Err(Limited::Concurrency);
        }
        if let Some(rate) = self.config.rate {
            standing
                .requests
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(rate, self.config.burst)
                .map_err(Limited::Rate)?;
        }
        Ok(place)
    }

    /// Takes note of credentials that nobody here knows, unless there were too many; then says when to come back.
    pub(super) fn unknown(standing: &Standing) -> Result<(), Duration> {
        standing.unknown.lock().unwrap_or_else(PoisonError::into_inner).take(UNKNOWN_RATE, UNKNOWN_BURST)
    }
}

impl Bucket {
    fn take(&mut self, rate: f64, burst: u32) -> Result<(), Duration> {
        let now = Instant::now();
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.used = (self.used - passed.as_secs_f64() * rate).max(0.0);
        self.at = Some(now);
        if self.used + 1.0 > f64::from(burst) {
            return Err(Duration::from_secs_f64((self.used + 1.0 - f64::from(burst)) / rate));
        }
        self.used += 1.0;
        Ok(())
    }
}

/// The network that one machine has all the addresses of.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Place(Arc<Standing>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that is sent bit by bit, and has its place until its end.
#[derive(Debug)]
pub(super) struct Held {
    body: Body,
    _place: Place,
}

impl Held {
    pub(super) fn new(body: Body, place: Place) -> Self {
        Self { body, _place: place }
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::server) fn unlimited() -> Limits {
        Limits::new(config())
    }

    pub(in crate::server) fn config() -> LimitsConfig {
        LimitsConfig { rate: None, burst: 10, concurrency: 1_000, connections: 1_000 }
    }

    fn limited(rate: Option<f64>, burst: u32, concurrency: usize) -> Limits {
        Limits::new(LimitsConfig { rate, burst, concurrency, connections: 1_000 })
    }

    #[tokio::test(start_paused = true)]
    async fn each_caller_has_a_rate_of_their_own() {
        let limits = limited(Some(2.0), 3, 100);
        let (one, two) = (limits.named("one"), limits.address("192.0.2.1".parse().unwrap()));
        let asks = |standing| limits.enter(standing).map(drop);
        for _ in 0..3 {
            assert_eq!(asks(&one), Ok(()));
        }
        assert_eq!(asks(&one), Err(Limited::Rate(Duration::from_millis(500))));
        assert_eq!(asks(&two), Ok(()), "others are not held up");
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(asks(&one), Ok(()), "as it was told");
        assert!(asks(&one).is_err());
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!((0..10).filter(|_| asks(&one).is_ok()).count(), 3, "nothing is saved up beyond the burst");
    }

    #[test]
    fn places_come_back() {
        let limits = limited(None, 1, 2);
        let one = limits.named("one");
        let (first, _second) = (limits.enter(&one).unwrap(), limits.enter(&one).unwrap());
        assert_eq!(limits.enter(&one).unwrap_err(), Limited::Concurrency);
        assert_eq!(limits.enter(&one).unwrap_err(), Limited::Concurrency, "who was refused has no place");
        drop(first);
        assert!(limits.enter(&one).is_ok());
    }

    #[test]
    fn one_machine_is_one_caller() {
        let at = |text: &str| network(text.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
        assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
    }

    #[test]
    fn what_is_known_of_callers_is_bounded() {
        let limits = unlimited();
        for number in 0..2 * MOST_CALLERS {
            limits.named(&number.to_string());
        }
        assert_eq!(limits.callers.lock().unwrap().len(), MOST_CALLERS);
    }
}
