//! One request to a receiver, and what its answer means.

use std::path::Path;
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use samovar_registry::Secret;
use samovar_registry::credentials::SecretSource;
use samovar_registry::upstream::GuardedClient;
use tokio::time::timeout;

use super::payload::Payload;
use super::queue::Outcome;
use crate::config::ReceiverConfig;

/// For a whole request.
const LONGEST_DELIVERY: Duration = Duration::from_secs(10);
/// For a file with a secret to be read.
const LONGEST_SECRET_READING: Duration = Duration::from_secs(3);
/// The largest file with a secret, in bytes.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Delivers once, at this time in seconds since 1970.
pub(super) async fn deliver(
    client: &GuardedClient,
    config: &ReceiverConfig,
    payload: &Payload,
    now: i64,
) -> Outcome {
    let secret = match &config.secret {
        None => None,
        Some(SecretSource::Given(secret)) => Some(secret.clone()),
        Some(SecretSource::File(path)) => match read_secret(path).await {
            Ok(secret) => Some(secret),
            Err(reason) => return Outcome::Failed(reason, None),
        },
    };
    let request = match client.post(config.url.reveal()) {
        Ok(request) => request,
        Err(reason) => return Outcome::Refused(reason),
    };
    let headers = payload.headers(config.format, secret.as_ref().map(Secret::reveal), now);
    let sent = request.headers(headers).body(payload.body.clone()).timeout(LONGEST_DELIVERY).send().await;
    match sent {
        Ok(response) => judge(response.status(), response.headers()),
        Err(error) => Outcome::Failed(shown(error), None),
    }
}

/// What an answer means.
fn judge(status: StatusCode, headers: &HeaderMap) -> Outcome {
    if status.is_success() {
        return Outcome::Delivered;
    }
    let reason = format!("it answered {status}");
    if status.is_redirection() {
        return Outcome::Refused(format!("{reason}: redirects are not followed"));
    }
    let comes_later = status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    if !comes_later {
        return Outcome::Refused(reason);
    }
    let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Outcome::Failed(reason, seconds.map(Duration::from_secs))
}

/// Why a request failed, without the URL, which may hold a secret.
fn shown(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "it did not answer in time".to_owned();
    }
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if error.is_connect() { format!("cannot connect: {cause}") } else { cause.to_string() }
}

/// The secret in a file, read anew each time: it may be replaced. A line break at its end is no part of it.
async fn read_secret(path: &Path) -> Result<Secret, String> {
    use std::io::Read as _;
    let failed = |reason: String| format!("cannot read its secret in {}: {reason}", path.display());
    let owned = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        std::fs::File::open(owned)?.take(MAX_SECRET_BYTES).read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    });
    let read = timeout(LONGEST_SECRET_READING, reading).await.map_err(|_| failed("it hangs".to_owned()))?;
    let text = read.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(failed("it is empty".to_owned())),
        secret => Ok(Secret::new(secret)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_refused_or_tried_again() {
        let answer = |status: u16, retry_after: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = retry_after {
                headers.insert(header::RETRY_AFTER, http::HeaderValue::from_static(value));
            }
            judge(StatusCode::from_u16(status).unwrap(), &headers)
        };
        for status in [200, 202, 204] {
            assert_eq!(answer(status, None), Outcome::Delivered);
        }
        for status in [301, 308, 400, 401, 403, 404, 410, 413] {
            assert!(matches!(answer(status, Some("1")), Outcome::Refused(_)), "{status}");
        }
        for status in [408, 429, 500, 502, 503] {
            assert!(matches!(answer(status, None), Outcome::Failed(_, None)), "{status}");
        }
        let asked = Outcome::Failed("it answered 429 Too Many Requests".into(), Some(Duration::from_secs(7)));
        assert_eq!(answer(429, Some("7")), asked);
        assert!(matches!(answer(503, Some("soon")), Outcome::Failed(_, None)));
    }

    #[tokio::test]
    async fn a_secret_is_read_anew_and_never_empty() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        assert!(read_secret(&path).await.is_err());
        for (text, secret) in [("one\n", Some("one")), ("two\r\n", Some("two")), ("\n", None)] {
            std::fs::write(&path, text).unwrap();
            let read = read_secret(&path).await;
            assert_eq!(read.as_ref().ok().map(Secret::reveal), secret);
        }
    }
}
