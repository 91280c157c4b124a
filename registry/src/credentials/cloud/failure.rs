//! The words of the clouds' libraries about a failure, without what might be a secret.
//!
//! They quote what servers answered, and an answer that is not as expected may hold a token. Whatever looks like one is left
//! out: the shortest token or key of these clouds is longer than any word of their messages.

use std::error::Error;

/// A run of so many characters of which tokens consist is not shown, unless it is the origin and path of a URL.
const SUSPICIOUS_LENGTH: usize = 32;

/// How many causes are looked at, so that one that names itself as its cause does no harm.
pub(super) const MAX_CAUSES: usize = 8;

/// The error and its causes in one line, each said once.
pub(super) fn shown(error: &(dyn Error + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut cause = Some(error);
    while let Some(error) = cause.filter(|_| said.len() < MAX_CAUSES) {
        let text = without_secrets(&error.to_string());
        // Some say their causes themselves.
        if !text.is_empty() && !said.iter().any(|before| before.contains(&text)) {
            said.push(text);
        }
        cause = error.source();
    }
    said.join(": ")
}

/// The text, with `…` for each word that may be a secret.
pub(super) fn without_secrets(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|character| !may_be_in_token(character)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let is_location = word.starts_with("//") && (shown.ends_with("http:") || shown.ends_with("https:"));
        shown.push_str(if word.len() >= SUSPICIOUS_LENGTH && !is_location { "…" } else { word });
        let separator = after.chars().next().map_or(0, char::len_utf8);
        shown.push_str(&after[..separator]);
        rest = &after[separator..];
    }
    shown
}

fn may_be_in_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-_.~+/=%".contains(character)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Link(&'static str, #[source] Option<Box<Link>>);

    #[test]
    fn causes_are_said_once() {
        let chain = Link(
            "cannot log in: no route",
            Some(Box::new(Link("no route", Some(Box::new(Link("os error 113", None)))))),
        );
        assert_eq!(shown(&chain), "cannot log in: no route: os error 113");
    }

    #[test]
    fn tokens_are_left_out_and_words_are_not() {
        for (text, expected) in [
            (
                r#"body=<{"access_token":"ya29.A0ARrdaM-abcdefghijklmnopqrstuvwxyz0123","expires_in":3599}>"#,
                r#"body=<{"access_token":"…","expires_in":3599}>"#,
            ),
            ("token wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY is no good", "token … is no good"),
            (
                "User: arn:aws:sts::123456789012:assumed-role/reader/i-0 is not authorized",
                "User: arn:aws:sts::123456789012:assumed-role/reader/i-0 is not authorized",
            ),
            (
                "no answer of http://169.254.169.254/latest/meta-data/iam/security-credentials/?x=1",
                "no answer of http://169.254.169.254/latest/meta-data/iam/security-credentials/?x=1",
            ),
            (
                "https://sts.example/?Assertion=eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
                "https://sts.example/?…",
            ),
        ] {
            assert_eq!(without_secrets(text), expected);
        }
    }

    proptest! {
        #[test]
        fn no_token_survives(before in "[ -~é]{0,40}", token in "[A-Za-z0-9_.-]{32,200}", after in "[ -~]{0,40}") {
            let text = format!("{before} {token} {after}");
            prop_assert!(!without_secrets(&text).contains(&token));
        }
    }
}
