//! Validators and age of answers: RFC 9110 section 8.8 and 13, RFC 9111 section 5.1.

use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;

/// The entity tag of a repository at a generation. Weak: what changes without meaning does not change it.
pub(super) fn entity_tag(generation: u64) -> HeaderValue {
    HeaderValue::try_from(format!("W/\"{generation}\"")).expect("digits and quotes")
}

/// Whether the client has this generation already, by the weak comparison of `If-None-Match`.
pub(super) fn client_has(headers: &HeaderMap, generation: u64) -> bool {
    let generation = generation.to_string();
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.trim_start_matches("W/").trim_matches('"') == generation)
}

/// Seconds since the registry last confirmed the answer.
pub(super) fn age(last_update: Option<Timestamp>, now: Timestamp) -> Option<HeaderValue> {
    let seconds = last_update?.duration_until(now).as_secs().max(0);
    Some(HeaderValue::from(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(values: &[&'static str]) -> HeaderMap {
        let values = values.iter().map(|value| (header::IF_NONE_MATCH, HeaderValue::from_static(value)));
        values.collect()
    }

    #[test]
    fn the_clients_generation_is_recognised_however_it_is_sent() {
        for sent in ["W/\"7\"", "\"7\"", "\"1\", W/\"7\"", "*"] {
            assert!(client_has(&asked(&[sent]), 7), "{sent}");
        }
        assert!(client_has(&asked(&["\"1\"", "\"7\""]), 7));
        for sent in ["W/\"70\"", "\"\"", "7x", ""] {
            assert!(!client_has(&asked(&[sent]), 7), "{sent}");
        }
        assert!(!client_has(&HeaderMap::new(), 7));
    }

    #[test]
    fn age_is_never_negative() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(age(Some(at(10)), at(15)), Some(HeaderValue::from(5)));
        assert_eq!(age(Some(at(10)), at(5)), Some(HeaderValue::from(0)));
        assert_eq!(age(None, at(5)), None);
    }
}
