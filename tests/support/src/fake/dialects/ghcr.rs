//! GitHub's Container Registry.
//!
//! - Public images too need a token, which is anonymous and opens all of them (observed).
//! - Whoever sends a login that is not accepted gets 401 `DENIED` and no challenge (issue 11446 of Renovate).
//! - Who asks for a token for what is private or not there is refused by the token service (observed).
//! - Tags stand in the order in which they came, oldest first, so that the newest are on the last page (observed: issue
//!   36103 of Renovate); 100 on a page where there is no `n` (unverified).
//! - 429 says in its body how long to wait, in microseconds, and of how many: [`rate_limit`] (observed: issue 2327 of
//!   Watchtower).

use super::super::auth::Bearer;
use super::super::contents::TagsOrder;
use super::super::dialect::{Dialect, Login};
use super::super::fault::Action;
use super::super::paging::{Listing, Paging};

/// How it speaks.
pub fn dialect() -> Dialect {
    let listing = Listing {
        paging: Paging::LastParameter,
        order: TagsOrder::Registered,
        usual_page: Some(100),
        ..Listing::default()
    };
    Dialect {
        listing,
        login: Login::Bearer(Bearer::new().service("ghcr.io").unbound().silent()),
        ..Dialect::of("GitHub")
    }
}

/// 429 with the time in its body and nothing in its headers.
pub fn rate_limit() -> Action {
    Action::error(429, "TOOMANYREQUESTS", "retry-after: 23.722µs, allowed: 44000/minute")
}

/// What the token service says of what is private or not there.
pub fn no_token() -> Action {
    Action::error(401, "DENIED", "requested access to the resource is denied")
}
