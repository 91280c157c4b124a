//! Chainguard's `cgr.dev`.
//!
//! - Tags are in lexical order, and there is one for every build: thousands (observed by Renovate).
//! - An anonymous token is needed for public images too (unverified).

use super::super::auth::Bearer;
use super::super::dialect::{Dialect, Login};

/// How it speaks.
pub fn dialect() -> Dialect {
    Dialect { login: Login::Bearer(Bearer::new()), ..Dialect::of("Chainguard") }
}
