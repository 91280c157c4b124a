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
    let keys: Vec<_> = (0..=MAX_RENEWALS).map(|number| key(&format!("repository:r{number}:pull"))).collect();
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
