//! Ranges against a plain definition of each operator, and against what their writers are used to.

use proptest::prelude::*;

use super::*;

fn range(text: &str) -> VersionRange {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn version(text: &str) -> Version {
    let parts = text.split('.').count();
    // As partial tags are read.
    let completed = if parts < 3 { format!("{text}{}", ".0".repeat(3 - parts)) } else { text.to_owned() };
    completed.parse().unwrap()
}

#[track_caller]
fn check(text: &str, admitted: &[&str], not: &[&str]) {
    let range = range(text);
    for version_text in admitted {
        assert!(range.admits(&version(version_text), false), "{text} does not admit {version_text}");
    }
    for version_text in not {
        assert!(!range.admits(&version(version_text), false), "{text} admits {version_text}");
    }
}

/// What the documentation of Masterminds/semver says of each operator, and its tests of the corners, which is what Flux's
/// users and those of Argo CD write.
#[test]
fn operators_mean_what_controllers_users_are_used_to() {
    check("=2.0.0", &["2.0.0"], &["1.2.3", "2.0.1", "2.0.0-rc.1"]);
    check("2.0.0", &["2.0.0"], &["2.0.1"]);
    check("=2.0", &["2.0.0", "2.0.1"], &["1.2.3", "2.1.0"]);
    check("v1.2", &["1.2.0", "1.2.9"], &["1.3.0"]);
    check("2", &["2.1.1"], &["1", "3.4.5"]);
    check("!=4.1.0", &["4.1.1"], &["4.1.0"]);
    check("!=4.1", &["5.1.0", "4.2.0"], &["4.1.0", "4.1.1", "5.1.0-alpha.1"]);
    check("!=4.x", &["5.1.0"], &["4.1.0"]);
    check("!=4.1-alpha", &["4.1.0"], &["4.1.0-alpha", "4.1.1-alpha"]);
    check("<11", &["0.1.0", "10.9.9"], &["11.0.0", "11.1.0"]);
    check("<1.1", &["0.1.0"], &["1.1.0", "1.1.1"]);
    check("<1.x", &["0.1.1"], &["1.0.0", "1.1.1", "2.0.0"]);
    check("<=11", &["1.2.3", "11.2.3"], &["12.2.3"]);
    check("<=1.1", &["0.1.0", "1.1.0", "1.1.1"], &["1.2.3", "0.1.0-alpha"]);
    check("<=2.x", &["2.9.9"], &["3.0.0"]);
    check("=<1.2", &["1.2.7"], &["1.3.0"]);
    check(">1.1", &["4.1.0", "1.2.0"], &["1.1.0", "1.1.1"]);
    check(">0", &["1"], &["0", "0.9.9", "0.0.1-alpha"]);
    check(">11", &["12.0.0"], &["11.1.0"]);
    check(">=11", &["11.1.2"], &["10.9.9"]);
    check(">=1.1", &["1.1.0", "4.1.0"], &["0.0.9", "4.1.0-beta"]);
    check("=>1.2", &["1.2.0"], &["1.1.9"]);
    check(">= 1.2.x", &["1.2.0", "3.0.0"], &["1.1.9"]);
    check("*", &["0", "1", "4.5.6"], &["1.2.3-alpha.1"]);
    for any in ["x", "X", "*.*", "x.x.x", "=*", ">=*", "<=*", "~*", "^*", ">=0"] {
        check(any, &["0.0.0", "4.5.6"], &["1.2.3-alpha.1"]);
    }
    check("2.*", &["2.1.1"], &["1", "3.4.5"]);
    check("2.1.*", &["2.1.1"], &["2.2.1"]);
    check("0.x.x", &["0.9.0"], &["1.2.3"]);
    check("0.0.x", &["0.0.9"], &["0.1.0"]);
    check("~1.2.3", &["1.2.3", "1.2.5"], &["1.2.2", "1.3.2"]);
    check("~>1.2.3", &["1.2.4"], &["1.3.4"]);
    check("~1.2", &["1.2.4"], &["1.3.4"]);
    check("~1", &["1.2.4"], &["2.3.4", "1.3.5-beta"]);
    check("~1.x", &["1.3.5", "1.4"], &["2.1.1"]);
    check("~0.2.3", &["0.2.5"], &["0.3.5"]);
    check("^1.2.3", &["1.2.3", "1.8.9"], &["1.2.1", "2.8.9", "2.0.0-rc.1"]);
    check("^1.2.x", &["1.2.0", "1.9.0"], &["1.1.9", "2.0.0"]);
    check("^2.x", &["2.0.0"], &["1.1.1", "3.0.0"]);
    check("^1", &["1.8.9"], &["2.8.9"]);
    check("^0.2.3", &["0.2.5"], &["0.2.2", "0.3.0", "0.5.6"]);
    check("^0.2", &["0.2.5"], &["0.5.6"]);
    check("^0.0.3", &["0.0.3"], &["0.0.4"]);
    check("^0.0", &["0.0.3"], &["0.1.4", "1.0.4"]);
    check("^0", &["0.2.3"], &["1.1.4"]);
    check("1.2 - 1.4.5", &["1.2.0", "1.4.5"], &["1.1.9", "1.4.6"]);
    check("2.3.4 - 4.5", &["2.3.4", "4.5.9"], &["2.3.3", "4.6.0"]);
    check("1.1-3", &["1.1.0"], &["1.1.0-2", "1.2.0", "4.3.2"]);
}

#[test]
fn conditions_and_alternatives_are_joined() {
    for text in [">=1.1 <2 !=1.2.3 || >3", ">= 1.1, < 2, != 1.2.3 || > 3", ">=1.1,<2,!=1.2.3||>3"] {
        check(text, &["1.1.0", "1.9.9", "4.1.2"], &["1.0.9", "1.2.3", "2.0.0", "3.0.0", "3.1.2"]);
    }
    check(
        "1.0 - 1.2, !=1.1.x || 3 - 4 <4.5",
        &["1.0.0", "1.2.9", "3.0.0", "4.4.0"],
        &["1.1.0", "2.0.0", "4.5.0"],
    );
    check("~1.2.3 12.3.34", &[], &["1.2.3", "12.3.34"]);
    check("   ^1.2   ", &["1.2.0"], &["1.1.0"]);
    // Ubuntu's versions are no SemVer, but tags with leading zeros are read in the same way.
    check(">=24.04", &["24.4.0", "24.10.0"], &["23.10.0"]);
}

/// D21 of the ancestor's ledger: its documented example of a range with pre-releases never matched any.
#[test]
fn prereleases_are_in_a_range_only_where_one_is_named() {
    check("^1.2.0", &[], &["1.2.1-alpha.1"]);
    check("^1.2.0-alpha.0", &["1.2.1-alpha.1", "1.2.0-alpha.0", "1.2.0"], &["2.0.0-alpha.1"]);
    check("^1.2.0-alpha.2", &["1.2.0-beta"], &["1.2.0-alpha.1"]);
    check("~1.2.3-beta.2", &["1.2.3-beta.4", "1.2.4-beta.2", "1.2.3"], &["1.3.4-beta.2", "1.2.3-beta.1"]);
    check("~1.1-alpha", &["1.1.1-beta"], &["1.0.0"]);
    check("^0.2.3-beta.2", &["0.2.3-beta.4", "0.2.4-beta.2"], &["0.3.4-beta.2"]);
    check("*-0", &["1.2.3-alpha.1", "0.0.0-a"], &[]);
    check("^1.x-0", &["1.0.0-rc.1", "1.9.0-rc.1"], &["2.0.0-rc.1"]);
    check(">=0-0", &["0.0.1-alpha"], &[]);
    check(">0.0.0-0", &["0.0.0-alpha"], &["0.0.0-0"]);
    check("<0-z", &["0.0.0-alpha"], &["0.0.0"]);
    check("<=1.1-a", &["0.1.0-alpha"], &["1.2.0"]);
    check(">1.2.3-alpha.1", &["1.2.3-alpha.2", "1.3.3-alpha.2"], &["1.2.3-alpha.1"]);
    // One condition speaks for those that stand with it, not for other alternatives.
    check(">=1.0.0-0 <2.0.0", &["1.5.0-rc.1", "2.0.0-rc.1"], &["2.0.0"]);
    check("<2, >=1.0.0-0", &["1.5.0-rc.1"], &[]);
    check("^1.0.0-0 || ^2", &["1.5.0-rc.1", "2.5.0"], &["2.5.0-rc.1"]);

    let all = range("^1.2");
    for (text, expected) in [("1.3.0-rc.1", true), ("1.2.0-rc.1", false), ("2.0.0-rc.1", false)] {
        assert_eq!(all.admits(&version(text), true), expected, "{text}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_with_what_is_wrong() {
    let long = format!(">={}", "1".repeat(300));
    for (text, reason) in [
        ("", "\"\" is no range of versions: nothing stands where a version should; * is any"),
        ("   ", "nothing stands where a version should"),
        ("1 ||", "nothing stands where"),
        ("|| 1", "nothing stands where"),
        ("foo", "\"foo\": a version has numbers or wildcards"),
        (">= bar", "\"bar\": a version has numbers"),
        ("BAR >= 1.2.3", "\"BAR\": a version has numbers"),
        (">=", "a version is missing at the end"),
        ("^ ^1", "\"^1\" stands where a version should"),
        ("1 | 2", "\"| 2\" stands where a version should"),
        ("12.3.4.1234", "no more than three numbers"),
        ("12.3.34~ 1.2.3", "\"~ 1.2.3\" follows a version without a space or a comma"),
        (">=1.0<2.0", "follows a version without"),
        ("1.2,", "nothing follows the last comma"),
        (",1.2", "\",1.2\" stands where"),
        ("1.2,,1.3", "\",1.3\" stands where"),
        ("1.x.3", "\"1.x.3\": a number follows a wildcard"),
        ("1..3", "a version has numbers"),
        ("1.2.3-", "nothing follows the hyphen"),
        ("1.2.3-01", "what follows the hyphen is no pre-release"),
        ("1.2.3+", "what follows + is no build metadata"),
        ("1.99999999999999999999", "a number is too large"),
        ("=1 - 2", "nothing follows the hyphen; ranges have spaces around it"),
        ("1 - ", "a version is missing"),
        (">*", "no version fits \">*\""),
        ("!= x", "no version fits"),
        ("<*-0", "no version fits"),
        ("\u{661}", "stands where a version should"),
        (&long, "must not be longer than 256 bytes"),
    ] {
        let refused = text.parse::<VersionRange>().unwrap_err();
        assert!(refused.contains(reason), "{text}: {refused}");
    }
}

/// The numbers of a version, without a pre-release.
type Numbers = [u64; 3];

/// From the first one, up to but without the second; `None`: all above.
type Interval = (Numbers, Option<Numbers>);

/// What an operator with a partial version stands for, by the table in the documentation.
fn interval(operator: &str, numbers: &[u64]) -> Interval {
    let at = |position: usize| numbers.get(position).copied().unwrap_or_default();
    let base = [at(0), at(1), at(2)];
    let next = |position: usize| match position {
        0 => [at(0) + 1, 0, 0],
        1 => [at(0), at(1) + 1, 0],
        _ => [at(0), at(1), at(2) + 1],
    };
    let after_wildcards = || next(numbers.len() - 1);
    match operator {
        "" | "=" | "!=" => (base, Some(after_wildcards())),
        ">" => (after_wildcards(), None),
        ">=" => (base, None),
        "<" => ([0; 3], Some(base)),
        "<=" => ([0; 3], Some(after_wildcards())),
        "~" => (base, Some(next(1.min(numbers.len() - 1)))),
        _ => {
            let first_number = numbers.iter().position(|number| *number > 0);
            (base, Some(next(first_number.unwrap_or(numbers.len() - 1))))
        }
    }
}

fn is_in((from, to): Interval, numbers: Numbers) -> bool {
    from <= numbers && to.is_none_or(|to| numbers < to)
}

proptest! {
    #[test]
    fn each_operator_is_the_interval_that_it_stands_for(
        operator in prop::sample::select(&["", "=", "!=", ">", ">=", "<", "<=", "~", "^"]),
        numbers in prop::collection::vec(0_u64..4, 1..=3),
        wildcards in prop::sample::select(&["", ".x", ".*"]),
        [major, minor, patch] in prop::array::uniform3(0_u64..5),
    ) {
        let written: Vec<String> = numbers.iter().map(u64::to_string).collect();
        let wildcards = wildcards.repeat(3 - numbers.len());
        let text = format!("{operator}{}{wildcards}", written.join("."));
        let expected = is_in(interval(operator, &numbers), [major, minor, patch]) != (operator == "!=");
        let admits = range(&text).admits(&Version::new(major, minor, patch), false);
        prop_assert_eq!(admits, expected, "{} and {}.{}.{}", text, major, minor, patch);
    }

    #[test]
    fn alternatives_are_a_union_and_conditions_an_intersection(
        parts in prop::collection::vec("(>=|<=|!=|~|\\^)[0-3](\\.[0-3]){0,2}(-[0-9a-c])?", 1..5),
        version in "[0-3]\\.[0-3]\\.[0-3](-[0-9a-c])?",
        with_prereleases: bool,
    ) {
        let version: Version = version.parse().unwrap();
        let each: Vec<bool> =
            parts.iter().map(|part| range(part).admits(&version, with_prereleases)).collect();
        let any = range(&parts.join(" || ")).admits(&version, with_prereleases);
        prop_assert_eq!(any, each.contains(&true));
        let names_prerelease = parts.iter().any(|part| part.contains('-'));
        let all = range(&parts.join(", ")).admits(&version, with_prereleases);
        let each_with = parts.iter().all(|part| range(part).admits(&version, true));
        let wanted = version.pre.is_empty() || with_prereleases || names_prerelease;
        prop_assert_eq!(all, wanted && each_with);
    }

    #[test]
    fn anything_is_read_or_refused(text in "\\PC{0,40}|[0-9xv*.,|<>=~^! +-]{0,20}") {
        if let Ok(range) = text.parse::<VersionRange>() {
            prop_assert_eq!(range.to_string(), text);
            range.admits(&Version::new(1, 2, 3), true);
        }
    }
}
