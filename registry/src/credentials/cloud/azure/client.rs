//! The HTTP client that Azure's library asks with: with timeouts, without redirects, and bounded.

use async_trait::async_trait;
use azure_core::error::{Error, ErrorKind};
use azure_core::http::{AsyncRawResponse, HttpClient, Request};
use futures_util::TryStreamExt;
use reqwest::Client;
use url::{Host, Url};

use super::super::failure::shown;
use super::super::{Environment, token_endpoint};

/// Of an answer, in bytes: a token has a few thousand.
const MAX_IDENTITY_ANSWER_BYTES: usize = 256 * 1024;

/// Where the metadata service of a machine stands.
const METADATA_ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 169, 254);

#[derive(Debug)]
pub(super) struct BoundedClient {
    client: Client,
    /// Asked in place of the machine's metadata service.
    metadata: Option<Url>,
}

impl BoundedClient {
    pub(super) fn new(user_agent: &str, environment: &Environment) -> azure_core::Result<Self> {
        let client = token_endpoint::client(user_agent).build();
        let client = client.map_err(|error| Error::with_message(ErrorKind::Credential, shown(&error)))?;
        let metadata = environment.variable("AZURE_POD_IDENTITY_AUTHORITY_HOST");
        let metadata = metadata.map(|url| Url::parse(&url)).transpose().map_err(|_| {
            let message = "AZURE_POD_IDENTITY_AUTHORITY_HOST is not a URL";
            Error::with_message(ErrorKind::Credential, message)
        })?;
        Ok(Self { client, metadata })
    }

    /// The same request, to where the metadata service is said to stand.
    fn redirected(&self, request: &Request) -> Option<Request> {
        let metadata = self.metadata.as_ref()?;
        if request.url().host() != Some(Host::Ipv4(METADATA_ADDRESS)) {
            return None;
        }
        let mut url = metadata.clone();
        url.set_path(request.url().path());
        url.set_query(request.url().query());
        let mut request = request.clone();
        *request.url_mut() = url;
        Some(request)
    }
}

#[async_trait]
impl HttpClient for BoundedClient {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let redirected = self.redirected(request);
        let response = self.client.execute_request(redirected.as_ref().unwrap_or(request)).await;
        // Nobody listens there: trying again for a minute, as the library would, only keeps the caller waiting.
        let response = response.map_err(|error| match error.kind() {
            ErrorKind::Connection => Error::with_message(ErrorKind::Credential, shown(&error)),
            _ => error,
        })?;
        let (status, headers, body) = response.deconstruct();
        let whole = body.try_fold(Vec::new(), async |mut whole, chunk| {
            whole.extend_from_slice(&chunk);
            if whole.len() > MAX_IDENTITY_ANSWER_BYTES {
                let message = format!("an answer of more than {MAX_IDENTITY_ANSWER_BYTES} bytes");
                return Err(Error::with_message(ErrorKind::Credential, message));
            }
            Ok(whole)
        });
        Ok(AsyncRawResponse::from_bytes(status, headers, whole.await?))
    }
}
