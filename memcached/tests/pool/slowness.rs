//! Servers that answer, and not fast enough for all that is asked of them.

use samovar_memcached::{Error, Outcome};

use super::lookalike::{Lookalike, PROBE};
use super::*;

/// How many answers come in time.
const IN_TIME: usize = 10;
/// How often the time may run out before a pool gives up what is left of an exchange.
const TIMEOUTS: usize = 8;

/// A server that has every key as its own value, and answers the first ten requests of a connection in time.
async fn slow_server() -> Lookalike {
    Lookalike::start(IN_TIME, |line| match line.split(' ').collect::<Vec<_>>().as_slice() {
        ["version"] => "VERSION 1.6.18\r\n".to_owned(),
        _ if line == PROBE => "EN O1\r\n".to_owned(),
        ["mg", key, .., token] if token.starts_with('O') => format!("VA {} {token}\r\n{key}\r\n", key.len()),
        _ => "ERROR\r\n".to_owned(),
    })
    .await
}

async fn pool_of(server: &Lookalike) -> Pool {
    let mut options = options([server.port]);
    options.operation_timeout = Duration::from_millis(300);
    Pool::open(options).await.unwrap()
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("slow|{number}")).collect()
}

#[tokio::test]
async fn what_does_not_come_in_time_is_asked_for_again() {
    let server = slow_server().await;
    let pool = pool_of(&server).await;
    let keys = keys(3 * IN_TIME - 2);
    let found = pool.get_many(&keys).await.unwrap();
    assert!(
        found.iter().zip(&keys).all(|(found, key)| found.as_deref() == Some(key.as_bytes())),
        "{found:?}"
    );
    assert_eq!(pool.servers()[0].set_aside, None);
}

#[tokio::test]
async fn a_server_that_needs_too_long_is_not_waited_for_and_not_set_aside() {
    let server = slow_server().await;
    let pool = pool_of(&server).await;
    let keys = keys(100);
    let outcomes = pool.look_up(&keys).await;
    let (hits, rest) = outcomes.split_at(TIMEOUTS * IN_TIME);
    assert!(hits.iter().all(|outcome| matches!(outcome, Outcome::Hit(_))), "{hits:?}");
    for outcome in rest {
        let Outcome::SetAside(Error::Unavailable { message, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(message, "no answer within 300ms");
    }
    assert_eq!(pool.servers()[0].set_aside, None);
}
