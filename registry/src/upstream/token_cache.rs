//! The tokens of all registries: kept until shortly before they end, and each fetched once however many ask for it.
//!
//! Whoever is the first to use a token in its last quarter starts the fetch of the next one and does not wait for it:
//! where tokens are in steady use, nobody waits for one. Such fetches are owned by [`Tokens`] and end with it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use tokio::task::JoinSet;

use super::ErrorKind;
use super::token::Token;
use crate::credentials::Credentials;

/// How many tokens are kept. Beyond it the one that ends first goes.
const MAX_TOKENS: usize = 4_096;
/// How many tokens are fetched ahead of time at once. Beyond it they are fetched when they are needed.
const MAX_RENEWALS: usize = 64;

/// What a token was given for; it is used for nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TokenKey {
    /// The registry's canonical host: a token never goes to another, whatever realms and services claim.
    pub(super) registry: Arc<str>,
    pub(super) realm: String,
    pub(super) service: Option<String>,
    pub(super) scope: String,
    pub(super) identity: Credentials,
}

/// What fetching a token brings.
type Fetched = Result<Token, ErrorKind>;
/// The future of a token that is being fetched. Whoever waits drives it: the first may go away without
/// stranding the others, and when all have gone it stops.
type Flight = Shared<BoxFuture<'static, Fetched>>;

/// A token, the flight that brings one, or both.
#[derive(Debug, Default)]
struct Entry {
    token: Option<Token>,
    flight: Option<Flying>,
    /// One fetch of the token's successor was started. If it brings none, nobody tries before the token's end.
    was_renewed: bool,
}

#[derive(Debug)]
struct Flying {
    flight: WeakShared<BoxFuture<'static, Fetched>>,
    number: u64,
}

/// The tokens of all registries.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    entries: Arc<Entries>,
    flights: AtomicU64,
    renewals: Mutex<JoinSet<()>>,
}

#[derive(Debug, Default)]
struct Entries(Mutex<HashMap<TokenKey, Entry>>);

/// A token, and whether it was fetched just now.
#[derive(Debug)]
pub(super) struct Obtained {
    pub(super) token: Token,
    pub(super) is_fresh: bool,
}

impl Tokens {
    /// The token kept for `key`, or the one that `fetch` gets, which is called at most once at a time per key.
    /// Failures are shared by those who wait for the same fetch, and not kept.
    pub(super) async fn get(
        &self,
        key: &TokenKey,
        fetch: impl FnOnce() -> BoxFuture<'static, Fetched>,
    ) -> Result<Obtained, ErrorKind> {
        let (flight, number) = {
            let mut entries = self.entries.lock();
            let entry = entries.get(key);
            if let Some(token) = entry.and_then(Entry::usable_token).cloned() {
                if token.is_renewable() && !entry.is_some_and(|entry| entry.was_renewed) {
                    self.renew(&mut entries, key, fetch);
                }
                return Ok(Obtained { token, is_fresh: false });
            }
            match entry.and_then(Entry::flight) {
                Some(flying) => flying,
                None => self.take_off(&mut entries, key, fetch()),
            }
        };
        let result = flight.await;
        self.entries.land(key, number, &result);
        result.map(|token| Obtained { token, is_fresh: true })
    }

    /// Whether there is a token that need not be waited for.
    pub(super) fn is_kept(&self, key: &TokenKey) -> bool {
        self.entries.lock().get(key).and_then(Entry::usable_token).is_some()
    }

    /// The registry does not accept this token any more.
    pub(super) fn forget(&self, key: &TokenKey, refused: &Token) {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(key).filter(|entry| entry.token.as_ref() == Some(refused)) else {
            return;
        };
        entry.token = None;
        if entry.flight().is_none() {
            entries.remove(key);
        }
    }

    /// Fetches the successor of a token without anybody waiting for it.
    fn renew(
        &self,
        entries: &mut HashMap<TokenKey, Entry>,
        key: &TokenKey,
        fetch: impl FnOnce() -> BoxFuture<'static, Fetched>,
    ) {
        let mut renewals = self.renewals.lock().unwrap_or_else(PoisonError::into_inner);
        while renewals.try_join_next().is_some() {}
        if renewals.len() >= MAX_RENEWALS {
            return;
        }
        let (flight, number) = self.take_off(entries, key, fetch());
        entries.entry(key.clone()).or_default().was_renewed = true;
        let (entries, key) = (self.entries.clone(), key.clone());
        renewals.spawn(async move {
            let result = flight.await;
            if let Err(error) = &result {
                tracing::debug!(registry.host = %key.registry, %error, "a token could not be fetched ahead of time");
            }
            entries.land(&key, number, &result);
        });
    }

    fn take_off(
        &self,
        entries: &mut HashMap<TokenKey, Entry>,
        key: &TokenKey,
        fetch: BoxFuture<'static, Fetched>,
    ) -> (Flight, u64) {
        let flight = fetch.shared();
        let number = self.flights.fetch_add(1, Ordering::Relaxed);
        let weak = flight.downgrade().expect("a flight that nobody has polled is not over");
        if !entries.contains_key(key) {
            make_room(entries);
        }
        entries.entry(key.clone()).or_default().flight = Some(Flying { flight: weak, number });
        (flight, number)
    }
}

impl Entries {
    /// Keeps the result of a flight. Every passenger calls this; only the first changes anything.
    fn land(&self, key: &TokenKey, landed: u64, result: &Fetched) {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(key).filter(|entry| entry.is_waiting_for(landed)) else {
            return;
        };
        entry.flight = None;
        match result {
            Ok(token) => *entry = Entry { token: Some(token.clone()), ..Entry::default() },
            Err(_) if entry.usable_token().is_some() => {}
            Err(_) => {
                entries.remove(key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TokenKey, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn usable_token(&self) -> Option<&Token> {
        self.token.as_ref().filter(|token| token.is_usable())
    }

    /// The flight, if there is still somebody who waits for it.
    fn flight(&self) -> Option<(Flight, u64)> {
        let flying = self.flight.as_ref()?;
        Some((flying.flight.upgrade()?, flying.number))
    }

    fn is_waiting_for(&self, number: u64) -> bool {
        self.flight.as_ref().is_some_and(|flying| flying.number == number)
    }
}

fn make_room(entries: &mut HashMap<TokenKey, Entry>) {
    if entries.len() < MAX_TOKENS {
        return;
    }
    entries.retain(|_, entry| entry.usable_token().is_some() || entry.flight().is_some());
    let ends_first =
        entries.iter().filter_map(|(key, entry)| Some((entry.token.as_ref()?.usable_until(), key)));
    if entries.len() >= MAX_TOKENS
        && let Some(key) = ends_first.min_by_key(|(until, _)| *until).map(|(_, key)| key.clone())
    {
        entries.remove(&key);
    }
}

#[cfg(test)]
mod tests;
