//! One range of bytes, by RFC 9110 section 14.1.2. Pure.

use std::ops;

/// What of something is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Range {
    /// All of it: no range is asked for, or more than one, or none that can be read.
    Whole,
    /// These bytes.
    Part(ops::Range<usize>),
    /// It has no such bytes.
    Outside,
}

/// What a `Range` header asks for of so many bytes.
pub(super) fn of(header: Option<&str>, length: usize) -> Range {
    let Some((first, last)) = header
        .and_then(|header| header.trim().strip_prefix("bytes="))
        .and_then(|range| range.split_once('-'))
    else {
        return Range::Whole;
    };
    let part = match (first.trim(), last.trim()) {
        ("", last) => number(last).map(|count| length.saturating_sub(count)..length),
        (first, "") => number(first).map(|first| first..length),
        (first, last) => number(first)
            .zip(number(last))
            .filter(|(first, last)| first <= last)
            .map(|(first, last)| first..last.saturating_add(1).min(length)),
    };
    match part {
        None => Range::Whole,
        Some(part) if part.start >= length || part.is_empty() => Range::Outside,
        Some(part) => Range::Part(part),
    }
}

/// More than fits is beyond any end.
fn number(text: &str) -> Option<usize> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read_as_clients_write_them() {
        for (header, expected) in [
            ("bytes=0-3", Range::Part(0..4)),
            ("bytes=2-", Range::Part(2..10)),
            ("bytes=-3", Range::Part(7..10)),
            ("bytes=-30", Range::Part(0..10)),
            ("bytes=0-99999999999999999999999", Range::Part(0..10)),
            ("bytes=9-9", Range::Part(9..10)),
            ("bytes=10-", Range::Outside),
            ("bytes=99999999999999999999999-", Range::Outside),
            ("bytes=-0", Range::Outside),
            ("bytes=3-2", Range::Whole),
            ("bytes=0-1,3-4", Range::Whole),
            ("bytes=-", Range::Whole),
            ("bytes=a-b", Range::Whole),
            ("items=0-1", Range::Whole),
            ("", Range::Whole),
        ] {
            assert_eq!(of(Some(header), 10), expected, "{header}");
        }
        assert_eq!(of(None, 10), Range::Whole);
        assert_eq!(of(Some("bytes=0-"), 0), Range::Outside);
    }

    proptest! {
        #[test]
        fn a_part_is_always_a_part(header in "bytes=[0-9]{0,22}-[0-9]{0,22}", length in 0_usize..100) {
            if let Range::Part(part) = of(Some(&header), length) {
                prop_assert!(part.start < part.end && part.end <= length);
            }
        }
    }
}
