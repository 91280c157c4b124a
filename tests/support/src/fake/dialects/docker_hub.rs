//! Docker Hub.
//!
//! - It has a list of tags of its own (`own_lists`).
//! - The list of tags is sorted and has everything on one page where no `n` is sent; with `n` there are pages and links
//!   (observed).
//! - Tokens last 300 seconds (unverified).
//! - GET of a manifest counts as a pull and HEAD does not; both say what is left, lists of tags do not (published, Docker's
//!   page on pull usage): 100 in 6 hours for who is not known, by address.
//! - Two limits, two kinds of 429 (published there): [`pull_limit`] and [`abuse_limit`]. The second was once seen with
//!   line ends of one character: [`abuse_limit_with_bare_line_ends`] (issue 1907 of Docker's `hub-feedback`).

use super::super::auth::Bearer;
use super::super::dialect::{Dialect, Login, PullQuota};
use super::super::fault::Action;
use super::super::own_lists::OwnList;

/// How it speaks.
pub fn dialect() -> Dialect {
    Dialect {
        login: Login::Bearer(Bearer::new().service("registry.docker.io").expires_in(Some(300))),
        pulls: Some(PullQuota {
            limit: 100,
            window_seconds: 21_600,
            source: "192.0.2.7".to_owned(),
            refusal: pull_limit(),
        }),
        own_list: Some(OwnList::DockerHub),
        ..Dialect::of("Docker Hub")
    }
}

/// 429 for who has pulled too much: JSON, and no word about when to come back.
pub fn pull_limit() -> Action {
    let message =
        "You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit";
    Action::error(429, "TOOMANYREQUESTS", message)
}

/// 429 for who has asked too often, whatever it was: plain text and a minute.
pub fn abuse_limit() -> Action {
    Action::TooManyRequests { retry_after: Some("60".to_owned()), body: "429 Too Many Requests\n".to_owned() }
}

/// The same as it was seen once: lines end with one character.
pub fn abuse_limit_with_bare_line_ends() -> Action {
    let answer = b"HTTP/1.1 429 Too Many Requests\nCache-Control: no-cache\nConnection: close\nContent-Type: text/plain\n\
        Content-Length: 22\nRetry-After: 60\n\n429 Too Many Requests\n";
    Action::Raw(answer.as_slice().into())
}
