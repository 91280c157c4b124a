//! What registries say about their limits: `Retry-After`, and the pull quota in `ratelimit-*` headers.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;
use jiff::Timestamp;

/// How long to leave a registry alone that says nothing about it; doubles with each further 429.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause that we choose ourselves.
const LONGEST_CHOSEN_PAUSE: Duration = Duration::from_hours(1);
/// The longest pause that a registry can impose: more is a mistake of theirs.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_hours(24);
/// The shortest pause: "retry after 0 seconds" still means that we were too fast.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// A quota on pulls as a registry announces it, such as Docker Hub's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How many requests the window allows.
    pub limit: u64,
    /// How many of them are left.
    pub remaining: u64,
    /// The length of the window, where the registry says it.
    pub window: Option<Duration>,
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

/// The quota in the headers of an answer, `ratelimit-limit: 100;w=21600` and `ratelimit-remaining: 76;w=21600`.
pub(super) fn quota(headers: &HeaderMap) -> Option<Quota> {
    let (limit, limit_window) = count_and_window(headers, "ratelimit-limit")?;
    let (remaining, remaining_window) = count_and_window(headers, "ratelimit-remaining")?;
    Some(Quota { limit, remaining, window: limit_window.or(remaining_window) })
}

fn count_and_window(headers: &HeaderMap, name: &str) -> Option<(u64, Option<Duration>)> {
    let mut parts = headers.get(name)?.to_str().ok()?.split(';').map(str::trim);
    let count = parts.next()?.parse().ok()?;
    let window = parts.find_map(|part| part.strip_prefix("w=")).and_then(|seconds| seconds.parse().ok());
    Some((count, window.map(Duration::from_secs)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn asked(value: &str) -> Option<Duration> {
        let now = "1994-11-06T08:49:00Z".parse().unwrap();
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]);
        retry_after(&headers, now)
    }

    #[test]
    fn retry_after_in_all_its_forms() {
        assert_eq!(asked("60"), Some(Duration::from_mins(1)));
        assert_eq!(asked(" 0 "), Some(Duration::ZERO));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(37)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:48:00 GMT"), Some(Duration::ZERO));
        assert_eq!(asked("99999999999999999999999"), Some(LONGEST_PAUSE));
        for nonsense in ["", "soon", "-5", "1.5", "23.722µs", "Sun, 45 Nov 1994 08:49:37 GMT"] {
            assert_eq!(asked(nonsense), None, "{nonsense}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), Timestamp::UNIX_EPOCH), None);
    }

    #[test]
    fn pauses_are_what_was_asked_for_within_reason() {
        let seconds = Duration::from_secs;
        assert_eq!(pause(Some(seconds(17)), 9), seconds(17));
        assert_eq!(pause(Some(seconds(0)), 1), seconds(1));
        assert_eq!(pause(Some(seconds(1_000_000)), 1), seconds(86_400));
        let unasked: Vec<u64> = (1..=9).map(|count| pause(None, count).as_secs()).collect();
        assert_eq!(unasked, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert_eq!(pause(None, u32::MAX), seconds(3600));
    }

    #[test]
    fn quotas_are_read_where_both_numbers_are_there() {
        let headers = |limit: &'static str, remaining: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("ratelimit-limit", HeaderValue::from_static(limit));
            headers.insert("ratelimit-remaining", HeaderValue::from_static(remaining));
            headers
        };
        let window = Some(Duration::from_hours(6));
        assert_eq!(
            quota(&headers("100;w=21600", "76;w=21600")),
            Some(Quota { limit: 100, remaining: 76, window })
        );
        assert_eq!(quota(&headers("100", "0; w=21600")), Some(Quota { limit: 100, remaining: 0, window }));
        assert_eq!(quota(&headers("many", "0")), None);
        assert_eq!(quota(&HeaderMap::new()), None);
    }
}
