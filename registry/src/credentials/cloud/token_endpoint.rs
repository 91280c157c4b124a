//! Asking an OAuth 2 endpoint by POST of a form.

use std::time::Duration;

use http::StatusCode;
use http::header::CONTENT_TYPE;
use reqwest::{Client, ClientBuilder, redirect, retry};
use serde::de::DeserializeOwned;
use url::{Url, form_urlencoded};

use super::failure::{shown, without_secrets};
use super::keeper::LONGEST_LOGIN;
use crate::{json, words};

/// Of an answer, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// For connecting, TLS included: metadata services are near, and outside of their cloud nobody answers.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A client that follows no redirects: what it sends is secret.
pub(super) fn client(user_agent: &str) -> ClientBuilder {
    Client::builder()
        .user_agent(user_agent)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(LONGEST_LOGIN)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
}

/// Posts the form and reads the answer. What the endpoint says about a failure is in the message.
pub(super) async fn post<T: DeserializeOwned>(
    client: &Client,
    url: Url,
    form: &[(&str, &str)],
) -> Result<T, String> {
    let origin = url.origin().ascii_serialization();
    let failed = |error: reqwest::Error| format!("{origin}: {}", shown(&error.without_url()));
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = client.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
    let mut response = request.send().await.map_err(failed)?;
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        answer.extend_from_slice(&chunk);
        if answer.len() > MAX_ANSWER_BYTES {
            return Err(format!("{origin}: an answer of more than {MAX_ANSWER_BYTES} bytes"));
        }
    }
    if response.status() != StatusCode::OK {
        let said = words::of_registry(&answer).unwrap_or_default();
        return Err(format!("{origin}: status {} {}", response.status().as_u16(), without_secrets(&said)));
    }
    json::object(&answer).map_err(|_| format!("{origin}: an answer that is not as expected"))
}
