//! Artifactory.
//!
//! - In the `Link` of a virtual repository the path has lost its first component (RTFACT-18971): only the parameters
//!   are of use.
//! - The challenge of Basic authentication has a realm in words, not a URL; Bearer stands beside it (unverified: in
//!   which order).

use super::super::auth::Bearer;
use super::super::dialect::{Dialect, Login};
use super::super::paging::{Listing, Paging};

/// How it speaks.
pub fn dialect() -> Dialect {
    Dialect {
        listing: Listing { paging: Paging::LostPrefix, ..Listing::default() },
        login: Login::Bearer(Bearer::new().beside(r#"Basic realm="Artifactory Realm""#)),
        ..Dialect::of("Artifactory")
    }
}

/// One that knows passwords only.
pub fn with_passwords(user: &str, password: &str) -> Dialect {
    let realm = "Artifactory Realm".to_owned();
    let login = Login::Basic { user: user.to_owned(), password: password.to_owned(), realm };
    Dialect { login, ..dialect() }
}
