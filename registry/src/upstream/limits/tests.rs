use http::HeaderValue;
use proptest::prelude::*;

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
        Some(Quota { limit: 100, remaining: 76, window, source: None })
    );
    let none_left = Quota { limit: 100, remaining: 0, window, source: None };
    assert_eq!(quota(&headers("100", "0; w=21600")), Some(none_left));
    assert_eq!(quota(&headers("100;w=0", "7")).unwrap().window, None);
    assert_eq!(quota(&headers("100;w=99999999999", "7")).unwrap().window, Some(LONGEST_WINDOW));
    assert_eq!(quota(&headers("many", "0")), None);
    assert_eq!(quota(&HeaderMap::new()), None);
}

#[test]
fn by_whom_a_quota_is_counted_is_kept_where_it_is_short_and_printable() {
    let source = |value: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("ratelimit-limit", HeaderValue::from_static("100"));
        headers.insert("ratelimit-remaining", HeaderValue::from_static("7"));
        headers.insert("docker-ratelimit-source", HeaderValue::from_static(value));
        quota(&headers).unwrap().source
    };
    assert_eq!(source(" 2001:db8::7 ").as_deref(), Some("2001:db8::7"));
    for nonsense in
        ["", "two words", "0123456789012345678901234567890123456789012345678901234567890123456789"]
    {
        assert_eq!(source(nonsense), None, "{nonsense}");
    }
}

#[test]
fn too_many_requests_in_words() {
    let asked = |retry_after| Some(TooMany { retry_after, is_of_pulls: false });
    let micros = Some(Duration::from_nanos(23_722));
    for (body, expected) in [
        ("toomanyrequests: retry-after: 23.722µs, allowed: 44000/minute", asked(micros)),
        (
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your Pull Rate Limit."}]}"#,
            Some(TooMany { retry_after: None, is_of_pulls: true }),
        ),
        (" TOOMANYREQUESTS: Retry-After: 1m30.5s", asked(Some(Duration::from_millis(90_500)))),
        ("toomanyrequests: you have reached your limit", asked(None)),
        (
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"retry-after: 23.722\u00b5s, allowed"}]}"#,
            asked(micros),
        ),
        (r#"{"errors":[{"code":"DENIED"},{"code":"toomanyrequests"}]}"#, asked(None)),
        (
            r#"{"errors":[{"code":"","message":"toomanyrequests: retry-after: 2h"}]}"#,
            asked(Some(Duration::from_hours(2))),
        ),
        (r#"{"errors":[{"code":"NAME_UNKNOWN","message":"x","detail":{"name":"toomanyrequests"}}]}"#, None),
        ("no repository toomanyrequests", None),
        ("", None),
        ("toomany", None),
        ("{", None),
    ] {
        assert_eq!(too_many(body.as_bytes()), expected, "{body}");
    }
}

#[test]
fn durations_as_go_writes_them() {
    for (text, expected) in [
        ("1ns", Some(Duration::from_nanos(1))),
        ("23.722µs", Some(Duration::from_nanos(23_722))),
        ("23.722μs", Some(Duration::from_nanos(23_722))),
        ("7us", Some(Duration::from_micros(7))),
        ("1.5ms", Some(Duration::from_micros(1_500))),
        ("2s", Some(Duration::from_secs(2))),
        ("1h2m3s", Some(Duration::from_secs(3_723))),
        ("99999999999999h", Some(LONGEST_PAUSE)),
        ("", None),
        ("5", None),
        ("-5s", None),
        ("5 s", None),
        ("1.2.3s", None),
        ("s", None),
        ("5d", None),
    ] {
        assert_eq!(go_duration(text), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn nothing_that_is_said_panics(body in proptest::collection::vec(any::<u8>(), 0..200), text in any::<String>()) {
        too_many(&body);
        too_many(text.as_bytes());
        too_many(format!("toomanyrequests: retry-after: {text}").as_bytes());
        go_duration(&text);
    }
}
