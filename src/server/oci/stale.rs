//! What is said of answers that may not be so any more: `Warning: 299`, the only kind that clients of the distribution protocol
//! expect (distribution-spec, "Warnings"), and which they report.

use http::HeaderValue;
use jiff::Timestamp;

use crate::cache::records::{TagRecord, TagSide};
use crate::cache::snapshot::Snapshot;
use crate::cache::stored::Side;

/// Shown of a reason, which may quote a registry. Characters.
const MOST_WARNING_CHARACTERS: usize = 400;

/// Why a list of tags may not be what the registry has.
pub(super) fn of_list(snapshot: &Snapshot) -> Option<String> {
    of_side(snapshot.side.as_deref()?)
}

/// Why a tag may not point there any more.
pub(super) fn of_tag(snapshot: &Snapshot, record: &TagRecord, side: &TagSide) -> Option<String> {
    if let Some(digest) = &record.moved_to {
        return Some(format!("the registry has moved the tag to {digest}, which cannot be fetched yet"));
    }
    if side.attempts > 0 || side.missing {
        return Some(since("the tag could not be confirmed", side.last_fetched));
    }
    of_side(snapshot.side.as_deref()?)
}

fn of_side(side: &Side) -> Option<String> {
    if let Some(gone) = &side.gone {
        return Some(format!("the registry has said since {} that there is no such repository", gone.since));
    }
    Some(since(&side.last_error.as_ref()?.message, side.last_update))
}

/// What went wrong, and of when the answer is.
pub(super) fn since(reason: &str, at: Option<Timestamp>) -> String {
    match at {
        Some(at) => format!("stale, of {at}: {reason}"),
        None => format!("stale: {reason}"),
    }
}

/// The header that says so.
pub(super) fn warning(text: &str) -> HeaderValue {
    let quoted: String = text
        .chars()
        .take(MOST_WARNING_CHARACTERS)
        .map(|letter| match letter {
            '"' => '\'',
            ' '..='~' if letter != '\\' => letter,
            _ => '?',
        })
        .collect();
    HeaderValue::try_from(format!("299 - \"{quoted}\"")).expect("printable ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_one_short_quoted_text() {
        let header = warning("says \"no\" \\ \n é");
        assert_eq!(header, "299 - \"says 'no' ? ? ?\"");
        assert!(warning(&"x".repeat(10_000)).len() < 4096);
    }
}
