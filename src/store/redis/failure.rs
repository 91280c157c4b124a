//! What a failure means: for whoever asked ([`StoreError`]), and for the connection it happened on.

use std::error::Error;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};
use samovar_registry::Secret;

use super::StoreError;

/// Characters of a server's own words that are passed on: what is no Redis may answer with anything.
const MESSAGE_CHARACTERS: usize = 200;

/// Turns failures into [`StoreError`]s whose text never has the password, also where a server repeats it.
pub(super) struct Failures {
    password: Option<Secret>,
}

impl Failures {
    pub(super) fn new(password: Option<Secret>) -> Self {
        Self { password: password.filter(|password| !password.reveal().is_empty()) }
    }

    /// What `error`, which came from `server`, is to whoever asked.
    pub(super) fn store_error(&self, server: &str, error: &RedisError) -> StoreError {
        let message = format!("{server}: {}", self.without_secrets(&reason(error)));
        match error.kind() {
            ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::NoPerm) => {
                StoreError::Denied { message }
            }
            ErrorKind::Parse
            | ErrorKind::UnexpectedReturnType
            | ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::CrossSlot) => {
                StoreError::Protocol { message }
            }
            ErrorKind::Io if io_kind(error) == Some(io::ErrorKind::InvalidData) => {
                StoreError::Protocol { message }
            }
            _ => match error.code() {
                Some("NOAUTH" | "WRONGPASS" | "DENIED") => StoreError::Denied { message },
                Some("OOM") => StoreError::Full { message },
                Some("WRONGTYPE") => StoreError::Protocol { message },
                _ => by_words(message),
            },
        }
    }

    fn without_secrets(&self, text: &str) -> String {
        let text = match &self.password {
            Some(password) => text.replace(password.reveal(), "…"),
            None => text.to_owned(),
        };
        text.chars().filter(|character| !character.is_control()).take(MESSAGE_CHARACTERS).collect()
    }
}

/// Errors that have no code of their own, or lose it on the way through a script of Redis 6.
fn by_words(message: String) -> StoreError {
    let says = |words: &str| message.contains(words);
    if says("OOM command not allowed") {
        StoreError::Full { message }
    } else if says("refused to switch database") || says("NOAUTH") {
        StoreError::Denied { message }
    } else if says("unknown command") || says("cluster support disabled") {
        StoreError::Protocol { message }
    } else {
        StoreError::Unavailable { message }
    }
}

/// What went wrong, in words that need no knowledge of the library.
fn reason(error: &RedisError) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    if error.is_connection_refusal() {
        return "connection refused".to_owned();
    }
    if is_closed(error) {
        return "the connection was closed".to_owned();
    }
    let detail = error.detail().unwrap_or_default();
    match error.kind() {
        // The library does not say why: a server with too many clients refuses the first command, which is this one.
        ErrorKind::AuthenticationFailed => {
            "the user or the password is wrong, or the server has no room for more clients".to_owned()
        }
        ErrorKind::Parse => "the answer is not in the Redis protocol".to_owned(),
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) => {
            "it is a node of a cluster, which needs a redis-cluster:// URL".to_owned()
        }
        ErrorKind::Server(ServerErrorKind::ResponseError) if !detail.is_empty() => error.to_string(),
        _ => match error.code() {
            Some(code) => format!("{code} {detail}"),
            None => error.to_string(),
        },
    }
}

fn io_kind(error: &RedisError) -> Option<io::ErrorKind> {
    // The library shares its source, and gives the share.
    let source = error.source()?.downcast_ref::<Arc<dyn Error + Send + Sync>>()?;
    source.downcast_ref::<io::Error>().map(io::Error::kind)
}

/// Whether the connection must be replaced: it is broken, silent, or leads to a server that is no longer the primary.
pub(super) fn loses_connection(error: &RedisError) -> bool {
    let kind = error.kind();
    matches!(
        kind,
        ErrorKind::Io
            | ErrorKind::Parse
            | ErrorKind::ClusterConnectionNotFound
            | ErrorKind::Server(ServerErrorKind::MasterDown)
    ) || was_refused_by_a_replica(error)
}

