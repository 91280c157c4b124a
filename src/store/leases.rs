//! Leases for engines that only one process has open: kept in memory, gone with the process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Key;

/// Who holds which lease until when. One entry for every upstream host at most.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<HashMap<Key, (String, Instant)>>);

impl Leases {
    pub(super) fn lease(&self, key: &Key, holder: &str, ttl: Duration) -> bool {
        let mut leases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        leases.retain(|_, (_, until)| *until > now);
        if leases.get(key).is_some_and(|(current, _)| current != holder) {
            return false;
        }
        if ttl.is_zero() {
            leases.remove(key);
            return false;
        }
        leases.insert(key.clone(), (holder.to_owned(), now + ttl));
        true
    }
}
