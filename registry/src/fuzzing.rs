//! Ways to what is private, for the fuzz targets. Thin: whatever is decided is decided elsewhere. Built with the unit
//! tests too, so that what no longer fits is noticed there.

pub use crate::upstream::fuzzing::*;

/// What is shown of the body of a failed answer.
pub fn words_of_registry(body: &[u8]) -> Option<String> {
    crate::words::of_registry(body)
}
