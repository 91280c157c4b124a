//! Leases: of those who ask, one has it, until it ends or is given back.
//!
//! A lease is an item whose value is its holder. Taking it is `add`; renewing it and giving it back compare the holder and
//! then swap or delete exactly the version that was compared, so that nobody touches another's lease. memcached may forget
//! a lease before its time, as it may forget anything: two holders are possible then, and must do no harm.

use std::time::Duration;

use bytes::Bytes;

use crate::error::Error;
use crate::expiry::Expiry;
use crate::pool::{Pool, Versioned};

/// Servers count whole seconds by a clock that ticks once a second, and would end a lease up to a second too soon.
const CLOCK_TICK: Duration = Duration::from_secs(1);

impl Pool {
    /// Takes the lease named `key` for `holder`, or renews it where `holder` has it, and says whether `holder` has it now.
    /// It lasts for `time_to_live` at least and two seconds more at most.
    ///
    /// After [`Error::Interrupted`] it may be had or not: asking again tells.
    pub async fn acquire_lease(
        &self,
        key: impl AsRef<[u8]>,
        holder: &str,
        time_to_live: Duration,
    ) -> Result<bool, Error> {
        let key = key.as_ref();
        if self.add(key, Bytes::copy_from_slice(holder.as_bytes()), lasting(time_to_live)).await? {
            return Ok(true);
        }
        self.renew_lease(key, holder, time_to_live).await
    }

    /// Renews the lease if `holder` has it, and says whether it does.
    pub async fn renew_lease(
        &self,
        key: impl AsRef<[u8]>,
        holder: &str,
        time_to_live: Duration,
    ) -> Result<bool, Error> {
        let key = key.as_ref();
        let Some(own) = self.own_lease(key, holder).await? else { return Ok(false) };
        self.compare_and_swap(key, own.token, own.value, lasting(time_to_live)).await
    }

    /// Gives the lease back if `holder` has it, and says whether it did.
    pub async fn release_lease(&self, key: impl AsRef<[u8]>, holder: &str) -> Result<bool, Error> {
        let key = key.as_ref();
        let Some(own) = self.own_lease(key, holder).await? else { return Ok(false) };
        self.compare_and_delete(key, own.token).await
    }

    /// The lease as it is stored, if `holder` has it.
    async fn own_lease(&self, key: &[u8], holder: &str) -> Result<Option<Versioned>, Error> {
        let stored = self.get_versioned(key).await?;
        Ok(stored.filter(|stored| stored.value == holder.as_bytes()))
    }
}

fn lasting(time_to_live: Duration) -> Expiry {
    Expiry::After(time_to_live.saturating_add(CLOCK_TICK))
}
