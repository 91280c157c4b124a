//! What servers tell about themselves.

use redis::{Cmd, Value};

use super::request::Request;
use super::slot_map::SlotMap;
use super::{Redis, Statistics, StoreError};

/// Statistics over the server, or all primaries of a cluster. What we have no right to ask stays unknown, and so does
/// everything while a primary is missing.
pub(super) async fn statistics(store: &Redis) -> Result<Statistics, StoreError> {
    let servers = number_of_servers(store).await?;
    let mut information = redis::cmd("INFO");
    information.arg("memory");
    let memory = ask(store, information, servers).await?;
    let mut information = redis::cmd("INFO");
    information.arg("stats");
    let stats = ask(store, information, servers).await?;
    let entries = ask(store, redis::cmd("DBSIZE"), servers).await?;
    Ok(Statistics {
        entries: sum(&entries, count),
        value_bytes: None,
        used_bytes: sum(&memory, |answer| field(answer, "used_memory")),
        // A server without a limit says 0.
        limit_bytes: sum(&memory, |answer| field(answer, "maxmemory").filter(|limit| *limit > 0)),
        evicted: sum(&stats, |answer| field(answer, "evicted_keys")),
        full: false,
    })
}

/// How many servers have our keys, if that is known.
async fn number_of_servers(store: &Redis) -> Result<Option<usize>, StoreError> {
    if !store.is_cluster {
        return Ok(Some(1));
    }
    let mut question = redis::cmd("CLUSTER");
    question.arg("SLOTS");
    // Whose answer it is does not matter to the number.
    let slots = SlotMap::parse(&store.command(question).await?, "");
    Ok(slots.filter(SlotMap::is_whole).map(|slots| slots.primaries().len()))
}

/// The answers of all `servers`; none where the question is not allowed, or one of them is not asked.
async fn ask(store: &Redis, command: Cmd, servers: Option<usize>) -> Result<Vec<Value>, StoreError> {
    let request = if store.is_cluster { Request::EveryPrimary(command) } else { Request::Command(command) };
    let answers = match store.single(request).await {
        Ok(Value::Map(answers)) => answers.into_iter().map(|(_, answer)| answer).collect(),
        Ok(answer) => vec![answer],
        Err(StoreError::Denied { .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    // The library leaves out those that it is not connected to.
    Ok(if Some(answers.len()) == servers { answers } else { Vec::new() })
}

/// The sum over all servers, if it is known of each.
fn sum(answers: &[Value], number: impl Fn(&Value) -> Option<u64>) -> Option<u64> {
    if answers.is_empty() {
        return None;
    }
    answers.iter().map(number).sum()
}

fn count(answer: &Value) -> Option<u64> {
    match answer {
        Value::Int(count) => u64::try_from(*count).ok(),
        _ => None,
    }
}

/// The number in the line `name:number`.
fn field(answer: &Value, name: &str) -> Option<u64> {
    let Value::BulkString(text) = answer else { return None };
    let text = std::str::from_utf8(text).ok()?;
    text.lines()
        .find_map(|line| line.split_once(':').filter(|(field, _)| *field == name)?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let answer =
            Value::BulkString(b"# Memory\r\nused_memory_rss:7\r\nused_memory:1024\r\nmaxmemory:0\r\n".into());
        assert_eq!(field(&answer, "used_memory"), Some(1024));
        assert_eq!(field(&answer, "maxmemory"), Some(0));
        assert_eq!(field(&answer, "evicted_keys"), None);
        assert_eq!(field(&Value::Nil, "used_memory"), None);
    }

    #[test]
    fn a_sum_with_an_unknown_part_is_unknown() {
        assert_eq!(sum(&[Value::Int(1), Value::Int(2)], count), Some(3));
        assert_eq!(sum(&[Value::Int(1), Value::Nil], count), None);
        assert_eq!(sum(&[], count), None);
    }
}
