//! An access token for a service account whose key is in a file: a signed assertion is exchanged at the account's token
//! endpoint (<https://developers.google.com/identity/protocols/oauth2/service-account#httprest>). The key stays here; the library
//! signs with it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use google_cloud_auth::credentials::service_account::Builder;
use jiff::Timestamp;
use reqwest::Client;
use serde::Deserialize;
use serde_json::{Value, json};
use url::{Host, Url};

use super::super::failure::shown;
use super::super::token_endpoint;
use super::SCOPE;

const USUAL_TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// For how long the assertion is good, and at most the token: the longest that is accepted.
const ASSERTED_SECONDS: i64 = 3_600;

#[derive(Deserialize)]
pub(super) struct AccessToken {
    pub(super) access_token: String,
    /// Seconds.
    pub(super) expires_in: u64,
}

/// Asks for a token that is good from `now` on.
pub(super) async fn token(client: &Client, key: &Value, now: Timestamp) -> Result<AccessToken, String> {
    let token_uri = key.get("token_uri").and_then(Value::as_str).unwrap_or(USUAL_TOKEN_URI);
    let url = Url::parse(token_uri).map_err(|_| "its token_uri is not a URL".to_owned())?;
    if !is_confidential(&url) {
        return Err("its token_uri is plain http".to_owned());
    }
    let signer = Builder::new(key.clone()).build_signer();
    let signer = signer.map_err(|error| format!("no key: {}", shown(&error)))?;
    let content = unsigned_assertion(key, token_uri, now)?;
    let signature = signer.sign(&content).await.map_err(|_| "its key cannot sign".to_owned())?;
    let assertion = format!("{content}.{}", URL_SAFE_NO_PAD.encode(signature));
    let form = [("grant_type", GRANT_TYPE), ("assertion", &assertion)];
    let token: AccessToken = token_endpoint::post(client, url, &form).await?;
    if token.access_token.is_empty() {
        return Err("an answer without a token".to_owned());
    }
    Ok(token)
}

/// Whether a secret may be sent there: over TLS, or without leaving the machine.
fn is_confidential(url: &Url) -> bool {
    let is_loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(_)) | None => false,
    };
    url.scheme() == "https" || is_loopback
}

/// The header and the claims of the assertion (RFC 7523), to be signed.
fn unsigned_assertion(key: &Value, token_uri: &str, now: Timestamp) -> Result<String, String> {
    let field = |name: &str| {
        let value = key.get(name).and_then(Value::as_str);
        value.ok_or_else(|| format!("the file has no {name}"))
    };
    let header = json!({ "alg": "RS256", "typ": "JWT", "kid": field("private_key_id")? });
    let claims = json!({
        "iss": field("client_email")?,
        "scope": SCOPE,
        "aud": token_uri,
        "iat": now.as_second(),
        "exp": now.as_second() + ASSERTED_SECONDS,
    });
    let encoded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    Ok(format!("{}.{}", encoded(&header), encoded(&claims)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_over_tls_or_stay_on_the_machine() {
        for (url, expected) in [
            ("https://oauth2.googleapis.com/token", true),
            ("http://127.0.0.1:8080/token", true),
            ("http://[::1]/token", true),
            ("http://oauth2.googleapis.com/token", false),
            ("http://10.0.0.1/token", false),
            ("http://localhost/token", false),
        ] {
            assert_eq!(is_confidential(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
