//! Asking a token service.

use http::Method;
use url::Url;

use super::auth;
use super::budget::RequestKind;
use super::host::Host;
use super::token::Token;
use super::transport::{Request, Transport};
use super::{ErrorKind, Operation, Urgency};
use crate::credentials::Credentials;

/// Bound of a token service's answer, in bytes: tokens with many claims take some kilobytes.
const MAX_TOKEN_BODY: u64 = 64 * 1024;

/// Asks the token service at `url`.
pub(super) async fn request_token(
    host: &Host,
    transport: &Transport,
    url: Url,
    credentials: &Credentials,
) -> Result<Token, ErrorKind> {
    let request = Request {
        host,
        operation: Operation::Token,
        kind: RequestKind::Token,
        // Whoever joins later may be more urgent than the one who asks now.
        urgency: Urgency::Asked,
        method: Method::GET,
        url,
        accept: None,
        condition: None,
        authorization: auth::basic_header(credentials),
        max_body: MAX_TOKEN_BODY,
        is_probe: false,
    };
    let answer = transport.exchange(&request).await.map_err(|failure| failure.kind)?;
    if answer.status.is_success() {
        return Token::decode(&answer.body, answer.sent_at);
    }
    Err(match answer.refusal(credentials).unwrap_or_else(|| answer.failure()) {
        // It is the token service that is not there; of the repository this says nothing.
        ErrorKind::NotFound { message } => ErrorKind::Rejected { status: 404, message },
        kind => kind,
    })
}
