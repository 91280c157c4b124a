//! How new a tag looks, by its name alone.
//!
//! Names are customs, not promises: this orders work, and decides what a user has asked to leave out by it. Newest-looking
//! first:
//!
//! 1. words for whatever is newest: `latest`, then `main` and its like, then `stable-alpine`;
//! 2. versions by their numbers: `v1.10.0` before `1.9.3`. What a version leaves open stands for the newest below it: `1.2`
//!    before `1.2.9`. A release comes before its variants (`1.2.3-alpine`), those before its pre-releases (`1.2.3-rc.1`,
//!    `1.2rc1`);
//! 3. names with a date or a Unix time in them, by day: `20240102`, `nightly-2024-01-02`, `main-1a2b3c4-1704164645`;
//! 4. other names with numbers, by these: `build-17` before `build-9`;
//! 5. other words;
//! 6. commits and digests, in which there is no order;
//! 7. what is kept beside images.
//!
//! Numbers are compared as numbers, however long, words without regard to case; what is left is settled by the name, so that
//! no two tags are equal.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::tag_class::{VERSION_PART_DIGITS, is_digest, numbers_of_version};
use crate::{Tag, TagClass};

/// Words that make a version one that comes before its release.
const BEFORE_RELEASE: [&str; 17] = [
    "alpha",
    "beta",
    "rc",
    "cr",
    "pre",
    "preview",
    "prerelease",
    "dev",
    "develop",
    "snapshot",
    "nightly",
    "canary",
    "milestone",
    "ea",
    "next",
    "test",
    "testing",
];
/// The same, where they follow the number at once and a number follows them: `1.2rc1`.
const GLUED_BEFORE_RELEASE: [&str; 8] = ["a", "b", "m", "rc", "alpha", "beta", "pre", "dev"];
/// Parts of a version: what lacks one of these leaves it open.
const VERSION_PARTS: usize = 3;
/// Years that a date may be of.
const YEARS: std::ops::RangeInclusive<i16> = 1990..=2099;
/// Digits of a time in seconds since 1970, from 2001 to 2286; three more are milliseconds.
const UNIX_TIME_DIGITS: usize = 10;

/// What comes before the rest of a key: greater is newer.
mod rank {
    pub(super) const COMPANION: u8 = 0;
    pub(super) const DIGEST: u8 = 1;
    pub(super) const WORD: u8 = 2;
    pub(super) const NUMBERED: u8 = 3;
    pub(super) const DATED: u8 = 4;
    pub(super) const VERSION: u8 = 5;
    pub(super) const FLOATING: u8 = 6;
}

/// Ends a run of numbers or words: what goes on is greater.
const END: u8 = 0;
/// In a version: what is left open. Greater than the length of any number.
const OPEN: u8 = u8::MAX;

/// How new a tag looks by its name: the greater of two looks newer. Made once for a tag that is compared often.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Newness {
    /// Compared byte by byte.
    key: Box<[u8]>,
    tag: Tag,
}

impl Tag {
    /// How new the tag looks by its name.
    pub fn newness(&self) -> Newness {
        Newness { key: key(self).into(), tag: self.clone() }
    }
}

