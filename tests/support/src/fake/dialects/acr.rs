//! Azure Container Registry.
//!
//! - It has a list of tags of its own (`own_lists`).
//! - A page has at most 1,000 tags, whatever `n` says, and 100 where there is none (issue 749 of Azure's `acr`).
//! - `Link` is a path from the root.
//! - Reading a list of tags takes a scope of its own, `metadata_read`, besides `pull` (unverified).

use super::super::auth::Bearer;
use super::super::dialect::{Dialect, Login};
use super::super::own_lists::OwnList;
use super::super::paging::{Listing, Paging};

/// The most tags on a page.
pub const MOST_TAGS: usize = 1_000;

/// How it speaks.
pub fn dialect() -> Dialect {
    let listing = Listing {
        paging: Paging::LastParameter,
        usual_page: Some(100),
        largest_page: Some(MOST_TAGS),
        ..Listing::default()
    };
    Dialect {
        listing,
        login: Login::Bearer(Bearer::new().token_field("access_token").tags_action("metadata_read")),
        own_list: Some(OwnList::Acr),
        ..Dialect::of("Azure Container Registry")
    }
}
