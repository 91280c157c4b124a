//! Who has to go when space is short: raw documents first, longest unread first; then what belongs to repositories that
//! nobody watches.
//!
//! It is done in steps between commits, each small enough that whoever writes next does not notice.

use std::ops::Bound;
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::Name;

use super::content::Content;
use super::ledger::Ledger;
use crate::store::{ContentHash, Key};

/// Entries removed in one step.
const MOST_EVICTED_AT_ONCE: usize = 256;
/// Bytes on disk freed in one step.
const MOST_BYTES_FREED_AT_ONCE: u64 = 8 * 1024 * 1024;
/// Repositories looked at in one step.
const MOST_LOOKED_AT: usize = 512;
/// How long to wait before looking again for repositories that nobody watches, where there were none.
const REST_AFTER_NOTHING: Duration = Duration::from_mins(10);

/// What a step has done.
#[derive(Debug)]
pub(super) enum Step {
    /// These keys are gone; there may be more to do.
    Removed(Vec<String>),
    /// Nothing yet; the next step looks further.
    Looking,
    /// There is nothing that may go.
    Nothing,
}

/// Where the search for repositories that nobody watches has got to.
#[derive(Debug, Default)]
pub(super) struct Eviction {
    /// After this key; from the beginning where there is none.
    sweep_after: Option<String>,
    /// This round has found something.
    found: bool,
    /// When a whole round found nothing, and whom it had asked.
    fruitless: Option<(Timestamp, u64)>,
}

impl Eviction {
    /// Whether a step might find something.
    pub(super) fn may_find(&self, ledger: &Ledger, now: Timestamp) -> bool {
        ledger.totals().documents.entries > 0 || self.may_sweep(ledger, now)
    }

    fn may_sweep(&self, ledger: &Ledger, now: Timestamp) -> bool {
        let Some((_, version)) = ledger.watched() else { return false };
        // A clock that was ahead and has been set right must not let it rest until then.
        let rests = |when: Timestamp| (when..when + REST_AFTER_NOTHING).contains(&now);
        self.fruitless.is_none_or(|(when, asked)| asked != version || !rests(when))
    }

    /// One step towards a footprint of `target` bytes.
    pub(super) fn step(
        &mut self,
        content: &mut Content<'_>,
        ledger: &Ledger,
        target: u64,
        now: Timestamp,
    ) -> Result<Step, redb::Error> {
        let documents = remove_documents(content, target)?;
        if !documents.is_empty() {
            return Ok(Step::Removed(documents));
        }
        self.sweep(content, ledger, now)
    }

    fn sweep(
        &mut self,
        content: &mut Content<'_>,
        ledger: &Ledger,
        now: Timestamp,
    ) -> Result<Step, redb::Error> {
        if !self.may_sweep(ledger, now) {
            return Ok(Step::Nothing);
        }
        let Some((is_watched, version)) = ledger.watched() else { return Ok(Step::Nothing) };
        for _ in 0..MOST_LOOKED_AT {
            let bound = self.sweep_after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let Some(key) = content.first_key(bound)? else {
                return Ok(self.end_round(now, version));
            };
            if let Some(name) = key.parse::<Key>().ok().as_ref().and_then(Key::repository)
                && !is_watched(name)
            {
                self.found = true;
                // Where there is more of it, the next step finds it again from the same place.
                return Ok(Step::Removed(remove_repository(content, name, MOST_EVICTED_AT_ONCE)?));
            }
            self.sweep_after = Some(last_of_its_kind(key));
        }
        Ok(Step::Looking)
    }

    fn end_round(&mut self, now: Timestamp, version: u64) -> Step {
        self.sweep_after = None;
        if std::mem::take(&mut self.found) {
            return Step::Looking;
        }
        self.fruitless = Some((now, version));
        Step::Nothing
    }
}

fn remove_documents(content: &mut Content<'_>, target: u64) -> Result<Vec<String>, redb::Error> {
    let enough = content.counted().footprint().saturating_sub(MOST_BYTES_FREED_AT_ONCE).max(target);
    let mut gone = Vec::new();
    while gone.len() < MOST_EVICTED_AT_ONCE && content.counted().footprint() > enough {
        match content.remove_longest_unread()? {
            Some(keys) => gone.extend(keys),
            None => break,
        }
    }
    Ok(gone)
}

/// Removes what is stored of a repository, at most so many entries, its head first: nobody sees it without its pages.
fn remove_repository(
    content: &mut Content<'_>,
    name: &Name,
    most: usize,
) -> Result<Vec<String>, redb::Error> {
    let any = ContentHash::of(b"");
    let directory = Key::Directory(name.clone(), any).to_string();
    let page = Key::Page(name.clone(), any).to_string();
    let (head, side) = (Key::Head(name.clone()).to_string(), Key::Side(name.clone()).to_string());
    let demand = Key::Demand(name.clone()).to_string();
    let mut gone = Vec::new();
    for prefix in [&*head, &*side, &*demand, without_last_part(&directory), without_last_part(&page)] {
        gone.extend(content.keys_of(prefix, most - gone.len())?);
    }
    for key in &gone {
        content.remove(key)?;
    }
    Ok(gone)
}

fn without_last_part(key: &str) -> &str {
    key.rsplit_once('|').map_or(key, |(rest, _)| rest)
}

/// A text after all keys that need not be looked at when `key` has been: those of the same document or of all
/// documents, those of the same kind and repository.
fn last_of_its_kind(key: String) -> String {
    match key.parse::<Key>() {
        Ok(document) if document.is_document() => {
            let kind: Vec<&str> = key.splitn(3, '|').take(2).collect();
            format!("{}|\u{10FFFF}", kind.join("|"))
        }
        Ok(Key::Page(..) | Key::Directory(..) | Key::SidePage(..)) => {
            format!("{}|\u{10FFFF}", without_last_part(&key))
        }
        _ => key,
    }
}

#[cfg(test)]
mod tests {
    use samovar_registry::Digest;

    use super::*;

    #[test]
    fn a_sweep_leaps_over_what_is_alike_and_nothing_else() {
        let name = |text: &str| -> Name { text.parse().unwrap() };
        let after = |key: &Key| last_of_its_kind(key.to_string());
        let (short, long) = (name("a.example/b"), name("a.example/b-c"));
        let page = |name: &Name, content: &[u8]| Key::Page(name.clone(), ContentHash::of(content));

        let leap = after(&page(&short, b"1"));
        assert!((0..100_u8).all(|content| page(&short, &[content]).to_string() < leap));
        assert!(Key::Side(short.clone()).to_string() > leap, "another kind");
        let side = after(&Key::Side(short.clone()));
        assert!(
            Key::Side(long.clone()).to_string() > side,
            "stands before the side pages of the shorter name"
        );
        let side_page = after(&Key::SidePage(short.clone(), 0));
        assert!(Key::SidePage(short.clone(), 9).to_string() < side_page);
        let document = after(&Key::Document(Digest::sha256(b"")));
        assert!((0..100_u8).all(|content| Key::Document(Digest::sha256(&[content])).to_string() < document));
        assert!(Key::Document(Digest::sha512(b"")).to_string() < document);
        assert!(Key::Head(short).to_string() > document);
        assert!(page(&long, b"1").to_string() < leap, "`-` stands before the separator: met already");
    }
}