/// Part of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run<'a> {
    /// Digits.
    Number(&'a str),
    /// Letters.
    Word(&'a str),
}

fn key(tag: &Tag) -> Vec<u8> {
    let text = tag.as_str();
    match tag.class() {
        TagClass::Companion(_) => vec![rank::COMPANION],
        TagClass::Digest => vec![rank::DIGEST],
        TagClass::Floating => {
            let is_one_word = text.bytes().all(|byte| byte.is_ascii_alphabetic());
            vec![rank::FLOATING, u8::from(is_one_word), u8::from(text.eq_ignore_ascii_case("latest"))]
        }
        TagClass::Version | TagClass::PartialVersion | TagClass::Other => match version_in(text) {
            Some((numbers, rest)) => version(numbers, rest),
            None => other(&runs(text)),
        },
    }
}

/// The numbers of a version and what follows them. Unlike for the class of a tag, they may be of any length, so that the
/// 100,000th build looks newer than the one before, as long as none reads as a time.
fn version_in(text: &str) -> Option<(&str, &str)> {
    let (numbers, rest) = numbers_of_version(text)?;
    let is_time = |part: &str| part.len() > VERSION_PART_DIGITS && date(&[Run::Number(part)]).is_some();
    // `2024-01-02` is a date.
    let goes_on = rest.get(1..).is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
    let is_followed =
        rest.starts_with(['-', '_']) && (numbers.split('.').count() >= VERSION_PARTS || !goes_on);
    let ends = rest.is_empty() || is_followed || is_glued(numbers, rest);
    (ends && !numbers.split('.').any(is_time)).then_some((numbers, rest))
}

/// Whether these numbers of a version are followed at once by what comes before a release: `1.2rc1`.
fn is_glued(numbers: &str, rest: &str) -> bool {
    let runs = runs(rest);
    let [Run::Word(word), Run::Number(_), ..] = runs[..] else { return false };
    numbers.contains('.')
        && rest.starts_with(word)
        && GLUED_BEFORE_RELEASE.iter().any(|before| word.eq_ignore_ascii_case(before))
}

fn version(numbers: &str, rest: &str) -> Vec<u8> {
    let mut key = vec![rank::VERSION];
    for part in numbers.split('.') {
        push_number(&mut key, part);
    }
    let rest_runs = runs(rest);
    let is_before_release = is_glued(numbers, rest)
        || rest_runs.iter().any(|run| match run {
            Run::Word(word) => BEFORE_RELEASE.iter().any(|before| word.eq_ignore_ascii_case(before)),
            Run::Number(_) => false,
        });
    let is_open = numbers.split('.').count() < VERSION_PARTS && !is_before_release;
    key.push(if is_open { OPEN } else { END });
    key.push(match () {
        () if rest.is_empty() => 2,
        () if is_before_release => 0,
        () => 1,
    });
    for run in rest_runs {
        match run {
            Run::Number(digits) => {
                key.push(1);
                push_number(&mut key, digits);
            }
            Run::Word(word) => {
                key.push(2);
                push_word(&mut key, word);
            }
        }
    }
    key
}

/// Neither a version nor a word for the newest.
fn other(runs: &[Run<'_>]) -> Vec<u8> {
    let date = (0..runs.len()).find_map(|position| Some((position, date(&runs[position..])?)));
    let (mut key, tail) = match date {
        Some((position, Dated { date, took, seconds })) => {
            let mut key = vec![rank::DATED];
            key.extend(date.year().to_be_bytes());
            // Both are positive.
            key.extend([date.month(), date.day()].map(i8::unsigned_abs));
            push_number(&mut key, seconds);
            (key, &runs[position + took..])
        }
        None if runs.iter().any(|run| matches!(run, Run::Number(_))) => (vec![rank::NUMBERED], runs),
        None => return vec![rank::WORD],
    };
    for run in tail {
        if let Run::Number(digits) = run {
            push_number(&mut key, digits);
        }
    }
    key.push(END);
    key
}

/// A date in a name.
struct Dated<'a> {
    date: Date,
    /// How many runs it is.
    took: usize,
    /// Digits of a time that are part of its last run.
    seconds: &'a str,
}

/// The date that these runs begin with.
fn date<'a>(runs: &[Run<'a>]) -> Option<Dated<'a>> {
    let digits = |position: usize| match runs.get(position) {
        Some(Run::Number(digits)) => Some(*digits),
        _ => None,
    };
    let civil = |year: &str, month: &str, day: &str| {
        let year = year.parse().ok().filter(|year| YEARS.contains(year))?;
        Date::new(year, month.parse().ok()?, day.parse().ok()?).ok()
    };
    let first = digits(0)?;
    if let (4, Some(month), Some(day)) = (first.len(), digits(1), digits(2))
        && (month.len(), day.len()) == (2, 2)
    {
        return Some(Dated { date: civil(first, month, day)?, took: 3, seconds: "" });
    }
    if matches!(first.len(), 8 | 12 | 14) {
        let date = civil(&first[..4], &first[4..6], &first[6..8])?;
        return Some(Dated { date, took: 1, seconds: &first[8..] });
    }
    if first.len() == UNIX_TIME_DIGITS || first.len() == UNIX_TIME_DIGITS + 3 {
        let time = Timestamp::from_second(first[..UNIX_TIME_DIGITS].parse().ok()?).ok()?;
        let date = time.to_zoned(TimeZone::UTC).date();
        return YEARS.contains(&date.year()).then_some(Dated { date, took: 1, seconds: first });
    }
    None
}

/// The runs of digits and of letters of a name; abbreviated commits are left out, for there is no order in them.
fn runs(text: &str) -> Vec<Run<'_>> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric());
    let is_commit = |word: &str| is_digest(word) || word.strip_prefix('g').is_some_and(is_digest);
    let mut runs = Vec::new();
    for word in words.filter(|word| !is_commit(word)) {
        for run in word.as_bytes().chunk_by(|one, next| one.is_ascii_digit() == next.is_ascii_digit()) {
            let Ok(run) = str::from_utf8(run) else { continue };
            let is_number = run.starts_with(|first: char| first.is_ascii_digit());
            runs.push(if is_number { Run::Number(run) } else { Run::Word(run) });
        }
    }
    runs
}

/// The longer of two numbers is the greater one, once zeros in front are gone. A tag has at most 128 characters.
fn push_number(key: &mut Vec<u8>, digits: &str) {
    let digits = digits.trim_start_matches('0');
    key.push(u8::try_from(digits.len() + 1).unwrap_or(OPEN - 1));
    key.extend_from_slice(digits.as_bytes());
}

