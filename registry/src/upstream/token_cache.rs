//! The tokens of all registries: kept until shortly before they end, and each fetched once however many ask for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use super::ErrorKind;
use super::token::Token;
use crate::credentials::Credentials;

/// How many tokens are kept. Beyond it the one that ends first goes.
const MAX_TOKENS: usize = 4_096;

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

/// The future of a token that is being fetched. Whoever waits drives it: the first may go away without
/// stranding the others, and when all have gone it stops.
type Flight = Shared<BoxFuture<'static, Result<Token, ErrorKind>>>;

#[derive(Debug)]
enum Entry {
    Ready(Token),
    Fetching { flight: WeakShared<BoxFuture<'static, Result<Token, ErrorKind>>>, number: u64 },
}

/// The tokens of all registries.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    entries: Mutex<HashMap<TokenKey, Entry>>,
    flights: AtomicU64,
}

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
        fetch: impl FnOnce() -> BoxFuture<'static, Result<Token, ErrorKind>>,
    ) -> Result<Obtained, ErrorKind> {
        let (flight, number) = {
            let mut entries = self.lock();
            match entries.get(key) {
                Some(Entry::Ready(token)) if token.is_usable() => {
                    return Ok(Obtained { token: token.clone(), is_fresh: false });
                }
                Some(Entry::Fetching { flight, number }) if let Some(flight) = flight.upgrade() => {
                    (flight, *number)
                }
                _ => self.take_off(&mut entries, key, fetch()),
            }
        };
        let result = flight.await;
        self.land(key, number, &result);
        result.map(|token| Obtained { token, is_fresh: true })
    }

    /// The registry does not accept this token any more.
    pub(super) fn forget(&self, key: &TokenKey, refused: &Token) {
        let mut entries = self.lock();
        if matches!(entries.get(key), Some(Entry::Ready(token)) if token == refused) {
            entries.remove(key);
        }
    }

    fn take_off(
        &self,
        entries: &mut HashMap<TokenKey, Entry>,
        key: &TokenKey,
        fetch: BoxFuture<'static, Result<Token, ErrorKind>>,
    ) -> (Flight, u64) {
        let flight = fetch.shared();
        let number = self.flights.fetch_add(1, Ordering::Relaxed);
        let weak = flight.downgrade().expect("a flight that nobody has polled is not over");
        make_room(entries);
        entries.insert(key.clone(), Entry::Fetching { flight: weak, number });
        (flight, number)
    }

    /// Keeps the result of a flight. Every passenger calls this; only the first changes anything.
    fn land(&self, key: &TokenKey, landed: u64, result: &Result<Token, ErrorKind>) {
        let mut entries = self.lock();
        if !matches!(entries.get(key), Some(Entry::Fetching { number, .. }) if *number == landed) {
            return;
        }
        match result {
            Ok(token) => entries.insert(key.clone(), Entry::Ready(token.clone())),
            Err(_) => entries.remove(key),
        };
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TokenKey, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_room(entries: &mut HashMap<TokenKey, Entry>) {
    if entries.len() < MAX_TOKENS {
        return;
    }
    entries.retain(|_, entry| match entry {
        Entry::Ready(token) => token.is_usable(),
        Entry::Fetching { flight, .. } => flight.upgrade().is_some(),
    });
    let ends_first = entries.iter().filter_map(|(key, entry)| match entry {
        Entry::Ready(token) => Some((token.usable_until(), key)),
        Entry::Fetching { .. } => None,
    });
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
        tokio::time::advance(Duration::from_secs(53)).await;
        let kept = tokens.get(&key("a"), never).await.unwrap();
        assert!(!kept.is_fresh && kept.token == first.token);
        tokio::time::advance(Duration::from_secs(2)).await;
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
        assert_eq!(tokens.lock().len(), MAX_TOKENS);
        let last = tokens.get(&key(&format!("repository:r{MAX_TOKENS}:pull")), never).await.unwrap();
        assert_eq!(last.token.header(), &format!("Bearer repository.r{MAX_TOKENS}.pull"));
    }
}
