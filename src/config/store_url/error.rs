//! Why a store URL was refused, in words that hold no secret.

use super::StoreUrl;
use crate::config::error::quoted;

/// Why a store URL was refused. Passwords in it are not shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreUrlError {
    /// Not a store URL.
    #[error("{shown} is not a store; known are {}", StoreUrl::FORMS)]
    Unknown {
        /// The value, quoted, without what may be a password.
        shown: String,
    },
    /// A store on other machines, wrongly written.
    #[error("{reason}; the form is {form}")]
    Remote {
        /// What is wrong.
        reason: String,
        /// How a URL of this scheme is written.
        form: &'static str,
    },
    /// `embedded:` alone.
    #[error("embedded: needs the path of a directory, such as embedded:/var/lib/samovar/store")]
    NoPath,
    /// `embedded://…`.
    #[error("the path follows the colon at once, as in embedded:/var/lib/samovar/store")]
    Slashes,
    /// `embedded:~…`, where no shell expands it.
    #[error("~ is not expanded inside a store URL, write the whole path")]
    Tilde,
    /// `memory:` with something behind it.
    #[error("memory: takes no path")]
    MemoryWithPath,
    /// There is no place for the default store.
    #[error(
        "no directory for the embedded store: set --store, or one of $STATE_DIRECTORY, $XDG_DATA_HOME, $HOME"
    )]
    Homeless,
}

/// A URL of an unknown scheme, quoted and fit for a message: no user, no password, no query.
pub(super) fn without_secrets(url: &str) -> String {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    match (url.rfind('@'), url.find(['?', '#'])) {
        // Which of them belongs to a password cannot be told.
        (Some(at), Some(query)) if query < at => quoted(&format!("{scheme}://…")),
        (Some(at), query) => quoted(&format!("{scheme}://…@{}", &url[at + 1..query.unwrap_or(url.len())])),
        (None, query) => quoted(&url[..query.unwrap_or(url.len())]),
    }
}
