//! Which tags a policy looks at, by their names, and what it reads in them.

use std::borrow::Cow;

use samovar_registry::Tag;

use super::patterns::Pattern;
use crate::config::quoted;

/// The longest template, in bytes.
const MAX_EXTRACT_LENGTH: usize = 256;
/// Groups that one template may name, each as often as it is named.
const MOST_EXTRACTED_GROUPS: usize = 8;

/// What a tag's name has to look like, and which part of it counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NameFilter {
    /// All of them have to match somewhere in the tag.
    pub filters: Vec<Pattern>,
    /// None of them may.
    pub excludes: Vec<Pattern>,
    /// What is compared in place of the whole tag, made of what the groups of the first filter matched.
    pub extract: Option<Extract>,
}

/// A template: text in which `$name`, `${name}`, `$1` and `${1}` stand for groups of a regular expression, and `$$` for a
/// dollar sign. A name after a bare `$` is as long as it can be: `$1a` is the group `1a`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extract(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Group(usize),
}

impl NameFilter {
    /// What of the tag is compared; `None`: the policy does not look at it, or nothing was extracted.
    pub(super) fn value<'t>(&self, tag: &'t Tag) -> Option<Cow<'t, str>> {
        let text = tag.as_str();
        let mut filters = self.filters.iter();
        let value = match (&self.extract, self.filters.first()) {
            (Some(extract), Some(first)) => {
                filters.next();
                Cow::Owned(extract.apply(first, text)?)
            }
            _ => Cow::Borrowed(text),
        };
        let is_wanted = !value.is_empty()
            && filters.all(|filter| filter.matches(text))
            && !self.excludes.iter().any(|exclude| exclude.matches(text));
        is_wanted.then_some(value)
    }
}

impl Extract {
    /// Reads a template for what `filter` matches. The error says what is wrong with it.
    pub fn new(template: &str, filter: &Pattern) -> Result<Self, String> {
        if template.len() > MAX_EXTRACT_LENGTH {
            return Err(format!("a template must not be longer than {MAX_EXTRACT_LENGTH} bytes"));
        }
        let refused = |reason: &str| format!("{}: {reason}", quoted(template));
        let (mut pieces, mut rest) = (Vec::new(), template);
        while let Some((text, after)) = rest.split_once('$') {
            push_text(&mut pieces, text);
            if let Some(after) = after.strip_prefix('$') {
                push_text(&mut pieces, "$");
                rest = after;
                continue;
            }
            let (group, after) = match after.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or_else(|| refused("a brace is not closed"))?,
                None => after.split_at(after.find(|next| !is_of_name(next)).unwrap_or(after.len())),
            };
            if group.is_empty() {
                return Err(refused("no group is named after a $; $$ is a dollar sign"));
            }
            let number = group_number(group, filter).ok_or_else(|| {
                refused(&format!(
                    "the first filter has no group {}; braces set a name off: ${{1}}a",
                    quoted(group)
                ))
            })?;
            pieces.push(Piece::Group(number));
            rest = after;
        }
        push_text(&mut pieces, rest);
        match pieces.iter().filter(|piece| matches!(piece, Piece::Group(_))).count() {
            0 => Err(refused("no group is named: every tag would be the same")),
            1..=MOST_EXTRACTED_GROUPS => Ok(Self(pieces)),
            _ => Err(refused(&format!("at most {MOST_EXTRACTED_GROUPS} groups may be named"))),
        }
    }

    /// The template filled in; `None` where the filter does not match.
    fn apply(&self, filter: &Pattern, text: &str) -> Option<String> {
        let captures = filter.regex().captures(text.as_bytes())?;
        let filled = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => Cow::Borrowed(text.as_str()),
            // A group that took no part is empty.
            Piece::Group(number) => {
                String::from_utf8_lossy(captures.get(*number).map_or(b"", |group| group.as_bytes()))
            }
        });
        Some(filled.collect())
    }
}

fn push_text(pieces: &mut Vec<Piece>, more: &str) {
    match pieces.last_mut() {
        _ if more.is_empty() => {}
        Some(Piece::Text(text)) => text.push_str(more),
        _ => pieces.push(Piece::Text(more.to_owned())),
    }
}

fn is_of_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

