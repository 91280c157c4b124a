//! Registries and token services that quote, in an error, what we sent them: no secret is shown for that.
//!
//! What is found is what such a quotation looks like by mistake: the secret as it is, as it was sent, and as it stands in
//! JSON and in a URL. One who wants to show it in another way can: he has it.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use url::form_urlencoded;

use crate::Secret;

/// What stands where a secret was.
const HIDDEN: &str = "…";
/// Shorter values of configured headers are numbers and switches, and stand anywhere. Bytes.
const SHORTEST_CONFIGURED: usize = 4;

/// What must not be shown of what was sent with a request.
pub(super) struct Sent {
    /// No two are the same, and none is empty; longer ones come first, because shorter ones may stand in them.
    secrets: Vec<String>,
}

impl Sent {
    /// What the `Authorization` header and the form of a request say of its sender, and what the headers say that are
    /// configured for its host.
    pub(super) fn in_request(
        authorization: Option<&HeaderValue>,
        form: Option<&Secret>,
        configured: &HeaderMap,
    ) -> Self {
        let mut secrets = Self::in_header(authorization);
        secrets.extend(configured.values().flat_map(Self::in_configured));
        for (field, value) in form_urlencoded::parse(form.map_or("", Secret::reveal).as_bytes()) {
            if matches!(&*field, "password" | "refresh_token") {
                secrets.push(value.into_owned());
            }
        }
        Self::of(secrets)
    }

    /// A token, or a password and the two with the name that carry it.
    fn in_header(authorization: Option<&HeaderValue>) -> Vec<String> {
        let text = authorization.and_then(|header| header.to_str().ok());
        let Some((scheme, carried)) = text.and_then(|text| text.split_once(' ')) else {
            return Vec::new();
        };
        let mut secrets = vec![carried.to_owned()];
        if scheme == "Basic"
            && let Some(login) = BASE64.decode(carried).ok().and_then(|login| String::from_utf8(login).ok())
            && let Some((_, password)) = login.split_once(':')
        {
            secrets.push(password.to_owned());
        }
        secrets
    }

    /// The value as a whole, and what it carries if it is a login.
    fn in_configured(value: &HeaderValue) -> Vec<String> {
        let mut secrets = Self::in_header(Some(value));
        secrets.extend(value.to_str().ok().map(str::to_owned));
        secrets.retain(|secret| secret.len() >= SHORTEST_CONFIGURED);
        secrets
    }

    fn of(mut secrets: Vec<String>) -> Self {
        for secret in secrets.clone() {
            let in_forms: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            let in_json = serde_json::to_string(&secret).unwrap_or_default();
            secrets.extend([in_forms.replace('+', "%20"), in_forms, in_json.trim_matches('"').to_owned()]);
        }
        secrets.retain(|secret| !secret.is_empty());
        secrets.sort_unstable_by(|one, other| other.len().cmp(&one.len()).then(one.cmp(other)));
        secrets.dedup();
        Self { secrets }
    }

    /// The body of a failed answer, without them.
    pub(super) fn hidden_in(&self, body: Bytes) -> Bytes {
        let text = String::from_utf8_lossy(&body);
        if !self.secrets.iter().any(|secret| text.contains(secret.as_str())) {
            return body;
        }
        let hidden = self.secrets.iter().fold(text, |text, secret| Cow::Owned(text.replace(secret, HIDDEN)));
        hidden.into_owned().into()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use http::header::AUTHORIZATION;

    use super::*;

    fn hidden(authorization: &str, body: &'static str) -> String {
        let header = HeaderValue::from_str(authorization).unwrap();
        String::from_utf8(
            Sent::in_request(Some(&header), None, &HeaderMap::new()).hidden_in(body.into()).to_vec(),
        )
        .unwrap()
    }

    #[test]
    fn a_quoted_login_is_not_repeated() {
        // alice, open:sesame&more
        let basic = "Basic YWxpY2U6b3BlbjpzZXNhbWUmbW9yZQ==";
        for (body, expected) in [
            ("bad header: Basic YWxpY2U6b3BlbjpzZXNhbWUmbW9yZQ==", "bad header: Basic …"),
            ("no password \"open:sesame&more\" for alice", "no password \"…\" for alice"),
            ("?password=open%3Asesame%26more&x=YWxpY2U6b3BlbjpzZXNhbWUmbW9yZQ%3D%3D", "?password=…&x=…"),
            ("denied", "denied"),
            ("", ""),
        ] {
            assert_eq!(hidden(basic, body), expected);
        }
        assert_eq!(
            hidden("Bearer eyJ.e30.x+y", "invalid token eyJ.e30.x+y, eyJ.e30.x%2By"),
            "invalid token …, …"
        );
    }

    #[test]
    fn a_quotation_is_found_where_it_is_escaped() {
        // alice, "open" sesame
        let basic = "Basic YWxpY2U6Im9wZW4iIHNlc2FtZQ==";
        for (body, expected) in [
            (r#"{"message":"\"open\" sesame is wrong"}"#, r#"{"message":"… is wrong"}"#),
            ("?p=%22open%22+sesame&q=%22open%22%20sesame", "?p=…&q=…"),
        ] {
            assert_eq!(hidden(basic, body), expected);
        }
    }

    #[test]
    fn what_says_nothing_changes_nothing() {
        for authorization in ["", "Basic", "Basic ", "Basic !!", "Basic YWxpY2U6", "Other x"] {
            assert_eq!(hidden(authorization, "as it was"), "as it was", "{authorization}");
        }
        let body = Bytes::from_static(b"\xff\xfe");
        assert_eq!(Sent::in_request(None, None, &HeaderMap::new()).hidden_in(body.clone()), body);
    }

    #[test]
    fn configured_headers_are_hidden() {
        let headers = HeaderMap::from_iter([
            (HeaderName::from_static("x-gate"), HeaderValue::from_static("sesame")),
            (HeaderName::from_static("x-try"), HeaderValue::from_static("1")),
            // alice, open:sesame&more
            (AUTHORIZATION, HeaderValue::from_static("Basic YWxpY2U6b3BlbjpzZXNhbWUmbW9yZQ==")),
        ]);
        let body = Sent::in_request(None, None, &headers).hidden_in("x-gate: sesame, x-try: 1".into());
        assert_eq!(body, "x-gate: …, x-try: 1");
        let quoted = "alice:open:sesame&more, YWxpY2U6b3BlbjpzZXNhbWUmbW9yZQ==";
        assert_eq!(Sent::in_request(None, None, &headers).hidden_in(quoted.into()), "alice:…, …");
    }

    #[test]
    fn what_was_posted_is_hidden() {
        for field in ["password", "refresh_token"] {
            let form = Secret::new(format!("scope=a&{field}=open+%26+sesame&client_id=samovar"));
            let sent = Sent::in_request(None, Some(&form), &HeaderMap::new());
            for quoted in ["open & sesame", "open+%26+sesame", "open%20%26%20sesame"] {
                let body = sent.hidden_in(format!("samovar sent {quoted}").into());
                assert_eq!(body, "samovar sent …", "{quoted}");
            }
        }
    }
}
