//! The `Link` header, by the grammar of RFC 8288 section 3: several links per header, quoted parameters.

use super::challenge::{is_space, is_token_character, quoted_string};

/// A `Link` header that cannot be read. Not to be ignored: it may have promised a next page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MalformedLink;

/// The target of the first link whose relation is `next`, exactly as it stands in the header.
pub(super) fn next<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Option<&'a str>, MalformedLink> {
    for value in values {
        let mut rest = value;
        loop {
            rest = rest.trim_start_matches(|c| c == ',' || is_space(c));
            if rest.is_empty() {
                break;
            }
            let (target, parameters) =
                rest.strip_prefix('<').and_then(|link| link.split_once('>')).ok_or(MalformedLink)?;
            let (is_next, after) = has_relation_next(parameters).ok_or(MalformedLink)?;
            if is_next {
                return Ok(Some(target));
            }
            rest = after;
        }
    }
    Ok(None)
}

/// Reads the parameters of one link. Only the first `rel` counts (RFC 8288 section 3.3); it may name several
/// relations. `None` if the parameters are malformed.
fn has_relation_next(parameters: &str) -> Option<(bool, &str)> {
    let mut relations: Option<String> = None;
    let mut rest = parameters.trim_start_matches(is_space);
    while let Some(parameter) = rest.strip_prefix(';') {
        let parameter = parameter.trim_start_matches(is_space);
        let name_end = parameter.find(|c| !is_token_character(c)).unwrap_or(parameter.len());
        let (name, after_name) = parameter.split_at(name_end);
        let (value, after) = parameter_value(after_name.trim_start_matches(is_space))?;
        if name.eq_ignore_ascii_case("rel") && relations.is_none() {
            relations = Some(value);
        }
        rest = after.trim_start_matches(is_space);
    }
    let well_ended = rest.is_empty() || rest.starts_with(',');
    let is_next = relations.is_some_and(|relations| {
        relations.split_ascii_whitespace().any(|one| one.eq_ignore_ascii_case("next"))
    });
    well_ended.then_some((is_next, rest))
}

/// Reads `= value` if there is one, and gives what follows.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(value) = text.strip_prefix('=') else {
        return Some((String::new(), text));
    };
    let value = value.trim_start_matches(is_space);
    if let Some(quoted) = value.strip_prefix('"') {
        return quoted_string(quoted);
    }
    let end = value.find(|c| c == ';' || c == ',' || is_space(c)).unwrap_or(value.len());
    let (value, rest) = value.split_at(end);
    Some((value.to_owned(), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_the_next_page() {
        for value in [
            r#"</v2/x/tags/list?last=b&n=2>; rel="next""#,
            r"</v2/x/tags/list?last=b&n=2>;rel=next",
            r#"</v2/x/tags/list?last=b&n=2> ; title="a, \"b\"; rel=prev" ; REL = "last NEXT""#,
            r#"</first>; rel="first", </v2/x/tags/list?last=b&n=2>; rel="next", </z>; rel="next""#,
            r#"</other>; rel=preload; nopush, ,</v2/x/tags/list?last=b&n=2>; rel="next""#,
        ] {
            assert_eq!(next([value]), Ok(Some("/v2/x/tags/list?last=b&n=2")), "{value}");
        }
        assert_eq!(next([r#"</a>; rel="prev""#, r#"</b?c>; rel="next""#]), Ok(Some("/b?c")));
        assert_eq!(next(["<>; rel=next"]), Ok(Some("")));
    }

    #[test]
    fn no_link_is_the_end() {
        assert_eq!(next([]), Ok(None));
        for value in
            ["", " , ", "</a>", r#"</a>; rel="nextish""#, r"</a>; rel=prev; rel=next", r"</a>; title=next"]
        {
            assert_eq!(next([value]), Ok(None), "{value}");
        }
    }

    #[test]
    fn a_malformed_link_is_not_taken_for_the_end() {
        for value in [
            "/v2/x?last=b; rel=next",
            "</a; rel=next",
            r#"</a>; rel="next"#,
            "</a> rel=next",
            "</a>; rel=next x",
        ] {
            assert_eq!(next([value]), Err(MalformedLink), "{value}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(value in r#"(<|>|;|,|=|"|\\|rel|next|/a\?b| |é){0,30}"#) {
            let _ = next([value.as_str()]);
        }

        #[test]
        fn finds_any_target_among_others(target in "[!-=?-~]{0,40}", title in "[ -~]{0,20}") {
            let title = title.replace('\\', r"\\").replace('"', r#"\""#);
            let header = format!(r#"</x>; title="{title}", <{target}>; title="{title}"; rel="next""#);
            prop_assert_eq!(next([header.as_str()]), Ok(Some(target.as_str())));
        }
    }
}
