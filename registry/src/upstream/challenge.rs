//! `WWW-Authenticate`, by the grammar of RFC 9110 section 11: several challenges in one header, several
//! headers, quoted strings with commas and escapes, token68.
//!
//! More lenient than the grammar in one point: an unquoted parameter may hold any character up to the next
//! comma or space, because registries exist that do not quote their realm. What cannot be read ends its header;
//! the challenges before it count. Both the headers and the challenges in them are bounded, and reading them takes
//! time in proportion to their length.

/// How long a header may be; a longer one is passed over.
const MAX_HEADER_BYTES: usize = 8 * 1024;
/// How many challenges are read.
const MAX_CHALLENGES: usize = 16;

/// One challenge: a scheme and its parameters. The token68 that some schemes carry in their place is passed over: no
/// scheme that we speak does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// The scheme in lower case, such as `bearer`.
    pub(super) scheme: String,
    /// The parameters, names in lower case, in the order in which they came.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The value of a parameter, the first where it is repeated.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The scheme and all parameters.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn into_parts(self) -> (String, Vec<(String, String)>) {
        (self.scheme, self.parameters)
    }
}

/// Reads all challenges of one or more `WWW-Authenticate` values, in order.
pub(super) fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<Challenge> {
    let readable = values.into_iter().filter(|value| value.len() <= MAX_HEADER_BYTES);
    readable.flat_map(|value| Parser { rest: value }.challenges()).take(MAX_CHALLENGES).collect()
}

struct Parser<'a> {
    rest: &'a str,
}

/// What follows a word.
enum ParameterValue {
    /// No `=`: the word was a scheme, not a parameter's name.
    Absent,
    /// A `=`, but no value that can be read.
    Unreadable,
    Read(String),
}

impl<'a> Parser<'a> {
    fn challenges(mut self) -> Vec<Challenge> {
        let mut challenges: Vec<Challenge> = Vec::new();
        loop {
            self.skip(|c| c == ',' || is_space(c));
            let Some(word) = self.token() else {
                return challenges;
            };
            match self.parameter_value() {
                ParameterValue::Absent => {}
                ParameterValue::Unreadable => return challenges,
                ParameterValue::Read(value) => {
                    let Some(challenge) = challenges.last_mut() else {
                        return challenges;
                    };
                    challenge.parameters.push((word.to_ascii_lowercase(), value));
                    continue;
                }
            }
            if challenges.len() == MAX_CHALLENGES {
                return challenges;
            }
            self.skip_token68();
            challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
        }
    }

    /// Skips a token68, if one stands there alone: behind spaces, up to the next comma or the end.
    fn skip_token68(&mut self) {
        let text = self.rest.trim_start_matches(is_space);
        let is_body = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
        let after_body = text.trim_start_matches(is_body);
        let is_blob = after_body.len() < text.len() && text.len() < self.rest.len();
        let after = after_body.trim_start_matches('=').trim_start_matches(is_space);
        if is_blob && (after.is_empty() || after.starts_with(',')) {
            self.rest = after;
        }
    }

    /// Reads what follows a parameter's name.
    fn parameter_value(&mut self) -> ParameterValue {
        let Some(value) = self.rest.trim_start_matches(is_space).strip_prefix('=') else {
            return ParameterValue::Absent;
        };
        self.rest = value.trim_start_matches(is_space);
        if let Some(quoted) = self.rest.strip_prefix('"') {
            let Some((value, rest)) = quoted_string(quoted) else {
                return ParameterValue::Unreadable;
            };
            self.rest = rest;
            return ParameterValue::Read(value);
        }
        let end = self.rest.find(|c| c == ',' || is_space(c)).unwrap_or(self.rest.len());
        let (value, rest) = self.rest.split_at(end);
        self.rest = rest;
        if value.is_empty() { ParameterValue::Unreadable } else { ParameterValue::Read(value.to_owned()) }
    }

