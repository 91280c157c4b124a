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
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::*;

    fn key(scope: &str) -> TokenKey {
        TokenKey {
            registry: "r.example".into(),
            realm: "https://r.example/token".to_owned(),
            service: None,
            scope: scope.to_owned(),
            identity: Credentials::Anonymous,
        }
    }

    fn token(text: &str) -> Token {
        Token::decode(format!(r#"{{"token":"{text}"}}"#).as_bytes(), Instant::now()).unwrap()
    }

    fn at_once(
        result: Result<Token, ErrorKind>,
    ) -> impl FnOnce() -> BoxFuture<'static, Result<Token, ErrorKind>> {
        move || async { result }.boxed()
    }

    fn never() -> BoxFuture<'static, Result<Token, ErrorKind>> {
        panic!("a token was fetched that was there")
    }

    fn broken() -> ErrorKind {
        ErrorKind::Transport { message: "cut".to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_kept_until_shortly_before_its_end() {
        let tokens = Tokens::default();
        let first = tokens.get(&key("a"), at_once(Ok(token("one")))).await.unwrap();
        assert!(first.is_fresh);
        tokio::time::advance(Duration::from_secs(44)).await;
        let kept = tokens.get(&key("a"), never).await.unwrap();
        assert!(!kept.is_fresh && kept.token == first.token);
        tokio::time::advance(Duration::from_secs(11)).await;
        let second = tokens.get(&key("a"), at_once(Ok(token("two")))).await.unwrap();
        assert!(second.is_fresh);
        assert_eq!(second.token.header(), "Bearer two");
    }

    #[tokio::test]
    async fn one_fetch_for_all_who_ask_even_when_the_first_goes_away() {
        let tokens = Arc::new(Tokens::default());
        let fetches = Arc::new(AtomicUsize::new(0));
        let (send, receive) = oneshot::channel::<Token>();
        let receive = async move { Ok(receive.await.unwrap()) }.boxed().shared();
        let ask = || {
            let (tokens, fetches, receive) = (tokens.clone(), fetches.clone(), receive.clone());
            tokio::spawn(async move {
                let fetch = || {
                    fetches.fetch_add(1, Ordering::SeqCst);
                    receive.boxed()
                };
                tokens.get(&key("a"), fetch).await
            })
        };
        let first = ask();
        tokio::task::yield_now().await;
        let others: Vec<_> = (0..20).map(|_| ask()).collect();
        tokio::task::yield_now().await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        send.send(token("t")).unwrap();
        for other in others {
            assert_eq!(other.await.unwrap().unwrap().token.header(), "Bearer t");
        }
        assert_eq!(fetches.load(Ordering::SeqCst), 1);
        assert!(!tokens.get(&key("a"), never).await.unwrap().is_fresh);
    }

    #[tokio::test]
    async fn a_fetch_that_all_gave_up_is_started_anew() {
        let tokens = Tokens::default();
        let hanging = || std::future::pending().boxed();
        assert!(tokens.get(&key("a"), hanging).now_or_never().is_none());
        assert!(tokens.get(&key("a"), at_once(Ok(token("t")))).await.unwrap().is_fresh);
    }

    #[tokio::test]
    async fn failures_are_not_kept() {
        let tokens = Tokens::default();
        assert_eq!(tokens.get(&key("a"), at_once(Err(broken()))).await.unwrap_err(), broken());
        assert!(tokens.get(&key("a"), at_once(Ok(token("t")))).await.is_ok());
    }

    /// What is in the background runs to where it waits.
    async fn settle() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_in_its_last_quarter_is_used_while_the_next_one_is_fetched() {
        let tokens = Tokens::default();
        tokens.get(&key("a"), at_once(Ok(token("one")))).await.unwrap();
        tokio::time::advance(Duration::from_secs(46)).await;
        let (send, receive) = oneshot::channel::<Token>();
        let next = || async move { Ok(receive.await.unwrap()) }.boxed();
        assert_eq!(tokens.get(&key("a"), next).await.unwrap().token.header(), "Bearer one");
        settle().await;
        assert_eq!(tokens.get(&key("a"), never).await.unwrap().token.header(), "Bearer one");
        send.send(token("two")).unwrap();
        settle().await;
        let second = tokens.get(&key("a"), never).await.unwrap();
        assert!(!second.is_fresh);
        assert_eq!(second.token.header(), "Bearer two");
        // It is renewed in its turn.
        tokio::time::advance(Duration::from_secs(46)).await;
        tokens.get(&key("a"), at_once(Ok(token("three")))).await.unwrap();
        settle().await;
        assert_eq!(tokens.get(&key("a"), never).await.unwrap().token.header(), "Bearer three");
    }

    #[tokio::test(start_paused = true)]
    async fn who_needs_the_next_token_waits_for_the_fetch_that_is_under_way() {
        let tokens = Tokens::default();
        tokens.get(&key("a"), at_once(Ok(token("one")))).await.unwrap();
        tokio::time::advance(Duration::from_secs(50)).await;
        let (send, receive) = oneshot::channel::<Token>();
        let next = || async move { Ok(receive.await.unwrap()) }.boxed();
        tokens.get(&key("a"), next).await.unwrap();
        tokio::time::advance(Duration::from_secs(10)).await;
        let key = key("a");
        let (second, ()) = tokio::join!(tokens.get(&key, never), async {
            settle().await;
            send.send(token("two")).unwrap();
        });
        assert_eq!(second.unwrap().token.header(), "Bearer two");
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_fails_is_tried_again_at_the_end_only() {
        let tokens = Tokens::default();
        tokens.get(&key("a"), at_once(Ok(token("one")))).await.unwrap();
        tokio::time::advance(Duration::from_secs(46)).await;
        tokens.get(&key("a"), at_once(Err(broken()))).await.unwrap();
        settle().await;
        assert_eq!(tokens.get(&key("a"), never).await.unwrap().token.header(), "Bearer one");
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(tokens.get(&key("a"), at_once(Ok(token("two")))).await.unwrap().is_fresh);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_refused_while_it_is_renewed_waits_for_the_next() {
        let tokens = Tokens::default();
        let one = tokens.get(&key("a"), at_once(Ok(token("one")))).await.unwrap().token;
        tokio::time::advance(Duration::from_secs(46)).await;
        let (send, receive) = oneshot::channel::<Token>();
        tokens.get(&key("a"), || async move { Ok(receive.await.unwrap()) }.boxed()).await.unwrap();
        tokens.forget(&key("a"), &one);
        send.send(token("two")).unwrap();
        assert_eq!(tokens.get(&key("a"), never).await.unwrap().token.header(), "Bearer two");
    }

    #[tokio::test(start_paused = true)]
    async fn renewals_are_bounded_and_end_with_their_owner() {
        let tokens = Tokens::default();
        let keys: Vec<_> =
            (0..=MAX_RENEWALS).map(|number| key(&format!("repository:r{number}:pull"))).collect();
        for key in &keys {
            tokens.get(key, at_once(Ok(token("one")))).await.unwrap();
        }
        tokio::time::advance(Duration::from_secs(46)).await;
        let alive = Arc::new(());
        for key in &keys {
            let held = alive.clone();
            let hanging = move || {
                async move {
                    let fetched = std::future::pending().await;
                    drop(held);
                    fetched
                }
                .boxed()
            };
            tokens.get(key, hanging).await.unwrap();
        }
        assert_eq!(Arc::strong_count(&alive), 1 + MAX_RENEWALS);
        drop(tokens);
        settle().await;
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[tokio::test]
    async fn only_the_token_that_was_refused_is_forgotten() {
        let tokens = Tokens::default();
        let kept = tokens.get(&key("a"), at_once(Ok(token("one")))).await.unwrap().token;
        tokens.forget(&key("a"), &token("another"));
        assert!(!tokens.get(&key("a"), never).await.unwrap().is_fresh);
        tokens.forget(&key("a"), &kept);
        assert!(tokens.get(&key("a"), at_once(Ok(token("two")))).await.unwrap().is_fresh);
    }

    #[tokio::test]
    async fn tokens_are_bounded_and_kept_apart() {
        let tokens = Tokens::default();
        for number in 0..=MAX_TOKENS {
            let scope = format!("repository:r{number}:pull");
            tokens.get(&key(&scope), at_once(Ok(token(&scope.replace(':', "."))))).await.unwrap();
        }
        assert_eq!(tokens.entries.lock().len(), MAX_TOKENS);
        let last = tokens.get(&key(&format!("repository:r{MAX_TOKENS}:pull")), never).await.unwrap();
        assert_eq!(last.token.header(), &format!("Bearer repository.r{MAX_TOKENS}.pull"));
    }
}
