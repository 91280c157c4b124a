//! Reading ranges. What cannot be read is refused with its place; nothing is passed over.

use semver::{BuildMetadata, Prerelease, Version};

use super::{Alternative, Condition, Operator, Precision};
use crate::config::quoted;

/// The longest range, in bytes.
const MAX_RANGE_LENGTH: usize = 256;

/// Longer ones first, so that none is taken for another that it begins with.
const OPERATORS: [(&str, Operator); 11] = [
    ("!=", Operator::NotEqual),
    (">=", Operator::GreaterOrEqual),
    ("=>", Operator::GreaterOrEqual),
    ("<=", Operator::LessOrEqual),
    ("=<", Operator::LessOrEqual),
    ("~>", Operator::Tilde),
    ("=", Operator::Equal),
    (">", Operator::Greater),
    ("<", Operator::Less),
    ("~", Operator::Tilde),
    ("^", Operator::Caret),
];

pub(super) fn parse(text: &str) -> Result<Vec<Alternative>, String> {
    if text.len() > MAX_RANGE_LENGTH {
        return Err(format!("a range of versions must not be longer than {MAX_RANGE_LENGTH} bytes"));
    }
    let refused = |reason: String| format!("{} is no range of versions: {reason}", quoted(text));
    text.split("||").map(|part| alternative(part).map_err(refused)).collect()
}

fn alternative(text: &str) -> Result<Alternative, String> {
    let mut rest = text.trim_start();
    if rest.is_empty() {
        return Err("nothing stands where a version should; * is any".to_owned());
    }
    let mut conditions = Vec::new();
    while !rest.is_empty() {
        let (condition, after) = condition(rest)?;
        rest = match hyphenated(after) {
            Some(last) if condition.operator == Operator::Equal && !starts_with_operator(rest) => {
                let (to, after) = partial(last)?;
                conditions.push(Condition { operator: Operator::GreaterOrEqual, ..condition });
                conditions.push(Condition { operator: Operator::LessOrEqual, ..to });
                after
            }
            _ => {
                conditions.push(condition);
                after
            }
        };
        rest = separated(rest)?;
    }
    Ok(Alternative::new(conditions))
}

/// What follows ` - `, which makes a range of two versions.
fn hyphenated(after: &str) -> Option<&str> {
    let trimmed = after.trim_start();
    let rest = trimmed.strip_prefix('-')?;
    (trimmed.len() < after.len() && rest.starts_with(char::is_whitespace)).then(|| rest.trim_start())
}

/// The next condition: there are spaces or a comma before it.
fn separated(after: &str) -> Result<&str, String> {
    let trimmed = after.trim_start();
    if trimmed.is_empty() {
        return Ok(trimmed);
    }
    if let Some(next) = trimmed.strip_prefix(',') {
        let next = next.trim_start();
        return if next.is_empty() { Err("nothing follows the last comma".to_owned()) } else { Ok(next) };
    }
    if trimmed.len() == after.len() {
        return Err(format!("{} follows a version without a space or a comma", quoted(trimmed)));
    }
    Ok(trimmed)
}

fn operator(text: &str) -> Option<(Operator, &str)> {
    OPERATORS.iter().find_map(|(sign, operator)| Some((*operator, text.strip_prefix(sign)?)))
}

fn starts_with_operator(text: &str) -> bool {
    operator(text).is_some()
}

fn condition(text: &str) -> Result<(Condition, &str), String> {
    let (operator, rest) = operator(text).unwrap_or((Operator::Equal, text));
    let (condition, after) = partial(rest.trim_start())?;
    let matches_nothing = matches!(operator, Operator::NotEqual | Operator::Greater | Operator::Less);
    if condition.precision == Precision::Any && matches_nothing {
        let written = &text[..text.len() - after.len()];
        return Err(format!("no version fits {}", quoted(written)));
    }
    Ok((Condition { operator, ..condition }, after))
}

/// A version with wildcards, as a condition without an operator, and what follows it.
fn partial(text: &str) -> Result<(Condition, &str), String> {
    let end = text.find(|character: char| !is_of_version(character)).unwrap_or(text.len());
    let (written, after) = text.split_at(end);
    let refused = |reason: &str| match written {
        "" if after.is_empty() => "a version is missing at the end".to_owned(),
        "" => format!("{} stands where a version should", quoted(after)),
        _ => format!("{}: {reason}", quoted(written)),
    };
    let unprefixed = written.strip_prefix('v').unwrap_or(written);
    let (unbuilt, build) = split_suffix(unprefixed, '+');
    let (numbers, pre) = split_suffix(unbuilt, '-');
    if let Some(build) = build
        && (build.is_empty() || BuildMetadata::new(build).is_err())
    {
        return Err(refused("what follows + is no build metadata"));
    }
    let pre = match pre {
        None => Prerelease::EMPTY,
        Some("") => return Err(refused("nothing follows the hyphen; ranges have spaces around it")),
        Some(pre) => {
            Prerelease::new(pre).map_err(|_| refused("what follows the hyphen is no pre-release"))?
        }
    };
    let (base, precision) = numbers_of(numbers).map_err(refused)?;
    let [major, minor, patch] = base;
    let base = Version { major, minor, patch, pre, build: BuildMetadata::EMPTY };
    Ok((Condition { operator: Operator::Equal, base, precision }, after))
}

fn is_of_version(character: char) -> bool {
    character.is_ascii_alphanumeric() || ".*+-".contains(character)
}

fn split_suffix(text: &str, sign: char) -> (&str, Option<&str>) {
    text.split_once(sign).map_or((text, None), |(before, suffix)| (before, Some(suffix)))
}

/// Up to three numbers, with zeros for wildcards and for what is left out, and down to which they are given.
fn numbers_of(text: &str) -> Result<([u64; 3], Precision), &'static str> {
    const PRECISIONS: [Precision; 4] = [Precision::Any, Precision::Major, Precision::Minor, Precision::Patch];
    let mut numbers = [0; 3];
    let mut given = 0;
    for (position, part) in text.split('.').enumerate() {
        if position == numbers.len() {
            return Err("a version has no more than three numbers");
        }
        if matches!(part, "x" | "X" | "*") {
            continue;
        }
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("a version has numbers or wildcards (x, *), with points between them");
        }
        if given < position {
            return Err("a number follows a wildcard");
        }
        numbers[position] = part.parse().map_err(|_| "a number is too large")?;
        given += 1;
    }
    Ok((numbers, PRECISIONS[given]))
}