fn group_number(group: &str, filter: &Pattern) -> Option<usize> {
    let regex = filter.regex();
    let by_name = regex.capture_names().position(|name| name == Some(group));
    let by_number = || group.parse().ok().filter(|number| *number < regex.captures_len());
    by_name.or_else(by_number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(source: &str) -> Pattern {
        Pattern::new(source).unwrap()
    }

    fn extracted(filter: &str, template: &str, tag: &str) -> Option<String> {
        let first = pattern(filter);
        let extract = Some(Extract::new(template, &first).unwrap());
        let names = NameFilter { filters: vec![first], excludes: Vec::new(), extract };
        names.value(&tag.parse().unwrap()).map(Cow::into_owned)
    }

    #[test]
    fn all_filters_and_no_exclusion_match_somewhere() {
        let names = NameFilter {
            filters: vec![pattern("^v"), pattern("alpine")],
            excludes: vec![pattern("-rc"), pattern("perl$")],
            extract: None,
        };
        let value = |tag: &str| names.value(&tag.parse().unwrap()).map(Cow::into_owned);
        assert_eq!(value("v1-alpine").as_deref(), Some("v1-alpine"));
        for tag in ["1-alpine", "v1", "v1-rc1-alpine", "v1-alpine-perl"] {
            assert_eq!(value(tag), None, "{tag}");
        }
        let all = NameFilter::default();
        assert_eq!(all.value(&"latest".parse().unwrap()).as_deref(), Some("latest"));
    }

    #[test]
    fn groups_are_filled_in_by_name_and_number() {
        let main = r"^main-(?P<sha>[0-9a-f]+)-(?<ts>\d+)$";
        for (template, expected) in [
            ("$ts", "1704164645"),
            ("${ts}", "1704164645"),
            ("$2", "1704164645"),
            ("$1.$2", "1a2b.1704164645"),
            ("${1}a$$-${ts}", "1a2ba$-1704164645"),
            ("$0", "main-1a2b-1704164645"),
        ] {
            assert_eq!(
                extracted(main, template, "main-1a2b-1704164645").as_deref(),
                Some(expected),
                "{template}"
            );
        }
        assert_eq!(extracted(main, "$ts", "main-xyz-17"), None, "the filter does not match");
        // The example in the documentation of Flux's image policies.
        let minio = r"^RELEASE\.(?P<timestamp>.*)Z$";
        let tag = "RELEASE.2024-01-30T12-00-00Z";
        assert_eq!(extracted(minio, "$timestamp", tag).as_deref(), Some("2024-01-30T12-00-00"));
    }

    #[test]
    fn a_tag_of_which_nothing_is_extracted_is_not_looked_at() {
        assert_eq!(extracted(r"^build-(\d*)", "$1", "build-x"), None);
        assert_eq!(extracted(r"^a(b)?", "$1", "a"), None);
    }

    #[test]
    fn templates_that_make_no_sense_are_refused() {
        let many = "$1".repeat(9);
        let long = format!("$1{}", "a".repeat(255));
        for (template, reason) in [
            ("", "no group is named"),
            ("constant", "no group is named"),
            ("$$", "no group is named"),
            ("$", "after a $"),
            ("a$-b", "after a $"),
            ("${}", "after a $"),
            ("${ts", "a brace is not closed"),
            ("$ts2", "the first filter has no group \"ts2\""),
            ("$1a", "the first filter has no group \"1a\""),
            ("$3", "the first filter has no group \"3\""),
            ("${ts }", "no group \"ts \""),
            (&many, "at most 8 groups"),
            (&long, "must not be longer than 256 bytes"),
        ] {
            let refused = Extract::new(template, &pattern(r"(?P<ts>\d+)-(\d+)")).unwrap_err();
            assert!(refused.contains(reason), "{template}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn what_is_between_groups_is_kept(before in "[^$]{0,9}", between in "[^$0-9a-zA-Z_][^$]{0,9}", dollars in 0_usize..4) {
            let template = format!("{before}$word{between}${{2}}{}", "$$".repeat(dollars));
            let expected = format!("{before}ab{between}12{}", "$".repeat(dollars));
            prop_assert_eq!(extracted(r"(?P<word>[a-z]+)(\d+)", &template, "ab12"), Some(expected));
        }

        #[test]
        fn any_template_is_read_or_refused(template in "\\PC{0,20}|[$a-z{}1]{0,12}") {
            let filter = pattern("(?P<a>.)(.)?");
            if let Ok(extract) = Extract::new(&template, &filter) {
                prop_assert!(extract.apply(&filter, "x").is_some());
            }
        }
    }
}
