//! Distribution up to 2.8, Debian's `docker-registry`.
//!
//! - `n` and `last` are ignored: everything stands on one page (observed).
//! - Tags are in the order of a directory, which is none (observed).
//! - The list comes in chunks, and its type has a parameter, `charset` (observed).
//! - A repository whose tags are all gone has null for a list (unverified).

use super::super::contents::TagsOrder;
use super::super::dialect::Dialect;
use super::super::paging::{Listing, Paging};

/// How it speaks.
pub fn dialect() -> Dialect {
    let listing = Listing {
        paging: Paging::None,
        order: TagsOrder::Directory,
        is_chunked: true,
        no_tags_are_null: true,
        ..Listing::default()
    };
    Dialect { listing, ..Dialect::of("Distribution 2.8") }
}
