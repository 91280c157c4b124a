//! What companies put before Docker Hub.
//!
//! - An `n` above the limit is refused with 405, before anybody asks who is there (observed by Renovate). The limit is
//!   1,000 where it was seen; this one has a smaller one, so that it can be run into.
//! - HEAD is refused with 405 (unverified), and answers do not name the digest (unverified).
//! - Who may not see a repository is told 403 and not 404 (observed: registries answer so for "not found").

use super::super::dialect::{Dialect, Head};
use super::super::fault::Action;
use super::super::paging::{Listing, Paging};

/// The largest `n` that is accepted.
pub const LARGEST_N: usize = 100;

/// How it speaks.
pub fn dialect() -> Dialect {
    let refusal = Action::error(405, "UNSUPPORTED", "the operation is unsupported");
    let listing = Listing {
        paging: Paging::LastParameter,
        usual_page: Some(LARGEST_N),
        refused_page: Some((LARGEST_N, refusal)),
        ..Listing::default()
    };
    Dialect {
        listing,
        head: Head::Refused(Action::status(405)),
        unknown_repository: Some(Action::error(403, "DENIED", "requested access to the resource is denied")),
        ..Dialect::of("a company's proxy")
    }
}

/// The same with HEAD that is answered, but without the digest.
pub fn without_digests() -> Dialect {
    Dialect { head: Head::WithoutDigest, ..dialect() }
}
