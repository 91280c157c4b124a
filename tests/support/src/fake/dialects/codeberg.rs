//! Codeberg, and other forges made of Forgejo or Gitea.
//!
//! - One challenge header offers Bearer and Basic, and the scope that it names is `*` (observed).
//! - A token opens everything that its owner may see (unverified).

use super::super::auth::Bearer;
use super::super::dialect::{Dialect, Login};

/// How it speaks.
pub fn dialect() -> Dialect {
    let bearer = Bearer::new().scope("*").unbound().beside(r#"Basic realm="Forgejo Package API""#);
    Dialect { login: Login::Bearer(bearer), ..Dialect::of("Codeberg") }
}
