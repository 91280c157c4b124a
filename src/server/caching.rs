//! Validators and age of answers: RFC 9110 section 8.8 and 13, RFC 9111 section 5.1.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;

use super::coding::Coding;

/// To be asked about each time it is used.
pub(super) const ASK_EACH_TIME: HeaderValue = HeaderValue::from_static("no-cache");

/// Room for an entity tag: twenty digits, and what stands around them.
const ENTITY_TAG_BYTES: usize = 32;

/// The entity tag of a repository at a generation, in a coding. Weak: what changes without meaning does not change it.
pub(super) fn entity_tag(generation: u64, coding: Coding) -> HeaderValue {
    let mut text = String::with_capacity(ENTITY_TAG_BYTES);
    write!(text, "W/\"{generation}{}\"", coding.suffix()).expect("written to memory");
    HeaderValue::try_from(text).expect("digits, letters and quotes")
}

/// The entity tag of the same answer in a coding.
pub(super) fn in_coding(entity_tag: &HeaderValue, coding: Coding) -> HeaderValue {
    let tag = entity_tag.as_bytes();
    let tag = tag.strip_suffix(b"\"").unwrap_or(tag);
    HeaderValue::from_bytes(&[tag, coding.suffix().as_bytes(), b"\""].concat()).expect("an entity tag")
}

/// The entity tag by which the client has this generation already, in whichever coding: to be answered with a 304. By the
/// weak comparison of `If-None-Match`.
pub(super) fn client_has(headers: &HeaderMap, generation: u64) -> Option<HeaderValue> {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    let coding = tags.find_map(|tag| {
        if tag == "*" {
            return Some(Coding::Identity);
        }
        let tag = tag.trim_start_matches("W/").trim_matches('"');
        let (digits, suffix) = tag.split_at(tag.find('-').unwrap_or(tag.len()));
        let is_it = !digits.starts_with(['+', '0']) && digits.parse() == Ok(generation);
        Coding::ALL.into_iter().find(|coding| is_it && coding.suffix() == suffix)
    })?;
    Some(entity_tag(generation, coding))
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
            assert_eq!(client_has(&asked(&[sent]), 7).unwrap(), "W/\"7\"", "{sent}");
        }
        assert!(client_has(&asked(&["\"1\"", "\"7\""]), 7).is_some());
        for sent in ["W/\"70\"", "\"\"", "7x", "", "\"7-br\"", "\"7-\"", "+7", "07", "\"1-gzip\"", "-gzip"] {
            assert_eq!(client_has(&asked(&[sent]), 7), None, "{sent}");
        }
        assert_eq!(client_has(&HeaderMap::new(), 7), None);
    }

    #[test]
    fn each_coding_has_an_entity_tag_and_each_of_them_is_recognised() {
        for (coding, tag) in
            [(Coding::Identity, "W/\"7\""), (Coding::Gzip, "W/\"7-gzip\""), (Coding::Zstd, "W/\"7-zstd\"")]
        {
            assert_eq!(entity_tag(7, coding), tag);
            assert_eq!(client_has(&asked(&[tag]), 7).unwrap(), tag, "the tag that the client knows it by");
            assert_eq!(in_coding(&entity_tag(7, Coding::Identity), coding), tag);
        }
    }

    #[test]
    fn age_is_never_negative() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(age(Some(at(10)), at(15)), Some(HeaderValue::from(5)));
        assert_eq!(age(Some(at(10)), at(5)), Some(HeaderValue::from(0)));
        assert_eq!(age(None, at(5)), None);
    }
}
