//! What operators do to a whole store: count what is in it, verify it, export it to a file, import it from one.
//!
//! Everything here goes through [`crate::store::Client`], so it works on any kind of store and between any two; and
//! knows what entries mean, which the engines do not. Memory is bounded whatever the size of store and file.
//!
//! Invariants:
//! - counting, verifying and exporting change nothing;
//! - an import that ends half way leaves entries that nobody meets, or that are whole: heads are written after what they
//!   name;
//! - an import never replaces what is newer, unless it is told to.

mod census;
mod export;
mod import;
mod judgement;
mod kind;
mod pages;
mod progress;
#[cfg(test)]
mod tests;
mod transfer;
mod verification;

pub use census::{Census, Tally, count};
pub use export::{Exported, export};
pub use import::{Imported, Precedence, import};
pub use kind::Kind;
pub use progress::{Progress, ProgressSnapshot, Unit};
pub use transfer::{TransferError, WholeArchive};
pub use verification::{Finding, Verdicts, Verification, verify};

/// Entries looked at at once where each may need the store again: hides its round trips, bounds the memory.
const AT_ONCE: usize = 16;

/// Repositories that an export or an import remembers something of. Beyond it, an export does not look whether all of a
/// repository is in the file; an import leaves its side records out, so that a tag is asked about once more, and replaces no
/// head that goes with a list.
const MOST_REPOSITORIES_REMEMBERED: usize = 1_000_000;
