//! Amazon Elastic Container Registry.
//!
//! - Basic authentication, of the user `AWS` with a password that lasts twelve hours (unverified: the hours).
//! - `n` above 1,000 is refused with 405 (observed: issue 681 of `go-containerregistry`, 3800 of Renovate); 100 tags on a
//!   page where there is none.
//! - `Link` is a whole URL, whose `last` is a long token and no tag; the list is `text/plain` and not sorted (observed).
//! - The public registry has no list for some paths, and says 404: [`no_public_list`] (observed).

use super::super::contents::TagsOrder;
use super::super::dialect::{Dialect, Login};
use super::super::fault::Action;
use super::super::own_lists::OwnList;
use super::super::paging::{Listing, Paging};

/// The password of [`dialect`].
pub const PASSWORD: &str = "ecr-password-for-twelve-hours";
/// The largest `n` that is accepted.
pub const LARGEST_N: usize = 1_000;

/// How it speaks.
pub fn dialect() -> Dialect {
    let refusal = Action::error(
        405,
        "UNSUPPORTED",
        "Invalid parameter at 'maxResults' failed to satisfy constraint: 'Member must have value less than or equal to 1000'",
    );
    let listing = Listing {
        paging: Paging::AbsoluteLinkWithToken,
        order: TagsOrder::Directory,
        usual_page: Some(100),
        refused_page: Some((LARGEST_N, refusal)),
        content_type: "text/plain; charset=utf-8",
        ..Listing::default()
    };
    let login = Login::Basic {
        user: "AWS".to_owned(),
        password: PASSWORD.to_owned(),
        realm: "https://123456789012.dkr.ecr.eu-central-1.amazonaws.com/".to_owned(),
    };
    Dialect { listing, login, own_list: Some(OwnList::Ecr), ..Dialect::of("Amazon ECR") }
}

/// What the public registry says of a list that it does not have.
pub fn no_public_list() -> Action {
    Action::error(404, "NAME_UNKNOWN", "The repository with name 'x' does not exist in the registry")
}
