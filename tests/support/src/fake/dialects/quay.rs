//! Quay.
//!
//! - It has a list of tags of its own (`own_lists`).
//! - At most 100 tags on a page, whatever `n` says (observed in its source); issues tell of 50 (unverified).
//! - The next page is named by `last` today, and was by a token in `next_page` (observed).
//! - 429 does not say how long to wait: [`rate_limit`] (its own documentation of the error).

use super::super::auth::Bearer;
use super::super::dialect::{Dialect, Login};
use super::super::fault::Action;
use super::super::own_lists::OwnList;
use super::super::paging::{Listing, Paging};

/// The most tags on a page.
pub const MOST_TAGS: usize = 100;

/// How it speaks today.
pub fn dialect() -> Dialect {
    let listing =
        Listing { paging: Paging::LastParameter, largest_page: Some(MOST_TAGS), ..Listing::default() };
    Dialect {
        listing,
        login: Login::Bearer(Bearer::new()),
        own_list: Some(OwnList::Quay),
        ..Dialect::of("Quay")
    }
}

/// How it spoke before.
pub fn old_dialect() -> Dialect {
    let listing = Listing { paging: Paging::QuayNextPage, largest_page: Some(50), ..Listing::default() };
    Dialect { listing, name: "old Quay", ..dialect() }
}

/// 429 without `Retry-After`.
pub fn rate_limit() -> Action {
    Action::TooManyRequests { retry_after: None, body: "Too many requests".to_owned() }
}
