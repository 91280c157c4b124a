//! Zot.
//!
//! - A `last` that is no tag is answered with 404, and an `n` that is no number with 400 (observed in its source).

use super::super::dialect::Dialect;
use super::super::paging::Listing;

/// How it speaks.
pub fn dialect() -> Dialect {
    Dialect {
        listing: Listing { unknown_last_is_not_found: true, ..Listing::default() },
        ..Dialect::of("zot")
    }
}
