//! Harbor.
//!
//! - The list of a proxy project is what it holds and what its upstream lists, together (observed in its source): tags may
//!   stand there twice (unverified).
//! - Tokens come from `/service/token` for the service `harbor-registry` (unverified); here the path is as everywhere.

use super::super::auth::Bearer;
use super::super::dialect::{Dialect, Login};

/// How it speaks.
pub fn dialect() -> Dialect {
    Dialect { login: Login::Bearer(Bearer::new().service("harbor-registry")), ..Dialect::of("Harbor") }
}
