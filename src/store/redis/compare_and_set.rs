//! Compare-and-set that counts once, also where it runs twice.
//!
//! A cluster's client repeats a command whose answer did not come. If the first run had stored the entry, the second
//! finds that it is no longer what was expected, and the writer would be told that somebody else was faster. That what
//! it finds is equal does not make it ours: another writer may have stored the same. So in a cluster each
//! compare-and-set gives its entry a lifetime of its own, longer than [`TIME_TO_LIVE_MILLISECONDS`] by a random part,
//! and an equal entry that must have got just this lifetime just now is ours. An equal one of another writer passes for
//! ours with a chance of milliseconds in [`RANGE_OF_EXTRA_MILLISECONDS`].

use bytes::Bytes;
use tokio::time::Instant;

use super::script::{self, Invocation};
use super::{Entry, Key, Redis, Request, StoreError, TIME_TO_LIVE_MILLISECONDS, Value};

/// What is added to the lifetime of an entry that is compared-and-set in a cluster is less than this: a day.
const RANGE_OF_EXTRA_MILLISECONDS: u64 = 24 * 60 * 60 * 1000;

/// Stores `entry` if what is stored is `expected`; says whether it did.
pub(super) async fn compare_and_set(
    store: &Redis,
    key: &Key,
    expected: Option<Entry>,
    entry: Entry,
) -> Result<bool, StoreError> {
    let expected = expected.map_or_else(Bytes::new, |expected| expected.encode());
    let extra = if store.is_cluster { fastrand::u64(0..RANGE_OF_EXTRA_MILLISECONDS) } else { 0 };
    let lifetime = TIME_TO_LIVE_MILLISECONDS + extra;
    let arguments = vec![expected.into(), entry.encode().into(), lifetime.to_string().into_bytes()];
    let invocation = Invocation::new(&script::COMPARE_AND_SET, store.stored_key(key), arguments);
    let asked = Instant::now();
    match store.single(Request::Script(invocation)).await? {
        Value::Int(script::STORED) => Ok(true),
        Value::Int(left) if store.is_cluster => {
            let most_age = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
            Ok(was_stored_meanwhile(left, lifetime, most_age))
        }
        // Here, nobody repeats it.
        Value::Int(_) => Ok(false),
        other => Err(store.unexpected(&other)),
    }
}

/// Whether an entry that stays for `left` milliseconds was given `lifetime` at most `most_age` milliseconds ago.
fn was_stored_meanwhile(left: i64, lifetime: u64, most_age: u64) -> bool {
    let age = u64::try_from(left).ok().and_then(|left| lifetime.checked_sub(left));
    // The clocks on both sides count whole milliseconds.
    age.is_some_and(|age| age <= most_age.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_entry_with_our_lifetime_and_of_the_right_age_is_ours() {
        for (left, is_ours) in
            [(1000, true), (900, true), (899, true), (898, false), (1001, false), (0, false), (-1, false)]
        {
            assert_eq!(was_stored_meanwhile(left, 1000, 100), is_ours, "{left}");
        }
        assert!(!was_stored_meanwhile(0, TIME_TO_LIVE_MILLISECONDS, 10_000), "something else is stored");
    }
}
