//! The registry's own words about a failure, made safe to show.

use serde::Deserialize;

use crate::json;

/// How many characters of a message from outside are shown.
const MAX_CHARACTERS: usize = 300;
/// How many of the errors in one answer are shown.
const MAX_ERRORS: usize = 3;

/// The two shapes in use: the errors of the distribution protocol, and a token service's one sentence.
#[derive(Deserialize)]
struct Words {
    #[serde(default)]
    errors: Vec<OneError>,
    #[serde(alias = "message", alias = "error_description")]
    details: Option<String>,
}

#[derive(Deserialize)]
struct OneError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What the body of a failed answer says, if it says something that a person can read.
pub(crate) fn of_registry(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let said = match json::object::<Words>(body) {
        Ok(words) if !words.errors.is_empty() => {
            let errors: Vec<String> = words.errors.iter().take(MAX_ERRORS).map(sentence).collect();
            errors.join("; ")
        }
        Ok(words) => words.details?,
        // Pages for browsers say nothing to us, nor do documents of another shape.
        Err(_) if text.trim_start().starts_with(['<', '{', '[']) => return None,
        Err(_) => text.into_owned(),
    };
    let shown = printable(&said);
    (!shown.is_empty()).then_some(shown)
}

fn sentence(error: &OneError) -> String {
    match (error.code.as_str(), error.message.as_str()) {
        (code, "") => code.to_owned(),
        ("", message) => message.to_owned(),
        (code, message) => format!("{code}: {message}"),
    }
}

/// Cuts text from outside to a bound, and replaces characters that are not shown and runs of white space by one space.
pub(crate) fn printable(text: &str) -> String {
    let is_between = |c: char| c.is_whitespace() || c.is_control() || is_format(c);
    let words = text.split(is_between).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MAX_CHARACTERS {
        return line;
    }
    line.chars().take(MAX_CHARACTERS - 1).chain(['…']).collect()
}

/// Whether a character only tells how others are to be shown (Unicode's category Cf): from right to left, as one, not at
/// all. A message with such characters may read like another one.
fn is_format(c: char) -> bool {
    matches!(c,
        '\u{AD}' | '\u{600}'..='\u{605}' | '\u{61C}' | '\u{6DD}' | '\u{70F}' | '\u{890}' | '\u{891}' | '\u{8E2}'
        | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}'
        | '\u{FFF9}'..='\u{FFFB}' | '\u{110BD}' | '\u{110CD}' | '\u{13430}'..='\u{1343F}'
        | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E007F}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn errors_of_the_protocol() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\naccess","detail":{"x":1}},{"code":"X"},{"message":"y"},{}]}"#;
        assert_eq!(of_registry(body).as_deref(), Some("DENIED: no access; X; y"));
    }

    #[test]
    fn sentences_of_token_services_and_plain_text() {
        assert_eq!(
            of_registry(br#"{"details":"incorrect password"}"#).as_deref(),
            Some("incorrect password")
        );
        assert_eq!(of_registry(br#"{"message":"no"}"#).as_deref(), Some("no"));
        assert_eq!(
            of_registry(b"429 Too Many\r\n Requests\x1b[31m").as_deref(),
            Some("429 Too Many Requests [31m")
        );
    }

    #[test]
    fn what_says_nothing() {
        for body in [&b""[..], b" \n", b"<html>no</html>", br#"{"x":1}"#, b"{", b"[1]", br#"{"errors":[]}"#] {
            assert_eq!(of_registry(body), None);
        }
    }

    #[test]
    fn is_cut() {
        let shown = printable(&"é".repeat(1_000));
        assert_eq!(shown.chars().count(), MAX_CHARACTERS);
        assert!(shown.ends_with("é…"));
    }

    #[test]
    fn nothing_in_it_turns_or_hides_what_follows() {
        let text = "not \u{202E}dewolla\u{202C} here\u{2066}x\u{2069}\u{200B}y\u{FEFF}\u{E0041}\u{85}z";
        assert_eq!(printable(text), "not dewolla here x y z");
        assert_eq!(printable("naïve 茶 🫖"), "naïve 茶 🫖");
    }

    proptest! {
        #[test]
        fn is_always_short_and_printable(text in any::<String>(), times in 1_usize..200) {
            let shown = printable(&text.repeat(times));
            prop_assert!(shown.chars().count() <= MAX_CHARACTERS);
            prop_assert!(!shown.chars().any(|c| c.is_control() || is_format(c)));
        }

        #[test]
        fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            of_registry(&body);
        }
    }
}
