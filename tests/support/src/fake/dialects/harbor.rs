//! Harbor.
//!
//! - It has a list of tags of its own (`own_lists`).
//! - The list of a proxy project is what it holds and what its upstream lists, together (observed in its source): tags may
//!   stand there twice (unverified).
//! - Tokens come from `/service/token` for the service `harbor-registry` (unverified); here the path is as everywhere.

use super::super::auth::Bearer;
use super::super::dialect::{Dialect, Login};
use super::super::own_lists::OwnList;

/// How it speaks.
pub fn dialect() -> Dialect {
    Dialect {
        login: Login::Bearer(Bearer::new().service("harbor-registry")),
        own_list: Some(OwnList::Harbor),
        ..Dialect::of("Harbor")
    }
}
