//! Which primary of a cluster has which slots, as one of its nodes sees it.

use std::collections::BTreeSet;

use redis::Value;

use super::connector::Address;

/// Slots that a cluster spreads its keys over.
const SLOTS: u16 = 16_384;
/// What a node calls another that it has not heard from yet.
const UNKNOWN: &str = "?";

/// What `CLUSTER SLOTS` answers, without the replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SlotMap {
    /// In the order of their first slots.
    ranges: Vec<SlotRange>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct SlotRange {
    first: u16,
    last: u16,
    primary: Address,
}

impl SlotMap {
    /// Reads the answer of a node whose host is `host`: other nodes may have no name but its own. `None` where it is
    /// no such answer.
    pub(super) fn parse(answer: &Value, host: &str) -> Option<Self> {
        let Value::Array(ranges) = answer else { return None };
        let mut ranges = ranges.iter().map(|range| slot_range(range, host)).collect::<Option<Vec<_>>>()?;
        ranges.sort_unstable();
        Some(Self { ranges })
    }

    /// Whether every slot has a primary that is known: where one has none, keys are missing.
    pub(super) fn is_whole(&self) -> bool {
        let covered = self.ranges.iter().try_fold(0, |next, range| {
            let follows = range.first == next && range.last >= range.first && range.primary.0 != UNKNOWN;
            follows.then(|| range.last.saturating_add(1))
        });
        covered == Some(SLOTS)
    }

    /// Every primary that has slots, once.
    pub(super) fn primaries(&self) -> BTreeSet<&Address> {
        self.ranges.iter().map(|range| &range.primary).collect()
    }
}

fn slot_range(range: &Value, own_host: &str) -> Option<SlotRange> {
    let Value::Array(parts) = range else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = parts.as_slice() else {
        return None;
    };
    let [host, Value::Int(port), ..] = primary.as_slice() else { return None };
    let host = match host {
        Value::Nil => own_host,
        Value::BulkString(host) => match std::str::from_utf8(host).ok()? {
            "" => own_host,
            host => host,
        },
        _ => return None,
    };
    Some(SlotRange {
        first: u16::try_from(*first).ok()?,
        last: u16::try_from(*last).ok()?,
        primary: (host.to_owned(), u16::try_from(*port).ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let node = |host, port| Value::Array(vec![host, Value::Int(port), text("its id")]);
        let replica = node(text("replica.example"), 1);
        Value::Array(vec![Value::Int(first), Value::Int(last), node(host, port), replica])
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn map(ranges: Vec<Value>) -> Option<SlotMap> {
        SlotMap::parse(&Value::Array(ranges), "asked.example")
    }

    #[test]
    fn primaries_are_read_once_each_and_in_any_order() {
        let map = map(vec![
            range(10_001, 16_383, Value::Nil, 7001),
            range(0, 5000, text(""), 7001),
            range(5001, 10_000, text("fd00::1"), 7002),
        ])
        .unwrap();
        assert!(map.is_whole());
        let (asked, other) = (("asked.example".to_owned(), 7001), ("fd00::1".to_owned(), 7002));
        assert_eq!(map.primaries(), BTreeSet::from([&asked, &other]));
    }

    #[test]
    fn a_slot_without_a_primary_is_noticed() {
        let is_whole = |ranges: &[(i64, i64)]| {
            let ranges = ranges.iter().map(|(first, last)| range(*first, *last, text("a.example"), 1));
            map(ranges.collect()).unwrap().is_whole()
        };
        assert!(is_whole(&[(0, 16_383)]));
        for ranges in [
            &[][..],
            &[(0, 16_382)],
            &[(1, 16_383)],
            &[(0, 99), (101, 16_383)],
            &[(0, 99), (99, 16_383)],
            &[(0, 65_535)],
        ] {
            assert!(!is_whole(ranges), "{ranges:?}");
        }
        let unknown = map(vec![range(0, 5000, text("a.example"), 1), range(5001, 16_383, text("?"), 1)]);
        assert!(!unknown.unwrap().is_whole());
    }

    #[test]
    fn what_is_no_map_is_refused() {
        for ranges in [
            vec![range(0, 70_000, text("a.example"), 7001)],
            vec![range(0, 16_383, text("a.example"), -1)],
            vec![range(0, 16_383, Value::Int(1), 7001)],
            vec![Value::Array(vec![Value::Int(0), Value::Int(16_383)])],
            vec![Value::Okay],
        ] {
            assert_eq!(map(ranges.clone()), None, "{ranges:?}");
        }
        assert_eq!(SlotMap::parse(&Value::Nil, "asked.example"), None);
    }
}
