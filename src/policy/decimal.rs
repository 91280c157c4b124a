//! Numbers as tags write them, of any length: build numbers and times do not fit a float exactly.

use std::cmp::Ordering;

/// A decimal number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decimal {
    is_negative: bool,
    /// Without leading zeros.
    whole: Box<str>,
    /// Without trailing zeros.
    fraction: Box<str>,
}

impl Decimal {
    /// Reads digits with at most one point among or around them and a sign before them. `None`: it is no number.
    pub(super) fn read(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let are_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !are_digits(whole) || !are_digits(fraction) || whole.len() + fraction.len() == 0 {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let is_zero = whole.is_empty() && fraction.is_empty();
        let is_negative = text.starts_with('-') && !is_zero;
        Some(Self { is_negative, whole: whole.into(), fraction: fraction.into() })
    }

    fn compare_sizes(&self, other: &Self) -> Ordering {
        let whole = self.whole.len().cmp(&other.whole.len()).then_with(|| self.whole.cmp(&other.whole));
        whole.then_with(|| self.fraction.cmp(&other.fraction))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.is_negative, other.is_negative) {
            (false, false) => self.compare_sizes(other),
            (true, true) => other.compare_sizes(self),
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(text: &str) -> Decimal {
        Decimal::read(text).unwrap_or_else(|| panic!("{text} is a number"))
    }

    #[test]
    fn numbers_of_any_length_stand_in_their_order() {
        let ascending = [
            "-99999999999999999999999999",
            "-2",
            "-1.5",
            "-1.25",
            "0",
            ".05",
            "0.5",
            "1",
            "1.000000000000000000000000001",
            "9",
            "10",
            "1704164645",
            "20240102030405",
            "99999999999999999999999998",
            "99999999999999999999999999",
        ];
        for pair in ascending.windows(2) {
            assert!(number(pair[0]) < number(pair[1]), "{pair:?}");
        }
        for (one, other) in [("1", "001"), ("1", "1.0"), ("+1", "1."), ("-0", "0"), (".5", "0.50")] {
            assert_eq!(number(one), number(other), "{one} {other}");
        }
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in [
            "", ".", "-", "+.", "1e5", "0x1", "1_000", "1,5", "--1", "1.2.3", "Inf", "NaN", " 1", "a",
            "\u{661}",
        ] {
            assert_eq!(Decimal::read(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn small_numbers_compare_as_their_values_do(one in -99_999_i64..99_999, other in -99_999_i64..99_999) {
            // Hundredths, written with a point.
            let written = |value: i64| {
                let sign = if value < 0 { "-" } else { "" };
                number(&format!("{sign}{}.{:02}", value.unsigned_abs() / 100, value.unsigned_abs() % 100))
            };
            prop_assert_eq!(written(one).cmp(&written(other)), one.cmp(&other));
        }
    }
}
