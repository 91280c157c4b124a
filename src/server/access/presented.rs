//! What a request presents: a token, as a bearer or in place of a password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use samovar_registry::Secret;

/// A longer `Authorization` is not looked at. Bytes; tokens of clusters take a few thousand.
const MAX_AUTHORIZATION: usize = 16 * 1024;

/// What a request presents.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Presented {
    Nothing,
    Token(Secret),
    Unreadable,
}

impl Presented {
    /// Reads `Authorization`. Of a user and a password, the password is the token: clients of registries send no other.
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Self::Nothing };
        if values.next().is_some() || value.len() > MAX_AUTHORIZATION {
            return Self::Unreadable;
        }
        value.to_str().ok().and_then(token).map_or(Self::Unreadable, |token| Self::Token(Secret::new(token)))
    }
}

fn token(value: &str) -> Option<String> {
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    let token = if scheme.eq_ignore_ascii_case("bearer") {
        rest.to_owned()
    } else if scheme.eq_ignore_ascii_case("basic") {
        let decoded = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
        decoded.split_once(':')?.1.to_owned()
    } else {
        return None;
    };
    (!token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(values: &[&str]) -> Presented {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        Presented::read(&headers)
    }

    #[test]
    fn bearers_and_passwords_are_tokens() {
        assert_eq!(read(&[]), Presented::Nothing);
        let token = |text: &str| Presented::Token(Secret::new(text));
        assert_eq!(read(&["Bearer abc"]), token("abc"));
        assert_eq!(read(&["bearer  abc "]), token("abc"));
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        assert_eq!(read(&[&basic("anybody:a:b")]), token("a:b"));
        assert_eq!(read(&[&basic(":abc")]), token("abc"));
    }

    #[test]
    fn anything_else_is_unreadable_and_not_nothing() {
        let long = format!("Bearer {}", "x".repeat(MAX_AUTHORIZATION));
        for value in
            ["", "Bearer", "Bearer ", "Basic", "Basic !!", "Basic YWJj", "Basic YTo=", "Digest x", &long]
        {
            assert_eq!(read(&[value]), Presented::Unreadable, "{value}");
        }
        assert_eq!(read(&["Bearer a", "Bearer b"]), Presented::Unreadable);
    }
}