    fn token(&mut self) -> Option<&'a str> {
        let end = self.rest.find(|c| !is_token_character(c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    fn skip(&mut self, skipped: impl Fn(char) -> bool) {
        self.rest = self.rest.trim_start_matches(skipped);
    }
}

/// Reads a quoted string whose opening quote is gone (RFC 9110 section 5.6.4), also for the `Link` header.
pub(super) fn quoted_string(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

/// Whether the character may stand in a token (RFC 9110 section 5.6.2).
pub(super) fn is_token_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character)
}

/// Optional white space (RFC 9110 section 5.6.3).
pub(super) fn is_space(character: char) -> bool {
    character == ' ' || character == '\t'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn challenge(scheme: &str, parameters: &[(&str, &str)]) -> Challenge {
        let parameters = parameters.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        Challenge { scheme: scheme.to_owned(), parameters }
    }

    #[test]
    fn a_bearer_challenge() {
        assert_eq!(
            parse([
                r#"Bearer realm="https://auth.example/token",service="registry",scope="repository:a/b:pull,push""#
            ]),
            [challenge(
                "bearer",
                &[
                    ("realm", "https://auth.example/token"),
                    ("service", "registry"),
                    ("scope", "repository:a/b:pull,push")
                ]
            )]
        );
    }

    #[test]
    fn several_challenges_in_one_header_and_several_headers() {
        let values = [
            r#"Bearer realm="r1" , scope="*", BASIC realm="a \"quoted\", realm""#,
            "Negotiate",
            "Digest abc==",
        ];
        let challenges = parse(values);
        assert_eq!(challenges[0], challenge("bearer", &[("realm", "r1"), ("scope", "*")]));
        assert_eq!(challenges[1], challenge("basic", &[("realm", "a \"quoted\", realm")]));
        assert_eq!(challenges[2], challenge("negotiate", &[]));
        assert_eq!(challenges[3], challenge("digest", &[]));
        assert_eq!(challenges.len(), 4);
    }

    #[test]
    fn schemes_without_parameters_and_token68_between_others() {
        let challenges = parse([r#", Negotiate a+b/c= ,, NTLM, Bearer REALM = "x" ; "#]);
        assert_eq!(challenges[0], challenge("negotiate", &[]));
        assert_eq!(challenges[1], challenge("ntlm", &[]));
        assert_eq!(challenges[2].parameter("realm"), Some("x"));
    }

    #[test]
    fn an_unquoted_realm_is_understood() {
        assert_eq!(
            parse(["Bearer realm=https://a.example/token,service=x"])[0].parameter("realm"),
            Some("https://a.example/token")
        );
    }

    #[test]
    fn what_cannot_be_read_ends_the_header_only() {
        assert_eq!(parse([r#"Basic realm="x", Bearer realm="never closed"#, "Basic"]).len(), 3);
        assert_eq!(parse([r#"realm="without a scheme""#]), []);
        assert_eq!(parse(["", "   ", ",,,", "\u{e9}"]), []);
    }

    #[test]
    fn headers_and_challenges_are_bounded() {
        let long = format!(r#"Bearer realm="{}""#, "x".repeat(MAX_HEADER_BYTES));
        assert_eq!(parse([long.as_str(), "Basic"]), [challenge("basic", &[])]);
        let many = "Basic, ".repeat(1_000);
        assert_eq!(parse([many.as_str(), many.as_str()]).len(), MAX_CHALLENGES);
        let words = "x ".repeat(MAX_HEADER_BYTES / 2);
        assert_eq!(parse([words.as_str()]).len(), MAX_CHALLENGES);
    }

    proptest! {
        #[test]
        fn never_panics(value in "[ -~\u{80}-\u{ff}]{0,60}") {
            parse([value.as_str()]);
        }

        #[test]
        fn never_panics_on_what_looks_like_challenges(value in r#"(Bearer|Basic|realm|=|"|\\|,| |x|é){0,30}"#) {
            parse([value.as_str()]);
        }

        #[test]
        fn reads_back_any_quoted_value(value in "[ -~]{0,40}") {
            let escaped = value.replace('\\', r"\\").replace('"', r#"\""#);
            let header = format!(r#"Negotiate, Bearer a="1", realm="{escaped}", Basic realm="z""#);
            let challenges = parse([header.as_str()]);
            prop_assert_eq!(challenges.len(), 3);
            prop_assert_eq!(challenges[1].parameter("realm"), Some(value.as_str()));
        }
    }
}