fn push_word(key: &mut Vec<u8>, word: &str) {
    key.extend(word.bytes().map(|byte| byte.to_ascii_lowercase()));
    key.push(END);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn newness(text: &str) -> Newness {
        text.parse::<Tag>().unwrap().newness()
    }

    #[track_caller]
    fn assert_newest_first(tags: &[&str]) {
        for pair in tags.windows(2) {
            assert!(newness(pair[0]) > newness(pair[1]), "{} looks newer than {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn kinds_of_names_stand_in_a_fixed_order() {
        let digest = "1".repeat(63) + "a";
        assert_newest_first(&[
            "latest",
            "main",
            "stable-alpine",
            "2.0.0",
            "0.1.0-rc1",
            "nightly-20240102",
            "20231231",
            "build-17",
            "slim",
            "sha-1a2b3c4",
            &format!("sha256-{digest}.sig"),
        ]);
    }

    #[test]
    fn versions_go_by_their_numbers_and_releases_before_what_leads_up_to_them() {
        assert_newest_first(&[
            "2",
            "v1",
            "1.10",
            "1.10.0",
            "1.9",
            "1.9-alpine",
            "1.9.10",
            "1.9.9",
            "1.9.9-2",
            "1.9.9-1",
            "1.9.9-rc.10",
            "1.9.9-rc.9",
            "1.9.9-beta.11",
            "1.9.9-alpha",
            "1.9.8",
            "0.99999.0",
        ]);
        assert_newest_first(&["1.21.0", "1.21rc2-x", "1.20.9"]);
        assert_newest_first(&["1.21", "1.21rc2", "1.21rc1", "1.21beta1", "1.20"]);
        assert_newest_first(&["1.25.3", "1.25.3-alpine3.18", "1.25.3-alpine3.9", "1.25.3-rc1-alpine3.18"]);
        assert_newest_first(&["1.2.3.1", "1.2.3", "1.2.2.9"]);
        assert_newest_first(&["100001", "100000", "99999", "9"]);
        assert_newest_first(&["v1.0.100000-alpine", "v1.0.99999-alpine", "v1.0.99999-rc1", "1.0.9"]);
        assert_newest_first(&["20241340", "20241231"]);
        assert_newest_first(&["24.04", "22.10", "22.04"]);
    }

    #[test]
    fn dates_go_by_time_however_they_are_written() {
        assert_newest_first(&[
            "2024-02-01",
            "weekly-20240131-2",
            "jammy-20240131",
            "RELEASE.2024-01-30T12-00-00Z",
            "RELEASE.2024-01-30T03-04-05Z",
            "build_20240129",
            "20231231",
        ]);
        assert_newest_first(&["main-0a1b2c3-1704164646", "main-fffffff1-1704164645", "dev-1704164644"]);
        assert_newest_first(&["20240102235959", "20240102000000", "20240101235959"]);
        assert_newest_first(&["1704164645123", "1704164645122", "20240101"]);
    }

    #[test]
    fn other_numbers_are_compared_as_numbers() {
        assert_newest_first(&["build-100", "build-99", "pr-9", "build-9", "build-009-a"]);
        assert_newest_first(&["jdk-21.0.10", "jdk-21.0.9", "jdk-17.0.12"]);
        assert_newest_first(&["build-99999999999999999999999999", "build-9999999999999999999999999"]);
    }

    proptest! {
        #[test]
        fn versions_compare_as_their_numbers_do(
            one in proptest::array::uniform3(0_u32..9_999_999),
            other in proptest::array::uniform3(0_u32..9_999_999),
            prefix in "v?",
            suffix in "(-alpine|-rc\\.[0-9]|_build)?",
        ) {
            let version = |[major, minor, patch]: [u32; 3]| newness(&format!("{prefix}{major}.{minor}.{patch}{suffix}"));
            prop_assert_eq!(version(one).cmp(&version(other)), one.cmp(&other));
        }

        #[test]
        fn what_is_left_open_stands_for_the_newest_below_it(major in 0..9_000_000, minor in 0..9_000_000, patch in 0..9_000_000) {
            let (one, two) = (newness(&format!("{major}")), newness(&format!("{major}.{minor}")));
            let three = newness(&format!("{major}.{minor}.{patch}"));
            prop_assert!(one > two && two > three);
            let next = newness(&format!("{}.{minor}", major + 1));
            prop_assert!(next > one);
        }

        #[test]
        fn days_compare_as_days(one in 0_i64..20_000, other in 0_i64..20_000, word in "[a-z]{1,8}") {
            // `sha-20000102` is a digest.
            prop_assume!(format!("{word}-20000102").parse::<Tag>().unwrap().class() != TagClass::Digest);
            let written = |day: i64, format: &str| {
                let time = Timestamp::from_second((day + 8_000) * 86_400).unwrap().to_zoned(TimeZone::UTC);
                newness(&format!("{word}-{}", time.strftime(format)))
            };
            prop_assert_eq!(written(one, "%Y%m%d").cmp(&written(other, "%Y%m%d")), one.cmp(&other));
            if one != other {
                prop_assert_eq!(written(one, "%Y%m%d").cmp(&written(other, "%Y-%m-%d")), one.cmp(&other));
            }
        }

        #[test]
        fn any_two_tags_are_ordered_and_none_are_equal(one in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,40}", other in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,40}") {
            let order = newness(&one).cmp(&newness(&other));
            prop_assert_eq!(order, newness(&other).cmp(&newness(&one)).reverse());
            prop_assert_eq!(order.is_eq(), one == other);
        }
    }
}
