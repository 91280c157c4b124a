//! What registries say about their limits: `Retry-After`, in the header or in words; that there are too many requests,
//! in whatever status; and the pull quota in `ratelimit-*` headers.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;
use jiff::Timestamp;
use serde::Deserialize;

use crate::json;

/// How long to leave a registry alone that says nothing about it; doubles with each further 429.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause that we choose ourselves.
const LONGEST_CHOSEN_PAUSE: Duration = Duration::from_hours(1);
/// The longest pause that a registry can impose: more is a mistake of theirs.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_hours(24);
/// The shortest pause: "retry after 0 seconds" still means that we were too fast.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// What says, as a code or at the beginning of a text, that there are too many requests.
const TOO_MANY_REQUESTS: &str = "toomanyrequests";
/// What Docker Hub says of a quota that is used up; it says `TOOMANYREQUESTS` of too many logins, too.
const PULL_LIMIT_WORDS: &str = "pull rate limit";
/// What stands before a pause in words, as GHCR writes it.
const RETRY_AFTER_WORDS: &str = "retry-after:";
/// Longer windows of a quota are a mistake of theirs.
pub(super) const LONGEST_WINDOW: Duration = Duration::from_hours(24 * 31);
/// Bytes of the name of whom a quota is counted by; longer ones are left out.
const MAX_SOURCE_BYTES: usize = 64;

/// A quota on requests as a registry announces it, such as Docker Hub's on pulls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// How many requests the window allows.
    pub limit: u64,
    /// How many of them are left.
    pub remaining: u64,
    /// The length of the window, where the registry says it; at most 31 days.
    pub window: Option<Duration>,
    /// By whom the registry counts, where it says it: an address or an account. At most 64 bytes, printable.
    pub source: Option<Arc<str>>,
}

/// The pause that a `Retry-After` header asks for (RFC 9110 section 10.2.3): seconds or a date.
/// `None` if it is absent or says nothing that can be understood.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit ask for more than the bound in any case.
        return Some(value.parse().map_or(LONGEST_PAUSE, Duration::from_secs));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// How long to pause after the `consecutive`th 429 in a row, given what the registry asked for.
pub(super) fn pause(asked: Option<Duration>, consecutive: u32) -> Duration {
    if let Some(asked) = asked {
        return asked.clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    }
    let doublings = consecutive.saturating_sub(1).min(16);
    FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_CHOSEN_PAUSE)
}

/// That there are too many requests, said in the body of an answer that is a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany {
    /// The pause that it asks for in words, such as `retry-after: 23.722µs, allowed: 44000/minute`.
    pub(super) retry_after: Option<Duration>,
    /// Whether it says that it is pulls that there are too many of.
    pub(super) is_of_pulls: bool,
}

impl TooMany {
    fn said(text: &str) -> Self {
        Self {
            retry_after: retry_after_in_words(text),
            is_of_pulls: text.to_ascii_lowercase().contains(PULL_LIMIT_WORDS),
        }
    }
}

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Whether the body of a failure says that there are too many requests: by the code of an error, or, where it is text, by
/// how it begins. What stands elsewhere may be anything, such as the name of a repository.
pub(super) fn too_many(body: &[u8]) -> Option<TooMany> {
    let begins = |text: &str| {
        let beginning = text.trim_start().get(..TOO_MANY_REQUESTS.len());
        beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(TOO_MANY_REQUESTS))
    };
    if let Ok(errors) = json::object::<Errors>(body) {
        let says_so =
            |error: &&OneError| error.code.eq_ignore_ascii_case(TOO_MANY_REQUESTS) || begins(&error.message);
        let error = errors.errors.iter().find(says_so)?;
        return Some(TooMany::said(&error.message));
    }
    let text = String::from_utf8_lossy(body);
    begins(&text).then(|| TooMany::said(&text))
}

fn retry_after_in_words(text: &str) -> Option<Duration> {
    let start = text.to_ascii_lowercase().find(RETRY_AFTER_WORDS)? + RETRY_AFTER_WORDS.len();
    let value = text[start..].trim_start();
    let end = value.find(|letter: char| letter == ',' || letter.is_whitespace()).unwrap_or(value.len());
    go_duration(&value[..end])
}

/// A duration as programs in Go write it: numbers with units, `23.722µs`, `1m30.5s`. `None` for anything else, and for
/// what is negative; what is longer than the longest pause is that.
fn go_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("\u{b5}s", 1e-6),
        ("\u{3bc}s", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let (unit, factor) = UNITS.iter().find(|(unit, _)| rest[end..].starts_with(unit))?;
        seconds += number * factor;
        rest = &rest[end + unit.len()..];
    }
    let is_there = !text.is_empty();
    is_there.then(|| Duration::from_secs_f64(seconds.min(LONGEST_PAUSE.as_secs_f64())))
}

/// The quota in the headers of an answer, `ratelimit-limit: 100;w=21600` and `ratelimit-remaining: 76;w=21600`,
/// and by whom it is counted, `docker-ratelimit-source: 192.0.2.7`.
pub(super) fn quota(headers: &HeaderMap) -> Option<Quota> {
    let (limit, limit_window) = count_and_window(headers, "ratelimit-limit")?;
    let (remaining, remaining_window) = count_and_window(headers, "ratelimit-remaining")?;
    let window = limit_window.or(remaining_window).filter(|window| !window.is_zero());
    Some(Quota {
        limit,
        remaining,
        window: window.map(|window| window.min(LONGEST_WINDOW)),
        source: source(headers),
    })
}

fn source(headers: &HeaderMap) -> Option<Arc<str>> {
    let source = headers.get("docker-ratelimit-source")?.to_str().ok()?.trim();
    let is_fit =
        (1..=MAX_SOURCE_BYTES).contains(&source.len()) && source.bytes().all(|byte| byte.is_ascii_graphic());
    is_fit.then(|| source.into())
}

fn count_and_window(headers: &HeaderMap, name: &str) -> Option<(u64, Option<Duration>)> {
    let mut parts = headers.get(name)?.to_str().ok()?.split(';').map(str::trim);
    let count = parts.next()?.parse().ok()?;
    let window = parts.find_map(|part| part.strip_prefix("w=")).and_then(|seconds| seconds.parse().ok());
    Some((count, window.map(Duration::from_secs)))
}

#[cfg(test)]
mod tests;