/// Whether a write came to a server that is not, or no longer, the primary, and so had no effect.
pub(super) fn was_refused_by_a_replica(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
        // What a script of Redis 6 makes of it.
        || error.detail().is_some_and(|detail| detail.contains("READONLY "))
}

/// Whether the connection was found dead, rather than silent: asking again on a new one may help at once.
pub(super) fn found_connection_dead(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Io && error.is_connection_dropped()
}

/// Whether there was a connection, which was closed.
pub(super) fn is_closed(error: &RedisError) -> bool {
    found_connection_dead(error) && !error.is_connection_refusal()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error as a server sends it.
    fn said(text: &str) -> RedisError {
        let answer = redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap();
        answer.extract_error().unwrap_err()
    }

    fn store_error(error: &RedisError) -> StoreError {
        Failures::new(Some(Secret::new("hunter2"))).store_error("redis.example:6379", error)
    }

    #[test]
    fn what_a_server_says_decides_what_it_means() {
        type IsSo = fn(&StoreError) -> bool;
        let denied: IsSo = |error| matches!(error, StoreError::Denied { .. });
        let full: IsSo = |error| matches!(error, StoreError::Full { .. });
        let protocol: IsSo = |error| matches!(error, StoreError::Protocol { .. });
        let unavailable: IsSo = |error| matches!(error, StoreError::Unavailable { .. });
        for (text, is_so) in [
            ("WRONGPASS invalid username-password pair or user is disabled.", denied),
            ("NOAUTH Authentication required.", denied),
            ("NOPERM this user has no permissions to run the 'get' command", denied),
            ("DENIED Redis is running in protected mode", denied),
            ("OOM command not allowed when used memory > 'maxmemory'.", full),
            (
                "ERR Error running script (call to f_1): @user_script:3: -OOM command not allowed when used memory",
                full,
            ),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", protocol),
            ("MOVED 3999 127.0.0.1:6381", protocol),
            ("CROSSSLOT Keys in request don't hash to the same slot", protocol),
            ("ERR unknown command 'GET', with args beginning with: 'x'", protocol),
            ("ERR This instance has cluster support disabled", protocol),
            ("READONLY You can't write against a read only replica.", unavailable),
            ("LOADING Redis is loading the dataset in memory", unavailable),
            ("CLUSTERDOWN Hash slot not served", unavailable),
            ("TRYAGAIN Multiple keys request during rehashing of slot", unavailable),
            ("MISCONF Redis is configured to save RDB snapshots", unavailable),
            ("ERR max number of clients reached", unavailable),
        ] {
            let error = store_error(&said(text));
            assert!(is_so(&error), "{text}: {error:?}");
            assert!(error.to_string().contains("redis.example:6379"), "{error}");
        }
    }

    #[test]
    fn a_password_that_a_server_repeats_is_left_out() {
        let error = store_error(&said("ERR unknown command 'AUTH', with args beginning with: 'hunter2',"));
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(error.to_string().contains("unknown command"), "{error}");
    }

    #[test]
    fn what_tls_cannot_read_or_trust_is_no_such_store() {
        let error = RedisError::from(io::Error::new(io::ErrorKind::InvalidData, "invalid peer certificate"));
        assert!(matches!(store_error(&error), StoreError::Protocol { .. }), "{error:?}");
        let error = RedisError::from(io::Error::from(io::ErrorKind::ConnectionReset));
        assert!(matches!(store_error(&error), StoreError::Unavailable { .. }), "{error:?}");
    }

    #[test]
    fn what_a_server_says_is_cut() {
        let error = store_error(&said(&format!("ERR {}", "x".repeat(10_000))));
        assert!(error.to_string().len() < MESSAGE_CHARACTERS + 100, "{error}");
    }

    #[test]
    fn writing_to_a_replica_loses_the_connection_and_had_no_effect() {
        for text in [
            "READONLY You can't write against a read only replica.",
            "ERR Error running script (call to f_1): @user_script:2: -READONLY You can't write against",
        ] {
            let error = said(text);
            assert!(was_refused_by_a_replica(&error), "{text}");
            assert!(loses_connection(&error), "{text}");
        }
        let error = said("OOM command not allowed");
        assert!(!was_refused_by_a_replica(&error));
        assert!(!loses_connection(&error));
    }
}
